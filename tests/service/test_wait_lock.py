"""`--wait-lock`, with two deploys at once: the second waits for the first, and then has nothing left to do."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import programs
from tests.emulators import Endpoint
from tests.service.bench import Tables
from tests.service.conftest import MakeTable
from tests.service.held_run import ITEMS, hold, wait_until_changed
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.endpoints("ministack")  # of the two, test_two_runs.py asks which of two runs may write


def start(endpoint: Endpoint, folder: Path, table: str, *words: str) -> subprocess.Popen[str]:
    """`dynamodt up` in a process group of its own, as a shell starts it."""
    url, group = {"AWS_ENDPOINT_URL": endpoint.url}, {"start_new_session": True}
    return programs.start("dynamodt", "up", "--table", table, *words, folder=folder, env=url, **group)


def first_line(process: subprocess.Popen[str], beginning: str) -> str:
    """The first line on stderr that begins so; fails when the process ends without one."""
    assert process.stderr is not None
    for line in process.stderr:
        if beginning in line:  # after the time
            return line
    raise AssertionError(f"it ended with {process.wait()}, and nothing said {beginning!r}")


def test_a_second_deploy_waits_for_the_first_and_ctrl_c_ends_a_third(
    endpoint: Endpoint, make_table: MakeTable, tmp_path: Path
) -> None:
    table, tables = make_table(id="N"), Tables(endpoint.client)
    go_on = hold(endpoint, tmp_path, table)
    first = start(endpoint, tmp_path, table)
    wait_until_changed(endpoint, table)
    second, third = (start(endpoint, tmp_path, table, "--wait-lock", "2m") for _ in range(2))
    for waiting in (second, third):
        assert f"(process {first.pid}, run" in first_line(waiting, "waited 0 s of 2m for table")
    os.killpg(third.pid, signal.SIGINT)
    _, said = third.communicate(timeout=HANG_SECONDS)
    assert third.returncode == 130 and "stopped by Ctrl-C" in said, said
    go_on.touch()
    _, said = first.communicate(timeout=HANG_SECONDS)
    assert first.returncode == 0, said
    done, said = second.communicate(timeout=HANG_SECONDS)
    assert second.returncode == 0, said
    assert f"table {table} is free, after" in said and "Nothing to do" in done, done + said
    assert [item["n"] for item in tables.items(table)] == [1] * ITEMS
