"""The state table out of reach at the end of a run: the run is reported as far as it is known, with what ended it, and
the same command continues it."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import RunFailed, ServiceError
from dynamodt.model.runs import RunRecord
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")

MARK = """
def transform_up(item):
    return {**item, "n": item.get("n", 0) + 1}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "n"}
"""
_LOST = ServiceError("TransactWriteItems failed: connection refused", where="state table", hint="check the network")


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.script(name, MARK, 1, "mark")
    bench.tables.put(name, *({"id": number} for number in range(30)))
    return name


class Lost:
    """The records of these statuses cannot be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statuses: tuple[str, ...] = ()
        record = State.record

        def lost(state: State, one: RunRecord, token: int, **more: Any) -> RunRecord:
            if one.status in self.statuses:
                raise _LOST
            return record(state, one, token, **more)

        monkeypatch.setattr(State, "record", lost)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    return Lost(monkeypatch)


def test_an_end_that_cannot_be_recorded_is_reported_and_continued(bench: Bench, table: str, lost: Lost) -> None:
    lost.statuses = ("succeeded",)
    (report,) = bench.up(table)
    (run,) = report.versions
    assert report.error is _LOST and (run.status, run.counts.changed) == ("failed", 30)
    assert run.error == str(_LOST) and report.at == 0
    assert any(run.run in note and "could not be recorded" in note for note in bench.recorder.notes)
    lost.statuses = ()
    (report,) = bench.up(table)
    assert report.error is None and [one.run for one in report.versions] == [run.run]
    assert {item["n"] for item in bench.tables.items(table)} == {1}


def test_what_ended_the_run_remains_its_error(
    bench: Bench, table: str, lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RunFailed("the pipeline failed")

    lost.statuses = ("failed", "stopped")
    with monkeypatch.context() as patched:
        patched.setattr("dynamodt.runs.execute.run_phases", broken)
        (report,) = bench.up(table)
    assert isinstance(report.error, RunFailed) and report.error.what == "the pipeline failed"
    assert [run.status for run in report.versions] == ["failed"]
    lost.statuses = ()
    (report,) = bench.up(table)
    assert report.error is None and report.at == 1


def test_an_undo_whose_end_cannot_be_recorded_is_reported_and_continued(bench: Bench, table: str, lost: Lost) -> None:
    (done,) = bench.up(table)
    run = done.versions[0].run
    lost.statuses = ("undone",)
    report = operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert report.error is _LOST and (report.run.status, report.run.counts.changed, report.at) == ("undoing", 30, 1)
    assert any("the undo of run" in note and "could not be recorded" in note for note in bench.recorder.notes)
    lost.statuses = ()
    report = operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert report.error is None and (report.run.status, report.at) == ("undone", 0)
    assert all("n" not in item for item in bench.tables.items(table))
