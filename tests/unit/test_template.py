"""infra/template.yaml agrees with the code that fills it in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynamodt.cli.job import DEAD_LETTERS
from dynamodt.deploy.deploy import NO_PARTS, parameters
from dynamodt.deploy.packages import template
from dynamodt.deploy.resources import DeployedResources
from dynamodt.dynamodb.clients import BUCKET_TAG, STAGE_TAG
from dynamodt.dynamodb.table import TablePlace
from dynamodt.model.tables import Connection, Stage, StorageSpec
from tests import template_document

STAGE = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://files/below"))
FOUND = DeployedResources(
    None, False, True, True, "", {"users": TablePlace("arn:aws:dynamodb:eu-west-1:1:table/users", "")}
)
LASTING = ("Key", "Storage", "StoragePolicy", "State")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return template_document.document()


@pytest.fixture(scope="module")
def resources(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document["Resources"]
    return found


def test_every_parameter_is_given_and_no_other(document: dict[str, Any], tmp_path: Path) -> None:
    given = parameters(STAGE, tmp_path, FOUND)
    assert set(given) | set(NO_PARTS) == set(document["Parameters"])
    assert not set(given) & set(NO_PARTS)
    assert (given["Bucket"], given["Prefix"]) == ("files", "below/")


def test_the_defaults_of_the_template_are_those_of_dynamodt_toml(document: dict[str, Any], tmp_path: Path) -> None:
    """A template that is deployed by hand has the same defaults as dynamodt.toml."""
    given = parameters(STAGE, tmp_path, FOUND)
    here = {key: str(one["Default"]) for key, one in document["Parameters"].items() if "Default" in one}
    its_own = {"Prefix", *NO_PARTS}
    assert {key: given[key] for key in here if key not in its_own} == {
        k: v for k, v in here.items() if k not in its_own
    }


def test_the_template_fits_into_a_request() -> None:
    assert len(template().encode()) <= 51_200, "CloudFormation takes no longer one but from S3"


def test_resources_with_data_outlive_the_stack(resources: dict[str, dict[str, Any]]) -> None:
    """RetainExceptOnCreate: a first attempt that fails leaves nothing that would make the second one fail."""
    for name in LASTING:
        assert resources[name]["DeletionPolicy"] == "RetainExceptOnCreate"
        assert resources[name]["UpdateReplacePolicy"] == "Retain"
    assert {name for name, one in resources.items() if "Retain" in one.get("DeletionPolicy", "")} == set(LASTING)


def test_retained_resources_have_a_tag_with_the_stage(resources: dict[str, dict[str, Any]]) -> None:
    """The key also has one with its bucket: once the bucket is deleted, nothing else refers to the key."""
    for name in ("Key", "Storage", "State"):
        assert resources[name]["Properties"]["Tags"][0] == {"Key": STAGE_TAG, "Value": {"!Ref": "Stage"}}
    assert resources["Key"]["Properties"]["Tags"][1] == {"Key": BUCKET_TAG, "Value": {"!Ref": "Bucket"}}


@pytest.mark.parametrize("name", ["MigrateJob", "PrepareJob"])
def test_the_jobs_of_the_template(resources: dict[str, dict[str, Any]], name: str) -> None:
    job = resources[name]["Properties"]
    arguments = job["DefaultArguments"]
    assert {"--stage", "--project", "--command"} <= set(arguments)
    assert arguments["--region"] == {"!Ref": "AWS::Region"}
    assert arguments["--job-bookmark-option"] == "job-bookmark-disable"
    assert job["MaxRetries"] == 0
    for log in ("OutputLog", "ErrorLog"):
        prefix = arguments["--custom-logGroup-prefix"]["!Sub"]
        assert resources[log]["Properties"]["LogGroupName"]["!Sub"].rpartition("/")[0] == prefix


def test_dead_letters_are_counted_from_a_log_line_of_the_job(resources: dict[str, dict[str, Any]]) -> None:
    assert resources["DeadLetters"]["Properties"]["FilterPattern"] == f'"{DEAD_LETTERS}"'


def test_the_role_names_each_table(resources: dict[str, dict[str, Any]]) -> None:
    """No statement that grants anything of DynamoDB, S3 or KMS has a bare `*`."""
    policies = resources["JobRole"]["Properties"]["Policies"]
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    open_ones = {one["Sid"] for one in statements if one.get("Resource") == "*"}
    assert open_ones == {"DescribeAlarms"}


def test_the_key_can_be_used_by_services_of_this_account_only(resources: dict[str, dict[str, Any]]) -> None:
    """Otherwise another account's rules and alarms could use it through these services."""
    statements = resources["Key"]["Properties"]["KeyPolicy"]["Statement"]
    of_services = [one for one in statements if "Service" in one["Principal"]]
    assert len(of_services) == 2
    for statement in of_services:
        (condition,) = statement["Condition"].values()
        assert "AWS::AccountId" in str(condition), statement["Sid"]
    (told,) = [one for one in of_services if "events.amazonaws.com" in one["Principal"]["Service"]]
    assert "aws:SourceAccount" in told["Condition"]["StringEquals"]
