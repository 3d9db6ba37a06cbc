"""Whether the holder of a lease lives: what one process has seen of it, by that process's own clock (ADR 026).

Two machines' clocks are never compared. A holder writes the row every few seconds; whoever watches remembers what it
shows, and for how long it has shown it. A single look cannot tell: only of a process of this very system is more known.

Which process a pid means. A pid alone does not say: after a while, or a reboot, it is given to another one.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
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


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this host: its pid, and when it was started in the system's own words (opaque, only compared)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The running process that has this pid now; None when there is none, or only its zombie."""
        started = _start_time(pid)
        return cls(pid, started) if started else None

    @property
    def is_of_this_system(self) -> bool:
        """Whether its pid is one of this system's, since its last start; where systems have no names, any is."""
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
        """Whether it has ended, at the latest after so many seconds."""
        deadline = time.monotonic() + seconds
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _send(self, number: signal.Signals) -> None:
        """Only to this very process, never to one that has its pid by now."""
        if self.alive:
            with suppress(ProcessLookupError):  # it ended between the question and the signal
                os.kill(self.pid, number)


def _start_time(pid: int) -> str:
    return _from_proc(pid) if _PROC.joinpath("self", "stat").exists() else _from_ps(pid)


def _from_proc(pid: int) -> str:
    """Clock ticks since boot, and of which system. Fields count from the last bracket: a name may hold anything."""
    try:
        fields = (
            _PROC.joinpath(str(pid), "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        system = _system()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else f"{system}:{fields[19]}"


@cache
def _system() -> str:
    """Which boot of the machine, and which of its containers: pids are told apart within one only. Empty: no /proc."""
    try:
        boot = _PROC.joinpath("sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{os.readlink(_PROC / 'self/ns/pid')}"
    except OSError:
        return ""


def _from_ps(pid: int) -> str:
    """For systems without /proc, macOS above all."""
    answer = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else started.strip()


BEAT_SECONDS = 5.0
SILENT_SECONDS = 2.5 * BEAT_SECONDS  # without a sign of life for so long, a holder is probably gone
_kept: set[tuple[str, int]] = set()  # tables and tokens of the leases that this process holds


class Life(Enum):
    """What is known of a lease's holder."""

    NONE = "there is none, or its process on this host has ended"
    SEEN = "it has given a sign of life"
    UNKNOWN = "it was not watched for long enough"
    OVER = "it has given no sign of life for the lease's whole duration"

    @property
    def is_over(self) -> bool:
        """Whether nobody holds the lease any more."""
        return self in (Life.NONE, Life.OVER)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a lease showed, since when (by the watching process's clock), and whether it had shown another before."""

    shown: tuple[object, ...]
    since: float
    moved: bool


class Watch:
    """Looks at leases again and again, by a clock of its own. `clock` only ever grows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sights: dict[tuple[str, str], _Sight] = {}
        self._silent: dict[tuple[str, str], float] = {}

    def look(self, leases: LeaseRows, table: str) -> tuple[Lease, Life]:
        """The lease as it is now, and what is known of its holder."""
        asked = self._clock()  # before it is read: what it shows was so then at the earliest
        lease = leases.read(table)
        return lease, self._judged(leases.name, lease, asked)

    def left(self, leases: LeaseRows, lease: Lease) -> float:
        """The seconds after which the lease is over, if its holder stays silent; by the last look."""
        return max(0.0, lease.ttl - self._silent.get((leases.name, lease.table), 0.0))

    def _judged(self, name: str, lease: Lease, asked: float) -> Life:
        if not lease.run or is_gone(lease):
            return Life.NONE
        if is_ours(lease):
            return Life.SEEN
        key, shown = (name, lease.table), _shown(lease)
        before = self._sights.get(key)
        if before is None or before.shown != shown:
            moved = before is not None and before.shown[0] == shown[0]
            before = self._sights[key] = _Sight(shown, self._clock(), moved)
        here = _seconds_here(lease)
        silent = self._silent[key] = max(asked - before.since, here or 0.0)
        if silent >= lease.ttl:
            return Life.OVER
        known = before.moved or here is not None
        return Life.SEEN if known and silent < SILENT_SECONDS else Life.UNKNOWN


def _shown(lease: Lease) -> tuple[object, ...]:
    return lease.token, lease.run, lease.beats, lease.beat, lease.host, lease.pid


def _seconds_here(lease: Lease) -> float | None:
    """The seconds since a process of this very system has given a sign of life, by the clock that it shares with us;
    None for any other."""
    if not (lease.ticks and is_here(lease)):
        return None
    seconds = time.monotonic() - lease.ticks
    return seconds if seconds >= 0.0 else None


def holder(lease: Lease) -> str:
    """Who holds a lease, as a person is told."""
    run = f"run {lease.run} of table {lease.owner}" if lease.owner else f"run {lease.run}"
    return f"{lease.user}@{lease.host} (process {lease.pid}, {run}, since {lease.since})"


def is_here(lease: Lease) -> bool:
    """Whether the holder is a process of this very system; one that only has its name is not, as cloned machines and
    containers may."""
    return lease.host == socket.gethostname() and Process(lease.pid, lease.started).is_of_this_system


def is_ours(lease: Lease) -> bool:
    """Whether this very process holds the lease."""
    process = Process(lease.pid, lease.started)
    return is_here(lease) and process == Process.of(os.getpid()) and (lease.table, lease.token) in _kept


def is_gone(lease: Lease) -> bool:
    """Whether the holder was a process of this very host that has ended; of another host nobody here can tell. This
    process itself no longer holds what it could not let go when the state table was out of reach."""
    if not is_here(lease):
        return False
    process = Process(lease.pid, lease.started)
    if process == Process.of(os.getpid()):
        return (lease.table, lease.token) not in _kept
    return not process.alive


def is_alive(lease: Lease) -> bool:
    """Whether a run may be at work under the lease, by a single look: a holder elsewhere that has died is still taken
    for alive. `Watch` tells, in time."""
    here = _seconds_here(lease)
    return bool(lease.run) and not is_gone(lease) and (here is None or is_ours(lease) or here < lease.ttl)


def observed_life(
    leases: LeaseRows,
    table: str,
    sleep: Callable[[float], None] = time.sleep,
    watch: Watch | None = None,
) -> tuple[Lease, Life]:
    """Look until it is known whether the holder lives: for about one beat where it does, for the lease's whole duration
    where it does not."""
    watch = watch or Watch()
    while True:
        lease, life = watch.look(leases, table)
        if life is not Life.UNKNOWN:
            return lease, life
        sleep(min(1.0, watch.left(leases, lease)))
