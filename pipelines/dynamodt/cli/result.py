"""The result of a command, and its errors as they are reported: with the stage and the command in their hints.

`not_applied` is the error of `status --check`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamodt.cli import json_output
from dynamodt.cli.next_steps import with_higher_limit
from dynamodt.cli.request import Request, as_typed, completed, with_needs, with_plugin
from dynamodt.errors import (
    PROGRAM,
    CostReached,
    DeadLetters,
    DynamodtError,
    Hint,
    Refused,
    RunFailed,
    ServiceError,
    file_error,
    is_of_the_disk,
    suggest,
)
from dynamodt.model.reports import RunReport, TableStatus, VersionStatus, pick
from dynamodt.model.tables import TableNames
from dynamodt.pipeline.process import StoppedError
from dynamodt.runs.history import goal
from dynamodt.runs.options import GLUE, MIGRATIONS
from dynamodt.script.versions import bring_back, file_of
from dynamodt.state.runs import or_undo

if TYPE_CHECKING:
    from rich.console import Console

_MOST_SERIOUS_FIRST = (130, 143, 1, 2, 3)


@dataclass(frozen=True)
class CommandResult:
    """`--json` prints `document`, `render` prints the same as text; `errors` are printed on stderr."""

    document: json_output.Document
    render: Callable[[Console], None]
    errors: tuple[BaseException, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the most serious error: a stop, then 1, 2 and 3."""
        if not self.errors:
            return 0
        code: int = min(map(json_output.error_document, self.errors), key=_seriousness)["exit_code"]
        return code


def with_error(document: json_output.Document, errors: Sequence[BaseException]) -> json_output.Document:
    """The document with the most serious of the errors, the first of its kind, if there is any."""
    if not errors:
        return document
    return {**document, "error": min(map(json_output.error_document, errors), key=_seriousness)}


def _seriousness(error: json_output.Document) -> int:
    return _MOST_SERIOUS_FIRST.index(error["exit_code"])


def _typed(request: Request) -> str:
    return with_needs(as_typed(request), request)


def with_retry_hint(request: Request, error: BaseException) -> BaseException:
    """Adds the same command to the hint of a ServiceError, since it continues the run."""
    if not isinstance(error, ServiceError) or "same command" in error.hint:
        return error
    again = request.options.dry_run or request.command == "prepare"
    way = "to start again" if again else "the same command continues it from its last checkpoint"
    return error.hinted(f"{error.hint}; {way}: " + _typed(request) if error.hint else f"{way}: {_typed(request)}")


def run_error(run: RunReport, names: TableNames) -> DynamodtError:
    hint = suggest(run.direction, table=run.table, to=goal(run)) + " continues it" if run.status == "gone" else ""
    what = run.error.removeprefix(f"{run.dead_letters}: ") or f"the run {run.status}"
    return RunFailed(what, where=f"{names.shown(run.table)} v{run.version} {run.name}", hint=hint)


def printed_error(request: Request, error: BaseException, names: TableNames) -> BaseException:
    """The error as it is printed: with the stage and the command in its hint, and with its table's names."""
    if isinstance(error, KeyboardInterrupt):
        error = _stop_error(request, error)
    if isinstance(error, OSError):
        error = file_error("used", os.fsdecode(error.filename or ""), error) if is_of_the_disk(error) else error
    if not isinstance(error, DynamodtError):
        return error
    hint = error.hint
    if isinstance(error, CostReached):
        again = _typed(with_higher_limit(request, error))
        hint = Hint(f"what is done stays; to continue from the last checkpoint: {again}")
    if isinstance(error, DeadLetters) and request.options.dry_run:
        lines = "" if request.command == "retry" else "each line names the key and the error; "  # of the named file
        hint = Hint(f"{lines}fix the script or the data, then: {_typed(request)}")
    hint = with_plugin(completed(hint, request, names), request.stage)
    return error.hinted(hint, names.in_text(error.where), names.in_text(error.what))


def with_subject(error: BaseException, table: str, version: int = 0, run: str = "") -> BaseException:
    """The printed error, with the table, version and run that it is about. A refusal may name the run."""
    if isinstance(error, DynamodtError):
        error.subject = table, version, run or (error.run if isinstance(error, Refused) else "")
    return error


def _stop_error(request: Request, error: KeyboardInterrupt) -> StoppedError:
    if request.interactive:
        return StoppedError.by(error, f"nothing was started; to choose again: {PROGRAM} -i")
    if request.follow:
        return StoppedError.by(error, f"the runs continue; to watch them again: {_typed(request)}")
    if request.options.runner == GLUE:
        return StoppedError.by(error, f"a job that was started continues; to follow it: {_typed(request)}")
    if request.options.dry_run:
        return StoppedError.by(error, f"nothing was written; to start again: {_typed(request)}")
    if request.command not in MIGRATIONS:
        return StoppedError.by(error, f"to continue, run the same command again: {_typed(request)}")
    return StoppedError.by(
        error,
        suggest("status") + " shows the progress; the same command continues from the last checkpoint: "
        f"{_typed(request)}",
    )


def without_duplicates(errors: Sequence[BaseException]) -> list[BaseException]:
    """The errors, one for several tables only once."""
    seen: dict[object, BaseException] = {}
    for error in errors:
        text = (error.what, error.where, error.hint) if isinstance(error, DynamodtError) else id(error)
        first = seen.setdefault(text, error)
        if first is not error:
            with_subject(first, "")
    return list(seen.values())


def similar(unknown: str, known: Sequence[str]) -> str:
    """The options whose names resemble an unknown one."""
    from difflib import get_close_matches

    plain = {name.lower().strip("-").replace("_", "").replace("-", ""): name for name in known if len(name) > 2}
    found = get_close_matches(unknown.lower().strip("-").replace("_", "").replace("-", ""), plain, 2, 0.7)
    return " or ".join(plain[name] for name in found)


# ---------------------------------------------------------------- status --check


def left(status: TableStatus) -> tuple[VersionStatus, ...]:
    """The versions that `status --check` reports: pending, running, unfinished, edited or missing."""
    return tuple(version for version in status.versions if version.state != "applied")


def not_applied(status: TableStatus) -> DynamodtError | None:
    """The reason why `status --check` fails for a table; None if it succeeds."""
    by_state: dict[str, list[str]] = {}
    for version in left(status):
        by_state.setdefault(version.state, []).append(f"v{version.version} {version.name}")
    parts = [f"{state}: {', '.join(names)}" for state, names in by_state.items()]
    parts += ["the table was created again after its last run"] if status.younger else []
    parts += [status.older_state] if status.older_state else []
    parts += [status.not_compared] if status.unread else []
    if not parts:
        return None
    return DynamodtError("; ".join(parts), where=f"table {status.table}", hint=_next_command(status, set(by_state)))


def _next_command(status: TableStatus, states: set[str]) -> Hint:
    if status.younger or status.older_state:
        return "record which versions are applied: " + suggest("stamp", table=status.table, to="N")
    if status.unread and not states:
        return status.unread.hint
    if states == {"missing"}:
        return Hint("use the release that has the files: what is applied stays as it is")
    undone = next((v.run for v in left(status) if v.run and v.run.status in ("undoing", "partly-undone")), None)
    if undone is not None:
        return "finish the undo: " + suggest("undo", undone.run)
    unended = next((v.run for v in left(status) if v.run), None)
    if "edited" in states and unended is not None:
        return f"revert the edit, and finish the run {unended.run}" + or_undo(unended)
    if states & {"edited", "missing"}:
        return _restore(status, "edited" in states)
    if states == {"running"}:
        return suggest("status", follow=True) + " watches the run"
    return _finish(status)


def _finish(status: TableStatus) -> Hint:
    """The command for pending or unfinished versions. The file of an unfinished one may be missing."""
    back = next((v.run for v in left(status) if v.run and v.run.direction == "down"), None)
    if back is not None:
        return "finish it: " + suggest("down", table=status.table, to=back.version - 1)
    if (lost := next((v for v in left(status) if v.run and not v.path), None)) is not None:
        return f"bring {file_of(lost)} back, and finish it: " + suggest("up", table=status.table, to=lost.version)
    return "apply them: " + suggest("up", table=status.table)


def _restore(status: TableStatus, edited: bool) -> Hint:
    """The hint for versions whose applied files are not here. `repair` accepts no file under another name."""
    others = [v for v in status.versions if v.state == "edited" and not v.path.endswith(f"/{file_of(v)}")]
    if others:
        return bring_back(others[0])
    restore = Hint("restore the applied file, and make the change in a new version")
    repair = "; or accept the edit: " + suggest("repair", table=status.table, reason="WHY")
    return restore + repair if edited else restore


def check_document(found: Sequence[TableStatus]) -> json_output.Document:
    """The `check` of `status --check --json`: the versions that are left."""
    versions = [
        {"table": status.table, **pick(version, "version name state")} for status in found for version in left(status)
    ]
    passed = not any(not_applied(status) or status.error for status in found)
    return {"passed": passed, "left": versions}
