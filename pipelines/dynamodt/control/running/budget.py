"""The rate of a run: what it may use of its table, and how that is shared out over its workers (guarantee G7)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from math import inf
from typing import Protocol

from dynamodt.aws.worker_rows import Grant
from dynamodt.control.requests import RunOptions
from dynamodt.control.running.muster import Looked, Muster, Seen, Workers
from dynamodt.core.rate import Ramp
from dynamodt.core.shares import shares
from dynamodt.model import Job, Lease, Stage, TableSpec, Units

LOOK_SECONDS = 1.0
_WAITING_SECONDS = 0.1  # until the first grant: nothing is read before
_PARTITION = Units(rcu=3000.0, wcu=1000.0)  # takes no more (AWS, "Partitions and data distribution")
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


class Allocator:
    """Shares a run's budget out, once a second. Only the process that follows the run has one.

    `executor` sends grants side by side: a thousand of them, one after the other, would take seconds.
    """

    def __init__(
        self,
        job: Job,
        leases: Leases,
        workers: Workers,
        clock: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        self._job = job
        self._executor = executor
        self._leases = leases
        self._workers = workers
        self._clock = clock
        self._looked_at = clock()
        self._muster = Muster(workers, job.governed)
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
        looked = self._muster.look(now, seconds)
        live = self._muster.live(now)
        if live or self._ramps:
            self._share_out(live, self._allowed(limits, looked))

    def _allowed(self, limits: Units, looked: Looked) -> Units:
        if self._ramps is None:
            self._ramps = self._first_ramps(limits)
        reads, writes = self._ramps
        reads.limit(limits.rcu)
        writes.limit(limits.wcu)
        rcu = reads.look(looked.used.rcu, looked.reads_throttled)
        return Units(rcu, writes.look(looked.used.wcu, looked.writes_throttled))

    def _first_ramps(self, limits: Units) -> tuple[Ramp, Ramp]:
        """A governed run starts low. One that is governed only because a person has just said so is at work."""
        start = Units(*(_start(limit, low) for limit, low in zip(limits, _ON_DEMAND, strict=True)))
        start = start if self._job.governed else limits
        return Ramp(limits.rcu, start.rcu, self._clock), Ramp(limits.wcu, start.wcu, self._clock)

    def _share_out(self, live: list[Seen], allowed: Units) -> None:
        allowed = self._usable(allowed, len(live))
        rcu = shares(allowed.rcu, {seen.worker.name: seen.holding(0) for seen in live})
        wcu = shares(allowed.wcu, {seen.worker.name: seen.holding(1) for seen in live})
        grants: dict[str, Grant] = {}
        for seen in live:
            name, granted = seen.worker.name, seen.granted
            if name in rcu or name in wcu:
                grants[name] = seen.tell(Units(rcu.get(name, granted.rcu), wcu.get(name, granted.wcu)))
        self._tell(grants)

    def _usable(self, allowed: Units, workers: int) -> Units:
        """A worker writes a page at a time, which lies in one partition. The first of a fleet to arrive would have the
        whole budget for it."""
        if self._job.spread == 1:
            return allowed
        return Units(min(allowed.rcu, workers * _PARTITION.rcu), min(allowed.wcu, workers * _PARTITION.wcu))

    def _tell(self, grants: Mapping[str, Grant]) -> None:
        each = map if self._executor is None else self._executor.map
        deque(each(self._workers.grant, grants.keys(), grants.values()), maxlen=0)


def _start(limit: float, low: float) -> float:
    return low if limit == inf else limit * Ramp.BEGINNING
