"""Each verb: call its operation, and make of the result one answer, for a person and for a program."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynamodt.control.requests import (
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
from dynamodt.control.terminal import report, runs_report, shapes
from dynamodt.control.terminal.interrupts import StoppedError
from dynamodt.control.terminal.next_steps import as_typed, with_stage
from dynamodt.control.terminal.progress import Recorder
from dynamodt.control.terminal.streams import drop_output
from dynamodt.core.lifecycle import ENDED
from dynamodt.core.names import check_no_state_table
from dynamodt.errors import DeadLetters, DynamodtError, RunFailed, UsageError
from dynamodt.model import RunReport, Stage, TableReport

if TYPE_CHECKING:
    from rich.console import Console

_MOST_SERIOUS_FIRST = (130, 143, 1, 2, 3)


@dataclass(frozen=True)
class Answer:
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


def execute(request: Request, folder: Path, recorder: Recorder) -> Answer:
    """Carries a request out in `folder`, the one that holds `transforms/`. Raises what the operation raises;
    an error that ended one of several tables is in the answer instead."""
    check(request)
    if request.verb.startswith("local "):
        return _local(request, folder)
    if request.verb != "init":
        _require_transforms(folder)
    if request.verb in (*MOVES, *OF_A_RUN):
        _check_runner(request.options)
    return _VERBS[request.verb](request, folder, recorder)


def _check_runner(options: RunOptions) -> None:
    from dynamodt.control.runner import check_runner

    check_runner(options)


def ended_early(request: Request, recorder: Recorder | None, error: BaseException) -> Answer:
    """The answer of a command that an error or an interrupt cut short: what was done so far, and the error."""
    reports = recorder.reports() if recorder is not None and request.verb in (*MOVES, "retry") else []
    told = _told(request, error)
    document: shapes.Document = shapes.tables_document(reports) if reports else {}
    document["error"] = shapes.error_document(told)
    return Answer(document, partial(_render_moves, request, None, reports), (told,))


def _with_error(document: shapes.Document, errors: Sequence[BaseException]) -> shapes.Document:
    """The document with the most serious of the errors, the first of its kind, if there is any."""
    if not errors:
        return document
    return {**document, "error": min(map(shapes.error_document, errors), key=_seriousness)}


def _seriousness(error: shapes.Document) -> int:
    return _MOST_SERIOUS_FIRST.index(error["exit_code"])


def load_operations() -> Operations:
    """Late, because it brings boto3 with it."""
    from dynamodt.control import operations

    return operations


def load_local() -> LocalOperations:
    """Late, for the same reason."""
    from dynamodt.control import local

    return local


def _open(operations: Operations, request: Request, folder: Path, recorder: Recorder) -> Stage:
    """The stage, ready for the tables that the command names. Raises Refused for one that is dynamodt's own."""
    stage = operations.open_stage(request.stage, folder, recorder)
    _check_tables(stage, request)
    return stage


def _check_tables(stage: Stage, request: Request) -> None:
    for table in request.tables:
        check_no_state_table(stage, table)


# ---------------------------------------------------------------- the verbs


def _move(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    move = operations.up if request.verb == "up" else operations.down
    return _moved(request, stage, move(stage, folder, request.tables, request.to, request.options, recorder))


def _moved(request: Request, stage: Stage, found: Sequence[TableReport]) -> Answer:
    tables = [_with_told_error(request, table) for table in found]
    errors = tuple(table.error for table in tables if table.error is not None)
    document = _with_error(shapes.tables_document(tables), errors)
    return Answer(document, partial(_render_moves, request, stage, tables), errors)


def _undo(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    found = operations.undo(stage, folder, request.tables, request.run, request.options, recorder)
    errors = () if found.error is None else (_told(request, found.error),)
    document = shapes.undo_document(found)
    return Answer(document, lambda console: report.print_undo(console, request, stage, found), errors)


def _retry(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    return _moved(
        request, stage, operations.retry(stage, folder, request.tables, request.run, request.options, recorder)
    )


def _history(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    found = operations.history(stage, folder, request.tables)
    younger = {table: told for table, runs in found.items() if (told := operations.younger(stage, table, runs))}
    document = shapes.history_document(found, younger)
    return Answer(document, lambda console: report.print_history(console, found, request.stage, younger))


def _status(request: Request, folder: Path, recorder: Recorder) -> Answer:
    if request.follow:
        return _follow(request, folder, recorder)
    operations = load_operations()
    found = operations.status(_open(operations, request, folder, recorder), folder, request.tables)
    errors = tuple(_told(request, status.error) for status in found if status.error is not None)
    document = _with_error(shapes.status_document(found), errors)
    return Answer(document, lambda console: report.print_status(console, found, request.stage), errors)


def _runs(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    found = operations.runs(_open(operations, request, folder, recorder), folder, request.tables)
    return Answer(shapes.runs_document(found), lambda console: runs_report.print_runs(console, found))


def _follow(request: Request, folder: Path, recorder: Recorder) -> Answer:
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
    return Answer(document, lambda console: report.print_followed(console, stage, found), errors)


def _tell(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    lease = operations.tell(stage, request.tables[0], request.verb, request.limits)
    document = shapes.told_document(request.verb, lease, request.limits)
    return Answer(document, lambda console: report.print_told(console, request, lease))


def _take_over(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations, table, dry_run = load_operations(), request.tables[0], request.options.dry_run
    stage = _open(operations, request, folder, recorder)
    if request.verb == "stamp":
        taken = operations.stamp(stage, folder, table, request.to or 0, recorder, dry_run=dry_run)
    else:
        taken = operations.adopt(stage, folder, table, recorder, dry_run=dry_run)
    document = shapes.take_over_document(taken)
    return Answer(document, lambda console: report.print_take_over(console, request, taken))


def _prepare(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations, table, version = load_operations(), request.tables[0], request.number or 0
    stage = _open(operations, request, folder, recorder)
    dry_run, runner = request.options.dry_run, request.options.runner
    prepared = operations.prepare(stage, folder, table, version, recorder, dry_run=dry_run, runner=runner)
    document = shapes.prepared_document(table, version, prepared, dry_run)
    return Answer(document, lambda console: report.print_prepared(console, request, prepared))


def _init(request: Request, folder: Path, recorder: Recorder) -> Answer:
    operations = load_operations()
    stage = _open(operations, request, folder, recorder)
    return _files(request, operations.init(stage, folder, request.tables, dry_run=request.options.dry_run))


def _create(request: Request, folder: Path, recorder: Recorder) -> Answer:
    from dynamodt.control.stage import load_stage

    operations, dry_run = load_operations(), request.options.dry_run
    _check_tables(load_stage(request.stage, folder), request)
    return _files(request, operations.create(folder, request.tables[0], request.name, dry_run=dry_run))


def _local(request: Request, folder: Path) -> Answer:
    local = load_local()
    if request.verb == "local stop":
        local.stop(folder)
    elif request.verb == "local reset":
        local.reset(folder)
    status = local.status(folder)
    return Answer(shapes.local_document(status), lambda console: report.print_local(console, status))


def _deploy(request: Request, folder: Path, recorder: Recorder) -> Answer:
    from dynamodt.control.deploying import deploy
    from dynamodt.control.stage import load_stage
    from dynamodt.control.terminal import deploy_report

    stage = load_stage(request.stage, folder)
    made = deploy.deploy(stage, folder, recorder, request.options.dry_run)
    document = deploy_report.deployment_document(made)
    return Answer(document, lambda console: deploy_report.print_deployment(console, request, made))


def _destroy(request: Request, folder: Path, recorder: Recorder) -> Answer:
    from dynamodt.control.deploying import destroy
    from dynamodt.control.stage import load_stage
    from dynamodt.control.terminal import deploy_report
    from dynamodt.control.terminal.confirming import confirm

    stage, dry_run = load_stage(request.stage, folder), request.options.dry_run
    found = destroy.destroy(stage, folder, recorder, purge=request.purge, dry_run=True)
    if found.removed and not dry_run:
        confirm(request, found)
    if not dry_run:
        found = destroy.destroy(stage, folder, recorder, purge=request.purge, agreed=found)
    document = deploy_report.removal_document(found)
    return Answer(document, lambda console: deploy_report.print_removal(console, request, found))


_VERBS: dict[str, Callable[[Request, Path, Recorder], Answer]] = {
    "init": _init,
    "create": _create,
    "prepare": _prepare,
    "up": _move,
    "down": _move,
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


def _files(request: Request, files: Sequence[Path]) -> Answer:
    document = shapes.files_document(files, request.options.dry_run)
    return Answer(document, lambda console: report.print_files(console, request, files))


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
    from dynamodt.aws.failures import file_error, is_of_the_disk

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
    if request.verb not in MOVES:
        return StoppedError.by(error, f"to go on, run the same command again: {as_typed(request)}")
    return StoppedError.by(
        error,
        "`dynamodt status` shows where things stand; the same command goes on from the last checkpoint: "
        f"{as_typed(request)}",
    )


def _render_moves(request: Request, stage: Stage | None, tables: Sequence[TableReport], console: Console) -> None:
    report.print_moves(console, request, stage, tables)
