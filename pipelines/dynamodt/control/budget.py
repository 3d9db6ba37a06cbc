"""The rate of a run: what it may use of its table, and how that is shared out over its workers (guarantee G7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from dynamodt.aws.worker_rows import Grant, Worker
from dynamodt.control.requests import RunOptions
from dynamodt.core.rate import Ramp
from dynamodt.core.shares import Holding, shares
from dynamodt.model import Job, Lease, Stage, TableSpec, Units

LOOK_SECONDS = 1.0
_WAITING_SECONDS = 0.1  # until the first grant: nothing is read before
_SILENT_SECONDS = 15.0  # a worker that has said nothing for so long uses nothing, and its part goes to the others
_ON_DEMAND = Units(rcu=2000.0, wcu=1000.0)  # a new on-demand table takes 4,000 WCU/s, and the application is there too


def budget(stage: Stage, source: TableSpec, target: TableSpec, options: RunOptions) -> Units:
    """The limits that a run begins with, in units a second; 0: none. What was asked for goes first, then a share of
    what is provisioned. A local stage has none unless asked."""
    share = 0.0 if stage.local else options.share / 100.0
    rcu = options.max_rcu or source.read_units * share
    return Units(rcu=rcu, wcu=options.max_wcu or target.write_units * share)


class Leases(Protocol):
    """What `aws.lease_rows.LeaseRows` offers, and a test's fake must."""

    def read(self, table: str) -> Lease: ...


class Workers(Protocol):
    """What `aws.worker_rows.WorkerRows` offers, and a test's fake must."""

    def all(self) -> Iterator[Worker]: ...

    def grant(self, name: str, grant: Grant) -> None: ...


@dataclass(slots=True)
class _Seen:
    """What was seen of a worker last, and when; `using` is the most that it may be using still."""

    worker: Worker
    at: float
    using: Units


class Looked(NamedTuple):
    """What all workers have used since the last look, in units a second, and whether one of them was throttled."""

    used: Units
    throttled: bool


class Allocator:
    """Shares a run's budget out, once a second. Only the process that follows the run has one."""

    def __init__(self, job: Job, leases: Leases, workers: Workers, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._leases = leases
        self._workers = workers
        self._clock = clock
        self._looked_at = clock()
        self._seen: dict[str, _Seen] = {}
        self._ramps: tuple[Ramp, Ramp] | None = None

    def tick(self) -> None:
        """Look at the workers and at the limits, and tell each worker what it may use from now on."""
        now = self._clock()
        seconds = now - self._looked_at
        if seconds < (LOOK_SECONDS if self._ramps or not self._job.governed else _WAITING_SECONDS):
            return
        self._looked_at = now
        lease = self._leases.read(self._job.lease)
        limits = Units(lease.rcu or inf, lease.wcu or inf)
        if not (self._job.governed or self._ramps or lease.rcu or lease.wcu):
            return
        looked = self._look(now, seconds)
        if not self._seen:
            return
        self._share_out(self._allowed(limits, looked))

    def _look(self, now: float, seconds: float) -> Looked:
        used, throttles = Units(), 0
        for worker in self._workers.all():
            before = self._seen.get(worker.name)
            last = before.worker.report if before else worker.report._replace(used=Units(), throttles=0)
            used = used.plus(_difference(worker.report.used, last.used))
            throttles += worker.report.throttles - last.throttles
            lives = before is None or worker.report.beat != last.beat
            at = now if lives or before is None else before.at
            self._seen[worker.name] = _Seen(worker, at, self._using(worker, before))
        return Looked(Units(used.rcu / seconds, used.wcu / seconds), throttles > 0)

    def _using(self, worker: Worker, before: _Seen | None) -> Units:
        """A worker keeps to the grant that it has heard of; until it has heard of the last one, to the one before."""
        if worker.grant is None:
            return _everything(0.0 if self._job.governed else inf)
        if before is None or worker.report.heard == worker.grant.number:
            return worker.grant.rate
        return _larger(before.using, worker.grant.rate)

    def _allowed(self, limits: Units, looked: Looked) -> Units:
        if self._ramps is None:
            self._ramps = self._first_ramps(limits)
        reads, writes = self._ramps
        reads.limit(limits.rcu)
        writes.limit(limits.wcu)
        throttled = looked.throttled
        return Units(reads.look(looked.used.rcu, throttled), writes.look(looked.used.wcu, throttled))

    def _first_ramps(self, limits: Units) -> tuple[Ramp, Ramp]:
        """A governed run starts low. One that is governed only because a person has just said so is at work."""
        start = Units(*(_start(limit, low) for limit, low in zip(limits, _ON_DEMAND, strict=True)))
        start = start if self._job.governed else limits
        return Ramp(limits.rcu, start.rcu, self._clock), Ramp(limits.wcu, start.wcu, self._clock)

    def _share_out(self, allowed: Units) -> None:
        live = [seen for seen in self._seen.values() if self._looked_at - seen.at < _SILENT_SECONDS]
        rcu = shares(allowed.rcu, {seen.worker.name: self._holding(seen, 0) for seen in live})
        wcu = shares(allowed.wcu, {seen.worker.name: self._holding(seen, 1) for seen in live})
        for seen in live:
            name, granted = seen.worker.name, self._granted(seen.worker)
            if name in rcu or name in wcu:
                number = seen.worker.grant.number + 1 if seen.worker.grant else 1
                rate = Units(rcu.get(name, granted.rcu), wcu.get(name, granted.wcu))
                seen.using = _larger(seen.using, rate)
                self._workers.grant(name, Grant(number, rate))

    def _granted(self, worker: Worker) -> Units:
        return worker.grant.rate if worker.grant else _everything(0.0 if self._job.governed else inf)

    def _holding(self, seen: _Seen, kind: int) -> Holding:
        return Holding(self._granted(seen.worker)[kind], seen.using[kind])


def _start(limit: float, low: float) -> float:
    return low if limit == inf else limit * Ramp.BEGINNING


def _everything(rate: float) -> Units:
    return Units(rate, rate)


def _difference(now: Units, before: Units) -> Units:
    return Units(now.rcu - before.rcu, now.wcu - before.wcu)


def _larger(one: Units, other: Units) -> Units:
    return Units(max(one.rcu, other.rcu), max(one.wcu, other.wcu))
