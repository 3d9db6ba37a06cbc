"""Buckets as a deployment finds them, and as a person wants them gone.

Keys of AWS KMS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.dynamodb.clients import STAGE_TAG, account_id, client, explained
from dynamodt.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from typing import TYPE_CHECKING

from dynamodt.dynamodb.clients import BUCKET_TAG

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection


_REFUSED = "the bucket is another account's, in another region, or s3:ListBucket is not granted"
_LAST = chr(0x10FFFF)  # after every other character of a name


class BucketFacts(NamedTuple):
    """The KMS key that a bucket encrypts with by default (empty: S3's own), and the stage it was made for."""

    kms_key: str
    stage: str


def bucket_facts(connection: Connection, bucket: str) -> BucketFacts | None:
    """What a deployment must know of a bucket; None when there is none of that name.

    Raises UsageError when it is of another account or region, ServiceError when S3 cannot be asked.
    """
    from botocore.exceptions import ClientError

    s3 = client(connection, "s3")
    account = account_id(connection)
    with explained("HeadBucket", f"bucket {bucket}"):
        try:
            found = s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                return None
            if status in (301, 403):
                raise _not_ours(bucket, f"{_REFUSED} (account {account}, region {connection.region})") from error
            raise
    region = found.get("BucketRegion") or connection.region
    if region != connection.region:  # S3 sends a client on to where the bucket is
        raise _not_ours(bucket, f"the bucket is not in {connection.region}, but in {region}")
    return BucketFacts(_default_key(s3, bucket), _stage(s3, bucket))


def outside(connection: Connection, bucket: str, prefix: str) -> str:
    """The name of an object, or of an upload under way, that does not begin with the prefix; empty when there is none.

    Versions and delete markers of what was deleted count, too. Raises ServiceError.
    """
    s3 = client(connection, "s3")
    with explained("ListObjectVersions", f"bucket {bucket}"):
        ends = [s3.list_object_versions(Bucket=bucket, MaxKeys=1, KeyMarker=marker) for marker in ("", prefix + _LAST)]
    names = [key for key, _ in _uploads(s3, bucket, "")]
    names = [one["Key"] for end in ends for one in (*end.get("Versions", ()), *end.get("DeleteMarkers", ()))] + names
    return next((name for name in names if not name.startswith(prefix)), "")


def folders(connection: Connection, bucket: str, prefix: str) -> set[str]:
    """The names between the prefix and the next slash. Raises ServiceError."""
    pages = client(connection, "s3").get_paginator("list_objects_v2")
    with explained("ListObjectsV2", f"s3://{bucket}/{prefix}"):
        found = [one for page in pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/") for one in _common(page)]
    return {name.removeprefix(prefix).rstrip("/") for name in found}


def _common(page: dict[str, Any]) -> list[str]:
    return [one["Prefix"] for one in page.get("CommonPrefixes", ())]


def purge_bucket(connection: Connection, bucket: str, note: Callable[[str], None]) -> None:
    """Delete a bucket with all versions of all that is in it. Raises ServiceError; what is deleted by then is gone."""
    delete_objects(connection, bucket, "", note)
    delete_bucket(connection, bucket)


def delete_objects(connection: Connection, bucket: str, prefix: str, note: Callable[[str], None]) -> None:
    """Delete all versions of all objects whose names begin with the prefix, and the parts of uploads under way there,
    which S3 stores and charges for. Raises ServiceError, as above."""
    s3 = client(connection, "s3")
    owner = account_id(connection)
    for key, upload in _uploads(s3, bucket, prefix):
        _abort(s3, bucket, key, upload, owner)
    deleted = 0
    with explained("DeleteObjects", f"bucket {bucket}"):
        for versions in _versions(s3, bucket, prefix):
            answer = s3.delete_objects(
                Bucket=bucket, Delete={"Objects": versions, "Quiet": True}, ExpectedBucketOwner=owner
            )
            for refusal in answer.get("Errors", ()):
                raise ServiceError(f"{refusal.get('Code')}: {refusal.get('Message')}", where=f"bucket {bucket}")
            deleted += len(versions)
            note(f"deleted {deleted:,} objects of {bucket}")


def delete_bucket(connection: Connection, bucket: str) -> None:
    """Delete a bucket, which S3 does only where nothing is in it. Raises ServiceError."""
    owner = account_id(connection)
    with explained("DeleteBucket", f"bucket {bucket}"):
        client(connection, "s3").delete_bucket(Bucket=bucket, ExpectedBucketOwner=owner)


def _versions(s3: Any, bucket: str, prefix: str) -> Iterator[list[dict[str, str]]]:
    """The versions and delete markers of a bucket, up to a thousand at once: as many as one request deletes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def _uploads(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """The uploads under way below the prefix: the object's name, and the upload's id."""
    with explained("ListMultipartUploads", f"bucket {bucket}"):
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            yield from ((one["Key"], one["UploadId"]) for one in page.get("Uploads", ()))


def _abort(s3: Any, bucket: str, key: str, upload: str, owner: str) -> None:
    """End an upload; one that has ended meanwhile is an object, or gone."""
    with explained("AbortMultipartUpload", f"s3://{bucket}/{key}"), suppress(s3.exceptions.NoSuchUpload):
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, ExpectedBucketOwner=owner)


def _default_key(s3: Any, bucket: str) -> str:
    rules = _absent_is_none(
        lambda: s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"],
        "GetBucketEncryption",
        bucket,
    )
    defaults = (rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules or ())
    return next((str(one["KMSMasterKeyID"]) for one in defaults if one.get("KMSMasterKeyID")), "")


def _stage(s3: Any, bucket: str) -> str:
    tags = _absent_is_none(lambda: s3.get_bucket_tagging(Bucket=bucket)["TagSet"], "GetBucketTagging", bucket)
    return next((str(tag["Value"]) for tag in tags or () if tag["Key"] == STAGE_TAG), "")


def _absent_is_none(ask: Callable[[], Any], operation: str, bucket: str) -> Any:
    """The answer; None where S3 makes an error of "there is nothing set"."""
    from botocore.exceptions import ClientError

    with explained(operation, f"bucket {bucket}"):
        try:
            return ask()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise


def _not_ours(bucket: str, what: str) -> UsageError:
    hint = "names are unique in all of S3: choose another one for `storage`, or the account and region of this one"
    return UsageError(what, where=f"bucket {bucket}", hint=hint)


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
