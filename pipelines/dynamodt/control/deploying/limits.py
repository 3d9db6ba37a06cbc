"""AWS's limits that a deployment would meet half way: looked at before CloudFormation is asked for anything."""

from __future__ import annotations

from collections.abc import Mapping

from dynamodt.aws.table import TablePlace
from dynamodt.control.deploying.deploy_settings import DeploySettings
from dynamodt.control.deploying.deployed import bucket_of
from dynamodt.control.toml_values import FILE_NAME, place
from dynamodt.errors import UsageError
from dynamodt.model import Stage

RULE_NAME = 64  # EventBridge's, for a rule
ROLE_POLICIES = 10_240  # IAM's, for all inline policies of a role together, without white space
PARAMETER = 4_096  # CloudFormation's, for the value of a parameter
EVENT_PATTERN = 4_096  # EventBridge's, for a rule
MANAGED_POLICIES = 10  # IAM's, for a role, unless a quota was raised

_FAILED = "dynamodt-{}-run-failed"  # the longest name that each stage has
_UPDATED = "dynamodt-{}-application-updated"
_PATTERN = 230  # characters of the pattern about the application's stacks, without their ids
_SPLIT = "split the project in two, each with a stage of its own and some of the tables"

# What the job's role comes to beside the names in it: tests/unit/test_limits.py holds this and the template together.
_POLICIES = 2_150
_OF_A_TABLE = len('"",') * 2 + len("/export/*")


def check_limits(stage: Stage, settings: DeploySettings, tables: Mapping[str, TablePlace]) -> None:
    """Raises UsageError where a rule's name or the role's policies would be too long, naming what is."""
    _check_names(stage, settings)
    if len(settings.policy_arns) > MANAGED_POLICIES:
        hint = f"a role takes {MANAGED_POLICIES} of them: put their statements into fewer policies"
        where = place("stages", stage.name, "deploy", "policy_arns")
        raise UsageError(f"{len(settings.policy_arns)} policies are too many", where=where, hint=hint)
    size = policies_size(stage, tables)
    if size > ROLE_POLICIES:
        what = f"{len(tables)} tables make the policies of the jobs' role {size:,} characters long, and IAM takes "
        raise UsageError(f"{what}{ROLE_POLICIES:,}", where=f"stage {stage.name}", hint=_SPLIT)


def _check_names(stage: Stage, settings: DeploySettings) -> None:
    for pattern in (_FAILED, *([_UPDATED] if settings.application_stacks else ())):
        rule = pattern.format(stage.name)
        if len(rule) > RULE_NAME:
            most = RULE_NAME - len(pattern.format(""))
            what = f"the rule {rule} would have {len(rule)} characters, and EventBridge takes {RULE_NAME}"
            hint = f"shorten the stage's name to {most} characters in {FILE_NAME}"
            raise UsageError(what, where=place("stages", stage.name), hint=hint)


def policies_size(stage: Stage, tables: Mapping[str, TablePlace]) -> int:
    """About how many characters the inline policies of the jobs' role have; rather too many than too few."""
    bucket = bucket_of(stage)
    keys = {table.key_arn for table in tables.values() if table.key_arn}
    named = 2 * (len(bucket.name) + len(bucket.prefix) + len(stage.name)) + len(stage.state_table)
    of_tables = sum(2 * len(table.arn) + _OF_A_TABLE for table in tables.values())
    return _POLICIES + named + of_tables + sum(len(key) + len('"",') for key in keys)


def check_parameters(stage: Stage, given: Mapping[str, str]) -> None:
    """Raises UsageError for a value that CloudFormation takes no more, naming the parameter."""
    for name, value in given.items():
        longest = EVENT_PATTERN - _PATTERN if name == "ApplicationStackIds" else PARAMETER
        if len(value) > longest:
            what = f"{_SOURCES.get(name, name)} come to {len(value):,} characters, and the stack takes {longest:,}"
            hint = _SPLIT if name.startswith("Table") else f"name fewer of them in {FILE_NAME}"
            raise UsageError(what, where=f"stage {stage.name}, parameter {name}", hint=hint)


_SOURCES = {
    "TableArns": "the ARNs of the tables",
    "TableKeyArns": "the ARNs of the keys of the tables",
    "PolicyArns": "the policies",
    "ApplicationStackIds": "the ids of the application's stacks",
}
