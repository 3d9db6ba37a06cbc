"""The JSON schema of dynamodt.toml and the parser have the same settings, and refuse the same documents."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodt.config import settings
from dynamodt.config.settings import schema, settings_of
from dynamodt.errors import UsageError

pytestmark = pytest.mark.unit

SCHEMA: dict[str, Any] = json.loads(schema())
ROOT = Path(__file__).parents[2]
NOTES = {"$schema", "$defs", "title", "description", "default", "examples"}
KINDS = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def faults(value: Any, rule: dict[str, Any]) -> Iterator[str]:
    """The violations of a document, by those keywords of JSON Schema that the schema uses; another keyword is an
    error."""
    for word, of in rule.items():
        if word in NOTES or word == "then":
            continue
        yield from (f"{word} {of} of {value!r}" for _ in range(not _holds(value, rule, word, of)))
        if word == "properties" and isinstance(value, dict):
            yield from (one for name in value.keys() & of for one in faults(value[name], of[name]))
        if word == "items" and isinstance(value, list):
            yield from (one for each in value for one in faults(each, of))


def _holds(value: Any, rule: dict[str, Any], word: str, of: Any) -> bool:
    if word == "additionalProperties" and isinstance(value, dict):
        others = [value[name] for name in value.keys() - rule.get("properties", {}).keys()]
        return not others if of is False else not any(one for each in others for one in faults(each, of))
    checks = {
        "type": lambda: isinstance(value, KINDS[of]) and not (of == "integer" and isinstance(value, bool)),
        "enum": lambda: value in of, "const": lambda: value == of,
        "pattern": lambda: not isinstance(value, str) or re.search(of, value) is not None,
        "minimum": lambda: not isinstance(value, int) or value >= of,
        "maximum": lambda: not isinstance(value, int) or value <= of,
        "minProperties": lambda: not isinstance(value, dict) or len(value) >= of,
        "maxProperties": lambda: not isinstance(value, dict) or len(value) <= of,
        "required": lambda: not isinstance(value, dict) or value.keys() >= set(of),
        "anyOf": lambda: any(not any(faults(value, one)) for one in of),
        "allOf": lambda: not any(one for each in of for one in faults(value, each)),
        "$ref": lambda: not any(faults(value, SCHEMA["$defs"][of.removeprefix("#/$defs/")])),
        "if": lambda: any(faults(value, of)) or not any(faults(value, rule["then"])),
        "properties": lambda: True, "items": lambda: True, "additionalProperties": lambda: True,
    }  # fmt: skip
    return checks[word]()


def refused_by_both(text: str) -> tuple[bool, bool]:
    try:
        settings_of(text, Path("dynamodt.toml"))
    except UsageError:
        return True, any(faults(tomllib.loads(text), SCHEMA))
    return False, any(faults(tomllib.loads(text), SCHEMA))


def test_every_setting_of_the_parser_is_in_the_schema_and_no_other() -> None:
    plain = {
        name
        for name in settings.StageSettings.__dataclass_fields__
        if name not in ("extras", "table_names", "table_roles")
    }
    assert settings.rules("stage").keys() == plain
    deploy = settings.rules("deploy")
    assert deploy.keys() == settings.DeploySettings.__dataclass_fields__.keys()
    tables = [*SCHEMA["$defs"]["localTable"]["anyOf"], *SCHEMA["$defs"]["table"]["anyOf"]]
    assert {name for one in tables for name in one.get("properties", {})} == set(settings._OF_A_TABLE)
    defaults = settings.DeploySettings()
    found = {name: rule["default"] for name, rule in deploy.items() if "default" in rule}
    assert found == {name: getattr(defaults, name) for name in found}


VALID = """
[stages.dev]
stages.local.tables.users = { id = "S" }
stages.local.tables.users = { name = "S", key = "N" }
stages.local.tables.users = { name = "shop-users", key = { id = "S" }, ttl = "x", indexes = { a = { b = "N" } } }
stages.local.tables.users = "shop-users"
stages.dev.tables.users = "cfn:shop-dev.Users"
stages.dev.tables.users = { name = "ssm:/shop/users" }
stages.dev.table_name = "{table}-{stage}"
stages.dev.tables.users = { name = "arn:aws:dynamodb:eu-west-1:1:table/users", role_arn = "arn:aws:iam::1:role/x" }
stages.dev.deploy = { worker_type = "G.2X", flex = true, workers = 2, log_days = 30, schedule = "cron(0 3 * * ? *)" }
stages.dev.deploy = { worker_type = "R.2X", policy_arns = ["arn:aws:iam::123456789012:policy/x"], run_days = 0 }
stages.dev.deploy = { alarm_email = "a@b.c", application_stacks = ["shop-prod"], packages = "wheels" }
stages.dev = { region = "eu-west-1", storage_owner = "123456789012", protected = true }
""".strip().splitlines()
INVALID = """
tables = {}
stages = 1
stages.dev = 1
stages.dev.regoin = "x"
stages.dev.region = ""
stages.dev.region = 1
stages.dev.protected = "true"
stages.dev.storage_owner = "12"
stages.dev.table_name = "x"
stages.dev.table_name = "{table}{table}"
stages.dev.tables.users = { id = "S" }
stages.dev.tables.users = "a b c"
stages.dev.tables.users = { name = "users", ttl = "x" }
stages.local.tables.users = {}
stages.local.tables.users = 1
stages.local.tables.users = { id = "X" }
stages.local.tables.users = { a = "S", b = "S", c = "S" }
stages.local.tables.my.table = { id = "S" }
stages.local.tables.users = { key = { id = "S" }, indices = {} }
stages.local.tables.users = { key = { id = "S" }, indexes = { a = {} } }
stages.local.tables.users = { ttl = "x" }
stages.local.tables.users = { name = "cfn:shop.Users", key = { id = "S" } }
stages.dev.tables.users = { name = "users", role_arn = "arn:aws:iam::1:role/x" }
stages.dev.tables.users = { role_arn = "arn:aws:iam::1:role/x" }
stages.dev.deploy = 1
stages.dev.deploy.workers = 1
stages.dev.deploy.workers = "2"
stages.dev.deploy.workers = true
stages.dev.deploy.worker_type = "G.3X"
stages.dev.deploy = { worker_type = "G.4X", flex = true }
stages.dev.deploy.log_days = 2
stages.dev.deploy.schedule = "rate(1 day)"
stages.dev.deploy.glue_version = "5"
stages.dev.deploy.application_stacks = "x"
stages.dev.deploy.application_stacks = ["1x"]
stages.dev.deploy.policy_arns = ["x"]
stages.dev.deploy.packages = "pypi"
stages.dev.deploy.alarm_email = "x"
stages.dev.deploy.timeout_minutes = 20000
stages.dev.deploy.run_days = -1
stages.dev.deploy.max_concurrent_runs = 0
""".strip().splitlines()


@pytest.mark.parametrize("text", VALID)
def test_a_valid_document_is_accepted_by_both(text: str) -> None:
    assert refused_by_both(text) == (False, False)


@pytest.mark.parametrize("text", INVALID)
def test_an_invalid_document_is_refused_by_both(text: str) -> None:
    assert refused_by_both(text) == (True, True)


def test_the_repository_s_own_dynamodt_toml_is_valid() -> None:
    assert not any(faults(tomllib.loads((ROOT / "dynamodt.toml").read_text()), SCHEMA))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[stages.local.tables]\nmy.table = { id = "S" }', '"my.table" = ...'),
        ('[stages.local.tables.my.table]\nkey = { id = "S" }', '"my.table" = ...'),
        ('[stages.dev.tables]\nmy.table = "cfn:shop-dev.Users"', '"my.table" = ...'),
        ('[stages.eu.prod]\nregion = "eu-west-1"', '[stages."eu.prod"]'),
    ],
)
def test_a_name_with_a_dot_needs_quotes(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(text, Path("dynamodt.toml"))
    assert hint in caught.value.hint
    assert any(faults(tomllib.loads(text), SCHEMA))
