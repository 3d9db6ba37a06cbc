"""The pipeline of an undo (guarantee G5), for one phase of the run that is undone.

::

    split groups ── Reshuffle ── ReadJournal ── RestoreItems ── RecordProgress
                                  JournalPage     WrittenPage

Its splits are those of the phase, and its pages are those that the phase has journaled. It reads the current items of a
page, and a restored item needs no further write: it journals nothing, and an unfinished page is repeated. Its writes
are conditional, so that a concurrent write of the application is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.errors import RunFailed
from dynamodt.model.pages import Claim, Counts, JournalPage, Page, Units, WrittenPage
from dynamodt.model.reports import NotRestored
from dynamodt.model.runs import Job, JournalSource
from dynamodt.model.tables import Atomic, Change, Check, Image, Insert, Journaled, Remove, TableSpec, Update
from dynamodt.pipeline.conflicts import CurrentItems, has_own_row, inserted_rows_of, inserts_of
from dynamodt.pipeline.outcomes import (
    FOLLOWS,
    MOST_SAMPLES,
    WAITS,
    WriteResult,
    samples,
    store_not_restored,
    waiting_keys,
)
from dynamodt.pipeline.own_writes import InsertedItems, Lookups, inserted_items
from dynamodt.pipeline.ownership import ReadPages
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.restoration import (
    CHANGED,
    DELETED,
    STAYS,
    TAKEN,
    UNCONFIRMED,
    Restoration,
    matches_no_image,
    restoration,
)
from dynamodt.pipeline.signals import Interrupted, Signal, context_of, report_errors
from dynamodt.pipeline.write_page import PageWriter
from dynamodt.script.codec import image_digest, key_text
from dynamodt.script.diff import key_of, parts_of, write_units
from dynamodt.state.journal import Journal
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
    from dynamodt.pipeline.resources import Resources


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


class Records(NamedTuple):
    """The records of a page that may have had an effect, the keys from and to which items were moved, the unconfirmed
    deletions, and the updates of void keys, all by `key_text`."""

    by_key: dict[str, list[Journaled]]
    moved_from: dict[str, set[str]]
    moved_to: dict[str, dict[str, Image]]
    unconfirmed: dict[str, Image]
    void: dict[str, list[Update]]

    def only(self, keys: Collection[str]) -> Records:
        """The records of these keys, without unconfirmed deletions, which wait for no key."""
        by_key = {text: found for text, found in self.by_key.items() if text in keys}
        void = {text: found for text, found in self.void.items() if text in keys}
        return self._replace(by_key=by_key, void=void, unconfirmed={})


def records_of(page: JournalPage, journal: Journal, inserted: InsertedItems, phase: str = "") -> Records:
    """The records of a page. A note of void keys applies to all intents before it, of its own and of previous owners.
    The inserted rows show whether insertions, and changes in one transaction with them, have happened: a refused
    transaction that the network repeats after its page has ended may still take effect as a whole. The row of another
    transaction with the same insertion, of a later version of the item or of another `phase`, proves nothing."""
    found = Records({}, {}, {}, {}, {})
    notes = [(part_of(name).fencing_token, journal.read_note(name)) for name in page.notes]
    for _, note in notes:
        found.unconfirmed.update((key_text(key), key) for key in note.unconfirmed)
    intended = [(part_of(name).fencing_token, change) for name in page.parts for change in journal.intended(name)]
    rows = inserted.rows_at([part.key for part in inserts_of([change for _, change in intended])])
    current = CurrentItems({}, {}, rows, phase=phase)
    for fencing_token, change in intended:
        void = {key_text(key) for since, note in notes if since >= fencing_token for key in note.void}
        if not inserts_of([change]):
            _add(found, change, void)
        elif has_own_row(change, current) if isinstance(change, Atomic) else inserted_rows_of(change, rows):
            _add(found, change, set())
    return found


def _add(found: Records, change: Change, void: set[str]) -> None:
    parts = parts_of(change)
    moves = len(parts) > 1 and any(isinstance(part, Remove) for part in parts)
    for part in parts:
        text = key_text(part.key)
        if isinstance(part, Check):
            continue
        if text in void:
            if isinstance(part, Update):
                found.void.setdefault(text, []).append(part)
            continue
        if isinstance(part, Remove) and text in found.unconfirmed:
            continue
        found.by_key.setdefault(text, []).append(part)
        if moves and isinstance(part, Insert):
            found.moved_from.setdefault(text, set()).add(key_text(change.key))
            found.moved_to.setdefault(key_text(change.key), {})[text] = part.key


# ---------------------------------------------------------------- their items


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
        rate_queue, units = self._rate_limiter.reads, self._rate_limiter.read_estimate
        self._reads = Reads(self._wire, self._table, rate_queue=rate_queue, units=units, sleep=resources.sleep)
        self._inserted: InsertedItems = inserted_items(self._wire, job, resources.sleep)
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
            items = PageItems(self._table, records, self._reads, self._job.script.stamp, self._inserted)
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
        return Records({}, {}, {}, {}, {})

    def _page_writer(self, items: PageItems) -> PageWriter:
        """The writer of restorations. Its conditions cover the restored attributes only; the others may have
        changed."""
        return PageWriter(
            Writes(self._wire, self._table.name),
            Lookups(self._reads),
            Statements(self._table, "changed"),
            items.change_of,
            self._job.writers,
            check_owner=self._signal.check_owner,
            wait_or_stop=self._signal.wait_or_stop,
            rate_queue=self._rate_limiter.writes,
            clock=self._resources.clock,
            sleep=self._resources.sleep,
        )

    def teardown(self) -> None:
        self._wire.close()


class PageItems:
    """The items of one page, read by the constructor: `changes` restore them; `counts` has the number of all items, and
    the outcomes of those that need no write."""

    def __init__(
        self,
        table: TableSpec,
        records: Records,
        reads: Reads,
        stamp: str | None = None,
        inserted: InsertedItems | None = None,
    ) -> None:
        self._table = table
        self._inserted = inserted
        self._moved_to = records.moved_to
        self._unconfirmed = records.unconfirmed
        self._moved_from = records.moved_from
        self._reads = reads
        self.rcu = 0.0  # the cost of reading the items
        self._records = {**self._void_but_stamped(records.void, stamp), **records.by_key}
        self._found = self._read_and_decide(list(self._records))
        self.changes: list[Change] = [found.change for found in self._found.values() if found.change is not None]
        alone = len(self._unconfirmed.keys() - self._records.keys())
        self.counts = Counts(read=len(self._records) + alone, superseded=alone)
        for found in self._found.values():
            if found.change is None:
                kind = {"": "unchanged", DELETED: "vanished"}.get(found.why, "superseded")
                self.counts = self.counts._replace(**{kind: getattr(self.counts, kind) + 1})

    def _void_but_stamped(self, void: dict[str, list[Update]], stamp: str | None) -> dict[str, list[Journaled]]:
        """The updates that were void for their page, but whose item has their stamp: they were refused, and then
        repeated by the network."""
        if stamp is None or not void:
            return {}
        current = self._reads.items([updates[0].key for updates in void.values()])
        self.rcu += current.rcu
        stamped: dict[str, list[Journaled]] = {}
        for text, updates in void.items():
            mark = current.items.get(text, {}).get(stamp)
            if found := [update for update in updates if mark and update.sets.get(stamp) == mark]:
                stamped[text] = [*found]
        return stamped

    def restore(self, write: Callable[[Sequence[Change]], WriteResult]) -> WriteResult:
        """Writes the changes. An item that was moved here is deleted once its source is restored, and stays if that
        fails, since only the journal would then contain it."""
        total = WriteResult()
        waiting = {key_text(change.key): change for change in self.changes}
        lost = {text for text, found in self._found.items() if found.why and found.change is None}
        while ready := [text for text in waiting if not self._sources(text) & (waiting.keys() | lost)]:
            found = write([waiting.pop(text) for text in ready])
            dead = {key_text(one.key) for one in found.dead}
            lost.update(dead, self._not_written({*map(key_text, found.void)} - dead))
            total.add(found)
        follows = self._freed_later(set(waiting), lost)
        for text in waiting:
            self._found[text] = Restoration(None, (), FOLLOWS if text in follows else STAYS)
            total.counts = total.counts._replace(superseded=total.counts.superseded + 1)
        return total

    def preview(self) -> WriteResult:
        """The outcome without concurrent writes, with estimated units. It counts waiting items as restored, and items
        that were moved to their keys as deleted."""
        waits = [text for text, found in self._found.items() if found.why == WAITS]
        back = {text: restoration(self._table, self._records[text], None) for text in waits}
        self._found.update(back)
        self.counts = self.counts._replace(superseded=self.counts.superseded - len(back))
        changes = [*self.changes, *(found.change for found in back.values() if found.change is not None)]
        units = Units(wcu=float(sum(map(write_units, changes))))
        return WriteResult(Counts(changed=len(changes)), units, written=changes[:MOST_SAMPLES])

    def _freed_later(self, waiting: set[str], lost: set[str]) -> set[str]:
        """Those of the waiting keys whose sources all wait for a key of their own."""
        later = {text for text in lost if text in self._found and self._found[text].why == WAITS}
        found: set[str] = set()
        while more := {text for text in waiting - found if self._sources(text) & (waiting | lost) <= later}:
            found |= more
            later |= more
        return found

    def _sources(self, text: str) -> set[str]:
        return {source for source in self._moved_from.get(text, ()) if source in self._records}

    def change_of(self, image: Image) -> Change | None:
        """The change of a concurrently modified item."""
        text = key_text(key_of(self._table, image))
        self._found[text] = restoration(self._table, self._records[text], image)
        return self._found[text].change

    def _not_written(self, void: set[str]) -> set[str]:
        """Those of the items without a write that are not restored. They are read again: if a request was executed
        twice, its item is restored although it was refused."""
        for text, one in self._read_and_decide(list(void)).items():
            changed_back = one.change is not None  # it was changed during the write
            self._found[text] = one._replace(why=CHANGED, restored=()) if changed_back else one
        return {text for text in void if self._found[text].why}

    def not_restored(self, write_result: WriteResult) -> list[NotRestored]:
        """The items that were not restored, after the writes."""
        dead = {key_text(one.key): NotRestored(one.key, (), one.error) for one in write_result.dead}
        judged = {
            text: NotRestored(self._records[text][-1].key, one.not_restored, one.why, one.restored)
            for text, one in self._found.items()
            if one.why
        }
        unconfirmed = (NotRestored(key, (), UNCONFIRMED) for key in self._unconfirmed.values())
        return [*{**judged, **dead}.values(), *unconfirmed]

    def _read_and_decide(self, texts: Sequence[str]) -> dict[str, Restoration]:
        keys = {text: self._records[text][-1].key for text in texts}
        for text in texts:
            keys.update(self._moved_to.get(text, {}))
        if not keys:
            return {}
        current = self._reads.items(list(keys.values()))
        self.rcu += current.rcu
        found = {text: self._restoration(text, current.items) for text in texts}
        others = {text for text in texts if matches_no_image(self._records[text], current.items.get(text))}
        asked = [keys[text] for text, one in found.items() if one.why == TAKEN or text in others]
        own = self._inserted.rows_at(asked) if asked and self._inserted is not None else {}
        for text, row in own.items():
            if row.item == image_digest(current.items[text]):
                found[text] = Restoration(None, (), DELETED if text in others else WAITS)
        return found

    def _restoration(self, text: str, current: dict[str, Image]) -> Restoration:
        """The restoration of a key. A moved item that exists under neither key stays deleted, since an undo deletes it
        last."""
        moved_to = self._moved_to.get(text)
        if moved_to and text not in current and not moved_to.keys() & current.keys():
            return Restoration(None, (), DELETED)
        return restoration(self._table, self._records[text], current.get(text))
