"""A migration that is not idempotent, killed again and again, while writers write all the time (guarantee G3).

A CI run tries a few kills; `make test-chaos` (DYNAMODT_KILLS=48) tries many more.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dynamodt.errors import RunFailed
from dynamodt.model.pages import Counts
from dynamodt.pipeline import engine
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.migrate_once import MOMENTS
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.kills import COUNTS, KILLS, SEEDS, Writer, attempt, check, fill

SCRIPT = """
sequence = 1


def prepare(context):
    for number in range(200):
        yield number, 1


def transform_up(item, prepared):
    return {**item, "n": item["n"] + prepared[7]}
"""
SOON = 12 if KILLS < 20 else 4  # where it is killed often, each attempt must leave something to do
AT_THE_END = ("history", 2)  # when everything is written, and before it is recorded


@dynamodb_local_in_chaos
@pytest.mark.scaled
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_moment_moves_every_item_exactly_once(
    endpoint: Endpoint, make_table: MakeTable, tmp_path: Path, seed: int
) -> None:
    table = make_table(id="N")
    fill(endpoint, tmp_path, table, SCRIPT)
    dice = random.Random(seed)
    moments = [moment for moment in MOMENTS if moment != "prepared"]
    dice.shuffle(moments)
    writers = [Writer(endpoint, table, part) for part in (0, 1)]
    for writer in writers:
        writer.start()
    try:
        assert attempt(endpoint, tmp_path, table, "prepare", "prepared", 100).returncode == -9
        refused = attempt(endpoint, tmp_path, table, "1", "never", 0)
        assert refused.returncode == 3, refused.stderr  # an incomplete preparation does not count
        assert attempt(endpoint, tmp_path, table, "prepare", "never", 0).returncode == 0
        killed = kill_on(endpoint, tmp_path, table, dice, moments)
        last = attempt(endpoint, tmp_path, table, "1", "never", 0)
    finally:
        for writer in writers:
            writer.ended.set()
            writer.join()
    assert last.returncode == 0, last.stderr
    print(f"killed {killed} times")
    assert killed >= min(KILLS, 40) - 1, "it was hardly ever killed: this has shown nothing"
    check(endpoint, table, writers)


def kill_on(endpoint: Endpoint, folder: Path, table: str, dice: random.Random, moments: list[str]) -> int:
    """Start it again and again, each time to be killed; returns how often it was."""
    deaths = [(moments[number % len(moments)], dice.randint(1, SOON)) for number in range(KILLS - 1)]
    for number, (moment, count) in enumerate([*deaths, AT_THE_END]):
        known = COUNTS.get(moment, count) if number < KILLS - 1 else count
        ended = attempt(endpoint, folder, table, "1", moment, known)
        if ended.returncode == 0:
            return number
        assert ended.returncode == -9, (moment, ended.stderr)
    return KILLS


PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
KILLED_ONCE = """
import os, signal

def transform_up(item):
    if item["id"] == 7:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        if not os.path.exists({marker!r}):
            open({marker!r}, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return {{**item, "n": item["n"] + 1}}
"""


@pytest.mark.endpoints("ministack")
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")  # Beam's threads print no traceback
def test_a_killed_worker_process_ends_the_run_and_the_same_command_continues(
    bench: Bench, make_table: MakeTable, tmp_path: Path
) -> None:
    """Beam itself waits for the answer of a killed process for ever. The signals of a terminal end no worker."""
    table, script = make_table(id="N"), KILLED_ONCE.format(marker=str(tmp_path / "killed"))
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(100)))
    report = bench.failed(table, script, beam_args=PROCESSES)
    assert isinstance(report.error, RunFailed) and report.error.what == "a worker process was killed by signal 9"
    (again,) = bench.up(table, beam_args=PROCESSES)
    assert again.error is None and again.versions[0].counts == Counts(read=100, changed=100)
    assert {item["n"] for item in bench.tables.items(table)} == {1}


@pytest.mark.endpoints("ministack")
def test_a_worker_process_that_ends_before_it_connects_fails_the_run(
    bench: Bench, make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two ends, and the other one connects later."""
    monkeypatch.setattr(engine, "_COMMAND", f"mkdir {tmp_path / 'first'} 2>/dev/null && exit 3; exec ".encode())
    report = bench.failed(make_table(id="N"), "def transform_up(item):\n    return item\n", beam_args=PROCESSES)
    assert isinstance(report.error, RunFailed) and report.error.what == "a worker process ended with exit code 3"
