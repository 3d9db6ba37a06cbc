"""The recovery of a page whose owner has recorded its intent and died."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.model.pages import Counts
from dynamodt.model.tables import Atomic, Change, Image, Insert, Item
from dynamodt.pipeline.outcomes import WriteResult
from dynamodt.pipeline.write_page import WriteTask
from dynamodt.script.diff import change, insert, key_of, transaction_of
from tests.fakes import FakeDynamoDB
from tests.unit.page_writing import (
    THINGS,
    Apply,
    acts,
    decode,
    double,
    last_step,
    many,
    moved,
    numbered,
    remaining_items,
    removals,
    write_whole_page,
)
from tests.unit.page_writing import page_writer as of

pytestmark = pytest.mark.slow


def recovered(fake: FakeDynamoDB, found: Sequence[Sequence[Change]], apply: Apply | None = double) -> WriteResult:
    task = WriteTask(of(fake, apply))  # type: ignore[arg-type]
    task.recover([list(changes) for changes in found])
    return last_step(task)


def as_journaled(changes: Sequence[Change]) -> list[Change]:
    """A change as it is read from the journal, which has only the key of a transaction's source."""
    return [one._replace(read=one.key) if isinstance(one, Atomic) else one for one in changes]


def beside(image: Image) -> Change | None:
    """A transaction that changes the item and inserts another one."""
    item = decode(image)
    if item["n"] < 0:
        return None
    update = change(THINGS, image, item, {**item, "n": -item["n"]})
    assert update is not None and not isinstance(update, Atomic)
    return transaction_of(key_of(THINGS, image), image, [update, insert(THINGS, {**item, "id": item["id"] + 100})])


def not_restored_at(apply: Apply, sent: int) -> tuple[FakeDynamoDB, list[Change]]:
    """A table of twenty items, the recorded changes of them, and this number of those changes written."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(20))
    changes = [found for image in list(fake.items.values()) if (found := apply(image))]
    of(fake, apply).write(changes[:sent])
    return fake, changes


def act(fake: FakeDynamoDB, done: Sequence[tuple[int, str]]) -> tuple[set[int], dict[int, int]]:
    """The application deletes, and adds notes to, some of the items that are still under their old keys."""
    deleted: set[int] = set()
    notes: dict[int, int] = {}
    for number, what in done:
        item = remaining_items(fake).get(number)
        if item is None:
            continue
        if what == "delete":
            deleted.add(number)
            fake.delete(item)
        else:
            notes[number] = notes.get(number, 0) + 1
            fake.put({**item, "note": notes[number]})
    return deleted, notes


@many
@given(st.integers(0, 20), acts)
def test_items_are_moved_once_at_whatever_point_the_owner_died(sent: int, done: list[tuple[int, str]]) -> None:
    fake, changes = not_restored_at(moved, sent)
    deleted, notes = act(fake, done)
    write_result = recovered(fake, [as_journaled(changes)], moved)
    assert write_result.counts == Counts(changed=20 - len(deleted), vanished=len(deleted))
    there = remaining_items(fake)
    assert there.keys() == {number + 100 for number in range(20)} - {number + 100 for number in deleted}
    assert all(item["n"] == 2 * (key - 99) for key, item in there.items())
    assert all(there[number + 100]["note"] == note for number, note in notes.items() if number not in deleted)


@many
@given(st.integers(0, 20), acts)
def test_items_are_inserted_beside_others_once_at_whatever_point_the_owner_died(
    sent: int, done: list[tuple[int, str]]
) -> None:
    fake, changes = not_restored_at(beside, sent)
    deleted, _ = act(fake, done)
    write_result = recovered(fake, [as_journaled(changes)], beside)
    lost = {number for number in deleted if number >= sent}  # the inserted items show that the others were written
    assert write_result.counts == Counts(changed=20 - len(lost), vanished=len(lost))
    there = remaining_items(fake)
    assert {key for key in there if key >= 100} == {number + 100 for number in range(20) if number not in lost}
    assert {key for key in there if key < 100} == set(range(20)) - deleted
    assert all(item["n"] == -(key + 1) for key, item in there.items() if key < 100)


def test_an_item_deleted_before_the_first_request_is_counted_by_the_next_owner() -> None:
    """A deletion is first read after the intent: otherwise only the dead process would have counted it."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(3))
    changes = [found for image in list(fake.items.values()) if (found := moved(image))]
    fake.delete({"id": 0})
    intended: list[list[Change]] = []

    def dies(fake: FakeDynamoDB) -> None:
        raise RuntimeError("the machine is lost")

    fake.before_write = dies
    with pytest.raises(RuntimeError):
        write_whole_page(of(fake, moved), changes, lambda changes: intended.append(as_journaled(changes)))
    fake.before_write = None
    assert recovered(fake, intended, moved).counts == Counts(changed=2, vanished=1)


@pytest.mark.parametrize("sent", [0, 2, 3])
def test_rows_of_items_are_deleted_at_whatever_point_the_owner_died(sent: int) -> None:
    """The script cannot transform such rows again. A row with a later write of others stays."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(4))
    removes = removals(fake)
    of(fake, double).write(removes[:sent])
    fake.put({"id": 3, "n": 4, "note": "his"})
    write_result = recovered(fake, [removes], None)
    assert write_result.counts == Counts(changed=3, superseded=1)
    assert remaining_items(fake) == {3: {"id": 3, "n": 4, "note": "his"}}


ONE, OTHER = {"id": 9, "n": 1}, {"id": 9, "n": 2}


@pytest.mark.parametrize("there", [[], [ONE], [OTHER]])
def test_of_two_rows_for_one_key_each_is_counted(there: list[Item]) -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put(*there)
    write_result = recovered(fake, [[insert(THINGS, ONE), insert(THINGS, OTHER)]], None)
    assert write_result.counts == (Counts(changed=1, superseded=1) if there else Counts(changed=1, dead=1))
    assert remaining_items(fake) == {9: (there or [ONE])[0]}


@pytest.mark.parametrize("act", ["", "change", "delete"])
def test_a_row_inserted_by_a_previous_owner_is_the_run_s_although_it_was_changed(act: str) -> None:
    """Otherwise an undo would leave it as another writer's."""
    fake = FakeDynamoDB(THINGS)
    of(fake, double).write([insert(THINGS, ONE)])
    if act == "change":
        fake.put({**ONE, "note": "live"})
    elif act == "delete":
        fake.delete(ONE)
    before = remaining_items(fake)
    assert recovered(fake, [[insert(THINGS, ONE)]], None).counts == Counts(changed=1)
    assert remaining_items(fake) == before


def test_the_rest_of_a_transaction_keeps_its_source() -> None:
    """Two items are inserted beside an item, and one of them already exists: the other is recorded alone, and a next
    owner that finds both intents does not count the source twice."""
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 1, "n": 1}, {"id": 2, "n": "another"})
    source = next(iter(fake.items.values()))
    both = transaction_of(
        key_of(THINGS, source), source, [insert(THINGS, {"id": 2, "n": 0}), insert(THINGS, {"id": 3, "n": 0})]
    )
    intended: list[list[Change]] = []
    assert write_whole_page(of(fake, double), [both], lambda changes: intended.append(list(changes))).counts == Counts(
        changed=1
    )
    assert [len(changes) for changes in intended] == [1, 1] and not isinstance(intended[1][0], Insert)
    assert recovered(fake, [as_journaled(changes) for changes in intended]).counts == Counts(changed=1)
