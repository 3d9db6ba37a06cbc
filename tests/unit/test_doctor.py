"""The findings of `doctor` for answers of AWS that no emulator gives: permissions, clocks, replicas, missing
resources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from rich.console import Console

from dynamodt.cli.short_reports import print_examination
from dynamodt.deploy import buckets
from dynamodt.doctor import doctor, suite
from dynamodt.doctor.contract import CHECKS
from dynamodt.doctor.doctor import OBJECT_ACTIONS, STATE_ACTIONS, TABLE_ACTIONS, _masked
from dynamodt.doctor.suite import CheckResult, scratch
from dynamodt.dynamodb import table as tables
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Connection, Stage, StorageSpec
from tests import ROOT
from tests.template_document import resource

STAGE = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://files/below", kms_key="alias/k"))
USERS: dict[str, Any] = {
    "TableName": "users",
    "TableArn": "arn:aws:dynamodb:eu-west-1:123456789012:table/users",
    "TableStatus": "ACTIVE",
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
}


def refused(code: str, operation: str = "X") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}, operation)


class Aws:
    """The clients of an account: each operation has an answer, or an error to raise."""

    class exceptions:  # noqa: N801
        class ResourceNotFoundException(Exception): ...

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        answer = self.answers.get(operation, refused("AccessDeniedException"))

        def call(**_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, CheckResult]]:
    def found(stage: Stage = STAGE, **answers: Any) -> dict[str, CheckResult]:
        aws = Aws(**answers)
        aws.meta = type("Meta", (), {"endpoint_url": "https://dynamodb.eu-west-1.amazonaws.com", "partition": "aws"})
        for module in (doctor, tables, buckets):
            monkeypatch.setattr(module, "client", lambda *_, **__: aws)
        monkeypatch.setattr(doctor, "bucket_facts", lambda *_: None)
        return {finding.name: finding for finding in doctor.read_only(stage, ["users"])}

    return found


@pytest.mark.parametrize(
    "raised",
    [
        ServiceError("no AWS credentials were found", where="region eu-west-1", hint="set them"),
        refused("ExpiredTokenException"),
        EndpointConnectionError(endpoint_url="https://aws"),
    ],
)
def test_a_cause_that_several_checks_share_is_wrong_once(findings: Callable[..., Any], raised: Exception) -> None:
    calls = "get_caller_identity list_tables describe_table describe_continuous_backups".split()
    found = findings(**dict.fromkeys(calls, raised))
    assert found["credentials"].status == "wrong"
    assert [found[name].status for name in ("clock", "state table", "table users")] == ["skipped"] * 3
    assert all("same reason as: credentials" in found[name].seen for name in ("clock", "state table"))


CALLER = {"Arn": "arn:aws:sts::123456789012:assumed-role/deployer/me"}
ROLE = {"Role": {"Arn": "arn:aws:iam::123456789012:role/ci/deployer"}}


def simulated(*denied: str) -> dict[str, Any]:
    actions = (*TABLE_ACTIONS, *STATE_ACTIONS)
    results = [{"EvalActionName": a, "EvalDecision": "implicitDeny" if a in denied else "allowed"} for a in actions]
    return {"EvaluationResults": results}


def test_missing_permissions_are_named(findings: Callable[..., dict[str, CheckResult]]) -> None:
    given = {"describe_table": {"Table": USERS}, "get_caller_identity": CALLER, "get_role": ROLE}
    found = findings(**given, simulate_principal_policy=simulated("dynamodb:PartiQLUpdate"))["permissions on users"]
    assert found.status == "wrong" and found.seen == "not allowed: dynamodb:PartiQLUpdate" and "grant" in found.hint
    assert findings(**given, simulate_principal_policy=simulated())["permissions on users"].status == "ok"


def test_without_iam_s_simulation_the_reads_are_tried(findings: Callable[..., dict[str, CheckResult]]) -> None:
    found = findings(describe_table={"Table": USERS}, get_item={}, batch_get_item={})["permissions on users"]
    assert found.status == "wrong" and found.seen == "not allowed: dynamodb:Scan"
    found = findings(describe_table={"Table": USERS}, scan={}, get_item={}, batch_get_item={})["permissions on users"]
    assert found.status == "ok" and "unknown" in found.seen


@pytest.mark.parametrize(("minutes", "status"), [(0, "ok"), (-3, "wrong"), (3, "wrong")])
def test_a_wrong_clock_is_a_finding(findings: Callable[..., dict[str, CheckResult]], minutes: int, status: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    answer = {"TableNames": [], "ResponseMetadata": {"HTTPHeaders": {"date": date}}}
    assert findings(list_tables=answer)["clock"].status == status


@pytest.mark.parametrize(("status", "expected"), [("UPDATING", "ok"), ("CREATING", "wrong")])
def test_a_table_is_usable_in_the_states_that_a_run_accepts(
    findings: Callable[..., dict[str, CheckResult]], status: str, expected: str
) -> None:
    found = findings(describe_table={"Table": {**USERS, "TableStatus": status}})["table users"]
    assert found.status == expected and bool(found.hint) == (expected == "wrong")


@pytest.mark.parametrize(("status", "expected"), [("ACTIVE", "ok"), ("ARCHIVED", "wrong")])
def test_a_state_table_is_usable_in_the_same_states(
    findings: Callable[..., dict[str, CheckResult]], status: str, expected: str
) -> None:
    schema = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
    types = [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")]
    table = {**USERS, "KeySchema": schema, "AttributeDefinitions": types, "TableStatus": status}
    found = findings(describe_table={"Table": table})["state table"]
    assert found.status == expected and status in found.seen and bool(found.hint) == (expected == "wrong")


def test_the_findings_about_a_table(findings: Callable[..., dict[str, CheckResult]]) -> None:
    table = USERS | {
        "Replicas": [{"RegionName": "us-east-1"}],
        "StreamSpecification": {"StreamEnabled": True},
        "GlobalSecondaryIndexes": [{"IndexName": "by_name", "KeySchema": []}],
        "OnDemandThroughput": {"MaxWriteRequestUnits": 100},
    }
    ttl = {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}}
    found = findings(describe_table={"Table": table}, describe_time_to_live=ttl)["table users"]
    assert found.status == "wrong" and "replicas in us-east-1" in found.seen
    for part in ("at most 100 MaxWriteRequestUnits", "global indexes by_name", "a stream", "TTL by expires"):
        assert part in found.seen


ELSEWHERE: dict[str, Any] = {"Replicas": [{"RegionName": "us-east-1"}, {"RegionName": "eu-west-1"}]}
STRONG = ELSEWHERE | {"MultiRegionConsistency": "STRONG"}
STREAM = {
    "StreamSpecification": {"StreamEnabled": True},
    "LatestStreamArn": "arn:aws:dynamodb:x:1:table/users/stream/1",
}
GROUP = {"GlobalTableDescription": {"ReplicationGroup": [{"RegionName": "eu-west-1"}, {"RegionName": "us-east-1"}]}}


@pytest.mark.parametrize(
    ("described", "stated", "status", "hint"),
    [
        (ELSEWHERE, False, "wrong", "--single-region-writers"),
        (ELSEWHERE, True, "ok", ""),
        (STRONG, False, "ok", ""),  # conditions hold across regions
        (STREAM, False, "wrong", "--single-region-writers"),  # of version 2017.11.29
        (ELSEWHERE | {"TableStatus": "INACCESSIBLE_ENCRYPTION_CREDENTIALS"}, True, "wrong", "KMS key"),
    ],
)
def test_a_global_table_is_wrong_where_a_run_refuses_it(
    findings: Callable[..., dict[str, CheckResult]], described: dict[str, Any], stated: bool, status: str, hint: str
) -> None:
    stage = replace(STAGE, single_region_writers=stated)
    found = findings(stage, describe_table={"Table": USERS | described}, describe_global_table=GROUP)["table users"]
    assert (found.status, "replicas in us-east-1" in found.seen) == (status, True) and "eu-west-1" not in found.seen
    assert hint in found.hint and bool(found.hint) == bool(hint)


def test_a_maximum_that_is_not_set_is_not_shown(findings: Callable[..., dict[str, CheckResult]]) -> None:
    """DescribeTable returns -1 for it."""
    table = USERS | {"OnDemandThroughput": {"MaxReadRequestUnits": -1, "MaxWriteRequestUnits": 5}}
    seen = findings(describe_table={"Table": table})["table users"].seen
    assert "at most 5 MaxWriteRequestUnits" in seen and "-1" not in seen


STATE = USERS | {
    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
}


@pytest.mark.parametrize(
    ("described", "stated", "status", "hint"),
    [
        ({}, False, "ok", ""),
        ({"TableStatus": "UPDATING"}, False, "ok", ""),
        ({"TableStatus": "DELETING"}, False, "wrong", "it is being deleted"),
        (ELSEWHERE, False, "wrong", "a lease holds for the commands of one region"),
        (ELSEWHERE, True, "ok", ""),
        (STRONG, True, "wrong", "it takes no transactions"),
    ],
)
def test_a_state_table_is_wrong_where_no_run_can_use_it(
    findings: Callable[..., dict[str, CheckResult]], described: dict[str, Any], stated: bool, status: str, hint: str
) -> None:
    stage, given = replace(STAGE, single_region_writers=stated), {"get_caller_identity": CALLER, "get_role": ROLE}
    answers = {**given, "describe_table": {"Table": STATE | described}, "simulate_principal_policy": simulated()}
    found = findings(stage, **answers)["state table"]
    assert found.status == status and hint in found.hint and bool(found.hint) == bool(hint)


def test_a_missing_resource_is_named_with_the_command_that_creates_it(
    findings: Callable[..., dict[str, CheckResult]],
) -> None:
    found = findings(
        describe_table=refused("ResourceNotFoundException"),
        describe_key={"KeyMetadata": {"KeyState": "PendingDeletion"}},
    )
    for name in ("state table", "storage"):
        assert found[name].status == "wrong" and "dynamodt deploy --stage prod creates it" in found[name].hint
    assert found["key"].status == "wrong" and "PendingDeletion" in found["key"].seen
    assert found["glue job"].status == "skipped" and found["credentials"].status == "wrong"


@pytest.mark.parametrize(
    ("given", "is_aws"),
    [
        ({}, True),
        ({"endpoint_url": "http://127.0.0.1:8000"}, False),
        ({"endpoints": (("DYNAMODB", "http://127.0.0.1:8000"),)}, False),
        ({"endpoints": (("S3", "http://127.0.0.1:8000"),)}, True),
        ({"endpoints": (("DYNAMODB", "https://vpce-1.dynamodb.eu-west-1.vpce.amazonaws.com"),)}, True),
        ({"endpoint_url": "https://amazonaws.com.evil.example"}, False),
    ],
)
def test_an_emulator_is_recognized_however_its_url_is_given(given: dict[str, Any], is_aws: bool) -> None:
    """Missing services are skipped, and harmless deviations are "differs" instead of "wrong"."""
    assert Connection(region="eu-west-1", **given).is_aws is is_aws


def test_the_actions_are_those_of_the_template() -> None:
    policies = {each["PolicyName"]: each["PolicyDocument"]["Statement"] for each in resource("JobRole")["Policies"]}
    granted = {statement["Sid"]: statement["Action"] for each in policies.values() for statement in each}
    assert list(TABLE_ACTIONS) == granted["NamedTables"]
    assert list(STATE_ACTIONS) == granted["StateTable"]
    assert list(OBJECT_ACTIONS) == granted["StorageObjects"]


def test_each_check_names_what_relies_on_it_and_where_it_is_written() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) > 50
    for check in CHECKS:
        assert (ROOT / "pipelines" / "dynamodt" / check.relies).is_file(), check
        assert check.source.startswith("docs.aws.amazon.com/") or check.source == "not documented", check


def test_an_account_is_shown_by_its_last_digits() -> None:
    assert _masked("arn:aws:iam::123456789012:role/x") == "arn:aws:iam::...012:role/x"
    assert _masked("bucket dynamodt-123456789012-eu-west-1") == "bucket dynamodt-...012-eu-west-1"
    assert _masked("table orders_442315719337") == "table orders_442315719337"
    assert _masked("20261127T035241Z 1234567890123") == "20261127T035241Z 1234567890123"


UNREACHABLE = EndpointConnectionError(endpoint_url="https://x.eu-west-1.amazonaws.com/")


@pytest.mark.parametrize("operation", ["get_job", "simulate_principal_policy", "describe_table", "list_tables"])
def test_an_unreachable_service_ends_no_other_check(
    findings: Callable[..., dict[str, CheckResult]], operation: str
) -> None:
    given = {"describe_table": {"Table": USERS}, "get_caller_identity": CALLER, "get_role": ROLE, "scan": {}}
    found = findings(**(given | {operation: UNREACHABLE}))
    assert list(found)[-1] == "permissions on users"
    if operation == "get_job":
        assert found["glue job"].status == "wrong" and "x.eu-west-1.amazonaws.com" in found["glue job"].seen


def test_an_unreachable_iam_is_tried_once(findings: Callable[..., dict[str, CheckResult]]) -> None:
    private = replace(STAGE, connection=Connection("eu-north-1"))
    given = {"describe_table": {"Table": USERS}, "get_caller_identity": CALLER, "get_role": ROLE, "scan": {}}
    found = findings(private, **given, get_account_summary=UNREACHABLE, simulate_principal_policy=simulated())
    assert found["permissions on users"].seen == "not allowed: dynamodb:GetItem, dynamodb:BatchGetItem", "it was tried"


def test_advice_for_several_checks_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tuple(CheckResult(name, "wrong", "no credentials", "set AWS_PROFILE") for name in ("a", "b"))
    print_examination(Console(), doctor.Examination("prod", wrong))
    shown = capsys.readouterr().out
    assert shown.count("no credentials") == 2 and shown.count("set AWS_PROFILE") == 1


class Creating:
    """A table that can be deleted only when it is no longer being created; the caller may be refused."""

    exceptions = type("Names", (), {"ResourceNotFoundException": KeyError, "ResourceInUseException": BufferError})

    def __init__(self, create: BaseException, delete: Exception | None = None) -> None:
        self.create, self.delete, self.status = create, delete, "CREATING"

    def create_table(self, **_: Any) -> None:
        raise self.create

    def get_waiter(self, _: str) -> Creating:
        return self

    def wait(self, **_: Any) -> None:
        self.status = "ACTIVE"

    def delete_table(self, **_: Any) -> None:
        if self.delete:
            raise self.delete
        if self.status == "CREATING":
            raise BufferError
        self.status = "DELETING"


def test_a_scratch_table_that_is_being_created_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Creating(KeyboardInterrupt())
    monkeypatch.setattr(suite, "client", lambda *_: table)
    with pytest.raises(KeyboardInterrupt), scratch(Stage("x", Connection("eu-west-1"), StorageSpec("/folder")), print):
        pass
    assert table.status == "DELETING"


def test_the_first_error_is_raised_and_remaining_resources_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Creating(refused("AccessDeniedException", "CreateTable"), refused("AccessDeniedException", "DeleteTable"))
    monkeypatch.setattr(suite, "client", lambda *_: table)
    notes: list[str] = []
    stage = Stage("x", Connection("eu-west-1"), StorageSpec("/folder"))
    with pytest.raises(ServiceError, match="CreateTable was refused"), scratch(stage, notes.append):
        pass
    assert "DeleteTable was refused" in notes[-1]
