"""The plain calls on dynamodt's own table: rows by partition and sort key, written under a condition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained
from dynamodt.core.codec import decode, encode
from dynamodt.model import Image, Item

if TYPE_CHECKING:
    from dynamodt.model import Connection

_BATCH = 100
RowKey = tuple[str, str]  # pk, sk


class ConditionFailed(Exception):
    """A row was not as its writer required."""


class Rows:
    """The state table of one stage. Every method raises ServiceError when the table cannot be used."""

    def __init__(self, connection: Connection, table: str) -> None:
        self.dynamodb = client(connection, "dynamodb")
        self.table = table
        self.where = f"state table {table}"

    def get(self, key: RowKey) -> Item | None:
        """A row, strongly consistent."""
        with explained("GetItem", self.where):
            answer = self.dynamodb.get_item(TableName=self.table, Key=_key(key), ConsistentRead=True)
        return decode(answer["Item"]) if "Item" in answer else None

    def put(self, key: RowKey, row: Item) -> None:
        """Write a row whole, whatever was there."""
        with explained("PutItem", self.where):
            self.dynamodb.put_item(TableName=self.table, Item={**_key(key), **encode(row)})

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        """Set attributes of a row where `condition` holds (its `:name` placeholders are `values`, the names plain), or
        in any case; returns the row after it. Raises ConditionFailed."""
        names = {f"#{number}": name for number, name in enumerate(row)}
        sets = ", ".join(f"#{number} = :{number}" for number in range(len(row)))
        bound = {f":{number}": value for number, value in enumerate(row.values())}
        bound |= {f":{name}": value for name, value in values.items()}
        conditions = {"ConditionExpression": condition} if condition else {}
        with explained("UpdateItem", self.where):
            try:
                answer = self.dynamodb.update_item(
                    TableName=self.table,
                    Key=_key(key),
                    UpdateExpression=f"SET {sets}",
                    **conditions,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=encode(bound),
                    ReturnValues="ALL_NEW",
                )
            except self.dynamodb.exceptions.ConditionalCheckFailedException as error:
                raise ConditionFailed(str(key)) from error
        return decode(answer["Attributes"])

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
        """All of the actions or none. Raises ConditionFailed."""
        from botocore.exceptions import ClientError

        with explained("TransactWriteItems", self.where):
            try:
                self.dynamodb.transact_write_items(TransactItems=actions)
            except ClientError as error:
                if "ConditionalCheckFailed" in str(error):
                    raise ConditionFailed(str(error)) from error
                raise


def _key(key: RowKey) -> Image:
    return encode({"pk": key[0], "sk": key[1]})
