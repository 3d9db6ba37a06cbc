"""A run's progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.model import Counts, Direction, RunReport, TableReport, Units

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TextColumn

LINE_EVERY = 5.0  # seconds
REDRAW_EVERY = 0.1
Clock = Callable[[], float]


class Share(NamedTuple):
    """How far a run is; no `total` means that nobody knows."""

    done: int
    total: int | None


def share(read: int, expected_items: int, units_done: int, units_total: int) -> Share:
    """By items where DynamoDB's stale count is not refuted yet, else by units of work."""
    if expected_items > 0 and read <= expected_items:
        return Share(read, expected_items)
    return Share(units_done, units_total) if units_total else Share(0, None)


@dataclass
class Current:
    """The run in progress, as far as it has been reported."""

    table: str
    version: int
    name: str
    direction: Direction
    expected_items: int
    since: float
    counts: Counts = field(default_factory=Counts)
    units: Units = field(default_factory=Units)

    @property
    def title(self) -> str:
        arrow = "" if self.direction == "up" else " (down)"
        return f"{self.table} v{self.version} {self.name}{arrow}"


class Recorder:
    """An Observer that shows nothing but remembers: what was done must be known when a command is interrupted."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.ended: list[RunReport] = []
        self.current: Current | None = None

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        self.current = Current(table, version, name, direction, expected_items, self.clock())

    def progressed(self, counts: Counts, units: Units, units_done: int, units_total: int) -> None:
        if self.current is not None:
            self.current.counts, self.current.units = counts, units

    def run_ended(self, report: RunReport) -> None:
        self.ended.append(report)
        self.current = None

    def note(self, text: str) -> None:
        """Nothing to remember."""

    def stopping(self) -> None:
        """A signal has arrived: says why the command does not end at once."""
        if self.current is not None:
            self.note("stopping when the pages in flight are written; Ctrl-C again leaves at once")

    def close(self) -> None:
        """Gives the terminal back. May be called twice."""

    def reports(self) -> list[TableReport]:
        """What was done so far, by table; a run that is not over counts as stopped."""
        runs = self.ended + ([self._stopped(self.current)] if self.current else [])
        by_table: dict[str, list[RunReport]] = {}
        for run in runs:
            by_table.setdefault(run.table, []).append(run)
        return [TableReport(table, runs[0].direction, tuple(runs)) for table, runs in by_table.items()]

    def _stopped(self, run: Current) -> RunReport:
        seconds = self.clock() - run.since
        return RunReport(run.table, run.direction, run.version, run.name, "", "stopped", run.counts, run.units, seconds)

    def rate(self) -> float:
        """Items read a second since the run started."""
        if self.current is None:
            return 0.0
        return self.current.counts.read / max(0.001, self.clock() - self.current.since)


class LineDisplay(Recorder):
    """For logs: one line when a run starts and ends, and every `LINE_EVERY` seconds between."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._shown = clock()

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        self._shown = self.clock()
        about = f", about {expected_items:,} items" if expected_items else ""
        self.note(f"{self.current.title if self.current else table}: started{about}")

    def progressed(self, counts: Counts, units: Units, units_done: int, units_total: int) -> None:
        super().progressed(counts, units, units_done, units_total)
        if self.current is None or self.clock() - self._shown < LINE_EVERY:
            return
        self._shown = self.clock()
        done, total = share(counts.read, self.current.expected_items, units_done, units_total)
        percent = f", {100 * done // total}%" if total else ""
        amounts = f"{counts.read:,} items{percent}, {self.rate():,.0f} items/s, {units.wcu:,.1f} write units"
        self.note(f"{self.current.title}: {amounts}")

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        items = f"{report.counts.read:,} items in {report.seconds:,.1f} s"
        self.note(f"{report.table} v{report.version} {report.name}: {report.status}, {items}")

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class BarDisplay(Recorder):
    """For a person: a bar a run. It draws in the caller's thread only, so that nothing runs beside a fork."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._console = console
        self._progress: Progress | None = None
        self._drawn = 0.0

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        self.close()
        super().run_started(table, version, name, direction, expected_items)
        self._progress = bar_columns(self._console)
        self._progress.start()
        title = self.current.title if self.current else table
        self._progress.add_task(title, total=None, items="0 items", rate="", units="")

    def progressed(self, counts: Counts, units: Units, units_done: int, units_total: int) -> None:
        super().progressed(counts, units, units_done, units_total)
        if self.current and self.clock() - self._drawn >= REDRAW_EVERY:
            self._drawn = self.clock()
            self._draw(share(counts.read, self.current.expected_items, units_done, units_total))

    def run_ended(self, report: RunReport) -> None:
        if self.current:
            self.current.counts, self.current.units = report.counts, report.consumed
            self._draw(Share(1, 1) if report.status in ("succeeded", "dry-run") else None)
        super().run_ended(report)
        self.close()

    def note(self, text: str) -> None:
        self._console.print(text, style="dim")

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _draw(self, progress: Share | None) -> None:
        if self._progress is None or self.current is None:
            return
        task = self._progress.tasks[0].id
        if progress is not None:
            self._progress.update(task, completed=progress.done, total=progress.total)
        items = f"{self.current.counts.read:,} items"
        units = f"{self.current.units.wcu:,.0f} WCU"
        self._progress.update(task, items=items, rate=f"{self.rate():,.0f}/s", units=units, refresh=True)


def bar_columns(console: Console) -> Progress:
    """The bar's columns; the title is the one to give way on a narrow terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    title = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1, overflow="ellipsis")
    )
    fields = [_field(name, width, console) for name, width in _FIELDS]
    bar = BarColumn(bar_width=max(8, min(40, console.width // 5)))
    end = TextColumn(" ")  # where a terminal echoes ^C: in a full line it would begin another one
    return Progress(title, bar, *fields, TimeElapsedColumn(), end, console=console, auto_refresh=False, expand=True)


def _field(name: str, width: int, console: Console) -> TextColumn:
    """A figure at the right of its column, which has one width in every bar where the screen has room for it."""
    from rich.progress import TextColumn
    from rich.table import Column

    column = Column(min_width=width if console.width >= 80 else None, justify="right", no_wrap=True)
    return TextColumn("{task.fields[" + name + "]}", markup=False, justify="right", table_column=column)


_FIELDS = (("items", 13), ("rate", 7), ("units", 10))


def display(console: Console) -> Recorder:
    """The display that suits the stream."""
    animated = console.is_terminal and not console.is_dumb_terminal
    return BarDisplay(console) if animated else LineDisplay(console)
