"""An idempotent script with a journal: an undo can use the journal, and a page that an attempt has left is
recovered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.model.runs import Job
from dynamodt.model.tables import Insert, Remove
from dynamodt.script.diff import parts_of
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import is_note, journal_prefix
from dynamodt.state.split_rows import SplitRows
from tests.fakes import numbers
from tests.pipeline.conftest import Bench
from tests.pipeline.undoing import undo_job

# Each item moves to another key, as one transaction: two changes in the journal, one item in the balance.
MOVE = """
IDEMPOTENT = True

def transform_up(item):
    return item if item["id"] >= 100 else {**item, "id": item["id"] + 100}
"""
MARK = 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "seen": True}\n'


def journaled(bench: Bench, job: Job) -> list[object]:
    journal = Journal(bench.storage, job.table, journal_prefix(job))
    names = [name for name in bench.storage.names(journal_prefix(job)) if not is_note(name)]
    return [part for name in names for change in journal.intended(name) for part in parts_of(change)]


@pytest.mark.parametrize("journal", [False, True])
def test_an_idempotent_script_is_journaled_on_request(bench: Bench, journal: bool) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(MARK, journal=journal)
    assert bench.execute(job).changed == 12
    assert len(journaled(bench, job)) == (12 if journal else 0)


def test_a_script_that_is_not_idempotent_is_always_journaled(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(MARK.replace("IDEMPOTENT = True\n", ""))
    bench.execute(job)
    assert len(journaled(bench, job)) == 12


@pytest.mark.parametrize("writes", [1, 2, 4, 7])
def test_a_run_that_died_between_intent_and_checkpoint_keeps_its_balance(bench: Bench, writes: int) -> None:
    bench.dynamodb.put(*numbers(12))
    first = bench.job(MOVE, journal=True, writers=1)
    bench.die_after(first, writes)
    assert any(claim.intent for claim in bench.state.splits(first.run).all(first.splits))
    counts = bench.execute(replace(first, attempt=2))  # asserts the balance
    assert counts.dead == 0 and {item["id"] for item in bench.items()} == set(range(100, 112))
    changes = journaled(bench, first)
    assert {str(change.key) for change in changes if isinstance(change, Remove)} == {
        str({"id": {"N": str(number)}}) for number in range(12)
    }
    assert any(isinstance(change, Insert) for change in changes)


@pytest.mark.parametrize("writes", [1, 2])
def test_an_undo_takes_back_a_page_whose_checkpoint_was_overtaken(
    bench: Bench, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The intent of the next page arrives before the checkpoint, and the process dies in between: both pages may be
    written, and the next attempt finds nothing to change in them."""
    before = list(numbers(24))
    bench.dynamodb.put(*before)
    job = bench.job(MARK, journal=True, splits=1, page_items=2)
    with monkeypatch.context() as patched:
        patched.setattr(SplitRows, "checkpoint", lambda *arguments, **options: None)
        bench.die_after(job, writes)
    bench.execute(replace(job, attempt=2))
    assert undo_job(bench, replace(job, attempt=3)).changed == 24
    assert bench.items() == before
