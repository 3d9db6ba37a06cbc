"""A run's workers in the state table: each says that it lives and what it has used, and hears its part of the budget.

A worker is a process. Its row has two writers, of different attributes: the worker, and the one process that follows
the run and shares the budget out. Each numbers its writes (`beat`, `granted`), so that none is undone by an earlier one
that is carried out late. The rows of many workers are spread over several partition keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

from dynamodt.aws.rows import ConditionFailed, RowKey, Rows, write_once
from dynamodt.model import Item, Units

_LATER_REPORT = "attribute_not_exists(beat) OR beat < :beat"
_LATER_GRANT = "attribute_not_exists(granted) OR granted < :granted"


class Grant(NamedTuple):
    """What a worker may use, in units a second (`inf`: as much as it likes). `number` grows with every grant."""

    number: int
    rate: Units


class Throttles(NamedTuple):
    """Requests that were refused for their rate."""

    reads: int = 0
    writes: int = 0


class Report(NamedTuple):
    """What a worker says: `beat` grows each time, `heard` is the number of the grant that it keeps to, the rest are
    sums since it began."""

    beat: int
    heard: int
    used: Units
    throttles: Throttles = Throttles()


class Worker(NamedTuple):
    """A worker's row; without a grant yet, `grant` is None."""

    name: str
    report: Report
    grant: Grant | None


class WorkerRows:
    """The worker rows of one attempt of a run, spread over `spread` partition keys."""

    def __init__(self, rows: Rows, run: str, attempt: int, spread: int = 1) -> None:
        self._rows = rows
        self._prefix = f"RUN#{run}#{attempt}"
        self._spread = spread

    def report(self, name: str, report: Report) -> Grant | None:
        """Write down what a worker says; returns what it may use by now."""
        row = {
            "beat": report.beat,
            "heard": report.heard,
            "used": [repr(value) for value in report.used],
            "throttles": list(report.throttles),
        }
        return _grant(write_once(self._rows, self._key(name), row, _LATER_REPORT, beat=report.beat))

    def grant(self, name: str, grant: Grant) -> None:
        """Tell a worker what it may use; a later grant stands."""
        row = {"granted": grant.number, "rate": [repr(value) for value in grant.rate]}
        with suppress(ConditionFailed):
            write_once(self._rows, self._key(name), row, _LATER_GRANT, granted=grant.number)

    def all(self) -> Iterator[Worker]:
        """All workers that have ever reported in this attempt."""
        for shard in range(self._spread):
            for row in self._rows.query(self._pk(shard), "WORKER#"):
                if "beat" in row:
                    yield _worker(row)

    def _key(self, name: str) -> RowKey:
        return self._pk(crc32(name.encode()) % self._spread), f"WORKER#{name}"

    def _pk(self, shard: int) -> str:
        return f"{self._prefix}#WORKERS#{shard}"


def _worker(row: Item) -> Worker:
    throttles = Throttles(*map(int, row["throttles"]))
    report = Report(int(row["beat"]), int(row["heard"]), _units(row["used"]), throttles)
    return Worker(row["sk"].removeprefix("WORKER#"), report, _grant(row))


def _grant(row: Item) -> Grant | None:
    return Grant(int(row["granted"]), _units(row["rate"])) if "granted" in row else None


def _units(values: list[str]) -> Units:
    return Units(*map(float, values))
