"""`dynamodt.toml`, read into typed settings, without the environment.

Every key and every value is checked, and every error names its place. An unknown key is an error: a misspelt one that
is ignored could deploy to the wrong bucket.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dynamodt.errors import UsageError
from dynamodt.model.tables import KEY_TYPES, LOOKUPS, KeyAttribute, TableExtras

FILE_NAME = "dynamodt.toml"
SCHEMA_FILE = "dynamodt.schema.json"


def place(*keys: str) -> str:
    """The place of a setting, as an error's `where`: `dynamodt.toml: stages.prod.region`."""
    return f"{FILE_NAME}: {'.'.join(keys)}"


def check_keys(table: dict[str, Any], allowed: Iterable[str], path: str) -> None:
    """Raises UsageError for an unknown key."""
    names = list(allowed)
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(names)}"
            raise UsageError("is not a known key", where=place(*filter(None, (path, key))), hint=hint)


def as_table(value: object, path: str, hint: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"must be a table, not {value!r}", where=place(path), hint=hint or f"write a table: [{path}]")
    return value


def as_text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        hint = "write a string in quotes, or remove the key"
        raise UsageError(f"must be a non-empty string, not {value!r}", where=place(path), hint=hint)
    return value.strip()


def _as_list(value: object, path: str) -> list[Any]:
    if not isinstance(value, list):
        hint = 'write a list of strings: ["one", "two"]'
        raise UsageError(f"must be a list, not {value!r}", where=place(path), hint=hint)
    return value


def _as_flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"must be true or false, not {value!r}", where=place(path), hint="write it without quotes")
    return value


def _as_number(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"must be a whole number, not {value!r}", where=place(path), hint="write it without quotes")
    return value


# ---------------------------------------------------------------- by the schema

Rule = dict[str, Any]
_TYPED: dict[str, Callable[[object, str], Any]] = {"string": as_text, "integer": _as_number, "boolean": _as_flag}
_KINDS = {str: "string", int: "integer"}  # of an enumeration's values


def schema() -> str:
    """The JSON schema of `dynamodt.toml`: editors read it, and plain settings are read by it."""
    return (Path(__file__).parent / SCHEMA_FILE).read_text(encoding="utf-8")


@cache
def rules(of: str) -> dict[str, Rule]:
    """The schema's rule of each key: of a "stage", or of its "deploy"."""
    found: dict[str, Rule] = json.loads(schema())["$defs"][of]["properties"]
    return found


def _ruled(rule: Rule, value: object, path: str) -> Any:
    """A setting that matches its rule: a text, a number, a flag or a list. Raises UsageError for another value."""
    if rule.get("type") == "array":
        return tuple(_ruled({**rule, **rule["items"]}, one, path) for one in _as_list(value, path))
    found = _TYPED[rule.get("type") or _KINDS[type(rule["enum"][0])]](value, path)
    if accepted := _accepted_instead(rule, found):
        raise UsageError(f"cannot be {found!r}", where=place(path), hint=accepted)
    return found


def _accepted_instead(rule: Rule, value: Any) -> str:
    """The values that a rule accepts, in words; empty if it accepts this value."""
    if value not in rule.get("enum", (value,)):
        return f"one of: {', '.join(map(str, rule['enum']))}"
    if "minimum" in rule and not rule["minimum"] <= value <= rule["maximum"]:
        return f"from {rule['minimum']:,} to {rule['maximum']:,}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        return f"write it like this: {json.dumps(rule['examples'][0])} ({rule['description']})"
    return ""


_FLEXIBLE = ("G.1X", "G.2X")


@dataclass(frozen=True, slots=True)
class DeploySettings:
    """`[stages.NAME.deploy]`: how a stage's jobs run, and where alarms are sent; see `infra/template.yaml`.

    `run_days` 0 keeps journals and dead letters forever. With an empty `schedule` and no `application_stacks` nothing
    starts automatically. `packages` is where the jobs' packages come from: "index", a package index, or "wheels", the
    bucket. `requirements` is the lock of those that scripts import, a file of the project.
    """

    glue_version: str = "5.1"
    worker_type: str = "G.1X"
    workers: int = 10
    timeout_minutes: int = 2880
    flex: bool = False
    max_concurrent_runs: int = 3
    log_days: int = 90
    run_days: int = 0
    alarm_email: str = ""
    schedule: str = ""
    application_stacks: tuple[str, ...] = ()
    policy_arns: tuple[str, ...] = ()
    packages: str = "index"
    requirements: str = ""


def deploy_settings(values: dict[str, Any], path: str) -> DeploySettings:
    """The settings of a table at `path`. Raises UsageError, naming the key."""
    check_keys(values, rules("deploy"), path)
    settings = DeploySettings(**{key: _ruled(rules("deploy")[key], values[key], f"{path}.{key}") for key in values})
    if settings.flex and settings.worker_type not in _FLEXIBLE:
        hint = f"with flex = true, choose one of: {', '.join(_FLEXIBLE)}"
        raise UsageError(
            f"{settings.worker_type} cannot be used with flex = true", where=place(path, "worker_type"), hint=hint
        )
    return settings


_OF_PARTS = ("table_name", "tables", "deploy")  # of a stage: conditions beyond single rules
_INDEX_HINT = 'write its name and its key: indexes = { by_status = { status = "S", placed_at = "N" } }'
_TABLES_HINT = 'write the partition key first, then the sort key if there is one: users = { id = "S" }'
_DOTTED = 'a table\'s name with a dot needs quotes: "my.table" = ...'
_NAME_HINT = (
    'write a name, or where to look it up: users = "shop-users", "cfn:STACK.OUTPUT", "ssm:/PARAMETER" or an ARN'
)
_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")  # DynamoDB's rule
_LOOKUP = re.compile(
    r"cfn:[A-Za-z][A-Za-z0-9-]{0,127}\.[A-Za-z0-9]+"
    r"|ssm:[A-Za-z0-9_./-]+"
    r"|arn:[a-z-]+:dynamodb:[a-z0-9-]+:[0-9]+:table/[A-Za-z0-9_.-]{3,255}"
)


@dataclass(frozen=True, slots=True)
class StageSettings:
    """`[stages.NAME]` of the file; None for a missing string. `tables` has the keys of the tables that the embedded
    stage creates, `extras` their indexes and TTL, `table_names` names, or where to look them up; all by logical
    name."""

    region: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    endpoint_url: str | None = None
    storage: str | None = None
    storage_owner: str | None = None
    kms_key: str | None = None
    state_table: str | None = None
    glue_job: str | None = None
    protected: bool = False
    single_region_writers: bool = False
    table_name: str | None = None
    tables: dict[str, tuple[KeyAttribute, ...]] = field(default_factory=dict)
    extras: dict[str, TableExtras] = field(default_factory=dict)
    table_names: dict[str, str] = field(default_factory=dict)
    table_roles: dict[str, str] = field(default_factory=dict)
    deploy: DeploySettings = DeploySettings()


def read_settings(file: Path) -> dict[str, StageSettings]:
    """The stages of the file, by name; empty without a file. Raises UsageError, naming file and key."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise UsageError("is not valid TOML: it is not UTF-8 text", where=str(file), hint="save it as UTF-8") from error
    return settings_of(text, file)


def deploy_settings_of(stage: str, folder: Path) -> DeploySettings:
    """The `[stages.NAME.deploy]` of a stage in the folder's file."""
    return read_settings(folder / FILE_NAME).get(stage, StageSettings()).deploy


def settings_of(text: str, file: Path) -> dict[str, StageSettings]:
    """The stages of a file's text, as `read_settings`."""
    content = _parse(text, file)
    check_keys(content, ("stages",), "")
    stages = as_table(content.get("stages", {}), "stages")
    return {name: _stage(name, as_table(values, f"stages.{name}")) for name, values in stages.items()}


def _parse(text: str, file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError
        hint = 'correct the line; strings need quotes: region = "eu-west-1"'
        raise UsageError(f"is not valid TOML: {error}", where=str(file), hint=hint) from error


def _stage(name: str, values: dict[str, Any]) -> StageSettings:
    path = f"stages.{name}"
    for key in values.keys() - rules("stage").keys():
        if isinstance(values[key], dict):
            hint = f'if it is the stage {name}.{key}, put its name into quotes: [stages."{name}.{key}"]'
            raise UsageError("is not a known key", where=place(path, key), hint=hint)
    check_keys(values, rules("stage"), path)
    plain = [key for key in values if key not in _OF_PARTS]
    found = {key: _ruled(rules("stage")[key], values[key], f"{path}.{key}") for key in plain}
    deploy = deploy_settings(as_table(values.get("deploy", {}), f"{path}.deploy"), f"{path}.deploy")
    if "table_name" in values:
        found["table_name"] = _pattern(values["table_name"], name, f"{path}.table_name")
    keys, extras, names, roles = _tables(values.get("tables", {}), f"{path}.tables", creates=name == "local")
    return StageSettings(**found, tables=keys, extras=extras, table_names=names, table_roles=roles, deploy=deploy)


# ---------------------------------------------------------------- tables

Key = tuple[KeyAttribute, ...]


_OF_A_TABLE = ("name", "key", "indexes", "ttl", "role_arn")


class _Tables(NamedTuple):
    """The keys, the indexes and TTL, the names of the tables, and the roles of those in other accounts."""

    keys: dict[str, Key]
    extras: dict[str, TableExtras]
    names: dict[str, str]
    roles: dict[str, str]


def _tables(value: object, path: str, creates: bool) -> _Tables:
    """The tables' settings. A TOML table of key types alone is a key: no table has a name of one letter. Raises
    UsageError for a key on a stage that creates no tables."""
    found = _Tables({}, {}, {}, {})
    keys, extras, names, roles = found
    for table, given in as_table(value, path, _TABLES_HINT).items():
        where = f"{path}.{table}"
        _check_undivided(table, given, where, creates)
        as_written = _as_setting(given, where)
        check_keys(as_written, _OF_A_TABLE, where)
        if "name" in as_written:
            names[table] = table_source(as_written["name"], where)
        if "role_arn" in as_written:
            roles[table] = _role(as_written["role_arn"], names.get(table, ""), where)
        if as_written.keys() - {"name", "role_arn"}:
            _check_creates(creates, names.get(table, ""), where)
            keys[table] = _key(as_written.get("key", {}), where)
            extras[table] = _extras(as_written, keys[table], where)
    return found


def _check_undivided(table: str, given: object, path: str, creates: bool) -> None:
    """Raises UsageError for a table in a table: the name of a table with a dot, which TOML reads as two keys."""
    if not isinstance(given, dict) or given.keys() & {*_OF_A_TABLE}:
        return
    for name, inner in given.items():
        if isinstance(inner, dict) or (isinstance(inner, str) and inner not in KEY_TYPES and not creates):
            hint = f'if it is the table {table}.{name}, put its name into quotes: "{table}.{name}" = ...'
            raise UsageError("is a table within a table", where=place(path, name), hint=hint)


def _role(value: object, name: str, path: str) -> str:
    role = as_text(value, f"{path}.role_arn")
    if not name.startswith(LOOKUPS):
        hint = 'write name = "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME": a role is for a table of another account'
        raise UsageError("needs the table's ARN", where=place(path, "role_arn"), hint=hint)
    return role


def _extras(values: dict[str, Any], key: Key, path: str) -> TableExtras:
    given = as_table(values.get("indexes", {}), f"{path}.indexes", _INDEX_HINT)
    indexes = {name: _key(value, f"{path}.indexes.{name}", _INDEX_HINT) for name, value in given.items()}
    types: dict[str, str] = {}
    for attribute in (*key, *(one for each in indexes.values() for one in each)):
        if types.setdefault(attribute.name, attribute.type) != attribute.type:
            hint = "an attribute has one type in the table's key and in all of its indexes"
            raise UsageError(f"{attribute.name} has two types", where=place(path), hint=hint)
    return TableExtras(indexes, as_text(values["ttl"], f"{path}.ttl") if "ttl" in values else "")


def _as_setting(given: object, path: str) -> dict[str, Any]:
    """A table's setting in its long form, `{ name = "shop-users", key = { id = "S" } }`."""
    if isinstance(given, str):
        return {"name": given}
    values = as_table(given, path, _TABLES_HINT)
    is_key = not values.keys() & {*_OF_A_TABLE} or all(kind in KEY_TYPES for kind in map(str, values.values()))
    return {"key": values} if is_key else values


def _check_creates(creates: bool, name: str, path: str) -> None:
    if not creates:
        hint = "only the embedded stage creates tables, elsewhere your own deployment does: remove the key"
        raise UsageError("is for the stage `local` only", where=place(path), hint=hint)
    if name.startswith(LOOKUPS):
        hint = "write its name: a table that is created cannot be looked up"
        raise UsageError(f"has a key, and is looked up by {name!r}", where=place(path), hint=hint)


def table_source(value: object, path: str) -> str:
    """A table's name, or where to look it up. Raises UsageError for any other text."""
    text = as_text(value, path)
    pattern = _LOOKUP if text.startswith(LOOKUPS) else _NAME
    if not pattern.fullmatch(text):
        hint = _TABLES_HINT if text in KEY_TYPES else _NAME_HINT
        raise UsageError(
            f"{text!r} is neither a table's name nor a place where one is looked up", where=place(path), hint=hint
        )
    return text


def _pattern(value: object, stage: str, path: str) -> str:
    """The names of a stage's tables, with `{stage}` replaced. Raises UsageError without `{table}`, or with another
    field."""
    text = as_text(value, path).replace("{stage}", stage)
    if text.count("{table}") != 1:
        hint = 'write where the table\'s own name is: table_name = "{table}-{stage}"'
        raise UsageError(f"{text!r} needs {{table}}, once", where=place(path), hint=hint)
    table_source(text.replace("{table}", "table"), path)
    return text


def _key(value: object, path: str, hint: str = _TABLES_HINT) -> Key:
    attributes = as_table(value, path, hint)
    if len(attributes) not in (1, 2):
        raise UsageError(f"has {len(attributes)} key attributes", where=place(path), hint=hint)
    for name, kind in attributes.items():
        if kind not in KEY_TYPES:
            hint = f'a key attribute is "S" (string), "N" (number) or "B" (binary); {_DOTTED}'
            raise UsageError(f"{kind!r} is not a key type", where=place(path, name), hint=hint)
    return tuple(KeyAttribute(name, kind) for name, kind in attributes.items())
