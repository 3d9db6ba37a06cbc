"""How far a run is, how fast, and how long it will take: pure figures, for whichever display.

What is remembered of runs while they are followed, whichever way they are shown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from dynamodt.model.items import Direction
from dynamodt.model.pages import Totals
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import RunProgress, RunRecord
from dynamodt.runs.options import JobWatcher, Observer

RATE_SECONDS = 15.0  # what happened in so many seconds is the speed that is shown
_KEPT_SECONDS = 120.0  # and in so many the one that the rest of the way is reckoned by
_STEADY_SECONDS = 10.0  # before that, nobody knows
_SAMPLE_SECONDS = 0.5
_UNEVEN = 2.0  # between the two halves of what was seen: with more, the end cannot be told


class Share(NamedTuple):
    """How far a run is; no `total` means that nobody knows."""

    done: int
    total: int | None

    @property
    def percent(self) -> int | None:
        return 100 * self.done // self.total if self.total else None


def share(read: int, expected_items: int, splits_done: int, splits_total: int) -> Share:
    """By items where DynamoDB's stale count is not refuted yet, else by units of work. It is full only when all units
    are done: until then each of the others counts for one item at least."""
    left = max(0, splits_total - splits_done)
    if splits_total and not left:
        return Share(splits_total, splits_total)
    if expected_items > 0 and read <= expected_items:
        return Share(read, max(expected_items, read + left))
    return Share(splits_done, splits_total) if splits_total else Share(0, None)


def share_of(run_progress: RunProgress, expected_items: int) -> Share:
    """How far a run is."""
    return share(run_progress.totals.counts.read, expected_items, run_progress.totals.done, run_progress.planned)


class Speed(NamedTuple):
    """What is done in a second."""

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
    """A run's speed over the last seconds, whatever it had done before somebody looked. A rest is no part of it."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque()

    def observed(self, now: float, run_progress: RunProgress, share: Share) -> None:
        """Remember where the run stands; `now` is in seconds, of any clock that does not go back."""
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
        """The speed of the last seconds; None when too little was seen."""
        latest = list(_since(self._samples, RATE_SECONDS))
        if len(latest) < 2:
            return None
        first, last = latest[-1], latest[0]
        seconds = last.at - first.at
        amounts = [after - before for after, before in zip(last[1:-1], first[1:-1], strict=True)]
        return Speed(*(max(0.0, amount / seconds) for amount in amounts)) if seconds > 0 else None

    def seconds_left(self) -> float | None:
        """How long the rest will take, if it goes on like this; None as long as the run is not steady."""
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


def figures(run_progress: RunProgress, speed: Speed | None) -> list[str]:
    """What a run has come to, the most telling first; what there is none of is left out."""
    counts, contention = run_progress.totals.counts, run_progress.totals.contention
    parts = [counted(counts.read, "item")]
    parts += [counted(counts.dead, "dead letter")] if counts.dead else []
    parts += [f"{_rate(speed.items)} items/s"] if speed else []
    parts += [_bytes(speed.bytes)] if speed and speed.bytes else []
    parts += _capacity(speed, run_progress) if speed else []
    parts += [counted(contention.conflicts, "conflict")] if contention.conflicts else []
    return parts + ([counted(contention.throttles, "throttle")] if contention.throttles else [])


def _rate(amount: float) -> str:
    """In whole numbers, but for a rate below one: a table may be throttled to half a unit a second."""
    return f"{amount:,.0f}" if amount >= 1.0 or not amount else f"{amount:.1g}"


def _bytes(rate: float) -> str:
    return f"{rate / 1e6:,.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:,.0f} kB/s"


def _capacity(speed: Speed, run_progress: RunProgress) -> list[str]:
    pairs = ((speed.wcu, run_progress.wcu, "WCU/s"), (speed.rcu, run_progress.rcu, "RCU/s"))
    told = [(used, budget, split) for used, budget, split in pairs if round(used) or budget]
    return [f"{_rate(used)}{f' of {_rate(budget)}' if budget else ''} {split}" for used, budget, split in told]


def counted(number: int, noun: str) -> str:
    """`1 conflict`, `1,200 conflicts`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the parts as fit whole, the first at any rate."""
    text = parts[0]
    for part in parts[1:]:
        if len(text) + 2 + len(part) > width:
            break
        text += f", {part}"
    return text


def remaining(seconds: float) -> str:
    """A forecast in words that do not change with every look: `45 s left`, `12 min left`, `3.5 h left`."""
    if seconds < 90:
        return f"{max(5, 5 * round(seconds / 5))} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:,.1f} h left"


def elapsed(seconds: float) -> str:
    """`0:01:05`."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


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
    run_progress: RunProgress = RunProgress(Totals(), 0)
    pace: Pace = field(default_factory=Pace)

    @property
    def title(self) -> str:
        arrow = "" if self.direction == "up" else " (down)"
        return f"{self.table} v{self.version} {self.name}{arrow}"

    @property
    def share(self) -> Share:
        return share_of(self.run_progress, self.expected_items)

    def observed(self, now: float, run_progress: RunProgress) -> None:
        """Take in where the run stands now."""
        self.run_progress = run_progress
        self.pace.observed(now, run_progress, self.share)


class ProgressRecorder:
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

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        run = self.running.get(table)
        if run is None:
            return
        rested = run.run_progress.idle
        run.observed(self.clock(), run_progress)
        if run_progress.idle != rested:
            self.note(f"{run.title}: {run_progress.idle or 'goes on'}")

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
        seconds, totals = self.clock() - run.since, run.run_progress.totals
        status = "running" if self.watching else "stopped"
        return RunReport(
            run.table, run.direction, run.version, run.name, run.run, status, totals.counts, totals.units, seconds
        )


class _Handing(ProgressRecorder):
    """Hands all that there is to be told of a job on to an observer who knows of no jobs."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(watching=True)
        self._observer = observer
        self.note = observer.note  # type: ignore[method-assign]

    def run_started(self, table: str, version: int, name: str, direction: Direction, expected_items: int) -> None:
        super().run_started(table, version, name, direction, expected_items)
        self._observer.run_started(table, version, name, direction, expected_items)

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        super().progressed(table, run_progress)
        self._observer.progressed(table, run_progress)

    def run_ended(self, report: RunReport) -> None:
        super().run_ended(report)
        self._observer.run_ended(report)


def as_watcher(observer: Observer) -> JobWatcher:
    """An observer who can be told of a job."""
    return observer if isinstance(observer, ProgressRecorder) else _Handing(observer)
