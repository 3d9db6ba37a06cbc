"""Which of a journal's changes their items bear now: what an undo would take back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dynamodt.aws.journal import Journal
from dynamodt.aws.reads import Reads
from dynamodt.aws.storage import open_storage
from dynamodt.aws.wire import shared_wire
from dynamodt.core.diff import parts_of
from dynamodt.core.keys import key_text
from dynamodt.core.restore import restoration
from dynamodt.model import Change, Check, Image, Journaled, Stage, TableSpec


def as_written(stage: Stage, table: TableSpec, parts: Sequence[str]) -> Iterator[Change]:
    """The changes of these parts whose items are as they were written, each key's last one; `table` is the one that was
    written to. What was deleted is not told from what was never there. Raises RunFailed when a part is gone."""
    journal = Journal(open_storage(stage.connection, stage.storage), table, "")
    reads = Reads(shared_wire(stage.connection), table)
    for name in parts:
        changes = {key_text(change.key): change for change in journal.announced(name)}
        keys = {key_text(part.key): part.key for change in changes.values() for part in _written(change)}
        current = reads.items(list(keys.values()))
        yield from (change for change in changes.values() if _bears(table, change, current))


def _bears(table: TableSpec, change: Change, current: dict[str, Image]) -> bool:
    there = ((part, current.get(key_text(part.key))) for part in _written(change))
    return any(image is not None and restoration(table, [part], image).change is not None for part, image in there)


def _written(change: Change) -> list[Journaled]:
    return [part for part in parts_of(change) if not isinstance(part, Check)]
