"""The progress of runs: bars on a terminal, two lines per run; plain lines for logs, or JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dynamodt.cli.request import Request, program
from dynamodt.errors import DynamodtError, UsageError
from dynamodt.model.reports import RunReport, counted
from dynamodt.model.runs import RunProgress, RunRecord
from dynamodt.model.tables import TableNames
from dynamodt.pipeline.author_output import Line
from dynamodt.runs.display import inert, json_line, printable
from dynamodt.runs.pace import ActiveRun, Clock, ProgressRecorder, Share, elapsed, figures, fit_parts, remaining
from dynamodt.state.runs import ENDED

REDRAW_EVERY = 0.2
_ROOM_FOR_A_BAR = 60  # columns
_ENDED_STYLES = {"failed": "red", "gone": "red", "stopped": "yellow", "paused": "yellow"}


class BarDisplay(ProgressRecorder):
    """Bars on a terminal. They are drawn in the caller's thread only: another thread would not survive a fork."""

    def __init__(self, console: Console, clock: Clock = time.monotonic, watching: bool = False) -> None:
        super().__init__(clock, watching)
        self._console = console
        self._live: Live | None = None
        self._drawn = 0.0
        self._waits_since = 0.0

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        super().run_started(record, expected_items)
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

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        super().progressed(table, run_progress)
        self.tick()

    def tick(self) -> None:
        if self.clock() - self._drawn >= REDRAW_EVERY:
            self._draw()

    def run_ended(self, report: RunReport) -> None:
        run = self.running.get(report.table)
        super().run_ended(report)
        if run is None:  # it ended before its first progress
            run = ActiveRun.of(report, 0, self.clock() - report.seconds, self.names)
        totals = run.run_progress.totals._replace(counts=report.counts, units=report.consumed)
        run.run_progress = run.run_progress._replace(totals=totals, idle="")
        self._draw()
        if not self.running:
            self.close()
        self._console.print(ended_lines(run, report, self._console.width))

    def notify(self, text: str) -> None:
        self._console.print(self.names.in_text(text), style="dim")

    def author_line(self, line: Line) -> None:
        self._console.print(Text(author_line_text(line, self.names)), soft_wrap=True)

    def close(self) -> None:
        if self._live is None:
            return
        last, self._live = self._live, None
        last.stop()
        for run in self.running.values():  # its last progress
            self._console.print(run_lines(run, self.clock(), self._console.width))

    def _show(self) -> None:
        if self._live is None:
            # what scripts print arrives by `author_line`
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
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


def author_line_text(line: Line, names: TableNames) -> str:
    """A script's output or log message, with its table and version."""
    return f"{names.logical(line.table)} v{line.version}: {line.text}" if line.table else line.text


def run_lines(run: ActiveRun, now: float, width: int) -> RenderableType:
    """A running run: title, bar, percent, elapsed and remaining time; below it, its figures."""
    left = run.pace.seconds_left()
    idle = run.run_progress.idle.partition(":")[0]  # the reason is noted when the pause begins
    outlook = Text(idle, "yellow") if idle else Text("" if left is None else remaining(left))
    return Group(_bar_line(run, run.share, now, outlook, width), _figures_line(run.figures, width))


def ended_lines(run: ActiveRun, report: RunReport, width: int) -> RenderableType:
    """A run that has ended: its progress and figures."""
    well = report.status in ENDED | {"dry-run"}
    outcome = Text(report.status, _ENDED_STYLES.get(report.status, "green" if well else ""))
    parts = figures(run.run_progress._replace(wcu=0.0, rcu=0.0), None)  # an ended run does not wait for capacity
    if report.seconds > 0:
        parts.insert(1, f"{report.counts.read / report.seconds:,.0f} items/s")
    written = [] if report.rehearsal or report.status == "dry-run" else [f"{report.consumed.wcu:,.0f} WCU"]
    parts += [", ".join([*written, f"{report.consumed.rcu:,.0f} RCU"])]
    share = Share(1, 1) if well else run.share
    return Group(_bar_line(run, share, run.since + report.seconds, outcome, width), _figures_line(parts, width))


def _bar_line(run: ActiveRun, share: Share, now: float, outlook: Text, width: int) -> Table:
    """On a narrow terminal the title is shortened, and on one as narrow as a phone the bar is left out; the other
    columns stay aligned."""
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    bar = max(8, min(40, width // 4)) if width >= _ROOM_FOR_A_BAR else 0
    columns = ((bar, "left"), (4, "right"), (7, "right"), (11, "left"))
    for column, justify in columns if bar else columns[1:]:
        grid.add_column(width=column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    grid.add_column(width=1)  # room for the ^C that a terminal echoes: in a full line it would start a new line
    percent = "" if share.percent is None else f"{share.percent}%"
    known = ProgressBar(share.total, share.done, bar) if share.total else ProgressBar(None, 0, bar)
    cells = (known, percent, elapsed(now - run.since), outlook, "")
    grid.add_row(Text(run.title), *(cells if bar else cells[1:]))
    return grid


def _figures_line(parts: list[str], width: int) -> Text:
    return Text(f"  {fit_parts(parts, width - 4)}", "dim", no_wrap=True, overflow="ellipsis")


LINE_EVERY = 5.0  # seconds
IDLE_LINE_EVERY = 60.0  # seconds, of a run that is paused or held
Writer = Callable[[Line, str], None]  # takes a line, and how it is written as text


class LineDisplay(ProgressRecorder):
    """For logs: one line when a run starts and ends, and every `LINE_EVERY` seconds in between, or
    `IDLE_LINE_EVERY` while it is paused or held."""

    def __init__(
        self, write: Writer, clock: Clock = time.monotonic, watching: bool = False, now: Clock = time.time
    ) -> None:
        super().__init__(clock, watching)
        self._write = write
        self._now = now
        self._shown: dict[str, float] = {}  # the time of a table's last line

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        super().run_started(record, expected_items)
        self._shown[record.table] = float("-inf") if self.watching else self.clock()
        about = f", about {counted(expected_items, 'item')}" if expected_items else ""
        self._of(self.running[record.table], f"{'running' if self.watching else 'started'}{about}")

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        super().progressed(table, run_progress)
        run = self.running.get(table)
        every = IDLE_LINE_EVERY if run_progress.idle else LINE_EVERY
        if run is not None and self.clock() - self._shown[table] >= every:
            self._shown[table] = self.clock()
            self._of(run, ", ".join(self._figures(run)))

    def _of(self, run: ActiveRun, text: str) -> None:
        text = f"{run.title}: {text}"
        self._write(Line(self._now(), "INFO", "", text, run.table, run.version, run.run), text)

    def _figures(self, run: ActiveRun) -> list[str]:
        percent, left = run.share.percent, run.pace.seconds_left()
        parts = ([] if percent is None else [f"{percent}%"]) + run.figures
        parts += [] if left is None else [remaining(left)]
        return parts + ([run.run_progress.idle] if run.run_progress.idle else [])

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        items = f"{counted(report.counts.read, 'item')} in {report.seconds:,.1f} s"
        text = f"{self.names.shown(report.table)} v{report.version} {report.name}: {report.status}, {items}"
        level = "ERROR" if report.status in ("failed", "gone") else "INFO"
        self._write(Line(self._now(), level, "", text, report.table, report.version, report.run), text)

    def waiting(self, text: str) -> None:
        if text != self.awaited:
            self.notify(text)
        super().waiting(text)

    def author_line(self, line: Line) -> None:
        self._write(line, author_line_text(line, self.names))

    def notify(self, text: str) -> None:
        text = self.names.in_text(text)
        level = "WARNING" if text.startswith("warning: ") else "INFO"
        self._write(Line(self._now(), level, "", text), text)


def timed_lines(console: Console) -> Writer:
    """Writes each line with its time."""
    return lambda line, text: console.print(f"{line.utc} {text}", soft_wrap=True)


def display(console: Console, watching: bool = False) -> ProgressRecorder:
    """The display that suits the stream."""
    if not console.is_terminal or console.is_dumb_terminal:
        return LineDisplay(timed_lines(console), watching=watching)
    return BarDisplay(console, watching=watching)


# ---------------------------------------------------------------- logs of a command for programs
# `--log-file`, and `--log-format json`, one JSON object a line.

JSON, TEXT = "json", "text"


class Log(LineDisplay):
    """The lines of a command's progress and of its scripts, and the error that ended it."""

    def failed(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error, DynamodtError):
            hint = f"hint: {error.hint.written(program())}" if error.hint else ""
            text = "; ".join(filter(None, (error.what, error.where, hint)))
        subject = error.subject if isinstance(error, DynamodtError) else ()
        self._write(Line(self._now(), "ERROR", "", text, *subject), f"error: {text}")


def on_stderr(watching: bool) -> ProgressRecorder:
    """JSON lines instead of a display."""
    return Log(_written(sys.stderr, JSON), watching=watching)


def with_file(shown: ProgressRecorder, path: str, format: str) -> ProgressRecorder:
    """The display, and a log beside it that is appended to a file. Raises UsageError if the file cannot be written."""
    try:
        stream = Path(path).open("a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        hint = "name a file that can be written, or leave the option out"
        raise UsageError(f"--log-file cannot be opened: {error.strerror}", where=path, hint=hint) from error
    return DisplayWithLog(shown, Log(_written(stream, format), watching=shown.watching))


def stderr_format(request: Request) -> str:
    """The format of stderr, which `--log-format` sets unless it is for a file."""
    return TEXT if request.log_file else request.log_format or TEXT


def _written(stream: TextIO, format: str) -> Writer:
    lock = threading.Lock()  # scripts print from any thread

    def write(line: Line, text: str) -> None:
        written = json_line(line.document) if format == JSON else inert(printable(f"{line.utc} {text}")) + "\n"
        with lock:
            stream.write(written)
            stream.flush()

    return write


class DisplayWithLog(ProgressRecorder):
    """A display with a log beside it: both receive all messages, and only the display asks questions."""

    def __init__(self, shown: ProgressRecorder, log: ProgressRecorder) -> None:
        self._shown = shown
        self._log = log
        super().__init__(shown.clock, shown.watching)

    @property
    def names(self) -> TableNames:
        return self._shown.names

    @names.setter
    def names(self, names: TableNames) -> None:
        self._shown.names = self._log.names = names

    @property
    def asks(self) -> bool:
        return self._shown.asks

    @asks.setter
    def asks(self, asks: bool) -> None:
        self._shown.asks = asks

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        super().run_started(record, expected_items)
        for one in (self._shown, self._log):
            one.run_started(record, expected_items)

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        for one in (self._shown, self._log):
            one.progressed(table, run_progress)
        if table in self.running:
            self.running[table].observed(self.clock(), run_progress)

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        for one in (self._shown, self._log):
            one.run_ended(report)

    def notify(self, text: str) -> None:
        for one in (self._shown, self._log):
            one.notify(text)

    def author_line(self, line: Line) -> None:
        for one in (self._shown, self._log):
            one.author_line(line)

    def failed(self, error: BaseException) -> None:
        self._log.failed(error)

    def tick(self) -> None:
        self._shown.tick()

    def waiting(self, text: str) -> None:
        super().waiting(text)
        for one in (self._shown, self._log):
            one.waiting(text)

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        return self._shown.asked(question, choices)

    def close(self) -> None:
        self._shown.close()
