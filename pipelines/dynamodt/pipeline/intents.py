"""The order of guarantee G3 for one page: journal, intent, write, checkpoint. A later owner recovers the page from
them.

A later owner continues by the moment at which the earlier one died::

    before the intent      the page is read again; parts of the journal without an intent are ignored
    before the checkpoint  the page is recovered: every change of the intents is resolved by its item (`conflicts`)
    after the checkpoint   nothing is left to do

With a journal, only recorded changes are sent, and the record is conditional on the split's fencing token: a fenced
worker cannot begin a page, and the next owner knows which page was begun. Without a journal (for an idempotent script,
unless an undo is wanted), the page is read and applied again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dynamodt.model.pages import Counts, Intent, JournalCount, Page, Totals, WrittenPage
from dynamodt.model.tables import Atomic, Change, Check, Image
from dynamodt.state.journal import Note

if TYPE_CHECKING:
    from dynamodt.pipeline.ownership import SplitOwnership
    from dynamodt.state.journal import Journal


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

    def record_result(self, void: Sequence[Image], unconfirmed: Sequence[Image]) -> None:
        """Store the page's note before the checkpoint: the keys whose changes had no effect, and the items that are
        gone, deleted by either the run or the application. `undo` must restore neither. A page of several parts always
        has a note, by which `undo` detects a missing part."""
        if self._journal is None or not self.intended:
            return
        if void or unconfirmed or len(self._parts) > 1:
            claim, note = self._page.claim, Note(len(self._parts), void, unconfirmed)
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
