"""Looks at a row of the state table: never older than half a second, and sent ahead where the table is far away.

What a worker is told while it runs, by one row that it looks at: stop, pause, and that the run is no longer its own.

The row is the table's lease, or a copy of it where there are many workers. A look costs one small read at most twice a
second for a process, however many items it moves; a word from this very process needs no look.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

from dynamodt import errors
from dynamodt.errors import DynamodtError, Fenced, RunFailed, ServiceError
from dynamodt.model.items import Item
from dynamodt.model.runs import Job, Lease

LOOK_SECONDS = 0.5
_AT_ONCE = 0.001  # seconds: an answer that took no longer had come already
_FORGETTING = 0.9

Seen = TypeVar("Seen")
Answer = Callable[[], Seen]  # waits for the answer to a look
Begin = Callable[[], Answer[Seen]]  # sends one


class Poller(Generic[Seen]):
    """What one row shows, by a look that was sent half a second ago at most.

    The next look is sent ahead by as long as an answer takes, half of the time at most: a lane 300 ms away from the
    table would do little but wait for looks, and one that is near asks twice a second, as before. An answer that has
    been lying here for longer than that, since the process was suspended, counts for nothing. Not for several threads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: Seen | None = None
        self._seen_at = float("-inf")
        self._took = 0.0
        self._sent: tuple[float, Answer[Seen]] | None = None
        self._idle: Answer[Seen] | None = None  # about what nobody asks any more

    def current(self, begin: Begin[Seen]) -> Seen | None:
        """What the row shows; None where `saw` stands for a look. Raises what a look raises."""
        if self._sent is None and self._age() >= LOOK_SECONDS - min(self._took, LOOK_SECONDS / 2):
            self._send(begin)
        now = self._clock()  # once: between two readings a look may have grown too old
        if self._sent is not None and now - self._seen_at >= LOOK_SECONDS:
            self._hear()
        if now - self._seen_at >= LOOK_SECONDS:
            self._send(begin)
            self._hear()
        return self._seen

    def observed(self, at: float) -> None:
        """Something else that was sent at this moment shows as much."""
        self.reset()
        self._seen_at = at

    def reset(self) -> None:
        """From now on it is about another row: nothing has been seen of it."""
        if self._sent is not None:
            self._idle, self._sent = self._sent[1], None
        self._seen, self._seen_at = None, float("-inf")

    def _age(self) -> float:
        return self._clock() - self._seen_at

    def _send(self, begin: Begin[Seen]) -> None:
        if self._idle is not None:
            with suppress(ServiceError):
                self._idle()  # its connection serves again
            self._idle = None
        now = self._clock()  # before it is sent: what it shows is at least this fresh
        self._sent = now, begin()

    def _hear(self) -> None:
        """Take the answer to what was sent."""
        assert self._sent is not None
        (sent_at, answer), self._sent = self._sent, None
        asked_at = self._clock()
        self._seen, self._seen_at = answer(), sent_at
        awaited_at = self._clock()
        waited = awaited_at - asked_at > _AT_ONCE
        self._took = awaited_at - sent_at if waited else self._took * _FORGETTING


MAX_ERRORS = "max-errors"
_WITH_REASON = ("abort", "error")

_stopped: set[tuple[str, int]] = set()  # runs and attempts that were stopped by or within this process
_interrupted: set[tuple[str, int]] = set()  # of these, those whose pages are left where they are
_ended: set[tuple[str, int]] = set()  # whose lanes nobody waits for any more
_working: Counter[tuple[str, int]] = Counter()  # lanes of this process, by run and attempt
_changed = threading.Condition()


class Interrupted(Exception):
    """The run was stopped while a page was at work: the page is left between two requests. What of it is written is in
    the journal, and the next attempt recovers it as it recovers one of a process that died."""


class LeaseReplicas(Protocol):
    """What `state.lease_rows.LeaseRows` offers, and a test's fake must."""

    def read(self, table: str, replica: int = 0) -> Lease: ...

    def begin_read(self, table: str, replica: int = 0) -> Callable[[], Lease]: ...

    def change(self, table: str, token: int, changes: Callable[[Lease], Item]) -> None: ...


def stop(leases: LeaseReplicas, job: Job, why: str, error: dict[str, str] | None = None) -> None:
    """Ask all workers of a run to stop: those of this process at once, the others when they look next. An attempt
    that has been taken over stops only itself.

    Who finds the same said already adds nothing: what makes one worker stop may make a thousand, in the same second.
    An error, or a person's word, that stands there is not replaced by what stops a run without one.
    """
    _stopped.add((job.base_run, job.attempt))
    if why != MAX_ERRORS:
        _interrupted.add((job.base_run, job.attempt))

    def said(seen: Lease) -> Item:
        if _is_said(seen, why, error):
            return {}
        return {"stop": why, **({"error": error} if error is not None else {})}

    with suppress(Fenced):
        leases.change(job.lease, job.attempt, said)


def _is_said(seen: Lease, why: str, error: dict[str, str] | None) -> bool:
    if error is None:
        return seen.stop in (why, *_WITH_REASON)
    return seen.stop == why and seen.error is not None


@contextmanager
def working(job: Job) -> Iterator[None]:
    """A lane is at work: `end_lanes` waits for it."""
    key = (job.base_run, job.attempt)
    with _changed:
        _working[key] += 1
    try:
        yield
    finally:
        with _changed:
            _working[key] -= 1
            _changed.notify_all()


def end_split_groups(job: Job) -> None:
    """Stop the lanes of this process after the pages they are at, and wait until they have ended."""
    key = (job.base_run, job.attempt)
    _stopped.add(key)
    with _changed:
        _ended.add(key)
        _changed.wait_for(lambda: not _working[key])


def split_groups_ended(job: Job) -> bool:
    """Whether `end_lanes` was called, asked while `working`: then what is left undone stays so."""
    with _changed:
        return (job.base_run, job.attempt) in _ended


def interrupted(job: Job) -> bool:
    """Whether pages are left where they are. None is begun then: it could be the next one of a page that was left."""
    return (job.base_run, job.attempt) in _interrupted


class Signal:
    """Looks at a job's lease, and remembers what it saw for half a second."""

    def __init__(
        self,
        leases: LeaseReplicas,
        job: Job,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._leases = leases
        self._job = job
        self._key = (job.base_run, job.attempt)
        self._replica = random.randrange(job.shards)  # by lot: the process numbers of containers are much alike
        self._poller: Poller[Lease] = Poller(clock)
        self._fences = [(table, token, Poller[Lease](clock)) for table, token in job.fences]
        self._sleep = sleep

    def stopping(self) -> bool:
        """Whether to stop, asked between two pages; waits here while the run is paused or held. Raises Fenced."""
        while not self._is_stopped():
            seen = self._look()
            if not (seen.paused or seen.pause_reason):
                return False
            self._sleep(LOOK_SECONDS)
        return True

    def heed(self) -> None:
        """Asked between two requests of a page; waits here while the run is paused or held. Raises Interrupted when it
        is stopped, Fenced when it was taken over. Dead letters stop a run after the pages at work: all of them count.
        """
        while True:
            seen = self._look()
            if seen.stop not in ("", MAX_ERRORS):
                _stopped.add(self._key)
                _interrupted.add(self._key)
            if self._key in _interrupted:
                raise Interrupted
            if not (seen.paused or seen.pause_reason) or self._is_stopped():
                return
            self._sleep(LOOK_SECONDS)

    def assure(self) -> None:
        """Asked before every request that writes. Raises Fenced when the last look is old and another one shows that
        the run was taken over: a worker that was suspended writes nothing after it wakes."""
        self._look()

    def _is_stopped(self) -> bool:
        return bool(self._look().stop) or self._key in _stopped

    def _look(self) -> Lease:
        for table, token, poller in self._fences:
            held = poller.current(partial(self._leases.begin_read, table, self._replica))
            if held is not None and held.token != token:
                raise _fenced(self._job, table)
        seen = self._poller.current(self._begin)
        assert seen is not None
        if seen.token != self._job.attempt:
            raise _fenced(self._job)
        return seen

    def _begin(self) -> Callable[[], Lease]:
        return self._leases.begin_read(self._job.lease, self._replica)


class SharedSignal:
    """A signal for several threads, of which one looks at a time."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._lock = threading.Lock()

    def heed(self) -> None:
        """As `Signal.heed`."""
        with self._lock:
            self._signal.heed()


@contextmanager
def reporting(leases: LeaseReplicas, job: Job) -> Iterator[None]:
    """Leaves an error that ends a worker in the lease, where it keeps its type: a Beam runner would hand on no more
    than its text. Stops the other workers too. An attempt that is fenced reports nothing: it has nothing to say."""
    try:
        yield
    except Fenced:
        if _is_lost(leases, job):
            _stopped.add((job.base_run, job.attempt))
        raise
    except DynamodtError as error:
        told = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        stop(leases, job, "error", told)
        raise


def _is_lost(leases: LeaseReplicas, job: Job) -> bool:
    """Whether the whole run is another's; or only one unit, which a runner has given to another worker of the run."""
    try:
        return lost(leases, job) is not None
    except ServiceError:
        return True


def lost(leases: LeaseReplicas, job: Job) -> Fenced | None:
    """What a run is told that has lost one of its leases, or None."""
    for table, token in ((job.lease, job.attempt), *job.fences):
        if leases.read(table).token != token:
            return _fenced(job, table)
    return None


def _fenced(job: Job, lease: str = "") -> Fenced:
    table = job.table.name if lease in ("", job.lease) else lease
    return Fenced(
        f"another process has taken the lease on table {table} over, or it was broken"
        if table != job.table.name
        else "another process has taken the run over, or its lease was broken",
        where=f"run {job.base_run}",
        hint=f"this process has ended its part; who holds the table now: dynamodt runs --table {table}",
    )


def reported(lease: Lease, job: Job) -> DynamodtError | None:
    """The error that `reporting` has left, or None."""
    if lease.token != job.attempt:
        return _fenced(job)
    if lease.error is None:
        return None
    kind = getattr(errors, lease.error["kind"], RunFailed)
    found: DynamodtError = kind(lease.error["what"], where=lease.error["where"], hint=lease.error["hint"])
    return found
