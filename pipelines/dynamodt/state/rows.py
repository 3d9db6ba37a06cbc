"""Rows of the state table: reads, and conditional writes (`row_codec` defines their content).

Calls use `dynamodb.wire` instead of boto3, since a worker makes them for every page. Reads are strongly consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dynamodt.dynamodb.clients import client, service_error
from dynamodt.dynamodb.table import NO_RESOURCE, STATE_HINTS, description
from dynamodt.dynamodb.wire import Refusal, RetriedResponse, RetryingWire, shared_wire
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Image, Item
from dynamodt.rate import Backoff
from dynamodt.script.codec import decode, encode
from dynamodt.state.row_codec import ConditionFailed, RowKey

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection


_BATCH = 100
_PATIENT = Backoff(cap=10.0, attempts=24)  # each pause is shorter than a lease lasts; together more than a minute
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
