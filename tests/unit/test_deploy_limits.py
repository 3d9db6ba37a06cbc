"""AWS's limits, compared with the documents that infra/template.yaml evaluates to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from dynamodt.config.settings import DeploySettings
from dynamodt.deploy.deploy import EVENT_PATTERN, RULE_NAME, check_limits, check_parameters
from dynamodt.deploy.resources import (
    INLINE_TABLES,
    MANAGED_POLICIES,
    MANAGED_POLICY,
    MORE_TABLES,
    PARAMETER,
    ROLE_POLICIES,
    grouped,
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


def given_for(of: Stage, tables: dict[str, TablePlace], groups: dict[str, str]) -> dict[str, Any]:
    keys = ",".join(place.key_arn for place in tables.values() if place.key_arn)
    return PSEUDO | {
        "Stage": of.name,
        "Bucket": "company-dynamodt",
        "Prefix": "dynamodt/",
        "StateTable": of.state_table,
        **groups,
        "TableKeyArns": keys,
        "conditions": {"MakesKey": True, "HasTableKeys": bool(keys)},
    }


def as_iam_counts(policy: dict[str, Any], given: dict[str, Any]) -> int:
    """Without white space; the document with all its names."""
    return len(json.dumps(evaluated(policy["PolicyDocument"], given), separators=(",", ":")))


def named(policy: dict[str, Any], given: dict[str, Any]) -> set[str]:
    """The tables that a policy allows to be written, each with its exports."""
    statements = {one["Sid"]: one["Resource"] for one in evaluated(policy["PolicyDocument"]["Statement"], given)}
    tables = set(statements["NamedTables"])
    assert {f"{arn}/*" for arn in tables} == set(statements["IndexesAndExports"])
    return tables


def policies(given: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The inline policies of the jobs' role, and the managed ones that these parameters make."""
    resources = template_document.document()["Resources"]
    managed = [
        one["Properties"]
        for name, one in resources.items()
        if one["Type"] == "AWS::IAM::ManagedPolicy" and given[name.replace("Policy", "")]
    ]
    return resources["JobRole"]["Properties"]["Policies"], managed


@pytest.mark.parametrize(
    ("count", "length", "keys", "more"),
    [(1, 3, 0, 0), (20, 30, 5, 0), (60, 20, 0, 1), (100, 20, 0, 2), (100, 60, 40, 4), (100, 120, 5, 5)],
)
def test_a_hundred_tables_are_each_named_once_within_iam_s_limits(
    count: int, length: int, keys: int, more: int
) -> None:
    """IAM's limits are compared with the evaluated policies."""
    tables = places(count, length, keys)
    groups = grouped(stage(), DeploySettings(), tables, {})
    assert set(groups) == {INLINE_TABLES, *MORE_TABLES} and all(len(one) <= PARAMETER for one in groups.values())
    given = given_for(stage(), tables, groups)
    inline, managed = policies(given)
    assert len(managed) == more
    assert sum(as_iam_counts(one, given) for one in inline) <= ROLE_POLICIES
    assert all(as_iam_counts(one, given) <= MANAGED_POLICY for one in managed)
    found = [arn for one in (inline[0], *managed) for arn in named(one, given)]
    assert sorted(found) == sorted(place.arn for place in tables.values())
    assert all(one["Roles"] == [{"!Ref": "JobRole"}] for one in managed)


def test_the_policies_are_filled_up_to_their_limits() -> None:
    """A newly granted action changes the constants in resources.py."""
    tables = places(300)
    groups = grouped(stage(), DeploySettings(), dict(list(tables.items())[:200]), {})
    given = given_for(stage(), {}, groups)
    inline, managed = policies(given)
    of_a_table = 2 * len(tables[next(iter(tables))].arn) + 15
    assert sum(as_iam_counts(one, given) for one in inline) > ROLE_POLICIES - of_a_table - 400
    assert as_iam_counts(managed[0], given) > MANAGED_POLICY - of_a_table - 100


def test_the_managed_policies_grant_what_the_inline_one_does() -> None:
    inline, managed = policies(dict.fromkeys(MORE_TABLES, "arn"))
    wanted = [
        one for one in inline[0]["PolicyDocument"]["Statement"] if one["Sid"] in ("NamedTables", "IndexesAndExports")
    ]
    assert len(managed) == len(MORE_TABLES)
    for number, policy in enumerate(managed, 1):
        there = json.loads(
            json.dumps(policy["PolicyDocument"]["Statement"]).replace(f"MoreTables{number}", "TableArns")
        )
        assert there == wanted


def test_a_table_stays_in_the_policy_that_names_it() -> None:
    tables = places(100)
    before = grouped(stage(), DeploySettings(), tables, {})
    less = {name: place for name, place in tables.items() if not name.endswith("7")}
    after = grouped(stage(), DeploySettings(), less | places(3, 40), before)
    for name, arns in before.items():
        kept = {arn for arn in arns.split(",") if arn in {place.arn for place in less.values()}}
        assert kept <= set(after[name].split(","))
    moved = {arn for arns in after.values() for arn in arns.split(",") if arn}
    assert moved == {place.arn for place in (less | places(3, 40)).values()}


def test_the_role_always_names_a_table() -> None:
    tables = places(100)
    before = grouped(stage(), DeploySettings(), tables, {})
    last = before["MoreTables1"].split(",")
    few = {name: place for name, place in tables.items() if place.arn in last}
    after = grouped(stage(), DeploySettings(), few, before)
    assert len(after[INLINE_TABLES].split(",")) == 1 and len(after["MoreTables1"].split(",")) == len(last) - 1


@pytest.mark.parametrize("arns", [0, 8])
def test_the_largest_number_of_tables_is_accepted_and_one_more_refused(arns: int) -> None:
    settings = DeploySettings(policy_arns=tuple(f"arn:aws:iam::1:policy/{number}" for number in range(arns)))

    def fits(count: int) -> bool:
        try:
            check_limits(stage(), settings, places(count))
        except UsageError as error:
            assert f"cannot name {count} tables" in error.what and "10,240" in error.what and "6,144" in error.what
            assert "split the project" in error.hint and error.where == "stage prod"
            return False
        return True

    most = next(count for count in range(1, 500) if not fits(count)) - 1
    groups = grouped(stage(), settings, places(most), {})
    assert sum(map(bool, groups.values())) - 1 == min(len(MORE_TABLES), MANAGED_POLICIES - arns)
    assert most > (100 if arns else 200)


def rule_names(name: str) -> dict[str, str]:
    resources = template_document.document()["Resources"]
    rules = {key: one for key, one in resources.items() if one["Type"] == "AWS::Events::Rule"}
    return {key: evaluated(one["Properties"]["Name"], {"Stage": name}) for key, one in rules.items()}


@pytest.mark.parametrize(
    ("settings", "rules"),
    [(DeploySettings(), {"RunFailed"}), (FOLLOWED, {"RunFailed", "ApplicationUpdated"})],
)
def test_the_longest_stage_name_is_accepted_and_a_longer_one_refused(settings: DeploySettings, rules: set[str]) -> None:
    longest = max(len(name) for key, name in rule_names("").items() if key in rules)
    most = "s" * (RULE_NAME - longest)
    check_limits(stage(most), settings, places(1))
    with pytest.raises(UsageError, match="EventBridge takes 64") as caught:
        check_limits(stage(f"{most}s"), settings, places(1))
    assert f"to {len(most)} characters" in caught.value.hint and f"stages.{most}s" in caught.value.where


def test_no_rule_name_is_longer_than_those_of_the_limits() -> None:
    assert set(rule_names("")) == {"RunFailed", "ApplicationUpdated"}


def test_too_many_managed_policies_are_refused() -> None:
    many = DeploySettings(policy_arns=tuple(f"arn:aws:iam::1:policy/{number}" for number in range(11)))
    with pytest.raises(UsageError, match="11 policies are too many") as caught:
        check_limits(stage(), many, places(1))
    assert "stages.prod.deploy.policy_arns" in caught.value.where


@pytest.mark.parametrize("name", ["TableKeyArns", "PolicyArns", "Prefix"])
def test_the_longest_parameter_is_accepted_and_a_longer_one_refused(name: str) -> None:
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
