"""Inside a job in AWS: one command of the ordinary command line, on the project that the job was given.

What is printed ends in a log, so it is what `--json` prints (no item's values), and then the error, if there is one.
The answer is kept in the state table too, under the job run's id, for whoever has started the job.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from dynamodt.cli.app import main
from dynamodt.cli.commands import CommandResult
from dynamodt.cli.console import message_console, print_error
from dynamodt.config.stage import ambient_connection, load_stage
from dynamodt.deploy.job_result import dead_letters_in, of_this_release
from dynamodt.errors import DynamodtError, UsageError
from dynamodt.model.tables import StorageSpec
from dynamodt.runs.shown import inert, printable
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage
from dynamodt.state.worker_rows import AnswerRows, JobAnswer

DEAD_LETTERS = "dynamodt: dead letters:"  # a number follows; a metric filter may count these lines


def carry_out(arguments: Mapping[str, str | None], *more: str) -> int:
    """Run `arguments["command"]` with `more` words on the project at `arguments["project"]`, on the stage
    `arguments["stage"]`; returns its exit code.

    The answer is kept under `arguments["JOB_RUN_ID"]`, where Glue gives one, and where there is a project that says in
    which state table.
    """
    try:
        return _carried_out(arguments, more)
    except DynamodtError as error:  # there is no project to run anything on
        print_error(message_console(), error)
        return error.exit_code


def _carried_out(arguments: Mapping[str, str | None], more: Sequence[str]) -> int:
    stage, project, command = (arguments[name] or "" for name in ("stage", "project", "command"))
    job_run = arguments.get("JOB_RUN_ID") or ""
    with _unpacked(project):
        command, *words = shlex.split(command)
        if job_run:
            os.environ["LOGNAME"] = job_run  # who is at work, as the lease and the history have it
        return main([command, "--stage", stage, "--json", *more, *words], lambda answer: _hear(stage, job_run, answer))


@contextmanager
def _unpacked(url: str) -> Iterator[None]:
    """The project as the current folder, where a person would have typed the command."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    content = open_storage(ambient_connection(), StorageSpec(f"s3://{bucket}")).read(key)
    if content is None:
        raise UsageError("there is no project", where=url, hint="start the job by dynamodt, or deploy it again")
    before = Path.cwd()
    with TemporaryDirectory(prefix="dynamodt-") as folder:
        ZipFile(io.BytesIO(content)).extractall(folder)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _hear(stage: str, job_run: str, answer: CommandResult) -> None:
    """Keep the answer, and count dead letters where a log can be asked for them."""
    dead = dead_letters_in(answer.document)
    if dead:
        _log(f"{DEAD_LETTERS} {dead}")
    if job_run:
        try:
            found = load_stage(stage)
            rows = State(found.connection, found.state_table).rows
            AnswerRows(rows).write(job_run, JobAnswer(of_this_release(answer.document), answer.exit_code))
        except DynamodtError as error:
            _log(f"dynamodt: the answer could not be kept: {error}")


def _log(line: str) -> None:
    sys.stderr.write(f"{inert(printable(line))}\n")
