"""Bars on a terminal: two lines for each run that is at work, and what has ended stays above them."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynamodt.control.terminal.pace import Share, elapsed, figures, fitting, remaining
from dynamodt.control.terminal.progress import Clock, Current, Recorder
from dynamodt.core.lifecycle import ENDED
from dynamodt.model import Direction, RunReport, Standing

REDRAW_EVERY = 0.2
_ENDED_STYLES = {"failed": "red", "gone": "red", "stopped": "yellow"}


class BarDisplay(Recorder):
    """For a person. It draws in the caller's thread only, so that nothing runs beside a fork."""

    def __init__(self, console: Console, clock: Clock = time.monotonic, watching: bool = False) -> None:
        super().__init__(clock, watching)
        self._console = console
        self._live: Live | None = None
        self._drawn = 0.0
        self._waits_since = 0.0

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        self._show()

    def waiting(self, text: str) -> None:
        if not self.awaited:
            self._waits_since = self.clock()
        super().waiting(text)
        if not self.running:
            self._show()

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        if not self.asks:
            return super().asked(question, choices)
        import questionary

        self.close()
        titled = [questionary.Choice(f"{choice}: {meaning}", value=choice) for choice, meaning in choices.items()]
        return questionary.select(question, titled).ask() or super().asked(question, choices)

    def progressed(self, table: str, standing: Standing) -> None:
        super().progressed(table, standing)
        self.tick()

    def tick(self) -> None:
        if self.clock() - self._drawn >= REDRAW_EVERY:
            self._draw()

    def run_ended(self, report: RunReport) -> None:
        run = self.running.get(report.table)
        super().run_ended(report)
        if run is None:  # it was over before anybody looked
            run = Current(report.table, report.version, report.name, report.direction, 0, self.clock() - report.seconds)
        totals = run.standing.totals._replace(counts=report.counts, units=report.consumed)
        run.standing = run.standing._replace(totals=totals, rests="")
        self._draw()
        if not self.running:
            self.close()
        self._console.print(ended_lines(run, report, self._console.width))

    def note(self, text: str) -> None:
        self._console.print(text, style="dim")

    def close(self) -> None:
        if self._live is None:
            return
        last, self._live = self._live, None
        last.stop()
        for run in self.running.values():  # as it was seen last
            self._console.print(run_lines(run, self.clock(), self._console.width))

    def _show(self) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._draw()

    def _draw(self) -> None:
        if self._live is None:
            return
        self._drawn = self.clock()
        lines = [run_lines(run, self._drawn, self._console.width) for run in self.running.values()]
        if self.awaited and not lines:
            lines.append(Text(f"{self.awaited}  {elapsed(self._drawn - self._waits_since)}", "dim"))
        self._live.update(Group(*lines), refresh=True)


def run_lines(run: Current, now: float, width: int) -> RenderableType:
    """A run at work: title, bar, percent, time and how long it will take; below it, its figures."""
    left = run.pace.seconds_left()
    rests = run.standing.rests.partition(":")[0]  # why it is held was noted when it began
    outlook = Text(rests, "yellow") if rests else Text("" if left is None else remaining(left))
    speed = run.pace.speed()
    return Group(_bar_line(run, run.share, now, outlook, width), _figures_line(figures(run.standing, speed), width))


def ended_lines(run: Current, report: RunReport, width: int) -> RenderableType:
    """A run that is over: how far it came, and what of it."""
    well = report.status in ENDED | {"dry-run"}
    outcome = Text(report.status, _ENDED_STYLES.get(report.status, "green" if well else ""))
    parts = figures(run.standing, None)
    if report.seconds > 0:
        parts.insert(1, f"{report.counts.read / report.seconds:,.0f} items/s")
    parts += [f"{report.consumed.wcu:,.0f} WCU, {report.consumed.rcu:,.0f} RCU"]
    share = Share(1, 1) if well else run.share
    return Group(_bar_line(run, share, run.since + report.seconds, outcome, width), _figures_line(parts, width))


def _bar_line(run: Current, share: Share, now: float, outlook: Text, width: int) -> Table:
    """The title is the one to give way on a narrow terminal; all else has one place in every line."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    bar = max(8, min(40, width // 4))
    for column, justify in ((bar, "left"), (4, "right"), (7, "right"), (11, "left")):
        grid.add_column(width=column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    grid.add_column(width=1)  # where a terminal echoes ^C: in a full line it would begin another one
    percent = "" if share.percent is None else f"{share.percent}%"
    known = ProgressBar(share.total, share.done, bar) if share.total else ProgressBar(None, 0, bar)
    grid.add_row(Text(run.title), known, percent, elapsed(now - run.since), outlook, "")
    return grid


def _figures_line(parts: list[str], width: int) -> Text:
    return Text(f"  {fitting(parts, width - 4)}", "dim", no_wrap=True, overflow="ellipsis")
