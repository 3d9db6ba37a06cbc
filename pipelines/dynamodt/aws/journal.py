"""The journal: what each page is about to write, before and after, put to storage before the first write.

A part is a file in the layout of a DynamoDB incremental export with new and old images (AWS, "DynamoDB table export
output format"), one JSON object a line, compressed with zstd: other tools can read it. Its seal (`aws.sealed`), which
they pass over, says that it is whole and which run, split, page and owner it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import orjson

from dynamodt.aws.export.records import changed_item, parsed
from dynamodt.aws.sealed import Sealed, Unsealed, checked, sealed
from dynamodt.aws.storage import Storage
from dynamodt.core.codec import same
from dynamodt.core.diff import count_records, key_of, patched
from dynamodt.core.places import note_name, part_name
from dynamodt.errors import RunFailed
from dynamodt.model import Atomic, Change, Check, Image, Insert, Journaled, Remove, TableSpec, Update

# The key of the item that a transaction was made of: in a record's Metadata, where other tools pass over what they do
# not know.
_SOURCE = "TransactionSource"


class Objects(Protocol):
    """What `aws.storage.Storage` offers, and a test's fake must."""

    def read(self, name: str) -> bytes | None: ...


class Note(NamedTuple):
    """What a page's owner notes at its end: how many parts the page has, over all owners, the keys whose changes,
    although announced, had no effect, and those of items that are gone, whether by the run or by the application."""

    parts: int
    void: Sequence[Image] = ()
    unconfirmed: Sequence[Image] = ()


class Journal:
    """The journal of one run. `table` is the one that is written to."""

    def __init__(self, storage: Storage, table: TableSpec, prefix: str) -> None:
        self._storage = storage
        self._table = table
        self._prefix = prefix

    def write(self, unit: int, page: int, epoch: int, part: int, changes: Sequence[Change], micros: int) -> str:
        """Store one part; returns its name. `micros` is the moment, in microseconds since 1970."""
        name = part_name(self._prefix, unit, page, epoch, part)
        time = {"WriteTimestampMicros": {"N": str(micros)}}
        lines = b"\n".join(map(orjson.dumps, chain.from_iterable(_lines(change, time) for change in changes)))
        self._storage.write(name, sealed(name, lines, count_records(changes)))
        return name

    def announced(self, name: str) -> list[Change]:
        """The changes of a part as they were announced, in order: a transaction is one of them. The journal keeps no
        image of its source, so that none equals what was `read`. Raises RunFailed when the part is missing or not
        whole."""
        found: list[Change] = []
        for source, records in groupby(self._records(name), key=itemgetter(0)):
            parts = tuple(change for _, change in records)
            found += parts if source is None else [Atomic(source, {}, parts)]
        return found

    def _records(self, name: str) -> list[tuple[Image | None, Journaled]]:
        """Each record, with the source's key when it is one of a transaction."""
        try:
            return [self._record(parsed(line)) for line in check(self._storage, name).content().splitlines()]
        except ValueError as error:
            raise self._broken(name, error) from error

    def _broken(self, name: str, error: ValueError) -> RunFailed:
        hint = "restore the object from a copy, such as an older version of it: the run cannot go on without"
        return RunFailed(f"a part of the journal is {error}", where=self._storage.place(name), hint=hint)

    def write_note(self, unit: int, page: int, epoch: int, note: Note) -> None:
        """Store what a page's owner notes at its end."""
        name = note_name(self._prefix, unit, page, epoch)
        self._storage.write(name, sealed(name, orjson.dumps(note._asdict()), len(note.void) + len(note.unconfirmed)))

    def read_note(self, name: str) -> Note:
        """The note that `write_note` has stored. Raises RunFailed when it is missing or not whole."""
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


def check(objects: Objects, name: str) -> Sealed:
    """A part or a note, read and found whole. Raises Unsealed with the reason when it is missing or not whole."""
    data = objects.read(name)
    if data is None:
        raise Unsealed("missing")
    return checked(name, data)


def update_between(table: TableSpec, old: Image, new: Image) -> Update:
    """The update that turns one image into the other."""
    sets = {name: value for name, value in new.items() if name not in old or not same(old[name], value)}
    return Update(key_of(table, old), old, sets, tuple(name for name in old if name not in new))


def _lines(change: Change, metadata: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(change, Atomic):
        for part in change.parts:
            if not isinstance(part, Check):  # which writes nothing
                yield from _lines(part, {**metadata, _SOURCE: change.key})
    elif isinstance(change, Insert):
        yield {"Metadata": metadata, "Keys": change.key, "NewImage": change.item}
    elif isinstance(change, Remove):
        yield {"Metadata": metadata, "Keys": change.key, "OldImage": change.read}
    else:
        yield {"Metadata": metadata, "Keys": change.key, "OldImage": change.read, "NewImage": patched(change)}
