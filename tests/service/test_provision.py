"""Tables and buckets are made where they are missing, and left alone where they are not."""

from __future__ import annotations

from uuid import uuid4

import pytest

from dynamodt.dynamodb.clients import client
from dynamodt.errors import ServiceError
from dynamodt.local.stage import create_missing_bucket, create_missing_tables
from dynamodt.model.tables import Connection, KeyAttribute
from tests.emulators import Endpoint
from tests.service.conftest import MakeTable

KEY = (KeyAttribute("pk", "S"), KeyAttribute("sk", "N"))


def test_only_missing_tables_are_created(endpoint: Endpoint, make_table: MakeTable) -> None:
    there, missing = make_table(id="B"), f"test_{uuid4().hex[:12]}"
    assert create_missing_tables(endpoint.connection, {there: KEY, missing: KEY}) == (missing,)
    assert create_missing_tables(endpoint.connection, {there: KEY, missing: KEY}) == ()
    keys = {name: key_names(endpoint, name) for name in (there, missing)}
    endpoint.client.delete_table(TableName=missing)
    assert keys == {there: ["id"], missing: ["pk", "sk"]}


def key_names(endpoint: Endpoint, name: str) -> list[str]:
    schema = endpoint.client.describe_table(TableName=name)["Table"]["KeySchema"]
    return [element["AttributeName"] for element in schema]


def test_a_bucket_is_created_once(ministack: Endpoint) -> None:
    bucket = f"test-{uuid4().hex[:12]}"
    assert create_missing_bucket(ministack.connection, bucket)
    assert not create_missing_bucket(ministack.connection, bucket)
    client(ministack.connection, "s3").head_bucket(Bucket=bucket)


def test_an_unreachable_endpoint_is_reported() -> None:
    connection = Connection("us-east-1", endpoint_url="http://127.0.0.1:9", access_key="local", secret_key="local")
    with pytest.raises(ServiceError, match="refuses connections"):
        create_missing_tables(connection, {"t": KEY})
