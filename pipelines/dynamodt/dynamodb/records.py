"""Records of DynamoDB's export files, parsed from their lines; the journal's parts have the same layout."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from dynamodt.model.tables import Image, TableSpec


class ChangedItem(NamedTuple):
    """The change of one item. Without `old` it was inserted (or the view is NEW_IMAGE), without `new` deleted."""

    key: Image
    old: Image | None
    new: Image | None
    micros: int  # of the last write, since 1970


class BadLine(NamedTuple):
    """A malformed line: its place only, since its text may hold an item's data."""

    file: str  # s3://bucket/key
    line: int  # from 1
    why: str


def item_of(line: bytes) -> Image:
    """A line of a full export: `{"Item": {...}}`. Raises ValueError with the reason when it is malformed."""
    return _image(parsed(line), "Item")


def change_of(line: bytes) -> ChangedItem:
    """A line of an incremental export. Raises ValueError with the reason when it is malformed."""
    return changed_item(parsed(line))


def changed_item(record: dict[str, Any]) -> ChangedItem:
    """`change_of`, for an object of `parsed`."""
    old, new = (_image(record, name) if name in record else None for name in ("OldImage", "NewImage"))
    return ChangedItem(_image(record, "Keys"), old, new, _micros(record))


def key_fault(table: TableSpec, image: Image) -> str:
    """Why an image cannot be an item of the table, or its key; empty when it can."""
    for name, kind in table.key:
        value = image.get(name)
        if value is None:
            return f'it has no "{name}", which is a key attribute of the table {table.name}'
        if kind not in value:
            return f'its "{name}" is of type {"".join(value)}; the key of the table {table.name} has {kind}'
    return ""


def parsed(line: bytes) -> dict[str, Any]:
    """A line's JSON object. Raises ValueError with the reason when it is malformed."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return record


def _image(record: dict[str, Any], name: str) -> Image:
    image = record.get(name)
    if not isinstance(image, dict):
        raise ValueError(f'it has no "{name}"')
    if not all(isinstance(value, dict) and len(value) == 1 for value in image.values()):
        raise ValueError(f'its "{name}" is not in DynamoDB\'s JSON')
    return image


def _micros(record: dict[str, Any]) -> int:
    """AWS's guide shows a plain string, exports have a number in DynamoDB's JSON."""
    try:
        micros = record["Metadata"]["WriteTimestampMicros"]
        return int(micros["N"] if isinstance(micros, dict) else micros)
    except (KeyError, TypeError, ValueError):
        raise ValueError('it has no "Metadata.WriteTimestampMicros"') from None
