"""A run that writes to another table holds both: neither is touched by two runs at once (guarantee G4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import Busy, Fenced, Refused
from dynamodt.model.pages import Units
from dynamodt.runs import execute
from dynamodt.runs.context import Project
from dynamodt.runs.control import control_run
from dynamodt.runs.cost import Spending
from dynamodt.runs.execute import migrate
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.runs.undo import undo
from dynamodt.state.state import State
from tests.emulators import dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = dynamodb_local_in_chaos  # it tests dynamodt's own rows


@pytest.fixture
def tables(bench: Bench, make_table: MakeTable) -> tuple[str, str]:
    """A table, and the one that its version writes to, which has a version of its own."""
    source, target = make_table(id="N"), make_table(id="N")
    bench.tables.put(source, *({"id": number, "n": 1} for number in range(5)))
    bench.tables.put(target, *({"id": 100 + number, "n": 1} for number in range(5)))
    double = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n'
    bench.script(target, double)
    bench.script(
        source,
        f'TARGET_TABLE = "{target}"\n'
        'def transform_up(item):\n    return {"id": item["id"] + 1000, "n": item["n"] * 2}\n',
    )
    return source, target


def leases(bench: Bench) -> Any:
    return State(bench.stage.connection, bench.stage.state_table).leases


def during_next_run(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Calls `act` while the next run is active."""
    original = execute.run_phases

    def run_phases(*arguments: Any) -> Any:
        monkeypatch.setattr(execute, "run_phases", original)
        act()
        return original(*arguments)

    monkeypatch.setattr(execute, "run_phases", run_phases)


@pytest.mark.parametrize("first", ["source", "target"])
def test_two_runs_that_share_a_table_exclude_each_other(
    bench: Bench, tables: tuple[str, str], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    source, target = tables
    one, other = (source, target) if first == "source" else (target, source)
    refused: list[Any] = []
    during_next_run(monkeypatch, lambda: refused.extend(bench.up(other)))
    (report,) = bench.up(one)
    assert report.error is None, report.error
    error = refused[0].error
    assert isinstance(error, Busy) and error.where == f"table {target}" and not refused[0].versions
    assert f"dynamodt abort --table {one}" in error.hint
    assert [leases(bench).read(name).run for name in tables] == ["", ""]
    assert bench.applied(other) == []


def test_what_another_run_of_the_target_stops_is_known_before(
    bench: Bench, tables: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan` names the run, and a command to the wrong table is answered with the whole one to type."""
    source, target = tables
    found: list[Any] = []

    def act() -> None:
        with pytest.raises(Refused) as refused:
            control_run(bench.stage, target, "throttle", Units(wcu=2.5))
        found.append(refused.value)

    during_next_run(monkeypatch, act)
    assert bench.up(source)[0].error is None
    assert f"dynamodt throttle --table {source} --wcu 2.5" in found[0].hint
    script = 'def transform_up(item):\n    return {"id": item["id"] + 2000}\n'
    bench.script(source, f'TARGET_TABLE = "{target}"\n{script}', 2)
    with hold_lease(leases(bench), target, "another", lambda text: None):
        (planned,) = operations.forecast(bench.stage, bench.folder, [source], None, RunOptions(), 10)
        assert [(one.kind, one.stops) for one in planned.obstacles] == [("lease", True)]
        assert target in planned.obstacles[0].text


@pytest.mark.parametrize("held", ["source", "target"])
@pytest.mark.parametrize("command", ["up", "undo"])
def test_a_dry_run_reports_a_run_that_holds_one_of_its_tables(
    bench: Bench, tables: tuple[str, str], command: str, held: str
) -> None:
    source, target = tables
    (report,) = bench.up(source)
    bench.script(source, f'TARGET_TABLE = "{target}"\ndef transform_up(item): return {{"id": item["id"] + 70}}', 2)

    def rehearse(**options: Any) -> Any:
        if command == "up":
            return bench.up(source, dry_run=True, **options)[0]
        run, options = report.versions[0].run, {"dry_run": True, **options}
        return operations.undo(bench.stage, bench.folder, [source], run, RunOptions(**options), bench.recorder)

    assert rehearse().error is None and rehearse().refusal is None
    with hold_lease(leases(bench), source if held == "source" else target, "theirs", bench.recorder.notify):
        refused, waiting = rehearse(), rehearse(wait_lock="1m")
    assert refused.error is None and isinstance(refused.refusal, Busy) and "run theirs" in str(refused.refusal)
    assert waiting.error is None and waiting.refusal is None


def test_two_tables_of_one_command_run_one_after_the_other(bench: Bench, tables: tuple[str, str]) -> None:
    source, target = tables
    assert [report.error for report in bench.up(target, source)] == [None, None]
    assert sorted(item["n"] for item in bench.tables.items(target)) == [2] * 10


def test_an_undo_holds_the_target_of_its_run(
    bench: Bench, tables: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tables
    (report,) = bench.up(source)
    run = report.versions[0].run
    before = bench.tables.items(target)

    def undo() -> Any:
        return operations.undo(bench.stage, bench.folder, [source], run, RunOptions(), bench.recorder)

    with hold_lease(leases(bench), target, "theirs", bench.recorder.notify), pytest.raises(Busy, match="run theirs"):
        undo()
    assert bench.tables.items(target) == before and leases(bench).read(source).run == ""
    assert undo().error is None
    assert [item["id"] for item in bench.tables.items(target)] == [100, 101, 102, 103, 104]


def test_a_run_that_lost_its_target_s_lease_writes_and_records_nothing(
    bench: Bench, tables: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tables
    before = bench.tables.items(target)
    during_next_run(monkeypatch, lambda: void(control_run(bench.stage, target, "unlock")))
    (report,) = bench.up(source)
    assert isinstance(report.error, Fenced) and target in str(report.error)
    assert bench.tables.items(target) == before and bench.applied(source) == []
    assert [run.status for run in bench.history(source)] == ["running"], "the next one goes on with it"
    (report,) = bench.up(source)
    assert report.error is None and bench.applied(source) == [1]


def void(_: object) -> None:
    pass


class Unready:
    """A runner that must not be started."""

    def ready(self, options: RunOptions, notify: Any) -> RunOptions:
        raise AssertionError("the runner was started")


@pytest.mark.parametrize("held", ["source", "target"])
@pytest.mark.parametrize("command", ["up", "undo"])
def test_no_runner_is_started_for_a_held_table(bench: Bench, tables: tuple[str, str], command: str, held: str) -> None:
    source, target = tables
    runner: Any = Unready()
    project = Project(bench.stage, bench.folder, RunOptions(), bench.recorder)
    run = bench.up(source)[0].versions[0].run if command == "undo" else ""
    with hold_lease(leases(bench), source if held == "source" else target, "theirs", bench.recorder.notify):
        if command == "up":
            error = migrate(project, source, "up", None, runner, Spending()).error
            assert isinstance(error, Busy), error
        else:
            with pytest.raises(Busy):
                undo(project, [source], run, runner)


def test_no_runner_is_started_for_an_undo_without_its_journal(bench: Bench, tables: tuple[str, str]) -> None:
    (report,) = bench.up(tables[1])
    for part in (bench.folder / "storage").rglob("*journal*/*"):
        part.unlink()
    project, runner = Project(bench.stage, bench.folder, RunOptions(), bench.recorder), Unready()
    undone = undo(project, [tables[1]], report.versions[0].run, runner)  # type: ignore[arg-type]
    assert isinstance(undone.error, Refused) and "journal" in str(undone.error)


def test_a_stopped_command_keeps_the_reports_of_the_tables_before_the_stop(
    bench: Bench, tables: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    bench.script("gone", "def transform_up(item):\n    return item\n")
    monkeypatch.setattr(execute, "run_phases", stop)
    with pytest.raises(KeyboardInterrupt):
        bench.up("gone", tables[1], tables[0])
    (gone, stopped, left) = bench.recorder.reports()
    assert gone.table == "gone" and str(gone.error) == "table gone: the table does not exist"
    assert [run.status for run in stopped.versions] == ["stopped"]
    assert (left.table, left.held_back, left.versions) == (tables[0], True, ())
