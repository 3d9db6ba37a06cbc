"""Each verb: call its operation, and make of the result one answer, for a person and for a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynamodt.cli import json_output as shapes
from dynamodt.cli import report
from dynamodt.cli import short_reports as runs_report
from dynamodt.cli.console import drop_output
from dynamodt.cli.next_steps import as_typed, with_stage
from dynamodt.errors import DeadLetters, DynamodtError, RunFailed, UsageError
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.tables import Stage
from dynamodt.runs.interrupts import StoppedError
from dynamodt.runs.options import (
    GLUE,
    MOVES,
    OF_A_RUN,
    PROGRAM,
    TAKEN_OVER,
    TOLD,
    LocalOperations,
    Operations,
    Request,
    RunOptions,
    check,
)
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.names import check_no_state_table
from dynamodt.state.phases import ENDED

if TYPE_CHECKING:
    from rich.console import Console


_MOST_SERIOUS_FIRST = (130, 143, 1, 2, 3)


@dataclass(frozen=True)
class CommandResult:
    """`document` is what `--json` prints, `render` shows the same to a person, `errors` are told on stderr."""

    document: shapes.Document
    render: Callable[[Console], None]
    errors: tuple[BaseException, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of several errors the most serious decides: a stop, then 1, 2 and 3."""
        if not self.errors:
            return 0
        code: int = min(map(shapes.error_document, self.errors), key=_seriousness)["exit_code"]
        return code


def execute(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    """Carries a request out in `folder`, the one that holds `transforms/`. Raises what the operation raises;
    an error that ended one of several tables is in the answer instead."""
    check(request)
    if request.command.startswith("local "):
        return _local(request, folder)
    if request.command != "init":
        _require_transforms(folder)
    if request.command in (*MOVES, *OF_A_RUN):
        _check_runner(request.options)
    return _COMMANDS[request.command](request, folder, recorder)


def _check_runner(options: RunOptions) -> None:
    from dynamodt.runs.runner import check_runner

    check_runner(options)


def ended_early(request: Request, recorder: ProgressRecorder | None, error: BaseException) -> CommandResult:
    """The answer of a command that an error or an interrupt cut short: what was done so far, and the error."""
    reports = recorder.reports() if recorder is not None and request.command in (*MOVES, "retry") else []
    told = _told(request, error)
    document: shapes.Document = shapes.tables_document(reports) if reports else {}
    document["error"] = shapes.error_document(told)
    return CommandResult(document, partial(_render_moves, request, None, reports), (told,))


def _with_error(document: shapes.Document, errors: Sequence[BaseException]) -> shapes.Document:
    """The document with the most serious of the errors, the first of its kind, if there is any."""
    if not errors:
        return document
    return {**document, "error": min(map(shapes.error_document, errors), key=_seriousness)}


def _seriousness(error: shapes.Document) -> int:
    return _MOST_SERIOUS_FIRST.index(error["exit_code"])


def load_operations() -> Operations:
    """Late, because it brings boto3 with it."""
    from dynamodt import api as operations

    return operations


def load_local() -> LocalOperations:
    """Late, for the same reason."""
    from dynamodt.local import stage as local

    return local


def _open(operations: Operations, request: Request, folder: Path, recorder: ProgressRecorder) -> Stage:
    """The stage, ready for the tables that the command names. Raises Refused for one that is dynamodt's own."""
    stage = operations.open_stage(request.stage, folder, recorder)
    _check_tables(stage, request)
    return stage


def _check_tables(stage: Stage, request: Request) -> None:
    for table in request.tables:
        check_no_state_table(stage, table)


# ---------------------------------------------------------------- the verbs


def _migrate(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    move = operations.up if request.command == "up" else operations.down
    return _moved(request, stage, move(stage, folder, request.tables, request.to, request.options, recorder))


def _moved(request: Request, stage: Stage, found: Sequence[TableReport]) -> CommandResult:
    tables = [_with_told_error(request, table) for table in found]
    errors = tuple(table.error for table in tables if table.error is not None)
    document = _with_error(shapes.tables_document(tables), errors)
    return CommandResult(document, partial(_render_moves, request, stage, tables), errors)


def _undo(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    found = operations.undo(stage, folder, request.tables, request.run, request.options, recorder)
    errors = () if found.error is None else (_told(request, found.error),)
    document = shapes.undo_document(found)
    return CommandResult(document, lambda console: report.print_undo(console, request, stage, found), errors)


def _retry(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    return _moved(
        request, stage, operations.retry(stage, folder, request.tables, request.run, request.options, recorder)
    )


def _history(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    found = operations.history(stage, folder, request.tables)
    younger = {table: told for table, runs in found.items() if (told := operations.younger(stage, table, runs))}
    document = shapes.history_document(found, younger)
    return CommandResult(document, lambda console: report.print_history(console, found, request.stage, younger))


def _status(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    if request.follow:
        return _follow(request, folder, recorder)
    operations = load_operations()
    found = operations.status(_open(operations, request, folder, recorder), folder, request.tables)
    errors = tuple(_told(request, status.error) for status in found if status.error is not None)
    document = _with_error(shapes.status_document(found), errors)
    return CommandResult(document, lambda console: report.print_status(console, found, request.stage), errors)


def _runs(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    found = operations.runs(_open(operations, request, folder, recorder), folder, request.tables)
    return CommandResult(shapes.runs_document(found), lambda console: runs_report.print_runs(console, found))


def _follow(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    """Watch until what is at work has ended, or until nobody reads any more."""
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    try:
        found = operations.follow(stage, folder, request.tables, recorder)
    except BrokenPipeError:
        drop_output()
        found = recorder.ended
    recorder.close()
    errors = tuple(_told(request, _unsuccessful(run)) for run in found if run.status not in ENDED)
    document = _with_error(shapes.followed_document(found), errors)
    return CommandResult(document, lambda console: report.print_followed(console, stage, found), errors)


def _tell(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    lease = operations.tell(stage, request.tables[0], request.command, request.limits)
    document = shapes.reported_document(request.command, lease, request.limits)
    return CommandResult(document, lambda console: report.print_reported(console, request, lease))


def _take_over(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations, table, dry_run = load_operations(), request.tables[0], request.options.dry_run
    stage = _open(operations, request, folder, recorder)
    if request.command == "stamp":
        taken = operations.stamp(stage, folder, table, request.to or 0, recorder, dry_run=dry_run)
    else:
        taken = operations.adopt(stage, folder, table, recorder, dry_run=dry_run)
    document = shapes.take_over_document(taken)
    return CommandResult(document, lambda console: report.print_take_over(console, request, taken))


def _prepare(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations, table, version = load_operations(), request.tables[0], request.number or 0
    stage = _open(operations, request, folder, recorder)
    dry_run, runner = request.options.dry_run, request.options.runner
    prepared = operations.prepare(stage, folder, table, version, recorder, dry_run=dry_run, runner=runner)
    document = shapes.prepared_document(table, version, prepared, dry_run)
    return CommandResult(document, lambda console: report.print_prepared(console, request, prepared))


def _init(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    return _files(request, operations.init(stage, folder, request.tables, dry_run=request.options.dry_run))


def _create(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.config.stage import load_stage

    operations, dry_run = load_operations(), request.options.dry_run
    _check_tables(load_stage(request.stage, folder), request)
    return _files(request, operations.create(folder, request.tables[0], request.name, dry_run=dry_run))


def _local(request: Request, folder: Path) -> CommandResult:
    local = load_local()
    if request.command == "local stop":
        local.stop(folder)
    elif request.command == "local reset":
        local.reset(folder)
    status = local.status(folder)
    return CommandResult(shapes.local_document(status), lambda console: report.print_local(console, status))


def _deploy(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.cli import short_reports as deploy_report
    from dynamodt.config.stage import load_stage
    from dynamodt.deploy import deploy

    stage = load_stage(request.stage, folder)
    made = deploy.deploy(stage, folder, recorder, request.options.dry_run)
    document = deploy_report.deployment_document(made)
    return CommandResult(document, lambda console: deploy_report.print_deployment(console, request, made))


def _destroy(request: Request, folder: Path, recorder: ProgressRecorder) -> CommandResult:
    from dynamodt.cli import short_reports as deploy_report
    from dynamodt.cli.menu import confirm
    from dynamodt.config.stage import load_stage
    from dynamodt.deploy import destroy

    stage, dry_run = load_stage(request.stage, folder), request.options.dry_run
    found = destroy.destroy(stage, folder, recorder, purge=request.purge, dry_run=True)
    if found.removed and not dry_run:
        confirm(request, found)
    if not dry_run:
        found = destroy.destroy(stage, folder, recorder, purge=request.purge, agreed=found)
    document = deploy_report.removal_document(found)
    return CommandResult(document, lambda console: deploy_report.print_removal(console, request, found))


_COMMANDS: dict[str, Callable[[Request, Path, ProgressRecorder], CommandResult]] = {
    "init": _init,
    "create": _create,
    "prepare": _prepare,
    "up": _migrate,
    "down": _migrate,
    "undo": _undo,
    "retry": _retry,
    "history": _history,
    "status": _status,
    "runs": _runs,
    "deploy": _deploy,
    "destroy": _destroy,
    **dict.fromkeys(TOLD, _tell),
    **dict.fromkeys(TAKEN_OVER, _take_over),
}


def _files(request: Request, files: Sequence[Path]) -> CommandResult:
    document = shapes.files_document(files, request.options.dry_run)
    return CommandResult(document, lambda console: report.print_files(console, request, files))


def _require_transforms(folder: Path) -> None:
    if not (folder / "transforms").is_dir():
        hint = "go to the folder that holds transforms/, or make one: dynamodt init --table users"
        raise UsageError("there is no folder transforms/ here", where=str(folder), hint=hint)


def _with_told_error(request: Request, table: TableReport) -> TableReport:
    """A run that did not end well is a failure, whether or not it came with an error of its own."""
    error = table.error
    if error is None:
        error = next((_unsuccessful(run) for run in table.versions if run.status in ("failed", "stopped")), None)
    return replace(table, error=None if error is None else _told(request, error))


def _unsuccessful(run: RunReport) -> DynamodtError:
    hint = f"dynamodt {run.direction} --table {run.table} goes on with it" if run.status == "gone" else ""
    what = run.error.removeprefix(f"{run.dead_letters}: ") or f"the run {run.status}"
    return RunFailed(what, where=f"{run.table} v{run.version} {run.name}", hint=hint)


def _told(request: Request, error: BaseException) -> BaseException:
    """The error as it is told: whoever made its hint knew neither the stage nor the command."""
    if isinstance(error, KeyboardInterrupt):
        error = _stopped(request, error)
    if isinstance(error, OSError):
        error = _of_the_disk(error)
    if not isinstance(error, DynamodtError):
        return error
    hint = error.hint
    if isinstance(error, DeadLetters) and request.options.dry_run:
        hint = f"each line names the key and the error; mend the script or the data, then: {as_typed(request)}"
    return error.hinted(with_stage(hint, request.stage))


def _of_the_disk(error: OSError) -> BaseException:
    """A full disk or a read-only folder is no fault of the program, whichever file it is met at."""
    from dynamodt.dynamodb.clients import file_error, is_of_the_disk

    return file_error("used", os.fsdecode(error.filename or ""), error) if is_of_the_disk(error) else error


def _stopped(request: Request, error: KeyboardInterrupt) -> StoppedError:
    if request.interactive:
        return StoppedError.by(error, f"nothing was started; to choose again: {PROGRAM} -i")
    if request.follow:
        return StoppedError.by(error, f"whatever runs goes on; to watch it again: {as_typed(request)}")
    if request.options.runner == GLUE:
        return StoppedError.by(error, f"if its job was started, it goes on; to follow it: {as_typed(request)}")
    if request.options.dry_run:
        return StoppedError.by(error, f"nothing was written; to begin again: {as_typed(request)}")
    if request.command not in MOVES:
        return StoppedError.by(error, f"to go on, run the same command again: {as_typed(request)}")
    return StoppedError.by(
        error,
        "`dynamodt status` shows where things stand; the same command goes on from the last checkpoint: "
        f"{as_typed(request)}",
    )


def _render_moves(request: Request, stage: Stage | None, tables: Sequence[TableReport], console: Console) -> None:
    report.print_moves(console, request, stage, tables)
