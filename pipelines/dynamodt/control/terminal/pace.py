"""How far a run is, how fast, and how long it will take: pure figures, for whichever display."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from dynamodt.model import Standing

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


def share(read: int, expected_items: int, units_done: int, units_total: int) -> Share:
    """By items where DynamoDB's stale count is not refuted yet, else by units of work. It is full only when all units
    are done: until then each of the others counts for one item at least."""
    left = max(0, units_total - units_done)
    if units_total and not left:
        return Share(units_total, units_total)
    if expected_items > 0 and read <= expected_items:
        return Share(read, max(expected_items, read + left))
    return Share(units_done, units_total) if units_total else Share(0, None)


def share_of(standing: Standing, expected_items: int) -> Share:
    """How far a run is."""
    return share(standing.totals.counts.read, expected_items, standing.totals.done, standing.planned)


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

    def saw(self, now: float, standing: Standing, share: Share) -> None:
        """Remember where the run stands; `now` is in seconds, of any clock that does not go back."""
        units = standing.totals.units
        part = share.done / share.total if share.total else 0.0
        sample = _Sample(now, standing.totals.counts.read, units.wcu, units.rcu, standing.totals.bytes, part)
        if standing.rests:
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


def figures(standing: Standing, speed: Speed | None) -> list[str]:
    """What a run has come to, the most telling first; what there is none of is left out."""
    counts, friction = standing.totals.counts, standing.totals.friction
    parts = [counted(counts.read, "item")]
    parts += [counted(counts.dead, "dead letter")] if counts.dead else []
    parts += [f"{_rate(speed.items)} items/s"] if speed else []
    parts += [_bytes(speed.bytes)] if speed and speed.bytes else []
    parts += _capacity(speed, standing) if speed else []
    parts += [counted(friction.conflicts, "conflict")] if friction.conflicts else []
    return parts + ([counted(friction.throttles, "throttle")] if friction.throttles else [])


def _rate(amount: float) -> str:
    """In whole numbers, but for a rate below one: a table may be throttled to half a unit a second."""
    return f"{amount:,.0f}" if amount >= 1.0 or not amount else f"{amount:.1g}"


def _bytes(rate: float) -> str:
    return f"{rate / 1e6:,.1f} MB/s" if rate >= 1e6 else f"{rate / 1e3:,.0f} kB/s"


def _capacity(speed: Speed, standing: Standing) -> list[str]:
    pairs = ((speed.wcu, standing.wcu, "WCU/s"), (speed.rcu, standing.rcu, "RCU/s"))
    told = [(used, budget, unit) for used, budget, unit in pairs if round(used) or budget]
    return [f"{_rate(used)}{f' of {_rate(budget)}' if budget else ''} {unit}" for used, budget, unit in told]


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
