"""`dynamodt.toml`, read and checked: every key is known, every value has its type. It says nothing of the environment.

A misspelt key that is passed over would send a deploy to the wrong bucket without a word; so it is an error.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamodt.errors import UsageError
from dynamodt.model import KEY_TYPES, KeyAttribute

FILE_NAME = "dynamodt.toml"

_TEXT_KEYS = ("region", "profile", "role_arn", "endpoint_url", "storage", "kms_key", "state_table", "glue_job")
_FLAG_KEYS = ("protected",)
_TABLES_HINT = 'write the partition key first, then the sort key if there is one: users = { id = "S" }'


@dataclass(frozen=True, slots=True)
class StageSettings:
    """A table `[stages.NAME]` as it is written; None where the key of a text is absent."""

    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    endpoint_url: str | None = None
    storage: str | None = None
    kms_key: str | None = None
    state_table: str | None = None
    glue_job: str | None = None
    protected: bool = False
    tables: dict[str, tuple[KeyAttribute, ...]] = field(default_factory=dict)


def read_settings(file: Path) -> dict[str, StageSettings]:
    """The stages of the file, by name; none when there is no file. Raises UsageError, naming file and key."""
    content = _parse(file)
    _check_keys(content, ("stages",), "")
    stages = _as_table(content.get("stages", {}), "stages")
    return {name: _stage(name, _as_table(values, f"stages.{name}")) for name, values in stages.items()}


def place(*keys: str) -> str:
    """Where a setting stands, as errors name it: `dynamodt.toml: stages.prod.region`."""
    return f"{FILE_NAME}: {'.'.join(keys)}"


def _parse(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        hint = 'correct the line; strings need quotes: region = "eu-west-1"'
        raise UsageError(f"is not valid TOML: {error}", where=str(file), hint=hint) from error


def _stage(name: str, values: dict[str, Any]) -> StageSettings:
    path = f"stages.{name}"
    if "tables" in values and name != "local":
        hint = "only the embedded stage creates tables; elsewhere your own deployment does: remove this key"
        raise UsageError("is not for this stage", where=place(path, "tables"), hint=hint)
    _check_keys(values, (*_TEXT_KEYS, *_FLAG_KEYS, "tables"), path)
    texts: dict[str, Any] = {key: _as_text(values[key], f"{path}.{key}") for key in _TEXT_KEYS if key in values}
    flags: dict[str, Any] = {key: _as_flag(values[key], f"{path}.{key}") for key in _FLAG_KEYS if key in values}
    return StageSettings(**texts, **flags, tables=_tables(values.get("tables", {}), f"{path}.tables"))


def _tables(value: object, path: str) -> dict[str, tuple[KeyAttribute, ...]]:
    return {name: _key(key, f"{path}.{name}") for name, key in _as_table(value, path).items()}


def _key(value: object, path: str) -> tuple[KeyAttribute, ...]:
    attributes = _as_table(value, path)
    if len(attributes) not in (1, 2):
        raise UsageError(f"has {len(attributes)} key attributes", where=place(path), hint=_TABLES_HINT)
    for name, letter in attributes.items():
        if letter not in KEY_TYPES:
            hint = 'a key attribute is "S" (string), "N" (number) or "B" (binary)'
            raise UsageError(f"{letter!r} is no key type", where=place(path, name), hint=hint)
    return tuple(KeyAttribute(name, letter) for name, letter in attributes.items())


def _check_keys(table: dict[str, Any], allowed: Iterable[str], path: str) -> None:
    names = list(allowed)
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(names)}"
            raise UsageError("is not a known key", where=place(*filter(None, (path, key))), hint=hint)


def _as_table(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        hint = _TABLES_HINT if ".tables" in path else f"write it as a table: [{path}]"
        raise UsageError(f"must be a table, not {value!r}", where=place(path), hint=hint)
    return value


def _as_text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        hint = "write a text in quotes, or remove the key"
        raise UsageError(f"must be a text that is not empty, not {value!r}", where=place(path), hint=hint)
    return value.strip()


def _as_flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"must be true or false, not {value!r}", where=place(path), hint="write it without quotes")
    return value
