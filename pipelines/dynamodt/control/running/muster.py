"""What the process that follows a run sees of its workers: who lives, what they use, what they may be using still."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from dynamodt.aws.worker_rows import Grant, Throttles, Worker
from dynamodt.core.shares import Holding
from dynamodt.model import Units

_SILENT_SECONDS = 15.0  # a worker that has said nothing for so long uses nothing, and its part goes to the others
_FEW = 0.05  # of the workers


class Workers(Protocol):
    """What `aws.worker_rows.WorkerRows` offers, and a test's fake must."""

    def all(self) -> Iterator[Worker]: ...

    def grant(self, name: str, grant: Grant) -> None: ...


@dataclass(slots=True)
class Seen:
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

    def holding(self, kind: int) -> Holding:
        """What it has, and the most that it may be using, of reads (0) or writes (1)."""
        return Holding(self.granted[kind], max(grant.rate[kind] for grant in self.told))

    def tell(self, rate: Units) -> Grant:
        """The next grant for it."""
        grant = Grant(self.told[-1].number + 1, rate)
        self.told = (*self.told, grant)
        return grant


class Looked(NamedTuple):
    """What all workers have used since the last look, in units a second, and whether their reads, their writes were
    throttled: those of more than a few. A few among many have met a partition that is busy; each waits by itself, and
    the others go on."""

    used: Units
    reads_throttled: bool
    writes_throttled: bool


class Muster:
    """All workers that have ever reported in this attempt. Who has no grant yet uses nothing where the run is
    `governed`, and else as much as it likes."""

    def __init__(self, rows: Workers, governed: bool) -> None:
        self._rows = rows
        self._first = Grant(0, Units() if governed else Units(inf, inf))
        self._seen: dict[str, Seen] = {}

    def look(self, now: float, seconds: float) -> Looked:
        """Read all rows, so many seconds after the last time."""
        used = Units()
        for worker in self._rows.all():
            before = self._seen.get(worker.name)
            used = used.plus(_since(worker, before))
            self._seen[worker.name] = self._saw(worker, before, now)
        live = self.live(now)
        reads = _many([seen.refused.reads for seen in live])
        writes = _many([seen.refused.writes for seen in live])
        return Looked(Units(used.rcu / seconds, used.wcu / seconds), reads, writes)

    def live(self, now: float) -> list[Seen]:
        """Those who have spoken lately."""
        return [seen for seen in self._seen.values() if now - seen.at < _SILENT_SECONDS]

    def _saw(self, worker: Worker, before: Seen | None, now: float) -> Seen:
        """Grants before the one that it has heard of count no more. While many join, each look brings another one, and
        it may never be seen to have heard of the very last."""
        if before is None:
            return Seen(worker, now, (worker.grant or self._first,), worker.report.throttles)
        if worker.report.beat == before.worker.report.beat:
            return before
        told = tuple(grant for grant in before.told if grant.number >= worker.report.heard)
        last = before.worker.report.throttles
        refused = Throttles(*(after - so_far for after, so_far in zip(worker.report.throttles, last, strict=True)))
        return Seen(worker, now, told, refused)


def _since(worker: Worker, before: Seen | None) -> Units:
    last = before.worker.report.used if before else Units()
    return Units(worker.report.used.rcu - last.rcu, worker.report.used.wcu - last.wcu)


def _many(refused: list[int]) -> bool:
    return sum(map(bool, refused)) >= max(1.0, _FEW * len(refused))
