"""The rate of a run: what it may use of its table, and how that is shared out over its workers (guarantee G7).

The states of CloudWatch alarms.

Lets a run rest while an alarm is on: the application's distress goes before the migration's progress.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from math import inf
from typing import TYPE_CHECKING, Protocol

from botocore.parsers import ResponseParserError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import ServiceError
from dynamodt.model.pages import Units
from dynamodt.model.runs import Job, Lease
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.rate import Ramp, shares
from dynamodt.runs.options import RunOptions
from dynamodt.runs.worker_registry import UsageSample, WorkerRegistry, Workers, WorkerState
from dynamodt.state.worker_rows import Grant

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from functools import partial

from dynamodt.errors import DynamodtError
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
