"""Runs on a real Spark with two executor processes, each of which starts Python of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from dynamodt.dynamodb import reads
from dynamodt.dynamodb.table import describe
from dynamodt.errors import Aborted, DeadLetters, ScriptError
from dynamodt.model.pages import Counts, Units
from dynamodt.model.runs import Job
from dynamodt.pipeline.migrate import Resources, migrate
from dynamodt.pipeline.spark_context import spark_context
from dynamodt.pipeline.spark_runner import process_environment
from dynamodt.runs import runner
from dynamodt.runs.control import control_run
from dynamodt.script.read import read_versions
from dynamodt.state.lease_rows import Worker
from dynamodt.state.state import State
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.live_writers import migrate_under_writers
from tests.waiting import HOLD, join, until

pytestmark = [pytest.mark.slow, pytest.mark.endpoints("ministack")]


@dataclass(frozen=True)
class OnSpark:
    bench: Bench
    master: str

    @property
    def options(self) -> dict[str, Any]:
        return {"runner": "spark", "spark_master": self.master}


@pytest.fixture
def spark(bench: Bench, spark_master: str) -> OnSpark:
    return OnSpark(bench, spark_master)


def test_a_version_goes_up_with_its_files_and_prepared_data_and_down_again(
    spark: OnSpark, make_table: MakeTable
) -> None:
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(500)))
    bench.script(
        table,
        """
        from pathlib import Path
        from shared.worker import worker

        def prepare(context):
            yield "step", 1

        def items():
            yield {"id": -1, "own": True}

        def transform_up(item, prepared):
            own = int((Path(__file__).parent / "own.txt").read_text())
            return {**item, "n": item["n"] + prepared["step"] * own, "by": worker()}

        def transform_down(item):
            return {"id": item["id"], "n": item["n"] - 1}
        """,
    )
    bench.beside("shared/worker.py", "import os\ndef worker():\n    return os.getpid()\n")
    bench.beside(f"{table}/own.txt", "1")
    bench.prepare(table)
    (report,) = bench.up(table, **spark.options)
    assert report.error is None and report.versions[0].counts == Counts(read=501, changed=501)
    items = [item for item in bench.tables.items(table) if item["id"] >= 0]
    assert {item["n"] for item in items} == {1}
    assert len({item["by"] for item in items}) == 2, "one of the executors has had nothing to do"
    (report,) = bench.down(table, **spark.options)
    assert report.error is None
    assert bench.tables.items(table) == [{"id": number, "n": 0} for number in range(500)]


def test_an_exception_of_a_script_keeps_its_type(spark: OnSpark, make_table: MakeTable) -> None:
    table, bench = make_table(id="N"), spark.bench
    report = bench.failed(table, "def items():\n    yield {'no': 'key'}\n", **spark.options)
    assert isinstance(report.error, ScriptError) and "items()" in report.error.where


HELD = f"""{HOLD}
from itertools import count

calls = count(1)

def transform_up(item):
    if next(calls) >= {{from_call}}:
        hold({{file!r}})
    return {{result}}
"""


def test_dead_letters_of_all_workers_together_stop_the_run(
    spark: OnSpark, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each of the eight splits has fewer dead letters than the limit. Each worker waits in its third page, until the
    run is stopped."""
    stop, stopped = runner._stop, tmp_path / "stopped"

    def noted(*arguments: Any) -> None:
        stop(*arguments)
        stopped.touch()

    monkeypatch.setattr(runner, "_stop", noted)
    monkeypatch.setattr(reads, "_SEGMENTS_PER_WORKER", 4)
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number} for number in range(160)))
    text = HELD.format(from_call=55, file=str(stopped), result="1 / 0")
    report = bench.failed(table, text, max_errors=50, **spark.options)
    assert isinstance(report.error, DeadLetters)
    assert 50 < report.versions[0].counts.dead < 160


@pytest.mark.chaos
def test_an_abort_ends_the_run_within_a_page(spark: OnSpark, make_table: MakeTable, tmp_path: Path) -> None:
    """Each worker waits in its second page, until the run is aborted, and then polls the lease before each page."""
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number} for number in range(800)))
    aborted = tmp_path / "aborted"
    bench.script(table, HELD.format(from_call=160, file=str(aborted), result="{**item, 'a': time.sleep(0.02) or 1}"))
    state, reports = State(bench.stage.connection, bench.stage.state_table), []
    run = threading.Thread(target=lambda: reports.extend(bench.up(table, **spark.options)))
    run.start()
    until(lambda: (lease := state.leases.read(table)).run and changed(state, lease.run), "a first item is changed")
    control_run(bench.stage, table, "abort")
    aborted.touch()
    join(run, "the run ends when it is told to")
    (report,) = reports
    assert isinstance(report.error, Aborted) and 0 < report.versions[0].counts.changed < 800
    (report,) = bench.up(table, **spark.options)
    assert report.error is None and report.versions[0].counts == Counts(read=800, changed=800)


def changed(state: State, run: str) -> int:
    return state.splits(run).totals(64).counts.changed


@pytest.mark.chaos
def test_all_executors_share_one_budget(spark: OnSpark, make_table: MakeTable) -> None:
    """At this rate the items would take longer than the test's time-out: the rate is raised once enough was
    observed."""
    rate, items = 20.0, 1500
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number} for number in range(items)))
    bench.script(table, "def transform_up(item):\n    return {**item, 'a': 1}\n")
    state, reports = State(bench.stage.connection, bench.stage.state_table), []
    run = threading.Thread(target=lambda: reports.extend(bench.up(table, max_wcu=rate, **spark.options)))
    run.start()
    lease = until(lambda: (found := state.leases.read(table)).run and found, "the run's lease")
    workers = state.workers(lease.run, lease.token)
    polls: list[list[Worker]] = []

    def shared() -> bool:
        polls.append(list(workers.all()))
        return len(granted(polls[-1])) >= 2 and sum(granted(polls[-1])) > 0.9 * rate

    until(shared, "two workers share the budget")
    beats = {worker.name: worker.report.beat for worker in polls[-1]}
    until(lambda: shared() and all(w.report.beat > beats.get(w.name, 0) + 2 for w in polls[-1]), "three more reports")
    control_run(bench.stage, table, "throttle", Units(wcu=10_000.0))
    join(run, "the run hears of the new rate")
    assert reports[0].error is None and reports[0].versions[0].counts.changed == items
    assert max(sum(granted(look)) for look in polls) <= rate
    assert sum(worker.report.used.wcu > 0.0 for worker in polls[-1]) >= 2, "one worker has had all of it"


def granted(workers: Iterable[Worker]) -> list[float]:
    return [worker.grant.rate.wcu for worker in workers if worker.grant]


@pytest.mark.chaos
def test_live_writes_stay_on_executors_too(endpoint: Endpoint, spark: OnSpark, make_table: MakeTable) -> None:
    migrate_under_writers(endpoint, spark.bench, make_table(id="N"), **spark.options)


def test_reading_transforming_writing_and_recording_are_one_beam_stage(spark: OnSpark, make_table: MakeTable) -> None:
    """Asked of the class that cuts pipelines into stages."""
    context = spark_context(spark.master, print)
    bench, name = spark.bench, make_table(id="N")
    bench.script(name, "def transform_up(item, prepared):\n    return item\n")
    (script,) = read_versions(bench.folder / "transforms", name)
    job = Job("run", bench.stage, describe(bench.stage.connection, name), script, "up", splits=4)
    pipeline = beam.Pipeline()
    migrate(pipeline, job, Resources(bench.stage))
    text = pipeline.to_runner_api(default_environment=process_environment(context)).SerializeToString()
    java = context._jvm.org.apache.beam
    fuse = java.sdk.util.construction.graph.GreedyPipelineFuser.fuse
    fused = fuse(getattr(java.model.pipeline.v1, "RunnerApi$Pipeline").parseFrom(text))
    stages = [" ".join(each.getId() for each in stage.getTransforms()) for stage in fused.getFusedStages()]
    (reading,) = [stage for stage in stages if "Read-items" in stage]
    assert all(name in reading for name in ("Apply-version", "Write-patches", "Record-progress")), stages
