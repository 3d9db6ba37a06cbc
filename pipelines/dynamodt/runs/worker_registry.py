"""What the process that follows a run sees of its workers: who lives, what they use, what they may be using still.

What a pass has come to while it runs, at a price that does not grow with it: a large one has ten thousand units.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from dynamodt.model.pages import Claim, Totals, Units
from dynamodt.rate import Allocation
from dynamodt.state.worker_rows import Grant, Throttles, Worker

_SILENT_SECONDS = 15.0  # a worker that has said nothing for so long uses nothing, and its part goes to the others
_FEW = 0.05  # of the workers


class Workers(Protocol):
    """What `state.worker_rows.WorkerRows` offers, and a test's fake must."""

    def all(self) -> Iterator[Worker]: ...

    def grant(self, name: str, grant: Grant) -> None: ...


@dataclass(slots=True)
class WorkerState:
    """What was seen of a worker: its row, when it spoke last, and what it was refused since the time before. `told` are
    the grants that it may be keeping to: the one that it said last that it has heard of, and those after it."""

    worker: Worker
    at: float
    told: tuple[Grant, ...]
    refused: Throttles

    @property
    def granted(self) -> Units:
        """What it was granted last."""
        return self.told[-1].rate

    def holding(self, kind: int) -> Allocation:
        """What it has, and the most that it may be using, of reads (0) or writes (1)."""
        return Allocation(self.granted[kind], max(grant.rate[kind] for grant in self.told))

    def tell(self, rate: Units) -> Grant:
        """The next grant for it."""
        grant = Grant(self.told[-1].number + 1, rate)
        self.told = (*self.told, grant)
        return grant


class UsageSample(NamedTuple):
    """What all workers have used since the last look, in units a second, and whether their reads, their writes were
    throttled: those of more than a few. A few among many have met a partition that is busy; each waits by itself, and
    the others go on."""

    used: Units
    reads_throttled: bool
    writes_throttled: bool


class WorkerRegistry:
    """All workers that have ever reported in this attempt. Who has no grant yet uses nothing where the run is
    `governed`, and else as much as it likes."""

    def __init__(self, rows: Workers, governed: bool) -> None:
        self._rows = rows
        self._first = Grant(0, Units() if governed else Units(inf, inf))
        self._seen: dict[str, WorkerState] = {}

    def look(self, now: float, seconds: float) -> UsageSample:
        """Read all rows, so many seconds after the last time."""
        used = Units()
        for worker in self._rows.all():
            before = self._seen.get(worker.name)
            used = used.plus(_since(worker, before))
            self._seen[worker.name] = self._saw(worker, before, now)
        live = self.live(now)
        reads = _many([seen.refused.reads for seen in live])
        writes = _many([seen.refused.writes for seen in live])
        return UsageSample(Units(used.rcu / seconds, used.wcu / seconds), reads, writes)

    def live(self, now: float) -> list[WorkerState]:
        """Those who have spoken lately."""
        return [seen for seen in self._seen.values() if now - seen.at < _SILENT_SECONDS]

    def _saw(self, worker: Worker, before: WorkerState | None, now: float) -> WorkerState:
        """Grants before the one that it has heard of count no more. While many join, each look brings another one, and
        it may never be seen to have heard of the very last."""
        if before is None:
            return WorkerState(worker, now, (worker.grant or self._first,), worker.report.throttles)
        if worker.report.beat == before.worker.report.beat:
            return before
        told = tuple(grant for grant in before.told if grant.number >= worker.report.awaited)
        last = before.worker.report.throttles
        refused = Throttles(*(after - so_far for after, so_far in zip(worker.report.throttles, last, strict=True)))
        return WorkerState(worker, now, told, refused)


def _since(worker: Worker, before: WorkerState | None) -> Units:
    last = before.worker.report.used if before else Units()
    return Units(worker.report.used.rcu - last.rcu, worker.report.used.wcu - last.wcu)


def _many(refused: list[int]) -> bool:
    return sum(map(bool, refused)) >= max(1.0, _FEW * len(refused))


ROWS = 100  # of units, that a look reads at most: one BatchGetItem


class SplitReader(Protocol):
    """What `state.split_rows.UnitRows` offers, and a test's fake must."""

    def some(self, units: Iterable[int]) -> Iterable[Claim]: ...


class _Slice:
    """Some neighbouring units: what they had come to when they were looked at last. One that is done is not read
    again."""

    def __init__(self, units: Iterable[int]) -> None:
        self.left = list(units)
        self._done = Totals()
        self.totals = Totals()

    def look(self, rows: SplitReader) -> None:
        going_on, done = Totals(), set()
        for claim in rows.some(self.left):
            if claim.done:
                done.add(claim.split)
                self._done = self._done.plus(claim.totals)
            else:
                going_on = going_on.plus(claim.totals)
        self.left = [split for split in self.left if split not in done]
        self.totals = self._done.plus(going_on)


class SplitTotals:
    """The sum over the units of a pass. A look reads one slice of them, each in its turn, and takes the others as they
    were: with 100 rows twice a second, what one of 10,000 units has come to is a minute old at most."""

    def __init__(self, rows: SplitReader, units: int) -> None:
        self._rows = rows
        self._slices = [_Slice(range(start, min(units, start + ROWS))) for start in range(0, units, ROWS)]
        self._turn = 0
        self._begun = False

    def look(self) -> Totals:
        """Where the pass stands, closely. The first look reads all: an earlier attempt may have come far."""
        if not self._begun:
            return self.whole()
        going_on = [each for each in self._slices if each.left]
        if going_on:
            going_on[self._turn % len(going_on)].look(self._rows)
            self._turn += 1
        return self._sum()

    def whole(self) -> Totals:
        """Where the pass stands, exactly: every unit that is not known to be done is read."""
        self._begun = True
        for each in self._slices:
            if each.left:
                each.look(self._rows)
        return self._sum()

    def _sum(self) -> Totals:
        total = Totals()
        for each in self._slices:
            total = total.plus(each.totals)
        return total
