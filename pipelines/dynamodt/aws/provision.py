"""What the embedded stage needs before its first command: tables and a bucket. Elsewhere deployment makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained
from dynamodt.aws.table import list_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamodt.model import Connection, KeyAttribute

_KEY_ROLES = ("HASH", "RANGE")
_WAIT = {"Delay": 1, "MaxAttempts": 60}
_MADE_MEANWHILE = ("ResourceInUseException", "BucketAlreadyOwnedByYou", "BucketAlreadyExists")


def create_missing_tables(connection: Connection, tables: Mapping[str, tuple[KeyAttribute, ...]]) -> tuple[str, ...]:
    """Creates those of the tables that do not exist (on-demand), waits until they are active, and returns their names.

    One call a hundred tables when all of them exist. A table that exists is left as it is, whatever its key. Raises
    ServiceError.
    """
    if not tables:
        return ()
    existing = set(list_tables(connection))
    missing = tuple(name for name in tables if name not in existing)
    for name in missing:
        with explained("CreateTable", f"table {name}"):
            _create_table(client(connection, "dynamodb"), name, tables[name])
    return missing


def create_missing_bucket(connection: Connection, bucket: str) -> bool:
    """Creates the bucket when it does not exist, and says whether it did. Raises ServiceError.

    One call when it exists.
    """
    s3 = client(connection, "s3")
    with explained("CreateBucket", f"bucket {bucket}"):
        return not _bucket_exists(s3, bucket) and _create_bucket(s3, bucket, connection.region)


def _create_table(dynamodb: Any, name: str, key: tuple[KeyAttribute, ...]) -> None:
    schema = [{"AttributeName": k.name, "KeyType": role} for k, role in zip(key, _KEY_ROLES, strict=False)]
    types = [{"AttributeName": k.name, "AttributeType": k.type} for k in key]
    try:
        dynamodb.create_table(
            TableName=name, KeySchema=schema, AttributeDefinitions=types, BillingMode="PAY_PER_REQUEST"
        )
    except ClientError as error:
        _pass_if_made_meanwhile(error)
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig=_WAIT)


def _bucket_exists(s3: Any, bucket: str) -> bool:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _create_bucket(s3: Any, bucket: str, region: str) -> bool:
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        s3.create_bucket(Bucket=bucket, **place)
    except ClientError as error:
        _pass_if_made_meanwhile(error)
        return False
    return True


def _pass_if_made_meanwhile(error: ClientError) -> None:
    """Two commands may start on an empty stage at once; the second finds what the first has just made."""
    if error.response["Error"]["Code"] not in _MADE_MEANWHILE:
        raise error
