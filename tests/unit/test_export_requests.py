"""Requesting, describing and polling an export by DynamoDB's API: the requests, and the error for each refusal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from dynamodt.errors import DynamodtError, Refused, RunFailed, ServiceError, UsageError
from dynamodt.export.request import (
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    AwsExports,
    Export,
    ExportRequest,
    export_of,
    folder_of,
    poll_until_completed,
    service_time,
)
from dynamodt.model.tables import Connection, KeyAttribute, StorageSpec, TableSpec

TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/users"
ARN = f"{TABLE}/export/01604474854028-a1b2c3d4"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
USERS = TableSpec("users", (KeyAttribute("id", "S"),))
ASKED = ExportRequest(USERS, "token-1")
BEGUN = {
    "ExportArn": ARN,
    "ExportStatus": IN_PROGRESS,
    "TableArn": TABLE,
    "S3Bucket": "b",
    "S3Prefix": "p",
    "ExportType": "FULL_EXPORT",
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return NOW + WITHIN

    monkeypatch.setattr("dynamodt.export.request.datetime", Clock)


@pytest.fixture
def dynamodb() -> Any:
    return boto3.client("dynamodb", region_name="eu-west-1", aws_access_key_id="t", aws_secret_access_key="t")


@pytest.fixture
def stub(dynamodb: Any) -> Iterator[Stubber]:
    with Stubber(dynamodb) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


CONNECTION = Connection("eu-west-1", profile="ops")


def exports(dynamodb: Any, url: str = "s3://b/p", key: str | None = None) -> AwsExports:
    return AwsExports(dynamodb, CONNECTION, StorageSpec(url, key))


def expect_table(stub: Stubber) -> None:
    stub.add_response("describe_table", {"Table": {"TableArn": TABLE, "TableId": "i"}}, {"TableName": "users"})


TURN_ON = (
    "aws dynamodb update-continuous-backups --table-name users --point-in-time-recovery-specification "
    "PointInTimeRecoveryEnabled=true --region eu-west-1 --profile ops"
)
WITHIN = timedelta(milliseconds=950)  # DynamoDB is sent whole seconds
SPAN = {"ExportFromTime": NOW - timedelta(hours=1), "ExportToTime": NOW, "ExportViewType": "NEW_AND_OLD_IMAGES"}


@pytest.mark.parametrize(
    ("request_", "url", "key", "sent"),
    [
        (ASKED, "s3://b/p/", None, {"S3Prefix": "p", "ExportType": "FULL_EXPORT", "ExportTime": NOW}),
        (
            replace(ASKED, at=NOW + WITHIN),
            "s3://b",
            "alias/k",
            {"S3SseAlgorithm": "KMS", "S3SseKmsKeyId": "alias/k", "ExportType": "FULL_EXPORT", "ExportTime": NOW},
        ),
        (
            replace(ASKED, since=SPAN["ExportFromTime"] + WITHIN, until=NOW + WITHIN),
            "s3://b",
            None,
            {
                "ExportType": "INCREMENTAL_EXPORT",
                "IncrementalExportSpecification": SPAN,
            },
        ),
    ],
)
def test_the_request_of_an_export(
    dynamodb: Any, stub: Stubber, request_: ExportRequest, url: str, key: str | None, sent: dict[str, Any]
) -> None:
    expect_table(stub)
    common = {"TableArn": TABLE, "ClientToken": "token-1", "S3Bucket": "b", "ExportFormat": "DYNAMODB_JSON"}
    stub.add_response("export_table_to_point_in_time", {"ExportDescription": BEGUN}, {**common, **sent})
    export = exports(dynamodb, url, key).request(request_)
    assert (export.arn, export.status, export.table, export.id) == (ARN, IN_PROGRESS, "users", ARN[-23:])


@pytest.mark.parametrize(
    ("code", "error", "hint"),
    [
        (
            "PointInTimeRecoveryUnavailableException",
            Refused,
            TURN_ON,
        ),
        ("InvalidExportTimeException", Refused, "describe-continuous-backups --table-name users --region eu-west-1"),
        ("ExportConflictException", Refused, "another token"),
        ("LimitExceededException", Refused, "wait"),
        ("AccessDeniedException", ServiceError, "grant"),
    ],
)
def test_a_refused_request_has_a_hint(
    dynamodb: Any, stub: Stubber, code: str, error: type[DynamodtError], hint: str
) -> None:
    expect_table(stub)
    stub.add_client_error("export_table_to_point_in_time", code, "the service's words")
    with pytest.raises(error, match="the service's words") as caught:
        exports(dynamodb).request(ASKED)
    assert caught.value.where == "table users" and hint in caught.value.hint


def test_a_missing_table_is_refused(dynamodb: Any, stub: Stubber) -> None:
    stub.add_client_error("describe_table", "ResourceNotFoundException", "no")
    with pytest.raises(ServiceError, match="does not exist") as caught:
        exports(dynamodb).request(ASKED)
    assert caught.value.where == "table users"


@pytest.mark.parametrize("minutes", [-1, 0, 14, 24 * 60 + 1])
def test_an_invalid_period_of_an_incremental_export_is_refused(dynamodb: Any, stub: Stubber, minutes: int) -> None:
    with pytest.raises(UsageError, match="cannot span") as caught:
        exports(dynamodb).request(replace(ASKED, since=NOW - timedelta(minutes=minutes), until=NOW))
    assert "15 minutes to 24 hours" in caught.value.hint


@pytest.mark.parametrize(
    ("headers", "told"),
    [({"date": "Fri, 02 Jan 2026 03:00:00 GMT"}, NOW.replace(minute=0, second=0)), ({}, NOW)],
    ids=["told", "not told"],
)
def test_the_service_s_time_is_used_if_it_is_known(
    dynamodb: Any, stub: Stubber, headers: dict[str, str], told: datetime
) -> None:
    answer = {"Table": {"TableArn": TABLE}, "ResponseMetadata": {"HTTPHeaders": headers}}
    stub.add_response("describe_table", answer, {"TableName": "users"})
    assert service_time(dynamodb, "users") == told


def test_a_request_without_a_bucket_is_refused(dynamodb: Any) -> None:
    with pytest.raises(UsageError, match="not a place in S3"):
        exports(dynamodb, "/tmp/storage")


# ---------------------------------------------------------------- describing


def test_a_description_of_an_export_is_parsed() -> None:
    told = {
        "ExportArn": ARN,
        "ExportStatus": COMPLETED,
        "TableArn": TABLE,
        "S3Bucket": "b",
        "S3Prefix": "p",
        "ExportManifest": "p/AWSDynamoDB/01604474854028-a1b2c3d4/manifest-summary.json",
        "ExportType": "INCREMENTAL_EXPORT",
        "IncrementalExportSpecification": {"ExportFromTime": NOW, "ExportToTime": NOW + timedelta(hours=1)},
        "ItemCount": 7,
        "BilledSizeBytes": 8,
    }
    export = export_of(told)
    assert (export.kind, export.at, export.since, export.until) == ("incremental", None, NOW, NOW + timedelta(hours=1))
    assert (export.items, export.billed_bytes) == (7, 8)
    assert folder_of(export).key == "p/AWSDynamoDB/01604474854028-a1b2c3d4"
    assert export_of({**told, "ExportManifest": None}) == export  # unknown before it is completed
    assert export_of({**told, "ExportManifest": "AWSDynamoDB/x/manifest-summary.json"}) == export


def test_an_export_that_no_longer_exists_is_an_error(dynamodb: Any, stub: Stubber) -> None:
    stub.add_client_error("describe_export", "ExportNotFoundException", "no")
    with pytest.raises(UsageError, match="no such export") as caught:
        exports(dynamodb).describe(ARN)
    assert caught.value.where == ARN and "s3://bucket/prefix" in caught.value.hint


@pytest.mark.parametrize(
    ("arn", "what"),
    [(TABLE, "export's ARN"), ("x", "export's ARN"), (ARN.replace("eu-west-1", "us-east-1"), "of us-east-1")],
)
def test_an_invalid_or_foreign_arn_is_refused(dynamodb: Any, stub: Stubber, arn: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        exports(dynamodb).describe(arn)
    assert caught.value.where == arn and caught.value.hint


# ---------------------------------------------------------------- awaiting


class GivenAnswers:
    """An `Exports` with given answers."""

    def __init__(self, *answers: Export) -> None:
        self._answers = list(answers)

    def request(self, request: ExportRequest) -> Export:
        raise AssertionError("not asked for here")

    def describe(self, arn: str) -> Export:
        return self._answers.pop(0)


def test_polling_ends_with_the_completed_export() -> None:
    begun = export_of(BEGUN)
    ended = replace(begun, status=COMPLETED)
    slept: list[float] = []
    assert list(poll_until_completed(GivenAnswers(begun, begun, ended), ARN, slept.append, every=5)) == [
        begun,
        begun,
        ended,
    ]
    assert slept == [5, 5]


def test_a_failed_export_is_an_error_with_the_reason() -> None:
    failed = replace(export_of(BEGUN), status=FAILED, failure_code="S3NoSuchBucket", failure_message="no bucket")
    states = poll_until_completed(GivenAnswers(export_of(BEGUN), failed), ARN, lambda seconds: None)
    assert next(states).status == IN_PROGRESS
    with pytest.raises(RunFailed, match="S3NoSuchBucket: no bucket") as caught:
        next(states)
    assert caught.value.where == ARN and "request another export" in caught.value.hint
