"""What is measured: programs, each a process of its own, and what it took of the machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from benchmarks.endpoints import Endpoint
from benchmarks.table import script

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")
PYTHON = sys.executable
BENCH_PYTHON = str(ROOT / ".venv/bench/bin/python")
DYNAMODT = "dynamodt"
COMMAND = str(Path(PYTHON).with_name(DYNAMODT))
TIMES = 5
_KEPT = ("PATH", "HOME", "LANG", "JAVA_HOME")


class Taken(NamedTuple):
    """What one process, and those it waited for, took: seconds by the clock, seconds of CPU, and its peak in bytes."""

    seconds: float
    cpu: float
    peak: int


def timed(command: Sequence[str], folder: Path, more: Mapping[str, str] = {}) -> Taken:
    """Runs a command to its end. Raises RuntimeError, with the end of its output, if it fails.

    `wait4` is what `getrusage(RUSAGE_CHILDREN)` adds up, for this one child.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(more)
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{text}")
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


@dataclass(frozen=True)
class Program:
    """A migration by one of the peers, or by dynamodt as its users type it."""

    label: str
    run: Callable[[Endpoint, str, int], Taken]  # endpoint, table, items changed of a hundred


def peer(label: str, file: str, python: str = PYTHON) -> Program:
    """One of `benchmarks/peers`."""

    def run(endpoint: Endpoint, table: str, share: int) -> Taken:
        return timed([python, str(PEERS / file), endpoint.url, table, str(share)], ROOT)

    return Program(label, run)


@dataclass(frozen=True)
class Project:
    """How dynamodt is run: the version's constants, the words after `up`, and where its storage is."""

    constants: str = ""
    words: tuple[str, ...] = ()
    storage: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def run(self, endpoint: Endpoint, table: str, share: int) -> Taken:
        """`dynamodt up` in a fresh folder, with a state table of its own."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.lay_out(folder, table, share)
            return self.again(endpoint, table, folder)

    def lay_out(self, folder: Path, table: str, share: int) -> None:
        (folder / "transforms" / table).mkdir(parents=True)
        (folder / "transforms" / table / "v1_split.py").write_text(script(share, self.constants))
        (folder / "dynamodt.toml").write_text(f'[stages.local]\nstate_table = "state-{uuid4().hex[:12]}"\n')

    def again(self, endpoint: Endpoint, table: str, folder: Path) -> Taken:
        more = {"AWS_ENDPOINT_URL": endpoint.url, **({"DYNAMODT_STORAGE": self.storage} if self.storage else {})}
        command = [COMMAND, "up", "--table", table, "--json", *self.words]
        return timed(command, folder, {**more, **self.more})


def dynamodt(label: str = DYNAMODT, **how: object) -> Program:
    """dynamodt, with the options of `Project`."""
    return Program(label, Project(**how).run)  # type: ignore[arg-type]


def in_turn(runs: Mapping[str, Callable[[], Taken]], times: int = TIMES) -> dict[str, list[Taken]]:
    """Each of the runs `times` times, A B C A B C, so that a disturbance of the machine affects all of them."""
    taken: dict[str, list[Taken]] = {label: [] for label in runs}
    for _ in range(times):
        for label, run in runs.items():
            taken[label].append(run())
    return taken


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
