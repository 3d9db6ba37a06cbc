"""How long to wait before the next try. The clock and the dice are passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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


def smaller(size: int, throttled: int) -> int:
    """The next batch's size after `throttled` throttles in a row: halved each time, never below one."""
    return max(1, size >> throttled)
