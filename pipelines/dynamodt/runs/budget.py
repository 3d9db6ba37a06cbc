"""A run's rate: its budget, each worker's part of it, and the pause while an alarm is on (guarantee G7)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from botocore.parsers import ResponseParserError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.table import capacity
from dynamodt.errors import DynamodtError, ServiceError
from dynamodt.model.pages import Units
from dynamodt.model.runs import Job, JournalSource, Lease
from dynamodt.model.tables import Connection, Item, Stage, TableSpec, limiting_table
from dynamodt.pipeline.rate_limit import RampedQueue
from dynamodt.rate import Allocation, Ramp, shares
from dynamodt.state.lease_rows import Grant, LeaseRows, Throttles, Worker, WorkerRows

if TYPE_CHECKING:
    from dynamodt.runs.context import RunContext
    from dynamodt.runs.options import RunOptions
    from dynamodt.state.state import State


LOOK_SECONDS = 1.0
_WAITING_SECONDS = 0.1  # between polls until the first grant, before which no item is read
_PARTITION = Units(rcu=3000.0, wcu=1000.0)  # a partition's maximum (AWS, "Partitions and data distribution")
ON_DEMAND = Units(rcu=2000.0, wcu=1000.0)  # a new on-demand table takes 4,000 WCU/s, and the application needs a part


def budget(stage: Stage, source: TableSpec, target: TableSpec, options: RunOptions) -> Units:
    """A run's first limits in units per second; 0: none. An option takes precedence over a share of the provisioned
    throughput, or of an on-demand table's maximum. A local stage has no limits by default."""
    return share_of(Units() if stage.local else _capacity(source, target), options)


def _capacity(read: TableSpec, written: TableSpec) -> Units:
    """The capacity of a run's tables; 0: no limit."""
    return Units(read.read_units, limiting_table(read, written).write_units)


def share_of(capacity: Units, options: RunOptions) -> Units:
    """The limits that the options give, or else a share of this capacity; 0: none."""
    share = options.share / 100.0
    return Units(rcu=options.max_rcu or capacity.rcu * share, wcu=options.max_wcu or capacity.wcu * share)


def read_limiter(stage: Stage, read_units: float, options: RunOptions) -> RampedQueue:
    """The queue of a process that reads a table or index of this capacity alone. Its budget is that of a run's
    reads."""
    limit = share_of(Units(rcu=0.0 if stage.local else read_units), options).rcu or inf
    first = _start(limit, inf if stage.local else ON_DEMAND.rcu)
    return RampedQueue(limit, first, time.monotonic, time.sleep)


def _start(limit: float, unlimited: float) -> float:
    """The first rate below a limit; without a limit, `unlimited`."""
    return unlimited if limit == inf else Ramp.first(limit)


_SILENT_SECONDS = 15.0  # without a report for this long, a worker's part goes to the others
_FEW = 0.05  # of the workers


@dataclass(slots=True)
class WorkerState:
    """A worker's row, the time `at` which its last report was seen, and the throttles since the previous report.

    `grants` are the grants that it may be applying: the last one that it has confirmed, and all later ones.
    """

    worker: Worker
    at: float
    grants: tuple[Grant, ...]
    refused: Throttles

    @property
    def granted(self) -> Units:
        """The rate of its last grant."""
        return self.grants[-1].rate

    def allocation(self, kind: int) -> Allocation:
        """The worker's grant of reads (0) or writes (1), and the most that it may be using."""
        return Allocation(self.granted[kind], max(grant.rate[kind] for grant in self.grants))

    def grant(self, rate: Units) -> Grant:
        """The next grant, of this rate."""
        grant = Grant(self.grants[-1].number + 1, rate)
        self.grants = (*self.grants, grant)
        return grant


class UsageSample(NamedTuple):
    """The usage of all workers since the last poll, in units per second, and whether reads and writes were throttled.

    Throttles of a few workers among many do not count: each of these workers waits for its own busy partition.
    """

    used: Units
    reads_throttled: bool
    writes_throttled: bool


class WorkerRegistry:
    """The workers that have reported in this attempt. Before its first grant, a worker of a `governed` run uses
    nothing, and a worker of any other run is not limited."""

    def __init__(self, rows: WorkerRows, governed: bool) -> None:
        self._rows = rows
        self._first = Grant(0, Units() if governed else Units(inf, inf))
        self._seen: dict[str, WorkerState] = {}

    def poll(self, now: float, seconds: float) -> UsageSample:
        """Read all rows, `seconds` after the last poll."""
        used = Units()
        for worker in self._rows.all():
            before = self._seen.get(worker.name)
            used = used.plus(_since(worker, before))
            self._seen[worker.name] = self._observed(worker, before, now)
        live = self.live(now)
        reads = _many([seen.refused.reads for seen in live])
        writes = _many([seen.refused.writes for seen in live])
        return UsageSample(Units(used.rcu / seconds, used.wcu / seconds), reads, writes)

    def live(self, now: float) -> list[WorkerState]:
        """The workers that have reported lately."""
        return [seen for seen in self._seen.values() if now - seen.at < _SILENT_SECONDS]

    def _observed(self, worker: Worker, before: WorkerState | None, now: float) -> WorkerState:
        """The worker's state after a poll. Grants before the confirmed one are dropped; later ones are kept, since each
        poll may send another grant while many workers join, and the last one may never be seen confirmed."""
        if before is None:
            return WorkerState(worker, now, (worker.grant or self._first,), worker.report.throttles)
        if worker.report.beat == before.worker.report.beat:
            return before
        grants = tuple(grant for grant in before.grants if grant.number >= worker.report.awaited)
        last = before.worker.report.throttles
        refused = Throttles(*(after - so_far for after, so_far in zip(worker.report.throttles, last, strict=True)))
        return WorkerState(worker, now, grants, refused)


def _since(worker: Worker, before: WorkerState | None) -> Units:
    last = before.worker.report.used if before else Units()
    return Units(worker.report.used.rcu - last.rcu, worker.report.used.wcu - last.wcu)


def _many(refused: list[int]) -> bool:
    return sum(map(bool, refused)) >= max(1.0, _FEW * len(refused))


def limit_budget(context: RunContext, lease: str, read: TableSpec, written: TableSpec) -> None:
    """Write the limits of a run that reads and writes these tables to its lease. `throttle` changes them while it runs,
    and `CapacityWatch` with the tables' capacity. A limit that `throttle` has set in an earlier version's run stays."""
    limits, table = budget(context.stage, read, written, context.options), limiting_table(read, written)
    if (table.limiting_index or table is not written) and limits.wcu and not context.options.max_wcu:
        index = f"index {table.limiting_index} of " if table.limiting_index else ""
        why = "a full index throttles its table" if index else "each write to another table checks its source"
        what = f"a share of the capacity of {index}table {table.name} (else: --max-wcu)"
        context.observer.notify(f"at most {limits.wcu:,.0f} WCU/s, {what}: {why}")
    context.state.leases.change(lease, context.token, partial(_changes, limits))


def _changes(limits: Units, lease: Lease) -> Item:
    """The limits that differ from those of the lease, without those that `throttle` has set."""
    found = limits._asdict().items()
    return {name: limit for name, limit in found if name not in lease.throttled and limit != getattr(lease, name)}


CAPACITY_SECONDS = 60.0


def watch_capacity(context: RunContext, job: Job) -> CapacityWatch | None:
    """The watch over the tables' capacity; None if the run's limits are not a share of it."""
    options = context.options
    if context.stage.local or (options.max_rcu and options.max_wcu):
        return None
    source = job.written_table if isinstance(job.source, JournalSource) else job.table

    def at_present(table: TableSpec) -> TableSpec:
        found = capacity(context.stage.connection, table.name)
        return replace(table, read_units=found.read, write_units=found.write)

    return CapacityWatch(job, context, lambda: _capacity(at_present(source), at_present(job.written_table)))


class CapacityWatch:
    """Adapts a run's limits to the tables' capacity, which auto scaling and operators change. The capacity is read at
    the start, since the plan may be hours old, and once a minute, in the process that follows the run. A limit that
    `throttle` has set is kept."""

    def __init__(
        self, job: Job, context: RunContext, read: Callable[[], Units], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._job = job
        self._context = context
        self._read = read
        self._clock = clock
        self._due = clock()

    def tick(self) -> None:
        """Read the capacity if it is due, and write the limits that change with it. If it cannot be read, nothing
        changes. Raises Fenced when another process has taken the run over, ServiceError when the lease cannot be
        written."""
        if self._clock() < self._due:
            return
        found: Units | None = None
        with suppress(ServiceError):
            found = self._read()
        self._due = self._clock() + CAPACITY_SECONDS
        if found is not None:
            self._follow(found)

    def _follow(self, capacity: Units) -> None:
        changed: Item = {}

        def changes(lease: Lease) -> Item:
            changed.clear()  # `throttle` has written the lease in between
            changed.update(_changes(share_of(capacity, self._context.options), lease))
            return changed

        self._context.state.leases.change(self._job.lease, self._job.attempt, changes)
        if changed:
            limits = ", ".join(
                f"{limit:,.0f} {name.upper()}/s" if limit else f"no {name.upper()} limit"
                for name, limit in changed.items()
            )
            self._context.observer.notify(f"the table's capacity has changed: the run's limits are now {limits}")


@dataclass(eq=False)
class Allocator:
    """Divides a run's budget among its workers, once a second, in the process that follows the run.

    `executor` sends grants concurrently: a thousand in sequence would take seconds.
    """

    job: Job
    leases: LeaseRows
    workers: WorkerRows
    clock: Callable[[], float] = time.monotonic
    executor: Executor | None = None

    def __post_init__(self) -> None:
        self._looked_at = self.clock()
        self._worker_registry = WorkerRegistry(self.workers, self.job.governed)
        self.ramps: tuple[Ramp, Ramp] | None = None  # of reads and writes

    def tick(self) -> None:
        """Read the workers and the limits, and write a new grant for each worker whose part changes."""
        now = self.clock()
        seconds = now - self._looked_at
        if seconds < (LOOK_SECONDS if self.ramps or not self.job.governed else _WAITING_SECONDS):
            return
        self._looked_at = now
        lease = self.leases.read(self.job.lease)
        limits = Units(lease.rcu or inf, lease.wcu or inf)
        if not (self.job.governed or self.ramps or lease.rcu or lease.wcu):
            return
        sample = self._worker_registry.poll(now, seconds)
        live = self._worker_registry.live(now)
        if live or self.ramps:
            self._allocate(live, self._allowed(limits, sample))

    def _allowed(self, limits: Units, sample: UsageSample) -> Units:
        if self.ramps is None:
            self.ramps = self._first_ramps(limits)
        reads, writes = self.ramps
        reads.limit(limits.rcu)
        writes.limit(limits.wcu)
        rcu = reads.poll(sample.used.rcu, sample.reads_throttled)
        return Units(rcu, writes.poll(sample.used.wcu, sample.writes_throttled))

    def _first_ramps(self, limits: Units) -> tuple[Ramp, Ramp]:
        """The first ramps: a governed run starts low; a run that is limited after its start starts at its limits."""
        start = Units(*map(_start, limits, ON_DEMAND))
        start = start if self.job.governed else limits
        return Ramp(limits.rcu, start.rcu, self.clock), Ramp(limits.wcu, start.wcu, self.clock)

    def _allocate(self, live: list[WorkerState], allowed: Units) -> None:
        allowed = self._usable(allowed, len(live))
        rcu = shares(allowed.rcu, {seen.worker.name: seen.allocation(0) for seen in live})
        wcu = shares(allowed.wcu, {seen.worker.name: seen.allocation(1) for seen in live})
        grants: dict[str, Grant] = {}
        for seen in live:
            name, granted = seen.worker.name, seen.granted
            if name in rcu or name in wcu:
                grants[name] = seen.grant(Units(rcu.get(name, granted.rcu), wcu.get(name, granted.wcu)))
        self._send(grants)

    def _usable(self, allowed: Units, workers: int) -> Units:
        """The allowed rate, limited for each worker of a fleet to one partition's maximum: a worker's pages are in one
        partition, and the first worker to start would be granted the whole budget."""
        if self.job.shards == 1:
            return allowed
        return Units(min(allowed.rcu, workers * _PARTITION.rcu), min(allowed.wcu, workers * _PARTITION.wcu))

    def _send(self, grants: Mapping[str, Grant]) -> None:
        each = map if self.executor is None else self.executor.map
        deque(each(self.workers.grant, grants.keys(), grants.values()), maxlen=0)


_ATTEMPTS = 2  # few, since the workers continue until an unreadable alarm is reported
_SECONDS = 5.0


def alarm_states(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """The state (OK, ALARM or INSUFFICIENT_DATA) of each existing metric or composite alarm of these names.

    Raises ServiceError within half a minute when they cannot be read. Requires cloudwatch:DescribeAlarms, on `*` for
    composite alarms.
    """
    cloudwatch = client(connection, "cloudwatch", attempts=_ATTEMPTS, seconds=_SECONDS)
    where = f"region {connection.region}"
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    with explained("DescribeAlarms", where):
        try:
            found = [alarm for page in pages for alarm in page["MetricAlarms"] + page["CompositeAlarms"]]
        except (ResponseParserError, KeyError) as error:  # the endpoint is not CloudWatch's
            raise ServiceError(f"the endpoint does not answer as CloudWatch: {error}", where=where) from error
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}


ALARM_SECONDS = 10.0

# A new alarm starts as INSUFFICIENT_DATA, and one on a metric that is sent only for errors (DynamoDB's
# ThrottledRequests) stays so without errors, whatever its TreatMissingData: a run that paused for it would never
# continue. TreatMissingData `breaching`, where CloudWatch applies it, makes missing data pause a run.
_QUIET = ("OK", "INSUFFICIENT_DATA")


def watching(
    names: Sequence[str], job: Job, state: State, notify: Callable[[str], None]
) -> tuple[Callable[[], None], ...]:
    """The tick that watches the alarms while the job runs; none without alarms."""
    if not names:
        return ()
    read = partial(alarm_states, job.stage.connection, names)
    watch = AlarmWatch(names, read, lambda why: state.leases.set(job.lease, job.attempt, pause_reason=why), notify)
    return (watch.tick,)


@dataclass(eq=False)
class AlarmWatch:
    """Pauses a run while one of its alarms is in ALARM or cannot be read.

    `read` returns the alarms' states by name, `pause_reason` writes the reason to the lease (empty: continue).
    """

    names: Sequence[str]
    read: Callable[[], Mapping[str, str]]
    pause_reason: Callable[[str], None]
    notify: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._due = float("-inf")
        self._reason: str | None = None  # None: not written yet; an earlier attempt may have left one

    def tick(self) -> None:
        """Read the alarms, ten seconds after the last poll. Raises Fenced when another process has taken the run over,
        ServiceError when the lease cannot be written."""
        if self.clock() < self._due:
            return
        why = self._why()
        self._due = self.clock() + ALARM_SECONDS
        if why == self._reason:
            return
        self.pause_reason(why)
        if why:
            self.notify(f"the run pauses: {why}")
        elif self._reason:
            self.notify("the run continues: no alarm pauses it")
        self._reason = why

    def _why(self) -> str:
        try:
            states = self.read()
        except DynamodtError as error:
            return f"the alarms cannot be read: {error}" + (f" ({error.hint})" if error.hint else "")
        reasons = [_reason(name, states.get(name)) for name in self.names if states.get(name) not in _QUIET]
        return "; ".join(reasons)


def _reason(name: str, state: str | None) -> str:
    if state is None:
        return f"there is no alarm {name} (a composite one needs cloudwatch:DescribeAlarms on *)"
    return f"the alarm {name} is in {state}"
