"""Determines whether the holder of a lease is alive, by the observing process's own clock (ADR 026).

Clocks of two machines are never compared. A holder writes its row every few seconds; an observer keeps the row's
content and the time for which it has not changed. One poll is conclusive only for a process of this system, which is
identified by its pid and its start time, since pids are reused.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from dynamodt.model.runs import Lease

if TYPE_CHECKING:
    from dynamodt.state.lease_rows import LeaseRows

_PROC = Path("/proc")
_POLL_SECONDS = 0.05


def polls(seconds: float, every: float = _POLL_SECONDS) -> Iterator[None]:
    """Yields at once, then every twentieth of a second (or `every` seconds), and a last time after `seconds`."""
    deadline = time.monotonic() + seconds
    yield
    while time.monotonic() <= deadline:
        time.sleep(every)
        yield


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this host: its pid, and its start time in the system's format (opaque, only compared)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The running process with this pid; None if there is none, or if it is a zombie."""
        started = _start_time(pid)
        return cls(pid, started) if started else None

    @property
    def is_of_this_system(self) -> bool:
        """Whether its pid belongs to this system since its last boot; True if systems cannot be distinguished."""
        system = _system()
        return not system or self.started.startswith(f"{system}:")

    @property
    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def wait(self, seconds: float) -> bool:
        """Wait for its end, for `seconds` at most; returns whether it has ended."""
        return any(not self.alive for _ in polls(seconds))

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to this process, but not to a later one with the same pid."""
        if self.alive:
            with suppress(ProcessLookupError):  # it ended after the check
                os.kill(self.pid, number)


def _start_time(pid: int) -> str:
    return _from_proc(pid) if _PROC.joinpath("self", "stat").exists() else _from_ps(pid)


def _from_proc(pid: int) -> str:
    """The start time in clock ticks since boot, with the system's id. Fields count from the last bracket, since a name
    may contain brackets."""
    try:
        stat = _PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
        system = _system()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{system}:{fields[19]}"


@cache
def _system() -> str:
    """The id of the machine's boot and of the container: pids are unique within one. Empty: no /proc."""
    try:
        boot = _PROC.joinpath("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _from_ps(pid: int) -> str:
    """The start time on systems without /proc, such as macOS."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


BEAT_SECONDS = 5.0
SILENT_SECONDS = 2.5 * BEAT_SECONDS  # without a heartbeat for this long, a holder is probably gone
_kept: set[tuple[str, int]] = set()  # tables and tokens of the leases that this process holds


class Life(Enum):
    """The knowledge about a lease's holder."""

    NONE = "there is none, or its process on this host has ended"
    SEEN = "it has sent a heartbeat"
    UNKNOWN = "it was not observed for long enough"
    OVER = "it has sent no heartbeat for the lease's whole duration"

    @property
    def is_over(self) -> bool:
        """Whether the lease is free to be taken."""
        return self in (Life.NONE, Life.OVER)


@dataclass(frozen=True, slots=True)
class _Observation:
    """The observed content of a lease, the time of its first observation (by the observer's clock), and whether it has
    changed before."""

    shown: tuple[object, ...]
    since: float
    moved: bool


class LeaseWatch:
    """Observes leases over time. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sights: dict[tuple[str, str], _Observation] = {}
        self._silent: dict[tuple[str, str], float] = {}

    def poll(self, leases: LeaseRows, table: str) -> tuple[Lease, Life]:
        """Read the lease; returns it, and the knowledge about its holder."""
        asked = self._clock()  # before the read, since the row may have changed after this time
        lease = leases.read(table)
        return lease, self._judged(leases.name, lease, asked)

    def seconds_left(self, leases: LeaseRows, lease: Lease) -> float:
        """The seconds until the lease is over, without a heartbeat; as of the last poll."""
        return max(0.0, lease.ttl - self._silent.get((leases.name, lease.table), 0.0))

    def _judged(self, name: str, lease: Lease, asked: float) -> Life:
        if not lease.run or has_ended_on_this_host(lease):
            return Life.NONE
        if is_ours(lease):
            return Life.SEEN
        key = name, lease.table
        shown = lease.token, lease.run, lease.beats, lease.beat, lease.host, lease.pid
        before = self._sights.get(key)
        if before is None or before.shown != shown:
            moved = before is not None and before.shown[0] == shown[0]
            before = self._sights[key] = _Observation(shown, self._clock(), moved)
        here = _seconds_here(lease)
        silent = self._silent[key] = max(asked - before.since, here or 0.0)
        if silent >= lease.ttl:
            return Life.OVER
        known = before.moved or here is not None
        return Life.SEEN if known and silent < SILENT_SECONDS else Life.UNKNOWN


def _seconds_here(lease: Lease) -> float | None:
    """The seconds since the last heartbeat, by the shared clock, if the holder is a process of this system; otherwise
    None."""
    if not (lease.ticks and is_here(lease)):
        return None
    seconds = time.monotonic() - lease.ticks
    return seconds if seconds >= 0.0 else None


def holder(lease: Lease) -> str:
    """The holder of a lease, in messages."""
    run = f"run {lease.run} of table {lease.owner}" if lease.owner else f"run {lease.run}"
    return f"{lease.user}@{lease.host} (process {lease.pid}, {run}, since {lease.since})"


def is_here(lease: Lease) -> bool:
    """Whether the holder is a process of this system. The host name alone is not enough: cloned machines and
    containers share it."""
    return lease.host == socket.gethostname() and Process(lease.pid, lease.started).is_of_this_system


def is_ours(lease: Lease) -> bool:
    """Whether this process holds the lease."""
    process = Process(lease.pid, lease.started)
    return is_here(lease) and process == Process.of(os.getpid()) and (lease.table, lease.token) in _kept


def has_ended_on_this_host(lease: Lease) -> bool:
    """Whether the holder was a process of this host that has ended; False for another host. The holder of a lease that
    this process could not release, since the state table was unreachable, counts as gone."""
    if not is_here(lease):
        return False
    process = Process(lease.pid, lease.started)
    if process == Process.of(os.getpid()):
        return (lease.table, lease.token) not in _kept
    return not process.alive


def is_alive(lease: Lease) -> bool:
    """Whether a run may be active under the lease, by one poll. A dead holder on another host counts as alive; only
    `LeaseWatch` detects it."""
    here = _seconds_here(lease)
    lasts = here is None or is_ours(lease) or here < lease.ttl
    return bool(lease.run) and not has_ended_on_this_host(lease) and lasts


def observed_life(
    leases: LeaseRows, table: str, sleep: Callable[[float], None] = time.sleep, watch: LeaseWatch | None = None
) -> tuple[Lease, Life]:
    """Observe the lease until it is known whether the holder is alive: for one heartbeat if it is, for the lease's
    duration if not."""
    watch = watch or LeaseWatch()
    while True:
        lease, life = watch.poll(leases, table)
        if life is not Life.UNKNOWN:
            return lease, life
        sleep(min(1.0, watch.seconds_left(leases, lease)))
