"""A run's progress, speed and remaining time, and the recorder that keeps them for display."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from dynamodt.model.pages import Totals
from dynamodt.model.reports import RunReport, TableReport, counted, pick
from dynamodt.model.runs import RunProgress, RunRecord
from dynamodt.model.tables import Direction, TableNames
from dynamodt.pipeline.author_output import Line
from dynamodt.runs.options import Observer

RATE_SECONDS = 15.0  # the shown speed is that of these last seconds
_KEPT_SECONDS = 120.0  # the remaining time is computed from these
_STEADY_SECONDS = 10.0  # before that no remaining time is shown
_SAMPLE_SECONDS = 0.5
_UNEVEN = 2.0  # ratio of the speeds of both halves; above it no remaining time is shown


class Share(NamedTuple):
    """The progress of a run; `total` is None if it is not known."""

    done: int
    total: int | None

    @property
    def percent(self) -> int | None:
        return 100 * self.done // self.total if self.total else None


def share(read: int, expected_items: int, splits_done: int, splits_total: int) -> Share:
    """The progress by items, up to DynamoDB's outdated item count, otherwise by splits. It is complete only when all
    splits are done: until then each open split counts as at least one item."""
    left = max(0, splits_total - splits_done)
    if splits_total and not left:
        return Share(splits_total, splits_total)
    if expected_items > 0 and read <= expected_items:
        return Share(read, max(expected_items, read + left))
    return Share(splits_done, splits_total) if splits_total else Share(0, None)


def share_of(run_progress: RunProgress, expected_items: int) -> Share:
    """The progress of a run."""
    return share(run_progress.totals.counts.read, expected_items, run_progress.totals.done, run_progress.planned)


class Speed(NamedTuple):
    """Amounts per second."""

    items: float = 0.0
    wcu: float = 0.0
    rcu: float = 0.0
    bytes: float = 0.0


class _Sample(NamedTuple):
    at: float
    items: int
    wcu: float
    rcu: float
    bytes: int
    part: float  # of the whole


class Pace:
    """A run's speed over the last seconds. Pauses are left out."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def observed(self, now: float, run_progress: RunProgress, share: Share) -> None:
        """Add a sample; `now` is in seconds of a monotonic clock."""
        units = run_progress.totals.units
        part = share.done / share.total if share.total else 0.0
        sample = _Sample(now, run_progress.totals.counts.read, units.wcu, units.rcu, run_progress.totals.bytes, part)
        if run_progress.idle:
            self._samples.clear()
        elif len(self._samples) > 1 and now - self._samples[-2].at < _SAMPLE_SECONDS:
            self._samples.pop()
        self._samples.append(sample)
        while now - self._samples[0].at > _KEPT_SECONDS:
            self._samples.popleft()

    def speed(self) -> Speed | None:
        """The speed of the last seconds; None without two samples."""
        latest = list(_since(self._samples, RATE_SECONDS))
        if len(latest) < 2:
            return None
        first, last = latest[-1], latest[0]
        seconds = last.at - first.at
        amounts = [after - before for after, before in zip(last[1:-1], first[1:-1], strict=True)]
        return Speed(*(max(0.0, amount / seconds) for amount in amounts)) if seconds > 0 else None

    def seconds_left(self) -> float | None:
        """The remaining seconds at this speed; None as long as the run is not steady."""
        samples = self._samples
        if len(samples) < 3 or samples[-1].at - samples[0].at < _STEADY_SECONDS:
            return None
        middle = samples[len(samples) // 2]
        earlier, later = _progress(samples[0], middle), _progress(middle, samples[-1])
        if not 0 < max(earlier, later) <= _UNEVEN * min(earlier, later):
            return None
        return (1.0 - samples[-1].part) / _progress(samples[0], samples[-1])


def _since(samples: Sequence[_Sample], seconds: float) -> Iterable[_Sample]:
    """The samples of the last seconds, the latest first."""
    return takewhile(lambda sample: samples[-1].at - sample.at <= seconds, reversed(samples))


def _progress(first: _Sample, last: _Sample) -> float:
    return (last.part - first.part) / max(last.at - first.at, 0.001)


# ---------------------------------------------------------------- in words


def figures(run_progress: RunProgress, speed: Speed | None, before: Totals = Totals()) -> list[str]:
    """A run's figures, the most important first, without those that are 0. `before` are its totals when it was
    continued."""
    counts, contention = run_progress.totals.counts, run_progress.totals.contention
    if first := _before_first_page(run_progress, before):
        return [first, counted(counts.read, "item")]
    parts = [counted(counts.read, "item")]
    parts += [counted(counts.dead, "dead letter")] if counts.dead else []
    parts += [f"{_rate(speed.items)} items/s"] if speed else []
    parts += [_bytes(speed.bytes)] if speed and speed.bytes else []
    parts += _capacity(speed, run_progress) if speed else []
    parts += [counted(contention.conflicts, "conflict")] if contention.conflicts else []
    return parts + ([counted(contention.throttles, "throttle")] if contention.throttles else [])


def _before_first_page(run_progress: RunProgress, before: Totals) -> str:
    """The budget of a run that has recorded no page since it began or was continued: at a low rate, a page takes
    seconds. The script may take them, too."""
    budget = ((0.0 if run_progress.rehearsal else run_progress.wcu, "WCU/s"), (run_progress.rcu, "RCU/s"))
    limits = [f"{_rate(limit)} {name}" for limit, name in budget if limit]
    now = run_progress.totals
    begun = now.counts.read > before.counts.read or now.done > before.done or run_progress.idle
    return f"no page is complete yet, at up to {', '.join(limits)}" if limits and not begun else ""


def _rate(amount: float) -> str:
    """A whole number, or one digit below one: a table may be throttled to half a unit per second."""
    return f"{amount:,.0f}" if amount >= 1.0 or not amount else f"{amount:.1g}"


def _bytes(rate: float) -> str:
    return f"{rate / 1e6:,.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:,.0f} kB/s"


def _capacity(speed: Speed, run_progress: RunProgress) -> list[str]:
    pairs = [(speed.rcu, run_progress.rcu, "RCU/s")]
    if not run_progress.rehearsal:
        pairs.insert(0, (speed.wcu, run_progress.wcu, "WCU/s"))
    shown = [(used, budget, name) for used, budget, name in pairs if round(used) or budget]
    return [f"{_rate(used)}{f' of {_rate(budget)}' if budget else ''} {name}" for used, budget, name in shown]


def fit_parts(parts: Sequence[str], width: int) -> str:
    """The first part, and as many others as fit into `width` characters."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text += f", {part}"
    return text


def remaining(seconds: float) -> str:
    """The remaining time, rounded so that it does not flicker: `45 s left`, `12 min left`, `3.5 h left`."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:,.1f} h left"


def elapsed(seconds: float) -> str:
    """A duration in the form `0:01:05`."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


Clock = Callable[[], float]


@dataclass
class ActiveRun:
    """A run in progress, as reported so far."""

    table: str
    version: int
    name: str
    direction: Direction
    expected_items: int
    since: float
    run: str = ""  # its id
    shown: str = ""  # the table's names
    run_progress: RunProgress = RunProgress(Totals(), 0)
    pace: Pace = field(default_factory=Pace)
    before: Totals | None = None  # the totals when it was first observed
    found: bool = False  # it belongs to another process

    @classmethod
    def of(cls, record: RunRecord | RunReport, expected_items: int, since: float, names: TableNames) -> ActiveRun:
        """The run of a record, or of a report if it ended before its start was reported."""
        same = pick(record, "table version name direction run")
        return cls(**same, expected_items=expected_items, since=since, shown=names.shown(record.table))

    @property
    def title(self) -> str:
        arrow = "" if self.direction == "up" else " (down)"
        return f"{self.shown or self.table} v{self.version} {self.name}{arrow}"

    @property
    def share(self) -> Share:
        return share_of(self.run_progress, self.expected_items)

    @property
    def figures(self) -> list[str]:
        """Its figures, with its present speed."""
        return figures(self.run_progress, self.pace.speed(), Totals() if self.found else self.before or Totals())

    def observed(self, now: float, run_progress: RunProgress) -> None:
        """Take in the run's progress."""
        self.before = self.before or run_progress.totals
        self.run_progress = run_progress
        self.run = self.run or run_progress.run
        self.pace.observed(now, run_progress, self.share)


class ProgressRecorder:
    """An Observer that records runs, so that the report of an interrupted command is complete. It shows nothing.

    `watching`: the runs belong to other processes, and continue when this one ends.
    """

    def __init__(self, clock: Clock = time.monotonic, watching: bool = False) -> None:
        self.clock = clock
        self.watching = watching
        self.ended: list[RunReport] = []
        self.tables: list[TableReport] = []  # of the tables that the command has completed, with any result
        self.running: dict[str, ActiveRun] = {}  # by table
        self.awaited = ""  # what is awaited while no run is active
        self.asks = False  # whether questions can be answered
        self.names = TableNames()  # of the stage, once it is opened

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        self.running[record.table] = ActiveRun.of(record, expected_items, self.clock(), self.names)

    def run_found(self, record: RunRecord, expected_items: int, elapsed: float) -> None:
        """A run of another process, active for `elapsed` seconds."""
        self.run_started(record, expected_items)
        run = self.running[record.table]
        run.since, run.found = run.since - elapsed, True

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        run = self.running.get(table)
        if run is None:
            return
        idle_before = run.run_progress.idle
        run.observed(self.clock(), run_progress)
        if run_progress.idle != idle_before:
            self.notify(f"{run.title}: {run_progress.idle or 'continues'}")

    def run_ended(self, report: RunReport) -> None:
        self.ended.append(report)
        self.running.pop(report.table, None)

    def notify(self, text: str) -> None:
        """A message of one line. Not recorded."""

    def author_line(self, line: Line) -> None:
        """A line that a script has printed or logged; called from any thread. Not recorded."""

    def failed(self, error: BaseException) -> None:
        """An error that ended the command. Not recorded."""

    def tick(self) -> None:
        """Time has passed without a change. Not recorded."""

    def waiting(self, text: str) -> None:
        """Record what the command waits for while no run is active: "dynamodt-prod: starting"."""
        self.awaited = text

    def asked(self, question: str, choices: Mapping[str, str]) -> str:
        """The answer to a question: a key of `choices`, whose values explain the keys. Without a terminal, the first
        key."""
        return next(iter(choices))

    def stopping(self) -> None:
        """Report, after a signal, why the command does not end at once."""
        if self.running and not self.watching:
            self.notify("stopping when the requests in flight are answered; Ctrl-C again leaves at once")

    def close(self) -> None:
        """Release the terminal. May be called twice."""

    def reports(self) -> list[TableReport]:
        """The reports so far, by table; an active run of this process counts as stopped. Tables that were not started
        are the last."""
        by_table: dict[str, list[RunReport]] = {}
        for run in [*self.ended, *map(self._unended, self.running.values())]:
            by_table.setdefault(run.table, []).append(run)
        for report in self.tables:
            by_table.pop(report.table, None)
        others = [TableReport(table, runs[0].direction, tuple(runs)) for table, runs in by_table.items()]
        return sorted([*self.tables, *others], key=lambda report: report.held_back)

    def _unended(self, run: ActiveRun) -> RunReport:
        seconds, totals = self.clock() - run.since, run.run_progress.totals
        status = "running" if self.watching else "stopped"
        return RunReport(
            run.table, run.direction, run.version, run.name, run.run, status, totals.counts, totals.units, seconds
        )


class _Forwarding(ProgressRecorder):
    """Forwards the runs of a job to an observer that lacks the methods for jobs."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(watching=True)
        self._observer = observer
        self.notify = observer.notify  # type: ignore[method-assign]

    def run_started(self, record: RunRecord, expected_items: int) -> None:
        super().run_started(record, expected_items)
        self._observer.run_started(record, expected_items)

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        super().progressed(table, run_progress)
        self._observer.progressed(table, run_progress)

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        self._observer.run_ended(report)


def as_watcher(observer: Observer) -> ProgressRecorder:
    """The observer, or a recorder that forwards to it, so that it can also follow a job."""
    return observer if isinstance(observer, ProgressRecorder) else _Forwarding(observer)
