"""The signature is botocore's own, for every kind of request that is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.dynamodb.http import Signer

URLS = [
    "https://dynamodb.eu-west-1.amazonaws.com/",
    "https://dynamodb.eu-west-1.amazonaws.com",
    "http://127.0.0.1:8000",
    "http://localhost:80/",
    "https://proxy.example.com:8443/to/dynamo db/",
]
KEYS = st.text("abcXYZ019/+=", min_size=1)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC))


def by_botocore(url: str, headers: dict[str, str], body: bytes, secret: ReadOnlyCredentials, moment: datetime) -> Any:
    request = AWSRequest("POST", url, data=body, headers=headers)
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    signer = SigV4Auth(secret, "dynamodb", "eu-west-1")
    if secret.token:
        request.headers["X-Amz-Security-Token"] = secret.token
    request.headers["X-Amz-Date"] = request.context["timestamp"]
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return request.headers["Authorization"]


@given(url=st.sampled_from(URLS), body=st.binary(), key=KEYS, token=st.none() | KEYS, moment=MOMENTS)
def test_the_signature_is_botocores(url: str, body: bytes, key: str, token: str | None, moment: datetime) -> None:
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.Scan"}
    secret = ReadOnlyCredentials("AKIDEXAMPLE", key, token)
    signed = Signer(url, "dynamodb", "eu-west-1", lambda: moment).signed(headers, body, secret)
    assert signed["Authorization"] == by_botocore(url, headers, body, secret, moment)


@pytest.mark.parametrize("change", ["day", "key"])
def test_a_cached_signing_key_is_used_only_for_its_day_and_credentials(change: str) -> None:
    moment, key = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), "one"
    signer = Signer(URLS[0], "dynamodb", "eu-west-1", lambda: moment)
    signer.signed({}, b"", ReadOnlyCredentials("AKID", key, None))
    moment, key = (moment + timedelta(seconds=1), key) if change == "day" else (moment, "two")
    secret = ReadOnlyCredentials("AKID", key, None)
    assert signer.signed({}, b"", secret)["Authorization"] == by_botocore(URLS[0], {}, b"", secret, moment)
