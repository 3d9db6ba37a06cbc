"""A bucket whose answers end early, and the requests to it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.exceptions import ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import Stubber

from dynamodt.errors import ServiceError
from dynamodt.export.objects import PIECE, Head, S3Objects


class Flaky:
    """An S3 client whose bodies end early, this number of times; records its requests."""

    def __init__(self, broken: int) -> None:
        self.broken = broken
        self.asked: list[dict[str, str]] = []

    def get_object(self, **asked: str) -> dict[str, Any]:
        self.asked.append(asked)
        self.broken -= 1
        body = StreamingBody(BytesIO(b"who" if self.broken >= 0 else b"whole"), 5)  # 5 bytes were promised
        return {"Body": body, "ETag": "e"}


def test_an_incomplete_piece_is_read_again() -> None:
    s3 = Flaky(broken=2)
    assert list(S3Objects(s3, "b").pieces("k", Head(5, "e"))) == [b"whole"]
    range_ = f"bytes=0-{PIECE - 1}"
    assert s3.asked == [{"Bucket": "b", "Key": "k", "Range": range_, "IfMatch": "e"}] * 3


def test_a_piece_that_is_incomplete_at_every_try_is_an_error_with_its_place() -> None:
    with pytest.raises(ServiceError, match="GetObject failed") as caught:
        list(S3Objects(Flaky(broken=9), "b").pieces("k", Head(5, "e")))
    assert caught.value.where == "s3://b/k"


def test_a_time_out_within_a_piece_is_retried_too() -> None:
    class Silent(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise ReadTimeoutError(endpoint_url="https://s3")

    class Slow(Flaky):
        def get_object(self, **asked: str) -> dict[str, Any]:
            answer = super().get_object(**asked)
            return {"Body": Silent(), "ETag": "e"} if self.broken >= 0 else answer

    assert list(S3Objects(Slow(broken=1), "b").pieces("k", Head(5, "e"))) == [b"whole"]


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ({}, True),
        ({"ServerSideEncryption": "AES256"}, True),
        ({"ServerSideEncryption": "aws:kms"}, False),
        ({"ServerSideEncryption": "aws:kms:dsse"}, False),
        ({"SSECustomerAlgorithm": "AES256"}, False),
    ],
)
def test_an_etag_is_an_md5_only_without_a_kms_key(told: dict[str, str], plain: bool) -> None:
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    with Stubber(s3) as stub:
        stub.add_response("head_object", {"ContentLength": 5, "ETag": '"e"', **told}, {"Bucket": "b", "Key": "k"})
        assert S3Objects(s3, "b").head("k") == Head(5, "e", plain)


@pytest.mark.parametrize(
    ("key", "encryption"),
    [
        (None, {}),  # the bucket's default
        ("alias/ours", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/ours"}),
    ],
)
def test_written_objects_are_encrypted(key: str | None, encryption: dict[str, str]) -> None:
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    with Stubber(s3) as stub:
        stub.add_response("put_object", {"ETag": '"e"'}, {"Bucket": "b", "Key": "k", "Body": b"x", **encryption})
        assert S3Objects(s3, "b", key).write("k", b"x") == "e"


def test_a_response_of_another_server_is_an_error() -> None:
    """botocore reads a login page as a response without members."""
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    objects = S3Objects(s3, "b")
    page = {"Body": StreamingBody(BytesIO(b"<html/>"), 7)}
    for operation, answer, attempt in (
        ("put_object", {}, lambda: objects.write("k", b"x")),
        ("head_object", {}, lambda: objects.head("k")),
        ("list_objects_v2", {}, lambda: list(objects.folders("k/"))),
        ("get_object", page, lambda: objects.read("k")),
        ("get_object", page, lambda: list(objects.pieces("k", Head(7, "e")))),
    ):
        with Stubber(s3) as stub:
            stub.add_response(operation, answer)
            with pytest.raises(ServiceError, match=r"s3://b/k.*: the response has no") as caught:
                attempt()
        assert "not the service's own" in caught.value.hint
