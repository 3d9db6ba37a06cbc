"""Changes on their way to the table: several batches at once, each within the budget, and each heard out.

Pages that rest until their partitions take more, while their lane goes on with others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from dynamodt.dynamodb.batch import MAX_STATEMENTS, BatchAnswer, Coming, Writes
from dynamodt.dynamodb.reads import RateLimitedQueue
from dynamodt.dynamodb.statements import Call, Statement
from dynamodt.errors import ServiceError
from dynamodt.model.items import Change
from dynamodt.model.pages import Page, WrittenPage
from dynamodt.rate import smaller
from dynamodt.script.diff import write_units


@dataclass(slots=True)
class Pending:
    """A change on its way, with what has happened to it so far."""

    change: Change
    request: Statement | Call
    doubts: list[Change] = field(default_factory=list)  # sendings whose outcome is unknown
    tries: int = 0  # throttles and doubts in a row
    failed: int = 0  # requests it was in that failed as a whole
    conflicts: int = 0
    fresh: bool = True  # not announced yet


class _Sent(NamedTuple):
    """A batch on its way, what it may cost, and what was taken from the budget for it."""

    batch: list[Pending]
    answer: Coming
    estimate: float
    taken: float


Look = Callable[[list[Pending]], list[Pending]]


class RequestPipeline:
    """Sends the changes of one lane.

    `writers` requests are on their way at once, all from the calling thread: threads of their own would spend more on
    handing the interpreter to one another than on what they send (docs/adr/019).
    """

    def __init__(
        self,
        writes: Writes,
        writers: int,
        assure: Callable[[], None],
        rate_queue: RateLimitedQueue,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self._writes = writes
        self._writers = self._room = writers
        self._assure = assure
        self._heed = heed
        self._rate_queue = rate_queue

    def answered(
        self, waiting: list[Pending], held: list[Pending], assure: Callable[[], None], look: Look
    ) -> Iterator[tuple[list[Pending], BatchAnswer]]:
        """Each batch with its answer, in order. Before each, when the budget lets it pass, `look` says what of it is to
        be sent, and then `assure` is asked. Whatever ends this early, what was sent is heard out: nothing of ours is on
        its way any more when the page is left.

        Once most of a batch was throttled the rest is not sent, but added to `held`: a page is of one partition as a
        rule, which would refuse it too, and the application's writes beside it. After that batches go out
        one by one at first, and twice as many at once each time that this is well.
        """
        flying: deque[_Sent] = deque()
        full = False
        try:
            for batch in list(_batches(waiting)):
                if len(flying) >= self._room and not full:
                    sent = flying.popleft()
                    answer, full = self._awaited(sent)
                    yield sent.batch, answer
                if full:
                    held += batch
                elif begun := self._send(batch, assure, look):
                    flying.append(begun)
            while flying:
                sent = flying.popleft()
                yield sent.batch, self._awaited(sent)[0]
        finally:
            for sent in flying:
                with suppress(ServiceError):
                    sent.answer()

    def _send(self, batch: list[Pending], assure: Callable[[], None], look: Look) -> _Sent | None:
        """Send a batch when the budget lets it pass, and run and unit are still ours after the wait; None: nothing of
        it is to be sent any more."""
        estimate = self._estimated(batch)
        taken = self._rate_queue.enter(estimate)
        self._heed()  # it may wait, or end the page: before the look, which grows old
        left = look(batch)
        if not left:
            self._rate_queue.leave(taken, estimate, 0.0)
            return None
        if len(left) < len(batch):
            estimate = self._estimated(left)
        self._assure()
        assure()
        return _Sent(left, self._begun(left), estimate, taken)

    def _estimated(self, batch: list[Pending]) -> float:
        return float(sum(write_units(pending.change) for pending in batch)) if self._rate_queue.limited else 0.0

    def _awaited(self, sent: _Sent) -> tuple[BatchAnswer, bool]:
        """The answer to a batch, which the budget is told of; and whether most of the batch was throttled. What was
        throttled alone may be one item that is in demand."""
        answer = sent.answer()
        answer = answer._replace(wcu=_metered(sent.batch, answer))
        throttled = sum(verdict.outcome == "throttled" for verdict in answer.verdicts)
        full = len(sent.batch) > 1 and 2 * throttled > len(sent.batch)
        self._room = 1 if full else min(self._writers, 2 * self._room)
        self._rate_queue.throttled(throttled)
        unknown = answer.verdicts[0].outcome == "doubt"  # it may have cost what it was to cost
        spent = answer.wcu or 0.0
        # What was refused in part says nothing of what a whole one costs.
        estimate = 0.0 if throttled else sent.estimate
        self._rate_queue.leave(sent.taken, estimate, max(sent.taken, spent) if unknown else spent)
        return answer, full

    def _begun(self, batch: list[Pending]) -> Coming:
        first = batch[0].request
        if isinstance(first, Call):
            return self._writes.single(first)
        return self._writes.batch([pending.request for pending in batch])  # type: ignore[misc]


def _batches(waiting: list[Pending]) -> Iterator[list[Pending]]:
    """Statements together, in the smaller batches the more often their requests failed as a whole; calls alone. A
    statement that was throttled by itself would be so in a small batch, too."""
    size = smaller(MAX_STATEMENTS, max(pending.failed for pending in waiting))
    batch: list[Pending] = []
    for pending in waiting:
        if isinstance(pending.request, Call):
            yield [pending]
            continue
        batch.append(pending)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _metered(batch: list[Pending], answer: BatchAnswer) -> float:
    """The units of an answer, estimated where the endpoint does not say (a refused condition costs the same)."""
    if answer.wcu is not None:
        return answer.wcu
    spent = ("done", "conflict")
    answered = zip(batch, answer.verdicts, strict=True)
    return float(sum(write_units(p.change) for p, verdict in answered if verdict.outcome in spent))


_NAP_SECONDS = 0.5
MOST = 8  # pages at rest in a lane: each is in memory

PageTask = Generator[float, None, WrittenPage]  # of one page: each step gives the seconds to rest before the next one


class _WaitingPage(NamedTuple):
    until: float
    writing: PageTask


class PageScheduler:
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
        self._pages: dict[int, _WaitingPage] = {}  # by unit

    def write(self, page: Page, writing: PageTask) -> Iterator[WrittenPage]:
        """Go on with those that have rested, and begin a page; yields each that is through."""
        split = page.claim.split
        while split in self._pages or len(self._pages) == self._most or self._has_rested():
            yield from self._wake()
        yield from self._step(split, writing)

    def finish(self) -> Iterator[WrittenPage]:
        """Bring all to their end."""
        while self._pages:
            yield from self._wake()

    def _has_rested(self) -> bool:
        return any(page.until <= self._clock() for page in self._pages.values())

    def _wake(self) -> Iterator[WrittenPage]:
        """Go on with the page whose rest ends first, after waiting for that."""
        split, (until, writing) = min(self._pages.items(), key=lambda pair: pair[1].until)
        del self._pages[split]
        while (seconds := until - self._clock()) > 0:
            self._sleep(min(seconds, _NAP_SECONDS))
            self._heed()
        self._heed()
        yield from self._step(split, writing)

    def _step(self, split: int, writing: PageTask) -> Iterator[WrittenPage]:
        try:
            seconds = next(writing)
        except StopIteration as end:
            yield end.value
        else:
            self._pages[split] = _WaitingPage(self._clock() + seconds, writing)
