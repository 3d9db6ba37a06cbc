"""A run's rate: its budget, each worker's part of it, and the pause while an alarm is on (guarantee G7)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from botocore.parsers import ResponseParserError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import DynamodtError, ServiceError
from dynamodt.model.pages import Units
from dynamodt.model.runs import Job, Lease
from dynamodt.model.tables import Connection, Stage, TableSpec
from dynamodt.rate import Allocation, Ramp, shares
from dynamodt.state.worker_rows import Grant, Throttles, Worker

if TYPE_CHECKING:
    from dynamodt.runs.context import RunContext
    from dynamodt.runs.options import RunOptions
    from dynamodt.state.state import State

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


def limit_budget(context: RunContext, run: str, table: TableSpec, target: TableSpec | None) -> None:
    """Write the run's first limits to its lease. `throttle` changes them while it runs."""
    limits = budget(context.stage, table, target or table, context.options)
    if any(limits):
        lease = f"dry-run/{run}" if context.options.dry_run else table.name
        context.state.leases.tell(lease, context.token, **limits._asdict())


class Leases(Protocol):
    """What `state.lease_rows.LeaseRows` offers, and a test's fake must."""

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
        self._worker_registry = WorkerRegistry(workers, job.governed)
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
        looked = self._worker_registry.look(now, seconds)
        live = self._worker_registry.live(now)
        if live or self._ramps:
            self._share_out(live, self._allowed(limits, looked))

    def _allowed(self, limits: Units, looked: UsageSample) -> Units:
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

    def _share_out(self, live: list[WorkerState], allowed: Units) -> None:
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
        if self._job.shards == 1:
            return allowed
        return Units(min(allowed.rcu, workers * _PARTITION.rcu), min(allowed.wcu, workers * _PARTITION.wcu))

    def _tell(self, grants: Mapping[str, Grant]) -> None:
        each = map if self._executor is None else self._executor.map
        deque(each(self._workers.grant, grants.keys(), grants.values()), maxlen=0)


def _start(limit: float, low: float) -> float:
    return low if limit == inf else limit * Ramp.BEGINNING


_ATTEMPTS = 2  # an alarm that cannot be read is to be known soon: the workers go on meanwhile
_SECONDS = 5.0


def alarm_states(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """The state (OK, ALARM or INSUFFICIENT_DATA) of each metric or composite alarm of these names that there is.

    Raises ServiceError when they cannot be read, within half a minute. It needs cloudwatch:DescribeAlarms, which for
    composite alarms must be granted on `*`.
    """
    cloudwatch = client(connection, "cloudwatch", attempts=_ATTEMPTS, seconds=_SECONDS)
    where = f"region {connection.region}"
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    with explained("DescribeAlarms", where):
        try:
            found = [alarm for page in pages for alarm in page["MetricAlarms"] + page["CompositeAlarms"]]
        except (ResponseParserError, KeyError) as error:  # an endpoint that is no CloudWatch
            raise ServiceError(f"the endpoint does not answer as CloudWatch: {error}", where=where) from error
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}


ALARM_SECONDS = 10.0

# A new alarm starts as INSUFFICIENT_DATA, and one on a metric that is sent for errors only (DynamoDB's
# ThrottledRequests) stays so for as long as all is well, whatever its TreatMissingData says: to rest for that would be
# to rest for ever. Whoever wants missing data to hold a run sets TreatMissingData to `breaching`, where it is obeyed.
_QUIET = ("OK", "INSUFFICIENT_DATA")


def watching(
    names: Sequence[str], job: Job, state: State, note: Callable[[str], None]
) -> tuple[Callable[[], None], ...]:
    """What is to be called now and then while the job runs: nothing where no alarm is named."""
    if not names:
        return ()
    read = partial(alarm_states, job.stage.connection, names)

    def pause_reason(why: str) -> None:
        state.leases.tell(job.lease, job.attempt, pause_reason=why)

    return (AlarmWatch(names, read, pause_reason, note).tick,)


class AlarmWatch:
    """Holds a run while one of its alarms is in ALARM, or cannot be read; lets it go on when all are quiet.

    `read` gives the alarms' states by name, `hold` tells the workers why to rest (empty: no more).
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[], Mapping[str, str]],
        pause_reason: Callable[[str], None],
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._read = read
        self._pause_reason = pause_reason
        self._note = note
        self._clock = clock
        self._due = float("-inf")
        self._told: str | None = None  # the first look tells the workers in any case: a run before may have left word

    def tick(self) -> None:
        """Look at the alarms, ten seconds after the last look. Raises Fenced when the run is another process's by now,
        ServiceError when the workers cannot be told."""
        if self._clock() < self._due:
            return
        why = self._why()
        self._due = self._clock() + ALARM_SECONDS
        if why == self._told:
            return
        self._pause_reason(why)
        if why:
            self._note(f"the run rests: {why}")
        elif self._told:
            self._note("the run goes on: no alarm holds it any more")
        self._told = why

    def _why(self) -> str:
        try:
            states = self._read()
        except DynamodtError as error:
            return f"the alarms cannot be read: {error}" + (f" ({error.hint})" if error.hint else "")
        reasons = [_reason(name, states.get(name)) for name in self._names if states.get(name) not in _QUIET]
        return "; ".join(reasons)


def _reason(name: str, state: str | None) -> str:
    if state is None:
        return f"there is no alarm {name} (a composite one is shown only to who may DescribeAlarms on *)"
    return f"the alarm {name} is in {state}"
