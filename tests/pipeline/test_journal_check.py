"""The checks of an undo before it writes: the journal has the objects that the splits' rows count, is complete, and is
the run's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.model.pages import Counts, JournalCount
from dynamodt.model.runs import Job, RunRecord
from dynamodt.runs.undo_checks import JournalCheck, check_journal
from dynamodt.state.object_keys import is_note, journal_prefix
from tests.fakes import FakeDynamoDB, numbers
from tests.pipeline.conftest import Bench

DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2, "twice": True}\n'


def record_of(job: Job) -> RunRecord:
    return RunRecord("things", job.run, 1, "change", "up", "", "succeeded", "now", splits=job.splits, journal=True)


def project_of(bench: Bench, notify: Callable[[str], None]) -> Any:
    return SimpleNamespace(state=bench.state, storage=bench.storage, observer=SimpleNamespace(notify=notify))


def found_in(bench: Bench, job: Job) -> JournalCheck:
    return check_journal(project_of(bench, lambda text: None), record_of(job))


def files(bench: Bench, job: Job) -> list[Path]:
    return [bench.folder / "storage" / name for name in bench.storage.names(journal_prefix(job))]


@pytest.fixture
def job(bench: Bench) -> Job:
    """Ten pages of five items, each of one part."""
    bench.dynamodb.put(*numbers(50))
    job = bench.job(DOUBLE, splits=2)
    assert bench.execute(job) == Counts(read=50, changed=50)
    return job


def test_a_complete_journal_has_the_objects_that_the_rows_count(bench: Bench, job: Job) -> None:
    found = found_in(bench, job)
    assert found.is_whole and found.whole == found.expected == JournalCount(len(files(bench, job)), 50, 0)


def test_a_run_that_wrote_nothing_needs_no_journal(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(9))
    job = bench.job("def transform_up(item):\n    return item\n")
    bench.execute(job)
    found = found_in(bench, job)
    assert found.is_whole and found.expected == JournalCount()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def swap(path: Path) -> None:
    """Another part of the very same journal lies under the name."""
    other = next(one for one in sorted(path.parent.iterdir()) if one != path)
    shutil.copyfile(other, path)


@pytest.mark.parametrize(
    ("act", "why"),
    [(Path.unlink, "1 of "), (cut, "truncated"), (spoil, "damaged"), (swap, "foreign"), (Path.touch, "")],
)
@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_or_damaged_part_is_named(
    bench: Bench, job: Job, act: Callable[[Path], None], why: str, which: int
) -> None:
    part = files(bench, job)[which]
    act(part)
    found = found_in(bench, job)
    assert found.is_whole is not bool(why) and found.broken == bool(why)
    assert all(why in fault and part.name in fault for fault in found.faults)


def test_a_missing_part_is_named_although_other_pages_have_none(bench: Bench) -> None:
    """A page without changes has no part."""
    bench.dynamodb.put(*numbers(15))
    job = bench.job(DOUBLE.replace("return", "return item if item['id'] in range(5, 10) else"), splits=1)
    bench.execute(job)
    lost, kept = files(bench, job)
    lost.unlink()
    (fault,) = found_in(bench, job).faults
    assert "1 of 2 parts missing (of " in fault and lost.name in fault and kept.name not in fault


def test_foreign_objects_beside_the_journal_are_ignored(bench: Bench, job: Job) -> None:
    (files(bench, job)[0].parent / ".DS_Store").write_bytes(b"x")
    (files(bench, job)[0].parent / "notes to self.txt").write_bytes(b"x")
    assert found_in(bench, job).is_whole


def test_the_first_faults_are_named_and_all_are_counted(bench: Bench, job: Job) -> None:
    paths = files(bench, job)
    for path in paths:
        cut(path)
    found = found_in(bench, job)
    assert found.broken == len(paths) and len(found.faults) == 3 and paths[0].name in found.faults[0]
    shutil.rmtree(bench.folder / "storage")
    assert found_in(bench, job).broken == len(paths)


def test_a_missing_note_is_a_fault(bench: Bench) -> None:
    """Without the note, an undo would revert a write of the application."""
    bench.dynamodb.put(*numbers(5))
    job = bench.job(DOUBLE, splits=1)

    def application(table: FakeDynamoDB) -> None:
        table.before_write = None
        table.delete({"id": 1})

    bench.dynamodb.before_write = application
    assert bench.execute(job).vanished == 1
    (note,) = (path for path in files(bench, job) if is_note(path.name))
    assert found_in(bench, job).whole == JournalCount(1, 5, 1)
    note.unlink()
    found = found_in(bench, job)
    assert not found.is_whole and "1 of 1 notes missing" in found.faults[0]


@pytest.mark.parametrize("writes", range(4))
def test_the_journal_of_a_run_that_died_has_the_objects_that_the_rows_count(bench: Bench, writes: int) -> None:
    """Between two owners, and after the second one has completed the run."""
    bench.dynamodb.put(*numbers(20))
    job = bench.job(DOUBLE, splits=1, writers=1)
    bench.die_after(job, writes)
    left = found_in(bench, job)
    assert left.is_whole and left.expected.records > 0
    bench.execute(replace(job, attempt=2))
    found = found_in(bench, job)
    assert found.is_whole and found.expected.records >= 20


def test_the_check_of_a_large_journal_reports_its_progress(bench: Bench, job: Job) -> None:
    told: list[str] = []
    moments = iter(range(0, 1000, 20))
    parts = len(files(bench, job))
    check_journal(project_of(bench, told.append), record_of(job), lambda: next(moments))
    assert told[0] == f"checking the journal: 1 of {parts} parts" and len(told) == parts
