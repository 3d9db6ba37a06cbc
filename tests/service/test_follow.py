"""Runs followed by other processes, which share only the state table with the run."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint
from tests.service.bench import Tables
from tests.service.conftest import MakeTable
from tests.waiting import HANG_SECONDS, HOLD, until

pytestmark = pytest.mark.endpoints("ministack")  # only dynamodt's own rows are read, which other tests write on both

ITEMS = 600
QUICK = 'def transform_up(item):\n    return {**item, "more": True}\n'

# It continues once it is followed: on a busy machine the followers would come too late.
HELD = f"""{HOLD}
def transform_up(item):
    hold("followed")
    return {{**item, "n": item["n"] + 1}}
"""
HALF = f"""{HOLD}
from itertools import count

calls = count(1)

def transform_up(item):
    hold("followed")
    if next(calls) == {ITEMS * 3 // 4}:
        hold("seen")
    return {{**item, "n": item["n"] + 1}}
"""
FAILING = HELD.replace("    return", "    1 / (item['id'] - 7)\n    return")


@dataclass
class Elsewhere:
    """A folder on this machine, and the commands typed in it, each a process of its own."""

    folder: Path
    endpoint: Endpoint
    table: str
    state: State
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def script(self, number: int, text: str) -> None:
        path = self.folder / "transforms" / self.table / f"v{number}_change.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sequence = {number}\n{text}", encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = programs.start("dynamodt", *words, folder=self.folder, env={"AWS_ENDPOINT_URL": self.endpoint.url})
        self.started.append(process)
        return process

    def follow(self) -> subprocess.Popen[str]:
        """Starts a process that follows the run, and returns when it has found the run."""
        poller = self.start("status", "--follow", "--json")
        assert poller.stdout is not None
        assert json.loads(poller.stdout.readline())["status"] == "running"
        return poller

    def held_and_followed(self) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        """A run that waits for `go_on`, and a process that follows it."""
        self.script(1, HELD)
        up = self.start("up")
        self.active_run()
        return up, self.follow()

    def go_on(self) -> None:
        """Lets the run continue, which waits for its followers."""
        (self.folder / "followed").touch()

    def run(self, *words: str) -> str:
        out, err = self.start(*words).communicate(timeout=HANG_SECONDS)
        assert self.started[-1].returncode == 0, err
        return out

    def runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("runs", "--json"))["runs"]
        return found

    def active_run(self) -> dict[str, Any]:
        """The run, as soon as it is recorded. The state table is polled before the command, since each command is a
        process."""
        until(lambda: self.state.runs(self.table), "a run is recorded")
        (run,) = self.runs()
        assert run["status"] == "running"
        return run


@pytest.fixture
def elsewhere(endpoint: Endpoint, make_table: MakeTable, tmp_path: Path) -> Iterator[Elsewhere]:
    table, state_table = make_table(id="N"), f"state_{uuid4().hex[:12]}"
    (tmp_path / "dynamodt.toml").write_text(f'[stages.local]\nstate_table = "{state_table}"\n')
    Tables(endpoint.client).put(table, *({"id": n, "n": 0} for n in range(ITEMS)))
    state = State(endpoint.connection, state_table)
    state.ensure()
    found = Elsewhere(tmp_path, endpoint, table, state)
    yield found
    for process in found.started:
        process.kill()
        process.communicate()
    endpoint.client.delete_table(TableName=state_table)


def test_a_run_is_followed_to_its_end_from_two_other_processes(elsewhere: Elsewhere) -> None:
    elsewhere.script(1, HALF)
    elsewhere.script(2, QUICK)
    up = elsewhere.start("up")
    active = elsewhere.active_run()
    assert active["holder"]["pid"] == up.pid and active["version"] == 1
    lines, poller = elsewhere.start("status", "--follow"), elsewhere.start("status", "--follow", "--json")
    (table,) = json.loads(elsewhere.run("status", "--json"))["tables"]
    assert [version["state"] for version in table["versions"]] == ["running", "pending"]

    assert poller.stdout is not None
    begun = json.loads(poller.stdout.readline())
    elsewhere.go_on()
    later = until(
        lambda: (look := json.loads(poller.stdout.readline()))["percent"] > begun["percent"] and look, "it moves"
    )
    (elsewhere.folder / "seen").touch()
    *seen, outcome = begun, later, *map(json.loads, poller.communicate(timeout=HANG_SECONDS)[0].splitlines())
    assert poller.returncode == 0
    first = [look for look in seen if look["run"] == active["run"]]
    percents = [look["percent"] for look in first]
    assert percents == sorted(percents) and percents[0] < percents[1] < 100
    assert first[-1]["counts"]["read"] > first[0]["counts"]["read"]
    assert all(look["contention"] == {"conflicts": 0, "throttles": 0} for look in seen)
    assert [(run["version"], run["status"], run["counts"]["changed"]) for run in outcome["runs"]] == [
        (1, "succeeded", ITEMS),
        (2, "succeeded", ITEMS),
    ]

    out, err = lines.communicate(timeout=HANG_SECONDS)
    assert (lines.returncode, err) == (0, "")
    assert f"{elsewhere.table} v1 change: running" in out
    assert f"{elsewhere.table} v2 change: succeeded, 600 items" in out
    assert f"{elsewhere.table} v2 change  up  succeeded" in out
    assert up.wait(HANG_SECONDS) == 0
    assert [(run["version"], run["status"], run["holder"]) for run in elsewhere.runs()] == [
        (2, "succeeded", None),
        (1, "succeeded", None),
    ]
    assert elsewhere.run("status", "--follow").endswith("No run is in progress.\n")


def test_a_run_that_fails_ends_its_following_with_1_and_stays_unfinished(elsewhere: Elsewhere) -> None:
    elsewhere.script(1, FAILING)
    up = elsewhere.start("up")
    run = elsewhere.active_run()["run"]
    poller = elsewhere.follow()
    elsewhere.go_on()
    outcome = json.loads(poller.communicate(timeout=HANG_SECONDS)[0].splitlines()[-1])
    assert poller.returncode == outcome["error"]["exit_code"] == 1
    assert [(one["run"], one["status"], one["counts"]["dead"]) for one in outcome["runs"]] == [(run, "failed", 1)]
    assert up.wait(HANG_SECONDS) == 1
    (failed,) = elsewhere.runs()
    assert (failed["status"], failed["counts"]["dead"]) == ("failed", 1)
    (version,) = json.loads(elsewhere.run("status", "--json"))["tables"][0]["versions"]
    assert version["state"] == "unfinished"
    assert (version["run"]["id"], version["run"]["dead_letters"]) == (run, failed["dead_letters"])
    assert failed["dead_letters"] in elsewhere.run("status")


def test_a_run_whose_process_was_killed_is_gone(elsewhere: Elsewhere) -> None:
    up, poller = elsewhere.held_and_followed()
    up.send_signal(signal.SIGKILL)
    up.wait(HANG_SECONDS)
    outcome = json.loads(poller.communicate(timeout=HANG_SECONDS)[0].splitlines()[-1])
    assert (poller.returncode, outcome["runs"][0]["status"]) == (1, "gone")
    assert outcome["error"]["hint"] == f"dynamodt up --table {elsewhere.table} --to 1 continues it"
    (gone,) = elsewhere.runs()
    assert (gone["status"], gone["holder"]) == ("gone", None)
    assert "has no live process" in elsewhere.run("status")
    assert "which is gone" in elsewhere.run("status", "--follow")


def test_ctrl_c_ends_status_follow_and_not_the_run(elsewhere: Elsewhere) -> None:
    up, poller = elsewhere.held_and_followed()
    poller.send_signal(signal.SIGINT)
    _, err = poller.communicate(timeout=HANG_SECONDS)
    elsewhere.go_on()
    assert poller.returncode == 130 and "the runs continue" in err
    assert up.wait(HANG_SECONDS) == 0
