"""A run's workers in the state table, and the results of its jobs in AWS.

A worker is a process. Its row has two writers, of different attributes: the worker reports that it is alive and what
it has used; the one process that follows the run grants it a part of the budget. Each numbers its writes (`beat`,
`granted`), so that an earlier one that is carried out late undoes nothing. The rows of many workers are spread over
several partition keys.

A job in AWS writes the result of its command at its end, in a row for each of its runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from zlib import crc32

from dynamodt.model.items import Item
from dynamodt.model.pages import Units
from dynamodt.state.row_codec import from_row, to_row
from dynamodt.state.rows import ConditionFailed, RowKey, Rows, write_once

_LATER_REPORT = "attribute_not_exists(beat) OR beat < :beat"
_LATER_GRANT = "attribute_not_exists(granted) OR granted < :granted"
_MOST_CHARACTERS = 300_000  # of the 400 KB that an item may have
_SHORT = ("error", "release", "build")


class Grant(NamedTuple):
    """What a worker may use, in units a second (`inf`: without a limit). `number` grows with every grant."""

    number: int
    rate: Units


class Throttles(NamedTuple):
    """Requests that were refused for their rate."""

    reads: int = 0
    writes: int = 0


class Report(NamedTuple):
    """What a worker reports: `beat` grows each time, `awaited` is the number of the grant that it keeps to, the rest
    are sums since its start."""

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
    """The worker rows of one attempt of a run, spread over `shards` partition keys."""

    def __init__(self, rows: Rows, run: str, attempt: int, shards: int = 1) -> None:
        self._rows = rows
        self._prefix = f"RUN#{run}#{attempt}"
        self._shards = shards

    def report(self, name: str, report: Report) -> Grant | None:
        """Records a worker's report; returns its latest grant."""
        return self._grant(write_once(self._rows, self._key(name), to_row(report), _LATER_REPORT, beat=report.beat))

    def grant(self, name: str, grant: Grant) -> None:
        """Records a worker's grant, unless a later one is there."""
        with suppress(ConditionFailed):
            write_once(self._rows, self._key(name), to_row(grant), _LATER_GRANT, granted=grant.number)

    def all(self) -> Iterator[Worker]:
        """All workers that have reported in this attempt."""
        for shard in range(self._shards):
            for row in self._rows.query(self._pk(shard), "WORKER#"):
                if "beat" in row:
                    report = from_row(Report, row, self._rows.where)
                    yield Worker(row["sk"].removeprefix("WORKER#"), report, self._grant(row))

    def _grant(self, row: Item) -> Grant | None:
        return from_row(Grant, row, self._rows.where) if "granted" in row else None

    def _key(self, name: str) -> RowKey:
        return self._pk(crc32(name.encode()) % self._shards), f"WORKER#{name}"

    def _pk(self, shard: int) -> str:
        return f"{self._prefix}#WORKERS#{shard}"


class JobAnswer(NamedTuple):
    """The JSON object that the command's `--json` prints, and its exit code."""

    document: dict[str, Any]
    exit_code: int


class AnswerRows:
    """The results of a stage's jobs. Every method raises ServiceError when the state table cannot be used."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, job_run: str) -> JobAnswer | None:
        """A run's result, strongly consistent; None before its end, or when its process died."""
        row = self._rows.get(_key(job_run))
        return None if row is None else from_row(JobAnswer, row, self._rows.where)

    def write(self, job_run: str, answer: JobAnswer) -> None:
        """Stores a run's result. Of a document that a row cannot hold, the error and the release are kept."""
        if len(json.dumps(answer.document)) > _MOST_CHARACTERS:
            document = {name: answer.document[name] for name in _SHORT if name in answer.document}
            answer = answer._replace(document=document)
        self._rows.put(_key(job_run), to_row(answer))


def _key(job_run: str) -> RowKey:
    return f"JOB#{job_run}", "ANSWER"
