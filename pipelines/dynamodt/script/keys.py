"""The text form of a key, on the command line and in output: `u1`, `u1,7`, or JSON.

It has the values of the key's attributes, the partition key first, separated by commas. Their types are those of the
table's key: `7` is a string or a number, and binary values are in base64. A string with characters that a shell or this
form would interpret is a JSON string: `"a, b"`. A key may also be typed as a JSON object, with plain values or in
DynamoDB's JSON: `{"id": "u1", "at": 7}`, `{"id": {"S": "u1"}, "at": {"N": "7"}}`.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

from dynamodt.model.tables import Image
from dynamodt.script.codec import normal_number

Shape = tuple[tuple[str, str], ...]  # the attributes of a key, with their types
_PLAIN = re.compile(r"\w[\w.:/@#+=%~-]*")


def shape_of(key: Image) -> Shape:
    """The attributes of a key, with their types."""
    return tuple((name, kind) for name, value in key.items() for kind in value)


def key_typed(key: Image) -> str:
    """The key in the form that `key_meant` reads; an empty key, as of a malformed line of an export, is `{}`."""
    return ",".join(_value_typed(kind, raw) for value in key.values() for kind, raw in value.items()) or "{}"


def key_meant(text: str, shape: Shape) -> Image | None:
    """The key with these attributes that a text stands for; None if the text is not such a key."""
    try:
        if text.startswith("{"):
            return _of_object(json.loads(text, parse_float=Decimal, parse_int=Decimal), shape)
        values = list(_values(text)) if len(shape) > 1 or text.startswith('"') else [text]
        if len(values) != len(shape):
            return None
        return {name: {kind: _check_value(kind, raw)} for (name, kind), raw in zip(shape, values, strict=True)}
    except (ValueError, InvalidOperation, binascii.Error):
        return None


def _value_typed(kind: str, raw: Any) -> str:
    if kind != "S" or _PLAIN.fullmatch(raw):
        return str(raw)
    return json.dumps(raw, ensure_ascii=not raw.isprintable()).replace("##", "#\\u0023")


def _values(text: str) -> Iterator[str]:
    """The values in a text; a quoted value may contain commas. Raises ValueError."""
    position = 0
    while True:
        if text.startswith('"', position):
            value, position = json.JSONDecoder().raw_decode(text, position)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            value, position = text[position:end], end
        yield value
        if position == len(text):
            return
        if text[position] != ",":
            raise ValueError(text)
        position += 1


def _of_object(found: dict[str, Any], shape: Shape) -> Image | None:
    if found.keys() != {name for name, _ in shape}:
        return None
    return {name: {kind: _check_value(kind, _raw(kind, found[name]))} for name, kind in shape}


def _raw(kind: str, value: Any) -> str:
    """A value of a JSON object in DynamoDB's JSON. Raises ValueError for a value of another type."""
    if isinstance(value, dict) and value.keys() == {kind} and isinstance(value[kind], str):
        return str(value[kind])
    if isinstance(value, Decimal if kind == "N" else str):
        return str(value)
    raise ValueError(value)


def _check_value(kind: str, raw: str) -> str:
    if kind == "N":
        normal_number(raw)
    if kind == "B":
        b64decode(raw, validate=True)
    return raw
