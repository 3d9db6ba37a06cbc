"""Files of items: a table's sample for tests, and what `check --items` reads.

A line is one item, in DynamoDB's JSON (`{"id": {"S": "u1"}}`), as a line of an export (`{"Item": {...}}`), or as plain
JSON (`{"id": "u1"}`), whose numbers keep their digits. The output of `aws dynamodb scan` (`{"Items": [...]}`) is read,
too, and so is what gzip has compressed.

A sample, `transforms/TABLE/sample.jsonl`, is what `check --save` writes: a first line that tells which version of the
table its items have (0: none was applied), then the items, with their values replaced.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from dynamodt.errors import ItemError, UsageError, file_explained
from dynamodt.model.tables import AttributeValue, Image
from dynamodt.script.codec import decode_value, encode, encode_value

SAMPLE: Final = "sample.jsonl"
_HEAD: Final = "dynamodt_sample"
_TYPES: Final = frozenset({"S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS"})
_LINES: Final = 'a line is one item, such as {"id": {"S": "u1"}}'
_GZIP: Final = b"\x1f\x8b"


class Items(NamedTuple):
    """The items of a file; `version` is the version of the table that they have, None where the file does not tell."""

    images: list[Image]
    version: int | None = None


def sample_path(transforms: Path, folder: str) -> Path:
    """The sample of the table with this folder in `transforms`."""
    return transforms / folder / SAMPLE


def read_items(path: Path) -> Items:
    """The items of a file, in its order. Raises UsageError, naming the line, for what is not an item; ServiceError for
    a file that cannot be read."""
    images: list[Image] = []
    version: int | None = None
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        document = _parsed(line, path, number)
        if _HEAD in document:
            version = _version(document[_HEAD], path, number)
        else:
            images.extend(_image(each, path, number) for each in document.get("Items", [document]))
    return Items(images, version)


def write_sample(path: Path, images: Iterable[Image], version: int) -> None:
    """Writes a table's sample, whose items have this version. Raises ServiceError for a file that cannot be written."""
    lines = [json.dumps({_HEAD: {"version": version}}), *(json.dumps(image, ensure_ascii=False) for image in images)]
    with file_explained("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(path: Path) -> Iterator[str]:
    """The lines of a file; all of a text that is one JSON document over several lines is one."""
    with file_explained("read", path):
        raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw.startswith(_GZIP) else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError("the file is not text in UTF-8", where=str(path), hint=_LINES) from error
    whole = text.lstrip().startswith("{") and text.lstrip().partition("\n")[0].strip() in ("{", '{"Items": [')
    yield from [" ".join(text.splitlines())] if whole else text.splitlines()


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        document = json.loads(line, parse_float=Decimal, parse_int=Decimal)
    except ValueError as error:
        raise UsageError(f"not JSON: {error}", where=f"{path}:{number}", hint=_LINES) from error
    if not isinstance(document, dict):
        raise UsageError("not an item but other JSON", where=f"{path}:{number}", hint=_LINES)
    return document


def _version(head: Any, path: Path, number: int) -> int:
    found = head.get("version") if isinstance(head, dict) else None
    if not isinstance(found, Decimal) or found != int(found) or found < 0:
        hint = "save the sample again, or delete this line"
        raise UsageError("the sample's first line has no version", where=f"{path}:{number}", hint=hint)
    return int(found)


def _image(document: Any, path: Path, number: int) -> Image:
    """One item, of any of the forms. Its values are read and written again, so that they are known to be valid."""
    where = f"{path}:{number}"
    item = document.get("Item", document) if isinstance(document, dict) else document
    if not isinstance(item, dict) or not item:
        raise UsageError("not an item", where=where, hint=_LINES)
    try:
        if all(map(_is_typed, item.values())):
            return {name: encode_value(decode_value(_plain(value)), name) for name, value in item.items()}
        return encode(item)
    except ItemError as error:
        raise UsageError(f"not an item: {error.what}", where=f"{where}: {error.where}", hint=error.hint) from error
    except (ValueError, ArithmeticError, TypeError, AttributeError, KeyError) as error:
        raise UsageError("not an item in DynamoDB's JSON", where=where, hint=_LINES) from error


def _is_typed(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and value.keys() <= _TYPES


def _plain(value: AttributeValue) -> AttributeValue:
    """An attribute value with its numbers as texts, also where they were written without quotes."""
    ((kind, raw),) = value.items()
    if kind == "N":
        return {kind: str(raw)}
    if kind == "NS":
        return {kind: [str(one) for one in raw]}
    if kind == "M":
        return {kind: {name: _plain(inner) for name, inner in raw.items()}}
    return {kind: [_plain(inner) for inner in raw]} if kind == "L" else value
