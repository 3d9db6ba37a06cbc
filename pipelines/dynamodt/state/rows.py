"""Calls on the state table: rows by partition and sort key, written under a condition.

`Rows` uses botocore; `quick_rows.QuickRows` is the same over the wire, for a worker's calls of every page. Reads are
strongly consistent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dynamodt.dynamodb.clients import client, explained
from dynamodt.model.items import Image, Item
from dynamodt.rate import Backoff
from dynamodt.script.codec import decode, encode

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection


_BATCH = 100
_BACKOFF = Backoff()
_PASSING = ("TransactionConflict", "TransactionInProgress", "ThrottlingError", "ProvisionedThroughputExceeded")
_METHODS = {"GetItem": "get_item", "PutItem": "put_item", "UpdateItem": "update_item"}  # of botocore's client
RowKey = tuple[str, str]  # pk, sk


class ConditionFailed(Exception):
    """A row did not meet its writer's condition."""


def write_once(rows: Rows, key: RowKey, row: Item, condition: str, **values: Any) -> Item:
    """`Rows.update` for a row whose writes are numbered: `row` holds this write's number, and `condition` holds only
    until it is written. Returns the row after it.

    A request may be carried out twice, or long after it was sent, by the endpoint or by a client that retries after a
    lost response. A late request finds a higher number and is refused. A retry that its own first request refuses has
    succeeded: the row then shows its number and content. Raises ConditionFailed for any other refusal.
    """
    try:
        return rows.update(key, row, condition, **values)
    except ConditionFailed:
        found = rows.get(key) or {}
        if any(name not in found or found[name] != value for name, value in row.items()):
            raise
        return found


class Rows:
    """The state table of one stage. Every method raises ServiceError when the table cannot be used."""

    def __init__(self, connection: Connection, table: str) -> None:
        self._connection = connection
        self.table = table
        self.where = f"state table {table}"

    @property
    def dynamodb(self) -> Any:
        """The client for calls about several rows."""
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
        """Writes a whole row, over an older one."""
        self._call("PutItem", {"TableName": self.table, "Item": {**_key(key), **encode(row)}})

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        """Sets attributes of a row, where `condition` holds (its `:name` placeholders are `values`, attribute names are
        plain); returns the row after it. Raises ConditionFailed."""
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

    def _begin(self, operation: str, body: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        """A call whose response is awaited later. With botocore the call itself is made then."""
        return partial(self._call, operation, body)

    def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call about one row. Raises ConditionFailed."""
        with explained(operation, self.where):
            try:
                answer: dict[str, Any] = getattr(self.dynamodb, _METHODS[operation])(**body)
            except self.dynamodb.exceptions.ConditionalCheckFailedException as error:
                raise ConditionFailed(str(body["Key"])) from error
        return answer

    def query(self, pk: str, prefix: str) -> Iterator[Item]:
        """The rows of a partition whose sort keys begin with `prefix`, in order."""
        pages = self.dynamodb.get_paginator("query").paginate(
            TableName=self.table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues=encode({":pk": pk, ":sk": prefix}),
            ConsistentRead=True,
        )
        with explained("Query", self.where):
            for page in pages:
                yield from map(decode, page["Items"])

    def get_all(self, keys: list[RowKey]) -> Iterator[Item]:
        """The rows of these keys that exist, in any order."""
        for start in range(0, len(keys), _BATCH):
            chunk = [_key(key) for key in keys[start : start + _BATCH]]
            left: dict[str, Any] = {self.table: {"Keys": chunk, "ConsistentRead": True}}
            while left:
                with explained("BatchGetItem", self.where):
                    answer = self.dynamodb.batch_get_item(RequestItems=left)
                yield from map(decode, answer["Responses"].get(self.table, ()))
                left = answer.get("UnprocessedKeys") or {}

    def transact(self, actions: list[dict[str, Any]]) -> None:
        """Carries out all of the actions or none. Raises ConditionFailed.

        A transaction that meets another write of one of its rows, such as a sign of life, is cancelled; it is retried
        here, which botocore leaves to its caller."""
        from botocore.exceptions import ClientError

        request = {"TransactItems": actions, "ClientRequestToken": uuid4().hex}  # one, for all tries
        with explained("TransactWriteItems", self.where):
            for tries in count(1):
                try:
                    self.dynamodb.transact_write_items(**request)
                    return
                except ClientError as error:
                    if "ConditionalCheckFailed" in str(error):
                        raise ConditionFailed(str(error)) from error
                    if _BACKOFF.exhausted(tries) or not any(reason in str(error) for reason in _PASSING):
                        raise
                time.sleep(_BACKOFF.delay(tries, random.random))


def _key(key: RowKey) -> Image:
    return encode({"pk": key[0], "sk": key[1]})
