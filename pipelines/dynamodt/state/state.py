"""Conditional reads and writes of dynamodt's own table: what is applied, and what ran.

One table for all, keyed so that the many rows of one run do not meet on one partition:

=====================  ===================  ==========================================================
pk                     sk                   what
=====================  ===================  ==========================================================
TABLE#users            VERSION#000002       version 2 stands (removed again by `down`)
TABLE#users            RUN#20260131...      a run, begun or ended
TABLE#users            LEASE                who may run now, and what he is told (`lease_rows`)
TABLE#users#BOARD#1    LEASE                a copy of it, for some of many workers
RUN#20260131...#17     UNIT                 what unit 17 (a scan segment) has come to (`unit_rows`)
RUN#20260131...#1#...  WORKER#host-17-3f    a worker of attempt 1, and its part of the budget (`worker_rows`)
=====================  ===================  ==========================================================

Whose rows a state table holds, which only a look at all of its keys can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dynamodt.dynamodb.clients import explained
from dynamodt.errors import DynamodtError, Fenced, Refused
from dynamodt.model.pages import Counts, Units
from dynamodt.model.runs import AppliedVersion, Fence, RunRecord, ScriptText
from dynamodt.script.codec import encode
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.rows import ConditionFailed, Rows
from dynamodt.state.split_rows import SplitRows
from dynamodt.state.worker_rows import WorkerRows

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from typing import TYPE_CHECKING

from dynamodt.dynamodb.clients import client

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection


_MOST_ENTRIES = 49  # two actions each and the lease's condition: a transaction takes 100

Row = TypeVar("Row", AppliedVersion, RunRecord)
_RUN_NUMBERS = {
    "splits": 0,
    "attempts": 1,
    "retries": 0,
    "partial_tries": 0,
    "partly_restored": 0,
    "planned": 0,
    "final_scan": 0,
    "failed_exports": 0,
    "revision": 0,
}  # and what they are where a row lacks them


class Entry(NamedTuple):
    """A run's record, and what goes with it: the version that stands from now on, or that its own no longer does."""

    record: RunRecord
    applied: AppliedVersion | None = None
    reverted: bool = False


class State:
    """The state table of one stage. Every method raises ServiceError when the table cannot be used."""

    def __init__(self, connection: Connection, table: str, rows: type[Rows] = Rows) -> None:
        self.rows = rows(connection, table)
        self.leases = LeaseRows(self.rows)

    def splits(self, run: str) -> SplitRows:
        """The split rows of a run."""
        return SplitRows(self.rows, run)

    def workers(self, run: str, attempt: int, shards: int = 1) -> WorkerRows:
        """The worker rows of one attempt of a run, over so many partition keys."""
        return WorkerRows(self.rows, run, attempt, shards)

    def ensure(self) -> None:
        """Create the table when it is missing: on the local stage only; elsewhere the deployment makes it."""
        dynamodb, table = self.rows.dynamodb, self.rows.table
        with explained("DescribeTable", self.rows.where):
            try:
                dynamodb.describe_table(TableName=table)
                return
            except dynamodb.exceptions.ResourceNotFoundException:
                pass
        with explained("CreateTable", self.rows.where):
            self._create()
            dynamodb.get_waiter("table_exists").wait(TableName=table)

    def _create(self) -> None:
        key = [("pk", "HASH"), ("sk", "RANGE")]
        dynamodb = self.rows.dynamodb
        with suppress(dynamodb.exceptions.ResourceInUseException):  # another command has just made it
            dynamodb.create_table(
                TableName=self.rows.table,
                KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in key],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name, _ in key],
                BillingMode="PAY_PER_REQUEST",
            )

    # ------------------------------------------------------------ history

    def applied(self, table: str) -> dict[int, AppliedVersion]:
        """The versions of a table that stand, by number."""
        rows = self.rows.query(f"TABLE#{table}", "VERSION#")
        return {row.version: row for row in (_row(AppliedVersion, item) for item in rows)}

    def runs(self, table: str) -> list[RunRecord]:
        """All runs of a table, the oldest first."""
        return [_row(RunRecord, item) for item in self.rows.query(f"TABLE#{table}", "RUN#")]

    def run(self, table: str, run: str) -> RunRecord | None:
        """One run of a table; None before its first record."""
        item = self.rows.get((f"TABLE#{table}", f"RUN#{run}"))
        return None if item is None else _row(RunRecord, item)

    def record(
        self,
        record: RunRecord,
        token: int,
        *,
        applied: AppliedVersion | None = None,
        reverted: bool = False,
        fences: Sequence[Fence] = (),
    ) -> RunRecord:
        """Write a run's record over the revision that it was read or written as and, in the same transaction, that its
        version stands now (or no longer); returns it with its new revision.

        Raises Fenced when the lease (or one of `fences`) is not the holder's any more, Refused when the version is
        recorded already.
        """
        (written,) = self.record_all([Entry(record, applied, reverted)], token, fences)
        return written

    def record_all(self, entries: Sequence[Entry], token: int, fences: Sequence[Fence] = ()) -> list[RunRecord]:
        """Write entries of one table, as `record` does: so many in a transaction as it can hold, in this order."""
        raised = [entry._replace(record=_raised(entry.record)) for entry in entries]
        for start in range(0, len(raised), _MOST_ENTRIES):
            some = raised[start : start + _MOST_ENTRIES]
            held = [(some[0].record.table, token), *fences]
            ours = [self.leases.condition(*each) for each in held]
            try:
                self.rows.transact([*ours, *(action for entry in some for action in self._actions(entry))])
            except ConditionFailed as error:
                if not self._is_written(some[0].record):
                    raise self._overtaken(some, held) from error
        return [entry.record for entry in raised]

    def _actions(self, entry: Entry) -> list[dict[str, Any]]:
        actions = [{"Put": self._run_put(entry.record)}]
        if entry.applied is not None:
            actions.append({"Put": self._version_put(entry.applied)})
        if entry.reverted:
            actions.append({"Delete": self._version_delete(entry.record.table, entry.record.version)})
        return actions

    def _is_written(self, record: RunRecord) -> bool:
        """Whether a refused transaction was carried out before, and only its answer lost: it is there whole, or not."""
        return self.run(record.table, record.run) == record

    def _overtaken(self, entries: Sequence[Entry], held: Sequence[Fence]) -> DynamodtError:
        table = entries[0].record.table
        for name, token in held:
            if self.leases.read(name).token != token:
                return Fenced("another process holds the lease by now", where=f"table {name}")
        versions = ", ".join(str(entry.record.version) for entry in entries)
        return Refused(
            f"version {versions} was recorded by another run meanwhile",
            where=f"table {table}",
            hint=f"dynamodt history --table {table}",
        )

    def _run_put(self, record: RunRecord) -> dict[str, Any]:
        item = encode({**_run_key(record), **asdict_flat(record)})
        put = {"TableName": self.rows.table, "Item": item}
        if record.revision == 1:
            return {**put, "ConditionExpression": "attribute_not_exists(revision)"}
        values = encode({":before": record.revision - 1})
        return {**put, "ConditionExpression": "revision = :before", "ExpressionAttributeValues": values}

    def _version_put(self, applied: AppliedVersion) -> dict[str, Any]:
        item = encode({**_version_key(applied.table, applied.version), **asdict_flat(applied)})
        return {"TableName": self.rows.table, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}

    def _version_delete(self, table: str, version: int) -> dict[str, Any]:
        key = encode(_version_key(table, version))
        return {"TableName": self.rows.table, "Key": key, "ConditionExpression": "attribute_exists(pk)"}


def _raised(record: RunRecord) -> RunRecord:
    return replace(record, revision=record.revision + 1)


def asdict_flat(row: AppliedVersion | RunRecord) -> dict[str, Any]:
    """A record as the attributes of its row: numbers that are not whole go as text, so that no digit is lost."""
    values = asdict(row)
    values["counts"] = row.counts._asdict()
    values["consumed"] = {name: str(value) for name, value in row.consumed._asdict().items()}
    values["seconds"] = str(row.seconds)
    return values


def _row(kind: type[Row], item: dict[str, Any]) -> Row:
    known = {name: item[name] for name in (field.name for field in fields(kind)) if name in item}
    known["version"] = int(known["version"])
    known["counts"] = _counts(item["counts"])
    known["consumed"] = Units(**{name: float(value) for name, value in item["consumed"].items()})
    known["seconds"] = float(item["seconds"])
    if kind is RunRecord:
        known |= {name: int(item.get(name, default)) for name, default in _RUN_NUMBERS.items()}
        known["exports"] = tuple(item.get("exports", ()))
        known |= {name: tuple(item.get(name, ())) for name in ("order", "accepts")}
        known["incremental_exports"] = tuple(map(int, item.get("incremental_exports", ())))
        known["texts"] = tuple(ScriptText(checksum, int(items)) for checksum, items in item.get("texts", ()))
    return kind(**known)


def _counts(value: dict[str, Any]) -> Counts:
    return Counts(**{name: int(number) for name, number in value.items()})


def _run_key(record: RunRecord) -> dict[str, str]:
    return {"pk": f"TABLE#{record.table}", "sk": f"RUN#{record.run}"}


def _version_key(table: str, version: int) -> dict[str, str]:
    return {"pk": f"TABLE#{table}", "sk": f"VERSION#{version:06d}"}


_PREFIX = "TABLE#"


def tables_in(connection: Connection, state_table: str) -> set[str]:
    """The tables that have rows of their own there: a version, a run or a lease; `dry-run/RUN` is a dry run's lease.

    It reads the whole table, strongly consistent. Raises ServiceError.
    """
    pages = (
        client(connection, "dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=state_table,
            ConsistentRead=True,
            ProjectionExpression="pk",
            FilterExpression="begins_with(pk, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": _PREFIX}},
        )
    )
    with explained("Scan", f"state table {state_table}"):
        keys = {item["pk"]["S"] for page in pages for item in page["Items"]}
    return {key.removeprefix(_PREFIX).partition("#")[0] for key in keys}
