"""A version that was applied with dead letters is reverted: their items were not transformed, and are skipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job
from dynamodt.model.tables import Direction
from dynamodt.runs.jobs import new_run, retry_job
from dynamodt.state.object_keys import DEAD, key_of_job
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import by_id

FRAIL = """
def {}(item):
    if item["id"] == 2 and item.get("bad"):
        raise ValueError("a bad one")
    return {{**item, "n": item["n"] * 2}}

def {}(item):
    return {{**item, "n": item["n"] / 2}}
"""


def job_after_dead_letter(bench: Bench, direction: Direction) -> tuple[Job, Counts]:
    """The job of the other direction, after a run with the dead letter of item 2, and the counts of that run."""
    names = ("transform_up", "transform_down")
    text = FRAIL.format(*(names if direction == "up" else reversed(names)))
    bench.dynamodb.put({"id": 1, "n": 4}, {"id": 2, "n": 4, "bad": True}, {"id": 3, "n": 4})
    job = bench.job(text, direction=direction, max_errors=1)
    counts = bench.execute(job)
    parts = tuple((part, None) for part in bench.storage.names(key_of_job(job, DEAD)))
    back: Direction = "down" if direction == "up" else "up"
    return replace(job, run=new_run(), direction=back, attempt=2, untransformed=parts), counts


@pytest.mark.parametrize("direction", ["up", "down"])
def test_the_other_direction_skips_items_that_were_not_transformed(bench: Bench, direction: Direction) -> None:
    job, counts = job_after_dead_letter(bench, direction)
    assert counts == Counts(read=3, changed=2, dead=1)
    assert bench.execute(job) == Counts(read=3, changed=2, unchanged=1)
    assert by_id(bench) == {1: 4, 2: 4, 3: 4}


@pytest.mark.parametrize(("n", "counts"), [(5, Counts(read=3, changed=2, dead=1)), (0, Counts(3, 2, 1))])
def test_a_skipped_item_that_has_changed_is_in_doubt_unless_it_needs_no_change(
    bench: Bench, n: int, counts: Counts
) -> None:
    job, _ = job_after_dead_letter(bench, "up")
    bench.dynamodb.put({"id": 2, "n": n, "bad": True})
    assert bench.execute(job) == counts
    assert by_id(bench) == {1: 4, 2: n, 3: 4}


@pytest.mark.parametrize("in_doubt", ["again", "done"])
def test_an_operator_decides_about_a_skipped_item_that_has_changed(bench: Bench, in_doubt: str) -> None:
    job, _ = job_after_dead_letter(bench, "up")
    bench.dynamodb.put({"id": 2, "n": 10, "bad": True})
    bench.execute(job)
    (part,) = bench.storage.names(key_of_job(job, DEAD))
    assert part.endswith("-doubt.jsonl")
    again = replace(retry_job(job, 1, (part,), confirmed=in_doubt == "done"), attempt=3, earlier=(job.run,))
    bench.execute(again)
    assert by_id(bench)[2] == (5 if in_doubt == "again" else 10)


def test_replaying_some_keys_of_a_part_skips_the_others(bench: Bench) -> None:
    job, _ = job_after_dead_letter(bench, "up")
    parts: Any = tuple((part, ("another key",)) for part, _ in job.untransformed)
    assert bench.execute(replace(job, untransformed=parts)) == Counts(read=3, changed=3)
