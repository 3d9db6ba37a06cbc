"""The output of commands that run no version: `validate` and what `status --check` finds, as text and as JSON, and as
text what `stamp`, `import-history` and `repair` have recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dynamodt.cli.json_output import error_document
from dynamodt.cli.report import STYLES, show, steps_text
from dynamodt.cli.request import Request, after_baseline
from dynamodt.errors import DynamodtError, Hint, suggest
from dynamodt.model.reports import TableStatus, TakeOver, VersionOutcome, VersionStatus, picked
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableNames
from dynamodt.runs.display import printable
from dynamodt.runs.pace import counted

if TYPE_CHECKING:
    from dynamodt.model.runs import Script
    from dynamodt.runs.validation import ValidatedTable, Validation

Document = dict[str, Any]

# ---------------------------------------------------------------- status --check

_APPLIED = "applied"


def left(status: TableStatus) -> tuple[VersionStatus, ...]:
    """The versions that `status --check` reports: pending, running, unfinished, edited or missing."""
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
    return DynamodtError("; ".join(parts), where=f"table {status.table}", hint=_next_command(status, set(by_state)))


def _next_command(status: TableStatus, states: set[str]) -> Hint:
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
        way = "restore the applied file, and make the change in a new version; or accept the edit: "
        return way + suggest("repair", table=status.table, reason="WHY")
    if states == {"running"}:
        return suggest("status", follow=True) + " watches the run"
    back = next((v.run for v in left(status) if v.run and v.run.direction == "down"), None)
    if back is not None:
        return "finish it: " + suggest("down", table=status.table, to=back.version - 1)
    return "apply them: " + suggest("up", table=status.table)


def check_document(found: Sequence[TableStatus]) -> Document:
    """The `check` of `status --check --json`: the versions that are left."""
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


# ---------------------------------------------------------------- stamp, import-history and repair


def print_baseline(console: Console, request: Request, taken: TakeOver, names: TableNames = TableNames()) -> None:
    """The versions that were recorded, or would be, and what to try next."""
    table = names.shown(taken.table)
    if taken.records:
        dry, done = ("dry run: nothing was recorded", "bold cyan"), ("recorded, and nothing run", "bold")
        at = f": {table} {'would be' if taken.dry_run else 'is'} at version {taken.at}"
        show(console, Text.assemble(dry if taken.dry_run else done, at))
        show(console, *map(_baseline_record, taken.records))
    else:
        show(console, Text.assemble(("Nothing to do: ", "bold"), f"{table} is at version {taken.at}"))
    recorded = {record.version for record in taken.records}
    show(console, *(_left_as_it_was(one) for one in taken.outcomes if one.version not in recorded))
    show(console, steps_text(after_baseline(request, taken), console.width))


def _baseline_record(run: RunRecord) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    title.append(run.status, STYLES[run.status]).append(f"  {run.ended}", "dim")
    return Text("\n").join([title, *texts_kept(run)])


def _left_as_it_was(one: VersionOutcome) -> Text:
    what = "applied; its file was edited since, which `repair` accepts" if one.outcome == "edited" else "applied before"
    return Text.assemble((f"  v{one.version} {one.name}", "bold"), f"  unchanged  {what}")


def texts_kept(run: RunRecord) -> list[Text]:
    """The reason for an accepted edit, and the locations of both texts."""
    if run.status != "repaired":
        return []
    was = run.text_before or "not kept: the version was recorded without its text"
    lines = [f"    reason: {printable(run.reason)}", f"    text that was applied: {was}"]
    return [Text(line) for line in (*lines, *([f"    text that was accepted: {run.text}"] if run.text else []))]
