"""`runs` for a person: a line a run, within 80 columns; the holder of one that is at work stands below it.

What `deploy` and `destroy` have done, for a person and for a program.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dynamodt.cli.next_steps import NextStep, after_deploy
from dynamodt.model.runs import Lease, RunState
from dynamodt.runs.options import Request
from dynamodt.runs.shown import clip
from dynamodt.state.phases import AT_WORK, ENDED

if TYPE_CHECKING:
    from dynamodt.deploy.deploy import Deployment
    from dynamodt.deploy.destroy import Removal
    from dynamodt.deploy.stacks import ResourceChange


_HEAD = ("run", "table", "version", "status", "started", "read", "dead")
_TABLE, _STATUS = 1, 3
_NUMBERS = (5, 6)
_WIDE = 110  # from here on there is room for exact figures
_LEAST_TABLE = 8


def print_runs(console: Console, runs: Sequence[RunState], now: float | None = None) -> None:
    """The runs in the order given; `now` is in seconds since 1970."""
    if not runs:
        console.print(Text("no run yet", "dim"))
        return
    moment = time.time() if now is None else now
    rows = [_HEAD, *(_row(run, moment, console.width >= _WIDE) for run in runs)]
    widths = _widths(rows, console.width)
    console.print(_line(rows[0], widths, "dim"), soft_wrap=True)
    for run, row in zip(runs, rows[1:], strict=True):
        console.print(_line(row, widths, "", style_of(run.status)), soft_wrap=True)
        if run.holder is not None:
            console.print(Text(f"  held by {_holder(run.holder)}", "dim"), soft_wrap=True)


def _holder(lease: Lease) -> str:
    held = f"{lease.user}@{lease.host}, process {lease.pid}, since {lease.since}"
    return f"{held}, last sign of life by its clock {_time(lease.beat)}" if lease.beat else held


def _time(seconds: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(seconds))


def style_of(status: str) -> str:
    """A run's status in colour."""
    if status in ENDED:
        return "green"
    return "cyan" if status in AT_WORK else "red" if status in ("failed", "gone") else "yellow"


def _row(run: RunState, now: float, wide: bool) -> tuple[str, ...]:
    record, counts = run.record, run.counts
    started = record.started[:19].replace("T", " ") if wide else ago(now - _moment(record.started))
    read = f"{counts.read:,}" if wide else short(counts.read)
    dead = f"{counts.dead:,}" if wide else short(counts.dead)
    version = f"v{record.version} {record.direction}"
    return record.run, record.table, version, run.status, started, read, dead if counts.dead else "-"


def _moment(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _widths(rows: Sequence[tuple[str, ...]], room: int) -> list[int]:
    """As wide as their cells; the table's name gives way, since the run's id is to be copied whole."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    over = sum(widths) + len(widths) - 1 - room
    widths[_TABLE] = max(_LEAST_TABLE, widths[_TABLE] - max(0, over))
    return widths


def _line(row: tuple[str, ...], widths: Sequence[int], style: str, status_style: str = "") -> Text:
    line = Text(style=style)
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = clip(cell, width)
        padded = f"{text:>{width}}" if number in _NUMBERS else f"{text:<{width}}"
        line.append(padded, status_style if number == _STATUS else None).append(" ")
    line.rstrip()
    return line


def ago(seconds: float) -> str:
    """`5s ago`, `14m ago`, `3h ago`, `12d ago`."""
    whole = max(0, int(seconds))
    for size, dead_letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= 2 * size or (dead_letter == "m" and whole >= size):
            return f"{whole // size}{dead_letter} ago"
    return f"{whole}s ago"


def short(number: int) -> str:
    """A count in at most six characters: `12,345`, `123k`, `12.3M`."""
    if number < 100_000:
        return f"{number:,}"
    for size, dead_letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            whole = number / size
            return f"{whole:.1f}{dead_letter}" if whole < 100 and dead_letter != "k" else f"{whole:,.0f}{dead_letter}"
    return f"{number:,}"


_WORDS = {
    "created": "is deployed",
    "updated": "is updated",
    "unchanged": "Nothing to do: it is deployed as it is here",
    "dry-run": "dry run: nothing was changed",
}
_BY_EMAIL, _ADDRESS = "AlarmsByEmail", "AlarmsTo"  # in the template: the subscription, and whose it is
_MARKS = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "+"}


def deployment_document(made: Deployment) -> dict[str, Any]:
    """What `deploy --json` prints."""
    return {
        "stack": made.stack,
        "status": made.status,
        "changes": [change._asdict() for change in made.changes],
        "outputs": dict(made.outputs),
    }


def removal_document(removal: Removal) -> dict[str, Any]:
    """What `destroy --json` prints."""
    return {
        "stack": removal.stack,
        "status": removal.status,
        "removed": list(removal.removed),
        "kept": list(removal.kept),
    }


def print_deployment(console: Console, request: Request, made: Deployment) -> None:
    """What was changed, where things are, and what comes next."""
    console.print(Text.assemble((made.stack, "bold"), f"  {_WORDS[made.status]}"), soft_wrap=True)
    for change in made.changes:
        console.print(_change(change), soft_wrap=True)
    for line in _outputs(made):
        console.print(line, soft_wrap=True)
    if any(change.resource == _BY_EMAIL for change in made.changes) and _ADDRESS in made.outputs:
        told = f"AWS has sent a mail to {made.outputs[_ADDRESS]}: until it is confirmed, no alarm arrives there"
        console.print(Text(told, "yellow"), soft_wrap=True)
    console.print()
    steps = after_deploy(request, made.status == "dry-run")
    if made.status != "dry-run" or made.changes:
        console.print(_next(steps), soft_wrap=True)


def print_removal(console: Console, request: Request, removal: Removal) -> None:
    """What has gone, and what has stayed."""
    if removal.status == "nothing":
        console.print(Text.assemble(("Nothing to do: ", "bold"), f"{removal.stack} is not there"), soft_wrap=True)
    word = "would be deleted" if removal.status == "dry-run" else "deleted"
    for one in removal.removed:
        console.print(Text.assemble((f"{word}  ", "bold"), one), soft_wrap=True)
    for one in removal.kept:
        console.print(Text.assemble(("stays  ", "dim"), one), soft_wrap=True)
    if removal.kept and not request.purge:
        console.print(Text("`deploy` would find and use what stays", "dim"), soft_wrap=True)


def _change(change: ResourceChange) -> Text:
    line = Text(f"  {_MARKS.get(change.action, change.action)} {change.resource}  ")
    line.append(change.type, "dim")
    return line.append("  a new one takes its place", "yellow") if change.replacement else line


def _outputs(made: Deployment) -> Iterator[Text]:
    if made.status == "dry-run":
        return
    width = max(map(len, made.outputs), default=0)
    for name, value in made.outputs.items():
        yield Text.assemble((f"{name:<{width}}", "dim"), f"  {value}")


def _next(steps: list[NextStep]) -> Text:
    width = max(len(step.command) for step in steps)
    lines = (Text.assemble((f"{step.command:<{width}}", "bold"), (f"  {step.why}", "dim")) for step in steps)
    return Text.assemble(("next  ", "dim"), Text("\n      ").join(lines))
