"""A run's units in the state table: who owns each, where it stands, and what it is about to write.

A unit is owned by the last worker that claimed it: the claim raises the row's `epoch`, and intent and checkpoint are
conditional on it. A worker that was thought dead and wakes up finds another epoch and is `Fenced`.

Within an epoch the writes are ordered by numbers that only grow: a checkpoint by its `page`, an intent by `announced`
(its page and how many parts it has). An earlier one that is carried out late is refused (ADR 025).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from dynamodt.errors import Fenced
from dynamodt.model.items import Cursor, Item
from dynamodt.model.pages import Claim, Contention, Counts, Intent, JournalCount, OwnershipPeriod, Totals, Units
from dynamodt.state.rows import ConditionFailed, RowKey, Rows, write_once

_OURS = "fencing_token = :fencing_token"
_LATER_PAGE = f"{_OURS} AND page < :page"
_LATER_INTENT = f"{_LATER_PAGE} AND intended < :intended"
_PARTS = 1_000_000  # more than a page is announced in
_NOTHING = "null"
_CLAIM_TRIES = 20  # the row moves on between read and update only while its owner is still alive


class SplitRows:
    """The unit rows of one run. Its methods raise Fenced when another worker owns the unit."""

    def __init__(self, rows: Rows, run: str) -> None:
        self._rows = rows
        self._run = run

    def claim(self, split: int, attempt: int, *, recovers: bool = True) -> Claim:
        """Take a unit over, for an attempt that is not older than its owner's; returns where it stands. Who does not
        recover what the owner before has announced reads again from the last checkpoint on."""
        claimant = secrets.token_hex(8)
        for _ in range(_CLAIM_TRIES):
            row = self._rows.get(self._key(split)) or {}
            if int(row.get("attempt", 0)) > attempt:
                break
            before = _claim(split, row)
            claimed = before._replace(
                fencing_token=before.fencing_token + 1, periods=_with_period(before, attempt, recovers)
            )
            if not recovers:
                claimed = claimed._replace(journal=before.journal.plus(_intended(before.intent)))
            if self._take(claimed, attempt, row, recovers, claimant):
                return claimed if recovers else claimed._replace(intent=None)
        raise self._fenced(split)

    def _take(self, claimed: Claim, attempt: int, row: Item, recovers: bool, claimant: str) -> bool:
        """Only if the row is still as it was read: an owner who is not dead yet may have moved it on since, and we
        would go back to before what he has written. An announcement that is passed over is in the era now."""
        fresh: dict[str, Any] = {} if row else {"page": 0}
        passed_over = {} if row and recovers else {"intent": _NOTHING}
        taken = {
            "fencing_token": claimed.fencing_token,
            "attempt": attempt,
            "claimant": claimant,
            "periods": json.dumps(claimed.periods),
            "intended": 0,
            "journal": json.dumps(claimed.journal),
            **fresh,
            **passed_over,
        }
        condition = f"{_OURS} AND page = :page AND intent = :intent" if row else "attribute_not_exists(fencing_token)"
        values = {name: row[name] for name in ("fencing_token", "page", "intent")} if row else {}
        try:
            write_once(self._rows, self._key(claimed.split), taken, condition, **values)
        except ConditionFailed:
            return False
        return True

    def intend(self, claim: Claim, intent: Intent) -> None:
        """Announce the page after the checkpoint, before any of it is written; each time with one part more."""
        number = intent.page * _PARTS + len(intent.parts)
        row = {"intent": json.dumps(intent), "intended": number}
        self._update(claim, row, _LATER_INTENT, page=intent.page, intended=number)

    def checkpoint(
        self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, *, intended: bool = True
    ) -> None:
        """Record that the unit is through with `page`. The totals are the unit's whole, over all attempts; `done` is
        set when it has ended. An announcement stands until the page that was `announced` is recorded: one of the next
        page may have come before a late checkpoint."""
        row = {
            "page": page,
            "cursor": json.dumps(cursor),
            "counts": json.dumps(totals.counts),
            "units": json.dumps(totals.units),
            "contention": json.dumps(totals.contention),
            "bytes": totals.bytes,
            "journal": json.dumps(totals.journal),
            "done": bool(totals.done),
        }
        self._update(claim, {**row, "intent": _NOTHING} if intended else row, _LATER_PAGE, page=page)

    def _update(self, claim: Claim, row: dict[str, Any], condition: str, **values: Any) -> None:
        row["fencing_token"] = (
            claim.fencing_token
        )  # whose the row is, where it refuses a second sending of what it shows already
        try:
            write_once(self._rows, self._key(claim.split), row, condition, fencing_token=claim.fencing_token, **values)
        except ConditionFailed as error:
            raise self._fenced(claim.split) from error

    def read(self, split: int) -> Claim | None:
        """Where a unit stands, or None when it has not begun; nothing is claimed."""
        return self.begin_read(split)()

    def begin_read(self, split: int) -> Callable[[], Claim | None]:
        """`read`, sent; what it returns waits for the answer."""
        answer = self._rows.begin_get(self._key(split))

        def claim() -> Claim | None:
            row = answer()
            return _claim(split, row) if row else None

        return claim

    def all(self, units: int) -> Iterator[Claim]:
        """Where the units stand that have begun; nothing is claimed."""
        return self.some(range(units))

    def some(self, units: Iterable[int]) -> Iterator[Claim]:
        """Where these units stand, as far as they have begun; a row that is not asked for is not paid for."""
        for row in self._rows.get_all([self._key(split) for split in units]):
            yield _claim(int(row["pk"].rpartition("#")[2]), row)

    def totals(self, units: int) -> Totals:
        """The sum over all units; one that has not begun counts nothing."""
        totals = Totals()
        for claim in self.all(units):
            totals = totals.plus(claim.totals)
        return totals

    def _key(self, split: int) -> RowKey:
        return f"RUN#{self._run}#{split}", "UNIT"

    def _fenced(self, split: int) -> Fenced:
        return Fenced(f"another process has taken unit {split} over", where=f"run {self._run}")


def _with_period(before: Claim, attempt: int, recovers: bool) -> tuple[OwnershipPeriod, ...]:
    """The new owner begins with the page that is announced; those before it stay as they were, recorded or not."""
    intent = before.intent
    if intent is None:
        return (*before.periods, OwnershipPeriod(before.fencing_token + 1, before.page, (), attempt))
    after = intent.page - 1 if recovers else before.page
    return (*before.periods, OwnershipPeriod(before.fencing_token + 1, after, intent.parts, attempt))


def _intended(intent: Intent | None) -> JournalCount:
    """What stays in the journal of a page that is announced, and read again by its next owner."""
    return JournalCount() if intent is None else JournalCount(len(intent.parts), intent.records)


def _claim(split: int, row: Item) -> Claim:
    page, intent = int(row.get("page", 0)), _intent(_loaded(row, "intent"))
    return Claim(
        split=split,
        fencing_token=int(row.get("fencing_token", 0)),
        page=page,
        cursor=_loaded(row, "cursor"),
        counts=Counts(*(_loaded(row, "counts") or ())),
        units=Units(*(_loaded(row, "units") or ())),
        done=bool(row.get("done", False)),
        intent=intent if intent is not None and intent.page > page else None,  # an older one is over
        contention=Contention(*(_loaded(row, "contention") or ())),
        bytes=int(row.get("bytes", 0)),
        periods=tuple(
            OwnershipPeriod(fencing_token, after, tuple(parts), *rest)
            for fencing_token, after, parts, *rest in _loaded(row, "periods") or ()
        ),
        journal=JournalCount(*(_loaded(row, "journal") or ())),
    )


def _loaded(row: Item, name: str) -> Any:
    return json.loads(row.get(name, "null"))


def _intent(value: list[Any] | None) -> Intent | None:
    if value is None:
        return None
    parts, cursor, last, counts, rcu, page, before, records = value
    return Intent(tuple(parts), cursor, last, Counts(*counts), rcu, page, _totals(before), records)


def _totals(value: list[Any]) -> Totals:
    counts, units, done, contention, read, journal = value
    return Totals(Counts(*counts), Units(*units), done, Contention(*contention), read, JournalCount(*journal))
