"""What items tell of writes whose outcome nobody knows."""

from __future__ import annotations

import pytest

from dynamodt.core.codec import encode
from dynamodt.core.diff import change, insert, key_of
from dynamodt.core.doubts import by_source, inserted_keys, shown
from dynamodt.model import Atomic, Change, Image, Insert, Item, KeyAttribute, Remove, TableSpec, Update

THINGS = TableSpec("things", (KeyAttribute("id", "N"),))
READ = {"id": 1, "n": 5}


def key(number: int) -> Image:
    return encode({"id": number})


def update(n: int = 10, read: Item = READ, **more: object) -> Update:
    found = change(THINGS, encode(read), read, {**read, "n": n, **more})
    assert isinstance(found, Update)
    return found


def several(*parts: Update | Insert | Remove) -> Atomic:
    return Atomic(key(1), key(1), parts)


MOVE = several(insert(THINGS, {"id": 2, "n": 5}), Remove(key(1), encode(READ)))
SPLIT = several(update(), insert(THINGS, {"id": 2, "n": 5}))
BESIDE = several(insert(THINGS, {"id": 2, "n": 5}))
MADE, OTHER = {"id": 2, "n": 5}, {"id": 2, "n": "another"}


@pytest.mark.parametrize(
    ("doubt", "items", "found"),
    [
        (update(), [{"id": 1, "n": 10, "note": "his"}], "written"),
        (update(), [{"id": 1, "n": 5, "note": "his"}], "unwritten"),
        (update(), [{"id": 1, "n": 7}], "unclear"),
        (update(), [], "unwritten"),
        (Remove(key(1), encode(READ)), [READ], "unwritten"),
        (Remove(key(1), encode(READ)), [], "written"),
        (insert(THINGS, MADE), [MADE], "written"),
        (insert(THINGS, MADE), [OTHER], "unwritten"),
        (MOVE, [MADE], "written"),
        (MOVE, [READ], "unwritten"),
        (MOVE, [READ, OTHER], "unwritten"),
        (MOVE, [{"id": 1, "n": 7}, MADE], "written"),  # and another has been put under the old key
        (MOVE, [{"id": 1, "n": 7}, OTHER], "unwritten"),
        (MOVE, [READ, MADE], "unwritten"),  # where it was to go the same was already
        (MOVE, [], "unwritten"),  # whether it was moved before it was deleted or not, it is gone
        (MOVE, [OTHER], "unclear"),  # moved and changed, or deleted, and another was there
        (SPLIT, [{"id": 1, "n": 10}, OTHER], "written"),  # it was all or nothing
        (SPLIT, [READ, OTHER], "unwritten"),
        (SPLIT, [{"id": 1, "n": 7}, MADE], "unclear"),
        (SPLIT, [MADE], "written"),
        (SPLIT, [], "unwritten"),
        (BESIDE, [READ, MADE], "written"),
        (BESIDE, [READ, OTHER], "unwritten"),
        (BESIDE, [OTHER], "unclear"),
    ],
)
def test_what_the_items_show(doubt: Change, items: list[Item], found: str) -> None:
    there = {str(key(int(item["id"]))): encode(item) for item in items}
    assert shown(doubt, lambda key: there.get(str(key))) == found


@pytest.mark.parametrize(("mark", "found"), [("run", "written"), ("older", "unwritten")])
def test_a_stamp_tells_whatever_others_have_changed(mark: str, found: str) -> None:
    """An unstamped item that was changed in the same attributes tells nothing."""
    moved = several(insert(THINGS, {**MADE, "by": "run"}), Remove(key(1), encode(READ)))
    changed = encode({"id": 1, "n": 7, "by": mark})
    assert shown(update(by="run"), lambda _: changed, "by") == found
    assert shown(insert(THINGS, {**MADE, "by": "run"}), lambda _: changed, "by") == found
    there = {str(key(2)): encode({"id": 2, "n": 7, "by": mark})}
    assert shown(moved, lambda key: there.get(str(key)), "by") == ("written" if mark == "run" else "unclear")


def test_an_item_s_changes_belong_together_whatever_they_became() -> None:
    remove = Remove(key(1), encode({"id": 1, "n": 6}))
    other = update(read={"id": 7, "n": 1})
    assert by_source([[MOVE, other], [remove]]) == [[MOVE, remove], [other]]


def test_insertions_into_a_target_table_are_told_apart_by_their_sources() -> None:
    """Two items may be made into one, or into the same."""
    one, two = (insert(THINGS, MADE)._replace(source=key(number)) for number in (7, 8))
    assert by_source([[one, two], [two]]) == [[one], [two, two]]


def test_rows_of_one_key_are_told_apart_and_found_again() -> None:
    one, two = insert(THINGS, MADE), insert(THINGS, OTHER)
    assert by_source([[one, two, one], [two, one]]) == [[one, one], [two, two], [one]]


def test_the_keys_that_a_transaction_inserts() -> None:
    assert inserted_keys([MOVE, update(), SPLIT]) == [key(2), key(2)]


def test_the_source_of_a_transaction_is_its_key() -> None:
    assert key_of(THINGS, encode(READ)) == MOVE.key
