"""Requests in flight: several batches of one page at once, each within the budget and each awaited. Also the pages in
progress of one bundle: while a page waits for its partition, others continue."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dynamodt.dynamodb.wire import MAX_STATEMENTS, Call, Request
from dynamodt.errors import ServiceError
from dynamodt.model.pages import WrittenPage
from dynamodt.model.tables import Change, Insert
from dynamodt.rate import REQUEST_SECONDS, smaller_batch
from dynamodt.script.diff import write_units

if TYPE_CHECKING:
    from dynamodt.dynamodb.batch import BatchAnswer, Coming, Writes
    from dynamodt.dynamodb.reads import RateLimitedQueue


@dataclass(slots=True)
class Pending:
    """A change without an outcome yet, and the attempts to write it so far."""

    change: Change
    request: Request
    doubts: Sequence[Change] = ()  # versions sent with unknown outcome
    sent: Sequence[Change] = ()  # versions sent without success, with any answer
    tries: int = 0  # throttles and doubts in a row
    failed: int = 0  # the number of its requests that failed as a whole
    conflicts: int = 0
    fresh: bool = True  # its intent is not recorded yet

    def remember(self) -> None:
        """Keep a change that was sent without success: the network may repeat its request, before or after this
        answer."""
        if self.change not in self.sent:
            self.sent = (*self.sent, self.change)


_WHOLE_COST = {"done", "conflict", "doubt", "rejected"}  # the outcomes of requests whose cost is learned from


class _Sent(NamedTuple):
    """A batch that was sent, its estimated cost, and the units that were taken from the budget for it."""

    batch: list[Pending]
    answer: Coming
    estimate: float
    taken: float


ReadAgain = Callable[[list[Pending]], list[Pending]]


@dataclass
class Unanswered:
    """Counts the changes in a row that a worker has given up since none of their tries was answered (time-out, reset,
    5xx). They are due to the service, and not to their items, if there are several and no write of their page was
    answered, or if they fill a batch; with `ends_run`, this is then an error."""

    ends_run: bool = False
    in_a_row: int = 0

    def note(self, answer: BatchAnswer) -> bool:
        """Whether a write was answered, which ends the row."""
        answered = any(verdict.outcome not in ("doubt", "unsent") for verdict in answer.verdicts)
        self.in_a_row = 0 if answered else self.in_a_row
        return answered

    def is_service(self, page_answered: bool) -> bool:
        """Add a change that is given up; whether the service is the cause."""
        self.in_a_row += 1
        return self.ends_run and self.in_a_row >= (MAX_STATEMENTS if page_answered else 2)


class RequestPipeline:
    """Sends the changes of one page.

    Up to `writers` requests are unanswered at once, all sent by the calling thread: with several threads, switching the
    interpreter would cost more than sending (docs/adr/019). Each of `check_owners` is called before each request.
    """

    def __init__(
        self,
        writes: Writes,
        writers: int,
        check_owners: Sequence[Callable[[], None]],
        rate_queue: RateLimitedQueue,
        wait_or_stop: Callable[[], None],
    ) -> None:
        self._writes = writes
        self._writers = self._room = writers
        self._assures = check_owners
        self._rate_queue = rate_queue
        self._heed = wait_or_stop

    def answered(
        self, waiting: list[Pending], held: list[Pending], read_again: ReadAgain
    ) -> Iterator[tuple[list[Pending], BatchAnswer]]:
        """Each batch with its answer, in order. Once the budget covers a batch, `read_again` returns the part of it
        that is to be sent. If this ends early, the answers to all sent requests are awaited first, so that no request
        of the page is left unanswered.

        Once most of a batch was throttled, the rest is added to `held` instead of being sent: a page usually belongs to
        one partition, which would refuse the rest, too, together with writes of the application. The same applies once
        a batch found no connection. Afterwards batches are sent one at a time, and twice as many at once after each
        that passes.
        """
        sent: deque[_Sent] = deque()
        full = False
        try:
            for batch, estimate in self._batches(list(waiting)):
                if len(sent) >= self._most_in_flight(estimate) and not full:
                    first = sent.popleft()
                    answer, full = self._await_answer(first)
                    yield first.batch, answer
                if full:
                    held += batch
                elif begun := self._send(batch, estimate, read_again):
                    sent.append(begun)
            while sent:
                first = sent.popleft()
                yield first.batch, self._await_answer(first)[0]
        finally:
            for one in sent:
                with suppress(ServiceError):
                    one.answer()

    def _most_in_flight(self, estimate: float) -> int:
        """The number of batches that may be unanswered when the next one is sent: as many as the budget covers in a
        second. At a low rate, an answer that is awaited only after the next batches would be charged and reported too
        late."""
        return max(1, int(min(self._room, self._rate_queue.within(1.0, max(1.0, estimate)))))

    def _batches(self, waiting: list[Pending]) -> Iterator[tuple[list[Pending], float]]:
        """Calls alone and statements in batches, each batch with its estimated units. A batch is smaller the more often
        its requests failed as a whole, and no larger than the budget covers in a few seconds. Throttles of single
        statements do not make batches smaller."""
        size = smaller_batch(MAX_STATEMENTS, max([pending.failed for pending in waiting]))
        batch: list[Pending] = []
        units, most = 0.0, self._most_units()
        for pending in waiting:
            if isinstance(pending.request, Call):
                yield [pending], self._estimate([pending])
                continue
            estimate = 0.0 if most == inf else _units(pending)
            if batch and (len(batch) == size or units + estimate > most):
                yield batch, units
                batch, units, most = [], 0.0, self._most_units()  # the budget may have changed
            batch.append(pending)
            units += estimate
        if batch:
            yield batch, units

    def _most_units(self) -> float:
        return self._rate_queue.within(REQUEST_SECONDS, 1.0)

    def _send(self, batch: list[Pending], estimate: float, read_again: ReadAgain) -> _Sent | None:
        """Send a batch once the budget covers it, if run and split are still owned after the wait. None if no part of
        it is to be sent any more."""
        taken = self._rate_queue.enter(estimate)
        self._heed()  # it may wait, or end the page; so it comes before the reading, which becomes outdated
        left = read_again(batch)
        if not left:
            self._rate_queue.leave(taken, estimate, 0.0)
            return None
        if len(left) < len(batch):
            estimate = self._estimate(left)
        for check_owner in self._assures:
            check_owner()
        return _Sent(left, self._begin_request(left), estimate, taken)

    def _estimate(self, batch: list[Pending]) -> float:
        return sum(map(_units, batch)) if self._rate_queue.limited else 0.0

    def _await_answer(self, sent: _Sent) -> tuple[BatchAnswer, bool]:
        """The answer to a batch, charged to the budget, and whether most of the batch was throttled. A single throttled
        change may be due to one busy item."""
        answer = sent.answer()
        answer = answer._replace(wcu=_units_of_batch(sent.batch, answer))
        throttled = [verdict.outcome for verdict in answer.verdicts].count("throttled")
        unsent = answer.verdicts[0].outcome == "unsent"
        full = unsent or (len(sent.batch) > 1 and 2 * throttled > len(sent.batch))
        self._room = 1 if full else min(self._writers, 2 * self._room)
        self._rate_queue.throttled(throttled)
        unknown = answer.verdicts[0].outcome == "doubt"  # it may have been executed
        spent = answer.wcu or 0.0
        # The price is learned from whole batches only.
        estimate = sent.estimate if {verdict.outcome for verdict in answer.verdicts} <= _WHOLE_COST else 0.0
        self._rate_queue.leave(sent.taken, estimate, max(sent.taken, spent) if unknown else spent)
        return answer, full

    def _begin_request(self, batch: list[Pending]) -> Coming:
        first = batch[0].request
        if isinstance(first, Call):
            return self._writes.single(first)
        return self._writes.batch([pending.request for pending in batch])  # type: ignore[arg-type]


def _units_of_batch(batch: list[Pending], answer: BatchAnswer) -> float:
    """The units of an answer, estimated if the endpoint does not report them. A refused condition costs as much as a
    write."""
    if answer.wcu is not None:
        return answer.wcu
    spent = ("done", "conflict")
    answered = zip(batch, answer.verdicts, strict=True)
    return sum(_units(pending) for pending, verdict in answered if verdict.outcome in spent)


def _units(pending: Pending) -> float:
    """The estimated units of a change. An insertion without a transaction costs half as much as with one."""
    units = float(write_units(pending.change))
    in_transaction = isinstance(pending.request, Call) and pending.request.operation == "TransactWriteItems"
    return units / 2 if isinstance(pending.change, Insert) and not in_transaction else units


_NAP_SECONDS = 0.5
MOST = 8  # waiting pages, each of which is in memory


class Wait(NamedTuple):
    """A page that continues after `seconds`. None of its requests is unanswered."""

    seconds: float


class Task(Protocol):
    """A page in progress, such as a `PageTask`; each step returns the wait before the next one, or the page's
    outcome."""

    def step(self) -> Wait | WrittenPage: ...


class _Waiting(NamedTuple):
    until: float
    task: Task


class PageScheduler:
    """Steps the pages of one bundle. One partition takes 1,000 units a second: if a split group waited for it, all
    other partitions would be idle. Each split has at most one page in progress, since its row holds one intent.

    A page that was begun is ended by `finish`, or dropped: while it waits, none of its requests is unanswered.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        wait_or_stop: Callable[[], None],
        most: int = MOST,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._heed = wait_or_stop  # waits while the run is paused, raises when it is stopped
        self._most = most
        self._pages: dict[int, _Waiting] = {}  # by split

    def write(self, split: int, begin: Callable[[], Task]) -> Iterator[WrittenPage]:
        """Step the pages whose wait is over, then begin a page of this split. Yields each page as soon as it ends,
        since a page must be recorded before the next one of its split begins."""
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
