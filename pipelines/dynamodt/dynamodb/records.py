"""One line of a data file to a record.

The journal's parts are lines of the same layout, compressed with zstd: `change_of` reads them too, line by line of
`zstandard.ZstdDecompressor().decompressobj().decompress(part).splitlines()`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from dynamodt.model.items import Image
from dynamodt.model.tables import TableSpec


class ChangedItem(NamedTuple):
    """What became of one item: no `old`, it was inserted (or the view is NEW_IMAGE); no `new`, it was deleted."""

    key: Image
    old: Image | None
    new: Image | None
    micros: int  # of the last write, since 1970


class BadLine(NamedTuple):
    """A line that is no record: its place only, for its text may hold an item's data."""

    file: str  # s3://bucket/key
    line: int  # from 1
    why: str


def item_of(line: bytes) -> Image:
    """A line of a full export: `{"Item": {...}}`. Raises ValueError with the reason when it is none."""
    return _image(parsed(line), "Item")


def change_of(line: bytes) -> ChangedItem:
    """A line of an incremental export. Raises ValueError with the reason when it is none."""
    return changed_item(parsed(line))


def changed_item(record: dict[str, Any]) -> ChangedItem:
    """`change_of`, of what `parsed` gives."""
    old, new = (_image(record, name) if name in record else None for name in ("OldImage", "NewImage"))
    return ChangedItem(_image(record, "Keys"), old, new, _micros(record))


def key_fault(table: TableSpec, image: Image) -> str:
    """Why this cannot be (the key of) an item of the table; empty when it can."""
    for name, kind in table.key:
        value = image.get(name)
        if value is None:
            return f'it has no "{name}", which is a key attribute of the table {table.name}'
        if kind not in value:
            return f'its "{name}" is of type {"".join(value)}; the key of the table {table.name} has {kind}'
    return ""


def parsed(line: bytes) -> dict[str, Any]:
    """A line's object. Raises ValueError with the reason when it is none."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("it is no JSON object")
    return record


def _image(record: dict[str, Any], name: str) -> Image:
    image = record.get(name)
    if not isinstance(image, dict):
        raise ValueError(f'it has no "{name}"')
    if not all(isinstance(value, dict) and len(value) == 1 for value in image.values()):
        raise ValueError(f'its "{name}" is not in DynamoDB\'s JSON')
    return image


def _micros(record: dict[str, Any]) -> int:
    """The guide's text has a plain string, exports have a number in DynamoDB's JSON."""
    try:
        told = record["Metadata"]["WriteTimestampMicros"]
        return int(told["N"] if isinstance(told, dict) else told)
    except (KeyError, TypeError, ValueError):
        raise ValueError('it has no "Metadata.WriteTimestampMicros"') from None
