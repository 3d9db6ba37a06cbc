"""`runs` for a person: a line a run, within 80 columns; the holder of one that is at work stands below it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from dynamodt.control.terminal.item_diff import clip
from dynamodt.core.lifecycle import ENDED
from dynamodt.core.standing import AT_WORK
from dynamodt.model import Lease, RunState

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
    for size, letter in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= 2 * size or (letter == "m" and whole >= size):
            return f"{whole // size}{letter} ago"
    return f"{whole}s ago"


def short(number: int) -> str:
    """A count in at most six characters: `12,345`, `123k`, `12.3M`."""
    if number < 100_000:
        return f"{number:,}"
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            whole = number / size
            return f"{whole:.1f}{letter}" if whole < 100 and letter != "k" else f"{whole:,.0f}{letter}"
    return f"{number:,}"
