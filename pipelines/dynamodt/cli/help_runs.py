"""The `--help` of the commands that start, undo or control runs. `\\b` keeps the lines of a paragraph as they are."""

from __future__ import annotations

_JOURNAL = """
--journal keeps a journal, which `undo` needs, for an IDEMPOTENT script too; other scripts always have one.

After an undo that has restored items in part, --accept-partly-restored lets the run transform these items, too.
"""

_MIGRATION = """
With --wait-lock 10m (90s, 1h) the command waits for a run that holds the table, and then plans its own run; without
this option it is refused. The time applies to each table.

On a stage with `protected = true` in dynamodt.toml, a table is written only if point-in-time recovery is on, or with
--allow-no-pitr. A global table is written only with --single-region-writers, which states that no other region writes
to it.

With --max-usd the command's runs pause between two pages when they have cost that much together, including earlier
attempts of a continued run. The command then ends; the same command with a higher limit continues. The cost covers the
read and write units of the table and its indexes, the journal's requests to S3, and an export. It does not cover the
workers. The table must be on demand, in a region with known prices. In JSON, the error of a paused run has "limit":
"max-usd".

With --pause-on-alarm the run pauses while the alarm is in ALARM, was deleted or cannot be read, and then continues
automatically. A name that no alarm has is an error before the start.

--max-errors N lets a run succeed with up to N dead letters, with a warning. Their items stay as they are, the version
is recorded, and `retry` can replay them until a later version has run.

--reason and --by are kept in the history, beside the commit of the git repository. --by defaults to the actor of
GitHub Actions, GitLab CI, Azure Pipelines, CodeBuild or CircleCI, else to user and host.

Arguments after `--` are passed to Beam unchanged.

\b
--json: {"tables": [{"table", "direction", "versions": [
          {"version", "name", "run", "status",
           "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
           "consumed": {"rcu", "wcu"}, "seconds"}]}]}
  status: succeeded, failed, stopped, paused (by --max-usd), dry-run (wcu is then an estimate) or refused (another run
  must be finished first: the version is that run's, and so are the counts).
  A table or version that failed has an "error". A version with dead letters has "dead_letters", the location of their
  file, and "accepted", the number of accepted ones. A table's "notices" are sentences about the consumers of its
  writes, the dead letters of succeeded runs, and the versions that a newer release has applied.
  "refusal", after a dry run: the error with which the command itself would be refused now.
  "not_started": true, if the table was not started because another table of the command is refused.
  With --catch-up none, "uncovered_since" is the time of the export. If the script was edited while the run was
  unfinished, "scripts": [{"checksum", "items"}] lists each text and the number of items that it has transformed.
  A dry run has a "cost", the estimate for the real run:
  {"wcu", "wcu_most", "rcu", "s3_requests": {"put", "get"}, "export_bytes", "usd": {"low", "high", "as_of"}}
  wcu is for the table alone, wcu_most is the most with its indexes. usd is null if there is no price: for
  provisioned capacity, an emulator, some regions. as_of: the day of AWS's on-demand prices.
"""

_TAKE_OVER_JSON = """
\b
--json: {"table", "at", "recorded": [a run as `history` shows it, ...],
         "versions": [{"version", "name", "outcome"}], "dry_run"}
  outcome: recorded, removed, accepted, unchanged, or edited (still recorded, but the file differs).
"""

_CONTROL_JSON = """
\b
--json: {"table", "command", "run", "user", "host", "pid", "since", "pause_reason", "max_wcu", "max_rcu"}
  pause_reason: the alarm that has paused the run, or "".
"""

RUNS = {
    "up": f"""Apply every pending version, in order.

Without --table, all tables that have a folder are migrated. All are checked before the first is started. If a script
has an error or a table is refused (edited script, prepared data missing, an unfinished run of another version), all
errors are reported and no table is started. A table that another run holds does not stop the others. Once started,
tables fail independently. A dry run tries every table that it can.

--dry-run writes nothing. Each version is applied in memory to the results of the version before it, with every check of
a write; its counts and dead letters are those of a real run.

Except on the local stage, a run keeps to a budget: --max-wcu and --max-rcu units per second; else half (--share) of the
provisioned capacity or of the on-demand maximum; else the rate that the table accepts without throttling. The rate
starts low and grows.

--source export reads the table's point-in-time export in S3 instead of the table: it consumes no read units, and only
changed items are written. --export new (the default) requests an export; an ARN or s3://bucket/prefix names an
existing one. Changes after the time of the export are covered by successive incremental exports until one contains no
change (--catch-up windows), by a final scan (--catch-up scan), or not at all (--catch-up none). A dry run that requests
a new export pays for it.

--runner glue runs the command in the stage's deployed job (`dynamodt deploy`). The project is copied from this folder,
the run is followed as by `status --follow`, and the exit code is that of the command in the job. No job is started if
there is nothing to do or the command is refused. Ctrl-C asks whether the job continues, pauses or ends. Without a
terminal, or if this process dies, the job continues, and the same command follows it again.

\b
Examples:
  dynamodt up
  dynamodt up --table users --to 2
  dynamodt up --table users --dry-run        counts, examples, write units
  dynamodt up --stage prod --single-region-writers    for a global table that is written in this region only
  dynamodt up --stage prod --wait-lock 10m   after a deployment; a second one waits
  dynamodt up --table users --max-wcu 200    leave the rest to the application
  dynamodt up --stage prod --max-usd 5       pause when it has cost $5
  dynamodt up --table users --source export  read an export in S3, not the table
  dynamodt up --stage prod --pause-on-alarm api-errors --pause-on-alarm api-latency
  dynamodt up --stage prod --runner glue     in the deployed job
  dynamodt up --table users --runner spark   all cores of this machine
  dynamodt up --table users --runner flink -- --flink_master host:8081
{_JOURNAL}{_MIGRATION}""",
    "down": f"""Roll back the latest version, or all above --to.

\b
Examples:
  dynamodt down --table users
  dynamodt down --table users --to 0         all versions
  dynamodt down --table users --dry-run      counts, examples, write units
  dynamodt down --table users --yes          asks for no confirmation
{_JOURNAL}{_MIGRATION}""",
    "undo": """Undo a run by its journal. No transform_down is needed.

RUN is an id that `dynamodt history` shows, or the beginning of one. It must be the last run that changed its table, and
may have failed or been stopped before its end. Only attributes that still equal what the run wrote are restored: later
changes by the application stay, and are reported. Items that the run inserted are deleted if they are unchanged; items
that it deleted are inserted again if their key is free. The same command continues an unfinished undo.
The run is looked up in all tables that have a folder, or in --table.

The whole journal is verified before anything is written: the undo is refused if a part is missing, truncated, damaged
or of another run. --partial restores what the journal still has. The run is then partly-undone, its version stays in
the history, and `up` and `down` are refused until `undo` has finished it or `stamp` records the applied versions.
`up` and `down` transform partly restored items only with --accept-partly-restored.

\b
Examples:
  dynamodt undo 20260131T101500.123456Z-1a2b3c
  dynamodt undo 20260131T1015 --dry-run      how many items it would restore, and leave
  dynamodt undo 20260131T1015 --table users --stage prod --yes
  dynamodt undo 20260131T1015 --partial      what its journal still has

\b
--json: {"table", "run", "version", "name", "direction", "status",
         "counts": {"read", "changed", "unchanged", "superseded", "vanished", "dead"},
         "consumed": {"rcu", "wcu"}, "seconds", "restored": {"fully", "partly"},
         "left": {"items", "file", "first": [{"key", "attributes", "why", "restored"}]},
         "missing_parts", "at"}
  status: undone, undoing (unfinished), partly-undone, refused or dry-run. fully: items that are as before the
  run; partly: items with some attributes restored ("restored") and others not ("attributes").
  changed: restored; unchanged: already as before the run; superseded, vanished: not restored, since the item was
  changed or deleted later; dead: could not be written. "at" is the version of the table after the undo.
""",
    "retry": f"""Replay or accept a run's dead letters, and continue it.

Fix the script or the data first. When no dead letter is left, the version is recorded, as by `up` or `down`. Dead
letters of writes without a response (step "doubt") are not replayed automatically, since the write may have taken
effect. Check their items, then pass --in-doubt again to transform them again, or --in-doubt done to count them as
written.

--accept KEY accepts the dead letter of one key: it is not replayed, its item stays as it is, and the run counts as
complete without it. The others are replayed. --accept-all accepts all of them. Both need a --reason; the history keeps
what was accepted, by whom and why. `dynamodt show RUN --keys` prints the keys: the partition key, a comma, and the sort
key, or JSON.

A run that has succeeded with dead letters (--max-errors) can be retried until a later run has changed its table. Its
version is not applied while the retry is in progress. The same number of dead letters is tolerated again.
--dry-run applies the version in memory to the current items of the dead letters. It does not try the rest of an
unfinished run.

\b
Examples:
  dynamodt retry 20260131T101500.123456Z-1a2b3c --dry-run
  dynamodt retry 20260131T1015 --table users --in-doubt done
  dynamodt retry 20260131T1015 --accept u1 --accept u2 --reason "test accounts"
  dynamodt retry 20260131T1015 --accept 'ORDER#7,2026-01-31' --reason "cancelled"
  dynamodt retry 20260131T1015 --accept-all --reason "cleaned up in version 4"
{_MIGRATION}""",
    "stamp": f"""Record which versions are applied, without running them.

Versions 1 to N (--to N) of the table are recorded as applied.

Use it if the versions were applied elsewhere or by hand. Versions above N are recorded as not applied; with --to 0, all
are. Every version up to N must have its file. The table itself is not changed, and `history` shows the record.

\b
Examples:
  dynamodt stamp --table users --to 3 --dry-run
  dynamodt stamp --table users --to 3
  dynamodt stamp --table users --to 0        `up` then starts with version 1 again
{_TAKE_OVER_JSON}""",
    "import-history": f"""Import the history of dynamo-data-transform.

That tool keeps its history in the table. Its record (key "DataTransformations") is read and stays where it is: no run
counts or transforms it. Every version that has run must have its file here; the file is not run. From then on `up`
applies the pending versions. `adopt` is an alias of this command.

\b
Examples:
  dynamodt import-history --table users --dry-run
  dynamodt import-history --table users --stage prod
{_TAKE_OVER_JSON}""",
    "repair": f"""Accept edits of applied versions; nothing is run.

Use it after an edit that does not change the version's results: a rewritten formula, a type annotation, reordered
imports. (Formatting and comments need no repair.) Each edited version up to --to gets the checksum of its current file.
The applied text and the current one stay in the stage's storage, and `history` shows who accepted the edit, when and
why. The command is refused while a run is in progress or unfinished.

\b
Examples:
  dynamodt repair --table users --reason "imports sorted" --dry-run
  dynamodt repair --table users --to 2 --reason "the same formula, faster" --stage prod
{_TAKE_OVER_JSON}""",
    "pause": f"""Pause the run on a table.

It can be called from any terminal, and takes effect between two requests. The run keeps its lease, and waits for
`resume`.

\b
Example:
  dynamodt pause --table users
{_CONTROL_JSON}""",
    "resume": f"""Continue a paused run.

A run that an alarm has paused (--pause-on-alarm) stays paused until the alarm is over. To continue it without the
alarm, for example after its deletion: `abort`, then the run's command without --pause-on-alarm.

\b
Example:
  dynamodt resume --table users
{_CONTROL_JSON}""",
    "abort": f"""End the run on a table.

It can be called from any terminal, and takes effect between two requests. The run's changes stay; the same `up` or
`down` continues from there.

\b
Example:
  dynamodt abort --table users
{_CONTROL_JSON}""",
    "unlock": f"""Break the lease of a run whose process is dead.

It is for a run on a machine that cannot be reached. The command shows the holder, as `dynamodt runs` does, and asks for
confirmation. If the holder is alive, its run fails within a page, and the same command continues it; prefer `abort`
then. A dead run of this machine needs no unlock. A dead run of another machine is taken over half a minute after its
last heartbeat.

\b
Example:
  dynamodt unlock --table users
{_CONTROL_JSON}""",
    "throttle": f"""Change the rate of the run on a table.

It can be called from any terminal. The limit is in units per second for all workers together, including the table's
indexes. A limit that is not given stays. To lift a limit, give one above the table's capacity.

\b
Examples:
  dynamodt throttle --table users --wcu 200
  dynamodt throttle --table users --wcu 2000 --rcu 500 --stage prod
{_CONTROL_JSON}""",
}
