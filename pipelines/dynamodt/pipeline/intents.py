"""The order of guarantee G3 for one page: journal, intent, write, checkpoint; and what a successor makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from dynamodt.model.items import Change, Image
from dynamodt.model.pages import Claim, Counts, Intent, JournalCount, Page, Totals, WrittenPage
from dynamodt.script.diff import count_records
from dynamodt.state.journal import Note


class JournalParts(Protocol):
    """What `state.journal.Journal` offers, and a test's fake must."""

    def write(
        self, split: int, page: int, fencing_token: int, part: int, changes: Sequence[Change], micros: int
    ) -> str: ...

    def intended(self, name: str) -> list[Change]: ...

    def write_note(self, split: int, page: int, fencing_token: int, note: Note) -> None: ...


class Intents(Protocol):
    """What `state.split_rows.UnitRows` offers, and a test's fake must."""

    def intend(self, claim: Claim, intent: Intent) -> None: ...


class IntentLog:
    """Announces the writes of one page. Without a journal (an idempotent script) there is nothing to announce."""

    def __init__(
        self,
        page: Page,
        before: Totals,
        without_write: Counts,
        journal: JournalParts | None,
        intents: Intents,
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
        """Journal the changes and make them known, in this order, before any of them is written. Raises Fenced."""
        if self._journal is None or not changes:
            return
        page = self._page
        micros = int(self._clock() * 1_000_000)
        part = self._journal.write(
            page.claim.split, page.number, page.claim.fencing_token, len(self._parts), changes, micros
        )
        self._parts = (*self._parts, part)
        self._records += count_records(changes)
        self._intents.intend(page.claim, self._intent())
        self.intended = True

    def write_result(self, void: Sequence[Image], unconfirmed: Sequence[Image]) -> None:
        """Note, before the checkpoint, which keys' changes had no effect, and which items are gone without it being
        known whether the run has deleted them: `undo` must take back neither. A page of several parts has a note too,
        so that `undo` can tell whether one of them is missing."""
        if self._journal is None or not self.intended:
            return
        if void or unconfirmed or len(self._parts) > 1:
            claim, note = self._page.claim, Note(len(self._parts), void, unconfirmed)
            self._journal.write_note(claim.split, self._page.number, claim.fencing_token, note)
            self._notes = 1

    @property
    def written(self) -> JournalCount:
        """What the page has in the journal, over all its owners."""
        return JournalCount(len(self._parts), self._records, self._notes)

    def found(self) -> list[list[Change]]:
        """What the owners before may have written of this page: their announcements, in order."""
        return [self._journal.intended(part) for part in self._parts] if self._journal is not None else []

    def _intent(self) -> Intent:
        page = self._page
        without_write, before, records = self._without_write, self._before, self._records
        return Intent(self._parts, page.cursor, page.last, without_write, page.rcu, page.number, before, records)


class Running:
    """What units have come to, page by page, ahead of their checkpoints; a unit that has ended is forgotten."""

    def __init__(self) -> None:
        self._totals: dict[tuple[int, int], Totals] = {}

    def before(self, page: Page) -> Totals:
        """What the page's unit had come to before it."""
        return self._totals.get((page.claim.split, page.claim.fencing_token)) or _beginning(page)

    def add(self, written: WrittenPage) -> Totals:
        """Count a page; returns what its unit has come to."""
        page = written.page
        totals = self.before(page).plus(totals_of(written))
        key = (page.claim.split, page.claim.fencing_token)
        if page.last:
            self._totals.pop(key, None)
        else:
            self._totals[key] = totals
        return totals


def totals_of(written: WrittenPage) -> Totals:
    """What one page has come to."""
    page = written.page
    return Totals(written.counts, written.units, int(page.last), written.contention, page.bytes, written.journal)


def _beginning(page: Page) -> Totals:
    intent = page.claim.intent
    return intent.before if page.recovers and intent is not None else page.claim.totals
