"""Which process a pid means. A pid alone does not say: after a while, or a reboot, it is given to another one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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
