"""The totals of a run's splits. All readers of a run use this module; a split that is done is read once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamodt.model.pages import Totals
from dynamodt.model.runs import RunRecord
from dynamodt.state.runs import UNDOING, Phase, phases, undo_phases

if TYPE_CHECKING:
    from dynamodt.state.split_rows import SplitRows
    from dynamodt.state.state import State

ROWS = 100  # that a look reads at most: one BatchGetItem


class _Slice:
    """Neighbouring splits, with their totals at the last look. A split that is done is not read again."""

    def __init__(self, splits: Iterable[int]) -> None:
        self.left = list(splits)
        self._done = Totals()
        self.totals = Totals()

    def look(self, rows: SplitRows) -> None:
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
    """The sum over a phase's splits. Each look reads one slice, in turn, and takes the others as they were: at 100 rows
    twice a second, the totals of one of 10,000 splits are at most a minute old."""

    def __init__(self, rows: SplitRows, splits: int) -> None:
        self._rows = rows
        self._slices = [_Slice(range(start, min(splits, start + ROWS))) for start in range(0, splits, ROWS)]
        self._turn = 0
        self._begun = False

    def look(self) -> Totals:
        """The approximate totals. The first look reads all splits, since an earlier attempt may have done many."""
        if not self._begun:
            return self.whole()
        going_on = [each for each in self._slices if each.left]
        if going_on:
            going_on[self._turn % len(going_on)].look(self._rows)
            self._turn += 1
        return self._sum()

    def whole(self) -> Totals:
        """The exact totals: every split that is not known to be done is read."""
        self._begun = True
        for each in self._slices:
            if each.left:
                each.look(self._rows)
        return self._sum()

    @property
    def pending(self) -> int:
        """The splits that are not known to be done."""
        return sum(len(each.left) for each in self._slices)

    def _sum(self) -> Totals:
        return sum_of(each.totals for each in self._slices)


def totals_of(state: State, found: Iterable[Phase]) -> Totals:
    """The totals of these phases now; each of their rows is read."""
    return sum_of(state.splits(one.run).totals(one.splits) for one in found)


def sum_of(parts: Iterable[Totals]) -> Totals:
    total = Totals()
    for part in parts:
        total = total.plus(part)
    return total


class RunTotals:
    """What a run has come to, over all its phases; while it is being undone, what its undo has come to."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._phases: dict[Phase, SplitTotals] = {}
        self._undo = 1  # the try that is running
        self.rows = 0  # rows that the last look has read

    def look(self, record: RunRecord) -> Totals:
        """The totals now. Splits that an earlier look has found done are not read again."""
        self.rows = 0
        found = self._undoing(record) if record.status == UNDOING else phases(record)
        return sum_of(map(self._look_at, found))

    def _look_at(self, phase: Phase) -> Totals:
        if phase not in self._phases:
            self._phases[phase] = SplitTotals(self._state.splits(phase.run), phase.splits)
        self.rows += self._phases[phase].pending
        return self._phases[phase].whole()

    def _undoing(self, record: RunRecord) -> tuple[Phase, ...]:
        """The phases of the undo's last try; the record does not name it."""
        while self._begun(undo_phases(record, self._undo + 1)):
            self._undo += 1
        return undo_phases(record, self._undo)

    def _begun(self, found: Iterable[Phase]) -> bool:
        self.rows += sum(one.splits for one in found)
        return any(any(self._state.splits(one.run).all(one.splits)) for one in found)
