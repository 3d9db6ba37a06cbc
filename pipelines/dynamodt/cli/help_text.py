"""What `--help` says. `\\b` keeps the lines of a paragraph as they are."""

from __future__ import annotations

EPILOG = """\b
Exit codes:
  0    done, or nothing to do
  1    a run failed: dead letters, the balance, the service, or our own fault
  2    usage, or a script's fault
  3    refused: prepared data missing, wrong order, edited script, not this stage
  130  stopped by Ctrl-C (143: by SIGTERM)
Of several tables' errors the most serious decides: 1, then 2, then 3.
With --json, stdout is one JSON object; a failed command's has
"error": {"what", "where", "hint", "exit_code"}, and the "run" that a refusal is about.
"""

ROOT = """Zero-downtime data transformations for Amazon DynamoDB.

Run it from the folder that holds transforms/. A version of a table's data is one file in it, such as
transforms/users/v2_split_name.py. The stage "local" needs nothing: an emulator starts by itself.

\b
Examples:
  dynamodt init --table users               a folder and a template v1
  dynamodt create --table users split_name  the next version
  dynamodt up --table users --dry-run       rehearse it
  dynamodt up                               every pending version, every table
  dynamodt down --table users               take the latest version back
  dynamodt undo RUN                         take a run back by its journal
  dynamodt status                           what is applied, what is pending
  dynamodt status --follow                  watch what is at work, from anywhere
  dynamodt deploy --stage prod              what a large table needs in AWS
  dynamodt -i                               choose from a menu

`dynamodt COMMAND --help` tells more about each.
"""

INIT = """Make a folder and a template v1 for each table.

Nothing is overwritten. With no --table: for all tables of the stage.

\b
Examples:
  dynamodt init --table users --table orders
  dynamodt init --stage dev

\b
--json: {"files": [path, ...], "dry_run"}
"""

CREATE = """Write the next version's file, and its test file.

\b
Examples:
  dynamodt create --table users split_name
  dynamodt create -t users add_country --dry-run

\b
--json: {"files": [path, ...], "dry_run"}
"""

PREPARE = """Run a version's `prepare` and store its rows, encrypted.

They go to the stage's storage as one Parquet file, with row count and checksum. With --runner glue it runs in the
stage's deployed job, which reaches what this machine may not; `context.folder` is there, as it stands here now.

\b
Examples:
  dynamodt prepare --table users --tNumber 3
  dynamodt prepare --table users --tNumber 3 --stage prod
  dynamodt prepare --table users --tNumber 3 --stage prod --runner glue

\b
--json: {"table", "version", "url", "rows", "sha256", "script_checksum",
         "created", "dry_run"}
"""

_JOURNAL = """
--journal keeps a journal for an IDEMPOTENT script too, which `undo` needs; other scripts always have one.
"""

_MOVE_JSON = """
With --wait-lock 10m (90s, 1h) a run that is at work on the table is waited for, and this one then plans afresh; without
it this one is refused. Where several tables are named, it is so long for each.
On a stage with `protected = true` in dynamodt.toml, a table is written only with point-in-time recovery on, or with
--no-pitr.
After an undo that has restored items in part, --accept-partly-restored lets the run transform these, too.
With --pause-on-alarm the run rests while the alarm is in ALARM or cannot be read, and goes on by itself.

What follows `--` goes to Beam as it is.

\b
--json: {"tables": [{"table", "direction", "versions": [
          {"version", "name", "run", "status",
           "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
           "consumed": {"rcu", "wcu"}, "seconds"}]}]}
  status: succeeded, failed, stopped, dry-run (wcu is then an estimate) or refused (a run that it does not go on with).
  A table or version that failed has an "error", a version with dead letters
  "dead_letters": the place of their file. With --catch-up none,
  "uncovered_since" is the moment of the export. One whose script was edited while it was unfinished
  has "scripts": [{"checksum", "items"}], each text and how many items it has brought through.
  A dry run has a "cost", of the run itself:
  {"wcu", "wcu_most", "rcu", "s3_requests": {"put", "get"}, "export_bytes",
   "usd": {"low", "high", "as_of"}}
  wcu is of the table alone, wcu_most with its indexes at most. usd is null where there is no price: for
  provisioned capacity, an emulator, some regions. as_of: the day of AWS's on-demand prices.
"""

_RATE = """
Away from the local stage a run keeps to a budget: --max-wcu and --max-rcu units a second, else half of what the table
has provisioned (--share), else, on demand, what it takes without throttling. It starts low and grows.
"""

_SOURCE = """
--source export reads the table's point-in-time export in S3 instead of the table: no read units are spent, and only
items that change are written. --export new (the default) requests one; an ARN or s3://bucket/prefix names one that
there is. What was written since its moment is covered by incremental exports, window after window, until one brings no
change (--catch-up windows), or by a last scan (--catch-up scan), or left out (--catch-up none). A dry run that requests
a new export pays for that export, too.
"""

_GLUE = """
--runner glue runs the command in the stage's deployed job (`dynamodt deploy`): the project goes along as it stands in
the folder, the run is followed from the state table as by `status --follow`, and the exit code is that of the command
in the job. No job is started when there is nothing to do, or something stands in the way. Ctrl-C asks whether the job
is left running, rests or ends; without a terminal, and when this process dies, it goes on. Typed again, the same
command follows the job that it has started.
"""

UP = f"""Apply every pending version, in order.

With no --table: to all tables that have a folder, each independent of another's failure.
{_RATE}{_SOURCE}{_GLUE}
\b
Examples:
  dynamodt up
  dynamodt up --table users --to 2
  dynamodt up --table users --dry-run        counts, examples, write units
  dynamodt up --stage prod --wait-lock 10m   after a deployment, even if two are at once
  dynamodt up --stage prod --json            for a program
  dynamodt up --table users --max-wcu 200    leave the rest to the application
  dynamodt up --table users --source export  read an export in S3, not the table
  dynamodt up --stage prod --pause-on-alarm api-errors --pause-on-alarm api-latency
  dynamodt up --stage prod --runner glue     in the deployed job
  dynamodt up --table users --runner spark   all cores of this machine
  dynamodt up --table users --runner flink -- --flink_master host:8081
{_JOURNAL}{_MOVE_JSON}"""

DOWN = f"""Take the latest version back, or all down to --to.

\b
Examples:
  dynamodt down --table users
  dynamodt down --table users --to 0         all versions
  dynamodt down --table users --dry-run      counts, examples, write units
{_JOURNAL}{_MOVE_JSON}"""

UNDO = """Take a run back by its journal: no transform_down is needed.

RUN is an id that `dynamodt history` shows, or the beginning of one; it must be the last run that changed its table,
and may have failed or been stopped half-way. Only attributes that still equal what the run wrote are restored: what
the application has written since stays, and is reported. Items that the run inserted are deleted where they are
unchanged, and those that it deleted come back where their key is free. Stopped or killed, the same command goes on.
It looks in all tables that have a folder, or in --table.

Before anything is written the whole journal is read once: a part that is missing, truncated, damaged or of another
run is named, and the undo is refused. --partial restores what the journal still has; the run is then partly-undone,
its version stays in the history, and `up` and `down` are refused until `undo` has finished it, or `stamp` says what
stands. Items that are restored in part are not transformed again by `up` or `down` without --accept-partly-restored.

\b
Examples:
  dynamodt undo 20260131T101500.123456Z-1a2b3c
  dynamodt undo 20260131T1015 --dry-run      how many it would restore, and leave
  dynamodt undo 20260131T1015 --table users --stage prod
  dynamodt undo 20260131T1015 --partial      what its journal still has

\b
--json: {"table", "run", "version", "name", "direction", "status",
         "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
         "consumed": {"rcu", "wcu"}, "seconds", "restored": {"fully", "partly"},
         "left": {"items", "file", "first": [{"key", "attributes", "why", "restored"}]},
         "missing_parts", "at"}
  status: undone, undoing (it has not come to its end), partly-undone, refused
  or dry-run. fully: items that are as before the run; partly: those that are so
  in some attributes ("restored") and left in others ("attributes").
  changed: restored; unchanged: as before the run already; superseded, vanished:
  left, since it was changed or deleted; dead: could not be written. "at" is the
  version that the table stands at.
"""

RETRY = f"""Replay a run's dead letters, and go on with that run.

Mend the script or the data first. When nothing is left, the version is recorded, as by `up` or `down`. Letters of
writes that were never answered (stage "doubt") are not taken up by themselves: only a person can tell whether such a
write took effect. Look at their items, then say --doubtful again (transform them afresh) or --doubtful done (they are
written: count them, and write nothing).

\b
Examples:
  dynamodt retry 20260131T101500.123456Z-1a2b3c
  dynamodt retry 20260131T1015 --table users --doubtful done
{_MOVE_JSON}"""

HISTORY = """Show what ran: when, by whom, which script, with what counts.

It only reads, with or without --dry-run. With no --table: of all tables that have a folder.

\b
Examples:
  dynamodt history
  dynamodt history --table users --json

\b
--json: {"tables": [{"table", "runs": [{"run", "version", "name", "direction",
          "checksum", "status", "started", "ended", "by", "counts", "consumed",
          "seconds", "dead_letters", "error", "undone"}]}]}
  "scripts": [{"checksum", "items"}] is there for a run whose script was edited while
  it was unfinished: each text, and how many items it has brought through.
  "younger_than_last_run", of a table: that it was deleted and created again since.
"""

STATUS = """Show what is applied, pending, running, unfinished, edited or missing.

"running": a run of it is at work; "unfinished": one was left half done, and the same command
goes on with it; "edited": the file changed after it was applied; "missing": applied, but the file is gone.
It only reads, with or without --dry-run. With no --table: of all tables that have a folder.

--follow watches the runs that are at work, whoever has started them, until they end: bars on a terminal,
a line every few seconds elsewhere. Its exit code is 0 when all of them succeeded, and when there is none; 1 when one
did not. Ctrl-C ends the watching, not the runs.

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
  "run" is there for a version that is running or unfinished.
  "younger_than_last_run", of a table: that it was deleted and created again since.
--follow --json is JSON lines: one object a line, for each look at each run (about one a second)
  {"at", "table", "run", "version", "name", "direction", "status", "held_by", "percent",
   "units": {"done", "planned"}, "counts", "friction": {"conflicts", "throttles"},
   "consumed": {"rcu", "wcu"}, "per_second": {"items", "rcu", "wcu", "bytes"},
   "budget": {"rcu", "wcu"}, "seconds", "seconds_left"}
  and at the end one with the outcomes
  {"runs": [{"table", "direction", "version", "name", "run", "status", "counts", ...}]}
  status: running, paused or held; at the end succeeded, failed, stopped or gone.
  percent and seconds_left are null where they are not known, a budget of 0 is no limit.
"""

RUNS = """List the runs of the tables, the newest first.

A run is running, paused, held (by an alarm), stopping, gone (its process died, or was silent for too long), failed,
stopped or succeeded; undoing, undone, or partly-undone (its journal lacks parts: `undo` goes on with it once they
are back) and then closed, where a person has stamped what stands; replaced, where nothing of it is there and
a later run has begun in its place; stamped or adopted, where it ran elsewhere. For one that is at work it tells
who holds it. `history` tells more of each.

\b
Examples:
  dynamodt runs
  dynamodt runs --table users --stage prod --json

\b
--json: {"runs": [{"table", "run", "version", "name", "direction", "status", "started", "ended",
          "counts", "dead_letters", "holder": {"user", "host", "pid", "since"}}]}
  holder is null when nobody is at work on it.
"""

_TAKE_OVER_JSON = """
\b
--json: {"table", "at", "recorded": [a run as `history` shows it, ...], "dry_run"}
"""

STAMP = f"""Record that versions 1 to N of a table stand, and none above; nothing is run.

For a table whose versions ran elsewhere, or by hand. --to 0: none of them stands. Every version up to N
must have its file. The table itself is not touched, and `history` shows what was recorded, when and by whom.

\b
Examples:
  dynamodt stamp --table users --to 3 --dry-run
  dynamodt stamp --table users --to 3
  dynamodt stamp --table users --to 0        `up` will begin with version 1 again
{_TAKE_OVER_JSON}"""

ADOPT = f"""Take over the history that dynamo-data-transform keeps in the table.

Its record (key "DataTransformations") is read and left where it is: no run counts it or transforms it.
Every version that has run must have its file here, which is not run; from then on `up` runs what is pending.

\b
Examples:
  dynamodt adopt --table users --dry-run
  dynamodt adopt --table users --stage prod
{_TAKE_OVER_JSON}"""

_TOLD_JSON = """
\b
--json: {"table", "verb", "run", "user", "host", "pid", "since", "hold", "max_wcu", "max_rcu"}
  hold: why it rests without being told by a person (an alarm); or "".
"""

THROTTLE = f"""Change the rate of the run on a table, from another terminal.

All its workers together then keep to these units a second; the table's indexes count. What is not named stays.
To lift a limit, name one beyond what the table takes.

\b
Examples:
  dynamodt throttle --table users --wcu 200
  dynamodt throttle --table users --wcu 2000 --rcu 500 --stage prod
{_TOLD_JSON}"""

TOLD = {
    "pause": f"""Let the run on a table rest after its page, from another terminal.

It keeps the table, and waits for `resume`.

\b
Example:
  dynamodt pause --table users
{_TOLD_JSON}""",
    "resume": f"""Let a paused run go on.

A run that an alarm holds (--pause-on-alarm) rests all the same until the alarm is over.

\b
Example:
  dynamodt resume --table users
{_TOLD_JSON}""",
    "abort": f"""End the run on a table after its page, from another terminal.

What it has done stands; the same `up` or `down` goes on from there.

\b
Example:
  dynamodt abort --table users
{_TOLD_JSON}""",
    "unlock": f"""Break the lease of a run that is surely dead, on a machine that is out of reach.

It asks nothing, and shows who held it (`dynamodt runs` shows it before). If the holder lives after all, it ends with
an error within a page, and its run is left for the same command to go on with; `abort` is the gentler way.
A dead run of this machine needs no unlock, and any other is taken over half a minute after its last sign of life.

\b
Example:
  dynamodt unlock --table users
{_TOLD_JSON}""",
}

DEPLOY = """Make what a stage needs in AWS, and the jobs that run there.

One CloudFormation stack, dynamodt-STAGE: the bucket of the stage's `storage`, encrypted with a key of its own; the
state table; two Glue jobs with a role that may touch the tables of transforms/ and nothing else; and alarms for failed
runs and dead letters. [stages.NAME.deploy] in dynamodt.toml says how many workers, when it runs by itself, and who is
told. The package, Beam's Spark runner and the transformations are uploaded under their content's hash: after a change
to a script, deploy again. A bucket, a state table or a key (`kms_key`) that exists is used as it is, and stays.

What was deleted by hand is named before anything is changed, and made anew where nothing is lost by that. A stack that
is for tables of another project, too, is refused.

Without a change it does nothing, and says so. It waits for the stack, and shows each resource as it is ready;
interrupted or failed, the same command goes on. --dry-run shows what would be changed, and uploads nothing.

\b
Examples:
  dynamodt deploy --stage prod --dry-run
  dynamodt deploy --stage prod
  dynamodt up --stage prod --runner glue     then: pending versions, in the job

\b
--json: {"stack", "status", "changes": [{"action", "resource", "type", "replacement"}],
         "outputs": {name: value}}
  status: created, updated, unchanged or dry-run.
"""

DESTROY = """Take down what `deploy` has made for a stage.

The jobs, their role, logs, schedule and alarms go. The bucket, the state table and the key stay, since journals, dead
letters and the history of runs are in them, and the next `deploy` finds them. With --purge each of them goes that the
stack has made, or that bears the tag of this stage, unless it holds what is another's or another stage uses it (KMS
keeps the key for 30 days). Of a bucket with other things in it only what is below the stage's prefix goes. --dry-run
lists what goes and what stays, and why; interrupted, the same command finishes it. It is refused while a run is at
work, and asks before it does anything; --yes is for where nobody can be asked.

\b
Examples:
  dynamodt destroy --stage dev --dry-run
  dynamodt destroy --stage dev
  dynamodt destroy --stage dev --purge --yes

\b
--json: {"stack", "status", "removed": [text, ...], "kept": [text, ...]}
  status: destroyed, nothing (there was nothing) or dry-run.
"""

LOCAL = """The embedded local stage of this folder.

It starts when a command needs it, keeps its data under .dynamodt/ and outlives the command.

\b
Examples:
  dynamodt local status
  dynamodt local stop
  dynamodt local reset      stop it and delete its data
"""

_LOCAL_JSON = """
\b
Example:
  dynamodt local {0} --json

\b
--json: {{"running", "url", "pid", "since", "folder"}}
"""
LOCAL_STATUS = "Show whether it runs, where, and since when.\n" + _LOCAL_JSON.format("status")
LOCAL_STOP = "Stop it; its data stays.\n" + _LOCAL_JSON.format("stop")
LOCAL_RESET = "Stop it and delete its data.\n" + _LOCAL_JSON.format("reset")
