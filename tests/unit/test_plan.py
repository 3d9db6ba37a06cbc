"""The layout of a version's run: its splits, the order of its phases, and its kind of read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.dynamodb.reads import segments
from dynamodt.errors import ServiceError
from dynamodt.model.runs import DeadLetterSource, Lease, RunRecord, Script
from dynamodt.model.tables import Connection, Direction, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs import jobs as jobs_module
from dynamodt.runs import plan as plan_module
from dynamodt.runs import runner
from dynamodt.runs.context import RunContext
from dynamodt.runs.jobs import jobs, was_held_recently, with_split_groups
from dynamodt.runs.plan import Step, TablePlan, usable_target

TABLE = TableSpec("users", (KeyAttribute("id", "S"),))
STAGE = Stage("local", Connection("us-east-1"), StorageSpec("here"), local=True)
SCRIPT = Script("users", 2, "split", "v2_split.py", "", "", has_up=True, has_down=True, has_items=True)
CONTEXT = RunContext(STAGE, Path(), runner=runner, token=1)
RECORD = RunRecord("users", "run", 2, "split", "up", "", "running", "then", splits=4)


def test_a_table_written_a_moment_ago_is_read_consistently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "time", SimpleNamespace(time=lambda: 5000.0))
    assert was_held_recently(Lease("users", 1, beat=4945.0))
    assert not was_held_recently(Lease("users", 1, beat=4935.0)) and not was_held_recently(Lease("users", 0))
    for fresh in (True, False):
        planned = TablePlan(TABLE, "up", (), 1, (SCRIPT,), fresh)
        found = jobs(CONTEXT, planned, Step(SCRIPT, None, None), RECORD)
        assert [job.consistent for job in found] == [fresh, fresh]


@pytest.mark.parametrize(("direction", "own"), [("up", [False, True]), ("down", [True, False])])
def test_rows_of_items_are_the_last_phase_of_up_and_the_first_of_down(direction: Direction, own: list[bool]) -> None:
    planned = TablePlan(TABLE, direction, (), 1, (SCRIPT,))
    found = jobs(CONTEXT, planned, Step(SCRIPT, None, None), RECORD)
    assert [job.inserts_rows for job in found] == own
    assert sorted(job.splits for job in found) == [1, 4]


@pytest.mark.parametrize(
    ("size", "number"), [(0, 4), (64 << 20, 4), (640 << 20, 10), (64 << 30, 1024), (1 << 50, 10_000)]
)
def test_a_segment_has_about_64_mb_within_bounds(size: int, number: int) -> None:
    assert segments(TableSpec("users", TABLE.key, size_bytes=size)) == number


@pytest.mark.parametrize(
    ("units", "workers", "split_groups"),
    [(4, 1, 1), (8, 1, 2), (32, 1, 4), (32, 2, 2), (48, 2, 2), (32, 4, 4), (1024, 2, 8), (10_000, 1000, 2500)],
)
def test_split_groups_have_several_segments_so_that_each_worker_writes_to_several_partitions(
    units: int, workers: int, split_groups: int
) -> None:
    planned = TablePlan(TABLE, "up", (), 1, (SCRIPT,))
    (job, own) = jobs(CONTEXT, planned, Step(SCRIPT, None, None), replace(RECORD, splits=units))
    found = with_split_groups(job, workers)
    assert found.split_groups == split_groups
    several = workers == 1 and split_groups > 1  # at once in one process, whose memory they share
    assert found.read_ahead == (2 if several else 4)
    assert found.page_items == (500 if workers <= 8 else 1000)
    assert found.in_turn == (32 if workers == 2 else 16)
    for counted in (own, replace(own, source=DeadLetterSource(("part",)))):  # a page's number is its place
        assert with_split_groups(counted, workers).page_items == 1000


def test_a_missing_target_of_the_embedded_stage_is_declared_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(connection: Connection, name: str) -> TableSpec:
        raise ServiceError(NO_TABLE, where=f"table {name}", hint="create it")

    monkeypatch.setattr(plan_module.tables, "describe", describe)
    script = replace(SCRIPT, target_table="others")
    with pytest.raises(ServiceError, match="TARGET_TABLE, table others: the embedded stage") as caught:
        usable_target(replace(STAGE, embedded=True), script)
    assert caught.value.hint == (
        'declare its key in dynamodt.toml, by which the stage creates it: [stages.local.tables] others = { id = "S" }'
    )
    with pytest.raises(ServiceError) as caught:
        usable_target(STAGE, script)
    assert caught.value.hint == "create it"
