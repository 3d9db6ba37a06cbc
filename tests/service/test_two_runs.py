"""Two processes at one table: the second is refused; a suspended process whose lease was removed writes nothing after
it continues (guarantee G4)."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from dynamodt.errors import Busy, Refused
from dynamodt.model.tables import Stage, StorageSpec
from dynamodt.runs.control import control_run
from dynamodt.runs.lock import hold_leases
from dynamodt.state.state import State
from tests import programs
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.held_run import ITEMS, hold, wait_until_changed
from tests.service.kills import scan
from tests.waiting import HANG_SECONDS, until


def start(endpoint: Endpoint, folder: Path, table: str) -> subprocess.Popen[str]:
    return programs.start("tests.migrate_once", endpoint.url, folder, table, "1", "never", 0)


def unlock(stage: Stage, table: str) -> None:
    """A heartbeat that was sent before the suspension may still arrive, and is then respected."""

    def unlocked() -> bool:
        try:
            control_run(stage, table, "unlock")
        except Refused:
            return False
        return True

    until(unlocked, "a suspended process gives no more signs of life")


@dynamodb_local_in_chaos
def test_a_second_run_is_refused_and_an_unlocked_suspended_run_writes_nothing_more(
    endpoint: Endpoint, make_table: MakeTable, tmp_path: Path
) -> None:
    table = make_table(id="N")
    go_on = hold(endpoint, tmp_path, table)
    first = start(endpoint, tmp_path, table)
    wait_until_changed(endpoint, table)
    second = start(endpoint, tmp_path, table)
    _, said = second.communicate(timeout=HANG_SECONDS)
    assert second.returncode == 3 and f"process {first.pid}" in said, said
    first.send_signal(signal.SIGSTOP)
    go_on.touch()
    stage = Stage("local", endpoint.connection, StorageSpec(str(tmp_path / "storage")), f"state-{table}", local=True)
    unlock(stage, table)
    third = start(endpoint, tmp_path, table)
    _, said = third.communicate(timeout=HANG_SECONDS)
    assert third.returncode == 0, said
    before = scan(endpoint, table)
    first.send_signal(signal.SIGCONT)
    _, said = first.communicate(timeout=HANG_SECONDS)
    assert first.returncode == 1 and "taken" in said, said
    assert scan(endpoint, table) == before and all(item["n"] == 1 for item in before.values())
    (run,) = State(stage.connection, stage.state_table).runs(table)
    assert run.status == "succeeded" and run.counts.changed == ITEMS
    endpoint.client.delete_table(TableName=stage.state_table)


@pytest.mark.endpoints("ministack")
@pytest.mark.parametrize(
    ("goal", "covered"), [("{}", True), ("1 another text", False), ("2 more", True), ("", False)], ids=str
)
def test_a_refused_run_reports_whether_the_active_run_applies_all_of_its_versions(
    bench: Bench, make_table: MakeTable, goal: str, covered: bool
) -> None:
    table = make_table(id="N")
    bench.script(table, "def transform_up(item):\n    return item\n")
    goal = goal.format(f"1 {bench.read(table).content}")
    leases = State(bench.stage.connection, bench.stage.state_table).leases
    with hold_leases(leases, table, (), "another", print, goal=goal):
        (report,) = bench.up(table)
        assert isinstance(report.error, Busy) and report.error.covered == covered
        (report,) = bench.up(table, dry_run=True)
        assert report.error is None
    (report,) = bench.up(table)
    assert report.error is None


@pytest.mark.endpoints("ministack")
def test_the_lease_has_the_versions_that_a_command_applies(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, goals = make_table(id="N"), list[str]()
    for number in (1, 2):
        bench.script(table, "def transform_up(item):\n    return item\n", number, "same")
    leases = State(bench.stage.connection, bench.stage.state_table).leases
    monkeypatch.setattr(bench.recorder, "run_started", lambda *_: goals.append(leases.read(table).goal))
    assert bench.up(table)[0].error is None
    assert goals == [f"2 {bench.read(table, 2).content}"] * 2
    assert bench.up(table)[0].error is None
