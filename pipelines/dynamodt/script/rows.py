"""The rows that a script yields: of `prepare(context)`, and of `items()`, as items and as images of the table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

from dynamodt.errors import DynamodtError, ItemError, ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Image, Item, TableSpec
from dynamodt.script.codec import decode, key_text
from dynamodt.script.diff import insert, key_of
from dynamodt.script.functions import row_function
from dynamodt.script.load import is_interrupt, line_of, load, script_failure

_END: Final = object()


class PrepareContext(Protocol):
    """The argument of `prepare`: where it runs, and boto3 clients of the stage."""

    @property
    def folder(self) -> Path: ...  # the table's folder, for a file beside the script

    @property
    def table(self) -> str: ...

    @property
    def stage(self) -> str: ...

    @property
    def version(self) -> int: ...

    def client(self, service: str) -> Any: ...


def prepare_rows(script: Script, context: PrepareContext) -> Iterator[tuple[Hashable, Any]]:
    """The (key, value) rows of the script's `prepare`, one at a time.

    Raises ScriptError, with the row's number, for a row that is not such a pair, and with the author's line for any
    exception of the script.
    """
    prepare = row_function(script, load(script), "prepare")
    for number, row in enumerate(_rows(script, "prepare", lambda: prepare(context), "(key, value) pairs"), 1):
        if not (isinstance(row, tuple | list) and len(row) == 2 and _hashable(row[0])):
            raise _bad_row(script, "prepare", number, row, "a (key, value) pair: yield code, name")
        yield row[0], row[1]


def item_rows(script: Script) -> Iterator[Item]:
    """The items that the version adds, one at a time. Raises ScriptError, with its number, for one that is not a dict,
    and with the author's line for any exception of the script."""
    items = row_function(script, load(script), "items")
    for number, row in enumerate(_rows(script, "items", items, "dicts"), 1):
        if not isinstance(row, dict):
            raise _bad_row(script, "items", number, row, "an item: a dict with the table's key")
        yield row


def _rows(script: Script, name: str, function: Callable[[], object], expected: str) -> Iterator[object]:
    rows = _caught(script, f"{name} fails", lambda: iter(_iterable(script, name, function(), expected)))
    for number in count():
        after = f" after row {number:,}" if number else ""
        row = _caught(script, f"{name} fails{after}", lambda: next(rows, _END))
        if row is _END:
            return
        yield row


def _caught(script: Script, what: str, step: Callable[[], Any]) -> Any:
    """The result of a step of the author's code. Raises ScriptError for any exception except a Ctrl-C."""
    try:
        return step()
    except BaseException as error:
        if isinstance(error, DynamodtError) or is_interrupt(error):
            raise
        hint = "Correct the line named above, or what it reads from, and run the same command again."
        raise script_failure(script, what, error, hint) from error


def _iterable(script: Script, name: str, rows: object, expected: str) -> Iterable[object]:
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes | dict):
        return rows
    raise ScriptError(
        f"{name} returned {type(rows).__name__}, not an iterable of {expected}",
        where=line_of(script, name),
        hint=f"Yield {expected} (of a dict, return its .items()).",
    )


def _bad_row(script: Script, name: str, number: int, row: object, expected: str) -> ScriptError:
    return ScriptError(
        f"{name} gave, as row {number}, {type(row).__name__} {row!r:.80}",
        where=line_of(script, name),
        hint=f"Each row must be {expected}.",
    )


def _hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def row_image(script: Script, table: TableSpec, row: Item) -> Image:
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
    """Raises ScriptError when the rows of `items()` differ from those of the checksum: a cursor among them would have
    another meaning."""
    if checked_rows(script, table) != checksum:
        raise ScriptError(
            "items() gives other rows than when the run began, or gives them in another order",
            where=script.path,
            hint="It must give the same rows each time: sort them, and use no time or random value in them.",
        )


def _images(script: Script, table: TableSpec) -> Iterator[Image]:
    return (row_image(script, table, row) for row in item_rows(script))


def _twice(script: Script, table: TableSpec, image: Image, first: int, second: int) -> ScriptError:
    values = decode(key_of(table, image)).items()
    key = ", ".join(f"{name} = {value if isinstance(value, Decimal) else repr(value)}" for name, value in values)
    return ScriptError(
        f"items() gives two rows with one key: rows {first:,} and {second:,} both have {key}",
        where=script.path,
        hint="Give each row a key of its own: of two, only the first would be written. Nothing was started.",
    )
