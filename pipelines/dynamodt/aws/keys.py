"""Keys of AWS KMS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection

_LONGEST_WAIT_DAYS = 30


def key_arn(connection: Connection, key: str) -> str:
    """The ARN of a key that is named by an alias, an id or an ARN: the only name that a policy knows it by.

    Raises ServiceError when there is none, or it may not be looked at.
    """
    with explained("DescribeKey", f"key {key}"):
        found = client(connection, "kms").describe_key(KeyId=key)
    return str(found["KeyMetadata"]["Arn"])


def schedule_deletion(connection: Connection, key: str) -> int:
    """Let KMS delete a key, with all that it has encrypted, after so many days. Until then it can be called off."""
    with explained("ScheduleKeyDeletion", f"key {key}"):
        client(connection, "kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=_LONGEST_WAIT_DAYS)
    return _LONGEST_WAIT_DAYS
