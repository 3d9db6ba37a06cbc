"""Exports, their folders in a bucket, and the calls that request and await one.

`Exports` has two implementations: AWS's API here, and `stand_in` for an emulator.

From the API's reference (ExportTableToPointInTime, IncrementalExportSpecification, ListExports): the table needs
point-in-time recovery; a client token makes the request idempotent for 8 hours after the first one has completed, and
with other parameters it is an ExportConflictException; an incremental export spans 15 minutes to 24 hours, its start
included, its end excluded; moments are whole seconds; DynamoDB lists exports for 90 days.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

from dynamodt.dynamodb.clients import account_id, client, explained
from dynamodt.dynamodb.table import turn_on_recovery
from dynamodt.errors import Refused, RunFailed, UsageError
from dynamodt.model.tables import Connection, StorageSpec, TableSpec

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from dynamodt.export.objects import S3Objects


Kind: TypeAlias = Literal["full", "incremental"]
KINDS: dict[str, Kind] = {"FULL_EXPORT": "full", "INCREMENTAL_EXPORT": "incremental"}

COMPLETED = "COMPLETED"
FAILED = "FAILED"
IN_PROGRESS = "IN_PROGRESS"


@dataclass(frozen=True, slots=True)
class Export:
    """An export and its state. Moments have a time zone.

    `items` and `billed_bytes` are 0 until it is completed. A full one shows the table `at` a moment, an incremental one
    what changed from `since` (included) to `until` (excluded).
    """

    arn: str
    status: str  # IN_PROGRESS, COMPLETED or FAILED
    table_arn: str
    kind: Kind
    bucket: str
    owner: str  # the account that owns the bucket; empty: unknown
    manifest: str  # the key of manifest-summary.json, which is written at the end
    at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    items: int = 0
    billed_bytes: int = 0
    failure_code: str = ""
    failure_message: str = ""

    @property
    def id(self) -> str:
        """`01234567890123-a1b2c3d4`: the folder's name."""
        return self.arn.rpartition("/")[2]

    @property
    def table(self) -> str:
        """The table's name."""
        return table_of(self.table_arn)


def table_of(arn: str) -> str:
    """The name in a table's ARN: `arn:aws:dynamodb:eu-west-1:123456789012:table/users` -> `users`."""
    return arn.partition(":table/")[2].partition("/")[0]


def export_of(description: dict[str, Any]) -> Export:
    """An ExportDescription (of DescribeExport, of ExportTableToPointInTime) as a value."""
    span = description.get("IncrementalExportSpecification", {})
    return Export(
        arn=description["ExportArn"],
        status=description["ExportStatus"],
        table_arn=description["TableArn"],
        kind=KINDS[description.get("ExportType", "FULL_EXPORT")],
        bucket=description["S3Bucket"],
        owner=description.get("S3BucketOwner") or description["ExportArn"].split(":")[4],  # its own, if not named
        manifest=_manifest(description),
        at=description.get("ExportTime"),
        since=span.get("ExportFromTime"),
        until=span.get("ExportToTime"),
        items=description.get("ItemCount", 0),
        billed_bytes=description.get("BilledSizeBytes", 0),
        failure_code=description.get("FailureCode", ""),
        failure_message=description.get("FailureMessage", ""),
    )


def _manifest(description: dict[str, Any]) -> str:
    """The manifest's key: the service's, which it reports at the end; before, where it will be."""
    prefix = (description.get("S3Prefix") or "").strip("/")
    reported = description.get("ExportManifest") or ""
    if reported and reported.startswith(prefix):
        return str(reported)
    return "/".join(filter(None, (prefix, ROOT, description["ExportArn"].rpartition("/")[2], f"{SUMMARY}.json")))


ROOT = "AWSDynamoDB"
STARTED = "_started"
SUMMARY = "manifest-summary"  # .json, .md5
FILES = "manifest-files"

_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
_FILE = re.compile(
    rf"{ROOT}/({_ID.pattern})/(?:{STARTED}|(?:{SUMMARY}|{FILES})\.(?:json|md5|checksum)|data/[^/]+\.json\.gz)"
)
_SHOWN = 10


class ExportFolder(NamedTuple):
    """The folder of an export. `key` has no slash at its end: `PREFIX/AWSDynamoDB/01234567890123-a1b2c3d4`."""

    key: str

    @property
    def id(self) -> str:
        return self.key.rpartition("/")[2]

    def file(self, name: str) -> str:
        """The key of a file of the folder."""
        return f"{self.key}/{name}"

    def data_key(self, listed: str) -> str:
        """The key of a data file that the manifest lists, taken relative to the AWSDynamoDB folder: an export that was
        copied to another bucket or prefix is read there, and only there."""
        inside = f"/{listed}".rpartition(f"/{ROOT}/")[2].lstrip("/")
        return f"{self.key.rpartition('/')[0]}/{inside}"


def export_of_file(name: str) -> str:
    """The id of the export that a file belongs to, by its name below the export's prefix; empty for any other name, and
    for the data of incremental exports, which share a folder."""
    return found[1] if (found := _FILE.fullmatch(name)) else ""


def folder_of(export: Export) -> ExportFolder:
    return ExportFolder(export.manifest.rpartition("/")[0])


def split_url(url: str) -> tuple[str, str]:
    """`s3://bucket/some/prefix/` -> `("bucket", "some/prefix")`. Raises UsageError for anything else."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise UsageError("is not a place in S3", where=url, hint="write s3://bucket/prefix, or the export's ARN")
    return bucket, prefix.strip("/")


def find(objects: S3Objects, prefix: str) -> ExportFolder:
    """The one export at or below a prefix: an export's folder, its manifest, or the prefix that was exported to.

    Raises UsageError without an export, or with several (the message lists them); Refused when it is unfinished.
    """
    prefix = prefix.removesuffix(f"{SUMMARY}.json").strip("/")
    folder = ExportFolder(prefix) if _ID.fullmatch(prefix.rpartition("/")[2]) else _only_one(objects, prefix)
    check_finished(objects, folder)
    return folder


def folders(objects: S3Objects, prefix: str) -> list[ExportFolder]:
    """All exports below a prefix, the oldest first, finished or not."""
    root = prefix if prefix.rpartition("/")[2] == ROOT else f"{prefix}/{ROOT}".lstrip("/")
    return [ExportFolder(f"{root}/{name}") for name in objects.folders(f"{root}/") if _ID.fullmatch(name)]


def check_finished(objects: S3Objects, folder: ExportFolder) -> None:
    """Raises Refused while an export is being written, UsageError when the folder has none."""
    if objects.head(folder.file(f"{SUMMARY}.json")) is not None:
        return
    where = objects.place(folder.key)
    if objects.head(folder.file(STARTED)) is None:
        raise UsageError("there is no export", where=where, hint="check the bucket and the prefix")
    raise Refused(
        f"the export is unfinished: it has {STARTED}, and no {SUMMARY}.json",
        where=where,
        hint="wait until DynamoDB has completed it; an export that failed never gets one: request a new one",
    )


def _only_one(objects: S3Objects, prefix: str) -> ExportFolder:
    found = folders(objects, prefix)
    where = objects.place(prefix)
    if not found:
        hint = f"name the prefix that was exported to, which holds {ROOT}/, or a folder in it"
        raise UsageError("there is no export here", where=where, hint=hint)
    if len(found) > 1:
        more = f" and {len(found) - _SHOWN} older" if len(found) > _SHOWN else ""
        names = ", ".join(objects.place(folder.key) for folder in found[: -_SHOWN - 1 : -1])
        raise UsageError(f"holds {len(found)} exports: {names}{more}", where=where, hint="name one of them")
    return found[0]


def export_id(millis: int, suffix: str) -> str:
    """An export's id as DynamoDB makes it: milliseconds since 1970 in 14 digits, and 8 hexadecimal ones."""
    return f"{millis:014d}-{suffix}"


def moment_text(moment: datetime) -> str:
    """A moment in the form of manifests: `2020-11-04T07:28:34.028Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


SHORTEST = timedelta(minutes=15)
LONGEST = timedelta(hours=24)

_ARN = re.compile(r"arn:[a-z-]+:dynamodb:([a-z0-9-]+):[0-9]*:table/[A-Za-z0-9_.-]+/export/[0-9a-z-]+")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A table to export.

    Without `since`: the whole table, as it was `at` a moment (None: now). With it: what changed from `since` to
    `until` (None: now). DynamoDB is sent whole seconds: a fraction is cut off. The same `token` always means the
    same export; with other moments it is refused.
    """

    table: TableSpec
    token: str
    at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None


class Exports(Protocol):
    """Exports of the tables of one account and region, to one prefix of a bucket."""

    def request(self, request: ExportRequest) -> Export:
        """Requests an export, or finds the one of this token. Raises Refused when the table or the moment does not
        allow it, UsageError for an invalid place or span, ServiceError otherwise."""

    def describe(self, arn: str) -> Export:
        """An export's state. Raises UsageError when no export has this ARN, or DynamoDB has forgotten it."""


def aws_exports(connection: Connection, storage: StorageSpec) -> Exports:
    """Exports by DynamoDB, to the bucket of an account by name. Raises UsageError when the storage is not in S3."""
    owner = storage.owner or ("" if connection.endpoint() else account_id(connection))
    return AwsExports(client(connection, "dynamodb"), connection, replace(storage, owner=owner))


class AwsExports:
    """Exports by DynamoDB, encrypted with the storage's KMS key, or by the bucket's default where it names none."""

    def __init__(self, dynamodb: Any, connection: Connection, storage: StorageSpec) -> None:
        self._dynamodb = dynamodb
        self._connection = connection
        self._place = _place(storage)

    def request(self, request: ExportRequest) -> Export:
        from botocore.exceptions import ClientError

        _check_span(request)
        name = request.table.name
        arn = identity(self._dynamodb, name).arn
        body = {"TableArn": arn, "ClientToken": request.token, **self._place, **_time(request)}
        with explained("ExportTableToPointInTime", f"table {name}"):
            try:
                return export_of(self._dynamodb.export_table_to_point_in_time(**body)["ExportDescription"])
            except ClientError as error:
                self._raise_if_refused(error, name)
                raise

    def describe(self, arn: str) -> Export:
        check_arn(arn, self._connection.region)
        return describe_export(self._dynamodb, arn)

    def _raise_if_refused(self, error: ClientError, table: str) -> None:
        """Raises Refused for errors with a remedy that `explained` does not cover."""
        detail = error.response["Error"]
        hint = {
            "PointInTimeRecoveryUnavailableException": f"turn it on: {turn_on_recovery(self._connection, table)}",
            "InvalidExportTimeException": "choose a moment within the table's point-in-time recovery: "
            + self._connection.aws_command("dynamodb describe-continuous-backups", "--table-name", table),
            "ExportConflictException": "this token belongs to another export, or another one writes there: wait for "
            "it, or request with another token",
            "LimitExceededException": "too many exports at once: wait until some have completed",
        }.get(detail["Code"])
        if hint is not None:
            raise Refused(detail["Message"] or detail["Code"], where=f"table {table}", hint=hint) from error


def describe_export(dynamodb: Any, arn: str) -> Export:
    """An export's state. Raises UsageError when no export has this ARN, or DynamoDB has forgotten it."""
    with explained("DescribeExport", arn):
        try:
            return export_of(dynamodb.describe_export(ExportArn=arn)["ExportDescription"])
        except dynamodb.exceptions.ExportNotFoundException as error:
            raise not_found(arn) from error


class TableIdentity(NamedTuple):
    """The values that distinguish a table from one of the same name elsewhere (ARN) or earlier (id, moment of
    creation)."""

    arn: str
    id: str
    created: datetime | None = None


def identity(dynamodb: Any, table: str) -> TableIdentity:
    """A table's identity. Raises ServiceError when it does not exist."""
    with explained("DescribeTable", f"table {table}"):
        found = dynamodb.describe_table(TableName=table)["Table"]
    return TableIdentity(found["TableArn"], found.get("TableId", ""), found.get("CreationDateTime"))


def service_time(dynamodb: Any, table: str) -> datetime:
    """The current second by DynamoDB's clock: a local clock that is behind would leave the last writes out of an
    export."""
    with explained("DescribeTable", f"table {table}"):
        date = dynamodb.describe_table(TableName=table)["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else whole_second(datetime.now(UTC))


def poll_until_completed(
    exports: Exports, arn: str, sleep: Callable[[float], None], every: float = 20.0
) -> Iterator[Export]:
    """The states of an export, the last one completed, polled every `every` seconds without a time-out. Raises
    RunFailed with AWS's reason when the export has failed, and the errors of `describe`.
    """
    while True:
        export = exports.describe(arn)
        if export.status == FAILED:
            raise failure(export)
        yield export
        if export.status == COMPLETED:
            return
        sleep(every)


def failure(export: Export) -> RunFailed:
    why = ": ".join(filter(None, (export.failure_code, export.failure_message))) or "DynamoDB gives no reason"
    hint = "remove the cause, and request another export; a run does so when the same command continues it"
    return RunFailed(f"the export has failed: {why}", where=export.arn, hint=hint)


def not_found(arn: str) -> UsageError:
    what = f"the table {table_of(arn)} has no such export; DynamoDB forgets one after 90 days"
    return UsageError(what, where=arn, hint="check the ARN; an old export's files are named as s3://bucket/prefix")


def check_arn(arn: str, region: str) -> None:
    """Raises UsageError unless this is an export's ARN in the region."""
    match = _ARN.fullmatch(arn)
    if match is None:
        hint = "an export's ARN is arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/export/ID"
        raise UsageError("is not an export's ARN", where=arn, hint=hint)
    if match[1] != region:
        hint = "choose the stage of that region, or name the export's place, s3://bucket/prefix"
        raise UsageError(f"the export is of {match[1]}; the stage is of {region}", where=arn, hint=hint)


def _check_span(request: ExportRequest) -> None:
    if request.since is None:
        return
    span = (request.until or datetime.now(UTC)) - request.since
    if not SHORTEST <= span <= LONGEST:
        hint = "choose 15 minutes to 24 hours; for more, several incremental exports or a full one"
        raise UsageError(f"an incremental export cannot span {span}", where=f"table {request.table.name}", hint=hint)


def _place(storage: StorageSpec) -> dict[str, Any]:
    bucket, prefix = split_url(storage.url)
    key = storage.kms_key
    encryption = {"S3SseAlgorithm": "KMS", "S3SseKmsKeyId": key} if key else {}  # without: the bucket's default
    below = {"S3Prefix": prefix} if prefix else {}
    owner = {"S3BucketOwner": storage.owner} if storage.owner else {}
    return {"S3Bucket": bucket, **owner, **below, **encryption, "ExportFormat": "DYNAMODB_JSON"}


def _time(request: ExportRequest) -> dict[str, Any]:
    """The times of a request, at whole seconds: an incremental export cannot start at a fraction."""
    now = datetime.now(UTC)
    if request.since is None:
        return {"ExportType": "FULL_EXPORT", "ExportTime": whole_second(request.at or now)}
    since, until = whole_second(request.since), whole_second(request.until or now)
    span = {"ExportFromTime": since, "ExportToTime": until, "ExportViewType": "NEW_AND_OLD_IMAGES"}
    return {"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": span}


def whole_second(moment: datetime) -> datetime:
    """A moment without its fraction of a second."""
    return moment.replace(microsecond=0)
