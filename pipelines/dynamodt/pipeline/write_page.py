"""Writes one page and resolves each of its changes to exactly one outcome (guarantees G1 and G2).

A change is sent on the condition that its item is as it was read. The next step depends on the answer:

- *done*: the change counts as changed.
- *conflict*: the item was modified since it was read. The current item is transformed and the new change is sent, a
  bounded number of times. An item that no longer needs a change is superseded; an item that is gone has vanished.
- *throttled*: nothing was written. The change is sent again later, in smaller batches if the whole request failed.
- *contended*: as *throttled*, since a transaction of another client has the item; the rate stays.
- *doubt* (time-out, reset, 5xx): the change is sent again. If it is then refused, the current item (for an insertion,
  its row in the state table) shows whether it was written. Otherwise it becomes a dead letter (`pipeline.conflicts`).
  If no try of many changes is answered, the service fails: the run ends, and its next owner resolves them.
- *rejected*: a statement is sent once more as a call of its own, which has wider limits; otherwise a dead letter.

Every change is recorded as an intent before it is first sent (guarantee G3, see `record`). Before each request the
worker confirms that it still owns the run and the split.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from itertools import compress
from typing import TYPE_CHECKING

from dynamodt.dynamodb.batch import DONE, Verdict, Writes
from dynamodt.dynamodb.reads import RateLimitedQueue, UnlimitedQueue
from dynamodt.dynamodb.wire import CONTENDED, FAILING, Statement
from dynamodt.errors import ItemError, ServiceError, WrittenOrNot
from dynamodt.model.pages import Contention, Units
from dynamodt.model.tables import Atomic, Change, Image, Insert, Remove
from dynamodt.pipeline.conflicts import (
    Collision,
    CurrentItems,
    Resolved,
    SendAgain,
    Stays,
    TransformAgain,
    Unclear,
    all_stay,
    changes_by_source,
    inserts_of,
    judge_refusal,
)
from dynamodt.pipeline.outcomes import WriteResult, collision
from dynamodt.pipeline.request_pipeline import Pending, RequestPipeline, Unanswered, Wait
from dynamodt.rate import Backoff
from dynamodt.script.apply import check_continues
from dynamodt.script.codec import same_image

if TYPE_CHECKING:
    from dynamodt.dynamodb.statements import Statements
    from dynamodt.pipeline.own_writes import Lookups

MAX_CONFLICTS = 12
READ_LASTS = 1.0  # seconds; a page that is not delayed is written by then
NOT_SENT = Statement("", [])
_DEPENDS_ON_ALL = (Remove, Atomic)  # valid only for the whole item as it was read
_THROTTLED = "raise the capacity of the table, or of its index that is full; or run again later"
_CONTENTION = {"throttled": Contention(throttles=1), "contended": Contention(conflicts=1)}
_NEXT_STEPS = {"contended": CONTENDED, "doubt": FAILING}  # by the last outcome of a change that was given up
_UNCLEAR = "a write of this item was never answered, and its attributes were changed since"
_REPEATED = "a write of this item was refused, and the item has its values: by the application, or by the same request"
_UNCLEAR_HINT = "look at the item: it may or may not be transformed. With STAMP, a run recognizes its own writes"


class GaveUp(ItemError):
    """A change had all its tries: throttled, or without an answer."""


@dataclass(frozen=True)
class PageWriter:
    """Writes the pages of a worker; the state of a page is in its `WriteTask`.

    `change_of` is the author's function; if None, concurrently modified items are left as they are. `writers` is the
    number of requests of a page that are sent at once."""

    writes: Writes
    lookups: Lookups
    statements: Statements
    change_of: Callable[[Image], Change | None] | None
    writers: int
    _: KW_ONLY
    backoff: Backoff = Backoff(base=0.2)  # a partition regains the capacity of some batches
    stays: Stays = all_stay  # whether `change_of` leaves an item of the written table as it is
    stamp: str | None = None
    yields: bool = False  # an item at the key of an insertion is no error: both items stay
    idempotent: bool = False  # the second application of `change_of` changes nothing
    check_owner: Callable[[], None] = lambda: None
    wait_or_stop: Callable[[], None] = lambda: None
    rate_queue: RateLimitedQueue = UnlimitedQueue()
    unanswered: Unanswered = field(default_factory=Unanswered)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    dice: Callable[[], float] = random.random

    def write(self, changes: Sequence[Change], result: WriteResult | None = None) -> WriteResult:
        """Write the changes until each has an outcome, without recording an intent. The outcomes are added to
        `result`."""
        task = WriteTask(self, result=result)
        task.begin(changes)
        while isinstance(step := task.step(), Wait):
            self.sleep(step.seconds)
        return step


class WriteTask:
    """The writing of one page: begun once, then stepped until it returns the result.

    `record_intent` receives all changes before the first is sent, and each new one before it is sent; `check_owner` is
    called before each request. Every method raises as these do, ServiceError when the table cannot be written at all,
    and ScriptError for a fault of the script that stops the run."""

    def __init__(
        self,
        writer: PageWriter,
        record_intent: Callable[[Sequence[Change]], None] = lambda changes: None,
        check_owner: Callable[[], None] = lambda: None,
        result: WriteResult | None = None,
    ) -> None:
        self._writer = writer
        self._record_intent = record_intent
        self._requests = RequestPipeline(
            writer.writes, writer.writers, (writer.check_owner, check_owner), writer.rate_queue, writer.wait_or_stop
        )
        self._result = WriteResult() if result is None else result
        self._waiting: list[Pending] = []
        self._retried: list[Pending] = []  # of the present round
        self._lost: Verdict | None = None  # of the present round, if a request found no connection
        self._read_at = 0.0
        self._has_waited = self._answered = False

    def begin(self, changes: Sequence[Change]) -> None:
        """Begin with these changes. Each gets exactly one of the outcomes changed, unchanged, superseded, vanished and
        dead."""
        self._record_intent(changes)  # before any outcome: a later owner that finds the intent counts all of them
        self._waiting = [pending for change in changes if (pending := self._start(change)) is not None]
        for pending in self._waiting:
            pending.fresh = False
        self._waiting = self._up_to_date(self._waiting)

    def recover(self, found: Sequence[Sequence[Change]]) -> None:
        """Begin with a page that previous owners may have written in part: `found` are their intents, in order.

        An item that shows one of the changes is done. An item that is as before the last of them is transformed again.
        Any other item is a dead letter: its outcome is never guessed.
        """
        self._read_at = self._writer.clock()
        left = [Pending(changes[-1], NOT_SENT, doubts=changes) for changes in changes_by_source(found)]
        current = self._current([(pending, None) for pending in left])
        recovered = (self._remaining_change(pending, current) for pending in left)
        self._waiting = [pending for pending in recovered if pending is not None]

    def step(self) -> Wait | WriteResult:
        """Send the waiting changes once. Returns the wait before the next step, or the result."""
        if self._has_waited:
            self._waiting = self._up_to_date(self._waiting)
        if self._waiting:
            if fresh := [pending.change for pending in self._waiting if pending.fresh]:
                self._record_intent(fresh)
            for pending in self._waiting:
                pending.fresh = False
            self._waiting = self._send_round()
        if self._waiting:
            self._has_waited = True
            return Wait(self._pause())
        self._result.void = self._result.really_void()
        return self._result

    def _pause(self) -> float:
        """The seconds until the next step: exponential with jitter, by the largest number of tries of a change. The
        wait is shorter for a conflict than for a throttle, since no capacity has to recover."""
        tries, conflicts = max(p.tries for p in self._waiting), max(p.conflicts for p in self._waiting)
        backoff = self._writer.backoff
        if not tries:
            backoff = replace(backoff, base=backoff.base / 4)  # enough for a conflict to end
        return backoff.delay(max(tries, conflicts), self._writer.dice)

    def _start(self, change: Change, doubts: Sequence[Change] = ()) -> Pending | None:
        """The change with its request; None if no request can hold it, and it is a dead letter."""
        try:
            return Pending(change, self._writer.statements.write(change), doubts)
        except ItemError as error:
            self._bury(change, error)
            return None

    # ------------------------------------------------------------ changes that depend on whole items

    def _up_to_date(self, waiting: list[Pending]) -> list[Pending]:
        """Read the sources of deletions and insertions right before these are sent. No condition can name an attribute
        that was added to the source since it was read: it would be lost, or be missing from the inserted item."""
        self._read_at = self._writer.clock()
        return self._fit_to_current(waiting)

    def _read_again(self, batch: list[Pending]) -> list[Pending]:
        """The part of a batch that is sent now. If it has waited long for the budget, its items are read once more; a
        change that is then new waits for the next round, since its intent must be recorded first."""
        if self._writer.clock() - self._read_at < READ_LASTS:
            return batch
        found = self._fit_to_current(batch)
        self._retried += [pending for pending in found if pending.fresh]
        return [pending for pending in found if not pending.fresh]

    def _fit_to_current(self, waiting: list[Pending]) -> list[Pending]:
        """The pending changes, fitted to the current items, without those that the current items resolve."""
        reads_again = self._writer.statements.conditional
        whole = [pending for pending in waiting if isinstance(pending.change, _DEPENDS_ON_ALL)]
        if not (whole and reads_again):
            return waiting
        current = self._read([pending.change.key for pending in whole], ())
        as_read = [self._is_as_read(pending, current) for pending in whole]
        others = [(pending, None) for pending, same in zip(whole, as_read, strict=True) if not same]
        rest = [pending for pending in waiting if not isinstance(pending.change, _DEPENDS_ON_ALL)]
        return rest + list(compress(whole, as_read)) + self._resolve(others)

    def _is_as_read(self, pending: Pending, current: CurrentItems) -> bool:
        """Whether a change can be sent unchanged. The condition of a deletion is set to the current item: a script may
        spell the numbers of a row differently, and the `=` of some emulators does not treat them as equal."""
        change = pending.change
        now = current.source(change.key)
        if now is None or isinstance(change, Insert) or not same_image(now, change.read):
            return False
        if isinstance(change, Remove):
            pending.change = change._replace(read=now)
            pending.request = self._writer.statements.write(pending.change)
        return True

    def _remaining_change(self, pending: Pending, current: CurrentItems) -> Pending | None:
        """The remaining change of a previous owner's change. A row of `items()` is inserted again: its row in the state
        table shows whether it was written before."""
        if isinstance(pending.change, Insert):
            return self._start(pending.change, pending.doubts)
        if self._writer.change_of is None and self._is_as_read(pending, current):
            return pending
        return pending if self._judged(pending, current) else None

    # ------------------------------------------------------------ one round of requests

    def _send_round(self) -> list[Pending]:
        """Send all waiting changes once, and resolve the answers in the order of their arrival.

        Returns the changes of the next round: first those that were deferred since their partition is full, then those
        to repeat (throttled, in doubt, or by another kind of request), then refused ones that were transformed again.
        """
        held: list[Pending] = []
        refused: list[tuple[Pending, Image | None]] = []
        result, passed, self._retried, self._lost = self._result, False, [], None
        for batch, answer in self._requests.answered(self._waiting, held, self._read_again):
            result.units = result.units.plus(Units(wcu=answer.wcu or 0.0))
            answered = list(zip(batch, answer.verdicts, strict=True))
            self._answered |= self._writer.unanswered.note(answer)
            passed |= any(verdict.outcome in ("done", "conflict") for verdict in answer.verdicts)
            result.done([pending.change for pending, verdict in answered if verdict is DONE])
            for pending, verdict in answered:
                if verdict is DONE:
                    continue
                pending.remember()
                if verdict.outcome == "conflict":
                    refused.append((pending, verdict.image))
                elif self._may_retry(pending, verdict):
                    pending.failed += answer.whole
                    self._retried.append(pending)
        return self._defer(held, passed) + self._retried + self._resolve(refused)

    def _may_retry(self, pending: Pending, verdict: Verdict) -> bool:
        """Whether a change with no effect, or with an unknown one, is sent again. A change in doubt is kept in `doubts`
        as it was sent, since it may be executed at any later time."""
        change = pending.change
        if verdict.outcome == "rejected" and isinstance(pending.request, Statement) and not isinstance(change, Atomic):
            pending.request = self._writer.statements.alone(change)  # a statement's limits are narrower than a call's
            return True
        if verdict.outcome == "rejected":
            self._bury(change, ItemError(f"DynamoDB rejects the write: {verdict.message}", hint=verdict.hint))
            return False
        if met := _CONTENTION.get(verdict.outcome):
            self._result.contention = self._result.contention.plus(met)
        if verdict.outcome == "doubt":
            pending.doubts = (*pending.doubts, change)
        pending.tries += 1
        fails = verdict.outcome == "doubt" and self._writer.backoff.exhausted(pending.tries)
        if verdict.outcome == "unsent" or (fails and self._writer.unanswered.is_service(self._answered)):
            self._lost = verdict
        hint = verdict.hint or _NEXT_STEPS.get(verdict.outcome, _THROTTLED)
        return not self._is_exhausted(pending, verdict.message, hint)

    def _is_exhausted(self, pending: Pending, why: str, hint: str = _THROTTLED) -> bool:
        """Whether a change has used all its tries and is given up as a dead letter. A lost connection or a service that
        fails is not due to an item: it raises ServiceError, which ends the run, and the next owner resolves the page.
        """
        if not self._writer.backoff.exhausted(pending.tries):
            return False
        if self._lost is not None:
            what = f"gave up after {pending.tries} tries: {self._lost.message}"
            raise ServiceError(what, where=self._writer.writes.where, hint=self._lost.hint or FAILING)
        error = GaveUp(f"gave up after {pending.tries} tries: {why}", hint=hint)
        self._bury(pending.change, error, step="doubt" if pending.doubts else "write")
        return True

    def _defer(self, held: list[Pending], passed: bool) -> list[Pending]:
        """The deferred changes that are retried, before others. While no change passes, a deferral counts as a try, so
        that a page ends."""
        for pending in held:
            pending.tries = 0 if passed else pending.tries + 1
        return [pending for pending in held if not self._is_exhausted(pending, "its partition is throttled")]

    # ------------------------------------------------------------ conflicts

    def _resolve(self, refused: Sequence[tuple[Pending, Image | None]]) -> list[Pending]:
        """The refused changes that are sent again, fitted to the current items. The others get their outcome."""
        if not refused:
            return []
        current, left = self._current(refused) if self._writer.statements.conditional else CurrentItems({}, {}, {}), []
        for pending, known in refused:
            pending.conflicts += 1
            self._result.contention = self._result.contention.plus(Contention(conflicts=1))
            if self._judged(pending, current, known):
                left.append(pending)
        return left

    def _current(self, refused: Sequence[tuple[Pending, Image | None]]) -> CurrentItems:
        """The current items for a decision: sources that did not come with the refusal, items at the keys of
        insertions, and the inserted rows."""
        sources = [p.change.key for p, image in refused if image is None and not isinstance(p.change, Insert)]
        known = [pending.change.key for pending, image in refused if image is not None]
        versions = (change for p, _ in refused for change in (p.change, *p.doubts, *p.sent))
        places = [part.key for part in inserts_of(list(versions))]
        return self._read(sources, places, known)

    def _read(self, sources: Sequence[Image], places: Sequence[Image], known: Sequence[Image] = ()) -> CurrentItems:
        current = self._writer.lookups.current(sources, places, known)
        self._result.units = self._result.units.plus(Units(rcu=current.rcu))
        return current

    def _judged(self, pending: Pending, current: CurrentItems, known: Image | None = None) -> bool:
        """Whether a change is sent again, fitted to the current items; otherwise it gets its outcome."""
        change = pending.change
        if self._writer.statements.conditional:
            how = self._writer.stamp, pending.sent, self._writer.stays
            found = judge_refusal(change, pending.doubts, current, known, *how)
        else:  # another region writes the item at this moment
            found = SendAgain(change)
        if isinstance(found, Resolved):
            self._result.end(change, found.outcome, unconfirmed=found.unconfirmed)
        elif isinstance(found, Unclear):
            self._bury(change, ItemError(_UNCLEAR, hint=_UNCLEAR_HINT), found.now, step="doubt")
        elif isinstance(found, Collision) and self._writer.yields:
            self._result.end(change, "superseded")
        elif isinstance(found, Collision):
            self._bury(change, collision(found, change))
        elif pending.conflicts > MAX_CONFLICTS:
            self._bury(change, ItemError(_too_many_conflicts(pending)), getattr(found, "now", None))
        elif isinstance(found, SendAgain):
            return self._continue_with(pending, found.change)
        else:
            return self._transform_again(pending, found)
        return False

    def _transform_again(self, pending: Pending, found: TransformAgain) -> bool:
        """Transform the current item; returns whether there is a new change to send. An item that needs no other change
        is superseded; without a function, it is unchanged if it has the values of a refused update. If it has these
        values, and a script that is not idempotent would change it again, it is in doubt."""
        now = found.now
        if found.replaced:
            self._result.replaced.append(pending.change.key)
        if self._writer.change_of is None:
            self._result.end(pending.change, "unchanged" if found.shows_update else "superseded")
            return False
        try:
            change = self._writer.change_of(now)
            if change is None:
                self._result.end(pending.change, "superseded")
                return False
            if found.shows_update and not self._writer.idempotent:
                raise WrittenOrNot(_REPEATED, hint=_UNCLEAR_HINT)
            pending.change, pending.request, pending.fresh = change, self._writer.statements.write(change), True
        except BaseException as error:  # the author's code may raise anything
            check_continues(error)
            self._bury(pending.change, error, now, step="doubt" if isinstance(error, WrittenOrNot) else "transform")
            return False
        return True

    def _continue_with(self, pending: Pending, change: Change) -> bool:
        """Send the same change, or its remaining part, which has an intent of its own."""
        if change != pending.change:
            pending.change, pending.fresh = change, True
            pending.request = self._writer.statements.write(change)
        return True

    def _bury(self, change: Change, error: BaseException, now: Image | None = None, step: str = "write") -> None:
        """End a change as a dead letter (guarantee G2)."""
        self._result.bury(change, error, now, step)


def _too_many_conflicts(pending: Pending) -> str:
    if isinstance(pending.change, Insert):
        return f"the key was taken and freed again {pending.conflicts} times"
    return f"the item was changed by others {pending.conflicts} times while it was written"
