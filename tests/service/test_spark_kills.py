"""Executors, harnesses and drivers are killed at random moments, while writers write all the time (guarantee G3).

`make test-chaos` kills one of each for every twelve of KILLS. Spark itself replaces an executor or a harness; after the
death of a driver, the same command continues from the checkpoints.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from dynamodt.model.runs import Lease
from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint
from tests.service.conftest import MakeTable
from tests.service.kills import ITEMS, SEEDS, Writer, check, fill
from tests.waiting import HANG_SECONDS, until

KILLS = max(1, int(os.environ.get("DYNAMODT_KILLS", "4")) // 12)
SLOWLY = """
sequence = 1
import time

def transform_up(item):
    time.sleep(0.005)
    return {**item, "n": item["n"] + 1}
"""
VICTIMS = {"harness": "dynamodt.pipeline.worker --id", "executor": "CoarseGrainedExecutorBackend"}

pytestmark = [pytest.mark.chaos, pytest.mark.endpoints("ministack")]


class Attempt:
    """A run as a process of its own, and the processes under it."""

    def __init__(self, endpoint: Endpoint, folder: Path, table: str, master: str) -> None:
        words = (endpoint.url, folder, table, "1", "never", 0)
        self.log = folder / "attempt.log"
        with self.log.open("wb") as log:
            options = {"env": {"DYNAMODT_TEST_SPARK": master}, "stdout": log, "stderr": log}
            self.process = programs.start("tests.migrate_once", *words, folder=folder, **options)
        self.state = State(endpoint.connection, f"state-{table}")
        self.table = table

    def wait_until(self, changed: int) -> bool:
        """Waits until this number of items is changed; False if the run has ended before."""
        over = self.process.poll
        until(lambda: self._changed() >= changed or over() is not None, f"{changed} items are changed")
        return over() is None

    def _changed(self) -> int:
        lease = self._lease()
        return self.state.splits(lease.run).totals(64).counts.changed if lease.run else 0

    def _lease(self) -> Lease:
        try:
            return self.state.leases.read(self.table)
        except Exception:  # the state table is being made
            return Lease(self.table, 0)

    def kill(self, victim: str, dice: random.Random) -> bool:
        """Kill one of them, as when a machine is lost; whether there was one."""
        found = [self.process.pid] if victim == "driver" else below(self.process.pid, VICTIMS[victim])
        if found:
            os.kill(dice.choice(found), signal.SIGKILL)
        return bool(found)

    def ended(self) -> int:
        return self.process.wait(HANG_SECONDS)


def below(root: int, word: str) -> list[int]:
    """The child processes of one whose command contains the text, without shells."""
    listed = subprocess.run(["ps", "-axww", "-o", "pid,ppid,command"], capture_output=True, text=True, check=True)
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listed.stdout.splitlines()[1:]:
        pid, parent, command = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(pid), command))
    waiting, found = [root], []
    while waiting:
        for pid, command in children.get(waiting.pop(), []):
            waiting.append(pid)
            if word in command and not command.startswith("/bin/sh"):
                found.append(pid)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_with_killed_executors_harnesses_and_drivers_every_item_is_moved_exactly_once(
    endpoint: Endpoint, make_table: MakeTable, tmp_path: Path, spark_master: str, seed: int
) -> None:
    table = make_table(id="N")
    fill(endpoint, tmp_path, table, SLOWLY)
    dice = random.Random(seed)
    writers = [Writer(endpoint, table, part, pause=0.02) for part in (0, 1)]  # for it takes its time
    for writer in writers:
        writer.start()
    try:
        killed = kill_on(endpoint, tmp_path, table, spark_master, dice)
        last = Attempt(endpoint, tmp_path, table, spark_master)
        assert last.ended() == 0, last.log.read_text()
    finally:
        for writer in writers:
            writer.ended.set()
            writer.join()
    print("killed", killed)
    assert killed == [*["harness", "executor"] * KILLS, *["driver"] * KILLS]
    check(endpoint, table, writers)


def kill_on(endpoint: Endpoint, folder: Path, table: str, master: str, dice: random.Random) -> list[str]:
    """Kills harnesses and executors of each driver, which continues, and then the driver; returns what was killed."""
    killed: list[str] = []
    done = 0
    step = ITEMS // (3 * KILLS + 1) - 1
    drivers: list[str] = []
    for _ in range(KILLS):
        attempt = Attempt(endpoint, folder, table, master)
        for victim in ("harness", "executor", "driver"):
            done += dice.randint(step // 2, step)
            assert attempt.wait_until(done), attempt.log.read_text()
            if attempt.kill(victim, dice):
                (drivers if victim == "driver" else killed).append(victim)
        attempt.ended()
    return killed + drivers
