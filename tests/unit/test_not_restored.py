"""The passes of an undo over items that wait for a key: their ids, and that each item counts once."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.model.pages import Counts, Totals
from dynamodt.model.runs import Job, JournalSource, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs.undo import next_pass, totals_without_repeats, undo_jobs
from tests.unit.followed_runs import RECORD
from tests.unit.followed_runs import Stage as Stages

STAGE = Stage("test", Connection("us-east-1"), StorageSpec("somewhere"), "state", local=True)
TABLE = TableSpec("users", (KeyAttribute("id", "S"),))


def job(run: str) -> Job:
    script = Script("users", 1, "split", "v1_split.py", "", "")
    return Job(f"{run}/undo2", STAGE, TABLE, script, "up", 4, source=JournalSource(run))


@pytest.mark.parametrize("of", ["RUN/undo2", "RUN/retry1/undo2", "RUN/undo2.3"])
def test_each_pass_has_an_id_and_that_of_the_one_before(of: str) -> None:
    first = replace(job("RUN"), run=of)
    second = next_pass(first, 2)
    third = next_pass(second, 2)
    assert [one.run for one in (second, third)] == [of.replace("undo2", "undo2001"), of.replace("undo2", "undo2002")]
    assert [one.source.waiting for one in (first, second, third)] == ["", of, second.run]  # type: ignore[union-attr]


def test_a_repeated_item_counts_with_its_last_outcome() -> None:
    first = job("RUN")
    again = next_pass(first, 2)
    counts = {first.run: Counts(10, 6, 1, 3), again.run: Counts(2, 1, 0, 1)}

    class Follower:
        totals = Totals(counts[first.run].plus(counts[again.run]))

        def read(self, job: Job) -> int:
            return counts[job.run].read

    follower: Any = Follower()
    assert totals_without_repeats(follower, [first, again]).counts == Counts(10, 7, 1, 2)
    assert totals_without_repeats(follower, [first, again]).counts.balanced


# ---------------------------------------------------------------- a pass with dead letters


def next_undo(*counted: tuple[str, Counts], partly: bool = False, partial_tries: int = 0) -> tuple[int, list[str]]:
    """The try of the run's next undo, and its phases, given the counts of the phases before. The run has one split."""
    stage, of = Stages(), replace(RECORD, status="undoing", splits=1, partial_tries=partial_tries)
    stage.split("01RUN", 0, 100)
    for run, counts in counted:
        rows = stage.state.splits(run)
        rows.checkpoint(rows.claim(0, 1), 1, None, Totals(counts, done=1))
    context: Any = SimpleNamespace(
        stage=STAGE, state=stage.state, options=SimpleNamespace(dry_run=False, max_errors=0), token=3, fences=()
    )
    number, jobs = undo_jobs(context, of, TABLE, None, of.run, partly)
    return number, [job.run for job in jobs]


WAITING = ("01RUN/undo1", Counts(9, 7, 0, 2))


@pytest.mark.parametrize("dead", [("01RUN/undo1001",), ("01RUN/undo1001", "01RUN/undo1002")])
def test_after_a_pass_with_dead_letters_an_undo_makes_a_new_try(dead: tuple[str, ...]) -> None:
    """The pass is complete: repeating it would count the same dead letters for ever."""
    passes = [(run, Counts(2, 1, 0, 1)) for run in dead[:-1]] + [(dead[-1], Counts(2, 1, dead=1))]
    assert next_undo(WAITING, *passes) == (2, ["01RUN/undo2"])


def test_after_a_pass_without_dead_letters_an_undo_continues_the_same_try() -> None:
    assert next_undo(WAITING, ("01RUN/undo1001", Counts(2, 1, 0, 1))) == (1, ["01RUN/undo1"])


@pytest.mark.parametrize(("partly", "partial_tries"), [(True, 0), (True, 1), (False, 1)])
def test_before_and_after_a_partial_try_an_undo_makes_a_new_one(partly: bool, partial_tries: int) -> None:
    assert next_undo(WAITING, partly=partly, partial_tries=partial_tries) == (2, ["01RUN/undo2"])


@pytest.mark.parametrize("partly", [True, False])
def test_a_partial_try_that_has_not_begun_leaves_its_number_to_the_next_one(partly: bool) -> None:
    """`show` and `status` find the tries of an undo by their numbers, without a gap."""
    assert next_undo(partly=partly, partial_tries=1) == (1, ["01RUN/undo1"])
