"""Every change of a page, written and answered for: the conflict loop of guarantee G1 and the counting of G2.

A change goes out guarded by what was read. Then, for each:

- *done*: changed.
- *conflict*: somebody wrote the item since. The current item is transformed afresh and the fresh change is tried,
  a bounded number of times. If nothing is left to do it is superseded; if the item is gone it has vanished.
- *throttled*: nothing has happened; sent again later, and in smaller batches when the request failed as a whole.
- *doubt* (time-out, reset, 5xx): sent again; if it is then refused and the current item carries the change, it had
  been written; if the item is as it was before, it had not. An item that shows neither is a dead letter: others have
  changed the same attributes, and nobody can tell. A refusal without a doubt before it is never taken for written.
- *rejected*: the service will never take it: a dead letter.

Before anything is sent it is announced (guarantee G3, see `ledger`), and so is every fresh change; before every
request the worker makes sure that the run is still its own, and the unit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

from dynamodt.aws.batch import DONE, Verdict, Writes
from dynamodt.aws.reads import Flow, Free, Reads, key_text
from dynamodt.core.codec import same_image
from dynamodt.core.diff import parts_of
from dynamodt.core.doubts import There, by_source, inserted_keys, shown
from dynamodt.core.rate import Backoff
from dynamodt.core.script import is_interrupt
from dynamodt.core.statements import Statement, Statements
from dynamodt.errors import ItemError, ScriptError, ServiceError
from dynamodt.model import Atomic, Change, Friction, Image, Insert, Remove, Units, Update
from dynamodt.stages.deadletters import dead_letter
from dynamodt.stages.sending import Pending, Sending
from dynamodt.stages.settled import Settled

MAX_CONFLICTS = 12
LOOK_LASTS = 1.0  # second: a page that waits for nothing is written by then
NOT_SENT = Statement("", [])
_UNCLEAR = "a write of this item was never answered, and somebody has changed the same attributes since"
_UNCLEAR_HINT = (
    "look at the item: it may or may not be transformed, and nothing takes it up again by itself. "
    "A script that sets STAMP leaves no such doubt"
)

Announce = Callable[[Sequence[Change]], None]
Assure = Callable[[], None]
Settling = Generator[float, None, Settled]  # each step gives the seconds to rest before the next one


class Settlement:
    """Settles pages of one table. `change_of` is the author's function; without one, an item that somebody has written
    meanwhile is his. `reads` reads the table that is written to.

    `writers` requests of it are on their way at once (see `Sending`).
    """

    def __init__(
        self,
        writes: Writes,
        reads: Reads,
        statements: Statements,
        change_of: Callable[[Image], Change | None] | None,
        writers: int,
        *,
        backoff: Backoff = Backoff(base=0.2),  # meanwhile a partition saves up some batches
        stamp: str | None = None,
        assure: Callable[[], None] = lambda: None,
        flow: Flow = Free(),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._sending = Sending(writes, writers, assure, flow)
        self._reads = reads
        self._statements = statements
        self._change_of = change_of
        self._backoff = backoff
        self._soon = replace(backoff, base=backoff.base / 4)  # a conflict is over by then
        self._stamp = stamp
        self._clock = clock
        self._sleep = sleep
        self._looked = clock()  # when the page at work was looked at
        self._dice = dice

    def settle(self, changes: Sequence[Change]) -> Settled:
        """`settling`, to its end: nobody has anything else to do meanwhile, and nothing is announced."""
        settling = self.settling(changes)
        while True:
            try:
                self._sleep(next(settling))
            except StopIteration as end:
                settled: Settled = end.value
                return settled

    def settling(
        self, changes: Sequence[Change], announce: Announce = lambda changes: None, assure: Assure = lambda: None
    ) -> Settling:
        """Write the changes. Each adds one to exactly one of changed, unchanged, superseded, vanished, dead.

        Where it would wait before it tries again it yields the seconds: nothing of the page is on its way then, and
        others may be settled. `announce` is told of all changes before the first is sent, and of every fresh one before
        that is; `assure` is asked before each request. Raises ServiceError when the table cannot be written at all,
        ScriptError when the script must not go on, and whatever `announce` and `assure` raise.
        """
        settled = self._empty()
        announce(changes)  # before any of them comes to its end: who finds the announcement counts all of them
        waiting = [pending for change in changes if (pending := self._start(change, settled)) is not None]
        for pending in waiting:
            pending.fresh = False
        waiting = self._looked_at(waiting, settled)
        return (yield from self._finish(waiting, settled, announce, assure))

    def recovering(
        self, found: Sequence[Sequence[Change]], announce: Announce, assure: Assure = lambda: None
    ) -> Settling:
        """Settle a page that its owners before may have written in part: `found` are their announcements, in order.

        An item that carries one of its patches is done. One that is as it was before the last of them is still to do,
        and is transformed afresh. Anything else is a dead letter, never a guess.
        """
        settled = self._empty()
        return (yield from self._finish(self._doubtful(found, settled), settled, announce, assure))

    def _finish(self, waiting: list[Pending], settled: Settled, announce: Announce, assure: Assure) -> Settling:
        """Send until all are answered for. Whatever goes out for the first time is announced before."""
        while waiting:
            if fresh := [pending.change for pending in waiting if pending.fresh]:
                announce(fresh)
            for pending in waiting:
                pending.fresh = False
            waiting = self._round(waiting, settled, assure)
            if waiting:
                before = self._reads.rcu
                yield self._pause(waiting)
                settled.units = settled.units.plus(Units(rcu=before - self._reads.rcu))  # what others read meanwhile
                waiting = self._looked_at(waiting, settled)
        settled.units = settled.units.plus(Units(rcu=self._reads.rcu))
        settled.void = settled.really_void()
        return settled

    def _empty(self) -> Settled:
        """What the reads have cost before is not this page's."""
        return Settled(units=Units(rcu=-self._reads.rcu))

    def _start(self, change: Change, settled: Settled, doubts: Sequence[Change] = ()) -> Pending | None:
        try:
            return Pending(change, self._statements.write(change), list(doubts))
        except ItemError as error:
            self._bury(settled, change, error)
            return None

    def _looked_at(self, waiting: list[Pending], settled: Settled) -> list[Pending]:
        """Deletions are looked at right before: no guard can name an attribute that was added since the item was read
        (or, for a version's own rows, since they were written), and it would be lost."""
        self._looked = self._clock()
        return self._standing(waiting, settled)

    def _looked_again(self, batch: list[Pending], later: list[Pending], settled: Settled) -> list[Pending]:
        """What of a batch goes out now. Its deletions are looked at once more when the budget has let it wait for long;
        what that makes afresh is to be announced first, and goes out `later`."""
        if self._clock() - self._looked < LOOK_LASTS:
            return batch
        found = self._standing(batch, settled)
        later += [pending for pending in found if pending.fresh]
        return [pending for pending in found if not pending.fresh]

    def _standing(self, waiting: list[Pending], settled: Settled) -> list[Pending]:
        """The pendings, without deletions that are over; others are fitted to the current items."""
        deletions = [pending for pending in waiting if _deletes(pending.change)]
        if not deletions:
            return waiting
        keys = ((pending.change.key, *inserted_keys(pending.doubts)) for pending in deletions)
        current = self._items(chain.from_iterable(keys))
        again = [pending for pending in waiting if not _deletes(pending.change)]
        for pending in deletions:
            now = current.get(key_text(pending.change.key))
            if self._stands(pending, now) or self._resolved(pending, now, current, settled):
                again.append(pending)
        return again

    def _stands(self, pending: Pending, now: Image | None) -> bool:
        """Whether a deletion can go out as it is: its item is as it was read. It is guarded by what is there, as an own
        row's numbers may be written otherwise in the script, which not every emulator's `=` sees through.

        And so can a transaction in doubt whose source is gone: it knows best itself whether that was its doing."""
        change = pending.change
        if now is None:
            return isinstance(change, Atomic) and bool(pending.doubts)
        if not _is_as_read(change, now):
            return False
        if isinstance(change, Remove):
            pending.change = change._replace(read=now)
            pending.request = self._statements.write(pending.change)
        return True

    def _items(self, keys: Iterable[Image]) -> dict[str, Image]:
        """The items of these keys as they are now, by `key_text`."""
        wanted = {key_text(key): key for key in keys}
        return self._reads.items(list(wanted.values())) if wanted else {}

    # ------------------------------------------------------------ after somebody else

    def _doubtful(self, announced: Sequence[Sequence[Change]], settled: Settled) -> list[Pending]:
        """What is still to do of a page that was announced; the rest is counted."""
        self._looked = self._clock()
        sources = by_source(announced)
        current = self._items(key for changes in sources for key in (changes[-1].key, *inserted_keys(changes)))
        found = (self._doubt(changes, current, settled) for changes in sources)
        return [pending for pending in found if pending is not None]

    def _doubt(self, changes: list[Change], current: dict[str, Image], settled: Settled) -> Pending | None:
        last = changes[-1]
        pending = Pending(last, NOT_SENT, doubts=list(changes))
        now = current.get(key_text(last.key))
        if isinstance(last, Insert) and now is None:
            return self._start(last, settled, changes)
        if isinstance(last, Insert):
            self._insertion_refused(pending, now, settled)
            return None
        if self._change_of is None and self._stands(pending, now):
            return pending
        return pending if self._cleared(pending, now, current, settled) else None

    def _cleared(self, pending: Pending, now: Image | None, current: dict[str, Image], settled: Settled) -> bool:
        """Fit a refused change to the current items and return True, or count it.

        What was sent before and never answered may have been written: an item that carries it is done, one that is as
        it was before is still to do, and to any other nothing is done: it is a dead letter.
        """
        doubts = [shown(doubt, _there(doubt, now, current), self._stamp) for doubt in pending.doubts]
        if "written" in doubts:
            settled.end(pending.change, "changed")
        elif doubts and doubts[-1] == "unclear":
            self._bury(settled, pending.change, ItemError(_UNCLEAR, hint=_UNCLEAR_HINT), now, stage="doubt")
        elif now is None:
            settled.end(pending.change, "vanished")
        elif isinstance(pending.change, Atomic) and _is_as_read(pending.change, now) and not _tired(pending):
            return self._without_taken(pending, pending.change, current, settled)
        else:
            return self._afresh(pending, now, settled)
        return False

    # ------------------------------------------------------------ one round of sending

    def _round(self, waiting: list[Pending], settled: Settled, assure: Assure) -> list[Pending]:
        again: list[Pending] = []
        held: list[Pending] = []
        passed = False
        refused: list[tuple[Pending, Image | None]] = []
        look = partial(self._looked_again, later=again, settled=settled)
        for batch, answer in self._sending.answered(waiting, held, assure, look):
            settled.units = settled.units.plus(Units(wcu=answer.wcu or 0.0))
            answered = list(zip(batch, answer.verdicts, strict=True))
            passed |= any(verdict.outcome in ("done", "conflict") for verdict in answer.verdicts)
            settled.done([pending.change for pending, verdict in answered if verdict is DONE])
            for pending, verdict in answered:
                if verdict is DONE:
                    continue
                if verdict.outcome == "conflict":
                    refused.append((pending, verdict.image))
                elif self._may_retry(pending, verdict, settled):
                    pending.failed += answer.whole
                    again.append(pending)
        return self._kept(held, passed, settled) + again + self._resolve(refused, settled)

    def _may_retry(self, pending: Pending, verdict: Verdict, settled: Settled) -> bool:
        if verdict.outcome == "rejected":
            self._bury(settled, pending.change, ItemError(f"DynamoDB rejects the write: {verdict.message}"))
            return False
        if verdict.outcome == "throttled":
            settled.friction = settled.friction.plus(Friction(throttles=1))
        if verdict.outcome == "doubt":
            pending.doubts.append(pending.change)
        pending.tries += 1
        if self._backoff.exhausted(pending.tries):
            self._give_up(pending, verdict.message, settled)
            return False
        return True

    def _give_up(self, pending: Pending, why: str, settled: Settled) -> None:
        error = ItemError(
            f"gave up after {pending.tries} tries: {why}",
            hint="raise the table's capacity, or run again later",
        )
        self._bury(settled, pending.change, error, stage="doubt" if pending.doubts else "write")

    def _kept(self, held: list[Pending], passed: bool, settled: Settled) -> list[Pending]:
        """Who was held back goes first next time. Where nothing passes he has waited for as long as who was refused,
        and is given up as soon: a page has an end."""
        kept = []
        for pending in held:
            pending.tries = 0 if passed else pending.tries + 1
            if self._backoff.exhausted(pending.tries):
                self._give_up(pending, "its partition takes no more", settled)
            else:
                kept.append(pending)
        return kept

    def _pause(self, again: list[Pending]) -> float:
        tries, conflicts = max(p.tries for p in again), max(p.conflicts for p in again)
        backoff = self._backoff if tries else self._soon
        return backoff.delay(max(tries, conflicts), self._dice)

    # ------------------------------------------------------------ conflicts

    def _resolve(self, refused: list[tuple[Pending, Image | None]], settled: Settled) -> list[Pending]:
        """What to do about refusals: the pendings that go out again, changed to suit the current items."""
        if not refused:
            return []
        current = self._current(refused)
        again = []
        for pending, image in refused:
            now = image if image is not None else current.get(key_text(pending.change.key))
            if self._resolved(pending, now, current, settled):
                again.append(pending)
        return again

    def _current(self, refused: list[tuple[Pending, Image | None]]) -> dict[str, Image]:
        """The items whose refusals came without them, and those that stand in the way of an insertion."""
        keys: list[Image] = []
        for pending, image in refused:
            if image is None:
                keys.append(pending.change.key)
            keys += inserted_keys([pending.change, *pending.doubts])
        return self._items(keys)

    def _resolved(self, pending: Pending, now: Image | None, current: dict[str, Image], settled: Settled) -> bool:
        """Count the pending, or fit it to the current items and return True."""
        pending.conflicts += 1
        settled.friction = settled.friction.plus(Friction(conflicts=1))
        if isinstance(pending.change, Insert):
            return self._insertion_refused(pending, now, settled)
        return self._cleared(pending, now, current, settled)

    def _afresh(self, pending: Pending, now: Image, settled: Settled) -> bool:
        """Transform the current item and make the pending the fresh change, if there is one."""
        if _tired(pending):
            error = ItemError(f"the item was changed by others {pending.conflicts} times while it was written")
            self._bury(settled, pending.change, error, now)
            return False
        try:
            change = self._change_of(now) if self._change_of is not None else None
            if change is None:
                settled.end(pending.change, "superseded")
                return False
            pending.change, pending.request, pending.fresh = change, self._statements.write(change), True
        except BaseException as error:  # whatever the author's code raises on the fresh image
            if isinstance(error, ScriptError | ServiceError) or is_interrupt(error):
                raise
            self._bury(settled, pending.change, error, now, stage="transform")
            return False
        return True

    def _insertion_refused(self, pending: Pending, now: Image | None, settled: Settled) -> bool:
        """Somebody has the key. The same item is no loss; another one is a live write, and wins."""
        assert isinstance(pending.change, Insert)
        if now is None and not _tired(pending):
            return True  # gone again: insert it once more
        if now is None:
            error = ItemError(f"the key was taken and gone again {pending.conflicts} times")
            self._bury(settled, pending.change, error)
            return False
        if not same_image(now, pending.change.item):
            kind = "superseded"
        else:
            kind = "changed" if pending.doubts else "unchanged"
        settled.end(pending.change, kind)
        return False

    def _without_taken(self, pending: Pending, change: Atomic, current: dict[str, Image], settled: Settled) -> bool:
        """The source is as it was read, so an insertion met an item. The same item needs no insertion; another one
        wins, unless the source would be deleted for it: then its data would be lost, and it is a dead letter."""
        deletes = _deletes(change)
        left = []
        for part in change.parts:
            there = current.get(key_text(part.key)) if isinstance(part, Insert) else None
            if there is None:
                left.append(part)
            elif deletes and isinstance(part, Insert) and not same_image(there, part.item):
                error = ItemError("another item has the new key already", where=", ".join(part.key))
                self._bury(settled, change, error)
                return False
        return self._go_on_with(pending, change, left, settled)

    def _go_on_with(
        self, pending: Pending, change: Atomic, left: list[Update | Insert | Remove], settled: Settled
    ) -> bool:
        settled.without_effect(change._replace(parts=tuple(part for part in change.parts if part not in left)))
        if not left:
            settled.end(pending.change, "superseded")
            return False
        alone = len(left) == 1 and not isinstance(left[0], Insert)  # which by itself would not say what it was made of
        pending.change = left[0] if alone else change._replace(parts=tuple(left))
        pending.fresh = True
        pending.request = self._statements.write(pending.change)
        return True

    def _bury(
        self, settled: Settled, change: Change, error: BaseException, now: Image | None = None, stage: str = "write"
    ) -> None:
        key, image = change.key, now
        if isinstance(change, Insert):  # which is replayed from what it was made of
            key, image = change.source or key, change.item
        elif not image:
            image = change.read
        settled.counts = settled.counts._replace(dead=settled.counts.dead + 1)
        settled.dead.append(dead_letter(key, image, stage, error))
        if stage != "doubt":
            settled.without_effect(change)


def _there(doubt: Change, now: Image | None, current: dict[str, Image]) -> There:
    """The current items, of which the doubt's own may have come with the refusal."""
    return lambda key: now if key == doubt.key else current.get(key_text(key))


def _is_as_read(change: Change, now: Image) -> bool:
    return not isinstance(change, Insert) and same_image(now, change.read)


def _tired(pending: Pending) -> bool:
    return pending.conflicts > MAX_CONFLICTS


def _deletes(change: Change) -> bool:
    if type(change) is Update:  # nearly all of them
        return False
    return any(isinstance(part, Remove) for part in parts_of(change))
