"""The rows of the state table that a run, or its undo, writes, each in one transaction with an inserted item (ADR 034,
098)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dynamodt.model.tables import Image, Insert, KeyAttribute, TableSpec
from dynamodt.script.codec import digest, image_digest, key_text

_SORT_KEY = {"S": "INSERTED"}


class InsertedRow(NamedTuple):
    """The content of an inserted row: the source's key (None: a row of `items()`), the digest of the item as inserted,
    and that of the whole transaction (`transaction_digest`). `removed`: an undo has deleted the item."""

    source: Image | None
    item: str
    transaction: str = ""
    removed: bool = False

    def is_from(self, source: Image | None) -> bool:
        """Whether the item was made from this source (None: a row of `items()`)."""
        return key_text(self.source or {}) == key_text(source or {})


class InsertedRows:
    """The rows of one run's insertions, in the state table `table`::

    pk           RUN#<run>#INSERTED#<digest of table and key>
    sk           INSERTED
    table, key   of the inserted item
    source       the key of the item that it was made of, as JSON; null for a row of `items()`
    item         the digest of the item as inserted
    transaction  the digest of the whole transaction, and of the phase of the run that has sent it
    removed      true once an undo has deleted the item
    """

    def __init__(self, table: str, run: str, phase: str = "") -> None:
        self.spec = TableSpec(table, (KeyAttribute("pk", "S"), KeyAttribute("sk", "S")))
        self._run = run
        self.phase = phase

    def key(self, table: str, key: Image) -> Image:
        """The key of the row for an item of a table. Each row has a partition key of its own."""
        return {"pk": {"S": f"RUN#{self._run}#INSERTED#{digest(f'{table} {key_text(key)}')}"}, "sk": _SORT_KEY}

    def put(self, insert: Insert, source: Image | None, transaction: str = "") -> dict[str, Any]:
        """The action that writes the row of an insertion if it is absent; `transaction` is the digest of its
        transaction."""
        row = {
            **self.key(insert.table, insert.key),
            "table": {"S": insert.table},
            "key": {"S": json.dumps(insert.key)},
            "source": {"S": json.dumps(source)},
            "item": {"S": image_digest(insert.item)},
            "transaction": {"S": transaction},
        }
        return {"Put": {"TableName": self.spec.name, "Item": row, **_ABSENT}}

    def removed(self, table: str, key: Image) -> dict[str, Any]:
        """The action that notes, once, that an undo deletes the inserted item of this key."""
        row = {"TableName": self.spec.name, "Key": self.key(table, key)}
        return {"Update": {**row, **_REMOVED_ONCE}}

    def absent(self, table: str, key: Image) -> dict[str, Any]:
        """The action that fails a transaction when the run has inserted an item of this key."""
        return {"ConditionCheck": {"TableName": self.spec.name, "Key": self.key(table, key), **_ABSENT}}


_REMOVED_ONCE = {
    "UpdateExpression": "SET #r=:r",
    "ConditionExpression": "attribute_exists(#k) AND attribute_not_exists(#r)",
    "ExpressionAttributeNames": {"#k": "pk", "#r": "removed"},
    "ExpressionAttributeValues": {":r": {"BOOL": True}},
}
_ABSENT = {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": "pk"}}


def inserted_row(image: Image) -> InsertedRow:
    """The content of a row that `InsertedRows.put` has written."""
    source = json.loads(image["source"]["S"])
    return InsertedRow(source, image["item"]["S"], image["transaction"]["S"], "removed" in image)
