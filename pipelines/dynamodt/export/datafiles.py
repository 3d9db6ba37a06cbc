"""One data file as chunks of records: streamed from S3, and checked.

What is checked when. Before the first record: the object's ETag. It must be the manifest's, or the MD5 that the
manifest names (an export may have been copied); an ETag that is neither, and no MD5 (KMS, a copy in parts), says
nothing: such a file is read once for its MD5 before any of it is handed out. While reading: gzip's own checksum. At
the end, before the last chunk is handed out: gzip's end, the MD5 and the number of lines. So nothing of a file that was
replaced or truncated is handed out; one whose manifest is wrong about its lines is never taken for read, and whoever
writes the chunks before does it guarded.
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
from dynamodt.model.items import Image
from dynamodt.model.tables import TableSpec

_HEADS = 10  # at a time: a client's connections
_HEADS_AHEAD = 1000
CHUNK_BYTES = 1 << 20  # of lines: like a scan's page, whatever the items' size

Record = TypeVar("Record", Image, ChangedItem)


class Chunk(NamedTuple, Generic[Record]):
    """Some lines of a file in order: their records, and those that are none. `cursor` is where the next chunk starts,
    a number of lines; `last` says that there is none. Exactly one chunk of a file is the last; it may be empty."""

    records: list[Record]
    bad: list[BadLine]
    cursor: int
    last: bool
    bytes: int = 0  # of the lines, as text


def check_there(objects: S3Objects, files: Sequence[DataFile]) -> None:
    """Raises RunFailed for a file that is gone, or that its ETag proves to be another one: before any is read, and
    anything of the others is written. One HEAD for each file."""
    with ThreadPoolExecutor(_HEADS, thread_name_prefix="head") as pool:
        for start in range(0, len(files), _HEADS_AHEAD):
            for _ in pool.map(lambda file: _CheckedFile(objects, file).head(), files[start : start + _HEADS_AHEAD]):
                pass


class DataReader:
    """Reads data files of one table's exports. Holds about 30 MB, whatever the file's size."""

    def __init__(self, objects: S3Objects, table: TableSpec, *, size: int = 1000) -> None:
        """`size`: lines of a chunk at most; a chunk is also at most 1 MB of lines, or one line."""
        self._objects = objects
        self._table = table
        self._size = size

    def items(self, file: DataFile, cursor: int = 0) -> Iterator[Chunk[Image]]:
        """The items of a file of a full export, from a chunk's `cursor` on.

        The lines before it are decompressed and counted, not parsed. Raises RunFailed, naming the file, when it is
        gone, damaged, not as the manifest says, or holds an item that has not the table's key.
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
        """No item of a table is without its key: the file is of another one."""
        fault = key_fault(self._table, image)
        if fault:
            hint = "was the table made anew since? name an export of the table as it is now"
            raise RunFailed(f"line {line} is no item of this table: {fault}", where=place, hint=hint)


def _batches(found: Iterator[bytes], size: int) -> Iterator[tuple[list[bytes], bool]]:
    """Lines by the chunk. The last batch comes once there are no more lines: after all checks of the file."""
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
    """The lines of one file, and all that the manifest lets us check about them."""

    def __init__(self, objects: S3Objects, file: DataFile) -> None:
        self._objects = objects
        self._file = file
        self._place = objects.place(file.key)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._lines = 0
        self._open_line = False  # the last line has no newline

    def lines(self, skip: int) -> Iterator[bytes]:
        """Raises RunFailed as soon as a fault is known, and ends only when there is none."""
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
        """Raises RunFailed when the object is gone, or is not the one that was exported."""
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
        """Once more, and only for objects that were copied: the ETag of one that was left alone is the manifest's."""
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
    tells = head.plain and (len(head.etag) == 32 or head.etag.endswith("-1"))
    return _is_listed(head, file) or not tells


def _is_listed(head: Head, file: DataFile) -> bool:
    """True when the ETag proves that this is the file that was exported."""
    return head.etag in (file.etag, file.md5.hex(), _of_one_part(file.md5))


def _of_one_part(md5: bytes) -> str:
    """The ETag of an upload in one part."""
    return hashlib.md5(md5, usedforsecurity=False).hexdigest() + "-1"
