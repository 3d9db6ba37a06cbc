"""A bucket of another account or region: never looked into as if it were the stage's own, and never deleted from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from dynamodt.deploy import buckets
from dynamodt.dynamodb import clients
from dynamodt.dynamodb.clients import client
from dynamodt.errors import UsageError
from dynamodt.model.tables import Connection

HERE = Connection("eu-west-1", access_key="local", secret_key="local")
OWNER = {"ExpectedBucketOwner": "123456789012"}
BUCKET = {"Bucket": "files", **OWNER}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    """S3 as it answers, and only where it is asked for the bucket of this account."""
    for module in (buckets, clients):
        monkeypatch.setattr(module, "account_id", lambda connection: "123456789012")
    with Stubber(client(HERE, "s3")) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("status", [301, 403])
def test_a_bucket_that_is_refused_is_an_error_with_each_reason(s3: Stubber, status: int) -> None:
    s3.add_client_error("head_bucket", str(status), http_status_code=status, expected_params=BUCKET)
    with pytest.raises(UsageError, match="s3:ListBucket") as caught:
        buckets.bucket_facts(HERE, "files")
    assert "123456789012" in caught.value.what and "eu-west-1" in caught.value.what
    assert caught.value.where == "bucket files" and "choose another" in caught.value.hint


def test_a_bucket_in_another_region_is_an_error(s3: Stubber) -> None:
    s3.add_response("head_bucket", {"BucketRegion": "us-east-1"}, BUCKET)
    with pytest.raises(UsageError, match="in us-east-1"):
        buckets.bucket_facts(HERE, "files")


def test_what_deletes_names_the_owner(s3: Stubber) -> None:
    upload: dict[str, Any] = {"Key": "below/jar", "UploadId": "u1"}
    s3.add_response("list_multipart_uploads", {"Uploads": [upload]}, {**BUCKET, "Prefix": "below/"})
    s3.add_response("abort_multipart_upload", {}, {**BUCKET, **upload})
    version = {"Key": "below/jar", "VersionId": "v1"}
    s3.add_response("list_object_versions", {"Versions": [version]}, {**BUCKET, "Prefix": "below/"})
    s3.add_response("delete_objects", {}, {**BUCKET, "Delete": ANY})
    s3.add_response("delete_bucket", {}, BUCKET)
    buckets.delete_objects(HERE, "files", "below/", lambda text: None)
    buckets.delete_bucket(HERE, "files")


# ---------------------------------------------------------------- what a role may read

ROLE = "arn:aws-cn:iam::123456789012:role/dynamodt-prod"


@pytest.mark.parametrize(
    ("decisions", "allowed"),
    [
        (("allowed", "allowed"), True),
        (("implicitDeny",), False),
        (("allowed", "explicitDeny"), False),
        (("AccessDenied",), None),
    ],
)
def test_what_a_role_may_read_by_iam_s_simulator(decisions: tuple[str, ...], allowed: bool | None) -> None:
    with Stubber(client(HERE, "iam", attempts=2, seconds=5)) as stub:
        asked = [("s3:ListBucket", ""), ("s3:GetObject", "/a/b/manifest-summary.json")]
        for decision, (action, below) in zip(decisions, asked, strict=False):
            if decision == "AccessDenied":
                stub.add_client_error("simulate_principal_policy", decision)
                continue
            stub.add_response(
                "simulate_principal_policy",
                {"EvaluationResults": [{"EvalActionName": action, "EvalDecision": decision}]},
                {
                    "PolicySourceArn": ROLE,
                    "ActionNames": [action],
                    "ResourceArns": [f"arn:aws-cn:s3:::other{below}"],
                    "ContextEntries": ANY,
                },
            )
        assert buckets.may_read(HERE, ROLE, "other", "a/b") is allowed
        stub.assert_no_pending_responses()
