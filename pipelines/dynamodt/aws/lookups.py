"""The items that writes have met, read together: sources, what has the keys of insertions, and what the run has
inserted itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from dynamodt.aws.batch import Caller
from dynamodt.aws.reads import Flow, Free, Reads
from dynamodt.core.conflicts import Current
from dynamodt.core.inserted import InsertedRow, InsertedRows, inserted_row
from dynamodt.core.keys import key_text
from dynamodt.model import Image, Job


class InsertedItems:
    """Tells which items of a table a run has inserted: of `table`, by the rows of the run `rows`."""

    def __init__(
        self, wire: Caller, rows: InsertedRows, table: str, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._reads = Reads(wire, rows.spec, sleep=sleep)
        self._rows = rows
        self._table = table

    def of(self, keys: Sequence[Image]) -> dict[str, InsertedRow]:
        """The rows of those of these keys that the run has inserted, by `key_text`; strongly consistent."""
        rows = {key_text(key): self._rows.key(self._table, key) for key in keys}
        found = self._reads.items(list(rows.values())) if rows else {}
        by_key = ((text, found.get(key_text(row))) for text, row in rows.items())
        return {text: inserted_row(image) for text, image in by_key if image is not None}


class Lookups:
    """Reads what `core.conflicts` judges by. `sources` reads the table that changes are made of, `placed` the one that
    is inserted into, often the same. `meets`: an item that the run has inserted is no source."""

    def __init__(
        self, sources: Reads, placed: Reads | None = None, inserted: InsertedItems | None = None, *, meets: bool = False
    ) -> None:
        self._sources = sources
        self._placed = placed
        self._inserted = inserted
        self._meets = meets

    @property
    def rcu(self) -> float:
        """What the reads have cost so far, rows of the state table aside."""
        return self._sources.rcu + (self._placed.rcu if self._placed is not None else 0.0)

    def current(self, sources: Iterable[Image], places: Iterable[Image], known: Collection[Image] = ()) -> Current:
        """The items as they are now, strongly consistent. `known` are keys of sources that came with a refusal:
        they are not read again, but asked for as insertions."""
        wanted, places = _each_once(sources), _each_once(places)
        if self._placed is None:
            there = placed = self._sources.items(_each_once([*wanted, *places]))
        else:
            there, placed = self._sources.items(wanted), self._placed.items(places)
        asked = [*places, *wanted, *known] if self._meets else places
        # The rows last: of what the items show, they are there by then, also if it has come late.
        inserted = self._inserted.of(asked) if self._inserted is not None and asked else {}
        return Current(there, placed, inserted, self._meets)


def _each_once(keys: Iterable[Image]) -> list[Image]:
    """BatchGetItem refuses a key that is there twice."""
    return list({key_text(key): key for key in keys}.values())


def lookups(wire: Caller, job: Job, flow: Flow = Free(), sleep: Callable[[float], None] = time.sleep) -> Lookups:
    """The lookups of a job's writer."""
    sources = Reads(wire, job.table, flow=flow, sleep=sleep)
    placed = None if job.target is None else Reads(wire, job.target, flow=flow, sleep=sleep)
    return Lookups(sources, placed, inserted_items(wire, job, sleep), meets=job.meets_insertions)


def inserted_items(wire: Caller, job: Job, sleep: Callable[[float], None] = time.sleep) -> InsertedItems:
    """What the job's run has inserted, or the one that it takes back."""
    return InsertedItems(wire, rows_of(job), (job.target or job.table).name, sleep)


def rows_of(job: Job) -> InsertedRows:
    """The rows by which it is told."""
    return InsertedRows(job.stage.state_table, job.inserted_by or (job.undoes or job.run).partition("/")[0])
