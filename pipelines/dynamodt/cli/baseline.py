"""The results of `stamp`, `import-history` and `repair` as text: what was recorded, and what stays as it was."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from dynamodt.cli.report import STYLES, show, steps_text
from dynamodt.cli.request import Request, after_baseline
from dynamodt.model.reports import TakeOver, VersionOutcome
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableNames
from dynamodt.runs.shown import printable


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
    """Of an accepted edit: why, and where both texts are."""
    if run.status != "repaired":
        return []
    was = run.text_before or "not kept: the version was recorded without its text"
    lines = [f"    reason: {printable(run.reason)}", f"    text that was applied: {was}"]
    return [Text(line) for line in (*lines, *([f"    text that was accepted: {run.text}"] if run.text else []))]
