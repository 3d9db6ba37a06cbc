"""Exports of an emulator's tables, in AWS's layout (see the package): emulators write no export files themselves.

An emulator has no point in time. A full export is a strongly consistent scan of the table now; it may or may not
include writes during the scan. Nothing is billed. `request` returns when all files are written; an export that was
interrupted is written again under the same token.

An incremental export compares two scans: one of now, and its base, the newest scan that is not later than `since`. A
base is a full export to the same prefix, or the scan at the end of an earlier incremental export; each of these keeps
its scan in the layout of a full export below PREFIX/stand-in/. So incremental exports form a chain without gaps or
overlaps. An export reports the span that it covers (of any length, from the base's moment), and its end as the time of
every write.
"""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import orjson

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.reads import WholeScan
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import Refused, UsageError
from dynamodt.export.datafiles import DataReader, Manifest, data_files, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import (
    COMPLETED,
    FILES,
    IN_PROGRESS,
    ROOT,
    STARTED,
    SUMMARY,
    Export,
    ExportFolder,
    ExportRequest,
    Exports,
    TableIdentity,
    export_id,
    folders,
    identity,
    moment_text,
    not_found,
    split_url,
)
from dynamodt.model.tables import Connection, Image, StorageSpec, TableSpec
from dynamodt.script.codec import key_text, same_image
from dynamodt.script.diff import key_of

Line: TypeAlias = tuple[Image, dict[str, Any]]  # the partition key, which selects the file, and the record
Summary: TypeAlias = dict[str, Any]

_GZIP = zlib.MAX_WBITS | 16


class ExportWriter:
    """Writes the files of one export: `start`, then `write_data`, then `write_summary`, which marks it as complete."""

    def __init__(self, objects: S3Objects, folder: ExportFolder, *, files: int = 4) -> None:
        """`files`: the number of data files, one for each "partition", possibly empty, as AWS has them."""
        self._objects = objects
        self._folder = folder
        self._files = files
        self._items = 0

    def start(self) -> None:
        self._objects.write(self._folder.file(STARTED), b"")

    def write_data(self, lines: Iterable[Line], *, shared: bool = False) -> None:
        """Writes the records, and the list of their files; `shared`: into the data folder of all incremental exports.
        Keeps the compressed files in memory."""
        files = [_DataFile() for _ in range(self._files)]
        for partition, record in lines:
            files[zlib.crc32(key_text(partition).encode()) % self._files].add(record)
        listed = [self._write(number, file, shared) for number, file in enumerate(files)]
        self._items = sum(file.items for file in files)
        self._write_manifest(FILES, b"".join(orjson.dumps(entry) + b"\n" for entry in listed))

    def write_summary(self, summary: Summary) -> None:
        """Writes the summary, with the number of items and the files' list added: the export is complete."""
        known = {
            "manifestFilesS3Key": self._folder.file(f"{FILES}.json"),
            "billedSizeBytes": 0,
            "itemCount": self._items,
            "outputFormat": "DYNAMODB_JSON",
        }
        self._write_manifest(SUMMARY, orjson.dumps({**summary, **known}))

    def _write(self, number: int, file: _DataFile, shared: bool) -> dict[str, Any]:
        data = file.close()
        key = self._data_key(number, shared)
        return {
            "itemCount": file.items,
            "md5Checksum": _md5(data),
            "etag": self._objects.write(key, data),
            "dataFileS3Key": key,
        }

    def _data_key(self, number: int, shared: bool) -> str:
        root = self._folder.key.rpartition("/")[0] if shared else self._folder.key
        name = hashlib.sha256(f"{self._folder.id} {number}".encode()).digest()[:16]
        return f"{root}/data/{base64.b32encode(name).decode().strip('=').lower()}.json.gz"

    def _write_manifest(self, name: str, data: bytes) -> None:
        self._objects.write(self._folder.file(f"{name}.md5"), _md5(data).encode())
        self._objects.write(self._folder.file(f"{name}.json"), data)


class _DataFile:
    def __init__(self) -> None:
        self.items = 0
        self._gzip = zlib.compressobj(wbits=_GZIP)
        self._parts: list[bytes] = []

    def add(self, record: dict[str, Any]) -> None:
        self.items += 1
        self._parts.append(self._gzip.compress(orjson.dumps(record) + b"\n"))

    def close(self) -> bytes:
        return b"".join([*self._parts, self._gzip.flush()])


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


_KEPT = "stand-in"  # the prefix, below the exports' own, of the scans at the end of incremental exports


def stand_in_exports(connection: Connection, storage: StorageSpec, clock: Callable[[], float] = time.time) -> Exports:
    """Exports of an emulator's tables. Raises UsageError when the storage is not in its S3."""
    bucket, prefix = split_url(storage.url)
    objects = S3Objects(client(connection, "s3", owner=storage.owner), bucket, storage.kms_key)
    return StandInExports(client(connection, "dynamodb"), Wire(connection, 1), objects, bucket, prefix, clock)


@dataclass(eq=False)
class StandInExports:
    """`Exports` of an emulator's tables; the bucket holds all their state."""

    dynamodb: Any
    wire: Wire
    objects: S3Objects
    bucket: str
    prefix: str
    clock: Callable[[], float] = time.time

    @property
    def _kept(self) -> str:
        return f"{self.prefix}/{_KEPT}".lstrip("/")

    def request(self, request: ExportRequest) -> Export:
        """Raises Refused for a moment other than now, and for an incremental export without a full one before it."""
        table = identity(self.dynamodb, request.table.name)
        _check_now(request)
        folder = self._of_token(request.token)
        if self.objects.head(folder.file(f"{SUMMARY}.json")) is None:
            self._write(folder, request, table)
        return self._checked(self.describe(f"{table.arn}/export/{folder.id}"), request)

    def describe(self, arn: str) -> Export:
        table_arn, _, name = arn.partition("/export/")
        folder = ExportFolder(f"{self.prefix}/{ROOT}/{name}".lstrip("/"))
        if self.objects.head(folder.file(f"{SUMMARY}.json")) is not None:
            return _completed(read_manifest(self.objects, folder, table_arn), self.bucket)
        if self.objects.head(folder.file(STARTED)) is None:
            raise not_found(arn)
        return Export(arn, IN_PROGRESS, table_arn, "full", self.bucket, "", folder.file(f"{SUMMARY}.json"))

    def _of_token(self, token: str) -> ExportFolder:
        """The folder of this token, existing or new: its name ends with the token's hash."""
        suffix = hashlib.sha256(token.encode()).hexdigest()[:8]
        for folder in folders(self.objects, self.prefix):
            if folder.id.endswith(suffix):
                return folder
        name = export_id(int(self.clock() * 1000), suffix)
        return ExportFolder(f"{self.prefix}/{ROOT}/{name}".lstrip("/"))

    def _checked(self, export: Export, request: ExportRequest) -> Export:
        """Raises Refused for a token of another export, as DynamoDB does."""
        if export.kind != ("incremental" if request.since else "full"):
            hint = "request with another token"
            raise Refused(f"this token belongs to the {export.kind} export", where=export.arn, hint=hint)
        return export

    def _write(self, folder: ExportFolder, request: ExportRequest, table: TableIdentity) -> None:
        if request.since is None:
            self._write_full(folder, request.table, table)
        else:
            self._write_incremental(folder, request.table, table, self._base(table, request.since))

    def _write_full(self, folder: ExportFolder, spec: TableSpec, table: TableIdentity) -> None:
        now = self._now()
        writer = ExportWriter(self.objects, folder)
        writer.start()
        writer.write_data(self._items(spec))
        writer.write_summary(self._summary(folder, table, now) | {"exportTime": moment_text(now)})

    def _write_incremental(self, folder: ExportFolder, spec: TableSpec, table: TableIdentity, base: Manifest) -> None:
        writer = ExportWriter(self.objects, folder)
        writer.start()
        end = self._scanned(folder, spec, table)
        writer.write_data(self._changes(spec, base, end), shared=True)
        writer.write_summary(self._summary(folder, table, _at(end)) | _span(_at(base), _at(end)))

    def _scanned(self, folder: ExportFolder, spec: TableSpec, table: TableIdentity) -> Manifest:
        """A scan of the table now: this export's end, and the next one's base. Its name is new each time, so that no
        base is overwritten."""
        name = export_id(int(self.clock() * 1000), folder.id.rpartition("-")[2])
        kept = ExportFolder(f"{self._kept}/{ROOT}/{name}")
        self._write_full(kept, spec, table)
        return read_manifest(self.objects, kept, table.arn)

    def _now(self) -> datetime:
        """The present moment, in milliseconds as in manifests."""
        return datetime.fromtimestamp(int(self.clock() * 1000) / 1000, UTC)

    def _summary(self, folder: ExportFolder, table: TableIdentity, now: datetime) -> Summary:
        return {
            "version": "2020-06-30",
            "exportArn": f"{table.arn}/export/{folder.id}",
            "startTime": moment_text(now),
            "endTime": moment_text(self._now()),
            "tableArn": table.arn,
            "tableId": table.id,
            "s3Bucket": self.bucket,
            "s3Prefix": self.prefix or None,
            "s3SseAlgorithm": "AES256",
            "s3SseKmsKeyId": None,
        }

    def _base(self, table: TableIdentity, since: datetime) -> Manifest:
        """The scan that an incremental export compares with."""
        found = (*folders(self.objects, self.prefix), *folders(self.objects, self._kept))
        scans = (self._full(folder, table) for folder in found)
        bases = [scan for scan in scans if scan is not None and _at(scan) <= since]
        if bases:
            return max(bases, key=_at)
        what = "an emulator's incremental export needs an earlier full one of this table"
        where = self.objects.place(self.prefix)
        raise Refused(what, where=where, hint="request a full export first; `since` is its time, or later")

    def _full(self, folder: ExportFolder, table: TableIdentity) -> Manifest | None:
        try:
            manifest = read_manifest(self.objects, folder, table.arn)
        except (Refused, UsageError):  # unfinished, or of another table
            return None
        is_base = manifest.kind == "full" and manifest.at is not None and manifest.table_id == table.id
        return manifest if is_base else None

    def _items(self, table: TableSpec) -> Iterator[Line]:
        return ((_partition(table, image), {"Item": image}) for image in self._scan(table))

    def _changes(self, table: TableSpec, base: Manifest, end: Manifest) -> Iterator[Line]:
        """The differences of two scans. Keeps all items of the base in memory."""
        metadata = {"Metadata": {"WriteTimestampMicros": {"N": str(int(_at(end).timestamp() * 1_000_000))}}}
        before = {key_text(key_of(table, image)): image for image in self._read(table, base)}
        for new in self._read(table, end):
            key = key_of(table, new)
            old = before.pop(key_text(key), None)
            if old is None:
                yield _partition(table, key), {**metadata, "Keys": key, "NewImage": new}
            elif not same_image(old, new):
                yield _partition(table, key), {**metadata, "Keys": key, "OldImage": old, "NewImage": new}
        for old in before.values():
            key = key_of(table, old)
            yield _partition(table, key), {**metadata, "Keys": key, "OldImage": old}

    def _read(self, table: TableSpec, scan: Manifest) -> Iterator[Image]:
        reader = DataReader(self.objects, table)
        for file in data_files(self.objects, scan):
            for chunk in reader.items(file):
                yield from chunk.records

    def _scan(self, table: TableSpec) -> Iterator[Image]:
        body = {"TableName": table.name, "ConsistentRead": True}
        return WholeScan(self.wire, body, 1, f"table {table.name}").items()


def _check_now(request: ExportRequest) -> None:
    if request.at is not None or request.until is not None:
        what = "an emulator has no point in time: its export shows the table now"
        raise Refused(what, where=f"table {request.table.name}", hint="leave the time out")


def _partition(table: TableSpec, image: Image) -> Image:
    name = table.key[0].name
    return {name: image[name]}


def _at(scan: Manifest) -> datetime:
    assert scan.at is not None
    return scan.at


def _span(since: datetime, until: datetime) -> Summary:
    return {
        "version": "2023-08-01",
        "exportFromTime": moment_text(since),
        "exportToTime": moment_text(until),
        "outputView": "NEW_AND_OLD_IMAGES",
        "exportType": "INCREMENTAL_EXPORT",
    }


def _completed(manifest: Manifest, bucket: str) -> Export:
    return Export(
        arn=manifest.arn,
        status=COMPLETED,
        table_arn=manifest.table_arn,
        kind=manifest.kind,
        bucket=bucket,
        owner="",
        manifest=manifest.folder.file(f"{SUMMARY}.json"),
        at=manifest.at,
        since=manifest.since,
        until=manifest.until,
        items=manifest.items,
    )
