"""Whether a page's unit is still the worker's own, while the page is written.

A runner that takes a worker for dead gives its lanes to another one, of the same attempt. The unit's row then has
another epoch, which every announcement meets; but a worker that was suspended after it has announced must not write
when it wakes, minutes later, either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from dynamodt.errors import Fenced
from dynamodt.model import Claim, Intent, Page
from dynamodt.stages.looks import Looks


class Rows(Protocol):
    """What `aws.unit_rows.UnitRows` offers, and a test's fake must."""

    def intend(self, claim: Claim, intent: Intent) -> None: ...

    def begin_read(self, unit: int) -> Callable[[], Claim | None]: ...


class Tenure:
    """Watches over the unit of one page after the other. What it announces is a look, too: most pages need no other."""

    def __init__(self, rows: Rows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._claim: Claim | None = None
        self._looks: Looks[int] = Looks(clock)  # at the unit's epoch

    def begin(self, page: Page) -> None:
        """From now on `assure` is about this page's unit."""
        self._claim = page.claim
        self._looks.afresh()

    def intend(self, claim: Claim, intent: Intent) -> None:
        """Announce; see `UnitRows.intend`. Raises Fenced."""
        now = self._clock()  # before the answer: what it shows is at least this fresh
        self._rows.intend(claim, intent)
        self._looks.saw(now)

    def assure(self) -> None:
        """Asked before every request that writes. Raises Fenced when the last look is old and another one shows that
        the unit was taken over."""
        if self._claim is None:
            return
        epoch = self._looks.current(self._begin)
        if epoch is not None and epoch != self._claim.epoch:
            raise Fenced(f"another worker has unit {self._claim.unit} by now", hint="this one has ended its part of it")

    def _begin(self) -> Callable[[], int]:
        assert self._claim is not None
        answer = self._rows.begin_read(self._claim.unit)

        def epoch() -> int:
            found = answer()
            return found.epoch if found is not None else 0

        return epoch
