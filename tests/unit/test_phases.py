"""A run's status by its record and the lease; and the phases of its record."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from dynamodt.model.pages import Counts
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import Lease, RunRecord, Script
from dynamodt.model.tables import Direction, KeyAttribute, TableSpec
from dynamodt.runs import runner
from dynamodt.runs.context import RunContext
from dynamodt.runs.jobs import jobs, retry_job
from dynamodt.runs.plan import Step, TablePlan
from dynamodt.state.runs import phases, run_progress, with_runs
from tests.fake_operations import STAGE

CONTEXT = RunContext(STAGE, Path(), runner=runner, token=1)
RECORD = RunRecord("users", "01RUN", 2, "split_name", "up", "", "running", "2025-06-01T10:00:00Z", splits=4)
LEASE = Lease("users", 1, "01RUN")


@pytest.mark.parametrize(
    ("record", "lease", "alive", "expected"),
    [
        (RECORD, LEASE, True, "running"),
        (RECORD, LEASE._replace(paused=True, pause_reason="latency"), True, "paused"),
        (RECORD, LEASE._replace(pause_reason="latency"), True, "held"),
        (RECORD, LEASE._replace(paused=True, stop="abort"), True, "stopping"),
        (RECORD, LEASE, False, "gone"),
        (RECORD, LEASE._replace(run="02RUN"), True, "gone"),
        (RECORD, LEASE._replace(run=""), False, "gone"),
        (replace(RECORD, status="failed"), LEASE, True, "failed"),
        (replace(RECORD, status="succeeded"), LEASE._replace(run="02RUN"), True, "succeeded"),
        (replace(RECORD, status="undoing"), LEASE, True, "undoing"),
    ],
)
def test_the_status_of_a_run(record: RunRecord, lease: Lease, alive: bool, expected: str) -> None:
    assert run_progress(record, lease, alive) == expected


def states(*records: RunRecord, alive: bool = False) -> list[str]:
    versions = [VersionStatus(1, "a", "applied"), VersionStatus(2, "split_name", "pending")]
    return [version.state for version in with_runs(versions, records, LEASE, alive)]


def test_a_version_shows_its_open_run() -> None:
    assert states() == ["applied", "pending"]
    assert states(RECORD, alive=True) == ["applied", "running"]
    assert states(RECORD) == ["applied", "unfinished"]
    assert states(replace(RECORD, status="failed")) == ["applied", "unfinished"]
    assert states(replace(RECORD, status="succeeded")) == ["applied", "pending"]


def test_an_unfinished_run_of_a_newer_release_is_not_hidden() -> None:
    newer = replace(RECORD, version=3, status="failed")
    assert states(newer) == ["applied", "pending"]  # it has changed nothing
    assert states(replace(newer, counts=Counts(5, 5))) == ["applied", "pending", "unfinished"]
    assert states(replace(newer, status="running")) == ["applied", "pending", "unfinished"]


def test_an_unfinished_down_that_changed_nothing_is_not_shown() -> None:
    down = replace(RECORD, version=1, direction="down", status="failed")
    assert states(down) == ["applied", "pending"]
    assert states(replace(down, counts=Counts(5, 5))) == ["unfinished", "pending"]


def test_a_partly_undone_run_is_distinguished_from_an_unfinished_one() -> None:
    undoing = replace(RECORD, status="undoing")
    (version,) = with_runs([VersionStatus(2, "x", "applied")], [undoing], LEASE, alive=False)
    assert (version.state, version.run) == ("unfinished", undoing)
    assert states(undoing, alive=True) == ["applied", "running"]


def test_an_edited_version_is_shown_as_edited_during_a_run() -> None:
    (version,) = with_runs([VersionStatus(2, "x", "edited")], [replace(RECORD, status="failed")], LEASE, False)
    assert version.state == "edited" and version.run is not None


@pytest.mark.parametrize(("direction", "has_items", "moves"), [*product(("up", "down"), (True, False), (True, False))])
def test_the_phases_of_a_record_are_complete(direction: Direction, has_items: bool, moves: bool) -> None:
    table = TableSpec("users", (KeyAttribute("id", "S"),))
    script = Script("users", 2, "x", "v2_x.py", "", "", has_up=moves, has_down=moves, has_items=has_items)
    step = Step(script, None, None)
    record = replace(RECORD, direction=direction, retries=2)
    main = jobs(CONTEXT, TablePlan(table, direction, (step,), 1, (script,)), step, record)
    all_jobs = [*main, *(retry_job(job, number, ()) for job in main for number in (1, 2))]
    known = phases(record)
    assert {(job.run, job.splits) for job in all_jobs} <= set(known)
    assert len(known) == len(set(known)) == 6


@pytest.mark.parametrize(
    ("lease", "status", "held"),
    [
        (LEASE._replace(paused=True), "paused", ""),
        (LEASE._replace(pause_reason="the alarm slow is in ALARM"), "held", "the alarm slow is in ALARM"),
        (LEASE._replace(stop="abort"), "stopping", ""),
        (LEASE, "running", ""),
    ],
)
def test_the_run_of_a_version_has_its_present_status(lease: Lease, status: str, held: str) -> None:
    (version,) = with_runs([VersionStatus(2, "x", "pending")], [RECORD], lease, alive=True)
    assert version.run is not None
    assert (version.state, version.run.status, version.held) == ("running", status, held)
