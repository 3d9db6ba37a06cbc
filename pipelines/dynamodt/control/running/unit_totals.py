"""What a pass has come to while it runs, at a price that does not grow with it: a large one has ten thousand units."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dynamodt.model import Claim, Totals

ROWS = 100  # of units, that a look reads at most: one BatchGetItem


class Units(Protocol):
    """What `aws.unit_rows.UnitRows` offers, and a test's fake must."""

    def some(self, units: Iterable[int]) -> Iterable[Claim]: ...


class _Slice:
    """Some neighbouring units: what they had come to when they were looked at last. One that is done is not read
    again."""

    def __init__(self, units: Iterable[int]) -> None:
        self.left = list(units)
        self._done = Totals()
        self.totals = Totals()

    def look(self, rows: Units) -> None:
        going_on, done = Totals(), set()
        for claim in rows.some(self.left):
            if claim.done:
                done.add(claim.unit)
                self._done = self._done.plus(claim.totals)
            else:
                going_on = going_on.plus(claim.totals)
        self.left = [unit for unit in self.left if unit not in done]
        self.totals = self._done.plus(going_on)


class UnitTotals:
    """The sum over the units of a pass. A look reads one slice of them, each in its turn, and takes the others as they
    were: with 100 rows twice a second, what one of 10,000 units has come to is a minute old at most."""

    def __init__(self, rows: Units, units: int) -> None:
        self._rows = rows
        self._slices = [_Slice(range(start, min(units, start + ROWS))) for start in range(0, units, ROWS)]
        self._turn = 0
        self._begun = False

    def look(self) -> Totals:
        """Where the pass stands, closely. The first look reads all: an earlier attempt may have come far."""
        if not self._begun:
            return self.whole()
        going_on = [each for each in self._slices if each.left]
        if going_on:
            going_on[self._turn % len(going_on)].look(self._rows)
            self._turn += 1
        return self._sum()

    def whole(self) -> Totals:
        """Where the pass stands, exactly: every unit that is not known to be done is read."""
        self._begun = True
        for each in self._slices:
            if each.left:
                each.look(self._rows)
        return self._sum()

    def _sum(self) -> Totals:
        total = Totals()
        for each in self._slices:
            total = total.plus(each.totals)
        return total
