"""A table's saved sample, `transforms/TABLE/sample.jsonl`: items for tests, one a line in DynamoDB's JSON.

`check` saves it, and reads such files, and `pytest --dynamodt` uses it. Lines of an export in S3, `{"Item": {...}}`,
are read, too. A line that DynamoDB could not have returned is refused with its number: a test of a mistyped item shows
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from dynamodt.errors import ItemError, UsageError
from dynamodt.model.tables import Image
from dynamodt.script.codec import decode, encode, same_image
from dynamodt.script.names import SAMPLE_FILE

_FORM = '{"id": {"S": "u1"}, "amount": {"N": "7"}}'


def sample_path(transforms: Path, table: str) -> Path:
    """Where a table's saved sample is; `table` is the name of its folder."""
    return transforms / table / SAMPLE_FILE


def read_images(path: Path) -> Iterator[Image]:
    """The items of a file, one at a time. Raises UsageError for a file that cannot be read, and for a line that is no
    item."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _image(line, f"{path}:{number}")
    except OSError as error:
        hint = "Name a file of items, one a line in DynamoDB's JSON."
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error


def _image(line: bytes, where: str) -> Image:
    try:
        value = json.loads(line)
        image: Any = value["Item"] if list(value) == ["Item"] and _is_untyped(value["Item"]) else value
        if image and same_image(image, encode(decode(image))):
            return dict(image)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, ItemError):
        pass
    raise UsageError("is no item in DynamoDB's JSON", where=where, hint=f"Write one item a line: {_FORM}")


def _is_untyped(value: dict[str, Any]) -> bool:
    """Whether a value is an item rather than an attribute's value, `{"S": ...}`."""
    return all(isinstance(inner, dict) for inner in value.values()) and not ("M" in value and len(value) == 1)


def sample_text(images: Iterable[Image]) -> str:
    """The text of a file with these items; equal items give an equal text."""
    lines = (json.dumps(image, ensure_ascii=False, sort_keys=True) for image in images)
    return "".join(f"{line}\n" for line in lines)
