"""Following runs: what every display remembers of them, and plain lines for logs. Bars are in `bars`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamodt.control.requests import JobWatcher, Observer
from dynamodt.control.terminal.pace import Pace, Share, counted, figures, remaining, share_of
from dynamodt.model import Direction, RunRecord, RunReport, Standing, TableReport, Totals

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY = 5.0  # seconds
Clock = Callable[[], float]


@dataclass
class Current:
    """A run in progress, as far as it has been reported."""

    table: str
    version: int
    name: str
    direction: Direction
    expected_items: int
    since: float
    run: str = ""  # its id, where it is another process's
    standing: Standing = Standing(Totals(), 0)
    pace: Pace = field(default_factory=Pace)

    @property
    def title(self) -> str:
        arrow = "" if self.direction == "up" else " (down)"
        return f"{self.table} v{self.version} {self.name}{arrow}"

    @property
    def share(self) -> Share:
        return share_of(self.standing, self.expected_items)

    def saw(self, now: float, standing: Standing) -> None:
        """Take in where the run stands now."""
        self.standing = standing
        self.pace.saw(now, standing, self.share)


class Recorder:
    """An Observer that shows nothing but remembers: what was done must be known when a command is interrupted.

    `watching`: the runs are other processes', and go on when this one ends.
    """

    def __init__(self, clock: Clock = time.monotonic, watching: bool = False) -> None:
        self.clock = clock
        self.watching = watching
        self.ended: list[RunReport] = []
        self.running: dict[str, Current] = {}  # by table
        self.awaited = ""  # what is waited for while no run is at work
        self.asks = False  # whether there is a person to be asked

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        self.running[table] = Current(table, version, name, direction, expected_items, self.clock())

    def run_found(self, record: RunRecord, expected_items: int, elapsed: float) -> None:
        """A run of another process, which is at work since so many seconds."""
        self.run_started(record.table, record.version, record.name, record.direction, expected_items)
        run = self.running[record.table]
        run.run, run.since = record.run, run.since - elapsed

    def progressed(self, table: str, standing: Standing) -> None:
        run = self.running.get(table)
        if run is None:
            return
        rested = run.standing.rests
        run.saw(self.clock(), standing)
        if standing.rests != rested:
            self.note(f"{run.title}: {standing.rests or 'goes on'}")

    def run_ended(self, report: RunReport) -> None:
        self.ended.append(report)
        self.running.pop(report.table, None)

    def note(self, text: str) -> None:
        """Nothing to remember."""

    def tick(self) -> None:
        """Nothing has happened."""

    def waiting(self, text: str) -> None:
        """While no run is at work, this is waited for."""
        self.awaited = text

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        """The first of the choices: there is nobody to be asked."""
        return next(iter(choices))

    def stopping(self) -> None:
        """A signal has arrived: says why the command does not end at once."""
        if self.running and not self.watching:
            self.note("stopping when the requests in flight are answered; Ctrl-C again leaves at once")

    def close(self) -> None:
        """Gives the terminal back. May be called twice."""

    def reports(self) -> list[TableReport]:
        """What was done so far, by table; a run that is not over counts as stopped, where it was ours."""
        by_table: dict[str, list[RunReport]] = {}
        for run in [*self.ended, *map(self._left, self.running.values())]:
            by_table.setdefault(run.table, []).append(run)
        return [TableReport(table, runs[0].direction, tuple(runs)) for table, runs in by_table.items()]

    def _left(self, run: Current) -> RunReport:
        seconds, totals = self.clock() - run.since, run.standing.totals
        status = "running" if self.watching else "stopped"
        return RunReport(
            run.table, run.direction, run.version, run.name, run.run, status, totals.counts, totals.units, seconds
        )


class LineDisplay(Recorder):
    """For logs: one line when a run starts and ends, and every `LINE_EVERY` seconds between."""

    def __init__(self, console: Console, clock: Clock = time.monotonic, watching: bool = False) -> None:
        super().__init__(clock, watching)
        self._console = console
        self._shown: dict[str, float] = {}  # when a table's line was written last

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        self._shown[table] = float("-inf") if self.watching else self.clock()
        about = f", about {counted(expected_items, 'item')}" if expected_items else ""
        self.note(f"{self.running[table].title}: {'at work' if self.watching else 'started'}{about}")

    def progressed(self, table: str, standing: Standing) -> None:
        super().progressed(table, standing)
        run = self.running.get(table)
        if run is not None and self.clock() - self._shown[table] >= LINE_EVERY:
            self._shown[table] = self.clock()
            self.note(f"{run.title}: {', '.join(self._figures(run))}")

    def _figures(self, run: Current) -> list[str]:
        percent, left = run.share.percent, run.pace.seconds_left()
        parts = ([] if percent is None else [f"{percent}%"]) + figures(run.standing, run.pace.speed())
        parts += [] if left is None else [remaining(left)]
        return parts + ([run.standing.rests] if run.standing.rests else [])

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        items = f"{counted(report.counts.read, 'item')} in {report.seconds:,.1f} s"
        self.note(f"{report.table} v{report.version} {report.name}: {report.status}, {items}")

    def waiting(self, text: str) -> None:
        if text != self.awaited:
            self.note(text)
        super().waiting(text)

    def note(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class _Handing(Recorder):
    """Hands all that there is to be told of a job on to an observer who knows of no jobs."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(watching=True)
        self._observer = observer
        self.note = observer.note  # type: ignore[method-assign]

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        self._observer.run_started(table, version, name, direction, expected_items)

    def progressed(self, table: str, standing: Standing) -> None:
        super().progressed(table, standing)
        self._observer.progressed(table, standing)

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        self._observer.run_ended(report)


def as_watcher(observer: Observer) -> JobWatcher:
    """An observer who can be told of a job."""
    return observer if isinstance(observer, Recorder) else _Handing(observer)


def display(console: Console, watching: bool = False) -> Recorder:
    """The display that suits the stream."""
    if not console.is_terminal or console.is_dumb_terminal:
        return LineDisplay(console, watching=watching)
    from dynamodt.control.terminal.bars import BarDisplay

    return BarDisplay(console, watching=watching)
