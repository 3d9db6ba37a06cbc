"""The state table: reads and conditional writes of its rows, and the applied versions and runs of each table.

A stage has one state table. Its keys spread the many rows of one run over partitions:

========================  ===================  =======================================================
pk                        sk                   what
========================  ===================  =======================================================
TABLE#users               VERSION#000002       version 2 is applied (removed again by `down`)
TABLE#users               RUN#20260131...      a run, begun or ended
TABLE#users               LEASE                the run that may work, and its controls (`lease_rows`)
TABLE#users#REPLICA#1     LEASE                a copy of it, for some of many workers
RUN#20260131...#17        SPLIT                the checkpoint of split 17 (`split_rows`)
RUN#20260131...#1#WOR...  WORKER#host-17-3f    a worker of attempt 1, its part of the budget (`lease_rows`)
RUN#20260131...#INSER...  INSERTED             an item that the run, or its undo, has inserted (`inserted_rows`)
JOB#jr_1a2b...            ANSWER               the result of a job in AWS (`lease_rows`)
STORAGE#s3://...          NAME#prod#users      the table that a logical name meant at its first run (docs/adr/038)
========================  ===================  =======================================================

`row_codec` says how a value is stored in a row. Calls use `dynamodb.wire` instead of boto3, since a worker makes them
for every page. Reads are strongly consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple
from uuid import uuid4

from dynamodt.dynamodb.clients import client, explained, service_error
from dynamodt.dynamodb.network import Tolerated
from dynamodt.dynamodb.table import NO_RESOURCE, STATE_HINTS, create_table, describe, description
from dynamodt.dynamodb.wire import Refusal, RetriedResponse, RetryingWire, shared_wire
from dynamodt.errors import DynamodtError, Fenced, Refused, ServiceError, suggest
from dynamodt.model.runs import AppliedVersion, Fence, RunRecord
from dynamodt.model.tables import Connection, Image, Item, KeyAttribute, Stage
from dynamodt.rate import Backoff
from dynamodt.script.codec import decode, encode
from dynamodt.state.lease_rows import LeaseRows, WorkerRows
from dynamodt.state.object_keys import RUN_ID
from dynamodt.state.row_codec import ConditionFailed, RowKey, from_row, to_row, value_in, write_once
from dynamodt.state.runs import written_order
from dynamodt.state.split_rows import SplitRows

_BATCH = 100
_PATIENT = Backoff(cap=10.0, attempts=24)  # each pause is shorter than a lease lasts; together more than a minute
_IS_LATER = "attribute_not_exists(revision) OR revision < :revision"
_OF_A_KEY = ("KMS", "kms:", "nccessible")  # in messages about the table's key
_PASSING = ("TransactionConflict", "TransactionInProgress", "ThrottlingError", "ProvisionedThroughputExceeded")


class Rows:
    """The state table of one stage. Every method raises ServiceError when the table cannot be used."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self.table = table
        self.where = f"state table {table}"

    @cached_property
    def _calls(self) -> RetryingWire:
        return RetryingWire(shared_wire(self._connection), self.where, backoff=_PATIENT, passes=_passes)

    @property
    def dynamodb(self) -> Any:
        """The boto3 client, for calls about the table itself."""
        return client(self._connection, "dynamodb")

    def get(self, key: RowKey) -> Item | None:
        """A row, strongly consistent."""
        return self.begin_get(key)()

    def begin_get(self, key: RowKey) -> Callable[[], Item | None]:
        """Sends `get`; the function that it returns waits for the response."""
        answered = self._begin("GetItem", {"TableName": self.table, "Key": _key(key), "ConsistentRead": True})

        def row() -> Item | None:
            answer = answered()
            return decode(answer["Item"]) if "Item" in answer else None

        return row

    def put(self, key: RowKey, row: Item) -> None:
        """Writes a whole row and replaces an older one."""
        self._call("PutItem", {"TableName": self.table, "Item": {**_key(key), **encode(row)}})

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        """Sets attributes of a row if `condition` holds (its `:name` placeholders are `values`, its attribute names are
        literal); returns the row after the update. Raises ConditionFailed."""
        names = {f"#{number}": name for number, name in enumerate(row)}
        sets = ", ".join(f"#{number} = :{number}" for number in range(len(row)))
        bound = {f":{number}": value for number, value in enumerate(row.values())}
        bound |= {f":{name}": value for name, value in values.items()}
        conditions = {"ConditionExpression": condition} if condition else {}
        body = {
            "TableName": self.table,
            "Key": _key(key),
            "UpdateExpression": f"SET {sets}",
            **conditions,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": encode(bound),
            "ReturnValues": "ALL_NEW",
        }
        return decode(self._call("UpdateItem", body)["Attributes"])

    def query(self, pk: str, prefix: str) -> Iterator[Item]:
        """The rows of a partition whose sort keys begin with `prefix`, in order."""
        body = {
            "TableName": self.table,
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :sk)",
            "ExpressionAttributeValues": encode({":pk": pk, ":sk": prefix}),
            "ConsistentRead": True,
        }
        while True:
            page = self._call("Query", body)
            yield from map(decode, page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            body["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def get_all(self, keys: list[RowKey]) -> Iterator[Item]:
        """The rows of these keys that exist, in any order."""
        for start in range(0, len(keys), _BATCH):
            chunk = [_key(key) for key in keys[start : start + _BATCH]]
            left: dict[str, Any] = {self.table: {"Keys": chunk, "ConsistentRead": True}}
            while left:
                answer = self._call("BatchGetItem", {"RequestItems": left})
                yield from map(decode, answer["Responses"].get(self.table, ()))
                left = answer.get("UnprocessedKeys") or {}

    def transact(self, actions: list[dict[str, Any]]) -> None:
        """Executes all of the actions or none. Raises ConditionFailed.

        A transaction that collides with another write of one of its rows, such as a heartbeat, is cancelled by DynamoDB
        and sent again.
        """
        self._call("TransactWriteItems", {"TransactItems": actions, "ClientRequestToken": uuid4().hex})  # for all tries

    def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._begin(operation, body)()

    def _begin(self, operation: str, body: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        """Sends a call that may be executed twice; the function that it returns waits for the response. Raises
        ConditionFailed."""
        return partial(self._answer, operation, self._calls.begin(operation, body))

    def _answer(self, operation: str, answered: Callable[[], RetriedResponse]) -> dict[str, Any]:
        try:
            return answered().answer
        except Refusal as refusal:
            raise self._error(operation, refusal) from refusal

    def _error(self, operation: str, refusal: Refusal) -> Exception:
        if "ConditionalCheckFailed" in f"{refusal.code} {refusal.message}":
            return ConditionFailed(str(refusal))
        return self._unusable(refusal) or service_error(operation, self.where, refusal.code, refusal.message)

    def _unusable(self, refusal: Refusal) -> ServiceError | None:
        """The error for a table in a state that allows no requests, which are refused as if it were missing."""
        if refusal.code != NO_RESOURCE and not any(word in refusal.message for word in _OF_A_KEY):
            return None
        try:
            status = description(self._connection, self.table).get("TableStatus", "")
        except ServiceError:  # missing, or its description is not permitted
            return None
        if status not in STATE_HINTS:
            return None
        return ServiceError(f"the table is {status}", where=self.where, hint=STATE_HINTS[status])


def _passes(refusal: Refusal) -> bool:
    """Whether a transaction was cancelled only for other requests at the same time."""
    passing = any(reason in refusal.message for reason in _PASSING)
    return passing and "ConditionalCheckFailed" not in refusal.message


def _key(key: RowKey) -> Image:
    return encode({"pk": key[0], "sk": key[1]})


_MOST_ENTRIES = 49  # two actions each and the lease's condition: a transaction takes 100
_PREFIX = "TABLE#"
_KEY = (KeyAttribute("pk", "S"), KeyAttribute("sk", "S"))
_RUN = "RUN#"


class Entry(NamedTuple):
    """A run's record and the changes that are written with it: `applied` is the version's row; `reverted` removes the
    row of the run's version. `instead_of` is the checksum of a present version row, which `applied` replaces."""

    record: RunRecord
    applied: AppliedVersion | None = None
    reverted: bool = False
    instead_of: str | None = None

    def with_text(self, text: str) -> Entry:
        """The entry with the place in the storage of the text with which the version is applied."""
        assert self.applied is not None
        return self._replace(record=replace(self.record, text=text), applied=replace(self.applied, text=text))


class State:
    """The state table of one stage. Every method raises ServiceError when the table cannot be used."""

    def __init__(self, connection: Connection, table: str) -> None:
        self.rows = Rows(connection, table)
        self.leases = LeaseRows(self.rows)

    def splits(self, run: str) -> SplitRows:
        """The split rows of a run."""
        return SplitRows(self.rows, run)

    def workers(self, run: str, attempt: int, shards: int = 1) -> WorkerRows:
        """The worker rows of one attempt of a run, over `shards` partition keys."""
        return WorkerRows(self.rows, run, attempt, shards)

    def ensure(self) -> None:
        """Creates the table if it is missing, and waits until it is active. On stages other than the local one, the
        deployment creates it."""
        with explained("DescribeTable", self.rows.where), Tolerated(NO_RESOURCE):
            table = self.rows.dynamodb.describe_table(TableName=self.rows.table)["Table"]
            if table.get("TableStatus") != "CREATING":
                return
        create_table(self.rows.dynamodb, self.rows.table, _KEY, self.rows.where)

    def real_name(self, stage: Stage, logical: str) -> str:
        """The real name that was recorded for a logical name of a project's stage; empty if none is recorded."""
        row = self.rows.get(_name_key(stage, logical))
        return "" if row is None else str(row["table"])

    def record_name(self, stage: Stage, logical: str, real: str) -> None:
        """Records the real name of a logical name; earlier real names are kept as `former`."""
        row = self.rows.get(key := _name_key(stage, logical)) or {}
        former = dict.fromkeys([*row.get("former", ()), *filter(None, [row.get("table")])])
        named = {"table": real, "former": [one for one in former if one != real]}
        try:
            revision = int(row.get("revision", 0)) + 1
            write_once(self.rows, key, {**named, "revision": revision}, _IS_LATER, revision=revision)
        except ConditionFailed:  # another command has recorded a name meanwhile
            self.record_name(stage, logical, real)

    def names(self, stage: Stage) -> dict[str, tuple[str, ...]]:
        """The real names of each logical name of a project's stage, the former ones first and the present one last."""
        pk, prefix = _name_key(stage, "")
        rows = self.rows.query(pk, prefix)
        return {row["sk"].removeprefix(prefix): (*row.get("former", ()), row["table"]) for row in rows}

    # ------------------------------------------------------------ history

    def applied(self, table: str) -> dict[int, AppliedVersion]:
        """The applied versions of a table, by number."""
        found = self.rows.query(f"TABLE#{table}", "VERSION#")
        return {row.version: row for row in (from_row(AppliedVersion, item, self.rows.where) for item in found)}

    def runs(self, table: str) -> list[RunRecord]:
        """All runs of a table, in the order of the leases under which each was last recorded, the oldest first."""
        found = self.rows.query(f"TABLE#{table}", "RUN#")
        return sorted((from_row(RunRecord, item, self.rows.where) for item in found), key=written_order)

    def run(self, table: str, run: str) -> RunRecord | None:
        """One run of a table; None before its first record."""
        item = self.rows.get((f"TABLE#{table}", f"RUN#{run}"))
        return None if item is None else from_row(RunRecord, item, self.rows.where)

    def record(
        self,
        record: RunRecord,
        token: int,
        *,
        applied: AppliedVersion | None = None,
        reverted: bool = False,
        fences: Sequence[Fence] = (),
    ) -> RunRecord:
        """Writes a run's record if the row still has the record's revision and, in the same transaction, that its
        version is applied (or reverted); returns the record with its new revision.

        Raises Fenced when another process holds the lease (or one of `fences`), Refused when the version is recorded
        already.
        """
        (written,) = self.record_all([Entry(record, applied, reverted)], token, fences)
        return written

    def record_all(self, entries: Sequence[Entry], token: int, fences: Sequence[Fence] = ()) -> list[RunRecord]:
        """Writes entries of one table, as `record` does, in this order, up to 49 in a transaction."""
        written: list[RunRecord] = []
        for start in range(0, len(entries), _MOST_ENTRIES):
            some = entries[start : start + _MOST_ENTRIES]
            written += self._write(some, [(some[0].record.table, token), *fences])
        return written

    def _write(self, entries: Sequence[Entry], held: Sequence[Fence]) -> list[RunRecord]:
        token = held[0][1]
        records = (replace(entry.record, revision=entry.record.revision + 1, token=token) for entry in entries)
        raised = (replace(one, target_token=dict(held).get(one.target, one.target_token)) for one in records)
        entries = [entry._replace(record=record) for entry, record in zip(entries, raised, strict=True)]
        ours = [self.leases.condition(*each) for each in held]
        try:
            self.rows.transact([*ours, *(action for entry in entries for action in self._actions(entry))])
        except ConditionFailed as error:
            first = entries[0].record
            stored = self.run(first.table, first.run)
            if stored != first:  # if equal, an earlier request was executed and its response was lost
                overtaken = self._overtaken(entries, held)
                if isinstance(overtaken, Fenced) or not _is_earlier(stored, first):
                    raise overtaken from error
                return self._write(entries, held)
        return [entry.record for entry in entries]

    def _actions(self, entry: Entry) -> list[dict[str, Any]]:
        actions = [{"Put": self._run_put(entry.record)}]
        if entry.applied is not None:
            row = {**_version_key(entry.applied.table, entry.applied.version), **to_row(entry.applied)}
            actions.append({"Put": self._put(row, "checksum", entry.instead_of)})
        if entry.reverted:
            named = {
                "TableName": self.rows.table,
                "Key": encode(_version_key(entry.record.table, entry.record.version)),
            }
            actions.append({"Delete": {**named, "ConditionExpression": "attribute_exists(pk)"}})
        return actions

    def _overtaken(self, entries: Sequence[Entry], held: Sequence[Fence]) -> DynamodtError:
        table = entries[0].record.table
        for name, token in held:
            if self.leases.read(name).token != token:
                return Fenced("another process holds the lease", where=f"table {name}")
        versions = ", ".join(str(entry.record.version) for entry in entries)
        return Refused(
            f"version {versions} was recorded by another run in between",
            where=f"table {table}",
            hint=suggest("history", table=table),
        )

    def _run_put(self, record: RunRecord) -> dict[str, Any]:
        row = {"pk": f"TABLE#{record.table}", "sk": f"RUN#{record.run}", **to_row(record)}
        return self._put(row, "revision", record.revision - 1 or None)

    def _put(self, row: Item, attribute: str, before: Any) -> dict[str, Any]:
        """The put of a row whose `attribute` must have the value `before`; None: which must not exist."""
        put = {"TableName": self.rows.table, "Item": encode(row)}
        if before is None:
            return {**put, "ConditionExpression": f"attribute_not_exists({attribute})"}
        values = encode({":before": before})
        return {**put, "ConditionExpression": f"{attribute} = :before", "ExpressionAttributeValues": values}


def _is_earlier(stored: RunRecord | None, record: RunRecord) -> bool:
    """Whether the row has an earlier write of this run whose response was lost: only the lease's holder writes a
    record. The record of a run that has ended is never overwritten."""
    return stored is not None and stored.revision == record.revision and stored.status == "running"


def may_be_state(connection: Connection, table: str) -> bool:
    """Whether a table has the key of a state table."""
    return describe(connection, table).key == _KEY


def _name_key(stage: Stage, logical: str) -> RowKey:
    """The key of a logical name. It contains the storage, since projects that share a state table and a stage's name
    may have the same logical names."""
    return f"STORAGE#{stage.storage.url}", f"NAME#{stage.name}#{logical}"


def _version_key(table: str, version: int) -> dict[str, str]:
    return {"pk": f"TABLE#{table}", "sk": f"VERSION#{version:06d}"}


class StateContents(NamedTuple):
    """The contents of a state table: the tables with a version, a run or a lease (`dry-run/RUN` is a dry run's), the
    runs, including dry runs, and the ids of the exports that they have requested."""

    tables: frozenset[str]
    runs: frozenset[str]
    exports: frozenset[str]


def contents_of(connection: Connection, state_table: str) -> StateContents:
    """Scans the whole state table, strongly consistent. Raises ServiceError."""
    scan = client(connection, "dynamodb").get_paginator("scan")
    pages = scan.paginate(
        TableName=state_table,
        ConsistentRead=True,
        ProjectionExpression="pk, sk, requested",
        FilterExpression="begins_with(pk, :table) OR (begins_with(pk, :run) AND sk = :split)",
        ExpressionAttributeValues=encode({":table": _PREFIX, ":run": _RUN, ":split": "SPLIT"}),
    )
    with explained("Scan", f"state table {state_table}"):
        rows = [decode(item) for page in pages for item in page["Items"]]
    tables = {row["pk"].removeprefix(_PREFIX).partition("#")[0] for row in rows if row["pk"].startswith(_PREFIX)}
    runs = {run[0] for row in rows if (run := RUN_ID.search(f"{row['pk']} {row['sk']}"))}
    exports = {arn.rpartition("/")[2] for row in rows for arn in value_in(RunRecord, "requested", row) or ()}
    return StateContents(frozenset(tables), frozenset(runs), frozenset(exports))
