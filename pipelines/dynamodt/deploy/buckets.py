"""The S3 bucket and the KMS key of a deployment: what is known of them, and their deletion. The bucket is one of the
stage's own account: `client` names that account in each request.

Every function raises ServiceError when AWS refuses a call or cannot be reached. A deletion that fails has deleted some
of the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from dynamodt.dynamodb.clients import BUCKET_TAG, STAGE_TAG, account_id, client, explained
from dynamodt.errors import ServiceError, UsageError

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection

_LAST = chr(0x10FFFF)  # sorts after every other character of a name
_LONGEST_WAIT_DAYS = 30
_DENIED, _ABSENT = "AccessDeniedException", "NotFoundException"  # KMS


# ---------------------------------------------------------------- buckets


class BucketFacts(NamedTuple):
    """The KMS key that a bucket encrypts with by default (empty: S3's own), and the stage that it was created for."""

    kms_key: str
    stage: str


def bucket_facts(connection: Connection, bucket: str) -> BucketFacts | None:
    """The facts about a bucket; None if it does not exist.

    Raises UsageError for a bucket of another account or region.
    """
    s3 = client(connection, "s3")
    with explained("HeadBucket", f"bucket {bucket}"):
        try:
            found = s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            if _status(error) == 404:
                return None
            if _status(error) in (301, 403):
                place = f"account {account_id(connection)}, region {connection.region}"
                raise _not_ours(
                    bucket, f"the bucket is in another account or region, or s3:ListBucket is not granted ({place})"
                ) from error
            raise
    region = found.get("BucketRegion") or connection.region
    if region != connection.region:  # S3 redirects a client to the bucket's region
        raise _not_ours(bucket, f"the bucket is in {region}, and the stage is in {connection.region}")
    return BucketFacts(_default_key(s3, bucket), _stage(s3, bucket))


def _not_ours(bucket: str, what: str) -> UsageError:
    hint = "bucket names are unique in all of S3: choose another `storage`, or the account and region of this bucket"
    return UsageError(what, where=f"bucket {bucket}", hint=hint)


def _default_key(s3: Any, bucket: str) -> str:
    found = _if_set(s3.get_bucket_encryption, "GetBucketEncryption", bucket)
    rules = found.get("ServerSideEncryptionConfiguration", {}).get("Rules", ())
    defaults = (rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules)
    return next((str(one["KMSMasterKeyID"]) for one in defaults if one.get("KMSMasterKeyID")), "")


def _stage(s3: Any, bucket: str) -> str:
    tags = _if_set(s3.get_bucket_tagging, "GetBucketTagging", bucket).get("TagSet", ())
    return next((str(tag["Value"]) for tag in tags if tag["Key"] == STAGE_TAG), "")


def _if_set(ask: Callable[..., dict[str, Any]], operation: str, bucket: str) -> dict[str, Any]:
    """A part of a bucket's configuration; empty if it is not set, which S3 reports as an error."""
    with explained(operation, f"bucket {bucket}"):
        try:
            return ask(Bucket=bucket)
        except ClientError as error:
            if _status(error) == 404:
                return {}
            raise


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def outside(connection: Connection, bucket: str, prefix: str) -> str:
    """The name of an object or an unfinished upload that does not begin with the prefix; empty if there is none. Old
    versions and delete markers count."""
    s3 = client(connection, "s3")
    with explained("ListObjectVersions", f"bucket {bucket}"):
        ends = [s3.list_object_versions(Bucket=bucket, MaxKeys=1, KeyMarker=marker) for marker in ("", prefix + _LAST)]
    names = [one["Key"] for end in ends for one in (*end.get("Versions", ()), *end.get("DeleteMarkers", ()))]
    names += [key for key, _ in _uploads(s3, bucket, "")]
    return next((name for name in names if not name.startswith(prefix)), "")


def folders(connection: Connection, bucket: str, prefix: str) -> set[str]:
    """The names between the prefix and the next slash."""
    pages = client(connection, "s3").get_paginator("list_objects_v2")
    with explained("ListObjectsV2", f"s3://{bucket}/{prefix}"):
        pages = list(pages.paginate(Bucket=bucket, Prefix=prefix, Delimiter="/"))
    found = (one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ()))
    return {name.removeprefix(prefix).rstrip("/") for name in found}


def delete_objects(connection: Connection, bucket: str, prefix: str, note: Callable[[str], None]) -> None:
    """Deletes all versions of all objects whose names begin with the prefix, and the parts of unfinished uploads, which
    S3 stores and charges for."""
    s3 = client(connection, "s3")
    for key, upload in _uploads(s3, bucket, prefix):
        _abort(s3, bucket, key, upload)
    deleted = 0
    with explained("DeleteObjects", f"bucket {bucket}"):
        for versions in _versions(s3, bucket, prefix):
            answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
            for refusal in answer.get("Errors", ()):
                raise ServiceError(f"{refusal.get('Code')}: {refusal.get('Message')}", where=f"bucket {bucket}")
            deleted += len(versions)
            note(f"deleted {deleted:,} objects of {bucket}")


def delete_bucket(connection: Connection, bucket: str) -> None:
    """Deletes a bucket, which S3 allows only if it is empty."""
    with explained("DeleteBucket", f"bucket {bucket}"):
        client(connection, "s3").delete_bucket(Bucket=bucket)


def _versions(s3: Any, bucket: str, prefix: str) -> Iterator[list[dict[str, str]]]:
    """The versions and delete markers of a bucket, a page of at most a thousand at a time, as one request deletes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def _uploads(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """The unfinished uploads below the prefix: the object's name and the upload's id."""
    with explained("ListMultipartUploads", f"bucket {bucket}"):
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            yield from ((one["Key"], one["UploadId"]) for one in page.get("Uploads", ()))


def _abort(s3: Any, bucket: str, key: str, upload: str) -> None:
    """Aborts an upload. One that has ended since it was listed is an object now, or is gone."""
    with explained("AbortMultipartUpload", f"s3://{bucket}/{key}"), suppress(s3.exceptions.NoSuchUpload):
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def may_read(connection: Connection, role: str, bucket: str, prefix: str) -> bool | None:
    """Whether the policies of a role let it list and read what is below a prefix, by IAM's simulator; None if the
    caller may not ask it (iam:SimulatePrincipalPolicy). The policies of the bucket and of its key are left out."""
    iam = client(connection, "iam", attempts=2, seconds=5)
    arn = f"arn:{role.split(':')[1]}:s3:::{bucket}"
    context = {"ContextKeyName": "s3:prefix", "ContextKeyValues": [f"{prefix}/"], "ContextKeyType": "string"}
    for action, resource in (("s3:ListBucket", arn), ("s3:GetObject", f"{arn}/{prefix}/manifest-summary.json")):
        asked = {"PolicySourceArn": role, "ActionNames": [action], "ResourceArns": [resource]}
        try:
            results = iam.simulate_principal_policy(**asked, ContextEntries=[context])["EvaluationResults"]
        except (BotoCoreError, ClientError):
            return None
        if any(result["EvalDecision"] != "allowed" for result in results):
            return False
    return True


# ---------------------------------------------------------------- keys


class KeyFacts(NamedTuple):
    """A key: its ARN, its state as KMS names it (Enabled, PendingDeletion ...), and the stage and the bucket that it
    was created for; empty if it has no such tag, or its tags cannot be read."""

    arn: str
    state: str
    stage: str
    bucket: str


def key_arn(connection: Connection, key: str) -> str:
    """The ARN of a key that is named by an alias, an id or an ARN. IAM policies accept only the ARN.

    Raises ServiceError if the key does not exist or cannot be read.
    """
    with explained("DescribeKey", f"key {key}"):
        found = client(connection, "kms").describe_key(KeyId=key)
    return str(found["KeyMetadata"]["Arn"])


def key_facts(connection: Connection, key: str) -> KeyFacts | None:
    """The facts about a key; None if it does not exist or is managed by AWS. If access is denied, only the name is
    known."""
    kms = client(connection, "kms")
    with explained("DescribeKey", f"key {key}"):
        try:
            found = kms.describe_key(KeyId=key)["KeyMetadata"]
        except ClientError as error:
            if _code(error) == _DENIED:
                return KeyFacts(key, "", "", "")
            if _code(error) == _ABSENT:
                return None
            raise
    if found["KeyManager"] != "CUSTOMER":
        return None
    tags = _tags(kms, found["Arn"])
    return KeyFacts(found["Arn"], found["KeyState"], tags.get(STAGE_TAG, ""), tags.get(BUCKET_TAG, ""))


def keys_made_for(connection: Connection, stage: str, bucket: str) -> list[KeyFacts]:
    """Every key of the account and region whose tags name this stage and this bucket."""
    kms = client(connection, "kms")
    with explained("ListKeys", f"region {connection.region}"):
        arns = [one["KeyArn"] for page in kms.get_paginator("list_keys").paginate() for one in page["Keys"]]
    wanted = {STAGE_TAG: stage, BUCKET_TAG: bucket}.items()
    named = [arn for arn in arns if wanted <= _tags(kms, arn).items()]
    return [facts for arn in named if (facts := key_facts(connection, arn)) is not None]


def schedule_deletion(connection: Connection, key: str) -> int:
    """Schedules the deletion of a key, and with it the loss of all that it has encrypted; returns the days until then,
    in which it can be canceled."""
    with explained("ScheduleKeyDeletion", f"key {key}"):
        client(connection, "kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=_LONGEST_WAIT_DAYS)
    return _LONGEST_WAIT_DAYS


def _tags(kms: Any, arn: str) -> dict[str, str]:
    """The tags of a key; empty for a key of AWS or of another account, whose tags cannot be read."""
    with explained("ListResourceTags", f"key {arn}"):
        try:
            found = kms.list_resource_tags(KeyId=arn)["Tags"]
        except ClientError as error:
            if _code(error) in (_DENIED, _ABSENT):
                return {}
            raise
    return {tag["TagKey"]: tag["TagValue"] for tag in found}


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])
