"""The results of the commands that touch no items: `validate`, `stamp`, `import-history`, `repair`, `deploy` and
`destroy`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dynamodt.cli.json_output import Document, error_document
from dynamodt.cli.next_steps import after_baseline, after_deploy
from dynamodt.cli.report import STYLES, facts_lines, print_steps, show, texts_kept
from dynamodt.cli.request import Request
from dynamodt.model.reports import TakeOver, VersionOutcome, counted
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableNames

if TYPE_CHECKING:
    from dynamodt.deploy.deploy import Deployment
    from dynamodt.deploy.destroy import Removal
    from dynamodt.deploy.stacks import ResourceChange
    from dynamodt.model.runs import Script
    from dynamodt.runs.validation import ValidatedTable, Validation


_WORDS = {
    "created": "is deployed",
    "updated": "is updated",
    "unchanged": "Nothing to do: the stack is up to date",
    "dry-run": "dry run: nothing was changed",
}
_BY_EMAIL, _ADDRESS = "AlarmsByEmail", "AlarmsTo"  # in the template: the subscription, and its address
_MARKS = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "+"}


def print_deployment(console: Console, request: Request, made: Deployment) -> None:
    """The changes, the stack's outputs, and the next steps."""
    show(console, Text.assemble((made.stack, "bold"), f"  {_WORDS[made.status]}"))
    outputs = {} if made.status == "dry-run" else made.outputs
    show(console, *map(_change, made.changes), *facts_lines(outputs))
    if any(change.resource == _BY_EMAIL for change in made.changes) and _ADDRESS in made.outputs:
        mail = f"AWS has sent a mail to {made.outputs[_ADDRESS]}: alarms are sent there after it is confirmed"
        show(console, Text(mail, "yellow"))
    console.print()
    if made.status != "dry-run" or made.changes:
        print_steps(console, request, after_deploy(request, made.status == "dry-run"))


def print_removal(console: Console, request: Request, removal: Removal) -> None:
    """The deleted and the kept resources."""
    if removal.status == "nothing":
        show(console, Text.assemble(("Nothing to do: ", "bold"), f"{removal.stack} does not exist"))
    word = "would be deleted" if removal.status == "dry-run" else "deleted"
    show(console, *(Text.assemble((f"{word}  ", "bold"), one) for one in removal.removed))
    show(console, *(Text.assemble(("stays  ", "dim"), one) for one in removal.kept))
    if removal.kept and not request.purge:
        show(console, Text("the next `deploy` uses the kept resources again", "dim"))


def _change(change: ResourceChange) -> Text:
    line = Text(f"  {_MARKS.get(change.action, change.action)} {change.resource}  ")
    line.append(change.type, "dim")
    return line.append("  is replaced", "yellow") if change.replacement else line


# ---------------------------------------------------------------- validate


def validation_document(found: Validation) -> Document:
    """The document of `validate`."""
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
    """The versions that were recorded, or would be, and the next steps."""
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
    print_steps(console, request, after_baseline(request, taken))


def _baseline_record(run: RunRecord) -> Text:
    title = Text.assemble((f"  v{run.version} {run.name}", "bold"), f"  {run.direction}  ")
    title.append(run.status, STYLES[run.status]).append(f"  {run.ended}", "dim")
    return Text("\n").join([title, *texts_kept(run)])


def _left_as_it_was(one: VersionOutcome) -> Text:
    what = "applied; its file was edited since, which `repair` accepts" if one.outcome == "edited" else "applied before"
    return Text.assemble((f"  v{one.version} {one.name}", "bold"), f"  unchanged  {what}")
