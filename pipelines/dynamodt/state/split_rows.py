"""A run's splits in the state table: each split's owner, last checkpoint and intent; and the totals over splits. A
split that is done is read once.

A split is owned by the last worker that claimed it: the claim raises the row's fencing token, and intent and checkpoint
are conditional on it. A worker that resumes after another has claimed its split finds a higher token and is `Fenced`.

The row of a split::

    pk, sk                                        RUN#<run, or one of its phases>#<split>, SPLIT
    fencing_token, attempt, claimant              of the owner; `claimant` is random, and shows a repeated claim
    page, cursor, done                            the last checkpoint: pages from 1, where the next one starts, the end
    counts, units, contention, bytes, journal     the totals up to that page, over all owners
    intent, intended                              the page that may have been written since, and its number
    periods                                       the owners so far, and the page after which each began
    schema

Under one token the writes are ordered by numbers that only grow: a checkpoint by its `page`, an intent by `intended`
(its page and its number of parts). A delayed earlier write is refused (ADR 025).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dynamodt.errors import Fenced
from dynamodt.model.pages import Claim, Intent, OwnershipPeriod, Totals
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Cursor, Item
from dynamodt.state.row_codec import SCHEMA, ConditionFailed, RowKey, attributes, from_row, write_once
from dynamodt.state.runs import UNDOING, Phase, phases, undo_phases

if TYPE_CHECKING:
    from dynamodt.state.state import Rows, State


_OURS = "fencing_token = :fencing_token"
_LATER_PAGE = f"{_OURS} AND page < :page"
_LATER_INTENT = f"{_OURS} AND intended < :intended"
_PARTS = 1_000_000  # more than the intent of a page has
_CLAIM_TRIES = 20  # the row changes between read and update only while its owner is alive


class SplitRows:
    """The rows of one run's splits. Its methods raise Fenced when another worker owns the split."""

    def __init__(self, rows: Rows, run: str) -> None:
        self._rows = rows
        self._run = run

    def claim(self, split: int, attempt: int) -> Claim:
        """Claims a split, unless its owner belongs to a later attempt. Returns the row as claimed, with the previous
        owner's intent."""
        claimant = secrets.token_hex(8)
        for _ in range(_CLAIM_TRIES):
            row = self._rows.get(self._key(split)) or {}
            if int(row.get("attempt", 0)) > attempt:
                break
            before = self._claim(split, row)
            token = before.fencing_token + 1
            claimed = before._replace(fencing_token=token, periods=_with_period(before, attempt))
            if self._take(claimed, attempt, row, claimant):
                return claimed
        raise self._fenced(split)

    def _take(self, claimed: Claim, attempt: int, row: Item, claimant: str) -> bool:
        """Writes the claim if the row is as it was read. If a live owner has written since, work would resume at an
        older checkpoint."""
        taken = attributes(Claim, fencing_token=claimed.fencing_token, periods=claimed.periods)
        taken |= {"attempt": attempt, "claimant": claimant}
        taken |= {} if row else {"page": 0, "intended": 0, "schema": SCHEMA, **attributes(Claim, intent=None)}
        condition = f"{_OURS} AND page = :page AND intent = :intent" if row else "attribute_not_exists(fencing_token)"
        values = {name: row[name] for name in ("fencing_token", "page", "intent")} if row else {}
        try:
            write_once(self._rows, self._key(claimed.split), taken, condition, **values)
        except ConditionFailed:
            return False
        return True

    def intend(self, claim: Claim, intent: Intent) -> None:
        """Records the intent of the page after the checkpoint, before any of the page is written. Each further call has
        one more part."""
        number = intent.page * _PARTS + len(intent.parts)
        row = {**attributes(Claim, intent=intent), "intended": number}
        self._update(claim, row, _LATER_INTENT, intended=number)

    def checkpoint(
        self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, *, intended: bool = True
    ) -> None:
        """Records that `page` is written; the next page starts at `cursor`. The totals are those of the split over all
        attempts; `done` marks its end. With `intended`, the page's intent is removed, too; the intent of the next page,
        which may precede a delayed checkpoint of this page, stays."""
        row = attributes(
            Claim,
            page=page,
            cursor=cursor,
            counts=totals.counts,
            units=totals.units,
            contention=totals.contention,
            bytes=totals.bytes,
            journal=totals.journal,
            done=bool(totals.done),
            **({"intent": None} if intended else {}),
        )
        self._update(claim, row, _LATER_PAGE, page=page)

    def _update(self, claim: Claim, row: dict[str, Any], condition: str, **values: Any) -> None:
        token = claim.fencing_token
        row["fencing_token"] = token  # identifies the row as this owner's if it refuses a repeated request
        try:
            write_once(self._rows, self._key(claim.split), row, condition, fencing_token=token, **values)
        except ConditionFailed as error:
            raise self._fenced(claim.split) from error

    def read(self, split: int) -> Claim | None:
        """A split's row, without claiming it; None when the split has not begun."""
        return self.begin_read(split)()

    def begin_read(self, split: int) -> Callable[[], Claim | None]:
        """Sends `read`; the function that it returns waits for the response."""
        answer = self._rows.begin_get(self._key(split))

        def claim() -> Claim | None:
            row = answer()
            return self._claim(split, row) if row else None

        return claim

    def all(self, splits: int) -> Iterator[Claim]:
        """The rows of the splits that have begun, out of `splits` splits, without claiming them."""
        return self.some(range(splits))

    def by_split(self, splits: int) -> dict[int, Claim]:
        """The rows of `all`, by split."""
        return {claim.split: claim for claim in self.all(splits)}

    def some(self, splits: Iterable[int]) -> Iterator[Claim]:
        """The rows of those of these splits that have begun; no other rows are read."""
        for row in self._rows.get_all([self._key(split) for split in splits]):
            yield self._claim(int(row["pk"].rpartition("#")[2]), row)

    def totals(self, splits: int) -> Totals:
        """The sum over all splits that have begun."""
        return sum_of(claim.totals for claim in self.all(splits))

    def is_open(self, splits: int) -> bool:
        """Whether one of the splits is left to finish, or to begin."""
        return self.totals(splits).done < splits

    def _claim(self, split: int, row: Item) -> Claim:
        return from_row(Claim, {"split": split, "fencing_token": 0, **row}, self._rows.where)

    def _key(self, split: int) -> RowKey:
        return f"RUN#{self._run}#{split}", "SPLIT"

    def _fenced(self, split: int) -> Fenced:
        return Fenced(f"another process has taken split {split} over", where=f"run {self._run}")


def _with_period(before: Claim, attempt: int) -> tuple[OwnershipPeriod, ...]:
    """The ownership periods with the new owner's, which starts at the intended page, or after the last checkpoint."""
    intent, token = before.intent, before.fencing_token + 1
    if intent is None:
        return (*before.periods, OwnershipPeriod(token, before.page, (), attempt))
    return (*before.periods, OwnershipPeriod(token, intent.page - 1, intent.parts, attempt))


ROWS = 100  # the most that a poll reads: one BatchGetItem


class _Slice:
    """Consecutive splits, with their totals at the last poll. A split that is done is not read again."""

    def __init__(self, splits: Iterable[int]) -> None:
        self.left = list(splits)
        self._done = Totals()
        self.totals = Totals()

    def poll(self, rows: SplitRows) -> None:
        going_on, done = Totals(), set()
        for claim in rows.some(self.left):
            if claim.done:
                done.add(claim.split)
                self._done = self._done.plus(claim.totals)
            else:
                going_on = going_on.plus(claim.totals)
        self.left = [split for split in self.left if split not in done]
        self.totals = self._done.plus(going_on)


class SplitTotals:
    """The sum over a phase's splits. Each poll reads one slice, in turn, and uses the last known totals of the others:
    with 10,000 splits and two polls of 100 rows a second, no total is older than a minute."""

    def __init__(self, rows: SplitRows, splits: int) -> None:
        self._rows = rows
        self._slices = [_Slice(range(start, min(splits, start + ROWS))) for start in range(0, splits, ROWS)]
        self._turn = 0
        self._begun = False

    def poll(self) -> Totals:
        """The approximate totals. The first poll reads all splits, since an earlier attempt may have done many."""
        if not self._begun:
            return self.whole()
        going_on = [each for each in self._slices if each.left]
        if going_on:
            going_on[self._turn % len(going_on)].poll(self._rows)
            self._turn += 1
        return self._sum()

    def whole(self) -> Totals:
        """The exact totals: every split that is not known to be done is read."""
        self._begun = True
        for each in self._slices:
            if each.left:
                each.poll(self._rows)
        return self._sum()

    @property
    def pending(self) -> int:
        """The splits that are not known to be done."""
        return sum(len(each.left) for each in self._slices)

    def _sum(self) -> Totals:
        return sum_of(each.totals for each in self._slices)


def totals_of(state: State, found: Iterable[Phase]) -> Totals:
    """The current totals of these phases; all of their rows are read."""
    return sum_of(state.splits(one.run).totals(one.splits) for one in found)


def sum_of(parts: Iterable[Totals]) -> Totals:
    total = Totals()
    for part in parts:
        total = total.plus(part)
    return total


class RunTotals:
    """The totals of a run over all its phases; while it is being undone, those of its undo."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._phases: dict[Phase, SplitTotals] = {}
        self._undo = 1  # the try that is running
        self.rows = 0  # rows that the last poll has read

    def poll(self, record: RunRecord) -> Totals:
        """The current totals. Splits that an earlier poll has found done are not read again."""
        self.rows = 0
        found = self._undoing(record) if record.status == UNDOING else phases(record)
        return sum_of(map(self._poll_phase, found))

    def _poll_phase(self, phase: Phase) -> Totals:
        if phase not in self._phases:
            self._phases[phase] = SplitTotals(self._state.splits(phase.run), phase.splits)
        self.rows += self._phases[phase].pending
        return self._phases[phase].whole()

    def _undoing(self, record: RunRecord) -> tuple[Phase, ...]:
        """The phases of the undo's last try. Its number is not in the record and is found from the rows."""
        while self._begun(undo_phases(record, self._undo + 1)):
            self._undo += 1
        return undo_phases(record, self._undo)

    def _begun(self, found: Iterable[Phase]) -> bool:
        self.rows += sum(one.splits for one in found)
        return any(any(self._state.splits(one.run).all(one.splits)) for one in found)
