"""Takes, keeps and releases the leases of a run's tables, so that at most one run works on a table (guarantee G4, ADR
026).

A lease lasts 30 seconds from the last heartbeat that an observer has read, by the observer's own monotonic clock; the
holder sends a heartbeat every 5 seconds. Each holder gets a higher token. Late writes of a former holder to the state
table are conditional on its own token, and are refused.

With `--wait-lock`, a command waits for a table that another run holds, and then takes the lease.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dynamodt.errors import Busy, Fenced, Refused, ServiceError, suggest
from dynamodt.model.runs import ERROR, UNLOCKED, Fence, Lease
from dynamodt.pipeline.signals import POLL_SECONDS
from dynamodt.runs import liveness
from dynamodt.runs.liveness import BEAT_SECONDS, SILENT_SECONDS, LeaseWatch, Life, Process, holder, is_alive
from dynamodt.runs.provenance import user
from dynamodt.script.names import seconds

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.state.lease_rows import LeaseRows

TTL_SECONDS = 30.0
_watch = LeaseWatch()  # of this process, so that a table for which a command has waited need not be observed again


class Held(NamedTuple):
    """The leases of a run: that of its own table, and the tokens of the other tables to which it writes."""

    lease: Lease
    fences: tuple[Fence, ...]


@contextmanager
def hold_leases(
    leases: LeaseRows, table: str, others: Sequence[str], run: str, notify: Callable[[str], None], goal: str = ""
) -> Iterator[Held]:
    """Holds a run's own table and the others to which it writes, each as `hold_lease` does. All commands take tables in
    the order of their names, so that no two commands wait for each other. The tokens travel with each job: a worker
    stops when the run has lost one of the leases."""
    taken: dict[str, Lease] = {}
    with ExitStack() as stack:
        for name in sorted({table, *others}):
            owner = "" if name == table else table
            goal_here = goal if name == table else ""
            taken[name] = stack.enter_context(hold_lease(leases, name, run, notify, owner, goal_here))
        own = taken.pop(table)
        yield Held(own, tuple((name, lease.token) for name, lease in taken.items()))


@contextmanager
def hold_lease(
    leases: LeaseRows, table: str, run: str, notify: Callable[[str], None], owner: str = "", goal: str = ""
) -> Iterator[Lease]:
    """Holds a table's lease with a heartbeat every five seconds, and releases it at the end. `owner` is the run's own
    table, if it is another one.

    Raises Busy while a live process holds it. The lease of a dead process of this host is taken over at once, that of
    another silent holder after the lease's duration, with a countdown.
    """
    lease = acquire(leases, table, run, notify, owner=owner, goal=goal)
    keeper = _Keeper(leases, lease)
    liveness._kept.add((table, lease.token))
    try:
        yield lease
    finally:
        keeper.stop()
        liveness._kept.discard((table, lease.token))
        with suppress(Fenced, ServiceError):
            leases.release(table, lease.token)


def acquire(
    leases: LeaseRows,
    table: str,
    run: str,
    notify: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    owner: str = "",
    goal: str = "",
) -> Lease:
    """Take the lease, or raise Busy; see `hold_lease`. `clock` is this process's monotonic clock.

    If a heartbeat is observed, the holder is alive and the command is refused. A lease that is over (it is free, its
    process on this host has ended, or 30 seconds were observed without a heartbeat) is taken by a write that is
    conditional on the row as read, so that only one of two commands takes it. Raises ServiceError.

    After a holder that did not release the lease at the end of its workers, returns half a second later: by then each
    former worker has read the new token before its next write, and every write that it has sent has its intent. A
    command that decides by the rows of that run (a new run, `undo`, `stamp`) sees them all.
    """
    watch = watch_of(clock)
    while True:
        seen, known = watch.poll(leases, table)
        if known is Life.SEEN:
            raise busy_refusal(seen)
        if known.is_over:
            mine = new_lease(table, seen.token + 1, run, time.time())._replace(owner=owner, goal=goal)
            if leases.take(mine, over=seen):
                if seen.run or seen.stop in (UNLOCKED, ERROR):  # its workers may not have noticed yet
                    sleep(POLL_SECONDS)
                if seen.run:
                    notify(f"took over the lease on {seen.table} from {holder(seen)}, whose process is gone")
                return mine
        else:
            left = watch.seconds_left(leases, seen)
            notify(f"no heartbeat yet from {holder(seen)}: its lease on {table} ends in {left:.0f} s")
            sleep(min(1.0, left))


def watch_of(clock: Callable[[], float]) -> LeaseWatch:
    """The observations by a clock; for this process's own clock, they are shared."""
    return _watch if clock is time.monotonic else LeaseWatch(clock)


def check_not_leased(leases: LeaseRows, table: str) -> None:
    """Raises Busy if a live process holds the table, since a later run would be refused. A holder on another host is
    observed for two heartbeats."""
    while True:
        seen, known = _watch.poll(leases, table)
        if known is Life.SEEN:
            raise busy_refusal(seen)
        if known.is_over or seen.ttl - _watch.seconds_left(leases, seen) >= SILENT_SECONDS:
            return
        time.sleep(1.0)


def new_lease(table: str, token: int, run: str, now: float, lease_replicas: int = 1) -> Lease:
    """A lease for this process. `now` (seconds since 1970) is for display only."""
    process = Process.of(os.getpid())
    return Lease(
        table=table,
        token=token,
        run=run,
        user=user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=process.started if process else "",
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        beat=now,
        ttl=TTL_SECONDS,
        lease_replicas=lease_replicas,
        ticks=time.monotonic(),
    )


def take_rehearsal_lease(leases: LeaseRows, run: str, lease_replicas: int = 1) -> int:
    """Take a dry run's own lease, which excludes no other run; returns its token."""
    mine = new_lease(f"dry-run/{run}", 1, run, time.time(), lease_replicas)
    leases.take(mine, over=Lease(mine.table, 0))
    return mine.token


def busy_refusal(seen: Lease, after: str = "") -> Busy:
    """The refusal of a table that another run holds; `after` is what was tried, at the beginning of the message."""
    return Busy(
        f"{after}another run is in progress: {holder(seen)}",
        where=f"table {seen.table}",
        hint="wait for it (up, down, undo and retry do with --wait-lock 10m), or stop it: "
        + suggest("abort", table=seen.owner or seen.table)
        + "; if its process is certainly dead: "
        + suggest("unlock", table=seen.table),
        table=seen.table,
        goal="" if seen.owner else seen.goal,
    )


class _Keeper(threading.Thread):
    """Sends the heartbeats. It stops when the lease is lost; the workers detect this by themselves."""

    def __init__(self, leases: LeaseRows, lease: Lease) -> None:
        super().__init__(name=f"lease-{lease.table}", daemon=True)
        self._leases = leases
        self._lease = lease
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._leases.beat(self._lease.table, self._lease.token, time.time(), time.monotonic())
            except Fenced:
                return
            except ServiceError:
                continue  # unreachable for now: the lease lasts thirty seconds

    def stop(self) -> None:
        """Stop; returns when no request is in flight."""
        self._ended.set()
        self.join()


Done = TypeVar("Done")
_NOTE_SECONDS = 30.0
_LOOK_SECONDS = 1.0


@dataclass
class Clock:
    """This process's monotonic clock, and how it sleeps."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def attempt_in_turn(project: Project, table: str, attempt: Callable[[], Done], clock: Clock = Clock()) -> Done:
    """Calls `attempt`, which plans and takes the lease, and returns its result. With `wait_lock` it is called when no
    run is active on the table, and again if another command was faster.

    Raises Busy after `wait_lock`, and any error of the attempt. A dry run neither takes a lease nor waits for one.
    """
    written = project.options.wait_lock
    patience = seconds("--wait-lock", written)
    if not patience or project.options.dry_run:
        return attempt()
    turn = _Turn(project.state.leases, table, written, patience, project.observer.notify, clock)
    while True:
        turn.wait()
        try:
            return attempt()
        except Refused as refused:
            if turn.is_final(refused):
                raise
        turn.pause()


def wait_until_free(project: Project, tables: Sequence[str]) -> None:
    """With `wait_lock`, wait until no run is active on these tables. Raises Busy on timeout."""
    for table in tables:
        attempt_in_turn(project, table, lambda: None)


def is_held(leases: LeaseRows, table: str) -> bool:
    """Whether a run may be active on the table."""
    return is_alive(leases.read(table))


@dataclass
class _Turn:
    """One command that waits for one table. It polls every one or two seconds, at random."""

    leases: LeaseRows
    table: str
    written: str
    patience: float
    notify: Callable[[str], None]
    clock: Clock
    began: float = field(init=False)
    watch: LeaseWatch = field(init=False)
    tables: list[str] = field(init=False)  # to wait for; a table to which the run writes is added when it refuses it
    notified: tuple[str, float] = ("", 0.0)  # the run that was reported last, and when

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        self.watch = watch_of(self.clock.now)
        self.tables = [self.table]

    @property
    def waited(self) -> float:
        return self.clock.now() - self.began

    def wait(self) -> None:
        """Wait until no run is active on the tables. Raises Busy after `patience` seconds."""
        while (seen := self._holder()) is not None:
            if self.waited >= self.patience:
                raise busy_refusal(seen, f"timed out after {self.written}: ")
            self._report(seen)
            self.pause()
        if self.notified[0]:
            self.notify(f"table {self.table} is free, after {self.waited:.0f} s")
            self.notified = ("", 0.0)

    def is_final(self, refused: Refused) -> bool:
        """Whether a refusal is final. A refusal may be due to an active run: Busy names the table to wait for; any
        other refusal is final once no run is active that could be its cause."""
        if self.waited >= self.patience:
            return True
        if isinstance(refused, Busy):
            self.tables += [refused.table] if refused.table not in ("", *self.tables) else []
            return False
        return self._holder() is None

    def _holder(self) -> Lease | None:
        """The first lease that is held, or may be."""
        for table in self.tables:
            lease, liveness = self.watch.poll(self.leases, table)
            if not liveness.is_over:
                return lease
        return None

    def pause(self) -> None:
        self.clock.sleep(_LOOK_SECONDS * random.uniform(1, 2))

    def _report(self, seen: Lease) -> None:
        """Report the holder when it changes, and every half minute."""
        run, when = self.notified
        if run == seen.run and self.clock.now() - when < _NOTE_SECONDS:
            return
        self.notified = seen.run, self.clock.now()
        self.notify(f"waited {self.waited:.0f} s of {self.written} for table {seen.table}: {holder(seen)} is active")
