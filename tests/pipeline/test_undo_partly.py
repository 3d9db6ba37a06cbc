"""An undo by a journal that lacks parts, or of some attempts only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job, RunRecord
from dynamodt.state.object_keys import is_note, journal_prefix
from dynamodt.state.runs import order_with_phase, write_periods
from tests.fakes import FakeDynamoDB, numbers
from tests.pipeline.conftest import Bench
from tests.pipeline.undoing import DOUBLE, act_once, not_restored_items, undo_job


def files(bench: Bench, job: Job) -> list[Path]:
    return [bench.folder / "storage" / name for name in bench.storage.names(journal_prefix(job))]


def test_a_partial_undo_reverts_complete_pages(bench: Bench) -> None:
    """Four pages of five; of two of them nothing can be read."""
    bench.dynamodb.put(*numbers(20))
    job = bench.job(DOUBLE, splits=1)
    bench.execute(job)
    first, second, *_ = files(bench, job)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    assert undo_job(bench, job, partial=True) == Counts(read=10, changed=10)
    assert sum("twice" in item for item in bench.items()) == 10


def test_a_partial_undo_skips_a_page_that_lacks_a_part(bench: Bench) -> None:
    """The item was changed again after the application's write, which the first part alone would revert."""
    bench.dynamodb.put(*numbers(5))
    job = bench.job(DOUBLE, splits=1)
    bench.dynamodb.before_write = act_once(lambda table: table.put({"id": 1, "n": 10, "twice": False}))
    assert bench.execute(job) == Counts(read=5, changed=5)
    after = bench.items()
    parts = [path for path in files(bench, job) if not is_note(path.name)]
    assert len(parts) == 2
    parts[1].unlink()
    assert undo_job(bench, job, partial=True) == Counts()
    assert bench.items() == after


def test_a_partial_undo_skips_a_page_whose_note_is_missing(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(10))
    job = bench.job(DOUBLE, splits=1)

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "n": 3, "note": "item 1", "twice": True})

    bench.dynamodb.before_write = act_once(application)
    bench.execute(job)
    (note,) = (path for path in files(bench, job) if is_note(path.name))
    note.unlink()
    assert undo_job(bench, job, partial=True) == Counts()
    assert next(item for item in bench.items() if item["id"] == 1)["twice"] is True, "the application's write is lost"


def test_an_undo_of_some_attempts_reverts_only_their_pages(bench: Bench) -> None:
    before = list(numbers(20))
    bench.dynamodb.put(*before)
    job = bench.job(DOUBLE, splits=1, writers=1, attempt=3)
    bench.die_after(job, 2)
    bench.execute(replace(job, attempt=7))
    later = undo_job(bench, job, run=f"{job.run}/undo1.2", attempts=(7, 0), attempt=9)
    assert 0 < later.changed < 20
    assert sum("twice" in item for item in bench.items()) == 20 - later.changed
    assert undo_job(bench, job, attempts=(0, 7), attempt=9).changed == 20 - later.changed
    assert bench.items() == before


@pytest.mark.parametrize("order", [("/retry1", "/incremental1"), ("/incremental1", "/retry1")])
def test_an_undo_keeps_a_write_of_the_application_between_two_phases(bench: Bench, order: tuple[str, str]) -> None:
    """Both phases write the same value: only the later phase may restore the value before it."""
    bench.dynamodb.put({"id": 1, "x": "first"})
    job = bench.job('def transform_up(item):\n    return {**item, "x": "run"}\n', splits=1)
    record = RunRecord(
        "things",
        job.run,
        1,
        "change",
        "up",
        "",
        "succeeded",
        "now",
        splits=1,
        incremental_exports=(1,),
        retries=1,
        journal=True,
    )
    for attempt, phase in enumerate(order, 1):
        bench.execute(replace(job, run=job.run + phase, attempt=attempt))
        record = replace(record, order=order_with_phase(record, job.run + phase, attempt))
        if attempt == 1:
            bench.dynamodb.put({"id": 1, "x": "live"})
    written = [one for one in reversed(write_periods(record)) if any(bench.state.splits(one.run).all(1))]
    for one in written:
        undo_job(bench, replace(job, run=one.run), attempts=(one.since, one.until), attempt=9)
    assert bench.items() == [{"id": 1, "x": "live"}]


def test_a_partly_restored_item_counts_as_such_in_each_repetition(bench: Bench) -> None:
    """An undo that died after the write counts it, too."""
    bench.dynamodb.put(*numbers(3))
    job = bench.job(DOUBLE, splits=1)
    bench.execute(job)
    bench.dynamodb.put({"id": 1, "n": 2, "twice": False}, {"id": 2, "n": 7, "twice": False})
    undo_job(bench, job)
    assert {key: item.restored for key, item in not_restored_items(bench, job).items()} == {1: ("n",), 2: ()}
    undo_job(bench, job, run=f"{job.run}/undo2")
    again = not_restored_items(bench, job, 2)
    assert {key: item.restored for key, item in again.items()} == {1: ("n",), 2: ()}
