"""A run under a budget, on real endpoints: its rate is changed while it is active, and it ends as any other run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import Aborted
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import TableReport, UndoReport
from dynamodt.model.runs import Job
from dynamodt.pipeline.signals import Signal
from dynamodt.runs.control import control_run
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.state import State
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.proxy import Proxy
from tests.waiting import join, until

TOUCH = 'def transform_up(item):\n    return {**item, "seen": True}\n'


def started(bench: Bench, table: str, items: int, max_wcu: float) -> tuple[threading.Thread, list[TableReport]]:
    """A run in a thread of its own, and a list that receives its report."""
    bench.tables.put(table, *({"id": number} for number in range(items)))
    bench.script(table, TOUCH)
    reports: list[TableReport] = []
    run = threading.Thread(target=lambda: reports.extend(bench.up(table, max_wcu=max_wcu)))
    run.start()
    return run, reports


def test_throttle_changes_the_rate_of_an_active_run(bench: Bench, make_table: MakeTable) -> None:
    """At the first rate, two units a second, the 200 items would take longer than the test's time-out."""
    table = make_table(id="N")
    run, reports = started(bench, table, items=200, max_wcu=2.0)
    state = State(bench.stage.connection, bench.stage.state_table)
    until(lambda: state.leases.read(table).wcu == 2.0, "the run's lease")
    lease = state.leases.read(table)
    until(lambda: [w for w in state.workers(lease.run, lease.token).all() if w.grant], "a worker with a grant")
    control_run(bench.stage, table, "throttle", Units(wcu=10_000.0))
    join(run, "the run hears of the new rate")
    (report,) = reports
    assert report.error is None and report.versions[0].counts == Counts(read=200, changed=200)
    (worker,) = state.workers(lease.run, lease.token).all()
    assert worker.grant is not None and 2.0 < worker.grant.rate.wcu <= 10_000.0
    assert worker.report.awaited == worker.grant.number or worker.grant.number > 1


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a worker of this process waits for its run to be resumed, which is the only reason why a signal
    sleeps."""
    scheduler, init = threading.Event(), Signal.__init__

    def watched(self: Signal, leases: Any, job: Job, clock: Any, sleep: Callable[[float], None]) -> None:
        def rest(seconds: float) -> None:
            scheduler.set()
            sleep(seconds)

        init(self, leases, job, clock, rest)

    monkeypatch.setattr(Signal, "__init__", watched)
    return scheduler


@pytest.mark.slow
@pytest.mark.endpoints("ministack")  # it takes its time, and the other adds nothing
def test_an_active_run_can_be_paused_resumed_and_aborted(
    bench: Bench, make_table: MakeTable, idle: threading.Event
) -> None:
    """The run is slow enough to be controlled. Its writes before the abort stay, and the same command completes it."""
    table = make_table(id="N")
    run, reports = started(bench, table, items=60, max_wcu=4.0)

    def changed() -> int:
        return sum("seen" in item for item in bench.tables.items(table))

    def follow() -> str:
        (found,) = operations.runs(bench.stage, bench.folder, [table]) or [None]
        return found.status if found else ""

    until(changed, "a first item is changed")
    control_run(bench.stage, table, "pause")
    until(lambda: follow() == "paused", "the run is paused")
    until(lambda: idle.is_set() or not run.is_alive(), "the worker rests")
    rested = changed()
    assert idle.is_set() and rested < 60
    control_run(bench.stage, table, "resume")
    until(lambda: changed() > rested, "the run goes on")
    control_run(bench.stage, table, "abort")
    join(run, "the run hears that it is to end")
    (report,) = reports
    assert isinstance(report.error, Aborted) and "from its checkpoints" in report.error.hint
    stopped = report.versions[0]
    assert stopped.status == follow() == "stopped" and 0 < stopped.counts.changed == changed() < 60
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].counts == Counts(read=60, changed=60)
    assert report.versions[0].run == stopped.run


COUNT = 'def transform_up(item):\n    return {**item, "n": item.get("n", 0) + 1}\n'


@pytest.mark.endpoints("ministack")  # it tests the absence of requests
@pytest.mark.parametrize("command", ["up", pytest.param("undo", marks=pytest.mark.chaos)])
def test_a_very_slow_run_is_aborted_within_its_page_and_can_continue(
    bench: Bench, make_table: MakeTable, command: str
) -> None:
    """At a hundredth of a unit a second the page in progress would take days."""
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number} for number in range(200)))
    bench.script(table, COUNT)
    run_again = bench.up if command == "up" else undoing(bench, bench.up(table)[0].versions[0].run)
    errors: list[BaseException | None] = []
    run = threading.Thread(target=lambda: errors.append(error_of(run_again(table, max_wcu=20.0))))
    run.start()

    def changed() -> int:
        return sum(("n" in item) is (command == "up") for item in bench.tables.items(table))

    state = State(bench.stage.connection, bench.stage.state_table)

    def crawls() -> bool:
        lease = state.leases.read(table)
        workers = state.workers(lease.run, lease.token).all()
        return any(w.grant and w.grant.rate.wcu <= 0.01 and w.report.awaited == w.grant.number for w in workers)

    until(changed, "a first item is changed")
    control_run(bench.stage, table, "throttle", Units(wcu=0.01))
    until(crawls, "the worker has heard of the rate")
    control_run(bench.stage, table, "abort")
    join(run, "the run hears that it is to end")
    assert isinstance(errors[0], Aborted) and changed() < 200
    assert error_of(run_again(table)) is None
    expected = {1} if command == "up" else {None}
    assert {item.get("n") for item in bench.tables.items(table)} == expected


@pytest.mark.endpoints("ministack")  # it tests the absence of requests
def test_a_run_whose_reads_are_throttled_is_aborted_between_two_tries(
    bench: Bench, bad_line: Bench, proxy: Proxy, make_table: MakeTable
) -> None:
    """With all tries, the run would fail: the table is throttled."""
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number} for number in range(20)))
    bench.script(table, COUNT)
    proxy.always["Scan"] = "throttled"
    reports: list[TableReport] = []
    run = threading.Thread(target=lambda: reports.extend(bad_line.up(table, max_rcu=100.0)))
    run.start()
    until(lambda: proxy.calls["Scan"] > 2, "the reads are throttled")
    control_run(bench.stage, table, "abort")
    join(run, "the run hears that it is to end")
    assert isinstance(reports[0].error, Aborted)
    proxy.always.clear()
    assert bad_line.up(table)[0].error is None
    assert [item["n"] for item in bench.tables.items(table)] == [1] * 20


def undoing(bench: Bench, run: str) -> Callable[..., UndoReport]:
    def undo(table: str, **options: float) -> UndoReport:
        return operations.undo(bench.stage, bench.folder, [table], run, RunOptions(**options), ProgressRecorder())

    return undo


def error_of(reports: list[TableReport] | UndoReport) -> BaseException | None:
    return reports.error if isinstance(reports, UndoReport) else reports[0].error


@pytest.mark.parametrize("items", [0, 300])
def test_a_run_on_a_stage_other_than_local_has_a_budget_by_default(
    bench: Bench, make_table: MakeTable, items: int
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number} for number in range(items)))
    away = replace(bench, stage=replace(bench.stage, local=False))
    assert away.run(table, TOUCH) == Counts(read=items, changed=items)
    (run,) = away.history(table)
    state = State(bench.stage.connection, bench.stage.state_table)
    (worker,) = state.workers(run.run, 1).all()
    assert worker.grant is not None and 0.0 < worker.grant.rate.wcu < float("inf")


@pytest.mark.endpoints("ministack")
def test_each_version_is_limited_by_the_tables_that_it_writes_to(bench: Bench, make_table: MakeTable) -> None:
    """The first version writes to a table on demand, the second one to another table with 200 write units."""
    table, target = make_table(id="N"), f"{make_table(id='N')}_small"
    bench.tables.client.create_table(
        TableName=target,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        ProvisionedThroughput={"ReadCapacityUnits": 200, "WriteCapacityUnits": 200},
    )
    bench.tables.put(table, *({"id": number} for number in range(10)))
    bench.script(table, TOUCH)
    bench.script(table, f"TARGET_TABLE = {target!r}\n{TOUCH}", number=2)
    away = replace(bench, stage=replace(bench.stage, local=False))
    (report,) = away.up(table)
    assert report.error is None and bench.tables.items(target) == [{"id": n, "seen": True} for n in range(10)]
    state = State(bench.stage.connection, bench.stage.state_table)
    granted = [worker.grant for run in report.versions for worker in state.workers(run.run, 1).all()]
    first, second = (grant.rate.wcu for grant in granted if grant is not None)
    assert first >= 1000.0 and second == 100.0
    bench.tables.client.delete_table(TableName=target)
