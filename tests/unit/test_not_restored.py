"""The passes of an undo over what waits for a key: their ids, and that each item counts once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodt.model.pages import Counts, Totals
from dynamodt.model.runs import Job, JournalSource, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs.not_restored import next_pass, once_each

STAGE = Stage("test", Connection("us-east-1"), StorageSpec("somewhere"), "state", local=True)
TABLE = TableSpec("users", (KeyAttribute("id", "S"),))


def job(run: str) -> Job:
    script = Script("users", 1, "split", "v1_split.py", "", "")
    return Job(f"{run}/undo2", STAGE, TABLE, script, "up", 4, source=JournalSource(run))


@pytest.mark.parametrize("of", ["RUN/undo2", "RUN/retry1/undo2", "RUN/undo2.3"])
def test_a_pass_has_an_id_of_its_own_and_knows_the_one_before(of: str) -> None:
    first = replace(job("RUN"), run=of)
    second = next_pass(first, 2)
    third = next_pass(second, 2)
    assert [one.run for one in (second, third)] == [of.replace("undo2", "undo2001"), of.replace("undo2", "undo2002")]
    assert [one.source.waiting for one in (first, second, third)] == ["", of, second.run]  # type: ignore[union-attr]


def test_what_was_done_again_counts_as_in_the_last_pass() -> None:
    first = job("RUN")
    again = next_pass(first, 2)
    counts = {first.run: Counts(10, 6, 1, 3), again.run: Counts(2, 1, 0, 1)}

    class Follower:
        totals = Totals(counts[first.run].plus(counts[again.run]))

        def read(self, job: Job) -> int:
            return counts[job.run].read

    follower: Any = Follower()
    assert once_each(follower, [first, again]).counts == Counts(10, 7, 1, 2)
    assert once_each(follower, [first, again]).counts.balanced
