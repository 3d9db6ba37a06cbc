"""One run per table: taking the table's lease, keeping it, and letting it go (guarantee G4)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from getpass import getuser

from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.control.process import Process
from dynamodt.errors import Busy, Fenced, ServiceError
from dynamodt.model import Lease

BEAT_SECONDS = 5.0
TTL_SECONDS = 30.0
_kept: set[tuple[str, int]] = set()  # tables and tokens of the leases that this process holds
_SILENT_SECONDS = 2.5 * BEAT_SECONDS  # without a sign of life for so long, a holder is probably gone
_FRESH_SECONDS = TTL_SECONDS - _SILENT_SECONDS  # a lease that holds longer than that has a holder who is alive


@contextmanager
def held(leases: LeaseRows, table: str, run: str, note: Callable[[str], None], boards: int = 1) -> Iterator[Lease]:
    """Holds a table's lease, giving a sign of life every five seconds, and lets it go at the end.

    Raises Busy when somebody else holds it and is alive. A holder on this host whose process is gone is taken over
    at once; another silent one when its lease has expired, with a countdown.
    """
    lease = acquire(leases, table, run, note, boards=boards)
    keeper = _Keeper(leases, lease)
    _kept.add((table, lease.token))
    try:
        yield lease
    finally:
        keeper.stop()
        _kept.discard((table, lease.token))
        with suppress(Fenced, ServiceError):
            leases.release(table, lease.token)


def acquire(
    leases: LeaseRows,
    table: str,
    run: str,
    note: Callable[[str], None],
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    boards: int = 1,
) -> Lease:
    """Take the lease, or raise Busy; see `held`. Its workers are told on so many boards."""
    waited: Lease | None = None
    while True:
        seen = leases.read(table)
        left = _seconds_left(seen, clock())
        if left <= 0:
            mine = new_lease(table, seen.token + 1, run, clock(), boards)
            if leases.take(mine, over=seen):
                _tell_take_over(seen, note)
                return mine
        elif left > _FRESH_SECONDS or _has_moved(waited, seen):
            raise at_work(seen)
        else:
            waited = seen
            note(f"{holder(seen)} gives no sign of life; its lease on {table} ends in {left:.0f} s")
            sleep(min(1.0, left))


def _has_moved(before: Lease | None, seen: Lease) -> bool:
    """Whether a holder has given a sign of life meanwhile, whatever his clock says."""
    return before is not None and before.token == seen.token and before.beat != seen.beat


def check_free(leases: LeaseRows, table: str) -> None:
    """Raises Refused when somebody holds the table and is alive: whoever is going to take it would be refused."""
    seen = leases.read(table)
    if _seconds_left(seen, time.time()) > _FRESH_SECONDS:
        raise at_work(seen)


def _seconds_left(lease: Lease, now: float) -> float:
    """How long the lease still holds: not at all when nobody has it, or its process on this very host is gone."""
    if not lease.run or is_gone(lease):
        return 0.0
    return lease.beat + lease.ttl - now


def is_alive(lease: Lease, now: float) -> bool:
    """Whether a run is at work under the lease, as far as anybody can tell."""
    return _seconds_left(lease, now) > 0


def is_gone(lease: Lease) -> bool:
    """Whether the holder was a process of this very host that has ended; of another host nobody here can tell, nor of
    one that only has its name, as cloned machines and containers may. This process itself no longer holds what it could
    not let go when the state table was out of reach."""
    process = Process(lease.pid, lease.started)
    if lease.host != socket.gethostname() or not process.is_of_this_system:
        return False
    if process == Process.of(os.getpid()):
        return (lease.table, lease.token) not in _kept
    return not process.alive


def new_lease(table: str, token: int, run: str, now: float, boards: int = 1) -> Lease:
    """A lease that this process would hold."""
    process = Process.of(os.getpid())
    return Lease(
        table=table,
        token=token,
        run=run,
        user=_user(),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=process.started if process else "",
        since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        beat=now,
        ttl=TTL_SECONDS,
        boards=boards,
    )


def _user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def holder(lease: Lease) -> str:
    """Who holds a lease, as a person is told."""
    return f"{lease.user}@{lease.host} (process {lease.pid}, run {lease.run}, since {lease.since})"


def at_work(seen: Lease, after: str = "") -> Busy:
    """The refusal to touch a table that another run holds, after what was tried."""
    return Busy(
        f"{after}another run is at work: {holder(seen)}",
        where=f"table {seen.table}",
        hint=f"wait for it (up, down, undo and retry do with --wait-lock 10m), stop it (dynamodt abort --table "
        f"{seen.table}), or, if it is surely dead, dynamodt unlock --table {seen.table}",
    )


def _tell_take_over(seen: Lease, note: Callable[[str], None]) -> None:
    if seen.run:
        note(f"took the lease on {seen.table} over from {holder(seen)}, which is gone")


class _Keeper(threading.Thread):
    """Gives the sign of life. When the lease is lost it falls silent: the workers see that by themselves."""

    def __init__(self, leases: LeaseRows, lease: Lease) -> None:
        super().__init__(name=f"lease-{lease.table}", daemon=True)
        self._leases = leases
        self._lease = lease
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._leases.beat(self._lease.table, self._lease.token, time.time())
            except Fenced:
                return
            except ServiceError:
                continue  # out of reach for now: the lease runs on for thirty seconds

    def stop(self) -> None:
        """Fall silent; returns when nothing is under way."""
        self._ended.set()
        self.join()
