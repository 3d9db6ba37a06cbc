"""AWS's limits, held against what infra/template.yaml really comes to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dynamodt.config.settings import DeploySettings
from dynamodt.deploy.deploy import (
    EVENT_PATTERN,
    PARAMETER,
    ROLE_POLICIES,
    RULE_NAME,
    check_limits,
    check_parameters,
    policies_size,
)
from dynamodt.dynamodb.table import TablePlace
from dynamodt.errors import UsageError
from dynamodt.model.tables import Connection, Stage, StorageSpec
from tests import template_document

KEY = "arn:aws:kms:eu-west-1:123456789012:key/12345678-1234-1234-1234-123456789012"
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "123456789012",
    "AWS::URLSuffix": "amazonaws.com",
}
FOLLOWED = DeploySettings(application_stacks=("shop",))


def stage(name: str = "prod") -> Stage:
    return Stage(name, Connection("eu-west-1"), StorageSpec("s3://company-dynamodt/dynamodt"))


def places(count: int, length: int = 20, keys: int = 0) -> dict[str, TablePlace]:
    names = [str(number).rjust(length, "t") for number in range(count)]
    return {
        name: TablePlace(
            f"arn:aws:dynamodb:eu-west-1:123456789012:table/{name}", f"{KEY[:-6]}{n:06}" if n < keys else ""
        )
        for n, name in enumerate(names)
    }


def evaluated(value: Any, given: dict[str, Any]) -> Any:
    """A value of the template, its functions carried out."""
    if isinstance(value, list):
        return [one for one in (evaluated(each, given) for each in value) if one != "AWS::NoValue"]
    if not isinstance(value, dict):
        return value
    name = next(iter(value)) if len(value) == 1 else ""
    if name in FUNCTIONS:
        return FUNCTIONS[name](value[name], given)
    return {key: evaluated(each, given) for key, each in value.items()}


def attribute(name: str, given: dict[str, Any]) -> str:
    return (
        KEY
        if name == "Key.Arn"
        else f"arn:aws:logs:eu-west-1:123456789012:log-group:/dynamodt/{given['Stage']}/output:*"
    )


def substituted(text: str, given: dict[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda found: str(given.get(found[1], found[1])), text)


FUNCTIONS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "!Ref": lambda name, given: given.get(name, name),
    "!GetAtt": attribute,
    "!Sub": substituted,
    "!Split": lambda of, given: evaluated(of[1], given).split(of[0]),
    "!Join": lambda of, given: of[0].join(evaluated(of[1], given)),
    "!If": lambda of, given: evaluated(of[1] if given["conditions"][of[0]] else of[2], given),
}


def real_size(of: Stage, tables: dict[str, TablePlace]) -> int:
    keys = ",".join(place.key_arn for place in tables.values() if place.key_arn)
    given = PSEUDO | {
        "Stage": of.name,
        "Bucket": "company-dynamodt",
        "Prefix": "dynamodt/",
        "StateTable": of.state_table,
        "TableArns": ",".join(place.arn for place in tables.values()),
        "TableKeyArns": keys,
        "conditions": {"MakesKey": True, "HasTableKeys": bool(keys)},
    }
    policies = evaluated(template_document.resource("JobRole")["Policies"], given)
    return sum(len(json.dumps(policy["PolicyDocument"], separators=(",", ":"))) for policy in policies)


@pytest.mark.parametrize(("count", "length", "keys"), [(1, 3, 0), (20, 30, 0), (20, 30, 5), (60, 20, 0), (25, 120, 25)])
def test_what_the_policies_come_to_is_not_told_too_small(count: int, length: int, keys: int) -> None:
    """An action that is granted anew moves the constant in limits.py."""
    tables = places(count, length, keys)
    assert 0 <= policies_size(stage(), tables) - real_size(stage(), tables) <= 400


def most_tables() -> int:
    return next(n for n in range(1, 200) if policies_size(stage(), places(n)) > ROLE_POLICIES) - 1


def test_as_many_tables_as_iam_takes_and_no_more() -> None:
    most = most_tables()
    check_limits(stage(), DeploySettings(), places(most))
    with pytest.raises(UsageError, match=f"{most + 1} tables.*10,240") as caught:
        check_limits(stage(), DeploySettings(), places(most + 1))
    assert "split the project" in caught.value.hint and caught.value.where == "stage prod"


def rule_names(name: str) -> dict[str, str]:
    resources = template_document.document()["Resources"]
    rules = {key: one for key, one in resources.items() if one["Type"] == "AWS::Events::Rule"}
    return {key: evaluated(one["Properties"]["Name"], {"Stage": name}) for key, one in rules.items()}


@pytest.mark.parametrize(
    ("settings", "rules"),
    [(DeploySettings(), {"RunFailed"}), (FOLLOWED, {"RunFailed", "ApplicationUpdated"})],
)
def test_a_stages_name_as_long_as_its_rules_allow_and_no_longer(settings: DeploySettings, rules: set[str]) -> None:
    longest = max(len(name) for key, name in rule_names("").items() if key in rules)
    most = "s" * (RULE_NAME - longest)
    check_limits(stage(most), settings, places(1))
    with pytest.raises(UsageError, match="EventBridge takes 64") as caught:
        check_limits(stage(f"{most}s"), settings, places(1))
    assert f"to {len(most)} characters" in caught.value.hint and f"stages.{most}s" in caught.value.where


def test_a_rule_that_the_limits_do_not_know_is_no_longer_than_those_that_they_do() -> None:
    assert set(rule_names("")) == {"RunFailed", "ApplicationUpdated"}


def test_more_managed_policies_than_a_role_takes() -> None:
    many = DeploySettings(policy_arns=tuple(f"arn:aws:iam::1:policy/{number}" for number in range(11)))
    with pytest.raises(UsageError, match="11 policies are too many") as caught:
        check_limits(stage(), many, places(1))
    assert "stages.prod.deploy.policy_arns" in caught.value.where


@pytest.mark.parametrize("name", ["TableArns", "TableKeyArns", "PolicyArns", "Prefix"])
def test_a_parameter_as_long_as_cloudformation_takes_and_no_longer(name: str) -> None:
    check_parameters(stage(), {name: "x" * PARAMETER})
    with pytest.raises(UsageError, match="4,097 characters") as caught:
        check_parameters(stage(), {name: "x" * (PARAMETER + 1)})
    assert name in caught.value.where and caught.value.hint


def test_the_ids_of_the_applications_stacks_are_a_pattern_too() -> None:
    pattern = template_document.resource("ApplicationUpdated")["EventPattern"]
    pattern["detail"]["stack-id"] = []
    around = len(json.dumps(pattern, separators=(",", ":")))
    for length in (EVENT_PATTERN - around, EVENT_PATTERN):
        with pytest.raises(UsageError, match="ids of the application's stacks"):
            check_parameters(stage(), {"ApplicationStackIds": "x" * length})
