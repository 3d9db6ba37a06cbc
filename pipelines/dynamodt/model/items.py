"""Items, and the changes that a version makes to them.

Two shapes of an item appear everywhere. An **Image** is what DynamoDB's JSON says, `{"id": {"S": "u1"}}`, binary as
base64 text. An **Item** is what an author sees, `{"id": "u1"}`. `script.codec` turns one into the other.
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
    """Returned by a script: delete the item that was handed in, unless it has changed meanwhile."""


class Update(NamedTuple):
    """Set and remove some attributes of an item that was read as `read`."""

    key: Image
    read: Image
    sets: Image
    removes: tuple[str, ...] = ()


class Insert(NamedTuple):
    """Write an item of `table` where its key is absent. By itself it is a row of the version's `items()`; what is made
    of an item is a part of its Atomic."""

    table: str
    key: Image
    item: Image


class Check(NamedTuple):
    """An item is still what was read as `read`; nothing is written."""

    key: Image
    read: Image


class Remove(NamedTuple):
    """Delete an item that was read as `read`."""

    key: Image
    read: Image


class Atomic(NamedTuple):
    """All of the parts or none, in one transaction: a re-key (insert, remove), a fan-out, an item for another table.

    `key` and `read` are the source, the item that all of it was made of. One part updates, removes or checks it, so
    that nothing is made of an item that is no more what was read; all others are insertions.
    """

    key: Image
    read: Image
    parts: tuple[Update | Insert | Remove | Check, ...]


Change: TypeAlias = Update | Insert | Remove | Atomic
Journaled: TypeAlias = Update | Insert | Remove  # a record of the journal: a transaction is there in its parts
Sample: TypeAlias = tuple[Image, Image | None]  # before, after
