"""A version applied to the items of a table in memory, up or down, as the phases of a run apply it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dynamodt.dynamodb.statements import InsertedRows, Statements
from dynamodt.errors import ScriptError, UsageError
from dynamodt.model.tables import STATE_TABLE, Direction, Image, Insert
from dynamodt.pipeline.settle import Outcome, Remembered, settled
from dynamodt.script.apply import item_rows, row_image, table_of_rows
from dynamodt.script.attempt import Attempt, effect
from dynamodt.script.codec import decode_value, encode_value, key_text, same_image
from dynamodt.script.diff import insert, key_of
from dynamodt.script.rehearse import REHEARSED, Rehearsal
from dynamodt.testing.subject import Subject


class Rehearsed(NamedTuple):
    """What each item came to, and the images of the table afterwards; of the target, where the version has one."""

    outcomes: list[Outcome]
    images: list[Image]


def rehearsed(
    subject: Subject, images: Sequence[Image], direction: Direction, prepared: Mapping[Any, Any] | None = None
) -> Rehearsed:
    """Apply a version to all items of a table. An item that would be a dead letter stays as it is.

    Raises ScriptError for a fault that ends a run, UsageError for items that no table holds together, and where
    prepared rows are missing.
    """
    script = subject.script
    _check_distinct(subject, images)
    if direction == "down" and script.target_table:
        raise UsageError("a version with a TARGET_TABLE is not taken back by `down`", where=script.path)
    before = _without_rows(subject, images) if direction == "down" else list(images)
    moves = script.has_up if direction == "up" else script.has_down
    if not moves and (direction == "down" or not script.has_items):
        raise ScriptError(f"has no transform_{direction}", where=script.path)
    outcomes = _outcomes(subject, before, direction, prepared) if moves else []
    after = _after(subject, outcomes) if moves else ([] if subject.target else before)
    return Rehearsed(outcomes, _with_rows(subject, after) if direction == "up" else after)


def _check_distinct(subject: Subject, images: Sequence[Image]) -> None:
    """Raises ItemError for an item that the table cannot hold, UsageError for two with one key."""
    texts = [key_text(_held(subject, image).key) for image in images]
    if twice := next((text for text in texts if texts.count(text) > 1), ""):
        image = images[texts.index(twice)]
        raise UsageError(f"two items have one key: {key_of(subject.table, image)}", hint="give each item its own key")


def _held(subject: Subject, image: Image) -> Insert:
    from dynamodt.script.codec import decode

    return insert(subject.table, decode(image))


def _outcomes(
    subject: Subject, images: Sequence[Image], direction: Direction, prepared: Mapping[Any, Any] | None
) -> list[Outcome]:
    script, table = subject.script, subject.table
    request = Statements(table, script.guard, InsertedRows(STATE_TABLE, REHEARSED)).write
    rows = _prepared(subject, prepared)
    with Rehearsal(script, table, direction, prepared=rows, target=subject.target, request=request) as rehearsal:
        attempts = [rehearsal.attempt(image) for image in images]
    placed = {} if subject.target else {key_text(key_of(table, image)): image for image in images}
    memory = Remembered()
    return [settled(attempt, placed, memory) for attempt in attempts]


def _prepared(subject: Subject, rows: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """The rows as they come back from the storage: numbers are Decimal, tuples lists."""
    script = subject.script
    if rows is None and script.has_prepare:
        hint = "pass the rows that its prepare would give: prepared={...}"
        raise UsageError(f"version {script.sequence} needs prepared data", where=script.path, hint=hint)

    def stored(value: Any, path: str) -> Any:
        return decode_value(encode_value(value, path))

    return {stored(name, "key"): stored(value, f"value of {name!r}") for name, value in (rows or {}).items()}


def _after(subject: Subject, outcomes: Sequence[Outcome]) -> list[Image]:
    written = (subject.target or subject.table).name
    found: list[Image] = []
    for outcome in outcomes:
        stays, inserts = effect(outcome.image, outcome.change)
        found += [] if stays is None or subject.target else [stays]
        found += [part.item for part in inserts if part.table == written]
    return found


# ---------------------------------------------------------------- rows of `items()`


def _rows(subject: Subject, direction: Direction) -> dict[str, Insert]:
    if not subject.script.has_items:
        return {}
    table = table_of_rows(subject.target or subject.table, direction)
    images = (row_image(subject.script, table, row) for row in item_rows(subject.script))
    parts = (Insert(table.name, key_of(table, image), image) for image in images)
    return {key_text(part.key): part for part in parts}


def _with_rows(subject: Subject, images: list[Image]) -> list[Image]:
    table, memory = subject.target or subject.table, Remembered()
    placed = {key_text(key_of(table, image)): image for image in images}
    rows = (settled(Attempt(part.item, part), placed, memory) for part in _rows(subject, "up").values())
    return [*images, *(row.image for row in rows if row.kind == "changed")]


def _without_rows(subject: Subject, images: Sequence[Image]) -> list[Image]:
    """The images without the rows that the version has added, where they are unchanged."""
    rows = _rows(subject, "down")
    found = ((rows.get(key_text(key_of(subject.table, image))), image) for image in images)
    return [image for row, image in found if row is None or not same_image(row.item, image)]
