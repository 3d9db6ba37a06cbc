"""A table's lease, the workers of its run, and the results of jobs, in the state table.

At most one run works on a table, and its workers read the control attributes of the lease. The lease's row is never
deleted, so that its token only grows. A dry run has a lease row of its own. Every write raises the row's `revision` and
is conditional on the previous revision, so that a delayed request changes nothing (ADR 025). A change reads the row,
writes it, and starts over after a conflict. The row holds the ids of its last few writes, by which a writer whose
response was lost recognizes its own write.

A run with many workers spreads their reads over several replicas of the row, each with a partition key of its own. The
lease's row is the first; each write of it is copied to the others, where a copy never replaces a later one. A new
holder starts work only after all replicas are written.

A worker is a process. Its row has two writers, of different attributes: the worker reports its heartbeat and its usage,
and the process that follows the run grants the worker its part of the budget. Each writer numbers its writes (`beat`,
`granted`), so that a delayed earlier write is refused. The rows of many workers are spread over several partition keys.

Each run of a job in AWS writes the result of its command to a row of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from dynamodt.errors import Fenced, ServiceError
from dynamodt.model.pages import Units
from dynamodt.model.runs import Lease
from dynamodt.model.tables import Item
from dynamodt.state.row_codec import ConditionFailed, RowKey, from_row, to_row, write_once

if TYPE_CHECKING:
    from dynamodt.state.state import Rows

_OURS = "lease_token = :token"
_AS_READ = f"{_OURS} AND revision = :revision"
_LATER_COPY = "attribute_not_exists(pk) OR revision < :revision"
_KEPT_IDS = 8  # of writes, in a row
_TRIES = 100  # another try follows each write of another process between our read and write


class LeaseRows:
    """Reads and conditional writes of lease rows: pk `TABLE#<table>`, sk `LEASE`, and for a replica
    `TABLE#<table>#REPLICA#<n>`; the attributes are the fields of `Lease`. A token identifies the holder: its writes are
    refused once another process has taken the lease (guarantee G4)."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def name(self) -> str:
        """The name of the state table."""
        return self._rows.table

    def read(self, table: str, replica: int = 0) -> Lease:
        """The lease, or a replica of it; a lease that was never taken has token 0 and no run."""
        return self.begin_read(table, replica)()

    def begin_read(self, table: str, replica: int = 0) -> Callable[[], Lease]:
        """Sends `read`; the function that it returns waits for the response."""
        answer = self._rows.begin_get(_key(table, replica))
        return lambda: from_row(Lease, {"table": table, "lease_token": 0, **(answer() or {})}, self._rows.where)

    def take(self, lease: Lease, over: Lease) -> bool:
        """Makes `lease` the holder if the row still has the token and the last heartbeat of `over`."""
        write_id, seen = _new_id(), over
        for _ in range(_TRIES):
            if _life(seen) != _life(over):
                return False
            lease_replicas = max(lease.lease_replicas, seen.lease_replicas)
            if self._write(lease._replace(lease_replicas=lease_replicas), seen, write_id):
                return True
            seen = self.read(lease.table)
            if write_id in seen.write_ids:  # the response to an earlier request was lost
                self._publish(lease.table, _row(seen))
                return True
        return False

    def beat(self, table: str, token: int, beat: float, ticks: float = 0.0) -> None:
        """Records a heartbeat, with the time and the system's monotonic clock, both in seconds. Raises Fenced when
        another process holds the lease."""
        self.change(table, token, lambda seen: {"beat": beat, "beats": seen.beats + 1, "ticks": ticks})

    def set(self, table: str, token: int, **what: Any) -> None:
        """Sets control attributes for all workers of a run: `paused`, `pause_reason`, `stop`, `error`, `wcu`, `rcu`.
        Raises Fenced when another process holds the lease."""
        self.change(table, token, lambda seen: what)

    def release(self, table: str, token: int) -> None:
        """Releases the lease; the token stays, and the next owner's is higher. Raises Fenced, as `change` does."""
        self.change(table, token, lambda seen: {"run": ""})

    def change(self, table: str, token: int, changes: Callable[[Lease], Item]) -> None:
        """Writes the fields that `changes` returns for the current row, if any. Raises Fenced when another process
        holds the lease, ServiceError when 100 tries meet other writes."""
        write_id = _new_id()
        for _ in range(_TRIES):
            seen = self.read(table)
            if write_id in seen.write_ids:  # the response to an earlier request was lost
                return self._publish(table, _row(seen))
            if not token or seen.token != token:
                raise Fenced("another process holds the lease", where=f"table {table}")
            what = changes(seen)
            if not what or self._write(seen._replace(**what), seen, write_id):
                return None
        why = f"gave up after {_TRIES} tries: other processes keep writing the lease"
        raise ServiceError(why, where=f"table {table}")

    def _write(self, lease: Lease, over: Lease, write_id: str) -> bool:
        """Writes the differences from `over`, if the row is still at the revision of `over`."""
        lease = lease._replace(revision=over.revision + 1, write_ids=(write_id, *over.write_ids)[:_KEPT_IDS])
        before, row = _row(over) if over.revision else {}, _row(lease)
        row = {name: value for name, value in row.items() if name not in before or before[name] != value}
        condition, values = "attribute_not_exists(revision)", {}
        if over.revision:
            condition, values = _AS_READ, {"token": over.token, "revision": over.revision}
        try:
            written = write_once(self._rows, _key(lease.table), row, condition, **values)
        except ConditionFailed:
            return False
        self._publish(lease.table, written)
        return True

    def _publish(self, table: str, row: Item) -> None:
        """Copies the row to its replicas; a later copy is never overwritten."""
        copy = {name: value for name, value in row.items() if name not in ("pk", "sk")}
        for replica in range(1, int(row.get("lease_replicas", 1))):
            with suppress(ConditionFailed):
                write_once(self._rows, _key(table, replica), copy, _LATER_COPY, revision=row["revision"])

    def condition(self, table: str, token: int) -> dict[str, Any]:
        """A transaction's action that fails when another process holds the lease."""
        pk, sk = _key(table)
        return {
            "ConditionCheck": {
                "TableName": self._rows.table,
                "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
                "ConditionExpression": _OURS,
                "ExpressionAttributeValues": {":token": {"N": str(token)}},
            }
        }


def _key(table: str, replica: int = 0) -> RowKey:
    return f"TABLE#{table}" + (f"#REPLICA#{replica}" if replica else ""), "LEASE"


def _life(lease: Lease) -> tuple[int, int]:
    """Token and heartbeat count: one of them changes with each heartbeat and with the next holder."""
    return lease.token, lease.beats


def _new_id() -> str:
    return secrets.token_hex(4)


def _row(lease: Lease) -> Item:
    return {name: value for name, value in to_row(lease).items() if name != "table"}


_LATER_REPORT = "attribute_not_exists(beat) OR beat < :beat"
_LATER_GRANT = "attribute_not_exists(granted) OR granted < :granted"
_MOST_CHARACTERS = 300_000  # of the 400 KB that an item may have
_SHORT = ("error", "release", "build")


class Grant(NamedTuple):
    """A worker's allocation, in units a second (`inf`: without a limit). `number` grows with every grant."""

    number: int
    rate: Units


class Throttles(NamedTuple):
    """Requests that were refused for their rate."""

    reads: int = 0
    writes: int = 0


class Report(NamedTuple):
    """A worker's report: `beat` grows with each report, `awaited` is the number of the grant that it applies, and the
    rest are sums since the worker's start."""

    beat: int
    awaited: int
    used: Units
    throttles: Throttles = Throttles()


class Worker(NamedTuple):
    """A worker's row; `grant` is None before the first grant."""

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
        row = write_once(self._rows, self._worker_key(name), to_row(report), _LATER_REPORT, beat=report.beat)
        return self._grant(row)

    def grant(self, name: str, grant: Grant) -> None:
        """Records a worker's grant, unless a later grant is recorded."""
        with suppress(ConditionFailed):
            write_once(self._rows, self._worker_key(name), to_row(grant), _LATER_GRANT, granted=grant.number)

    def all(self) -> Iterator[Worker]:
        """All workers that have reported in this attempt."""
        for shard in range(self._shards):
            for row in self._rows.query(self._pk(shard), "WORKER#"):
                if "beat" in row:
                    report = from_row(Report, row, self._rows.where)
                    yield Worker(row["sk"].removeprefix("WORKER#"), report, self._grant(row))

    def _grant(self, row: Item) -> Grant | None:
        return from_row(Grant, row, self._rows.where) if "granted" in row else None

    def _worker_key(self, name: str) -> RowKey:
        return self._pk(crc32(name.encode()) % self._shards), f"WORKER#{name}"

    def _pk(self, shard: int) -> str:
        return f"{self._prefix}#WORKERS#{shard}"


class JobAnswer(NamedTuple):
    """The JSON object that `--json` prints for the command, and the command's exit code."""

    document: dict[str, Any]
    exit_code: int


class AnswerRows:
    """The results of a stage's jobs. Every method raises ServiceError when the state table cannot be used."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def read(self, job_run: str) -> JobAnswer | None:
        """The result of a job's run, strongly consistent; None before the run's end, or if its process died."""
        row = self._rows.get(_worker_key(job_run))
        return None if row is None else from_row(JobAnswer, row, self._rows.where)

    def write(self, job_run: str, answer: JobAnswer) -> None:
        """Stores the result of a job's run. A document that is too large for a row is reduced to its error and
        release."""
        if len(json.dumps(answer.document)) > _MOST_CHARACTERS:
            document = {name: answer.document[name] for name in _SHORT if name in answer.document}
            answer = answer._replace(document=document)
        self._rows.put(_worker_key(job_run), to_row(answer))


def _worker_key(job_run: str) -> RowKey:
    return f"JOB#{job_run}", "ANSWER"
