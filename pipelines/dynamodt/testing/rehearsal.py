"""Finds a test's version, and applies it to the items of a table in memory, as the phases of a run do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from dynamodt.config.stage import embedded_stage
from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.statements import Statements
from dynamodt.errors import ScriptError, UsageError
from dynamodt.model.runs import Script
from dynamodt.model.tables import (
    KEY_TYPES,
    MOST_INDEX_BYTES,
    STATE_TABLE,
    Direction,
    Image,
    IndexKey,
    Insert,
    KeyAttribute,
    Stage,
    TableSpec,
)
from dynamodt.pipeline.attempts import AttemptOutcome, RecentKeys, Rehearsal, leaves, outcome_of_attempt, rehearsed_run
from dynamodt.script.apply import Attempt, check_rows, effect, item_rows, row_image, table_of_rows
from dynamodt.script.codec import decode, decode_value, encode_value, key_text, same_image
from dynamodt.script.diff import insert, key_of
from dynamodt.script.names import version_files
from dynamodt.script.read import read_script
from dynamodt.script.versions import is_reversible

Key = Mapping[str, str]
_NAME = re.compile(r"(?P<table>[^/]+)/v(?P<number>[1-9][0-9]*)(_\w+)?")
_KEY_HINT = 'pass key={"id": "S"}, or write KEY = {"id": "S"} in the script, or name the table in dynamodt.toml'


class Subject(NamedTuple):
    """A version with the tables that it reads and writes."""

    script: Script
    table: TableSpec
    target: TableSpec | None


def subject(version: str | Path | ModuleType, key: Key | None = None, target_key: Key | None = None) -> Subject:
    """The version of a test's argument. Raises UsageError if it does not exist or a table's key is not known;
    ScriptError for an invalid file."""
    script, project = _script(version)
    stage = embedded_stage(project)
    table = script.folder
    own = given_key(key) or script.key or stage.tables.get(table, ())
    if not own:
        raise UsageError(f"the key of table {table} is not known", where=script.path, hint=_KEY_HINT)
    if script.key and script.key != own:
        raise UsageError("the key is not the KEY of the script", where=script.path, hint="correct one of them")
    return Subject(script, _spec(stage, table, own), _target(script, stage, target_key))


def _script(version: str | Path | ModuleType) -> tuple[Script, Path]:
    """The script, and the folder of its project."""
    if isinstance(version, ModuleType):
        loaded = vars(version).get("__dynamodt__")
        if isinstance(loaded, tuple):
            return loaded[0], loaded[1]
        path = Path(version.__file__ or "")
    else:
        path = _path(version)
    if not path.is_file():
        hint = 'name a version file, or a version of a table: "users/v2"'
        raise UsageError("there is no such version file", where=str(path), hint=hint)
    project = path.absolute().parents[2]
    return read_script(path, project), project


def _path(version: str | Path) -> Path:
    named = _NAME.fullmatch(version) if isinstance(version, str) else None
    if named is None:
        return Path(version)
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "transforms" / named["table"]).is_dir():
            files = version_files(folder / "transforms", named["table"])
            fitting = (one for one in files if one.name.startswith(f"v{named['number']}_"))
            stem = str(version).partition("/")[2]
            return next((one for one in fitting if stem in (one.stem, f"v{named['number']}")), Path(version))
    return Path("transforms") / version


def given_key(key: Key | None) -> tuple[KeyAttribute, ...]:
    """The key of an argument; empty without one. Raises UsageError for anything but a key."""
    wrong = key is not None and (not 0 < len(key) < 3 or not set(key.values()) <= set(KEY_TYPES))
    if key is not None and wrong:
        hint = 'first the partition key, then the sort key, if there is one: {"pk": "S", "sk": "N"}'
        raise UsageError(f"{dict(key)!r} is not the key of a table", hint=hint)
    return tuple(KeyAttribute(*entry) for entry in (key or {}).items())


def _target(script: Script, stage: Stage, key: Key | None) -> TableSpec | None:
    name = script.target_table
    if name is None:
        return None
    found = given_key(key) or stage.tables.get(name, ())
    if not found:
        hint = 'pass target_key={"id": "S"}, or name the table in dynamodt.toml'
        raise UsageError(f"the key of TARGET_TABLE {name} is not known", where=script.path, hint=hint)
    return _spec(stage, name, found)


def _spec(stage: Stage, table: str, key: tuple[KeyAttribute, ...]) -> TableSpec:
    """The description of a table with this key, and with its indexes of dynamodt.toml."""
    extras = stage.extras.get(table)
    indexes = extras.indexes.items() if extras is not None else ()
    keys = (
        IndexKey(attribute.name, attribute.type, most, name)
        for name, attributes in indexes
        for attribute, most in zip(attributes, MOST_INDEX_BYTES.values(), strict=False)
    )
    return TableSpec(table, key, indexes=len(indexes), index_keys=tuple(keys))


class Rehearsed(NamedTuple):
    """The outcome of each item, and the images of the table afterwards, or of the version's target if it has one."""

    outcomes: list[AttemptOutcome]
    images: list[Image]


def rehearsed(
    subject: Subject, images: Sequence[Image], direction: Direction, prepared: Mapping[Any, Any] | None = None
) -> Rehearsed:
    """Apply a version to all items of a table. An item that would be a dead letter stays unchanged.

    Raises ScriptError for a fault that ends a run, UsageError for two items with one key, and if prepared rows are
    missing.
    """
    script = subject.script
    _check_distinct(subject, images)
    if direction == "down" and script.target_table:
        raise UsageError("a version with a TARGET_TABLE is not rolled back by `down`", where=script.path)
    before = _without_rows(subject, images) if direction == "down" else list(images)
    moves = script.has_up if direction == "up" else script.has_down
    if direction == "down" and not is_reversible(script):
        raise ScriptError(f"has no transform_{direction}", where=script.path)
    outcomes = _outcomes(subject, before, direction, prepared) if moves else []
    after = _after(subject, outcomes) if moves else ([] if subject.target else before)
    return Rehearsed(outcomes, _with_rows(subject, after) if direction == "up" else after)


def _check_distinct(subject: Subject, images: Sequence[Image]) -> None:
    """Raises ItemError for an item that the table cannot hold, UsageError for two with one key."""
    texts = [key_text(_insertion(subject, image).key) for image in images]
    number = Counter(texts)
    for text, image in zip(texts, images, strict=True):
        if number[text] > 1:
            what = f"two items have one key: {key_of(subject.table, image)}"
            raise UsageError(what, hint="give each item its own key")


def _insertion(subject: Subject, image: Image) -> Insert:
    return insert(subject.table, decode(image))


def _outcomes(
    subject: Subject, images: Sequence[Image], direction: Direction, prepared: Mapping[Any, Any] | None
) -> list[AttemptOutcome]:
    script, table = subject.script, subject.table
    rows, run = _prepared_rows(subject, prepared), _run_of_no_item(script, images)
    request = Statements(table, script.guard, InsertedRows(STATE_TABLE, run)).write
    with Rehearsal(
        script, table, direction, prepared=rows, target=subject.target, run=run, request=request
    ) as rehearsal:
        attempts = [rehearsal.attempt(image) for image in images]
        placed = {} if subject.target else {key_text(key_of(table, image)): image for image in images}
        memory, stays = RecentKeys(), leaves(rehearsal.change_of, subject.target)
        return [outcome_of_attempt(attempt, placed, memory, stays) for attempt in attempts]


def _run_of_no_item(script: Script, images: Sequence[Image]) -> str:
    """The first id of a run that no item has as its stamp: an item with the id of the run itself counts as
    transformed."""
    stamps = [image[script.stamp].get("S") for image in images if script.stamp in image] if script.stamp else []
    return next(run for run in map(rehearsed_run, count()) if run not in stamps)


def _prepared_rows(subject: Subject, rows: Mapping[Any, Any] | None) -> dict[Any, Any]:
    """The rows in the form in which the storage returns them: numbers are Decimal, tuples lists."""
    script = subject.script
    if rows is None and script.has_prepare:
        hint = "pass the rows that its prepare would give: prepared={...}"
        raise UsageError(f"version {script.sequence} needs prepared data", where=script.path, hint=hint)

    def stored(value: Any, path: str) -> Any:
        return decode_value(encode_value(value, path))

    return {stored(name, "key"): stored(value, f"value of {name!r}") for name, value in (rows or {}).items()}


def _after(subject: Subject, outcomes: Sequence[AttemptOutcome]) -> list[Image]:
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
    check_rows(subject.script, table)
    images = (row_image(subject.script, table, row) for row in item_rows(subject.script))
    parts = (Insert(table.name, key_of(table, image), image) for image in images)
    return {key_text(part.key): part for part in parts}


def _with_rows(subject: Subject, images: list[Image]) -> list[Image]:
    table, memory = subject.target or subject.table, RecentKeys()
    placed = {key_text(key_of(table, image)): image for image in images}
    rows = (outcome_of_attempt(Attempt(part.item, part), placed, memory) for part in _rows(subject, "up").values())
    return [*images, *(row.image for row in rows if row.kind == "changed")]


def _without_rows(subject: Subject, images: Sequence[Image]) -> list[Image]:
    """The images without those rows of the version that are unchanged."""
    rows = _rows(subject, "down")
    found = ((rows.get(key_text(key_of(subject.table, image))), image) for image in images)
    return [image for row, image in found if row is None or not same_image(row.item, image)]
