"""Which version a test means, and the tables that it is written for: found from files, without a stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dynamodt.config.stage import embedded_stage
from dynamodt.errors import UsageError
from dynamodt.model.runs import Script
from dynamodt.model.tables import KEY_TYPES, IndexKey, KeyAttribute, Stage, TableSpec
from dynamodt.script.names import version_files
from dynamodt.script.read import read_script

Key = Mapping[str, str]
_NAME = re.compile(r"(?P<table>[^/]+)/v(?P<number>[1-9][0-9]*)(_\w+)?")
_KEY_HINT = 'pass key={"id": "S"}, or write KEY = {"id": "S"} in the script, or name the table in dynamodt.toml'
_MOST_BYTES = (2048, 1024)  # of an index's partition key, of its sort key


class Subject(NamedTuple):
    """A version with the tables that it reads and writes."""

    script: Script
    table: TableSpec
    target: TableSpec | None


def subject(version: str | Path | ModuleType, key: Key | None = None, target_key: Key | None = None) -> Subject:
    """The version that a test means. Raises UsageError where there is none, and where a table's key is not known;
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
    """The description of a table that has this key, and the indexes that dynamodt.toml gives it."""
    extras = stage.extras.get(table)
    indexes = extras.indexes.items() if extras is not None else ()
    keys = (
        IndexKey(attribute.name, attribute.type, most, name)
        for name, attributes in indexes
        for attribute, most in zip(attributes, _MOST_BYTES, strict=False)
    )
    return TableSpec(table, key, indexes=len(indexes), index_keys=tuple(keys))
