"""The pipeline of an undo (guarantee G5), for one phase of the run that is undone.

::

    split groups ── Reshuffle ── ReadJournal ── RestoreItems ── RecordProgress
                                  JournalPage     WrittenPage

Its splits are those of the phase, and its pages are those that the phase has journaled. It reads the current items of a
page, and a restored item needs no further write: it journals nothing, and an unfinished page is repeated. Its writes
are conditional, so that a concurrent write of the application is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import apache_beam as beam

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.errors import RunFailed
from dynamodt.model.pages import Claim, JournalPage, Page, Units, WrittenPage
from dynamodt.model.runs import Job, JournalSource
from dynamodt.model.tables import Atomic, Change, Insert
from dynamodt.pipeline.conflicts import CurrentItems, has_own_row, inserts_of
from dynamodt.pipeline.outcomes import samples, store_not_restored, waiting_keys
from dynamodt.pipeline.own_writes import InsertedItems, Lookups, inserted_items, inserted_rows_of_job
from dynamodt.pipeline.ownership import ReadPages
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.request_pipeline import Unanswered
from dynamodt.pipeline.restoration import PageItems, no_rows
from dynamodt.pipeline.signals import Interrupted, Signal, context_of, report_errors
from dynamodt.pipeline.write_page import PageWriter
from dynamodt.script.codec import key_text
from dynamodt.state.journal import Journal, Records
from dynamodt.state.object_keys import (
    NOT_RESTORED,
    attempt_of,
    committed_notes,
    committed_parts,
    expected_parts,
    is_note,
    journal_prefix,
    object_key,
    part_of,
    split_prefix,
)

if TYPE_CHECKING:
    from dynamodt.dynamodb.inserted_rows import InsertedRow
    from dynamodt.pipeline.migrate import Resources


# ---------------------------------------------------------------- the journal's pages


class ReadJournal(ReadPages):
    """Turns split groups into JournalPages: every page with changes that may have been written, with all parts of its
    journal."""

    def setup(self) -> None:
        super().setup()
        self._storage = self._resources.storage()
        assert isinstance(self._job.source, JournalSource)
        self._source = self._job.source
        self._undone = self._resources.state().splits(self._source.run)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[JournalPage]:
        for claim in claims:
            names = self._storage.names(split_prefix(journal_prefix(self._job), claim.split))
            yield from journal_pages(claim, self._undone.read(claim.split), names, self._source.attempts)


def journal_pages(
    claim: Claim, undone: Claim | None, names: Iterable[str], attempts: tuple[int, int] = (0, 0)
) -> Iterator[JournalPage]:
    """The pages of a split, the last one first: an item that was moved to a key must leave it before the previous item
    is restored.

    `undone` is the split's claim in the run that is undone (None: it has not begun), `names` are its objects in the
    journal, and only pages of these `attempts` are undone. The undo's own claim counts the pages that are done."""
    kept = list(names)
    parts = committed_parts((name for name in kept if not is_note(name)), {claim.split: undone} if undone else {})
    since, until = attempts
    if undone is not None and any(attempts):
        by = {name: attempt_of(part_of(name).page, undone) for name in parts}
        parts = [name for name in parts if since <= by[name] and (not until or by[name] < until)]
    numbers = sorted({part_of(name).page for name in parts}, reverse=True)
    for position, number in list(enumerate(numbers, 1))[claim.page :]:
        notes = tuple(name for name in kept if is_note(name) and part_of(name).page == number)
        page = Page(claim, position, [], last=number == numbers[-1])
        of_page = tuple(name for name in parts if part_of(name).page == number)
        yield JournalPage(page, of_page, notes, expected_parts(number, undone, kept) if undone else 0)
    if len(numbers) <= claim.page:
        yield JournalPage(Page(claim, claim.page + 1, [], last=True), (), ())


def is_complete(page: JournalPage, journal: Journal) -> bool:
    """Whether all parts of a page exist. Raises RunFailed for a damaged note."""
    if page.expected or not page.notes:
        return len(page.parts) == page.expected
    return len(page.parts) == journal.read_note(max(page.notes, key=lambda name: part_of(name).fencing_token)).parts


def records_of(page: JournalPage, journal: Journal, inserted: InsertedItems, phase: str = "") -> Records:
    """The records of a page. A note of void keys applies to all intents before it, of its own and of previous owners.
    The inserted rows show whether insertions, and changes in one transaction with them, have happened: a refused
    transaction that the network repeats after its page has ended may still take effect as a whole. The row of another
    transaction with the same insertion, of a later version of the item or of another `phase`, proves nothing. A row
    shows, too, that an earlier try has deleted its item."""
    found = Records()
    notes = [(part_of(name).fencing_token, journal.read_note(name)) for name in page.notes]
    for _, note in notes:
        found.unconfirmed.update((key_text(key), key) for key in note.unconfirmed)
        found.replaced.update((key_text(key), key) for key in note.replaced)
    intended = [(part_of(name).fencing_token, change) for name in page.parts for change in journal.intended(name)]
    rows = inserted.rows_at([part.key for part in inserts_of([change for _, change in intended])])
    current = CurrentItems({}, {}, rows, phase=phase)
    for fencing_token, change in intended:
        void = {key_text(key) for since, note in notes if since >= fencing_token for key in note.void}
        if not isinstance(change, Atomic | Insert):
            found.add(change, void)
        elif has_own_row(change, current):
            found.add(change, _removed(change, rows))
    return found


def _removed(change: Change, rows: dict[str, InsertedRow]) -> set[str]:
    """The keys of a change's inserted items that an earlier try of the undo has deleted."""
    keys = (key_text(part.key) for part in inserts_of([change]))
    return {text for text in keys if text in rows and rows[text].removed}


# ---------------------------------------------------------------- their items


def rows_of_undo(job: Job) -> InsertedRows | None:
    """The rows of the items that the tries of an undo have inserted again, so that each is inserted once: one that the
    application has deleted since stays deleted. None for a table that takes no transactions."""
    assert isinstance(job.source, JournalSource)
    if job.written_table.lacks_transactions:
        return None
    return InsertedRows(job.stage.state_table, f"{job.source.run}/undo")


class RestoreItems(beam.DoFn):
    """Turns JournalPages into WrittenPages.

    Each item has one outcome: changed (restored, at least in part), unchanged (already as before the run), superseded
    (left, as it was changed since), vanished (left, as it was deleted since), dead (it could not be written). Items
    that are left are stored before they are counted. A dry run only counts.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        job, resources = self._job, self._resources
        self._table = job.written_table
        self._leases = resources.state().leases
        self._signal = Signal(self._leases, job, resources.clock, resources.sleep)
        self._storage = resources.storage()
        self._journal = Journal(self._storage, self._table, journal_prefix(job))
        with report_errors(self._leases, job):
            self._wire = resources.wire(job.writers)
        self._rate_limiter = rate_limiter_of(job, resources)
        rate_queue, units, rest = self._rate_limiter.reads, self._rate_limiter.read_estimate, self._rate_limiter.rest
        self._reads = Reads(self._wire, self._table, rate_queue=rate_queue, units=units, sleep=rest)
        self._inserted: InsertedItems = inserted_items(self._wire, job, resources.sleep)
        self._rows = rows_of_undo(job)
        self._put_back = (
            InsertedItems(self._wire, self._rows, self._table.name, resources.sleep) if self._rows else None
        )
        self._unanswered = Unanswered(ends_run=True)
        self._only = self._waiting()

    def _waiting(self) -> dict[tuple[int, int], set[str]] | None:
        """The keys that are repeated, by split and page; None: all keys."""
        source = self._job.source
        if not (isinstance(source, JournalSource) and source.waiting):
            return None
        rows = self._resources.state().splits(source.waiting).all(self._job.splits)
        names = self._storage.names(object_key(self._job.table.name, source.waiting, NOT_RESTORED))
        return waiting_keys(self._storage, committed_notes(names, {row.split: row for row in rows}))

    def process(self, page: JournalPage) -> Iterator[WrittenPage]:
        with report_errors(self._leases, self._job), suppress(Interrupted):
            if context_of(self._job).interrupted:
                return
            records = self._records_of(page)
            if self._only is not None:
                records = records.only(self._only.get((page.page.claim.split, page.page.number), set()))
            put_back = self._put_back.rows_at if self._put_back is not None else no_rows
            how = self._reads, self._job.script.stamp, self._inserted.rows_at, put_back
            items = PageItems(self._table, records, *how)
            write_result = items.preview() if self._job.dry_run else items.restore(self._page_writer(items).write)
            yield WrittenPage(
                page.page,
                items.counts.plus(write_result.counts),
                write_result.units.plus(Units(rcu=items.rcu)),
                write_result.dead,
                samples(write_result.written),
                contention=write_result.contention,
                journal=store_not_restored(self._storage, self._job, page.page, items.not_restored(write_result)),
            )

    def _records_of(self, page: JournalPage) -> Records:
        """The page's records. A partial undo skips pages that lack a part of the journal, which may be of a later
        change."""
        assert isinstance(self._job.source, JournalSource)
        with suppress(RunFailed) if self._job.source.partial else nullcontext():
            if not self._job.source.partial or is_complete(page, self._journal):
                return records_of(page, self._journal, self._inserted, self._job.source.run)
        return Records()

    def _page_writer(self, items: PageItems) -> PageWriter:
        """The writer of restorations. Its conditions cover the restored attributes only; the others may have
        changed."""
        return PageWriter(
            Writes(self._wire, self._table.name, uncounted=self._job.stage.state_table),
            Lookups(self._reads, inserted=self._put_back),
            Statements(self._table, "changed", self._rows, taken_back=inserted_rows_of_job(self._job)),
            items.change_of,
            self._job.writers,
            yields=True,
            check_owner=self._signal.check_owner,
            wait_or_stop=self._signal.wait_or_stop,
            rate_queue=self._rate_limiter.writes,
            unanswered=self._unanswered,
            clock=self._resources.clock,
            sleep=self._resources.sleep,
        )

    def teardown(self) -> None:
        self._wire.close()
