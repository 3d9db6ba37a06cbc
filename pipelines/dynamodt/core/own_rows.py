"""The rows that a version adds by itself, as its table takes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from decimal import Decimal

from dynamodt.core.codec import decode
from dynamodt.core.diff import insert, key_of
from dynamodt.core.keys import key_text
from dynamodt.core.script import item_rows
from dynamodt.errors import ItemError, ScriptError
from dynamodt.model import Image, Item, Script, TableSpec


def own_image(script: Script, table: TableSpec, row: Item) -> Image:
    """A row of `items()` as an image. Raises ScriptError for one that the table cannot hold."""
    try:
        return insert(table, row).item
    except ItemError as error:
        where = f"{script.path}: items(): {error.where}"
        raise ScriptError(error.what, where=where, hint=error.hint) from error


def checked_rows(script: Script, table: TableSpec) -> str:
    """The sha256, in hex, of all rows of `items()` in their order.

    Raises ScriptError for a row that the table cannot hold, and for two rows with one key: only the first of them
    would be written. Memory is bounded by the keys.
    """
    digest, seen = hashlib.sha256(), dict[str, int]()
    for number, image in enumerate(_images(script, table), 1):
        text = key_text(key_of(table, image))
        if text in seen:
            raise _twice(script, table, image, seen[text], number)
        seen[text] = number
        digest.update(json.dumps(image, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def check_same_rows(script: Script, table: TableSpec, checksum: str) -> None:
    """Raises ScriptError where `items()` gives others than those of the checksum: what a place in them meant before, it
    no longer means."""
    if checked_rows(script, table) != checksum:
        raise ScriptError(
            "items() gives other rows than when the run began, or gives them in another order",
            where=script.path,
            hint="It must give the same rows each time: sort them, and take no moment or random value into them.",
        )


def _images(script: Script, table: TableSpec) -> Iterator[Image]:
    return (own_image(script, table, row) for row in item_rows(script))


def _twice(script: Script, table: TableSpec, image: Image, first: int, second: int) -> ScriptError:
    values = decode(key_of(table, image)).items()
    key = ", ".join(f"{name} = {value if isinstance(value, Decimal) else repr(value)}" for name, value in values)
    return ScriptError(
        f"items() gives two rows with one key: rows {first:,} and {second:,} both have {key}",
        where=script.path,
        hint="Give each row a key of its own: of two, only the first would be written. Nothing was started.",
    )
