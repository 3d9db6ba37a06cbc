"""Every change of a page, written and answered for: the conflict loop of guarantee G1 and the counting of G2.

A change goes out guarded by what was read. Then, for each:

- *done*: changed.
- *conflict*: somebody wrote the item since. The current item is transformed afresh and the fresh change is tried,
  a bounded number of times. If nothing is left to do it is superseded; if the item is gone it has vanished.
- *throttled*: nothing has happened; sent again later, and in smaller batches when the request failed as a whole.
- *doubt* (time-out, reset, 5xx): sent again; if it is then refused, the current item (or, of an insertion, its row in
  the state table) shows whether it had been written. What shows neither is a dead letter (`pipeline.conflicts`).
- *rejected*: the service will never take it: a dead letter.

Before anything is sent it is announced (guarantee G3, see `ledger`), and so is every fresh change; before every
request the worker makes sure that the run is still its own, and the unit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

from dynamodt.dynamodb.batch import DONE, Verdict, Writes
from dynamodt.dynamodb.reads import Free, RateLimitedQueue
from dynamodt.dynamodb.statements import Statement, Statements
from dynamodt.errors import ItemError, ScriptError, ServiceError
from dynamodt.model.items import Atomic, Change, Image, Insert, Remove
from dynamodt.model.pages import Contention, Units
from dynamodt.pipeline.conflicts import Again, Collision, Current, Ends, Unclear, by_source, inserts_of, judged
from dynamodt.pipeline.inserted import Lookups
from dynamodt.pipeline.outcomes import WriteResult, dead_letter
from dynamodt.pipeline.request_pipeline import Pending, RequestPipeline
from dynamodt.rate import Backoff
from dynamodt.script.codec import key_text, same_image
from dynamodt.script.diff import key_shown
from dynamodt.script.load import is_interrupt

MAX_CONFLICTS = 12
LOOK_LASTS = 1.0  # second: a page that waits for nothing is written by then
NOT_SENT = Statement("", [])
_UNCLEAR = "a write of this item was never answered, and somebody has changed the same attributes since"
_UNCLEAR_HINT = (
    "look at the item: it may or may not be transformed, and nothing takes it up again by itself. "
    "A script that sets STAMP leaves no such doubt"
)

RecordIntent = Callable[[Sequence[Change]], None]
Assure = Callable[[], None]
PageWriting = Generator[float, None, WriteResult]  # each step gives the seconds to rest before the next one


class PageWriter:
    """Settles pages of one table. `change_of` is the author's function; without one, an item that somebody has written
    meanwhile is his. `lookups` reads what is there instead.

    `writers` requests of it are on their way at once (see `Sending`).
    """

    def __init__(
        self,
        writes: Writes,
        lookups: Lookups,
        statements: Statements,
        change_of: Callable[[Image], Change | None] | None,
        writers: int,
        *,
        backoff: Backoff = Backoff(base=0.2),  # meanwhile a partition saves up some batches
        stamp: str | None = None,
        assure: Callable[[], None] = lambda: None,
        heed: Callable[[], None] = lambda: None,
        rate_queue: RateLimitedQueue = Free(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._request_pipeline = RequestPipeline(writes, writers, assure, rate_queue, heed)
        self._lookups = lookups
        self._statements = statements
        self._change_of = change_of
        self._backoff = backoff
        self._soon = replace(backoff, base=backoff.base / 4)  # a conflict is over by then
        self._stamp = stamp
        self._clock = clock
        self._sleep = sleep
        self._looked = clock()  # when the page at work was looked at
        self._dice = dice

    def settle(self, changes: Sequence[Change]) -> WriteResult:
        """`settling`, to its end: nobody has anything else to do meanwhile, and nothing is announced."""
        page_writing = self.page_writing(changes)
        while True:
            try:
                self._sleep(next(page_writing))
            except StopIteration as end:
                write_result: WriteResult = end.value
                return write_result

    def page_writing(
        self,
        changes: Sequence[Change],
        record_intent: RecordIntent = lambda changes: None,
        assure: Assure = lambda: None,
    ) -> PageWriting:
        """Write the changes. Each adds one to exactly one of changed, unchanged, superseded, vanished, dead.

        Where it would wait before it tries again it yields the seconds: nothing of the page is on its way then, and
        others may be settled. `announce` is told of all changes before the first is sent, and of every fresh one before
        that is; `assure` is asked before each request. Raises ServiceError when the table cannot be written at all,
        ScriptError when the script must not go on, and whatever `announce` and `assure` raise.
        """
        write_result = self._empty()
        record_intent(changes)  # before any of them comes to its end: who finds the announcement counts all of them
        waiting = [pending for change in changes if (pending := self._start(change, write_result)) is not None]
        for pending in waiting:
            pending.fresh = False
        waiting = self._looked_at(waiting, write_result)
        return (yield from self._finish(waiting, write_result, record_intent, assure))

    def recovering(
        self, found: Sequence[Sequence[Change]], record_intent: RecordIntent, assure: Assure = lambda: None
    ) -> PageWriting:
        """Settle a page that its owners before may have written in part: `found` are their announcements, in order.

        An item that carries one of its patches is done. One that is as it was before the last of them is still to do,
        and is transformed afresh. Anything else is a dead letter, never a guess.
        """
        write_result = self._empty()
        return (yield from self._finish(self._doubtful(found, write_result), write_result, record_intent, assure))

    def _finish(
        self, waiting: list[Pending], write_result: WriteResult, record_intent: RecordIntent, assure: Assure
    ) -> PageWriting:
        """Send until all are answered for. Whatever goes out for the first time is announced before."""
        while waiting:
            if fresh := [pending.change for pending in waiting if pending.fresh]:
                record_intent(fresh)
            for pending in waiting:
                pending.fresh = False
            waiting = self._round(waiting, write_result, assure)
            if waiting:
                before = self._lookups.rcu
                yield self._pause(waiting)
                write_result.units = write_result.units.plus(
                    Units(rcu=before - self._lookups.rcu)
                )  # what others read meanwhile
                waiting = self._looked_at(waiting, write_result)
        write_result.units = write_result.units.plus(Units(rcu=self._lookups.rcu))
        write_result.void = write_result.really_void()
        return write_result

    def _empty(self) -> WriteResult:
        """What the reads have cost before is not this page's."""
        return WriteResult(units=Units(rcu=-self._lookups.rcu))

    def _start(self, change: Change, write_result: WriteResult, doubts: Sequence[Change] = ()) -> Pending | None:
        try:
            return Pending(change, self._statements.write(change), list(doubts))
        except ItemError as error:
            self._bury(write_result, change, error)
            return None

    def _looked_at(self, waiting: list[Pending], write_result: WriteResult) -> list[Pending]:
        """Deletions and insertions are looked at right before: no guard can name an attribute that was added to their
        source since it was read (or, for a version's own rows, since they were written). It would be lost, or be
        missing from what is inserted."""
        self._looked = self._clock()
        return self._run_progress(waiting, write_result)

    def _looked_again(self, batch: list[Pending], later: list[Pending], write_result: WriteResult) -> list[Pending]:
        """What of a batch goes out now. What rests on whole items is looked at once more when the budget has let it
        wait for long; what that makes afresh is to be announced first, and goes out `later`."""
        if self._clock() - self._looked < LOOK_LASTS:
            return batch
        found = self._run_progress(batch, write_result)
        later += [pending for pending in found if pending.fresh]
        return [pending for pending in found if not pending.fresh]

    def _run_progress(self, waiting: list[Pending], write_result: WriteResult) -> list[Pending]:
        """The pendings, without those that are over by what is there; others are fitted to the current items."""
        looked = [pending for pending in waiting if _rests_on_all(pending.change)]
        if not looked:
            return waiting
        current = self._lookups.current([pending.change.key for pending in looked], ())
        stands = [self._stands(pending, current) for pending in looked]
        others = [(pending, None) for pending, as_read in zip(looked, stands, strict=True) if not as_read]
        again = [pending for pending in waiting if not _rests_on_all(pending.change)]
        return again + list(compress(looked, stands)) + self._resolve(others, write_result)

    def _stands(self, pending: Pending, current: Current) -> bool:
        """Whether a change can go out as it is: its source is as it was read. A deletion is guarded by what
        is there, as an own row's numbers may be written otherwise in the script, which not every emulator's `=` sees
        through."""
        change = pending.change
        now = current.source(change.key)
        if now is None or isinstance(change, Insert) or not same_image(now, change.read):
            return False
        if isinstance(change, Remove):
            pending.change = change._replace(read=now)
            pending.request = self._statements.write(pending.change)
        return True

    # ------------------------------------------------------------ after somebody else

    def _doubtful(self, intended: Sequence[Sequence[Change]], write_result: WriteResult) -> list[Pending]:
        """What is still to do of a page that was announced; the rest is counted."""
        self._looked = self._clock()
        left = [Pending(changes[-1], NOT_SENT, doubts=changes) for changes in by_source(intended)]
        current = self._current([(pending, None) for pending in left])
        found = (self._doubt(pending, current, write_result) for pending in left)
        return [pending for pending in found if pending is not None]

    def _doubt(self, pending: Pending, current: Current, write_result: WriteResult) -> Pending | None:
        """A row of `items()` is just inserted again: its row in the state table says whether it was."""
        if isinstance(pending.change, Insert):
            return self._start(pending.change, write_result, pending.doubts)
        if self._change_of is None and self._stands(pending, current):
            return pending
        return pending if self._judged(pending, current, write_result) else None

    # ------------------------------------------------------------ one round of sending

    def _round(self, waiting: list[Pending], write_result: WriteResult, assure: Assure) -> list[Pending]:
        again: list[Pending] = []
        held: list[Pending] = []
        passed = False
        refused: list[tuple[Pending, Image | None]] = []
        look = partial(self._looked_again, later=again, write_result=write_result)
        for batch, answer in self._request_pipeline.answered(waiting, held, assure, look):
            write_result.units = write_result.units.plus(Units(wcu=answer.wcu or 0.0))
            answered = list(zip(batch, answer.verdicts, strict=True))
            passed |= any(verdict.outcome in ("done", "conflict") for verdict in answer.verdicts)
            write_result.done([pending.change for pending, verdict in answered if verdict is DONE])
            for pending, verdict in answered:
                if verdict is DONE:
                    continue
                if verdict.outcome == "conflict":
                    refused.append((pending, verdict.image))
                elif self._may_retry(pending, verdict, write_result):
                    pending.failed += answer.whole
                    again.append(pending)
        return self._kept(held, passed, write_result) + again + self._resolve(refused, write_result)

    def _may_retry(self, pending: Pending, verdict: Verdict, write_result: WriteResult) -> bool:
        if verdict.outcome == "rejected":
            self._bury(write_result, pending.change, ItemError(f"DynamoDB rejects the write: {verdict.message}"))
            return False
        if verdict.outcome == "throttled":
            write_result.contention = write_result.contention.plus(Contention(throttles=1))
        if verdict.outcome == "doubt":
            pending.doubts.append(pending.change)
        pending.tries += 1
        if self._backoff.exhausted(pending.tries):
            self._give_up(pending, verdict.message, write_result)
            return False
        return True

    def _give_up(self, pending: Pending, why: str, write_result: WriteResult) -> None:
        error = ItemError(
            f"gave up after {pending.tries} tries: {why}",
            hint="raise the table's capacity, or run again later",
        )
        self._bury(write_result, pending.change, error, stage="doubt" if pending.doubts else "write")

    def _kept(self, held: list[Pending], passed: bool, write_result: WriteResult) -> list[Pending]:
        """Who was held back goes first next time. Where nothing passes he has waited for as long as who was refused,
        and is given up as soon: a page has an end."""
        kept = []
        for pending in held:
            pending.tries = 0 if passed else pending.tries + 1
            if self._backoff.exhausted(pending.tries):
                self._give_up(pending, "its partition takes no more", write_result)
            else:
                kept.append(pending)
        return kept

    def _pause(self, again: list[Pending]) -> float:
        tries, conflicts = max(p.tries for p in again), max(p.conflicts for p in again)
        backoff = self._backoff if tries else self._soon
        return backoff.delay(max(tries, conflicts), self._dice)

    # ------------------------------------------------------------ conflicts

    def _resolve(self, refused: Sequence[tuple[Pending, Image | None]], write_result: WriteResult) -> list[Pending]:
        """What to do about refusals: the pendings that go out again, changed to suit the current items."""
        if not refused:
            return []
        current = self._current(refused)
        return [pending for pending, known in refused if self._resolved(pending, current, write_result, known)]

    def _current(self, refused: Sequence[tuple[Pending, Image | None]]) -> Current:
        """The items whose refusals came without them, what has the keys of insertions, and what the run inserted."""
        sources = [pending.change.key for pending, image in refused if image is None and not _is_row(pending)]
        known = [pending.change.key for pending, image in refused if image is not None]
        places = [part.key for pending, _ in refused for part in inserts_of([pending.change, *pending.doubts])]
        return self._lookups.current(sources, places, known)

    def _resolved(
        self, pending: Pending, current: Current, write_result: WriteResult, known: Image | None = None
    ) -> bool:
        """Count a refusal, or fit it to the current items and return True."""
        pending.conflicts += 1
        write_result.contention = write_result.contention.plus(Contention(conflicts=1))
        return self._judged(pending, current, write_result, known)

    def _judged(
        self, pending: Pending, current: Current, write_result: WriteResult, known: Image | None = None
    ) -> bool:
        found = judged(pending.change, pending.doubts, current, known, self._stamp)
        if isinstance(found, Ends):
            write_result.end(pending.change, found.outcome, unconfirmed=found.unconfirmed)
        elif isinstance(found, Unclear):
            self._bury(write_result, pending.change, ItemError(_UNCLEAR, hint=_UNCLEAR_HINT), found.now, stage="doubt")
        elif isinstance(found, Collision):
            self._bury(write_result, pending.change, _collision(found, pending.change))
        elif _tired(pending):
            self._bury(write_result, pending.change, ItemError(_tired_of(pending)), getattr(found, "now", None))
        elif isinstance(found, Again):
            return self._go_on_with(pending, found.change)
        else:
            return self._transform_again(pending, found.now, write_result)
        return False

    def _transform_again(self, pending: Pending, now: Image, write_result: WriteResult) -> bool:
        """Transform the current item and make the pending the fresh change, if there is one."""
        try:
            change = self._change_of(now) if self._change_of is not None else None
            if change is None:
                write_result.end(pending.change, "superseded")
                return False
            pending.change, pending.request, pending.fresh = change, self._statements.write(change), True
        except BaseException as error:  # whatever the author's code raises on the fresh image
            if isinstance(error, ScriptError | ServiceError) or is_interrupt(error):
                raise
            self._bury(write_result, pending.change, error, now, stage="transform")
            return False
        return True

    def _go_on_with(self, pending: Pending, change: Change) -> bool:
        """Send the same again, or what of it is left to do: that is announced as a change of its own."""
        if change != pending.change:
            pending.change, pending.fresh = change, True
            pending.request = self._statements.write(change)
        return True

    def _bury(
        self,
        write_result: WriteResult,
        change: Change,
        error: BaseException,
        now: Image | None = None,
        stage: str = "write",
    ) -> None:
        image = now or (change.item if isinstance(change, Insert) else change.read)
        write_result.counts = write_result.counts._replace(dead=write_result.counts.dead + 1)
        write_result.dead.append(dead_letter(change.key, image, stage, error))
        if stage != "doubt":
            write_result.without_effect(change)


def _collision(found: Collision, change: Change) -> ItemError:
    key = key_shown(found.insert.key)
    if not found.own:
        what = f"another item has the new key {key} already"
    elif found.other is None:
        what = f"another row of items() has the key {key}"
    elif key_text(found.other) == key_text(change.key):
        what = f"the run has inserted another item, made of an earlier state of this one, under the key {key}"
    else:
        what = f"two items are for the key {key}: {key_shown(found.other)} and {key_shown(change.key)}"
    return ItemError(what, where=f"table {found.insert.table}", hint="give each item a key of its own in the script")


def _tired_of(pending: Pending) -> str:
    if isinstance(pending.change, Insert):
        return f"the key was taken and gone again {pending.conflicts} times"
    return f"the item was changed by others {pending.conflicts} times while it was written"


def _tired(pending: Pending) -> bool:
    return pending.conflicts > MAX_CONFLICTS


def _is_row(pending: Pending) -> bool:
    return isinstance(pending.change, Insert)


def _rests_on_all(change: Change) -> bool:
    """Whether it is right only for the whole item as it was read: it deletes it, or puts others beside it."""
    return isinstance(change, Remove | Atomic)
