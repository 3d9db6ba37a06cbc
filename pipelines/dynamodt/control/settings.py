"""`dynamodt.toml`, read and checked: every key is known, every value has its type. It says nothing of the environment.

A misspelt key that is passed over would send a deploy to the wrong bucket without a word; so it is an error.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dynamodt.control.deploying.deploy_settings import DeploySettings, deploy_settings
from dynamodt.control.toml_values import FILE_NAME as FILE_NAME
from dynamodt.control.toml_values import as_flag, as_table, as_text, check_keys
from dynamodt.control.toml_values import place as place
from dynamodt.errors import UsageError
from dynamodt.model import KEY_TYPES, KeyAttribute

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
    deploy: DeploySettings = DeploySettings()


def read_settings(file: Path) -> dict[str, StageSettings]:
    """The stages of the file, by name; none when there is no file. Raises UsageError, naming file and key."""
    content = _parse(file)
    check_keys(content, ("stages",), "")
    stages = as_table(content.get("stages", {}), "stages")
    return {name: _stage(name, as_table(values, f"stages.{name}")) for name, values in stages.items()}


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
    check_keys(values, (*_TEXT_KEYS, *_FLAG_KEYS, "tables", "deploy"), path)
    texts: dict[str, Any] = {key: as_text(values[key], f"{path}.{key}") for key in _TEXT_KEYS if key in values}
    flags: dict[str, Any] = {key: as_flag(values[key], f"{path}.{key}") for key in _FLAG_KEYS if key in values}
    deploy = deploy_settings(as_table(values.get("deploy", {}), f"{path}.deploy"), f"{path}.deploy")
    return StageSettings(**texts, **flags, tables=_tables(values.get("tables", {}), f"{path}.tables"), deploy=deploy)


def _tables(value: object, path: str) -> dict[str, tuple[KeyAttribute, ...]]:
    return {name: _key(key, f"{path}.{name}") for name, key in as_table(value, path, _TABLES_HINT).items()}


def _key(value: object, path: str) -> tuple[KeyAttribute, ...]:
    attributes = as_table(value, path, _TABLES_HINT)
    if len(attributes) not in (1, 2):
        raise UsageError(f"has {len(attributes)} key attributes", where=place(path), hint=_TABLES_HINT)
    for name, letter in attributes.items():
        if letter not in KEY_TYPES:
            hint = 'a key attribute is "S" (string), "N" (number) or "B" (binary)'
            raise UsageError(f"{letter!r} is no key type", where=place(path, name), hint=hint)
    return tuple(KeyAttribute(name, letter) for name, letter in attributes.items())
