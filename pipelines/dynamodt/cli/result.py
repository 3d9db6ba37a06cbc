"""The result of a command, and its errors as they are reported: with the stage and the command in their hints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamodt.cli import json_output
from dynamodt.cli.plugin import with_needs, with_plugin
from dynamodt.cli.request import Request, as_typed, with_higher_limit, with_stage, with_tables
from dynamodt.errors import (
    PROGRAM,
    CostReached,
    DeadLetters,
    DynamodtError,
    Hint,
    RunFailed,
    ServiceError,
    file_error,
    is_of_the_disk,
    suggest,
)
from dynamodt.model.reports import RunReport
from dynamodt.model.tables import TableNames
from dynamodt.pipeline.process import StoppedError
from dynamodt.runs.options import GLUE, MIGRATIONS, command_argv

if TYPE_CHECKING:
    from rich.console import Console

_MOST_SERIOUS_FIRST = (130, 143, 1, 2, 3)


@dataclass(frozen=True)
class CommandResult:
    """`document` is what `--json` prints, `render` prints the same as text, `errors` are printed on stderr."""

    document: json_output.Document
    render: Callable[[Console], None]
    errors: tuple[BaseException, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of several errors the most serious decides: a stop, then 1, 2 and 3."""
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
    return with_needs(as_typed(request), command_argv(request), request.stage)


def with_retry_hint(request: Request, error: BaseException) -> BaseException:
    """A run that lost a service is continued by the same command, which the hint has."""
    if not isinstance(error, ServiceError) or "same command" in error.hint:
        return error
    again = request.options.dry_run or request.command == "prepare"
    way = "to start again" if again else "the same command continues it from its last checkpoint"
    return error.hinted(f"{error.hint}; {way}: " + _typed(request) if error.hint else f"{way}: {_typed(request)}")


def unsuccessful(run: RunReport, names: TableNames) -> DynamodtError:
    hint = suggest(run.direction, table=run.table) + " continues it" if run.status == "gone" else ""
    what = run.error.removeprefix(f"{run.dead_letters}: ") or f"the run {run.status}"
    return RunFailed(what, where=f"{names.shown(run.table)} v{run.version} {run.name}", hint=hint)


def reported(request: Request, error: BaseException, names: TableNames) -> BaseException:
    """The error as it is printed: with the stage and the command in its hint, and with its table's names."""
    if isinstance(error, KeyboardInterrupt):
        error = _stop_error(request, error)
    if isinstance(error, OSError):
        error = _disk_error(error)
    if not isinstance(error, DynamodtError):
        return error
    hint = error.hint
    if isinstance(error, CostReached):
        hint = Hint(
            f"what is done stays; to continue from the last checkpoint: {_typed(with_higher_limit(request, error))}"
        )
    if isinstance(error, DeadLetters) and request.options.dry_run:
        hint = Hint(f"each line names the key and the error; fix the script or the data, then: {_typed(request)}")
    hint = with_plugin(with_tables(with_stage(hint, request.stage), names), request.stage)
    return error.hinted(hint, names.in_text(error.where), names.in_text(error.what))


def _disk_error(error: OSError) -> BaseException:
    """A full disk or a read-only folder is an expected error, with any file."""
    return file_error("used", os.fsdecode(error.filename or ""), error) if is_of_the_disk(error) else error


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
        seen.setdefault(text, error)
    return list(seen.values())


def similar(unknown: str, known: Sequence[str]) -> str:
    """The options that are written much as an unknown one."""
    from difflib import get_close_matches

    plain = {name.lower().strip("-").replace("_", "").replace("-", ""): name for name in known if len(name) > 2}
    found = get_close_matches(unknown.lower().strip("-").replace("_", "").replace("-", ""), plain, 2, 0.7)
    return " or ".join(plain[name] for name in found)
