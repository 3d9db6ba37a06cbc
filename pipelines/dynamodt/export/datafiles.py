"""The files of an export: its two manifests, and each data file as chunks of records, streamed from S3.

The manifests are verified against their checksums, each other and the table. Before the first record of a data file,
the object's ETag must be the manifest's, or the MD5 in the manifest (an export may have been copied). An ETag that is
neither, and not an MD5 (KMS, a copy in parts), proves nothing: such a file is read once for its MD5 before its first
chunk. While reading, gzip's own checksum is verified. Before the last chunk, gzip's end, the MD5 and the number of
lines are. Therefore a replaced or truncated file yields no chunk, and a file whose number of lines differs from the
manifest's does not yield its last one; the chunks before it may be written.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from dynamodt.errors import Refused, RunFailed, UsageError
from dynamodt.export.objects import Damaged, Head, S3Objects, hash_pieces, lines, unzipped
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
from dynamodt.model.tables import Image, TableSpec
from dynamodt.state.journal import ChangedItem, UnreadableLine, change_of, item_of, key_fault

_HEADS = 10  # concurrent requests: a client's connections
_HEADS_AHEAD = 1000
CHUNK_BYTES = 1 << 20  # of lines: the size of a scan's page

Record = TypeVar("Record", Image, ChangedItem)


class Chunk(NamedTuple, Generic[Record]):
    """Consecutive lines of a file: their records, and the malformed lines. `cursor` is where the next chunk starts, as
    a number of lines. Exactly one chunk of a file is the `last`; it may be empty."""

    records: list[Record]
    bad: list[UnreadableLine]
    cursor: int
    last: bool
    bytes: int = 0  # of the lines, as text


def check_there(objects: S3Objects, files: Sequence[DataFile]) -> None:
    """Raises RunFailed for a file that is missing, or whose ETag proves that it is another file, before the first file
    is read. One HEAD request for each file."""
    with ThreadPoolExecutor(_HEADS, thread_name_prefix="head") as pool:
        for start in range(0, len(files), _HEADS_AHEAD):
            for _ in pool.map(lambda file: _CheckedFile(objects, file).head(), files[start : start + _HEADS_AHEAD]):
                pass


class DataReader:
    """Reads data files of one table's exports, in about 30 MB of memory."""

    def __init__(self, objects: S3Objects, table: TableSpec, *, size: int = 1000) -> None:
        """`size`: the most lines of a chunk; a chunk is also at most 1 MB of lines, or one line."""
        self._objects = objects
        self._table = table
        self._size = size

    def items(self, file: DataFile, cursor: int = 0) -> Iterator[Chunk[Image]]:
        """The items of a file of a full export, from a chunk's `cursor` on.

        The lines before it are decompressed and counted, not parsed. Raises RunFailed, naming the file, when it is
        missing or damaged, differs from the manifest, or holds an item without the table's key.
        """
        return self._chunks(file, cursor, item_of, lambda item: item)

    def changes(self, file: DataFile, cursor: int = 0) -> Iterator[Chunk[ChangedItem]]:
        """The changes of a file of an incremental export; otherwise like `items`."""
        return self._chunks(file, cursor, change_of, lambda change: change.key)

    def _chunks(
        self, file: DataFile, cursor: int, parse: Callable[[bytes], Record], key: Callable[[Record], Image]
    ) -> Iterator[Chunk[Record]]:
        place = self._objects.place(file.key)
        for batch, last in _batches(_CheckedFile(self._objects, file).lines(cursor), self._size):
            chunk: Chunk[Record] = Chunk([], [], cursor + len(batch), last, sum(map(len, batch)))
            for number, line in enumerate(batch, cursor + 1):
                try:
                    record = parse(line)
                except ValueError as error:
                    chunk.bad.append(UnreadableLine(place, number, str(error)))
                else:
                    self._check_key(key(record), place, number)
                    chunk.records.append(record)
            yield chunk
            cursor = chunk.cursor

    def _check_key(self, image: Image, place: str, line: int) -> None:
        """Raises RunFailed for an item without the table's key: the file is of another table."""
        fault = key_fault(self._table, image)
        if fault:
            hint = "was the table created again since? name an export of the table as it is now"
            raise RunFailed(f"line {line} is not an item of this table: {fault}", where=place, hint=hint)


def _batches(found: Iterator[bytes], size: int) -> Iterator[tuple[list[bytes], bool]]:
    """The lines of each chunk, and whether it is the last one, which follows all checks of the file."""
    batch: list[bytes] = []
    room = CHUNK_BYTES
    for line in found:
        room -= len(line)
        if batch and (len(batch) == size or room < 0):
            yield batch, False
            batch, room = [], CHUNK_BYTES - len(line)
        batch.append(line)
    yield batch, True


class _CheckedFile:
    """The lines of one file, verified against the manifest."""

    def __init__(self, objects: S3Objects, file: DataFile) -> None:
        self._objects = objects
        self._file = file
        self._place = objects.place(file.key)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._lines = 0
        self._open_line = False  # the last line has no newline

    def lines(self, skip: int) -> Iterator[bytes]:
        """The lines after `skip`. Raises RunFailed as soon as a fault is known, at the latest after the last line."""
        head = self.head()
        if not skip and not _is_listed(head, self._file):
            self._check_unread(head)
        try:
            pieces = hash_pieces(self._objects.pieces(self._file.key, head), self._md5)
            yield from lines(self._count_lines(unzipped(pieces)), skip)
        except Damaged as error:
            raise self._fault(str(error)) from error
        self._check_whole(skip)

    def head(self) -> Head:
        """Raises RunFailed when the object is missing, or is not the one that was exported."""
        head = self._objects.head(self._file.key)
        if head is None:
            raise self._fault("a data file that the manifest lists is missing")
        if not _may_match(head, self._file):
            raise self._fault(f"its ETag {head.etag} is not the manifest's, {self._file.etag}: it was replaced")
        return head

    def _count_lines(self, texts: Iterator[bytes]) -> Iterator[bytes]:
        for text in texts:
            self._lines += text.count(b"\n")
            if text:
                self._open_line = not text.endswith(b"\n")
            yield text

    def _check_unread(self, head: Head) -> None:
        """Reads a copied object once for its MD5; the ETag of an original is the manifest's."""
        md5 = hashlib.md5(usedforsecurity=False)
        for piece in self._objects.pieces(self._file.key, head):
            md5.update(piece)
        self._check_md5(md5.digest())

    def _check_md5(self, digest: bytes) -> None:
        if digest != self._file.md5:
            raise self._fault("its MD5 is not the manifest's: it was replaced or damaged")

    def _check_whole(self, skip: int) -> None:
        count = self._lines + self._open_line
        self._check_md5(self._md5.digest())
        if count != self._file.items:
            raise self._fault(f"has {count:,} lines; the manifest says {self._file.items:,} items")
        if skip > count:
            raise self._fault(f"has {count:,} lines, and was read up to line {skip:,} before: it was replaced")

    def _fault(self, what: str) -> RunFailed:
        return RunFailed(what, where=self._place, hint=REPLACE)


def _may_match(head: Head, file: DataFile) -> bool:
    """False when the ETag proves that this is not the file that was exported."""
    is_md5 = head.plain and (len(head.etag) == 32 or head.etag.endswith("-1"))
    return _is_listed(head, file) or not is_md5


def _is_listed(head: Head, file: DataFile) -> bool:
    """True when the ETag proves that this is the file that was exported."""
    of_one_part = hashlib.md5(file.md5, usedforsecurity=False).hexdigest() + "-1"
    return head.etag in (file.etag, file.md5.hex(), of_one_part)


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


def read_manifest(objects: S3Objects, folder: ExportFolder, table_arn: str = "") -> Manifest:
    """The summary of a finished export of this table; without an ARN, of any table.

    Raises Refused when it is unfinished or in Ion, UsageError when it is of another table, RunFailed when it is
    damaged.
    """
    check_finished(objects, folder)
    place = objects.place(folder.file(f"{SUMMARY}.json"))
    data = objects.read(folder.file(f"{SUMMARY}.json")) or b""
    _check_md5(objects, folder, SUMMARY, hashlib.md5(data, usedforsecurity=False).digest())
    summary = _json(data, place)
    if table_arn:
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
    names a file twice, or its sum of items differs from the summary's.
    """
    head = objects.head(manifest.files_key)
    place = objects.place(manifest.files_key)
    if head is None:
        raise RunFailed(f"{FILES}.json is missing", where=place, hint=REPLACE)
    digest, files = _read_list(objects, manifest, head)
    _check_md5(objects, manifest.folder, FILES, digest)
    total = sum(file.items for file in files)
    if len({file.key for file in files}) < len(files):
        raise RunFailed("lists a data file twice: its items would be transformed twice", where=place, hint=REPLACE)
    if total != manifest.items:
        what = f"lists files of {total:,} items together; {SUMMARY}.json has {manifest.items:,}"
        raise RunFailed(what, where=place, hint=REPLACE)
    return files


def digest_of(files: Sequence[DataFile]) -> str:
    """A digest of the list in its order, on which the cursors of a run depend. A copy of the export has the same."""
    content = repr([(file.key.rpartition("/")[2], file.items, file.md5) for file in files])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _read_list(objects: S3Objects, manifest: Manifest, head: Head) -> tuple[bytes, tuple[DataFile, ...]]:
    """The list, and the MD5 of its file."""
    md5 = hashlib.md5(usedforsecurity=False)
    found: list[DataFile] = []
    pieces = hash_pieces(objects.pieces(manifest.files_key, head), md5)
    try:
        for line in lines(pieces):
            one = orjson.loads(line)
            of_file, key = base64.b64decode(one["md5Checksum"], validate=True), one["dataFileS3Key"]
            found.append(DataFile(manifest.folder.data_key(key), int(one["itemCount"]), of_file, one["etag"]))
    except (Damaged, KeyError, TypeError, ValueError) as error:
        what = f"line {len(found) + 1} does not list a data file: {error!r}"
        raise RunFailed(what, where=objects.place(manifest.files_key), hint=REPLACE) from error
    return md5.digest(), tuple(found)


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
