"""The signals to a worker: stop, pause, and the loss of the run to another process.

A worker polls one row of the state table: the table's lease, or a replica of it if there are many workers. The
observation is never older than half a second, and costs a process at most two small reads a second. A stop by the same
process needs no read: it is in the run's context, which all stages of the process share.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dynamodt import errors
from dynamodt.errors import DynamodtError, Fenced, Hint, RunFailed, ServiceError, suggest
from dynamodt.model.runs import ABORT, ERROR, MAX_USD, Job, Lease
from dynamodt.model.tables import Item

if TYPE_CHECKING:
    from dynamodt.pipeline.attempts import RecentKeys
    from dynamodt.pipeline.rate_limit import WorkerRateLimiter
    from dynamodt.state.lease_rows import LeaseRows

POLL_SECONDS = 0.5
_AT_ONCE = 0.001  # seconds; an answer that took no longer had already arrived
_FORGETTING = 0.9

Observed = TypeVar("Observed")
Answer = Callable[[], Observed]  # waits for the answer to a poll
Begin = Callable[[], Answer[Observed]]  # sends one


class Poller(Generic[Observed]):
    """The content of one row, by a read that was sent at most half a second ago. Not thread-safe.

    The next read is sent ahead of time, earlier by the time that an answer takes, but at most by half of the period: at
    300 ms from the table, a split group would otherwise mostly wait for reads. An answer that is older than half a
    second when it is used, since the process was suspended, is read again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._observed: Observed | None = None
        self._observed_at = float("-inf")
        self._took = 0.0
        self._sent: tuple[float, Answer[Observed]] | None = None
        self._abandoned: Answer[Observed] | None = None  # about a row that is not polled any more

    def current(self, begin: Begin[Observed]) -> Observed | None:
        """The row's content; None if `observed` has replaced a read. Raises what a read raises."""
        now = self._clock()
        if self._sent is None and now - self._observed_at >= POLL_SECONDS - min(self._took, POLL_SECONDS / 2):
            self._send(begin)
            now = self._clock()  # read once after it: between two readings an answer may become too old
        if self._sent is not None and now - self._observed_at >= POLL_SECONDS:
            self._receive()
        if now - self._observed_at >= POLL_SECONDS:
            self._send(begin)
            self._receive()
        return self._observed

    def observed(self, at: float) -> None:
        """Record that another request, sent at this moment, has shown the row's content."""
        self.reset()
        self._observed_at = at

    def reset(self) -> None:
        """Poll another row from now on, which is not observed yet."""
        if self._sent is not None:
            self._abandoned, self._sent = self._sent[1], None
        self._observed, self._observed_at = None, float("-inf")

    def _send(self, begin: Begin[Observed]) -> None:
        if self._abandoned is not None:
            with suppress(ServiceError):
                self._abandoned()  # frees its connection
            self._abandoned = None
        now = self._clock()  # before the request: its result is at least this recent
        self._sent = now, begin()

    def _receive(self) -> None:
        """Take the answer to what was sent."""
        assert self._sent is not None
        (sent_at, answer), self._sent = self._sent, None
        asked_at = self._clock()
        self._observed, self._observed_at = answer(), sent_at
        awaited_at = self._clock()
        waited = awaited_at - asked_at > _AT_ONCE
        self._took = awaited_at - sent_at if waited else self._took * _FORGETTING


MAX_ERRORS = "max-errors"
_AT_PAGE_END = (MAX_ERRORS, MAX_USD)
_WITH_REASON = (ABORT, ERROR)


class WorkerContext:
    """The state that the stages of one attempt of a run share in this process.

    `stopped`: no further page is read. `interrupted`: in addition, pages in progress are left as they are, and none is
    begun, since it could be the next one after a page that was left.
    """

    def __init__(self) -> None:
        self.stopped = self.interrupted = False
        self.rate_limiter: WorkerRateLimiter | None = None
        self.making = threading.Lock()  # of the rate limiter
        self.remembered: dict[str, RecentKeys] = {}  # of a dry run, by phase
        self._ended = False
        self._working = 0  # split groups
        self._changed = threading.Condition()

    @property
    def ended(self) -> bool:
        """Whether `end` was called; read while `working`: the rest of the work is then left."""
        with self._changed:
            return self._ended

    @contextmanager
    def working(self) -> Iterator[None]:
        """Marks that a split group is being processed, for which `end` waits."""
        with self._changed:
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Stop the split groups of this process after their present pages, and wait until they have ended."""
        self.stopped = True
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._working)


# The only state of the process: Beam makes the stages' objects, on workers from pickles, and gives them nothing to
# share. Keyed by run and attempt.
_contexts: dict[tuple[str, int], WorkerContext] = {}


def context_of(job: Job) -> WorkerContext:
    """The context of a job's run in this process."""
    return _contexts.setdefault((job.base_run, job.attempt), WorkerContext())


def drop_other_rate_limiters(context: WorkerContext) -> None:
    """Drop the rate limiters of other runs, which have ended."""
    for other in list(_contexts.values()):
        if other is not context:
            other.rate_limiter = None


def forget_others(jobs: Sequence[Job]) -> None:
    """Forget the insertions of all dry runs except that of these phases."""
    kept = {(job.base_run, job.attempt) for job in jobs}
    for key, context in list(_contexts.items()):
        if key not in kept:
            context.remembered = {}


class Interrupted(Exception):
    """The run was stopped while a page was in progress, and the page is left between two requests. The journal has its
    written part, and the next attempt recovers it like a page of a process that died."""


def stop(leases: LeaseRows, job: Job, why: str, error: dict[str, Any] | None = None) -> None:
    """Ask all workers of a run to stop: those of this process at once, the others at their next poll. An attempt that
    has been taken over stops only itself.

    Nothing is written if the lease already has this stop: a thousand workers may stop for the same reason in the same
    second. An error or an operator's command in the lease is not replaced by a stop without an error.
    """
    context = context_of(job)
    context.stopped = True
    if why not in _AT_PAGE_END:
        context.interrupted = True

    def stopped(lease: Lease) -> Item:
        if _is_stopped(lease, why, error):
            return {}
        return {"stop": why, **({"error": error} if error is not None else {})}

    with suppress(Fenced):
        leases.change(job.lease, job.attempt, stopped)


def _is_stopped(lease: Lease, why: str, error: dict[str, Any] | None) -> bool:
    if error is None:
        return lease.stop in (why, *_WITH_REASON)
    return lease.stop == why and lease.error is not None


class Signal:
    """Polls a job's lease."""

    def __init__(
        self,
        leases: LeaseRows,
        job: Job,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._leases = leases
        self._job = job
        self._context = context_of(job)
        self._replica = random.randrange(job.shards)  # random, since containers have similar process ids
        self._poller: Poller[Lease] = Poller(clock)
        self._fences = [(table, token, Poller[Lease](clock)) for table, token in job.fences]
        self._sleep = sleep

    def stopping(self) -> bool:
        """Whether to stop; called between two pages. Waits while the run is paused. Raises Fenced."""
        while not self._is_stopped():
            lease = self._poll()
            if not (lease.paused or lease.pause_reason):
                return False
            self._sleep(POLL_SECONDS)
        return True

    def wait_or_stop(self) -> None:
        """Waits while the run is paused; called between two requests of a page. Raises Interrupted when the run is
        stopped, Fenced when it was taken over. Too many dead letters, or a limit of the cost, stop a run only after the
        pages in progress."""
        while True:
            lease = self._poll()
            if lease.stop not in ("", *_AT_PAGE_END):
                self._context.stopped = self._context.interrupted = True
            if self._context.interrupted:
                raise Interrupted
            if not (lease.paused or lease.pause_reason) or self._is_stopped():
                return
            self._sleep(POLL_SECONDS)

    def check_owner(self) -> None:
        """Raises Fenced when the run was taken over; called before every request that writes, so that a worker that was
        suspended writes nothing after it resumes."""
        self._poll()

    def _is_stopped(self) -> bool:
        return bool(self._poll().stop) or self._context.stopped

    def _poll(self) -> Lease:
        for table, token, poller in self._fences:
            other = poller.current(partial(self._leases.begin_read, table, self._replica))
            if other is not None and other.token != token:
                raise _fenced(self._job, table)
        lease = self._poller.current(partial(self._leases.begin_read, self._job.lease, self._replica))
        assert lease is not None
        if lease.token != self._job.attempt:
            raise _fenced(self._job)
        return lease


class SharedSignal:
    """A signal for several threads, of which one polls at a time."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._lock = threading.Lock()

    def wait_or_stop(self) -> None:
        """As `Signal.wait_or_stop`."""
        with self._lock:
            self._signal.wait_or_stop()


@contextmanager
def report_errors(leases: LeaseRows, job: Job) -> Iterator[None]:
    """Records an error that ends a worker in the lease, which keeps its type: a Beam runner passes on its text only.
    Stops the other workers, too. A fenced attempt reports nothing."""
    try:
        yield
    except Fenced:
        if _is_lost(leases, job):
            context_of(job).stopped = True
        raise
    except DynamodtError as error:
        described = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint.parts}
        stop(leases, job, ERROR, described)
        raise


def _is_lost(leases: LeaseRows, job: Job) -> bool:
    """Whether the run was taken over; False if only a split was taken over, by another worker of the same run."""
    try:
        return lost_lease_error(leases, job) is not None
    except ServiceError:
        return True


def lost_lease_error(leases: LeaseRows, job: Job) -> Fenced | None:
    """The error of a run that has lost one of its leases, or None."""
    for table, token in ((job.lease, job.attempt), *job.fences):
        if leases.read(table).token != token:
            return _fenced(job, table)
    return None


def _fenced(job: Job, lease: str = "") -> Fenced:
    table = job.table.name if lease in ("", job.lease) else lease
    return Fenced(
        f"another process has taken over the lease on table {table}, or `unlock` has broken it"
        if table != job.table.name
        else "another process has taken over the run, or `unlock` has broken its lease",
        where=f"run {job.base_run}",
        hint="this process has stopped; to see which one holds the run now: " + suggest("runs", table=table),
    )


def reported_error(lease: Lease, job: Job) -> DynamodtError | None:
    """The error that `report_errors` has left, or None."""
    if lease.token != job.attempt:
        return _fenced(job)
    if lease.error is None:
        return None
    kind = getattr(errors, lease.error["kind"], RunFailed)
    hint = Hint(*(part if isinstance(part, str) else tuple(part) for part in lease.error["hint"]))
    found: DynamodtError = kind(lease.error["what"], where=lease.error["where"], hint=hint)
    return found
