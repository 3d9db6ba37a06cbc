"""Keys of AWS KMS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained
from dynamodt.aws.tags import BUCKET_TAG, STAGE_TAG

if TYPE_CHECKING:
    from dynamodt.model import Connection

_LONGEST_WAIT_DAYS = 30
_UNREADABLE = ("AccessDeniedException", "NotFoundException")


class KeyFacts(NamedTuple):
    """A key: its ARN, KMS's own word for its state (Enabled, PendingDeletion ...), and the stage and the bucket that it
    was made for; empty where it does not say so, or its tags may not be read."""

    arn: str
    state: str
    stage: str
    bucket: str


def key_arn(connection: Connection, key: str) -> str:
    """The ARN of a key that is named by an alias, an id or an ARN: the only name that a policy knows it by.

    Raises ServiceError when there is none, or it may not be looked at.
    """
    with explained("DescribeKey", f"key {key}"):
        found = client(connection, "kms").describe_key(KeyId=key)
    return str(found["KeyMetadata"]["Arn"])


def key_facts(connection: Connection, key: str) -> KeyFacts | None:
    """What a removal must know of a key; None when there is none, or AWS manages it. Of one that may not be looked at
    the name is all that is known. Raises ServiceError when KMS cannot be asked."""
    from botocore.exceptions import ClientError

    kms = client(connection, "kms")
    with explained("DescribeKey", f"key {key}"):
        try:
            found = kms.describe_key(KeyId=key)["KeyMetadata"]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNREADABLE:
                raise
            return KeyFacts(key, "", "", "") if error.response["Error"]["Code"] == _UNREADABLE[0] else None
    if found["KeyManager"] != "CUSTOMER":
        return None
    tags = _tags(kms, found["Arn"])
    return KeyFacts(found["Arn"], found["KeyState"], tags.get(STAGE_TAG, ""), tags.get(BUCKET_TAG, ""))


def keys_made_for(connection: Connection, stage: str, bucket: str) -> list[KeyFacts]:
    """Every key of the account and region whose tags name this stage and this bucket. Raises ServiceError."""
    kms = client(connection, "kms")
    with explained("ListKeys", f"region {connection.region}"):
        arns = [one["KeyArn"] for page in kms.get_paginator("list_keys").paginate() for one in page["Keys"]]
    named = [arn for arn in arns if _is_for(_tags(kms, arn), stage, bucket)]
    return [facts for arn in named if (facts := key_facts(connection, arn)) is not None]


def schedule_deletion(connection: Connection, key: str) -> int:
    """Let KMS delete a key, with all that it has encrypted, after so many days. Until then it can be called off."""
    with explained("ScheduleKeyDeletion", f"key {key}"):
        client(connection, "kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=_LONGEST_WAIT_DAYS)
    return _LONGEST_WAIT_DAYS


def _is_for(tags: dict[str, str], stage: str, bucket: str) -> bool:
    return tags.get(STAGE_TAG) == stage and tags.get(BUCKET_TAG) == bucket


def _tags(kms: Any, arn: str) -> dict[str, str]:
    from botocore.exceptions import ClientError

    with explained("ListResourceTags", f"key {arn}"):
        try:
            found = kms.list_resource_tags(KeyId=arn)["Tags"]
        except ClientError as error:
            if error.response["Error"]["Code"] not in _UNREADABLE:
                raise
            return {}  # another account's, or AWS's own: whose it is cannot be proved
    return {tag["TagKey"]: tag["TagValue"] for tag in found}
