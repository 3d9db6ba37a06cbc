"""The journal: each page's changes, with images before and after, stored before the first of them is written.

A part is a file in the layout of a DynamoDB incremental export with new and old images (AWS, "DynamoDB table export
output format"), one JSON object a line, compressed with zstd, so that other tools can read it. Lines of export files
are parsed here, too (`item_of`, `change_of`).

Each object ends with a seal, which names the object, counts its records and holds a digest over all of it. A missing
end, a changed byte and an object copied from another name are each detected. The seal is a skippable frame of zstd (RFC
8878, 3.1.2): other readers of zstd ignore it and read the content.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from struct import Struct, error
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import zstandard

from dynamodt.errors import RunFailed, as_hint, suggest
from dynamodt.model.tables import Atomic, Change, Check, Image, Insert, Journaled, Remove, TableSpec, Update
from dynamodt.script.codec import key_text, same
from dynamodt.script.diff import Part, image_after, key_of, parts_of
from dynamodt.state.object_keys import RUN_ID, note_name, part_name

if TYPE_CHECKING:
    from dynamodt.state.storage import Storage


_LEVEL = 1  # a page is written on the hot path; higher levels cost more time than they save space
_FRAME = Struct("<II")  # magic number and size of a skippable frame
_MAGIC = 0x184D2A5D
_END = Struct("<I4s")  # the size of the seal and a mark, as the last bytes of the object
_OURS = b"ddt1"
_DIGEST = 16


class Unsealed(ValueError):
    """An object differs from the one that was written under its name; the message gives the reason."""


class Sealed(NamedTuple):
    """A whole object: its compressed content and its number of records."""

    compressed: bytes
    records: int

    def content(self) -> bytes:
        """The decompressed content. Raises Unsealed when it cannot be decompressed."""
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(self.compressed)
        except zstandard.ZstdError as failure:
            raise Unsealed(str(failure)) from failure


def sealed(name: str, content: bytes, records: int) -> bytes:
    """The bytes to store under a name: the compressed content of `records` records, and its seal."""
    compressed = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(content)
    seal = orjson.dumps({"object": name, "records": records, "digest": _digest(name, compressed, records)})
    end = _END.pack(len(seal), _OURS)
    return b"".join([compressed, _FRAME.pack(_MAGIC, len(seal) + len(end)), seal, end])


def checked(name: str, data: bytes) -> Sealed:
    """Verifies an object that was read under a name. Raises Unsealed when it is truncated, damaged or another one."""
    compressed, seal = _split(data)
    try:
        written, records, digest = str(seal["object"]), int(seal["records"]), str(seal["digest"])
    except (KeyError, TypeError, ValueError) as failure:
        raise Unsealed("damaged: its seal cannot be read") from failure
    if digest != _digest(written, compressed, records):
        raise Unsealed("damaged: its digest differs")
    if written != name:
        raise Unsealed(f"foreign: it was written as {written}")
    return Sealed(compressed, records)


def _split(data: bytes) -> tuple[bytes, Any]:
    """The compressed content and the seal. Raises Unsealed when the end is missing."""
    try:
        size, ours = _END.unpack(data[-_END.size :])
        at = len(data) - _END.size - size
        magic, length = _FRAME.unpack(data[at - _FRAME.size : at])
        if ours != _OURS or magic != _MAGIC or length != size + _END.size:
            raise Unsealed("truncated: it has no end")
        seal = orjson.loads(data[at : at + size])
    except (error, orjson.JSONDecodeError) as failure:
        raise Unsealed("truncated: it has no end") from failure
    return data[: at - _FRAME.size], seal


def _digest(name: str, compressed: bytes, records: int) -> str:
    digest = blake2b(compressed, digest_size=_DIGEST)
    digest.update(f"\n{name}\n{records}".encode())
    return digest.hexdigest()


# A field of a record's Metadata, which other tools ignore: the key of the item from which a transaction was made.
_SOURCE = "TransactionSource"


class Note(NamedTuple):
    """The object that a page's owner stores at the page's end: the number of the page's parts, over all owners; the
    keys whose intended changes had no effect (`void`); and the keys of items that either the run or the application
    deleted (`unconfirmed`), or that the run may have deleted before another item got their keys (`replaced`)."""

    parts: int
    void: Sequence[Image] = ()
    unconfirmed: Sequence[Image] = ()
    replaced: Sequence[Image] = ()


class Journal:
    """The journal of one run. `table` is the table that the run writes to."""

    def __init__(self, storage: Storage, table: TableSpec, prefix: str) -> None:
        self._storage = storage
        self._table = table
        self._prefix = prefix

    def write(
        self, split: int, page: int, fencing_token: int, part: int, changes: Sequence[Change], micros: int
    ) -> str:
        """Stores one part; returns its name. `micros` is the time of the write, in microseconds since 1970."""
        name = part_name(self._prefix, split, page, fencing_token, part)
        time = {"WriteTimestampMicros": {"N": str(micros)}}
        lines = list(map(orjson.dumps, _records_of(changes, time)))
        self._storage.write(name, sealed(name, b"\n".join(lines), len(lines)))
        return name

    def intended(self, name: str) -> list[Change]:
        """The intended changes of a part, in order; a transaction is one change. The journal has no image of a
        transaction's source: its `read` is empty. Raises RunFailed when the part is missing or damaged."""
        found: list[Change] = []
        for source, records in groupby(self._records(name), key=itemgetter(0)):
            parts = tuple(change for _, change in records)
            found += parts if source is None else [Atomic(source, {}, parts)]
        return found

    def _records(self, name: str) -> list[tuple[Image | None, Journaled]]:
        """Each record, with the key of its source if it belongs to a transaction."""
        try:
            return [self._record(parsed(line)) for line in check(self._storage, name).content().splitlines()]
        except ValueError as error:
            raise self._broken(name, error) from error

    def _broken(self, name: str, error: ValueError) -> RunFailed:
        hint = as_hint("restore the object from a copy, such as an older version of it: the run needs it to continue")
        if run := RUN_ID.search(name):
            hint += "; or restore what the journal still has: " + suggest("undo", run[0], partial=True)
        return RunFailed(f"a part of the journal is {error}", where=self._storage.place(name), hint=hint)

    def write_note(self, split: int, page: int, fencing_token: int, note: Note) -> None:
        """Stores the note of a page's owner."""
        name = note_name(self._prefix, split, page, fencing_token)
        keys = len(note.void) + len(note.unconfirmed) + len(note.replaced)
        self._storage.write(name, sealed(name, orjson.dumps(note._asdict()), keys))

    def read_note(self, name: str) -> Note:
        """The note that `write_note` stored. Raises RunFailed when it is missing or damaged."""
        try:
            return Note(**orjson.loads(check(self._storage, name).content()))
        except ValueError as error:
            raise self._broken(name, error) from error

    def _record(self, record: dict[str, Any]) -> tuple[Image | None, Journaled]:
        item, metadata = changed_item(record), record["Metadata"]
        change: Journaled
        if item.old is None:
            change = Insert(self._table.name, item.key, item.new or {})
        elif item.new is None:
            change = Remove(item.key, item.old)
        else:
            change = update_between(self._table, item.old, item.new)
        return metadata.get(_SOURCE), change


@dataclass
class Records:
    """The records of a page that may have had an effect, the keys from and to which items were moved, the images before
    and after of each item that was `moved` alone to a key, the unconfirmed deletions, the updates of void keys, the
    keys of items that the run may have deleted before other items got them (`replaced`), those of moved items that an
    earlier try has `restored`, and those of inserted items that it has `removed`, all by `key_text`."""

    by_key: dict[str, list[Journaled]] = field(default_factory=dict)
    moved_from: dict[str, set[str]] = field(default_factory=dict)
    moved_to: dict[str, dict[str, Image]] = field(default_factory=dict)
    moved: dict[str, list[tuple[Image, Image]]] = field(default_factory=dict)
    unconfirmed: dict[str, Image] = field(default_factory=dict)
    void: dict[str, list[Update]] = field(default_factory=dict)
    replaced: dict[str, Image] = field(default_factory=dict)
    restored: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def only(self, keys: Collection[str]) -> Records:
        """The records of these keys, without unconfirmed deletions, which wait for no key."""
        by_key = {text: found for text, found in self.by_key.items() if text in keys}
        void = {text: found for text, found in self.void.items() if text in keys}
        return replace(self, by_key=by_key, void=void, unconfirmed={}, replaced={}, removed=set())

    def add(self, change: Change, void: set[str]) -> None:
        """Add the parts of a change that may have had an effect, by the keys that had none (`void`)."""
        parts = parts_of(change)
        moves = len(parts) > 1 and any(isinstance(part, Remove) for part in parts)
        for part in parts:
            text = key_text(part.key)
            if isinstance(part, Check):
                continue
            if text in void:
                self._add_void(change, part, moves)
                continue
            if isinstance(part, Remove) and text in self.unconfirmed:
                continue
            self.by_key.setdefault(text, []).append(part)
            if moves and isinstance(part, Insert):
                self.moved_from.setdefault(text, set()).add(key_text(change.key))
                self.moved_to.setdefault(key_text(change.key), {})[text] = part.key
                if len(parts) == 2:  # no other item is made of the source
                    before = next(one.read for one in parts if isinstance(one, Remove))
                    self.moved.setdefault(text, []).append((before, part.item))

    def moved_alone(self) -> dict[str, str]:
        """The keys that have only an item that was moved there, with its old key, of which nothing else was made."""
        return {
            text: next(iter(self.moved_from[text]))
            for text, moves in self.moved.items()
            if len(self.moved_from[text]) == 1 and len(moves) == len(self.by_key.get(text, ()))
        }

    def _add_void(self, change: Change, part: Part, moves: bool) -> None:
        """Add a part without an effect: an insertion was undone before, and after the source of a moved item."""
        text = key_text(part.key)
        if isinstance(part, Update):
            self.void.setdefault(text, []).append(part)
        elif isinstance(part, Insert):
            self.removed.add(text)
            self.restored.update([key_text(change.key)] if moves else [])


def check(storage: Storage, name: str) -> Sealed:
    """Reads and verifies a part or a note. Raises Unsealed with the reason when it is missing or damaged."""
    data = storage.read(name)
    if data is None:
        raise Unsealed("missing")
    return checked(name, data)


def update_between(table: TableSpec, old: Image, new: Image) -> Update:
    """The update that turns one image into the other."""
    sets = {name: value for name, value in new.items() if name not in old or not same(old[name], value)}
    return Update(key_of(table, old), old, sets, tuple(name for name in old if name not in new))


def _records_of(changes: Sequence[Change], metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for change in changes:
        if isinstance(change, Atomic):
            of_source = {**metadata, _SOURCE: change.key}
            yield from (_record_of(part, of_source) for part in change.parts if not isinstance(part, Check))
        else:
            yield _record_of(change, metadata)


def _record_of(change: Journaled, metadata: dict[str, Any]) -> dict[str, Any]:
    if isinstance(change, Update):
        return {"Metadata": metadata, "Keys": change.key, "OldImage": change.read, "NewImage": image_after(change)}
    if isinstance(change, Insert):
        return {"Metadata": metadata, "Keys": change.key, "NewImage": change.item}
    return {"Metadata": metadata, "Keys": change.key, "OldImage": change.read}


class ChangedItem(NamedTuple):
    """The change of one item. Without `old` it was inserted (or the view is NEW_IMAGE), without `new` deleted."""

    key: Image
    old: Image | None
    new: Image | None
    micros: int  # of the last write, since 1970


class UnreadableLine(NamedTuple):
    """The place of a malformed line. Its text is left out, since it may hold an item's data."""

    file: str  # s3://bucket/key
    line: int  # from 1
    why: str


def item_of(line: bytes) -> Image:
    """A line of a full export: `{"Item": {...}}`. Raises ValueError with the reason when it is malformed."""
    return _image(parsed(line), "Item")


def change_of(line: bytes) -> ChangedItem:
    """A line of an incremental export. Raises ValueError with the reason when it is malformed."""
    return changed_item(parsed(line))


def changed_item(record: dict[str, Any]) -> ChangedItem:
    """`change_of`, for an object of `parsed`."""
    old, new = (_image(record, name) if name in record else None for name in ("OldImage", "NewImage"))
    return ChangedItem(_image(record, "Keys"), old, new, _micros(record))


def key_fault(table: TableSpec, image: Image) -> str:
    """The reason why an image cannot be an item of the table, or its key; empty if it can."""
    for name, kind in table.key:
        value = image.get(name)
        if value is None:
            return f'it has no "{name}", which is a key attribute of the table {table.name}'
        if kind not in value:
            return f'its "{name}" is of type {"".join(value)}; the key of the table {table.name} has {kind}'
    return ""


def parsed(line: bytes) -> dict[str, Any]:
    """A line's JSON object. Raises ValueError with the reason when it is malformed."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return record


def _image(record: dict[str, Any], name: str) -> Image:
    image = record.get(name)
    if not isinstance(image, dict):
        raise ValueError(f'it has no "{name}"')
    if not all(isinstance(value, dict) and len(value) == 1 for value in image.values()):
        raise ValueError(f'its "{name}" is not in DynamoDB\'s JSON')
    return image


def _micros(record: dict[str, Any]) -> int:
    """The write's timestamp: a string in AWS's guide, a number in DynamoDB's JSON in real exports."""
    try:
        micros = record["Metadata"]["WriteTimestampMicros"]
        return int(micros["N"] if isinstance(micros, dict) else micros)
    except (KeyError, TypeError, ValueError):
        raise ValueError('it has no "Metadata.WriteTimestampMicros"') from None
