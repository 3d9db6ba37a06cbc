"""The plain calls on dynamodt's own table: rows by partition and sort key, written under a condition."""

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
    """A row was not as its writer required."""


def write_once(rows: Rows, key: RowKey, row: Item, condition: str, **values: Any) -> Item:
    """`Rows.update` for a row whose writes are numbered: `row` holds this write's number, and `condition` does not hold
    any more once it is written. Returns the row after it.

    The endpoint, or a client that sends again after a lost answer, may carry a request out twice, or long after it was
    sent. What comes late finds a higher number and is refused. A second sending that is refused by its own first one
    has succeeded: the row shows its number and content then. Raises ConditionFailed for any other refusal.
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
        """The client for all that is not about a single row."""
        return client(self._connection, "dynamodb")

    def get(self, key: RowKey) -> Item | None:
        """A row, strongly consistent."""
        return self.begin_get(key)()

    def begin_get(self, key: RowKey) -> Callable[[], Item | None]:
        """Ask for a row; what it returns waits for the answer."""
        answered = self._begin("GetItem", {"TableName": self.table, "Key": _key(key), "ConsistentRead": True})

        def row() -> Item | None:
            answer = answered()
            return decode(answer["Item"]) if "Item" in answer else None

        return row

    def put(self, key: RowKey, row: Item) -> None:
        """Write a row whole, whatever was there."""
        self._call("PutItem", {"TableName": self.table, "Item": {**_key(key), **encode(row)}})

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        """Set attributes of a row where `condition` holds (its `:name` placeholders are `values`, the names plain), or
        in any case; returns the row after it. Raises ConditionFailed."""
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
        """A call whose answer is heard later. botocore knows none: it is made then."""
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
        """The rows of these keys that exist, in no order."""
        for start in range(0, len(keys), _BATCH):
            chunk = [_key(key) for key in keys[start : start + _BATCH]]
            left: dict[str, Any] = {self.table: {"Keys": chunk, "ConsistentRead": True}}
            while left:
                with explained("BatchGetItem", self.where):
                    answer = self.dynamodb.batch_get_item(RequestItems=left)
                yield from map(decode, answer["Responses"].get(self.table, ()))
                left = answer.get("UnprocessedKeys") or {}

    def transact(self, actions: list[dict[str, Any]]) -> None:
        """All of the actions or none. Raises ConditionFailed.

        What meets another write of one of the rows, such as a sign of life, is cancelled and tried again: botocore does
        not do that."""
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
