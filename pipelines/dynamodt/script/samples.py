"""A table's saved sample, `transforms/TABLE/sample.jsonl`: items for tests, one a line in DynamoDB's JSON.

`dynamodt check --save` writes it; `check --items` and `pytest --dynamodt` read it. Lines of an export in S3, `{"Item":
{...}}`, are read, too. A line that DynamoDB could not have returned is refused with its number, since a test with a
mistyped item proves nothing. Files compressed with gzip, such as an export's, are decompressed.

The first line may give the items' version, `{"dynamodt_sample": {"version": 3}}`: the versions up to this one have been
applied to them.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dynamodt.errors import ItemError, UsageError
from dynamodt.model.tables import Image
from dynamodt.script.codec import decode, encode, same_image
from dynamodt.script.names import SAMPLE_FILE

_HEAD = "dynamodt_sample"
_GZIP = b"\x1f\x8b"
_FORM = '{"id": {"S": "u1"}, "amount": {"N": "7"}}'


def sample_path(transforms: Path, table: str) -> Path:
    """The path of a table's saved sample; `table` is the name of its folder."""
    return transforms / table / SAMPLE_FILE


def read_images(path: Path) -> Iterator[Image]:
    """The items of a file, one at a time. Raises UsageError for a file that cannot be read, and for a line that is not
    an item."""
    for number, line in _lines(path):
        if _version(line) is None:
            yield _image(line, f"{path}:{number}")


def version_of(path: Path) -> int | None:
    """The version of the items of a file; None if the file does not give it. Raises UsageError for a file that cannot
    be read."""
    return next((_version(line) for _, line in _lines(path)), None)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == _GZIP
            file.seek(0)
            lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if is_compressed else file
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        hint = "Name a file of items, one a line in DynamoDB's JSON."
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot be read: {reason}", where=str(path), hint=hint) from error


def _version(line: bytes) -> int | None:
    """The version in a first line; None for any other line."""
    try:
        version = json.loads(line)[_HEAD]["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if type(version) is int and version >= 0 else None


def _image(line: bytes, where: str) -> Image:
    try:
        value = json.loads(line)
        image: Any = value["Item"] if list(value) == ["Item"] and _is_untyped(value["Item"]) else value
        if image and same_image(image, encode(decode(image))):
            return dict(image)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, ItemError):
        pass
    raise UsageError("is not an item in DynamoDB's JSON", where=where, hint=f"Write one item per line: {_FORM}")


def _is_untyped(value: dict[str, Any]) -> bool:
    """Whether a value is an item rather than an attribute's value, `{"S": ...}`."""
    return all(isinstance(inner, dict) for inner in value.values()) and not ("M" in value and len(value) == 1)


def sample_text(images: Iterable[Image], version: int | None = None) -> str:
    """The text of a file with these items and their version; equal items give an equal text."""
    head = [] if version is None else [f"{json.dumps({_HEAD: {'version': version}})}\n"]
    lines = (json.dumps(image, ensure_ascii=False, sort_keys=True) for image in images)
    return "".join([*head, *(f"{line}\n" for line in lines)])
