"""What is recorded about a page: its intent before it is written, its outcome and the checkpoint afterwards (guarantee
G3).

A later owner continues by the moment at which the earlier one died::

    before the intent      the page is read again; parts of the journal without an intent are ignored
    before the checkpoint  the page is recovered: every change of the intents is resolved by its item (`conflicts`)
    after the checkpoint   nothing is left to do

With a journal, only recorded changes are sent, and the record is conditional on the split's fencing token: a fenced
worker cannot begin a page, and the next owner knows which page was begun. Without a journal (for an idempotent script,
unless an undo is wanted), the page is read and applied again.

`PageCoder` encodes pages between processes.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import orjson
from apache_beam import coders

from dynamodt.model.pages import AppliedPage, Counts, Intent, JournalCount, JournalPage, Page, Totals, WrittenPage
from dynamodt.model.runs import Job
from dynamodt.model.tables import Atomic, Change, Check, Image
from dynamodt.pipeline.outcomes import store_dead_letters
from dynamodt.pipeline.signals import report_errors, stop
from dynamodt.state.journal import Journal, Note
from dynamodt.state.object_keys import SAMPLES, key_of_job

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources
    from dynamodt.pipeline.ownership import SplitOwnership
    from dynamodt.state.lease_rows import LeaseRows
    from dynamodt.state.split_rows import SplitRows
    from dynamodt.state.storage import Storage


class IntentLog:
    """Records the intents of one page. Without a journal (for an idempotent script) it records nothing."""

    def __init__(
        self,
        page: Page,
        before: Totals,
        without_write: Counts,
        journal: Journal | None,
        intents: SplitOwnership,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._page = page
        self._before = before
        self._without_write = without_write
        self._journal = journal
        self._intents = intents
        self._clock = clock
        intended = page.claim.intent if page.recovers else None
        self._parts = intended.parts if intended is not None else ()
        self._records = intended.records if intended is not None else 0
        self._notes = 0
        self.intended = intended is not None

    def record_intent(self, changes: Sequence[Change]) -> None:
        """Journal the changes, then record the part's name in the split's row, before any of them is sent.

        It is called several times for a page whose changes are transformed again after a conflict: each call adds a
        part. Raises Fenced when another worker owns the split, ServiceError when the storage cannot be written.
        """
        if self._journal is None or not changes:
            return
        page = self._page
        micros = int(self._clock() * 1_000_000)
        part = self._journal.write(
            page.claim.split, page.number, page.claim.fencing_token, len(self._parts), changes, micros
        )
        self._parts = (*self._parts, part)
        self._records += _count_records(changes)
        self._intents.intend(page.claim, self._intent())
        self.intended = True

    def record_result(
        self, void: Sequence[Image], unconfirmed: Sequence[Image], replaced: Sequence[Image] = ()
    ) -> None:
        """Store the page's note before the checkpoint: the keys whose changes had no effect, and the items that are
        gone, deleted by either the run or the application. `undo` must restore neither. A page of several parts always
        has a note, by which `undo` detects a missing part."""
        if self._journal is None or not self.intended:
            return
        if void or unconfirmed or replaced or len(self._parts) > 1:
            claim, note = self._page.claim, Note(len(self._parts), void, unconfirmed, replaced)
            self._journal.write_note(claim.split, self._page.number, claim.fencing_token, note)
            self._notes = 1

    @property
    def written(self) -> JournalCount:
        """The page's records in the journal, counted over all its owners."""
        return JournalCount(len(self._parts), self._records, self._notes)

    def found(self) -> list[list[Change]]:
        """The intents of previous owners of the page, in order; they may have been written."""
        return [self._journal.intended(part) for part in self._parts] if self._journal is not None else []

    def _intent(self) -> Intent:
        page = self._page
        without_write, before, records = self._without_write, self._before, self._records
        return Intent(self._parts, page.cursor, page.last, without_write, page.rcu, page.number, before, records)


def _count_records(changes: Sequence[Change]) -> int:
    """The number of journal records of the changes: one for each part that writes."""
    several = [change for change in changes if isinstance(change, Atomic)]
    written = sum(not isinstance(part, Check) for change in several for part in change.parts)
    return len(changes) - len(several) + written


class RunningTotals:
    """The totals of splits, page by page, ahead of their checkpoints; a split that has ended is dropped."""

    def __init__(self) -> None:
        self._totals: dict[tuple[int, int], Totals] = {}

    def before(self, page: Page) -> Totals:
        """The totals of the page's split before the page."""
        return self._totals.get((page.claim.split, page.claim.fencing_token)) or _beginning(page)

    def add(self, written: WrittenPage) -> Totals:
        """Count a page; returns the totals of its split."""
        page = written.page
        totals = self.before(page).plus(totals_of(written))
        key = (page.claim.split, page.claim.fencing_token)
        if page.last:
            self._totals.pop(key, None)
        else:
            self._totals[key] = totals
        return totals


def totals_of(written: WrittenPage) -> Totals:
    """The totals of one page."""
    page = written.page
    return Totals(written.counts, written.units, int(page.last), written.contention, page.bytes, written.journal)


def _beginning(page: Page) -> Totals:
    """The split's totals when this worker begins with it: those of its row or, for a recovered page, those from its
    intent, before the page. A checkpoint may be delayed, and a page must count once (ADR 023)."""
    intent = page.claim.intent
    return intent.before if page.recovers and intent is not None else page.claim.totals


_FLUSH_SECONDS = 1.0
_SAMPLES = 3


class RecordProgress(beam.DoFn):
    """WrittenPages to rows of the state table.

    A split's row is written every second and when the split ends. Dead letters are stored before they are counted, so
    that each counted one exists.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        state = self._resources.state()
        self._leases = state.leases
        self._rows = state.splits(self._job.run)
        self._storage = self._resources.storage()

    def start_bundle(self) -> None:
        clock = self._resources.clock
        self._recorder = PageRecorder(self._job, self._rows, self._leases, self._storage, clock)

    def process(self, page: WrittenPage) -> None:
        with report_errors(self._leases, self._job):
            self._recorder.add(page)

    def finish_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            self._recorder.flush()


@dataclass(slots=True)
class _Split:
    """The totals of a split, over all attempts. `page` is its last page, without images, since a split group has many
    splits in progress and would keep a page of each. `flushed`: the row has these totals."""

    totals: Totals
    page: Page
    flushed: bool = False


@dataclass(slots=True)
class PageRecorder:
    """Sums the splits of one bundle and checkpoints them: a page with an intent at once, others every second."""

    job: Job
    rows: SplitRows
    leases: LeaseRows
    objects: Storage
    clock: Callable[[], float] = time.monotonic
    _running: RunningTotals = field(default_factory=RunningTotals)
    _splits: dict[int, _Split] = field(default_factory=dict)
    _dead: int = 0
    _sampled: int = 0
    _flushed_at: float = 0.0

    def add(self, written: WrittenPage) -> None:
        """Count a page. Stops the run if there are more dead letters than `max_errors`. Raises Fenced."""
        page = written.page
        self._count_dead(written)
        self._store_samples(written)
        split = self._splits[page.claim.split] = _Split(self._running.add(written), page._replace(images=[]))
        if written.intended or page.last:
            self._checkpoint(split, written.intended)
        if self.clock() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows of all splits that have changed since their last checkpoint; drop the splits that have
        ended."""
        for number, split in list(self._splits.items()):
            if not split.flushed:
                self._checkpoint(split)
            if split.page.last:
                del self._splits[number]
        self._flushed_at = self.clock()

    def _checkpoint(self, split: _Split, intended: bool = False) -> None:
        page = split.page
        self.rows.checkpoint(page.claim, page.number, page.cursor, split.totals, intended=intended)
        split.flushed = True

    def _count_dead(self, written: WrittenPage) -> None:
        for step in ("write", "doubt"):  # in separate files: `retry` leaves doubts to the operator
            own = [dead_letter for dead_letter in written.dead if (dead_letter.step == "doubt") == (step == "doubt")]
            store_dead_letters(self.objects, self.job, written.page, step, own)
        self._dead += written.counts.dead
        if self._dead > self.job.max_errors:
            stop(self.leases, self.job, "max-errors")

    def _store_samples(self, written: WrittenPage) -> None:
        if self._sampled >= _SAMPLES or not written.samples:
            return
        self._sampled += len(written.samples)
        name = f"{key_of_job(self.job, SAMPLES)}{written.page.claim.split:06d}-{written.page.number:08d}.json"
        self.objects.write(name, orjson.dumps(written.samples))


_ITEM_BYTES = 500


class PageCoder(coders.Coder):
    """Pickles a page. Its size is estimated, since Beam samples the sizes of elements, and would pickle whole pages
    only to measure them (6 % of the client's CPU)."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        """The approximate size in bytes, from the number of items."""
        page = value.page if isinstance(value, AppliedPage) else value
        return _ITEM_BYTES * (len(page.images) if isinstance(page, Page) else 1)

    def is_deterministic(self) -> bool:
        return False


for _kind in (Page, AppliedPage, WrittenPage, JournalPage):
    coders.registry.register_coder(_kind, PageCoder)
