"""What the commands before a run show, as text and as JSON: `validate`, and what `status --check` finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from dynamodt.cli.json_output import error_document
from dynamodt.cli.report import show
from dynamodt.errors import DynamodtError, Hint, suggest
from dynamodt.model.reports import TableStatus, VersionStatus, picked
from dynamodt.runs.pace import counted

if TYPE_CHECKING:
    from rich.console import Console

    from dynamodt.model.runs import Script
    from dynamodt.runs.validation import ValidatedTable, Validation

Document = dict[str, Any]

# ---------------------------------------------------------------- status --check

_APPLIED = "applied"


def left(status: TableStatus) -> tuple[VersionStatus, ...]:
    """The versions that are not applied as they were applied: pending, running, unfinished, edited or missing."""
    return tuple(version for version in status.versions if version.state != _APPLIED)


def not_applied(status: TableStatus) -> DynamodtError | None:
    """Why `status --check` fails for a table; None if it does not."""
    by_state: dict[str, list[str]] = {}
    for version in left(status):
        by_state.setdefault(version.state, []).append(f"v{version.version} {version.name}")
    parts = [f"{state}: {', '.join(names)}" for state, names in by_state.items()]
    parts += ["the table is younger than its last run"] if status.younger else []
    if not parts:
        return None
    return DynamodtError("; ".join(parts), where=f"table {status.table}", hint=_way_on(status, set(by_state)))


def _way_on(status: TableStatus, states: set[str]) -> Hint:
    if status.younger:
        return "record which versions are applied: " + suggest("stamp", table=status.table, to="N")
    if states == {"missing"}:
        return Hint("use the release that has the files: what is applied stays as it is")
    undone = next((v.run for v in left(status) if v.run and v.run.status in ("undoing", "partly-undone")), None)
    if undone is not None:
        return "finish the undo: " + suggest("undo", undone.run)
    half_done = next((v.run for v in left(status) if v.run), None)
    if "edited" in states and half_done is not None:
        return f"revert the edit, and finish the run {half_done.run}; or take it back: " + suggest(
            "undo", half_done.run
        )
    if states & {"edited", "missing"}:
        way = "bring the file back as it was applied, and put a change into a new version; or accept an edit: "
        return way + suggest("repair", table=status.table, reason="WHY")
    if states == {"running"}:
        return suggest("status", follow=True) + " watches the run"
    back = next((v.run for v in left(status) if v.run and v.run.direction == "down"), None)
    if back is not None:
        return "finish it: " + suggest("down", table=status.table, to=back.version - 1)
    return "apply them: " + suggest("up", table=status.table)


def check_document(found: Sequence[TableStatus]) -> Document:
    """The part of `status --check --json` that says what is left."""
    versions = [
        {"table": status.table, **picked(version, "version name state")} for status in found for version in left(status)
    ]
    passed = not any(not_applied(status) or status.error for status in found)
    return {"passed": passed, "left": versions}


# ---------------------------------------------------------------- validate


def validation_document(found: Validation) -> Document:
    """What `validate` prints."""
    return {
        "valid": not found.all_errors,
        "tables": [_validated(table) for table in found.tables],
        "errors": [error_document(error) for error in found.errors],
    }


def _validated(table: ValidatedTable) -> Document:
    return {
        "table": table.table,
        "files": list(table.files),
        "versions": [_version(script) for script in table.versions],
        "errors": [error_document(error) for error in table.errors],
    }


def _version(script: Script) -> Document:
    functions: Mapping[str, bool] = {
        "up": script.has_up,
        "down": script.has_down,
        "prepare": script.has_prepare,
        "items": script.has_items,
    }
    defined = [name for name, given in functions.items() if given]
    return {"version": script.sequence, "name": script.name, "path": script.path, "functions": defined}


def print_validation(console: Console, found: Validation) -> None:
    """A line for each table; the errors are printed by the command line."""
    width = max(len(table.table) for table in found.tables)
    for table in found.tables:
        number = len(table.errors)
        result = (counted(number, "error"), "bold red") if number else ("valid", "green")
        line = Text.assemble((f"{table.table:<{width}}", "bold"), f"  {counted(len(table.files), 'version')}  ", result)
        show(console, line)
