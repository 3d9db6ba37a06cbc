"""Which announced changes are tries of one."""

from __future__ import annotations

from dynamodt.model.tables import Atomic, Image, Insert, Item, KeyAttribute, Remove, TableSpec, Update
from dynamodt.pipeline.conflicts import by_source
from dynamodt.script.codec import encode
from dynamodt.script.diff import change, insert

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
MADE, OTHER = {"id": 2, "n": 5}, {"id": 2, "n": "another"}


def test_an_item_s_changes_belong_together_whatever_they_became() -> None:
    remove = Remove(key(1), encode({"id": 1, "n": 6}))
    other = update(read={"id": 7, "n": 1})
    assert by_source([[MOVE, other], [remove]]) == [[MOVE, remove], [other]]


def test_rows_of_one_key_are_told_apart_and_found_again() -> None:
    one, two = insert(THINGS, MADE), insert(THINGS, OTHER)
    assert by_source([[one, two, one], [two, one]]) == [[one, one], [two, two], [one]]
