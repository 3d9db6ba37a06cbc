"""A folder that refuses files during a run, or before it: the error is recorded and reported, and the run continues
later."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import DeadLetters, Refused, ServiceError
from dynamodt.model.tables import StorageSpec
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")  # it is about files

MARK = """
def transform_up(item):
    if item.get("bad"):
        raise ValueError("bad")
    return {**item, "n": item.get("n", 0) + 1}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "n"}
"""


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.script(name, MARK, 1, "mark")
    return name


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Disk:
    """A disk that is full for files whose path contains this text."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full_for = ""
        self.after = 0
        monkeypatch.setattr("os.replace", self._replace)
        self._really = os.rename

    def _replace(self, source: Any, target: Any) -> None:
        if self.full_for and self.full_for in str(target):
            self.after -= 1
            if self.after < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        self._really(source, target)


@pytest.mark.parametrize("after", [0, 1])
def test_a_run_on_a_full_disk_is_recorded_and_can_continue(bench: Bench, table: str, disk: Disk, after: int) -> None:
    bench.tables.put(table, *({"id": number} for number in range(200)))
    disk.full_for, disk.after = "journal", after
    (failed,) = bench.up(table)
    assert isinstance(failed.error, ServiceError) and "No space left" in failed.error.what
    assert str(bench.folder / "storage") in failed.error.where and "free some space" in failed.error.hint
    (record,) = State(bench.stage.connection, bench.stage.state_table).runs(table)
    assert record.status == "failed" and "No space left" in record.error
    disk.full_for = ""
    (report,) = bench.up(table)
    assert report.error is None and [one.run for one in report.versions] == [record.run]
    assert {item["n"] for item in bench.tables.items(table)} == {1}


def test_a_run_whose_dead_letters_cannot_be_merged_fails_and_is_recorded(bench: Bench, table: str, disk: Disk) -> None:
    bench.tables.put(table, {"id": 1, "bad": 1}, {"id": 2})
    disk.full_for = "dead-letters.jsonl"
    (failed,) = bench.up(table)
    (record,) = State(bench.stage.connection, bench.stage.state_table).runs(table)
    assert failed.error is not None and record.status == "failed" and "No space left" in record.error
    disk.full_for = ""
    (again,) = bench.up(table)
    assert isinstance(again.error, DeadLetters)
    bench.tables.put(table, {"id": 1})
    assert bench.up(table)[0].error is None
    assert [item["n"] for item in bench.tables.items(table)] == [1, 1]


def test_a_folder_that_cannot_be_written_is_refused_before_the_start(bench: Bench, table: str, tmp_path: Path) -> None:
    bench.tables.put(table, {"id": 1})
    (tmp_path / "file").touch()
    elsewhere = replace(bench.stage, storage=StorageSpec(str(tmp_path / "file")))
    (refused,) = replace(bench, stage=elsewhere).up(table)
    assert isinstance(refused.error, Refused) and refused.error.where == str(tmp_path / "file")
    assert State(bench.stage.connection, bench.stage.state_table).runs(table) == []
    assert bench.up(table)[0].error is None


def test_an_error_between_the_record_of_the_begin_and_the_first_phase_is_the_end_of_the_run(
    bench: Bench, table: str, disk: Disk
) -> None:
    """The command that accepts a dead letter records it first; without its end, the run would count as one whose
    process has died."""
    bench.tables.put(table, {"id": 1, "bad": 1}, {"id": 2})
    assert isinstance(bench.up(table)[0].error, DeadLetters)
    (record,) = bench.history(table)
    disk.full_for = "scripts"
    accept = RunOptions(accept_all=True, reason="a test")
    (failed,) = operations.retry(bench.stage, bench.folder, [table], record.run, accept, bench.recorder)
    assert isinstance(failed.error, ServiceError) and [one.status for one in failed.versions] == ["failed"]
    (ended,) = bench.history(table)
    assert ended.status == "failed" and "No space left" in ended.error and ended.dead_letters == record.dead_letters
    disk.full_for = ""
    assert bench.up(table)[0].error is None
    assert [item.get("n") for item in bench.tables.items(table)] == [None, 1]


def test_a_run_whose_dead_letters_are_gone_suggests_no_retry(bench: Bench, table: str) -> None:
    bench.tables.put(table, {"id": 1, "bad": 1}, {"id": 2})
    (failed,) = bench.up(table)
    run = failed.versions[-1].run
    assert operations.show(bench.stage, bench.folder, [table], run).final == ""
    for part in (bench.folder / "storage" / "runs" / table / run / "dead").iterdir():
        part.unlink()
    found = operations.show(bench.stage, bench.folder, [table], run)
    assert found.stored == 0 and "are gone" in found.final
    accept = RunOptions(accept_all=True, reason="a test")
    with pytest.raises(Refused, match="are gone") as caught:
        operations.retry(bench.stage, bench.folder, [table], run, accept, bench.recorder)
    assert f"dynamodt undo {run}" in caught.value.hint
