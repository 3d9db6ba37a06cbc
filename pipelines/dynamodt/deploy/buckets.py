"""The S3 bucket and the KMS key of a deployment: their facts, and their deletion; and permissions, by IAM's simulator.
The bucket belongs to the stage's own account: `client` names that account in each request.

Every function raises ServiceError when AWS refuses a call or cannot be reached. A deletion that fails has deleted some
of the objects.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from dynamodt.dynamodb.clients import BUCKET_TAG, STAGE_TAG, account_id, client, explained
from dynamodt.dynamodb.network import Tolerated, is_denied, refusal
from dynamodt.errors import DynamodtError, ServiceError, UsageError
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import FILES, ROOT, ExportFolder, export_of_file
from dynamodt.model.tables import Connection
from dynamodt.state.object_keys import table_and_run, table_of

ASSETS = "assets/"
_ASSET = re.compile(rf"{ASSETS}[0-9a-f]{{64}}/[^/]+")
_ROOTS = ("runs/", "prepared/", "scripts/")  # of tables' objects
_SHARED = f"{ROOT}/data/"  # of all incremental exports
_LONGEST_WAIT_DAYS = 30
_ABSENT = "NotFoundException"  # of KMS


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
            if refusal(error).status == 404:
                return None
            if refusal(error).status in (301, 403):
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
    hint = (
        "bucket names are unique in all of S3: choose another `storage`, or the account and region of this bucket; or "
        "grant s3:ListBucket on the whole bucket, without a condition on s3:prefix, if it is the stage's"
    )
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
    with explained(operation, f"bucket {bucket}"), Tolerated(404):
        return ask(Bucket=bucket)
    return {}


@dataclass(frozen=True, slots=True)
class OwnObjects:
    """A stage's own objects in a bucket, known by their names: its prefix, its tables, and the runs and exports in its
    state table.

    `tables` are those with a folder here, `runs` those of the state table, `exports` the ids of the exports that they
    have requested, `shared` the names of data files of incremental exports.
    """

    bucket: str
    prefix: str
    tables: frozenset[str] = frozenset()
    runs: frozenset[str] = frozenset()
    exports: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    def __contains__(self, key: str) -> bool:
        if not key.startswith(self.prefix):
            return False
        name = key.removeprefix(self.prefix)
        if (found := table_and_run(name)) is not None:
            table, run = found
            return table in self.tables and (not run or run in self.runs)
        return _ASSET.fullmatch(name) is not None or key in self.shared or export_of_file(name) in self.exports

    @property
    def roots(self) -> tuple[str, ...]:
        """The prefixes of all these names."""
        return tuple(f"{self.prefix}{root}" for root in (*_ROOTS, ASSETS, f"{ROOT}/"))


def outside(connection: Connection, own: OwnObjects) -> Iterator[str]:
    """The names in the bucket that are not the stage's own: objects, unfinished uploads, and prefixes as a whole if
    they cannot contain one of its own objects. Old versions and delete markers count."""
    s3 = client(connection, "s3")
    parts = own.prefix.split("/")[:-1]
    above = ["".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts) + 1)]
    entered = {*above, *own.roots}
    with explained("ListObjectVersions", f"bucket {own.bucket}"):
        for level in above:
            names = _names(s3, own.bucket, level, Delimiter="/")
            yield from (name for name in names if name not in own and name not in entered)
        for root in own.roots:
            yield from (name for name in _names(s3, own.bucket, root) if name not in own)
    yield from (key for key, _ in _uploads(s3, own.bucket, "") if key not in own)


def _names(s3: Any, bucket: str, prefix: str, **more: str) -> Iterator[str]:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix, **more):
        yield from (one["Key"] for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())))
        yield from (one["Prefix"] for one in page.get("CommonPrefixes", ()))


def tables_with_files(connection: Connection, bucket: str, prefix: str, known: Collection[str]) -> set[str]:
    """The tables, other than the known ones, of which runs or `prepare` have stored objects below the prefix."""
    objects, found = S3Objects(client(connection, "s3"), bucket), set()
    for root in (f"{prefix}{kind}" for kind in _ROOTS):
        for folder in objects.folders(root):
            names = () if table_of(folder) in known else objects.names(f"{root}{folder}/")
            if any(table_and_run(name.removeprefix(prefix)) for name in names):
                found.add(table_of(folder))
    return found


def shared_files(connection: Connection, own: OwnObjects) -> frozenset[str]:
    """The data files that the manifests of the stage's own exports list in the folder which all incremental exports
    share. A manifest that cannot be read lists none."""
    objects = S3Objects(client(connection, "s3"), own.bucket)
    if next(objects.names(f"{own.prefix}{_SHARED}"), None) is None:
        return frozenset()
    folders = (ExportFolder(f"{own.prefix}{ROOT}/{export}") for export in own.exports)
    return frozenset(key for folder in folders for key in _listed(objects, folder))


def _listed(objects: S3Objects, folder: ExportFolder) -> list[str]:
    try:
        lines = (objects.read(folder.file(f"{FILES}.json")) or b"").splitlines()
        return [folder.data_key(json.loads(line)["dataFileS3Key"]) for line in lines]
    except (DynamodtError, ValueError, KeyError, TypeError):
        return []


def has_objects(connection: Connection, own: OwnObjects) -> bool:
    """Whether the bucket holds any of the stage's own objects, or of their unfinished uploads."""
    s3 = client(connection, "s3")
    with explained("ListObjectVersions", f"bucket {own.bucket}"):
        if any(name in own for root in own.roots for name in _names(s3, own.bucket, root)):
            return True
    return any(key in own for key, _ in _uploads(s3, own.bucket, own.prefix))


def delete_objects(connection: Connection, own: OwnObjects, notify: Callable[[str], None]) -> None:
    """Deletes all versions of the stage's own objects, and the parts of their unfinished uploads, which S3 stores and
    charges for."""
    s3 = client(connection, "s3")
    for key, upload in _uploads(s3, own.bucket, own.prefix):
        if key in own:
            ended = suppress(s3.exceptions.NoSuchUpload)  # since the listing
            with explained("AbortMultipartUpload", f"s3://{own.bucket}/{key}"), ended:
                s3.abort_multipart_upload(Bucket=own.bucket, Key=key, UploadId=upload)
    deleted = 0
    roots = (f"{own.prefix}{_SHARED}", *own.roots)  # data files before the manifests that list them
    with explained("DeleteObjects", f"bucket {own.bucket}"):
        for versions in (page for root in roots for page in _versions(s3, own, root)):
            answer = s3.delete_objects(Bucket=own.bucket, Delete={"Objects": versions, "Quiet": True})
            for refusal in answer.get("Errors", ()):
                raise _not_deleted(own.bucket, refusal)
            deleted += len(versions)
            notify(f"deleted {deleted:,} objects of {own.bucket}")


def _not_deleted(bucket: str, refusal: dict[str, str]) -> ServiceError:
    hint = "an object under a retention or a legal hold stays until that has ended; then run the same command again"
    where = f"s3://{bucket}/{refusal.get('Key')}, version {refusal.get('VersionId')}"
    return ServiceError(f"{refusal.get('Code')}: {refusal.get('Message')}", where=where, hint=hint)


def delete_bucket(connection: Connection, bucket: str) -> None:
    """Deletes a bucket, which S3 allows only if it is empty."""
    with explained("DeleteBucket", f"bucket {bucket}"):
        client(connection, "s3").delete_bucket(Bucket=bucket)


def _versions(s3: Any, own: OwnObjects, prefix: str) -> Iterator[list[dict[str, str]]]:
    """The versions and delete markers of own objects, a page of at most a thousand at a time, as one request takes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=own.bucket, Prefix=prefix):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        if ours := [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found if one["Key"] in own]:
            yield ours


def _uploads(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
    """The unfinished uploads below the prefix: the object's name and the upload's id."""
    with explained("ListMultipartUploads", f"bucket {bucket}"):
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
            yield from ((one["Key"], one["UploadId"]) for one in page.get("Uploads", ()))


def may_read(connection: Connection, role: str, bucket: str, prefix: str) -> bool | None:
    """Whether the policies of a role let it list and read the objects below a prefix, by IAM's simulator; None if the
    caller lacks iam:SimulatePrincipalPolicy. The policies of the bucket and of its key are left out."""
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


def not_allowed(connection: Connection, actions: Sequence[str], resources: Sequence[str]) -> str | None:
    """A sentence with the actions that the caller's policies do not allow, by IAM's simulator; empty if all are
    allowed, None if the simulator cannot be called. Policies of resources and of an organisation may deny more."""
    if not connection.is_aws or _is_iam_silent(connection):
        return None
    try:
        caller = client(connection, "sts").get_caller_identity()["Arn"]
        results = client(connection, "iam").simulate_principal_policy(
            PolicySourceArn=_principal(connection, caller), ActionNames=list(actions), ResourceArns=list(resources)
        )["EvaluationResults"]
    except (ClientError, BotoCoreError):
        return None
    denied = [one["EvalActionName"] for one in results if one["EvalDecision"] != "allowed"]
    return f"not allowed: {', '.join(denied)}" if denied else ""


@lru_cache(maxsize=8)
def _is_iam_silent(connection: Connection) -> bool:
    """Whether IAM is out of reach, as without internet access: tried once, since each try takes seconds."""
    try:
        client(connection, "iam", attempts=2, seconds=5).get_account_summary()
    except (ClientError, BotoCoreError) as error:
        return isinstance(error, BotoCoreError)
    return False


def _principal(connection: Connection, caller: str) -> str:
    """The ARN of the user or role. That of an assumed role lacks the role's path."""
    if ":assumed-role/" not in caller:
        return caller
    role = caller.split("/")[1]
    return str(client(connection, "iam").get_role(RoleName=role)["Role"]["Arn"])


# ---------------------------------------------------------------- keys


class KeyFacts(NamedTuple):
    """A key: its ARN, its state as KMS names it (Enabled, PendingDeletion ...), and the stage and the bucket that it
    was created for; empty if it has no such tag. `denied`: the caller may not read its state, or its tags."""

    arn: str
    state: str
    stage: str
    bucket: str
    denied: bool = False


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
            if is_denied(error):
                return KeyFacts(key, "", "", "", denied=True)
            if refusal(error).code == _ABSENT:
                return None
            raise
    if found["KeyManager"] != "CUSTOMER":
        return None
    tags = _tags(kms, found["Arn"])
    stage, bucket = ((tags or {}).get(tag, "") for tag in (STAGE_TAG, BUCKET_TAG))
    return KeyFacts(found["Arn"], found["KeyState"], stage, bucket, denied=tags is None)


def keys_made_for(connection: Connection, stage: str, bucket: str) -> list[KeyFacts]:
    """Every key of the account and region whose tags name this stage and this bucket."""
    kms = client(connection, "kms")
    with explained("ListKeys", f"region {connection.region}"):
        arns = [one["KeyArn"] for page in kms.get_paginator("list_keys").paginate() for one in page["Keys"]]
    wanted = {STAGE_TAG: stage, BUCKET_TAG: bucket}.items()
    named = [arn for arn in arns if wanted <= (_tags(kms, arn) or {}).items()]
    return [facts for arn in named if (facts := key_facts(connection, arn)) is not None]


def schedule_deletion(connection: Connection, key: str) -> int:
    """Schedules the deletion of a key, which makes all data encrypted with it unreadable; returns the days until then,
    in which it can be canceled."""
    with explained("ScheduleKeyDeletion", f"key {key}"):
        client(connection, "kms").schedule_key_deletion(KeyId=key, PendingWindowInDays=_LONGEST_WAIT_DAYS)
    return _LONGEST_WAIT_DAYS


def _tags(kms: Any, arn: str) -> dict[str, str] | None:
    """The tags of a key; None if they cannot be read, as those of a key of AWS or of another account."""
    with explained("ListResourceTags", f"key {arn}"), Tolerated("AccessDeniedException", _ABSENT):
        return {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=arn)["Tags"]}
    return None
