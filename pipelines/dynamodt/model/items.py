"""Items, and the changes that a version makes to them.

An item has two shapes. An **Image** is DynamoDB's JSON, `{"id": {"S": "u1"}}`, with binary as base64 text. An **Item**
is the Python dict that an author's function gets, `{"id": "u1"}`. `script.codec` converts between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

AttributeValue: TypeAlias = dict[str, Any]
Image: TypeAlias = dict[str, AttributeValue]
Item: TypeAlias = dict[str, Any]
Cursor: TypeAlias = Image | int  # a key of a scan; a line of an export's file
Direction: TypeAlias = Literal["up", "down"]
Guard: TypeAlias = Literal["item", "changed"]


@dataclass(frozen=True, slots=True)
class Put:
    """Returned by a script: write this item, only where its key is absent."""

    item: Item


@dataclass(frozen=True, slots=True)
class Delete:
    """Returned by a script: delete the item that was handed in, unless it has changed since it was read."""


class Update(NamedTuple):
    """Set and remove some attributes of an item that was read as `read`."""

    key: Image
    read: Image
    sets: Image
    removes: tuple[str, ...] = ()


class Insert(NamedTuple):
    """Write an item of `table` where its key is absent. Alone it is a row of the version's `items()`; an insertion that
    is made of an item is a part of that item's Atomic."""

    table: str
    key: Image
    item: Image


class Check(NamedTuple):
    """Require that an item is still as it was read; nothing is written."""

    key: Image
    read: Image


class Remove(NamedTuple):
    """Delete an item that was read as `read`."""

    key: Image
    read: Image


class Atomic(NamedTuple):
    """One transaction, all of its parts or none: a re-key (insert, remove), a fan-out, an item for another table.

    `key` and `read` are the source item, which all parts are made of. One part updates, removes or checks it, so that
    the transaction fails when the item has changed since it was read; all others are insertions.
    """

    key: Image
    read: Image
    parts: tuple[Update | Insert | Remove | Check, ...]


Change: TypeAlias = Update | Insert | Remove | Atomic
Journaled: TypeAlias = Update | Insert | Remove  # a record of the journal, which holds a transaction as its parts
Sample: TypeAlias = tuple[Image, Image | None]  # before, after
