"""The names in an export's folder, and finding that folder below a place that a person has named."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from dynamodt.aws.export.description import Export
from dynamodt.aws.export.objects import Objects
from dynamodt.errors import Refused, UsageError

ROOT = "AWSDynamoDB"
STARTED = "_started"
SUMMARY = "manifest-summary"  # .json, .md5
FILES = "manifest-files"

_ID = re.compile(r"[0-9]{14}-[0-9a-f]{8}")
_SHOWN = 10


class ExportFolder(NamedTuple):
    """`key` is the folder's, without a slash at its end: `PREFIX/AWSDynamoDB/01234567890123-a1b2c3d4`."""

    key: str

    @property
    def id(self) -> str:
        return self.key.rpartition("/")[2]

    def file(self, name: str) -> str:
        """The key of a file of the folder."""
        return f"{self.key}/{name}"

    def data_key(self, listed: str) -> str:
        """Where a data file is that the manifest lists. Its place is taken relative to the AWSDynamoDB folder: an
        export that was copied to another bucket or prefix is read there, and nothing outside of it."""
        inside = f"/{listed}".rpartition(f"/{ROOT}/")[2].lstrip("/")
        return f"{self.key.rpartition('/')[0]}/{inside}"


def folder_of(export: Export) -> ExportFolder:
    return ExportFolder(export.manifest.rpartition("/")[0])


def split_url(url: str) -> tuple[str, str]:
    """`s3://bucket/some/prefix/` -> `("bucket", "some/prefix")`. Raises UsageError for anything else."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise UsageError("is no place in S3", where=url, hint="write s3://bucket/prefix, or the export's ARN")
    return bucket, prefix.strip("/")


def find(objects: Objects, prefix: str) -> ExportFolder:
    """The one export at or below a prefix: an export's folder, its manifest, or what they were exported to.

    Raises UsageError when there is none, or when there are several (it lists them); Refused when it is unfinished.
    """
    prefix = prefix.removesuffix(f"{SUMMARY}.json").strip("/")
    folder = ExportFolder(prefix) if _ID.fullmatch(prefix.rpartition("/")[2]) else _only_one(objects, prefix)
    check_finished(objects, folder)
    return folder


def folders(objects: Objects, prefix: str) -> list[ExportFolder]:
    """All exports below a prefix, the oldest first, finished or not."""
    root = prefix if prefix.rpartition("/")[2] == ROOT else f"{prefix}/{ROOT}".lstrip("/")
    return [ExportFolder(f"{root}/{name}") for name in objects.folders(f"{root}/") if _ID.fullmatch(name)]


def check_finished(objects: Objects, folder: ExportFolder) -> None:
    """Raises Refused while an export is being written, UsageError when there is nothing at all."""
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


def _only_one(objects: Objects, prefix: str) -> ExportFolder:
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


def written(moment: datetime) -> str:
    """As manifests write a moment: `2020-11-04T07:28:34.028Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
