"""The two manifests of an export, verified against their checksums, each other and the table."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from dynamodt.errors import Refused, RunFailed, UsageError
from dynamodt.export.objects import Damaged, Head, S3Objects, hashed, lines
from dynamodt.export.request import (
    FILES,
    KINDS,
    SUMMARY,
    ExportFolder,
    Kind,
    TableIdentity,
    check_finished,
    read_moment,
    table_of,
)

REPLACE = "restore the file as DynamoDB wrote it, or request a new export"


class DataFile(NamedTuple):
    """One data file, as manifest-files.json lists it."""

    key: str
    items: int
    md5: bytes  # 16, of the compressed file
    etag: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of manifest-summary.json. `view` is empty for a full export."""

    folder: ExportFolder
    arn: str
    table_arn: str
    table_id: str
    kind: Kind
    items: int
    files_key: str  # of manifest-files.json
    view: str = ""
    at: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None


def read_manifest(objects: S3Objects, folder: ExportFolder, table_arn: str) -> Manifest:
    """The summary of a finished export of this table.

    Raises Refused when it is unfinished or in Ion, UsageError when it is of another table, RunFailed when it is
    damaged.
    """
    check_finished(objects, folder)
    place = objects.place(folder.file(f"{SUMMARY}.json"))
    data = objects.read(folder.file(f"{SUMMARY}.json")) or b""
    _check_md5(objects, folder, SUMMARY, hashlib.md5(data, usedforsecurity=False).digest())
    summary = _json(data, place)
    _check_table(summary, table_arn, place)
    _check_format(summary, place)
    try:
        return _manifest(folder, summary)
    except (KeyError, TypeError, ValueError) as error:
        raise RunFailed(f"the manifest is not complete: {error!r}", where=place, hint=REPLACE) from error


def check_same_table(manifest: Manifest, table: TableIdentity, place: str) -> None:
    """Raises Refused for an export of an earlier table of the same name."""
    moment = manifest.at or manifest.since
    if manifest.table_id and table.id:
        other = manifest.table_id != table.id
    else:
        other = moment is not None and table.created is not None and moment < table.created
    if other:
        since = f", created at {table.created:%Y-%m-%d %H:%M:%S} UTC" if table.created else ""
        raise Refused(
            f"is an export of a table that has been deleted; the table of this name is another one now{since}",
            where=place,
            hint="name an export of the table as it is now, or let one be requested: --export new",
        )


def data_files(objects: S3Objects, manifest: Manifest) -> tuple[DataFile, ...]:
    """The export's data files, in the manifest's order.

    Each takes about 450 bytes of memory: 45 MB for 100,000 files. Raises RunFailed when the list is missing or damaged,
    or its sum of items differs from the summary's.
    """
    head = objects.head(manifest.files_key)
    place = objects.place(manifest.files_key)
    if head is None:
        raise RunFailed(f"{FILES}.json is missing", where=place, hint=REPLACE)
    digest, files = _listed(objects, manifest, head)
    _check_md5(objects, manifest.folder, FILES, digest)
    total = sum(file.items for file in files)
    if total != manifest.items:
        what = f"lists files of {total:,} items together; {SUMMARY}.json has {manifest.items:,}"
        raise RunFailed(what, where=place, hint=REPLACE)
    return files


def _listed(objects: S3Objects, manifest: Manifest, head: Head) -> tuple[bytes, tuple[DataFile, ...]]:
    """The list, and the MD5 of its file."""
    md5 = hashlib.md5(usedforsecurity=False)
    found: list[DataFile] = []
    pieces = hashed(objects.pieces(manifest.files_key, head), md5)
    try:
        for line in lines(pieces):
            found.append(_data_file(manifest.folder, orjson.loads(line)))
    except (Damaged, KeyError, TypeError, ValueError) as error:
        what = f"line {len(found) + 1} does not list a data file: {error!r}"
        raise RunFailed(what, where=objects.place(manifest.files_key), hint=REPLACE) from error
    return md5.digest(), tuple(found)


def _data_file(folder: ExportFolder, line: dict[str, Any]) -> DataFile:
    md5 = base64.b64decode(line["md5Checksum"], validate=True)
    return DataFile(folder.data_key(line["dataFileS3Key"]), int(line["itemCount"]), md5, line["etag"])


def _manifest(folder: ExportFolder, summary: dict[str, Any]) -> Manifest:
    return Manifest(
        folder=folder,
        arn=summary["exportArn"],
        table_arn=summary["tableArn"],
        table_id=summary.get("tableId", ""),
        kind=KINDS[summary.get("exportType", "FULL_EXPORT")],  # missing in older full exports
        items=int(summary["itemCount"]),
        files_key=folder.data_key(summary["manifestFilesS3Key"]),
        view=summary.get("outputView") or "",
        at=read_moment(summary.get("exportTime")),
        since=read_moment(summary.get("exportFromTime")),
        until=read_moment(summary.get("exportToTime")),
    )


def _check_md5(objects: S3Objects, folder: ExportFolder, name: str, digest: bytes) -> None:
    place = objects.place(folder.file(f"{name}.json"))
    stored = objects.read(folder.file(f"{name}.md5")) or objects.read(folder.file(f"{name}.checksum"))
    if stored is None:
        raise RunFailed(f"its checksum {name}.md5 is missing", where=place, hint=REPLACE)
    if stored.strip() != base64.b64encode(digest):
        raise RunFailed(
            f"differs from what DynamoDB wrote: its MD5 is not that of {name}.md5", where=place, hint=REPLACE
        )


def _check_table(summary: dict[str, Any], table_arn: str, place: str) -> None:
    found = summary.get("tableArn")
    if found != table_arn:
        same = "another account or region" if table_of(str(found)) == table_of(table_arn) else "another table"
        hint = f"name an export of {table_arn}"
        raise UsageError(f"is an export of {same}: {found}", where=place, hint=hint)


def _check_format(summary: dict[str, Any], place: str) -> None:
    found = summary.get("outputFormat")
    if found != "DYNAMODB_JSON":
        what = f"the export is in the format {found}; only DYNAMODB_JSON is read"
        raise Refused(what, where=place, hint="export the table once more, as DynamoDB JSON")


def _json(data: bytes, place: str) -> dict[str, Any]:
    try:
        summary = orjson.loads(data)
    except ValueError as error:
        raise RunFailed("the manifest is not JSON", where=place, hint=REPLACE) from error
    if not isinstance(summary, dict):
        raise RunFailed("the manifest is not a JSON object", where=place, hint=REPLACE)
    return summary
