"""What a worker is told while it runs, by one row that it looks at: stop, pause, and that the run is no longer its own.

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
from typing import Protocol

from dynamodt import errors
from dynamodt.errors import DynamodtError, Fenced, RunFailed, ServiceError
from dynamodt.model import Item, Job, Lease
from dynamodt.stages.looks import LOOK_SECONDS, Looks

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


class LeaseBoard(Protocol):
    """What `aws.lease_rows.LeaseRows` offers, and a test's fake must."""

    def read(self, table: str, board: int = 0) -> Lease: ...

    def begin_read(self, table: str, board: int = 0) -> Callable[[], Lease]: ...

    def change(self, table: str, token: int, changes: Callable[[Lease], Item]) -> None: ...


def stop(leases: LeaseBoard, job: Job, why: str, error: dict[str, str] | None = None) -> None:
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


def end_lanes(job: Job) -> None:
    """Stop the lanes of this process after the pages they are at, and wait until they have ended."""
    key = (job.base_run, job.attempt)
    _stopped.add(key)
    with _changed:
        _ended.add(key)
        _changed.wait_for(lambda: not _working[key])


def lanes_ended(job: Job) -> bool:
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
        leases: LeaseBoard,
        job: Job,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._leases = leases
        self._job = job
        self._key = (job.base_run, job.attempt)
        self._board = random.randrange(job.spread)  # by lot: the process numbers of containers are much alike
        self._looks: Looks[Lease] = Looks(clock)
        self._fences = [(table, token, Looks[Lease](clock)) for table, token in job.fences]
        self._sleep = sleep

    def stopping(self) -> bool:
        """Whether to stop, asked between two pages; waits here while the run is paused or held. Raises Fenced."""
        while not self._is_stopped():
            seen = self._look()
            if not (seen.paused or seen.hold):
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
            if not (seen.paused or seen.hold) or self._is_stopped():
                return
            self._sleep(LOOK_SECONDS)

    def assure(self) -> None:
        """Asked before every request that writes. Raises Fenced when the last look is old and another one shows that
        the run was taken over: a worker that was suspended writes nothing after it wakes."""
        self._look()

    def _is_stopped(self) -> bool:
        return bool(self._look().stop) or self._key in _stopped

    def _look(self) -> Lease:
        for table, token, looks in self._fences:
            held = looks.current(partial(self._leases.begin_read, table, self._board))
            if held is not None and held.token != token:
                raise _fenced(self._job, table)
        seen = self._looks.current(self._begin)
        assert seen is not None
        if seen.token != self._job.attempt:
            raise _fenced(self._job)
        return seen

    def _begin(self) -> Callable[[], Lease]:
        return self._leases.begin_read(self._job.lease, self._board)


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
def reporting(leases: LeaseBoard, job: Job) -> Iterator[None]:
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


def _is_lost(leases: LeaseBoard, job: Job) -> bool:
    """Whether the whole run is another's; or only one unit, which a runner has given to another worker of the run."""
    try:
        return lost(leases, job) is not None
    except ServiceError:
        return True


def lost(leases: LeaseBoard, job: Job) -> Fenced | None:
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
