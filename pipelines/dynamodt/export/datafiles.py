"""One data file as chunks of records: streamed from S3, and verified.

Before the first record, the object's ETag must be the manifest's, or the MD5 in the manifest (an export may have been
copied). An ETag that is neither, and not an MD5 (KMS, a copy in parts), proves nothing: such a file is read once for
its MD5 before its first chunk. While reading, gzip's own checksum is verified. Before the last chunk, gzip's end, the
MD5 and the number of lines are. So a replaced or truncated file yields no chunk, and a file whose number of lines
differs from the manifest's never yields its last one; the chunks before are written under their guard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar

from dynamodt.dynamodb.records import BadLine, ChangedItem, change_of, item_of, key_fault
from dynamodt.errors import RunFailed
from dynamodt.export.manifest import REPLACE, DataFile
from dynamodt.export.objects import Damaged, Head, S3Objects, hashed, lines, unzipped
from dynamodt.model.tables import Image, TableSpec

_HEADS = 10  # concurrent requests: a client's connections
_HEADS_AHEAD = 1000
CHUNK_BYTES = 1 << 20  # of lines: the size of a scan's page

Record = TypeVar("Record", Image, ChangedItem)


class Chunk(NamedTuple, Generic[Record]):
    """Consecutive lines of a file: their records, and the malformed lines. `cursor` is where the next chunk starts, as
    a number of lines. Exactly one chunk of a file is the `last`; it may be empty."""

    records: list[Record]
    bad: list[BadLine]
    cursor: int
    last: bool
    bytes: int = 0  # of the lines, as text


def check_there(objects: S3Objects, files: Sequence[DataFile]) -> None:
    """Raises RunFailed for a file that is missing, or that its ETag proves to be another one, before the first file is
    read. One HEAD request for each file."""
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
        self,
        file: DataFile,
        cursor: int,
        parse: Callable[[bytes], Record],
        key: Callable[[Record], Image],
    ) -> Iterator[Chunk[Record]]:
        place = self._objects.place(file.key)
        for batch, last in _batches(_CheckedFile(self._objects, file).lines(cursor), self._size):
            chunk: Chunk[Record] = Chunk([], [], cursor + len(batch), last, sum(map(len, batch)))
            for number, line in enumerate(batch, cursor + 1):
                try:
                    record = parse(line)
                except ValueError as error:
                    chunk.bad.append(BadLine(place, number, str(error)))
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
            pieces = hashed(self._objects.pieces(self._file.key, head), self._md5)
            yield from lines(self._counted(unzipped(pieces)), skip)
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

    def _counted(self, texts: Iterator[bytes]) -> Iterator[bytes]:
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
    return head.etag in (file.etag, file.md5.hex(), _of_one_part(file.md5))


def _of_one_part(md5: bytes) -> str:
    """The ETag of an upload in one part."""
    return hashlib.md5(md5, usedforsecurity=False).hexdigest() + "-1"
