"""The text of `--help`, by command. `\\b` keeps the lines of a paragraph as they are."""

from __future__ import annotations

EPILOG = """\b
Exit codes:
  0    done, or nothing to do
  1    a run failed: dead letters, the balance, the service, or an error in dynamodt
  2    usage, or an error in a script
  3    refused: prepared data missing, wrong order, edited script, not this stage
  130  stopped by Ctrl-C (143: by SIGTERM)
If several tables have errors, the most serious one decides: 1, then 2, then 3.
With --json, stdout is one JSON object; a failed command's has
"error": {"what", "where", "hint", "exit_code"}, and the "run" that a refusal is about.
"""

_FILES_JSON = '\n\b\n--json: {"files": [path, ...], "dry_run"}\n'

_JOURNAL = """
--journal keeps a journal, which `undo` needs, for an IDEMPOTENT script too; other scripts always have one.
"""

_MIGRATION = """
With --wait-lock 10m (90s, 1h) the command waits for a run that holds the table, and then plans its own run; without it
the command is refused. The time applies to each table.
On a stage with `protected = true` in dynamodt.toml, a table is written only if point-in-time recovery is on, or with
--allow-no-pitr; a global table only with --single-region-writers, which states that no other region writes to it.
After an undo that has restored items in part, --accept-partly-restored lets the run transform these items, too.
With --pause-on-alarm the run pauses while the alarm is in ALARM or cannot be read, and then continues automatically.

Arguments after `--` are passed to Beam unchanged.

\b
--json: {"tables": [{"table", "direction", "versions": [
          {"version", "name", "run", "status",
           "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
           "consumed": {"rcu", "wcu"}, "seconds"}]}]}
  status: succeeded, failed, stopped, dry-run (wcu is then an estimate) or refused (another run must be finished first).
  A table or version that failed has an "error", a version with dead letters
  "dead_letters": the location of their file. A table's "notices" are sentences about what receives its writes.
  With --catch-up none, "uncovered_since" is the time of the export. If the script was edited while the run was
  unfinished, "scripts": [{"checksum", "items"}] has each text and how many items it has transformed.
  A dry run has a "cost", of the run itself:
  {"wcu", "wcu_most", "rcu", "s3_requests": {"put", "get"}, "export_bytes", "usd": {"low", "high", "as_of"}}
  wcu is of the table alone, wcu_most with its indexes at most. usd is null where there is no price: for
  provisioned capacity, an emulator, some regions. as_of: the day of AWS's on-demand prices.
"""

_TAKE_OVER_JSON = '\n\b\n--json: {"table", "at", "recorded": [a run as `history` shows it, ...], "dry_run"}\n'

_CONTROL_JSON = """
\b
--json: {"table", "command", "run", "user", "host", "pid", "since", "pause_reason", "max_wcu", "max_rcu"}
  pause_reason: why the run is paused without `pause` (an alarm); or "".
"""

_LOCAL_JSON = '\n\b\nExample:\n  dynamodt local {0} --json\n\n--json: {{"running", "url", "pid", "since", "folder"}}\n'

HELP = {  # in the order of `dynamodt --help`
    "": """Zero-downtime data transformations for Amazon DynamoDB.

Run it from the folder that holds transforms/. A version of a table's data is one file in it, such as
transforms/users/v2_split_name.py. The stage "local" needs no setup: an emulator starts automatically.

\b
Examples:
  dynamodt init --table users               a folder and a template v1
  dynamodt create --table users split_name  the next version
  dynamodt up --table users --dry-run       rehearse it
  dynamodt up                               every pending version, every table
  dynamodt down --table users               take the latest version back
  dynamodt undo RUN                         take a run back by its journal
  dynamodt status                           what is applied, what is pending
  dynamodt status --follow                  watch the running runs, from any machine
  dynamodt deploy --stage prod              what a large table needs in AWS
  dynamodt -i                               choose from a menu

`dynamodt COMMAND --help` describes each command.
""",
    "init": f"""Make a folder and a template v1 for each table.

Existing files are not overwritten. Without --table: for all tables of the stage.

\b
Examples:
  dynamodt init --table users --table orders
  dynamodt init --stage dev
{_FILES_JSON}""",
    "create": f"""Write the next version's file, and its test file.

\b
Examples:
  dynamodt create --table users split_name
  dynamodt create -t users add_country --dry-run
{_FILES_JSON}""",
    "prepare": """Run a version's `prepare` and store its rows, encrypted.

The rows are stored as one Parquet file in the stage's storage, with row count and checksum. With --runner glue it runs
in the stage's deployed job, for data that this machine cannot reach; `context.folder` is copied to the job.

\b
Examples:
  dynamodt prepare --table users --version 3
  dynamodt prepare --table users --version 3 --stage prod
  dynamodt prepare --table users --version 3 --stage prod --runner glue

\b
--json: {"table", "version", "url", "rows", "sha256", "script_checksum",
         "created", "dry_run"}
""",
    "up": f"""Apply every pending version, in order.

Without --table: to all tables that have a folder, each independent of another's failure.

Except on the local stage, a run keeps to a budget: --max-wcu and --max-rcu units per second; else half (--share) of the
provisioned capacity or of the on-demand maximum; else what the table accepts without throttling. It starts low.

--source export reads the table's point-in-time export in S3 instead of the table: it consumes no read units, and only
changed items are written. --export new (the default) requests an export; an ARN or s3://bucket/prefix names an
existing one. Changes after the time of the export are covered by incremental exports, one after the other, until one
contains no change (--catch-up windows), by a final scan (--catch-up scan), or not at all (--catch-up none). A dry run
that requests a new export pays for that export, too.

--runner glue runs the command in the stage's deployed job (`dynamodt deploy`): the project is copied from this folder
as it is now, the run is followed from the state table as by `status --follow`, and the exit code is that of the command
in the job. No job is started if there is nothing to do, or if the command is refused. Ctrl-C asks whether the job
continues, pauses or ends; without a terminal, and if this process dies, it continues. The same command, repeated,
follows the job that it has started.

\b
Examples:
  dynamodt up
  dynamodt up --table users --to 2
  dynamodt up --table users --dry-run        counts, examples, write units
  dynamodt up --stage prod --single-region-writers    a global table that this region alone writes
  dynamodt up --stage prod --wait-lock 10m   after a deployment, even if two run at once
  dynamodt up --table users --max-wcu 200    leave the rest to the application
  dynamodt up --table users --source export  read an export in S3, not the table
  dynamodt up --stage prod --pause-on-alarm api-errors --pause-on-alarm api-latency
  dynamodt up --stage prod --runner glue     in the deployed job
  dynamodt up --table users --runner spark   all cores of this machine
  dynamodt up --table users --runner flink -- --flink_master host:8081
{_JOURNAL}{_MIGRATION}""",
    "down": f"""Take the latest version back, or all down to --to.

\b
Examples:
  dynamodt down --table users
  dynamodt down --table users --to 0         all versions
  dynamodt down --table users --dry-run      counts, examples, write units
{_JOURNAL}{_MIGRATION}""",
    "history": """Show all runs: time, user, script and counts.

The command only reads, with or without --dry-run. Without --table: of all tables that have a folder.

\b
Examples:
  dynamodt history
  dynamodt history --table users --json

\b
--json: {"tables": [{"table", "runs": [{"run", "version", "name", "direction",
          "checksum", "status", "started", "ended", "by", "counts", "consumed",
          "seconds", "dead_letters", "error", "undone"}]}]}
  If the script was edited while the run was unfinished, "scripts": [{"checksum", "items"}]
  has each text, and how many items it has transformed.
  "younger_than_last_run", of a table: it was deleted and created again since its last run.
""",
    "status": """Show what is applied, pending, running, unfinished, edited or missing.

"running": a run is in progress; "unfinished": a run ended before its end, and the same command continues it; "edited":
the file changed after it was applied; "missing": applied, but the file does not exist.
The command only reads, with or without --dry-run. Without --table: of all tables that have a folder.

--follow watches the running runs, of any process, until they end: bars on a terminal, a line every few seconds
elsewhere. Its exit code is 0 if all succeeded, or none is running; else 1. Ctrl-C ends the watching, not the runs.

\b
Examples:
  dynamodt status
  dynamodt status --table users --stage prod
  dynamodt status --follow
  dynamodt status --follow --table users --json

\b
--json: {"tables": [{"table", "at", "versions":
          [{"version", "name", "state", "path", "when",
            "run": {"id", "direction", "status", "started", "dead_letters"}}]}]}
  A version that is running or unfinished has a "run"; "changed": files it uses, changed since.
  "younger_than_last_run", of a table: it was deleted and created again since its last run.
--follow --json is JSON lines: one object a line, about one per second for each run
  {"at", "table", "run", "version", "name", "direction", "status", "held_by", "percent",
   "units": {"done", "planned"}, "counts", "contention": {"conflicts", "throttles"},
   "consumed": {"rcu", "wcu"}, "per_second": {"items", "rcu", "wcu", "bytes"},
   "budget": {"rcu", "wcu"}, "seconds", "seconds_left"}
  and at the end one with the results
  {"runs": [{"table", "direction", "version", "name", "run", "status", "counts", ...}]}
  status: running, paused or held; at the end succeeded, failed, stopped or gone.
  percent and seconds_left are null if unknown; a budget of 0 is no limit.
""",
    "stamp": f"""Record that versions 1 to N of a table are applied; nothing is run.

For a table whose versions were applied elsewhere, or by hand. No version above N is then applied; with --to 0, none.
Every version up to N must have its file. The table itself is not changed, and `history` shows the record.

\b
Examples:
  dynamodt stamp --table users --to 3 --dry-run
  dynamodt stamp --table users --to 3
  dynamodt stamp --table users --to 0        `up` then starts with version 1 again
{_TAKE_OVER_JSON}""",
    "import-history": f"""Import the history that dynamo-data-transform keeps in the table.

Its record (key "DataTransformations") is read and stays where it is: no run counts or transforms it. Every version that
has run must have its file here, which is not run; from then on `up` applies the pending versions. `adopt` is another
name of this command.

\b
Examples:
  dynamodt import-history --table users --dry-run
  dynamodt import-history --table users --stage prod
{_TAKE_OVER_JSON}""",
    "runs": """List the runs of the tables, the newest first.

A run is running, paused, held (by an alarm), stopping, gone (its process died or sends no heartbeat), failed, stopped
or succeeded; undoing, undone, or partly-undone (its journal lacks parts: `undo` continues when they are restored) and
then closed, when `stamp` has recorded the applied versions; replaced, when a later run has started in its place and
nothing of it was written; stamped or adopted, when it ran elsewhere. The holder of a running run is shown. `history`
shows more of each.

\b
Examples:
  dynamodt runs
  dynamodt runs --table users --stage prod --json

\b
--json: {"runs": [{"table", "run", "version", "name", "direction", "status", "started", "ended",
          "counts", "dead_letters", "holder": {"user", "host", "pid", "since"}}]}
  holder is null if no process holds the run.
""",
    "undo": """Take a run back by its journal: no transform_down is needed.

RUN is an id that `dynamodt history` shows, or the beginning of one. It must be the last run that changed its table, and
may have failed or been stopped before its end. Only attributes that still equal what the run wrote are restored: later
changes by the application stay, and are reported. Items that the run inserted are deleted if they are unchanged; items
that it deleted are inserted again if their key is free. The same command continues an unfinished undo.
The run is searched in all tables that have a folder, or in --table.

Before anything is written, the whole journal is read once: a part that is missing, truncated, damaged or of another
run is reported, and the undo is refused. --partial restores what the journal still has; the run is then partly-undone,
its version stays in the history, and `up` and `down` are refused until `undo` has finished it, or `stamp` records the
applied versions. Items that are restored in part are not transformed again by `up` or `down` without
--accept-partly-restored.

\b
Examples:
  dynamodt undo 20260131T101500.123456Z-1a2b3c
  dynamodt undo 20260131T1015 --dry-run      how many items it would restore, and leave
  dynamodt undo 20260131T1015 --table users --stage prod
  dynamodt undo 20260131T1015 --partial      what its journal still has

\b
--json: {"table", "run", "version", "name", "direction", "status",
         "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
         "consumed": {"rcu", "wcu"}, "seconds", "restored": {"fully", "partly"},
         "left": {"items", "file", "first": [{"key", "attributes", "why", "restored"}]},
         "missing_parts", "at"}
  status: undone, undoing (unfinished), partly-undone, refused or dry-run. fully: items that are as before the
  run; partly: items of which some attributes are restored ("restored") and others not ("attributes").
  changed: restored; unchanged: already as before the run; superseded, vanished: not restored, since the item was
  changed or deleted later; dead: could not be written. "at" is the version of the table after the undo.
""",
    "retry": f"""Replay a run's dead letters, and continue that run.

Fix the script or the data first. When no dead letter is left, the version is recorded, as by `up` or `down`. Dead
letters of writes without a response (step "doubt") are not replayed automatically, since the write may have taken
effect. Check their items, then pass --in-doubt again (transform them again) or --in-doubt done (they are written:
count them, and write nothing).

\b
Examples:
  dynamodt retry 20260131T101500.123456Z-1a2b3c
  dynamodt retry 20260131T1015 --table users --in-doubt done
{_MIGRATION}""",
    "pause": f"""Pause the run on a table, between two requests, from another terminal.

The run keeps its lock, and waits for `resume`.

\b
Example:
  dynamodt pause --table users
{_CONTROL_JSON}""",
    "resume": f"""Continue a paused run.

A run that is held by an alarm (--pause-on-alarm) stays paused until the alarm is over.

\b
Example:
  dynamodt resume --table users
{_CONTROL_JSON}""",
    "abort": f"""End the run on a table, between two requests, from another terminal.

Its changes stay; the same `up` or `down` continues from there.

\b
Example:
  dynamodt abort --table users
{_CONTROL_JSON}""",
    "unlock": f"""Break the lease of a dead run on a machine that cannot be reached.

The command does not ask for confirmation, and shows the former holder (`dynamodt runs` shows it before). If the holder
is alive, it ends with an error within a page, and the same command continues its run; prefer `abort`. A dead run of
this machine needs no unlock, and any other is taken over half a minute after its last heartbeat.

\b
Example:
  dynamodt unlock --table users
{_CONTROL_JSON}""",
    "throttle": f"""Change the rate of the run on a table, from another terminal.

All its workers together then keep to these units per second, the table's indexes included. A limit that is not named
stays. To lift a limit, name one above the table's capacity.

\b
Examples:
  dynamodt throttle --table users --wcu 200
  dynamodt throttle --table users --wcu 2000 --rcu 500 --stage prod
{_CONTROL_JSON}""",
    "deploy": """Create what a stage needs in AWS, and the jobs that run there.

One CloudFormation stack, dynamodt-STAGE: the bucket of the stage's `storage`, encrypted with a key of its own; the
state table; two Glue jobs with a role for the tables of transforms/ only; and alarms for failed runs and dead letters.
[stages.NAME.deploy] in dynamodt.toml sets the number of workers, the schedule, and the address for alarms. The package,
Beam's Spark runner and the transformations are uploaded under the hash of their content: after a change to a script,
deploy again. An existing bucket, state table or key (`kms_key`) is used as it is, and stays.

Resources that were deleted by hand are reported before anything is changed, and created again if no data is lost by
that. A stack that includes tables of another project is refused.

--state-only creates the bucket, the state table and the key, for runs of this machine: it needs neither Glue, Java nor
Maven. A later `deploy` adds the jobs. The command waits for the stack; if it is interrupted or fails, the same command
continues. Without a change it does nothing. --dry-run shows the changes, and uploads nothing.

\b
Examples:
  dynamodt deploy --stage prod
  dynamodt deploy --stage prod --state-only  for runs outside of Glue
  dynamodt up --stage prod --runner glue     then: pending versions, in the job

\b
--json: {"stack", "status", "changes": [{"action", "resource", "type", "replacement"}],
         "outputs": {name: value}}
  status: created, updated, unchanged or dry-run.
""",
    "destroy": """Delete what `deploy` has created for a stage.

The jobs, their role, logs, schedule and alarms are deleted. The bucket, the state table and the key stay, since
journals, dead letters and the history of runs are in them, and the next `deploy` uses them again. With --purge each of
them is deleted if the stack has created it or it has the tag of this stage, unless it holds other data or another stage
uses it (KMS keeps the key for 30 days). In a bucket with other data, only the stage's prefix is deleted. --dry-run
lists what is deleted and what stays, and why; if it is interrupted, the same command finishes it. It is refused during
a run, and asks for confirmation first; --yes is for use without a terminal.

\b
Examples:
  dynamodt destroy --stage dev --dry-run
  dynamodt destroy --stage dev --purge --yes

\b
--json: {"stack", "status", "removed": [text, ...], "kept": [text, ...]}
  status: destroyed, nothing (there was nothing) or dry-run.
""",
    "doctor": """Examine a stage; docs/stages.md lists what is checked.

Without options it only reads. --full also tries what is assumed about DynamoDB, exports and S3, on a table and a prefix
of its own, which are deleted again, and writes a report to send in; in AWS it takes up to half an hour. --glue also
makes the read-only checks in the deployed job.

\b
Example:
  dynamodt doctor --stage first --full --glue

\b
--json: {"stage", "wrong", "report", "checks": [{"name", "status", "seen", "hint", "relies", "source"}]}
""",
    "local": """The embedded local stage of this folder.

It starts when a command needs it, keeps its data under .dynamodt/, and continues after the command.

\b
Examples:
  eval "$(dynamodt local env)"      for your own code
  dynamodt local reset              stop it and delete its data
""",
    "local status": "Show whether it runs, where, and since when.\n" + _LOCAL_JSON.format("status"),
    "local env": 'Print its variables for your code; it is started.\n\n\b\nExample:\n  eval "$(dynamodt local env)"\n'
    '\n--json: {"variables": {name: value}}\n',
    "local stop": "Stop it; its data stays.\n" + _LOCAL_JSON.format("stop"),
    "local reset": "Stop it and delete its data.\n" + _LOCAL_JSON.format("reset"),
}
