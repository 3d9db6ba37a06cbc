"""A process's part of the run's budget (guarantee G7): each request waits until the budget covers its estimated cost,
and is charged the consumption that the service reports.

Once a second (every few seconds if its part is small) the process reports its usage and receives its part, which the
process that follows the run allocates (`runs.budget`). The threads that send requests do this; there is no extra
thread. A process that sends nothing reports nothing, and its part goes to the others.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from dynamodt.model.pages import Units
from dynamodt.model.runs import Job
from dynamodt.pipeline.signals import SharedSignal, Signal, context_of, drop_other_rate_limiters
from dynamodt.rate import REQUEST_SECONDS, Ramp, TokenBucket
from dynamodt.state.lease_rows import Report, Throttles, WorkerRows

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources


REPORT_SECONDS = 1.0
_REPORT_SECONDS_MOST = 4.0  # the longest duration of a page, within which a new rate takes effect
_UNITS_A_REPORT = 400.0  # written between two reports, within these bounds, since a report costs a write unit, too
_NAP_SECONDS = 0.25
_READ_SECONDS = 1.0  # the most of the read budget for one page; for the write budget it is REQUEST_SECONDS
_LEARNING = 0.3
_KILOBYTE = 1024.0


class RateLimitedQueue:
    """Requests of one kind, reads or writes, of one process; safe to share between threads.

    The caller estimates the cost of a request; `price` adapts to the service's charge for one unit of the estimate.
    """

    def __init__(
        self,
        bucket: TokenBucket,
        price: float,
        tick: Callable[[], None],
        sleep: Callable[[float], None],
        wait_or_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._bucket = bucket
        self._price = price
        self._tick = tick
        self._sleep = sleep
        self._heed = wait_or_stop
        self._line = threading.Lock()  # first come, first served, so that small requests do not starve a large one
        self._lock = threading.Lock()
        self.used = 0.0
        self.throttles = 0

    @property
    def limited(self) -> bool:
        """Whether there is a limit, so that estimates are used."""
        return self._bucket.rate != inf

    def enter(self, estimate: float, most: float = inf) -> float:
        """Wait until a request of this estimate may be sent, which costs at most `most` units; returns the units that
        were taken for it, for `leave`. The price may rise while it waits. Raises as `wait_or_stop`: at a low rate a
        request may wait for minutes, during which the run may be stopped or paused."""
        if not self.limited:
            self._tick()
            return 0.0
        with self._line:
            while True:
                self._tick()
                cost = min(most, estimate * self._price)
                with self._lock:
                    wait = self._bucket.take(cost)
                if not wait:
                    return cost
                self._heed()
                self._sleep(min(wait, _NAP_SECONDS))

    def leave(self, taken: float, estimate: float, units: float) -> None:
        """Charge a request with the `units` that the service reports."""
        with self._lock:
            self.used += units
            if self.limited:
                self._bucket.charge(units - taken)
            if units and estimate:
                self._price += _LEARNING * (units / estimate - self._price)

    def throttled(self, times: int = 1) -> None:
        """Count requests that were refused for their rate."""
        with self._lock:
            self.throttles += times

    def change(self, rate: float) -> None:
        """Change the rate, in units a second."""
        with self._lock:
            self._bucket.change(rate)

    def within(self, seconds: float, estimate: float) -> float:
        """The number of requests of this estimate that pass in a number of seconds."""
        return self._bucket.rate * seconds / (estimate * self._price)


class RampedQueue(RateLimitedQueue):
    """The requests of a process that shares its budget with no other. A `Ramp` decides the rate once a second: `limit`
    is the most units a second (`inf`: no limit), `first` the first rate."""

    def __init__(self, limit: float, first: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        super().__init__(TokenBucket(min(limit, first), clock), 1.0, self._adjust, sleep)
        self._ramp = Ramp(limit, first, clock)
        self._clock = clock
        self._at, self._used_at, self._throttles_at = clock(), 0.0, 0  # when the rate was last adjusted

    def _adjust(self) -> None:
        seconds = self._clock() - self._at
        if seconds >= REPORT_SECONDS:
            used = (self.used - self._used_at) / seconds
            self.change(self._ramp.poll(used, self.throttles > self._throttles_at))
            self._at, self._used_at, self._throttles_at = self._clock(), self.used, self.throttles


class WorkerRateLimiter:
    """The read and the write budget of a process, and its reports."""

    def __init__(
        self,
        job: Job,
        replica: WorkerRows,
        name: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wait_or_stop: Callable[[], None] = lambda: None,
    ) -> None:
        rate = 0.0 if job.governed else inf
        self._item_units = job.table.item_units(job.consistent)
        self._item_kilobytes = job.table.item_bytes / _KILOBYTE
        self._replica = replica
        self._name = name
        self._clock = clock
        self._sleep = sleep
        self._heed = wait_or_stop
        self._reporting = threading.Lock()
        self._period = _NAP_SECONDS if job.governed else REPORT_SECONDS
        self._reported_at = clock() - (_NAP_SECONDS if job.governed else 0.0)
        self._beat = 0
        self._reported = Throttles()
        self._awaited = 0
        target = job.written_table
        self.reads = RateLimitedQueue(TokenBucket(rate, clock), 1.0, self._tick, sleep, wait_or_stop)
        self.writes = RateLimitedQueue(TokenBucket(rate, clock), 1.0 + target.indexes, self._tick, sleep, wait_or_stop)

    def page_items(self, most: int) -> int:
        """The number of items of the next page, such that reading and writing all of them takes a few seconds."""
        while self.reads.within(1.0, 1.0) == 0.0 or self.writes.within(1.0, 1.0) == 0.0:  # nothing granted yet
            self._tick()
            self._heed()
            self._sleep(_NAP_SECONDS)
        items = min(
            self.reads.within(_READ_SECONDS, self.read_estimate(1)),
            self.writes.within(REQUEST_SECONDS, max(1.0, self._item_kilobytes)),
        )
        return most if items >= most else max(1, int(items))

    def rest(self, seconds: float) -> None:
        """Wait between two tries of a throttled read. Throttles are reported, and the run may be stopped or paused.
        Raises as `wait_or_stop`."""
        while seconds > 0.0:
            self._tick()
            self._sleep(min(seconds, _NAP_SECONDS))
            seconds -= _NAP_SECONDS
            self._heed()

    def read_estimate(self, items: int) -> float:
        """Read units for a number of items."""
        return items * self._item_units

    def _tick(self) -> None:
        if self._clock() - self._reported_at < self._due() or not self._reporting.acquire(blocking=False):
            return
        try:
            self._report()
        finally:
            self._reporting.release()

    def _due(self) -> float:
        """The seconds between two reports; throttles are reported soon."""
        return min(REPORT_SECONDS, self._period) if self._throttles() != self._reported else self._period

    def _throttles(self) -> Throttles:
        return Throttles(self.reads.throttles, self.writes.throttles)

    def _report(self) -> None:
        self._beat += 1
        used = Units(self.reads.used, self.writes.used)
        self._reported = self._throttles()
        report = Report(self._beat, self._awaited, used, self._reported)
        grant = self._replica.report(self._name, report)
        self._reported_at = self._clock()
        if grant is None:  # no grant yet: a thousand waiting workers must not ask four times a second
            self._period = min(REPORT_SECONDS, 2.0 * self._period)
        elif grant.number != self._awaited:
            self.reads.change(grant.rate.rcu)
            self.writes.change(grant.rate.wcu)
            self._awaited = grant.number
            self._period = _report_seconds(grant.rate.wcu)


def _report_seconds(wcu: float) -> float:
    """The seconds between reports for a part of `wcu` write units a second; one second for 0, or without a limit."""
    return min(_REPORT_SECONDS_MOST, max(REPORT_SECONDS, _UNITS_A_REPORT / wcu)) if wcu > 0.0 else REPORT_SECONDS


def rate_limiter_of(job: Job, resources: Resources) -> WorkerRateLimiter:
    """The rate limiter of a run in this process, which its stages share."""
    context = context_of(job)
    with context.making:
        if context.rate_limiter is None:
            drop_other_rate_limiters(context)
            state = resources.state()
            replica = state.workers(job.base_run, job.attempt, job.shards)
            signal = SharedSignal(Signal(state.leases, job, resources.clock, resources.sleep))
            context.rate_limiter = WorkerRateLimiter(
                job, replica, _name(), resources.clock, resources.sleep, signal.wait_or_stop
            )
        return context.rate_limiter


def _name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
