"""The items that the run has inserted, and the reads for a writer's decision after a refusal.

A row of the state table is written in the transaction of each insertion (guarantee G3, ADR 034): one strongly
consistent read shows whether an insertion has happened, even after the application has changed or deleted the item.

An inserted item must not be transformed again: readers skip such items (`filter_of_inserted_items`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from dynamodt.dynamodb.reads import RateLimitedQueue, Reads, UnlimitedQueue
from dynamodt.dynamodb.statements import InsertedRow, InsertedRows, Statements, inserted_row
from dynamodt.dynamodb.wire import Wire
from dynamodt.model.runs import Job, RowsSource
from dynamodt.model.tables import Image
from dynamodt.pipeline.conflicts import CurrentItems
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources


class InsertedItems:
    """The items of `table` that a run has inserted, by its rows in the state table."""

    def __init__(self, wire: Wire, rows: InsertedRows, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._reads = Reads(wire, rows.spec, sleep=sleep)
        self._rows = rows
        self._table = table

    def rows_at(self, keys: Sequence[Image]) -> dict[str, InsertedRow]:
        """The rows of the keys that the run has inserted, by `key_text`; strongly consistent."""
        rows = {key_text(key): self._rows.key(self._table, key) for key in keys}
        found = self._reads.items(list(rows.values())).items if rows else {}
        by_key = ((text, found.get(key_text(row))) for text, row in rows.items())
        return {text: inserted_row(image) for text, image in by_key if image is not None}


@dataclass(eq=False)
class Lookups:
    """Reads the current items and rows for `pipeline.conflicts`. `sources` reads the transformed table, `placed` the
    table that receives insertions, if it is another one. `meets_insertions`: an item that the run has inserted is not a
    source. `asks`: it is a source, and its row shows that the previous item at its key is gone. `phase`: the phase that
    writes."""

    sources: Reads
    placed: Reads | None = None
    inserted: InsertedItems | None = None
    _: KW_ONLY
    meets_insertions: bool = False
    asks: bool = False
    phase: str = ""

    def current(self, sources: Iterable[Image], places: Iterable[Image], known: Collection[Image] = ()) -> CurrentItems:
        """The current items, strongly consistent. `known` are the keys of sources that came with a refusal: only their
        inserted rows are read."""
        wanted, places = _each_once(sources), _each_once(places)
        if self.placed is None:
            there = placed = self.sources.items(_each_once([*wanted, *places]))
            rcu = there.rcu
        else:
            there, placed = self.sources.items(wanted), self.placed.items(places)
            rcu = there.rcu + placed.rcu
        asked = [*places, *wanted, *known] if self.meets_insertions or self.asks else places
        # The rows are read last: each insertion that the items show has its row, even if both were written late.
        inserted = self.inserted.rows_at(asked) if self.inserted is not None and asked else {}
        return CurrentItems(there.items, placed.items, inserted, self.meets_insertions, rcu, self.phase)


def _each_once(keys: Iterable[Image]) -> list[Image]:
    """The keys without duplicates, which BatchGetItem refuses."""
    return list({key_text(key): key for key in keys}.values())


def lookups(
    wire: Wire, job: Job, rate_queue: RateLimitedQueue = UnlimitedQueue(), sleep: Callable[[float], None] = time.sleep
) -> Lookups:
    """The lookups of a job's writer."""
    sources = Reads(wire, job.table, rate_queue=rate_queue, sleep=sleep)
    placed = None if job.target is None else Reads(wire, job.target, rate_queue=rate_queue, sleep=sleep)
    asks = job.journals and job.script.idempotent and placed is None and not job.table.lacks_transactions
    inserted = inserted_items(wire, job, sleep)
    return Lookups(sources, placed, inserted, meets_insertions=job.meets_insertions, asks=asks, phase=job.run)


def inserted_items(wire: Wire, job: Job, sleep: Callable[[float], None] = time.sleep) -> InsertedItems:
    """The items that the job's run has inserted, or the run that it undoes."""
    return InsertedItems(wire, inserted_rows_of_job(job), job.written_table.name, sleep)


def inserted_rows_of_job(job: Job) -> InsertedRows:
    """The inserted rows of the job's run."""
    inserted_by = job.origin.inserted_by if isinstance(job.origin, RowsSource) else ""
    return InsertedRows(job.stage.state_table, inserted_by or job.journaled_run.partition("/")[0], job.run)


Foreign = Callable[[list[Image]], list[Image]]  # the images that the run has not inserted itself


def keep_all(images: list[Image]) -> list[Image]:
    """All images: the run has inserted nothing."""
    return images


def filter_of_inserted_items(wire: Wire, job: Job, resources: Resources) -> Foreign:
    """A filter that drops items that the run has inserted itself, including rows of `items()`: they must not be
    transformed. The first scan of a run contains none of them."""
    everything = job.meets_insertions
    if not (everything or (job.script.has_items and job.later and job.target is None and not job.inserts_rows)):
        return keep_all
    inserted = inserted_items(wire, job, resources.sleep)

    def foreign(images: list[Image]) -> list[Image]:
        rows = inserted.rows_at([key_of(job.table, image) for image in images])
        own = {text for text, row in rows.items() if everything or row.source is None}
        return [image for image in images if key_text(key_of(job.table, image)) not in own] if own else images

    return foreign


def statements(job: Job) -> Statements:
    """The statements for a job's changes."""
    return Statements(
        job.table,
        job.script.guard,
        inserted_rows_of_job(job),
        confirms=job.journals,
        meets_insertions=job.meets_insertions,
    )
