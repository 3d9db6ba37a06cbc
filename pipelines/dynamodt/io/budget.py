"""Capacity units of a connector: its budget a second, without a state table, and the count of used units.

Each process of the runner has an equal part of a budget.

Beam's in-process runners have one process, or as many as `--direct_num_workers` gives with
`--direct_running_mode=multi_processing`. For another runner, the number is not known when a pipeline is built, and must
be given. The threads of a process share its part, and wait for their turn.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeGuard
from uuid import uuid4

from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import DirectOptions

from dynamodt.dynamodb.reads import RateLimitedQueue, UnlimitedQueue
from dynamodt.errors import UsageError
from dynamodt.pipeline import rate_limit
from dynamodt.pipeline.engine import processes_of
from dynamodt.rate import TokenBucket

METRICS = "dynamodt.io"  # the namespace of the connectors' metrics
_REQUEST_SECONDS = 0.25  # the time for which a bucket saves up
_IN_PROCESS = ("SwitchingDirectRunner", "BundleBasedDirectRunner", "FnApiRunner", "PrismRunner", "InProcess")


@dataclass(frozen=True, slots=True)
class Budget:
    """`units` a second over all `processes` of a transform, which `key` distinguishes from others; None: no limit."""

    units: float | None = None
    processes: int | None = None
    key: str = ""

    @classmethod
    def of(cls, option: str, units: float | None, processes: int | None, where: str) -> Budget:
        """The budget of a transform, from its argument `option`. Raises UsageError for anything but positive
        numbers."""
        if units is not None and not (_is_number(units) and units > 0):
            raise UsageError(f"{option} is {units!r}", where=where, hint=f"leave {option} out, or give units a second")
        if processes is not None and not (type(processes) is int and processes > 0):
            hint = "give the number of worker processes, or leave it out on Beam's in-process runner"
            raise UsageError(f"processes is {processes!r}", where=where, hint=hint)
        return cls(units, processes, uuid4().hex)

    def on(self, pipeline: Any, where: str) -> Budget:
        """The budget with the number of the runner's processes. Raises UsageError if it is needed and not known."""
        if self.units is None or self.processes is not None:
            return self
        runner = type(pipeline.runner).__name__
        if runner not in _IN_PROCESS:
            hint = "give processes=N, the number of worker processes (of Spark: executors x cores), each of which gets "
            what = f"a budget on {runner} needs the number of worker processes that share it"
            raise UsageError(what, where=where, hint=hint + "an N-th of the budget")
        return replace(self, processes=processes_of(pipeline.options.view_as(DirectOptions)))

    def shown(self, option: str) -> dict[str, float | None]:
        """The entries of `display_data`."""
        return {option: self.units, "processes": self.processes}

    def queue(self) -> RateLimitedQueue:
        """The part of this process, which its threads share."""
        return UnlimitedQueue() if self.units is None else _queue(self)


class _Part(rate_limit.RateLimitedQueue):
    """The part of a process. A request takes at most the units of a fraction of a second, so that a low budget is kept
    in each second, not only on average."""

    def within(self, seconds: float, estimate: float) -> float:
        return super().within(min(seconds, _REQUEST_SECONDS), estimate)


def _is_number(given: object) -> TypeGuard[float]:
    return isinstance(given, int | float) and not isinstance(given, bool)


@lru_cache(maxsize=256)
def _queue(budget: Budget) -> RateLimitedQueue:
    rate = (budget.units or 0.0) / (budget.processes or 1)
    return _Part(TokenBucket(rate, time.monotonic), 1.0, lambda: None, time.sleep)


class UnitCounter:
    """A counter of capacity units. Beam's counters have whole numbers only: fractions are kept for the next count."""

    def __init__(self, name: str) -> None:
        self._counter = Metrics.counter(METRICS, name)
        self._rest = 0.0

    def add(self, units: float) -> None:
        self._rest += units
        whole = int(self._rest)
        self._rest -= whole
        self._counter.inc(whole)
