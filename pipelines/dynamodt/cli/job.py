"""Inside a Glue job: runs one command of the command line on the project of the job's arguments.

The output goes to a log: it is that of `--json`, without values of items, followed by the error, if any. The result is
also stored in the state table, under the job run's id, for the command that has started the job.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from dynamodt.cli.app import main
from dynamodt.cli.console import message_console, print_error
from dynamodt.cli.json_output import CommandResult
from dynamodt.cli.request import in_job
from dynamodt.config.stage import ambient_connection, load_stage
from dynamodt.deploy.job_result import dead_letters_in, of_this_release
from dynamodt.dynamodb.network import REGION_VARIABLES
from dynamodt.errors import Busy, DynamodtError, UsageError, suggest
from dynamodt.model.tables import StorageSpec
from dynamodt.runs.display import inert, printable
from dynamodt.runs.options import CONFIRMED, GLUE, MIGRATIONS, OF_A_RUN
from dynamodt.runs.provenance import BY, COMMIT
from dynamodt.state.lease_rows import AnswerRows, JobAnswer
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage

_LEFT_TO_ANOTHER = (
    "dynamodt: another run is in progress on every table with pending versions, and applies all of them. This "
    "start has nothing to do"
)
_NOT_APPLIED = (
    "dynamodt: another run is in progress, and does not apply all versions that are pending here. This start fails, "
    "and has applied nothing. When that run has ended, start the job again: {again}"
)
_NEEDED = ("stage", "project", "command", "region")
DEAD_LETTERS = "dynamodt: dead letters:"  # a number follows; a metric filter may count these lines


def carry_out(arguments: Mapping[str, str | None], *more: str) -> int:
    """Runs `arguments["command"]`, with the arguments `more` if it is a run, on the project at `arguments["project"]`
    and the stage `arguments["stage"]`; `arguments["owner"]` is the account that owns the project's bucket,
    `arguments["region"]` the job's region, which its environment may lack. Returns the exit code. With
    `arguments["JOB_RUN_ID"]` the result is stored under that id.
    """
    try:
        return _carried_out(arguments, more)
    except DynamodtError as error:  # the project cannot be read
        print_error(message_console(), error)
        return error.exit_code


def _carried_out(arguments: Mapping[str, str | None], more: Sequence[str]) -> int:
    stage, project, command, region = (arguments.get(name) or "" for name in _NEEDED)
    spec = StorageSpec(project, owner=arguments.get("owner"))
    job_run = arguments.get("JOB_RUN_ID") or ""
    if region:
        os.environ.update(dict.fromkeys(REGION_VARIABLES, region))  # of the author's own clients, too
    with _unpacked(spec, region), _for_the_caller(arguments):
        command, *options = shlex.split(command)
        more = more if command in (*MIGRATIONS, *OF_A_RUN) else ()  # `doctor` runs in the driver alone
        if job_run:
            os.environ["LOGNAME"] = job_run  # the user that the lease shows, and the history of a job of a trigger
        automatic, busy = bool(arguments.get("automatic")), list[Busy]()

        def ended(result: CommandResult) -> None:
            found = [error for error in result.errors if isinstance(error, Busy)]
            busy.extend(found if automatic and len(found) == len(result.errors) else ())
            _store(stage, job_run, result)

        confirmed = ["--yes"] if command in CONFIRMED else []  # starting the job was the confirmation
        code = main([command, "--stage", stage, "--json", *confirmed, *more, *options], ended)
        covered = bool(busy) and all(error.covered for error in busy)
        if busy:
            again = suggest("up", stage=stage, runner=GLUE)
            _log(_LEFT_TO_ANOTHER if covered else _NOT_APPLIED.format(again=again))
        return 0 if covered else code


@contextmanager
def _unpacked(project: StorageSpec, region: str) -> Iterator[None]:
    """Unpacks the project and makes it the current folder. Raises UsageError without a region: there is no default."""
    if not region:
        hint = "deploy the job again, or give it --region"
        raise UsageError("the job is given no region", where="--region", hint=hint)
    whole_bucket = replace(project, url=f"s3://{project.bucket}")
    content = open_storage(ambient_connection(region), whole_bucket).read(project.prefix)
    if content is None:
        raise UsageError(
            "the project's file does not exist",
            where=project.url,
            hint="start the job with dynamodt, or deploy it again",
        )
    before = Path.cwd()
    with TemporaryDirectory(prefix="dynamodt-") as folder:
        ZipFile(io.BytesIO(content)).extractall(folder)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def _for_the_caller(arguments: Mapping[str, str | None]) -> Iterator[None]:
    """Makes runs show the user who has started the job and the commit, instead of this process; and hints the commands
    that start the job."""
    given = {variable: arguments.get(name) or "" for name, variable in (("by", BY), ("commit", COMMIT))}
    os.environ.update({variable: value for variable, value in given.items() if value})
    in_job(True)
    try:
        yield
    finally:
        in_job(False)
        for variable in given:
            os.environ.pop(variable, None)


def _store(stage: str, job_run: str, result: CommandResult) -> None:
    """Stores the result, and logs the number of dead letters for a metric filter."""
    dead = dead_letters_in(result.document)
    if dead:
        _log(f"{DEAD_LETTERS} {dead}")
    if job_run:
        try:
            found = load_stage(stage)
            rows = State(found.connection, found.state_table).rows
            AnswerRows(rows).write(job_run, JobAnswer(of_this_release(result.document), result.exit_code))
        except DynamodtError as error:
            _log(f"dynamodt: the result could not be stored: {error}")


def _log(line: str) -> None:
    sys.stderr.write(f"{inert(printable(line))}\n")
