"""Pages that rest until their partitions take more, while their lane goes on with others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from dynamodt.model import Page, WrittenPage

_NAP_SECONDS = 0.5
MOST = 8  # pages at rest in a lane: each is in memory

Writing = Generator[float, None, WrittenPage]  # of one page: each step gives the seconds to rest before the next one


class _Resting(NamedTuple):
    until: float
    writing: Writing


class Resting:
    """The pages of one bundle that are begun. One partition takes 1,000 units a second: a lane that waited for it would
    leave all others idle. Of a unit there is one page at a time, as its row holds one announcement.

    What is begun must be brought to its end by `finish`, or dropped: nothing of a page that rests is on its way.
    """

    def __init__(
        self, clock: Callable[[], float], sleep: Callable[[float], None], heed: Callable[[], None], most: int = MOST
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._heed = heed  # waits while the run is paused, raises when it is stopped
        self._most = most
        self._pages: dict[int, _Resting] = {}  # by unit

    def write(self, page: Page, writing: Writing) -> Iterator[WrittenPage]:
        """Go on with those that have rested, and begin a page; yields each that is through."""
        unit = page.claim.unit
        while unit in self._pages or len(self._pages) == self._most or self._has_rested():
            yield from self._wake()
        yield from self._step(unit, writing)

    def finish(self) -> Iterator[WrittenPage]:
        """Bring all to their end."""
        while self._pages:
            yield from self._wake()

    def _has_rested(self) -> bool:
        return any(page.until <= self._clock() for page in self._pages.values())

    def _wake(self) -> Iterator[WrittenPage]:
        """Go on with the page whose rest ends first, after waiting for that."""
        unit, (until, writing) = min(self._pages.items(), key=lambda pair: pair[1].until)
        del self._pages[unit]
        while (seconds := until - self._clock()) > 0:
            self._sleep(min(seconds, _NAP_SECONDS))
            self._heed()
        self._heed()
        yield from self._step(unit, writing)

    def _step(self, unit: int, writing: Writing) -> Iterator[WrittenPage]:
        try:
            seconds = next(writing)
        except StopIteration as end:
            yield end.value
        else:
            self._pages[unit] = _Resting(self._clock() + seconds, writing)
