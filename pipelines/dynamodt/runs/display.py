"""Text and items for display: the difference of two items as short lines, and the escaping of foreign text.

Text of a script, an item or a service is escaped before it is shown, so that it cannot move the cursor, change colours,
or be executed by the CI system that reads the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple, TextIO

from dynamodt.model.tables import Item

# GitHub's runner executes a line that begins with `::`, after spaces; it and Azure's also one with `##[name` or
# `##vso[name` anywhere in it.
_AT_THE_START = re.compile(r"^((?:[^\S\n]|\x1b\[[0-9;]*m)*)::", re.MULTILINE)
_ANYWHERE = re.compile(r"##(?=\w*\[)")


def printable(text: str) -> str:
    """The text with control and other invisible characters escaped; line ends stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def inert(text: str) -> str:
    """The text with a backslash inserted where a CI system would read a command."""
    return _ANYWHERE.sub(r"#\\#", _AT_THE_START.sub(r"\1\\::", text))


def json_line(document: dict[str, Any]) -> str:
    """A document as one line of inert JSON, in ASCII."""
    return json.dumps(document).replace("##", "#\\u0023") + "\n"


class InertStream:
    """A stream that writes everything `inert`. Each write must be of whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(inert(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_ABSENT = object()
_KEY_WIDTH = 60
_LEAD = 8  # characters kept before the first difference of two long values


class DiffLine(NamedTuple):
    """`sign` is "-" (before) or "+" (after); `path` names the attribute, nested ones by dots."""

    sign: str
    path: str
    value: str


def item_diff(before: Item, after: Item | None, width: int = 60) -> list[DiffLine]:
    """The attributes that differ, sorted by path, each value cut to `width` characters. A missing `after` is a
    deleted item: every attribute is a "-"."""
    return list(_map_lines((), before, after or {}, width))


def key_line(item: Item, key_names: Iterable[str]) -> str:
    """The item's key as text: `id = "u1", sort = 3`."""
    return ", ".join(
        f"{_name(name)} = {clip(value_text(item[name]), _KEY_WIDTH)}" for name in key_names if name in item
    )


def value_text(value: Any) -> str:
    """Any value of an item as one printable line."""
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Decimal | int | float):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_name(k)}: {value_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(value_text, value))) + "}"
    return _binary(value)


def clip(text: str, width: int, start: int = 0) -> str:
    """`width` characters of the text from `start` on, with an ellipsis for each end that is cut."""
    head = "…" if start else ""
    room = max(1, width - len(head))
    rest = text[start:]
    return head + (rest if len(rest) <= room else rest[: room - 1] + "…")


def _map_lines(path: tuple[str, ...], before: dict[str, Any], after: dict[str, Any], width: int) -> Iterator[DiffLine]:
    for name in sorted({*before, *after}):
        yield from _value_lines((*path, name), before.get(name, _ABSENT), after.get(name, _ABSENT), width)


def _value_lines(path: tuple[str, ...], old: Any, new: Any, width: int) -> Iterator[DiffLine]:
    if isinstance(old, dict) and isinstance(new, dict) and old and new:
        yield from _map_lines(path, old, new, width)
        return
    # 1 == True == Decimal(1) in Python, but not in DynamoDB
    if old is _ABSENT or new is _ABSENT or _typed(old) != _typed(new):
        yield from _pair(".".join(map(_name, path)), old, new, width)


def _pair(path: str, old: Any, new: Any, width: int) -> Iterator[DiffLine]:
    before, after = (None if value is _ABSENT else value_text(value) for value in (old, new))
    start = 0 if before is None or after is None else _cut(before, after, width)
    for sign, text in (("-", before), ("+", after)):
        if text is not None:
            yield DiffLine(sign, path, clip(text, width, start))


def _cut(old: str, new: str, width: int) -> int:
    """The position from which both values show their first difference."""
    same = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    return same - _LEAD if same >= width - _LEAD else 0


def _typed(value: Any) -> Any:
    if isinstance(value, dict):
        return ("M", {k: _typed(v) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return ("L", [_typed(v) for v in value])
    if isinstance(value, bool):
        return ("BOOL", value)
    return (type(value).__name__ if isinstance(value, set | frozenset) else "", value)


def _name(name: str) -> str:
    return name if name.isidentifier() else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{printable(escaped)}"'


def _binary(value: Any) -> str:
    raw = getattr(value, "value", value)
    return f"{len(raw)} bytes {bytes(raw).hex()}" if isinstance(raw, bytes | bytearray) else printable(str(value))
