"""The `--help` of the commands for a project or a stage. `\\b` keeps the lines of a paragraph as they are."""

from __future__ import annotations

_FILES_JSON = '\n\b\n--json: {"files": [path, ...], "dry_run"}\n'

_LOCAL_JSON = '\n\b\nExample:\n  dynamodt local {0} --json\n\n--json: {{"running", "url", "pid", "since", "folder"}}\n'

SETUP = {
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
    "deploy": """Create what a stage needs in AWS, and the jobs that run there.

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
run, and asks for confirmation first; --yes is for use without a terminal.

\b
Examples:
  dynamodt destroy --stage dev --dry-run
  dynamodt destroy --stage dev --purge --yes

\b
--json: {"stack", "status", "removed": [text, ...], "kept": [text, ...]}
  status: destroyed, nothing (there was nothing) or dry-run.
""",
    "doctor": """Examine a stage; docs/stages.md lists what is checked.

Without options it only reads. --full also tests the assumptions about DynamoDB, exports and S3 on a table and a prefix
of its own, deletes these, and writes a report to send in; in AWS it takes up to half an hour. --glue also runs the
read-only checks in the deployed job. With --full it tests the assumptions about CloudFormation and Glue, too, on a
stack of its own.

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
