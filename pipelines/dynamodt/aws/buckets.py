"""Buckets as a deployment finds them, and as a person wants them gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained
from dynamodt.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from dynamodt.model import Connection

STAGE_TAG = "dynamodt:stage"  # on whatever infra/template.yaml makes and leaves behind


class BucketFacts(NamedTuple):
    """The KMS key that a bucket encrypts with by default (empty: S3's own), and the stage it was made for."""

    kms_key: str
    stage: str


def bucket_facts(connection: Connection, bucket: str) -> BucketFacts | None:
    """What a deployment must know of a bucket; None when there is none of that name.

    Raises UsageError when it is somebody else's, ServiceError when S3 cannot be asked.
    """
    from botocore.exceptions import ClientError

    s3 = client(connection, "s3")
    with explained("HeadBucket", f"bucket {bucket}"):
        try:
            s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 404:
                return None
            if status in (301, 403):
                raise _not_ours(bucket, connection.region) from error
            raise
    return BucketFacts(_default_key(s3, bucket), _stage(s3, bucket))


def purge_bucket(connection: Connection, bucket: str, note: Callable[[str], None]) -> None:
    """Delete a bucket with all versions of all that is in it. Raises ServiceError; what is deleted by then is gone."""
    s3 = client(connection, "s3")
    deleted = 0
    with explained("DeleteObjects", f"bucket {bucket}"):
        for versions in _versions(s3, bucket):
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
            for refusal in answer.get("Errors", ()):
                raise ServiceError(f"{refusal.get('Code')}: {refusal.get('Message')}", where=f"bucket {bucket}")
            deleted += len(versions)
            note(f"deleted {deleted:,} objects of {bucket}")
    with explained("DeleteBucket", f"bucket {bucket}"):
        s3.delete_bucket(Bucket=bucket)


def _versions(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    """The versions and delete markers of a bucket, up to a thousand at once: as many as one request deletes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


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


def _not_ours(bucket: str, region: str) -> UsageError:
    hint = "names are unique in all of S3: choose another one for `storage`, or the account and region of this one"
    return UsageError(f"the bucket is not this account's, or not in {region}", where=f"bucket {bucket}", hint=hint)
