"""The rows of the state table that tell which items a run has inserted.

Each insertion is one transaction with such a row, which must be absent, too. So a run inserts an item of one key at
most once, whatever is sent twice or late; whether it has done so is one exact read; and the row names the item that the
inserted one was made of, which tells a repetition from a collision (docs/adr/034).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from dynamodt.core.diff import parts_of
from dynamodt.core.keys import digest, image_digest, key_text
from dynamodt.model import Atomic, Check, Image, Insert, KeyAttribute, Remove, TableSpec, Update

_SORT_KEY = {"S": "INSERTED"}


class InsertedRow(NamedTuple):
    """What a row says: the source's key (None: a row of `items()`), and the digests of the item as it was inserted and
    of the whole transaction."""

    source: Image | None
    item: str
    transaction: str = ""

    def is_from(self, source: Image | None) -> bool:
        """Whether the item was made of this source (None: a row of `items()`)."""
        if self.source is None or source is None:
            return self.source is source
        return key_text(self.source) == key_text(source)

    def is_of(self, part: Insert, source: Image | None) -> bool:
        """Whether it tells of this very insertion, made of this source."""
        return self.is_from(source) and self.item == image_digest(part.item)


class InsertedRows:
    """Writes and names the rows of one run, in the state table `table`."""

    def __init__(self, table: str, run: str) -> None:
        self.spec = TableSpec(table, (KeyAttribute("pk", "S"), KeyAttribute("sk", "S")))
        self._run = run

    def key(self, table: str, key: Image) -> Image:
        """The key of the row for an item of a table. Each has a partition key of its own: they spread over all."""
        return {"pk": {"S": f"RUN#{self._run}#INSERTED#{digest(f'{table} {key_text(key)}')}"}, "sk": _SORT_KEY}

    def put(self, insert: Insert, source: Image | None, transaction: str = "") -> dict[str, Any]:
        """The action that writes the row of an insertion, where it is absent, in a transaction of this digest."""
        row = {
            **self.key(insert.table, insert.key),
            "table": {"S": insert.table},
            "key": {"S": json.dumps(insert.key)},
            "source": {"S": json.dumps(source)},
            "item": {"S": image_digest(insert.item)},
            "transaction": {"S": transaction},
        }
        return {"Put": {"TableName": self.spec.name, "Item": row, **_ABSENT}}

    def absent(self, table: str, key: Image) -> dict[str, Any]:
        """The transaction's action that fails where the run has inserted an item of this key."""
        return {"ConditionCheck": {"TableName": self.spec.name, "Key": self.key(table, key), **_ABSENT}}


_ABSENT = {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": "pk"}}


def inserted_row(image: Image) -> InsertedRow:
    """What `InsertedRows.put` has written."""
    return InsertedRow(json.loads(image["source"]["S"]), image["item"]["S"], image["transaction"]["S"])


def transaction_digest(change: Atomic | Insert) -> str:
    """The same for two transactions that write the same; what they check is not looked at."""
    return digest(repr(sorted(map(_written, parts_of(change)))))


def _written(part: Update | Insert | Remove | Check) -> str:
    if isinstance(part, Update):
        return f"update {key_text(part.key)} {image_digest(part.sets)} {sorted(part.removes)}"
    if isinstance(part, Insert):
        return f"insert {part.table} {key_text(part.key)} {image_digest(part.item)}"
    return f"remove {key_text(part.key)}" if isinstance(part, Remove) else ""
