"""A bucket of another account or region is neither read as if it were the stage's own, nor deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
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
    """S3's answers, which need a request that names the account."""
    for module in (buckets, clients):
        monkeypatch.setattr(module, "account_id", lambda connection: "123456789012")
    with Stubber(client(HERE, "s3")) as stub:
        yield stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize("status", [301, 403])
def test_a_refused_bucket_is_an_error_with_all_possible_reasons(s3: Stubber, status: int) -> None:
    s3.add_client_error("head_bucket", str(status), http_status_code=status, expected_params=BUCKET)
    with pytest.raises(UsageError, match="s3:ListBucket") as caught:
        buckets.bucket_facts(HERE, "files")
    assert "123456789012" in caught.value.what and "eu-west-1" in caught.value.what
    assert caught.value.where == "bucket files" and "choose another" in caught.value.hint


def test_a_bucket_in_another_region_is_an_error(s3: Stubber) -> None:
    s3.add_response("head_bucket", {"BucketRegion": "us-east-1"}, BUCKET)
    with pytest.raises(UsageError, match="in us-east-1"):
        buckets.bucket_facts(HERE, "files")


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


# ---------------------------------------------------------------- whose an object is

RUN, ANOTHERS = "20260131T101112.131415Z-0a1b2c", "20260131T101112.131415Z-ffffff"
EXPORT, COMPANYS = "01767225600000-0a1b2c3d", "01767225600000-99999999"
SHARED = "below/AWSDynamoDB/data/aaaa.json.gz"
HASH = "0a" * 32
OWN = buckets.OwnObjects(
    "files", "below/", frozenset(["users"]), frozenset([RUN]), frozenset([EXPORT]), frozenset([SHARED])
)


@pytest.mark.parametrize(
    "name",
    [
        f"runs/users/{RUN}/dead-letters.jsonl",
        f"runs/users/{RUN}/items/dead/000000-00000001-0001-write.jsonl",
        f"runs/users/{RUN}/incremental2/retry1/journal/000000-00000001-0001-0000.json.zst",
        f"runs/users/{RUN}/undo3.2/not-restored/000001-00000001-0001-left.jsonl",
        f"runs/users/{RUN}/final-scan/retries/0001.json",
        f"runs/users/{RUN}/samples/000000-00000001.json",
        f"runs/users/{RUN}/journal/000000-00000001-0001-note.json.zst",
        "prepared/users/v2.parquet",
        "prepared/users/v2.json",
        "scripts/users/v12-0123456789abcdef.py",
        f"assets/{HASH}/project.zip",
        f"AWSDynamoDB/{EXPORT}/_started",
        f"AWSDynamoDB/{EXPORT}/manifest-files.json",
        f"AWSDynamoDB/{EXPORT}/data/aaaa.json.gz",
        "AWSDynamoDB/data/aaaa.json.gz",
    ],
)
def test_an_object_of_the_stage_is_recognized(name: str) -> None:
    at_the_root = replace(OWN, prefix="", shared=frozenset(["AWSDynamoDB/data/aaaa.json.gz"]))
    assert f"below/{name}" in OWN and name in at_the_root
    assert name not in OWN and f"below/within/{name}" not in OWN and f"below-too/{name}" not in OWN


@pytest.mark.parametrize(
    "name",
    [
        "",
        "report.csv",
        "runs/2024/report.csv",
        f"runs/users/{RUN}/report.csv",
        f"runs/users/{RUN}/journal/../dead-letters.jsonl",
        f"runs/users/{RUN}/journal/photo.json.zst",
        f"runs/users/{ANOTHERS}/dead-letters.jsonl",
        f"runs/orders/{RUN}/dead-letters.jsonl",
        "runs/users/nightly/dead-letters.jsonl",
        "prepared/users/final.parquet",
        "scripts/users/v1_initial.py",
        "prepared/orders/v2.parquet",
        "assets/logo.png",
        f"assets/{HASH}/web/logo.png",
        f"AWSDynamoDB/{COMPANYS}/_started",
        f"AWSDynamoDB/{COMPANYS}/data/aaaa.json.gz",
        f"AWSDynamoDB/{EXPORT}/notes.txt",
        "AWSDynamoDB/data/bbbb.json.gz",
    ],
)
def test_an_object_of_others_is_not_the_stage_s(name: str) -> None:
    assert f"below/{name}" not in OWN


def test_without_a_state_table_no_run_is_the_stages() -> None:
    assert f"below/runs/users/{RUN}/dead-letters.jsonl" not in replace(OWN, runs=frozenset())


class Listed:
    """A bucket of these names that is listed as S3 does it; keeps the names that were listed one by one."""

    def __init__(self, *names: str) -> None:
        self.names = sorted(names)
        self.seen: set[str] = set()

    def get_paginator(self, operation: str) -> Listed:
        return self if operation == "list_object_versions" else Listed()

    def paginate(self, **words: str) -> Iterator[dict[str, Any]]:
        prefix, delimiter = words["Prefix"], words.get("Delimiter", "")
        for name in (name for name in self.names if name.startswith(prefix)):
            folder, slash, _ = name.removeprefix(prefix).partition("/")
            if delimiter and slash:
                yield {"CommonPrefixes": [{"Prefix": f"{prefix}{folder}/"}]}
            else:
                self.seen.add(name)
                yield {"Versions": [{"Key": name}]}


@pytest.mark.parametrize("prefix", ["", "below/", "a/b/"])
def test_foreign_objects_are_named_by_prefix_and_not_listed(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    above = {"a/x", "b", "z/y"} if prefix == "a/b/" else {"x/1"} if prefix else set()
    below = {f"{prefix}lake/1", f"{prefix}lake/2", f"{prefix}file", f"{prefix}runs/2024/1"}
    ours = f"{prefix}runs/users/{RUN}/dead-letters.jsonl"
    listed = Listed(*above, *below, ours)
    monkeypatch.setattr(buckets, "client", lambda connection, service: listed)
    own = replace(OWN, prefix=prefix)
    named = set(buckets.outside(HERE, own))
    expected = {f"{prefix}lake/", f"{prefix}file", f"{prefix}runs/2024/1"}
    expected |= {name if name in ("a/x", "b") else f"{name.partition('/')[0]}/" for name in above}
    assert named == expected and not any("lake/" in name for name in listed.seen)
    assert buckets.has_objects(HERE, own) and not buckets.has_objects(HERE, replace(own, runs=frozenset()))
