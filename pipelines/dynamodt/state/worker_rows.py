"""A run's workers in the state table: each says that it lives and what it has used, and hears its part of the budget.

A worker is a process. Its row has two writers, of different attributes: the worker, and the one process that follows
the run and shares the budget out. Each numbers its writes (`beat`, `granted`), so that none is undone by an earlier one
that is carried out late. The rows of many workers are spread over several partition keys.

What a job in AWS has answered to its command: a row of the state table for each of its runs, written at its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from zlib import crc32

from dynamodt.model.items import Item
from dynamodt.model.pages import Units
from dynamodt.state.rows import ConditionFailed, RowKey, Rows, write_once

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
    awaited: int
    used: Units
    throttles: Throttles = Throttles()


class Worker(NamedTuple):
    """A worker's row; without a grant yet, `grant` is None."""

    name: str
    report: Report
    grant: Grant | None


class WorkerRows:
    """The worker rows of one attempt of a run, spread over `spread` partition keys."""

    def __init__(self, rows: Rows, run: str, attempt: int, shards: int = 1) -> None:
        self._rows = rows
        self._prefix = f"RUN#{run}#{attempt}"
        self._shards = shards

    def report(self, name: str, report: Report) -> Grant | None:
        """Write down what a worker says; returns what it may use by now."""
        row = {
            "beat": report.beat,
            "heard": report.awaited,
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
        for shard in range(self._shards):
            for row in self._rows.query(self._pk(shard), "WORKER#"):
                if "beat" in row:
                    yield _worker(row)

    def _key(self, name: str) -> RowKey:
        return self._pk(crc32(name.encode()) % self._shards), f"WORKER#{name}"

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


_MOST_CHARACTERS = 300_000  # of the 400 KB that an item may have
_SHORT = ("error", "release", "build")


class JobAnswer(NamedTuple):
    """The JSON object that the command's `--json` prints, and its exit code."""

    document: dict[str, Any]
    exit_code: int


class AnswerRows:
    """The answers of a stage's jobs. Every method raises ServiceError when the state table cannot be used."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, job_run: str) -> JobAnswer | None:
        """What a run has answered, strongly consistent; None before its end, or when it has died."""
        row = self._rows.get(_key(job_run))
        return None if row is None else JobAnswer(json.loads(row["document"]), int(row["exit_code"]))

    def write(self, job_run: str, answer: JobAnswer) -> None:
        """Keep what a run answers. Of a document beyond what a row can hold, the error and the release are kept."""
        text = json.dumps(answer.document)
        if len(text) > _MOST_CHARACTERS:
            text = json.dumps({name: answer.document[name] for name in _SHORT if name in answer.document})
        self._rows.put(_key(job_run), {"document": text, "exit_code": answer.exit_code})


def _key(job_run: str) -> RowKey:
    return f"JOB#{job_run}", "ANSWER"
