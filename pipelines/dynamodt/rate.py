"""Rates: back-off between tries, a token bucket, the ramp-up of a budget, and its allocation to many workers.

Pure: the clock, the dice and the sleep are passed in. Nothing is safe to share between threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import fsum, inf
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    `base` and `cap` are seconds; after `attempts` tries there is no further one.
    """

    base: float = 0.05
    cap: float = 20.0
    attempts: int = 12

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait after the failed try number `attempt` (1 is the first); `random()` is in [0, 1)."""
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60)) * random()

    def exhausted(self, attempt: int) -> bool:
        """Whether try number `attempt` was the last."""
        return attempt >= self.attempts


REQUEST_SECONDS = 4.0  # the most of its budget for one request, so that a low rate is used evenly, and reported so


def smaller_batch(size: int, throttled: int) -> int:
    """The next batch's size after `throttled` throttles in a row: halved each time, never below one."""
    return max(1, size >> throttled)


_NEARLY = 1.0 - 1e-6  # the missing units may be too few for the clock to advance


class TokenBucket:
    """Lets `rate` units a second pass. Units are saved up before they are taken, so that up to any moment no more than
    rate x seconds have passed; at most the units of `burst` seconds are saved. `inf`: everything passes."""

    def __init__(self, rate: float, clock: Callable[[], float], burst: float = 0.25) -> None:
        self._clock = clock
        self._burst = burst
        self._rate = rate
        self._units = 0.0
        self._at = clock()

    @property
    def rate(self) -> float:
        """Units a second."""
        return self._rate

    def change(self, rate: float) -> None:
        """Change the rate. Debts stay, and so do savings, reduced in proportion to a lower rate: otherwise many workers
        together would spend what they have saved for large requests."""
        self._save(self._burst * self._rate)
        self._units = 0.0 if inf in (rate, self._rate) else self._units
        if rate < self._rate and self._units > 0.0:
            self._units *= rate / self._rate
        self._rate = rate

    def take(self, cost: float) -> float:
        """Take `cost` if it is saved, and return 0; otherwise take nothing and return the seconds until it will be."""
        if self._rate == inf:
            return 0.0
        self._save(max(cost, self._burst * self._rate))
        if self._units < cost * _NEARLY:
            return (cost - self._units) / self._rate if self._rate > 0 else inf
        self._units -= cost
        return 0.0

    def charge(self, units: float) -> None:
        """Charge the units of a request beyond its cost; a negative number gives units back."""
        if self._rate != inf:
            self._units -= units

    def _save(self, most: float) -> None:
        now = self._clock()
        saved = 0.0 if self._rate == inf else (now - self._at) * self._rate
        self._units = max(self._units, min(most, self._units + saved))
        self._at = now


class Ramp:
    """The rate of all workers together. It starts low and doubles every `doubling` seconds while it is used and nothing
    is throttled. A throttle cuts it to below the used rate, and stops its growth for a while.

    DynamoDB splits a partition, or scales an on-demand table, only under a growing load; a sudden load is throttled,
    and the application's requests with it (AWS, "On-demand capacity mode": up to double the previous peak).
    """

    _REST = 5.0  # seconds without growth after a throttle
    _CUT = 0.7
    _UNSEEN = 0.5  # of a rate may be used before it is reported: after a pause all workers begin at once
    _LEAST = 1.0
    _USED = 0.5  # a rate does not grow if less than this share of it is used
    _PATIENCE = 10.0  # seconds after which a rate counts as not used: a slow one is used in bursts
    _BEGINNING = 0.25  # of a limit
    _SMALL = 100.0  # units a second: a tenth of a partition's maximum needs no growing load
    _SLOWED = 0.1  # of the highest rate, far below what a run at the table's capacity falls to

    def __init__(self, limit: float, start: float, clock: Callable[[], float], doubling: float = 5.0) -> None:
        self._limit = limit
        self._rate = min(limit, start)
        self._clock = clock
        self._doubling = doubling
        self._at = self._grows_from = clock()
        self._highest = 0.0
        self._units = self._seconds = 0.0  # used since it grew

    @classmethod
    def first(cls, limit: float) -> float:
        """The first rate below a limit."""
        return min(limit, max(cls._BEGINNING * limit, cls._SMALL))

    @property
    def rate(self) -> float:
        """Units a second, never above the limit."""
        return self._rate

    @property
    def slowed(self) -> bool:
        """Whether throttles have cut the rate to less than a tenth of its highest."""
        return self._rate < self._SLOWED * self._highest

    def limit(self, limit: float) -> None:
        """Change the limit. A lower one applies at once; towards a higher one, the rate grows from its usual start."""
        if self._limit < limit < inf:
            self._rate = max(self._rate, self.first(limit))
        self._limit = limit
        self._rate = min(limit, self._rate)
        self._highest = min(limit, self._highest)

    def poll(self, used: float, throttled: bool) -> float:
        """The new rate, given that `used` units a second were used since the last call."""
        now = self._clock()
        if throttled and now >= self._grows_from:  # one cut for one event
            self._rate = self._cut(used)
            self._grows_from = now + self._REST
            self._units = self._seconds = 0.0
        elif now >= self._grows_from:
            self._grow(used, now - self._at)
        self._at = now
        self._highest = max(self._highest, self._rate if self._rate < inf else 0.0)
        return self._rate

    def _cut(self, used: float) -> float:
        """A rate below the used one. Reports lag behind: a rate that is still too high is cut again."""
        unseen = self._UNSEEN * self._rate if self._rate < inf else 0.0
        cut = max(self._LEAST, self._CUT * min(self._rate, max(used, unseen)))
        return min(self._rate, cut)  # which may be below the least itself

    def _grow(self, used: float, seconds: float) -> None:
        self._units += used * seconds
        self._seconds += seconds
        if self._units >= self._USED * self._rate * self._seconds:
            self._rate = min(self._limit, self._rate * 2.0 ** min(1.0, self._seconds / self._doubling))
        elif self._seconds < self._PATIENCE:
            return
        self._units = self._seconds = 0.0


_RESERVE = 50  # workers for each part that is kept for workers that join
_WORTH_A_WRITE = 0.02  # an allocation is not raised by less, since each change writes a row


class Allocation(NamedTuple):
    """A worker's last grant, and the rate that it may be using: more than the grant until it has received a lower
    one."""

    granted: float = 0.0
    using: float = 0.0


def shares(allowed: float, allocations: Mapping[str, Allocation]) -> dict[str, float]:
    """The changed grants that bring all workers to equal parts. Larger grants are lowered first, and only a rate that
    is known to be free is granted: the sum of all used or granted rates never exceeds `allowed`.

    One part in fifty is kept in reserve, and no grant is lowered while the free part suffices: a worker that joins a
    thousand others gets its part at once, without a change of other grants.
    """
    if not allocations:
        return {}
    if allowed == inf:
        return _changed(dict.fromkeys(allocations, inf), allocations)
    fair = allowed / (len(allocations) + len(allocations) // _RESERVE)
    grants = {name: one.granted for name, one in allocations.items()}
    # fsum, which is the same on every Python: from 3.12 on sum rounds in another way
    wanted = fsum(max(0.0, fair - grant) for grant in grants.values())
    if wanted > _free(allowed, grants, allocations):
        grants = {name: min(fair, grant) for name, grant in grants.items()}
    return _changed(_raised(fair, _free(allowed, grants, allocations), grants), allocations)


def _free(allowed: float, grants: Mapping[str, float], allocations: Mapping[str, Allocation]) -> float:
    return allowed - fsum(max(grants[name], one.using) for name, one in allocations.items())


def _raised(fair: float, free: float, grants: Mapping[str, float]) -> dict[str, float]:
    raised = dict(grants)
    for name in sorted(grants, key=lambda name: (grants[name], name)):  # the neediest first
        more = max(0.0, min(fair - grants[name], free))
        raised[name] += more
        free -= more
    return raised


def _changed(wanted: Mapping[str, float], allocations: Mapping[str, Allocation]) -> dict[str, float]:
    return {name: grant for name, grant in wanted.items() if _is_worth_a_write(grant, allocations[name].granted)}


def _is_worth_a_write(grant: float, before: float) -> bool:
    return grant < before or grant > before * (1.0 + _WORTH_A_WRITE)
