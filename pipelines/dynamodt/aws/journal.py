"""The journal: what each page is about to write, before and after, put to storage before the first write.

A part is a file in the layout of a DynamoDB incremental export with new and old images (AWS, "DynamoDB table export
output format"), one JSON object a line, compressed with zstd: other tools can read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
import zstandard

from dynamodt.aws.export.records import changed_item, parsed
from dynamodt.aws.storage import Storage
from dynamodt.core.codec import same
from dynamodt.core.diff import key_of, patched
from dynamodt.core.places import part_name, void_name
from dynamodt.errors import RunFailed
from dynamodt.model import Atomic, Change, Check, Image, Insert, Journaled, Remove, TableSpec, Update

# The key of the item that a transaction was made of: in a record's Metadata, where other tools pass over what they do
# not know.
_SOURCE = "TransactionSource"
_LEVEL = 1  # a page is written on the hot path; higher levels cost more time than they save space


class VoidKeys(NamedTuple):
    """What a page's owner has noted on its changes: see `Journal.write_void`."""

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
        self._storage.write(name, zstandard.ZstdCompressor(_LEVEL).compress(lines))
        return name

    def announced(self, name: str) -> list[Change]:
        """The changes of a part as they were announced, in order: a transaction is one of them. The journal keeps no
        image of its source, only the key. Raises RunFailed when the part is gone or damaged."""
        found: list[Change] = []
        for source, records in groupby(self._records(name), key=itemgetter(0)):
            parts = tuple(change for _, change in records)
            found += parts if source is None else [Atomic(source, source, parts)]
        return found

    def _records(self, name: str) -> list[tuple[Image | None, Journaled]]:
        """Each record, with the source's key when it is one of a transaction."""
        data = self._storage.read(name)
        where = self._storage.place(name)
        if data is None:
            raise RunFailed(
                "a part of the journal is gone", where=where, hint="restore it: the run cannot go on without"
            )
        try:
            lines = zstandard.ZstdDecompressor().decompressobj().decompress(data).splitlines()
            return [self._record(parsed(line)) for line in lines]
        except (zstandard.ZstdError, ValueError) as error:
            raise RunFailed("a part of the journal is damaged", where=where, hint="restore it from a copy") from error

    def write_void(self, unit: int, page: int, epoch: int, keys: Sequence[Image], unconfirmed: Sequence[Image]) -> None:
        """Store the keys of a page whose changes, although announced, had no effect, and those of items that are gone,
        whether by the run or by the application."""
        note = {"void": keys, "unconfirmed": unconfirmed}
        self._storage.write(void_name(self._prefix, unit, page, epoch), orjson.dumps(note))

    def read_void(self, name: str) -> VoidKeys:
        """The keys that `write_void` has stored; none when there is no such part."""
        return VoidKeys(**orjson.loads(self._storage.read(name) or b"{}"))

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
