"""The pages of one bundle that are being written. A page that waits for its partition lets others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from dynamodt.model.pages import WrittenPage

_NAP_SECONDS = 0.5
MOST = 8  # waiting pages: each is in memory


class Wait(NamedTuple):
    """A page that continues after so many seconds. None of its requests is unanswered."""

    seconds: float


class Task(Protocol):
    """A page in progress, such as a `PageTask`; each step returns how long to wait before the next one, or the end."""

    def step(self) -> Wait | WrittenPage: ...


class _Waiting(NamedTuple):
    until: float
    task: Task


class PageScheduler:
    """Steps the pages of one bundle. One partition takes 1,000 units a second: if a split group waited for it, all
    others would be idle. Of a split one page is in progress at a time, as its row holds one intent.

    A page that was begun must be ended by `finish`, or dropped: none of its requests is unanswered while it waits.
    """

    def __init__(
        self, clock: Callable[[], float], sleep: Callable[[float], None], heed: Callable[[], None], most: int = MOST
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._heed = heed  # waits while the run is paused, raises when it is stopped
        self._most = most
        self._pages: dict[int, _Waiting] = {}  # by split

    def write(self, split: int, begin: Callable[[], Task]) -> Iterator[WrittenPage]:
        """Step the pages whose wait is over, then begin one of this split; yields each that ends, as soon as it does:
        a page must be recorded before the next one of its split begins."""
        while split in self._pages or len(self._pages) == self._most or self._is_due():
            if written := self._wake():
                yield written
        if written := self._step(split, begin()):
            yield written

    def finish(self) -> Iterator[WrittenPage]:
        """Step all pages to their end."""
        while self._pages:
            if written := self._wake():
                yield written

    def _is_due(self) -> bool:
        return any(page.until <= self._clock() for page in self._pages.values())

    def _wake(self) -> WrittenPage | None:
        """Step the page whose wait ends first, after that wait."""
        split, (until, task) = min(self._pages.items(), key=lambda pair: pair[1].until)
        del self._pages[split]
        while (seconds := until - self._clock()) > 0:
            self._sleep(min(seconds, _NAP_SECONDS))
            self._heed()
        self._heed()
        return self._step(split, task)

    def _step(self, split: int, task: Task) -> WrittenPage | None:
        step = task.step()
        if isinstance(step, Wait):
            self._pages[split] = _Waiting(self._clock() + step.seconds, task)
            return None
        return step
