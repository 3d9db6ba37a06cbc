"""The text of `--help`, by command: of the program, of the commands that read, and of those for a project or a stage.

`help_runs` has the others. `\\b` keeps the lines of a paragraph as they are.
"""

from __future__ import annotations

from dynamodt.cli.help_runs import RUNS

EPILOG = """\b
Exit codes:
  0    done, or nothing to do
  1    failed: dead letters, counts that do not balance, an error of AWS or of dynamodt; a check has found a fault
  2    a usage error, or an error in a script
  3    refused, nothing was started: prepared data missing, edited script, another run, versions out of order
  130  stopped by Ctrl-C (143: by SIGTERM)
If several tables have errors, the most serious one decides: 1, then 2, then 3.
With --json, stdout is one JSON object; a failed command's has
"error": {"what", "where", "hint", "exit_code"}, and "run", the id of the run that prevents the command, if any.
"""

_READING = {
    "": """Zero-downtime data transformations for Amazon DynamoDB.

Run it from the folder that holds transforms/. A version of a table's data is one file in it, such as
transforms/users/v2_split_name.py. The stage "local" needs no setup: an emulator starts automatically.

\b
Examples:
  dynamodt init --table users --key id:S    a folder, a template v1, and the table of the local stage
  dynamodt create --table users split_name  the next version
  dynamodt check --table users              test its properties on a sample of items
  dynamodt plan --table users               estimate its changes, duration and cost
  dynamodt up --table users --dry-run       try it on all items, without writing
  dynamodt up                               apply every pending version to every table
  dynamodt down --table users               roll back the latest version
  dynamodt undo RUN                         undo a run by its journal
  dynamodt status                           list applied and pending versions
  dynamodt status --follow                  watch the active runs, from any machine
  dynamodt deploy --stage prod              create the bucket and the Glue jobs for large tables
  dynamodt -i                               choose from a menu

`dynamodt COMMAND --help` describes each command.
""",
    "history": """Show all runs: time, user, script and counts.

The command only reads, with or without --dry-run. Without --table, it shows all tables that have a folder.

\b
Examples:
  dynamodt history
  dynamodt history --table users --json

\b
--json: {"tables": [{"table", "runs": [{"run", "version", "name", "direction",
          "checksum", "status", "started", "ended", "by", "reason", "commit", "counts", "consumed",
          "seconds", "dead_letters", "error", "undone", "text"}]}]}
  "text": the location of the script's text. An edit that `repair` has accepted also has
  "text_before", the location of the applied text.
  "accepted": [{"items", "by", "when", "why"}], the dead letters that `retry` has accepted; "undone_reason".
  If the script was edited while the run was unfinished, "scripts": [{"checksum", "items"}]
  lists each text and the number of items that it has transformed.
  "younger_than_last_run", of a table: it was deleted and created again since its last run.
""",
    "status": """Show the versions of the tables and their states.

The states are applied, pending, running, unfinished, edited and missing.

"running": a run is in progress; "unfinished": a run stopped early, and the same command continues it; "edited": the
file changed after it was applied; "missing": a newer release has applied it, and there is no file here. An unfinished
version of a newer release is shown, too.
The command only reads, with or without --dry-run. Without --table, it shows all tables that have a folder.

--check is for a build: the exit code is 1 if any version is pending, running, unfinished, edited or missing, or if the
table or the state table was restored since the last run, or if that is not known.

--follow watches the active runs of all processes until they end: bars on a terminal, otherwise a line every few
seconds. Its exit code is 0 if all succeeded or none is active, else 1. Ctrl-C ends the watching, not the runs.

\b
Examples:
  dynamodt status
  dynamodt status --table users --stage prod
  dynamodt status --check --stage prod       fails unless everything is applied
  dynamodt status --follow
  dynamodt status --follow --table users --json

\b
--json: {"tables": [{"table", "at", "versions":
          [{"version", "name", "state", "path", "when",
            "run": {"id", "direction", "status", "started", "dead_letters", "error"}}]}]}
  "dead", of an applied version: the number of dead letters that its run has left.
  A version that is running or unfinished has a "run"; "changed": files that it uses and that changed since.
  "younger_than_last_run", of a table: it was deleted and created again since its last run.
  "older_state", of a table: the state table was restored from a backup, and lacks its last run.
  "not_compared", of a table: the error because of which neither is known.
  With --check, "check": {"passed", "left": [{"table", "version", "name", "state"}]}.
--follow --json is JSON lines: one object a line, about one per second for each run
  {"at", "table", "run", "version", "name", "direction", "status", "held_by", "percent",
   "units": {"done", "planned"}, "counts", "contention": {"conflicts", "throttles"},
   "consumed": {"rcu", "wcu"}, "per_second": {"items", "rcu", "wcu", "bytes"},
   "budget": {"rcu", "wcu"}, "seconds", "seconds_left"}
  and at the end one with the results
  {"runs": [{"table", "direction", "version", "name", "run", "status", "counts", ...}]}
  status: running, paused or held; at the end succeeded, failed, stopped, paused (by --max-usd) or gone.
  percent and seconds_left are null if unknown; a budget of 0 is no limit.
""",
    "plan": """Estimate changes, duration and cost of pending versions.

It also estimates the capacity that they use, and lists obstacles.

The versions are applied in memory, one after the other, to a random sample of the table's items (--sample N), with
every check of a real write; nothing is written. The plan shows the share of items that changes, with its 95 %
confidence interval; write units of the table and of each index; read units; the duration at the budget; the cost on
demand, and with --runner glue the cost of Glue's workers. It lists obstacles: a refusal, missing prepared data, dead
letters, another run's lease, point-in-time recovery, streams, replicas, TTL. An unknown amount is shown as not known.

With --max-usd and --max-hours the exit code is 3 if the upper estimate for all tables exceeds them or is not known.
Obstacles do not change the exit code; an error in a script does.

\b
Examples:
  dynamodt plan --table users
  dynamodt plan --stage prod --max-usd 20 --max-hours 2     in a build, before a merge
  dynamodt plan --stage prod --runner glue --markdown       for a pull request

\b
--json: {"tables": [{"table", "at", "latest",
          "items": {"count", "counted", "sampled", "whole", "read_units"},
          "versions": [{"version", "name", "unknown", "share", "changed", "dead_letters": {"of_sample", "first"},
            "wcu": {"low", "likely", "high", "table", "indexes": {NAME: ...}}, "rcu", "stream_records",
            "journal": {"bytes", "put_requests"}, "export_bytes", "seconds", "usd"}],
          "budget": {"rcu", "wcu", "why"}, "seconds", "usd", "no_price",
          "obstacles": [{"kind", "text", "stops", "hint"}]}]}
  Amounts are {"low", "likely", "high"}, or null if unknown; "unknown" is the reason if a version has none.
""",
    "validate": """Check all version files, without a stage.

All errors of all files are reported together: syntax, names, gaps in the numbers, constants, functions and their
parameters, the modules beside the files, the rows of items(), and whatever else `up` would refuse. The files are
loaded; no request is sent, and no credentials are needed. Without --table, all tables that have a folder are checked.

\b
Examples:
  dynamodt validate                          in a build, before a merge
  dynamodt validate --table users --json

\b
--json: {"valid", "tables": [{"table", "files": [path, ...],
          "versions": [{"version", "name", "path", "functions"}], "errors": [an error, ...]}],
         "errors"}
  "versions" are the files without an error; the outer "errors" are those of dynamodt.toml.
""",
    "check": """Test versions on a sample of items and on variants.

Each pending version (if none is pending: each version) is applied in this process to items of random segments of the
table, to the results of the version before it, and to variants: values that are absent, NULL, empty or of another type.
Nothing is written, and no `prepare` is run; prepared data is used where it exists. The report shows whether the version
is deterministic, idempotent as declared, and reversible, and whether it mutates its input; key and index key changes;
which attributes it adds (expanding) or changes and removes (contracting); item growth; the time per item; errors.
Each finding names the line of the script and the smallest item that shows it.

A fault that an item of the sample shows sets exit code 1; one that only variants show is a warning. --save keeps the
sample as transforms/T/sample.jsonl, with its values replaced, for tests. docs/checking.md has the details.

\b
Examples:
  dynamodt check
  dynamodt check --table users --stage prod --sample 5000 --save
  dynamodt check --table users --items transforms/users/sample.jsonl
  dynamodt check --table users --version 3 --markdown

\b
--json: {"faults", "tables": [{"table", "at", "sample": {"source", "items", "whole", "read_units"},
   "notices", "saved", "versions": [{"version", "name", "path", "items", "derived", "variants",
     "deterministic", "reversible", "prepared", "bound", "idempotent": {"found", "declared"}, "micros",
     "effect": {"kind", "changed", "unchanged", "moved", "deleted", "inserted", "into_target",
                "attributes": [{"path", "added", "changed", "retyped", "removed"}],
                "leaves_indexes", "bytes": {"before", "after", "most"}},
     "findings": [{"level", "name", "what", "hint", "where", "items", "example": [{"label", "item"}],
                   "variant", "of": KEY}]}]}]}
  level: fault or warning; kind: none, expanding, contracting or both; reversible: yes, lossy, no, none
  (no transform_down), or "" if not known; bound: with 95 % certainty at most this share of the items
  shows a fault. An example has replaced values; where there are none, its key and the types. Of a table
  that could not be checked: {"table", "error"}.
""",
    "show": """Show one run, and its dead letters by error.

It shows the run's phases, counts and budget, too.

RUN is an id that `dynamodt history` shows, or its beginning. The run may be in progress or ended.
Dead letters are grouped by error, without regard to the values in its message. Each group has a count, the first
example and some keys. Tracebacks are limited to files under transforms/; -v shows all of them. Error messages may
contain values of items.

--keys prints the keys of all dead letters that are not replayed or accepted yet, one per line, as `retry --accept`
takes them: the partition key, then a comma and the sort key if the table has one. A value with spaces or other special
characters is a JSON string.

\b
Examples:
  dynamodt show 20260131T1015
  dynamodt show 20260131T1015 -v             whole tracebacks
  dynamodt show 20260131T1015 --keys > keys.txt
  dynamodt show 20260131T1015 --table users --stage prod --json

\b
--json: {"table", "run", "version", "name", "direction", "status", "checksum", "started", "ended", "seconds", "by",
         "reason", "commit", "undone", "undone_reason", "text", "text_before", "counts", "consumed": {"rcu", "wcu"},
         "contention": {"conflicts", "throttles"}, "budget": {"rcu", "wcu"}, "scripts": [{"checksum", "items"}],
         "holder": {"user", "host", "pid", "since"},
         "phases": [{"phase", "splits": {"done", "planned"}, "counts", "contention"}], "error", "dead_letters",
         "accepted": [{"items", "by", "when", "why"}], "stored",
         "errors": [{"step", "error", "items", "accepted", "keys", "keys_left_out",
                     "first": {"key", "error", "frames": [{"path", "line", "function"}]}}]}
  keys: the first hundred of an error. stored: the dead letters that can be read now. A budget of 0 is no limit.
  With --keys: {"keys": [key, ...]}
""",
    "runs": """List the runs of the tables, the newest first.

The status is one of:
running, paused, stopping, succeeded, failed, stopped;
held: paused by an alarm;
gone: its process died or sends no heartbeat;
undoing, undone;
partly-undone: its journal lacks parts, and `undo` continues when they are restored;
closed: partly undone, and `stamp` has recorded the applied versions since;
replaced: nothing of it was written, and a later run has started in its place;
stamped, adopted, repaired: a record only, nothing was run.
A run that --max-usd has paused has no process. `history` shows more about each run.

\b
Examples:
  dynamodt runs
  dynamodt runs --table users --stage prod --json

\b
--json: {"runs": [{"table", "run", "version", "name", "direction", "status", "started", "ended", "by", "reason",
          "commit", "counts", "dead_letters", "accepted", "error", "holder": {"user", "host", "pid", "since"}}]}
  error: why the run ended early; holder: null if no process holds the run; accepted: the number of accepted dead
  letters, if any.
""",
}

_FILES_JSON = '\n\b\n--json: {"files": [path, ...], "dry_run"}\n'

_LOCAL_JSON = '\n\b\nExample:\n  dynamodt local {0} --json\n\n--json: {{"running", "url", "pid", "since", "folder"}}\n'

_SETUP = {
    "init": f"""Make a folder and a template v1 for each table.

Existing files are not overwritten. Without --table, it makes folders for all tables of the stage, or of the Serverless
service if there is a serverless.yml. The template of a test has an item with the table's key.

--key is the key of one table (users, unless --table names another). It is written to dynamodt.toml, and the local stage
creates the table. The default is the key in dynamodt.toml or serverless.yml.

\b
Examples:
  dynamodt init --key id:S                       in an empty folder: the table users
  dynamodt init --table orders --key pk:S,sk:N
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

The rows are stored as one Parquet file in the stage's storage, with row count and checksum. --runner glue runs it in
the stage's deployed job, for data that this machine cannot reach; `context.folder` is copied to the job.

\b
Examples:
  dynamodt prepare --table users --version 3
  dynamodt prepare --table users --version 3 --stage prod
  dynamodt prepare --table users --version 3 --stage prod --runner glue

\b
--json: {"table", "version", "url", "rows", "sha256", "script_checksum",
         "created", "dry_run"}
""",
    "deploy": """Create the resources of a stage in AWS.

One CloudFormation stack, dynamodt-STAGE: the bucket of the stage's `storage`, encrypted with a key of its own; the
state table; two Glue jobs with a role for the tables of transforms/ only; and alarms for failed runs and dead letters.
[stages.NAME.deploy] in dynamodt.toml sets the number of workers, the schedule, and the address for alarms. The package,
Beam's Spark runner and the transformations are uploaded under the hash of their content: after a change to a script,
deploy again. An existing bucket, state table or key (`kms_key`) is used as it is, and stays.

Resources that were deleted by hand are reported before anything is changed. They are created again if that loses no
data. A stack that includes tables of another project is refused.

--state-only creates the bucket, the state table and the key, for runs on this machine. It needs no Glue, Java or Maven.
A later `deploy` adds the jobs. The command waits for the stack; if it is interrupted or fails, the same command
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

The jobs, their role, logs, schedule and alarms are deleted. The bucket, the state table and the key stay: they hold
journals, dead letters and the history of runs, and the next `deploy` uses them again. --purge deletes each of them if
the stack has created it or it has the tag of this stage, unless it holds other data or another stage uses it. (KMS
keeps the key for 30 days.) In a bucket with other data, only the stage's prefix is deleted. --dry-run lists what is
deleted and what stays, and why. If the command is interrupted, the same command finishes it. It is refused during a
run, --purge also while a run that has changed items is unfinished. It asks for confirmation first; --yes is for use
without a terminal.

\b
Examples:
  dynamodt destroy --stage dev --dry-run
  dynamodt destroy --stage dev --purge --yes

\b
--json: {"stack", "status", "removed": [text, ...], "kept": [text, ...]}
  status: destroyed, nothing (there was nothing) or dry-run.
""",
    "doctor": """Check that a stage has what a run needs.

Without options it only reads; docs/stages.md lists the checks. --full also tests the assumptions about DynamoDB,
exports and S3 on a table and a prefix of its own, deletes these, and writes a report to send in; in AWS it takes up to
half an hour. --glue also runs the read-only checks in the deployed job. With --full it tests the assumptions about
CloudFormation and Glue, too, on a stack of its own.

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
    "local env": 'Start it, and print its variables for your code.\n\n\b\nExample:\n  eval "$(dynamodt local env)"\n'
    '\n--json: {"variables": {name: value}}\n',
    "local stop": "Stop it; its data stays.\n" + _LOCAL_JSON.format("stop"),
    "local reset": "Stop it and delete its data, after a confirmation on a terminal.\n" + _LOCAL_JSON.format("reset"),
}

_ORDER = (  # of `dynamodt --help`
    "",
    "init",
    "create",
    "validate",
    "check",
    "plan",
    "prepare",
    "up",
    "down",
    "history",
    "status",
    "stamp",
    "import-history",
    "repair",
    "runs",
    "show",
    "undo",
    "retry",
    "pause",
    "resume",
    "abort",
    "unlock",
    "throttle",
    "deploy",
    "destroy",
    "doctor",
    "local",
    "local status",
    "local env",
    "local stop",
    "local reset",
)
HELP = {name: (_READING | RUNS | _SETUP)[name] for name in _ORDER}
