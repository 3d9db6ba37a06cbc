"""The evidence of items and rows about writes of unknown outcome."""

from __future__ import annotations

import pytest

from dynamodt.dynamodb.inserted_rows import InsertedRow
from dynamodt.model.tables import Atomic, Change, Check, Image, Insert, Item, KeyAttribute, Remove, TableSpec, Update
from dynamodt.pipeline.conflicts import (
    Collision,
    CurrentItems,
    Resolved,
    SendAgain,
    TransformAgain,
    Unclear,
    changes_by_source,
    evidence_of,
    judge_refusal,
)
from dynamodt.script.codec import encode, image_digest, key_text
from dynamodt.script.diff import change, insert, transaction_digest

THINGS = TableSpec("things", (KeyAttribute("id", "N"),))
READ = {"id": 1, "n": 5}
MADE, OTHER = {"id": 2, "n": 5}, {"id": 2, "n": "another"}


def key(number: int) -> Image:
    return encode({"id": number})


def update(n: int = 10, read: Item = READ, **more: object) -> Update:
    found = change(THINGS, encode(read), read, {**read, "n": n, **more})
    assert isinstance(found, Update)
    return found


def several(*parts: Update | Insert | Remove | Check) -> Atomic:
    return Atomic(key(1), encode(READ), parts)


REMOVE = Remove(key(1), encode(READ))
MOVE = several(insert(THINGS, MADE), REMOVE)
LAST = {"id": 3, "n": 5}
FREED = {"id": 1, "n": 9}
PARTED = several(insert(THINGS, MADE), insert(THINGS, LAST), REMOVE)
SPLIT = several(update(), insert(THINGS, MADE))
BESIDE = several(Check(key(1), encode(READ)), insert(THINGS, MADE))
INTO = several(update(read=READ, n=5, note="kept"), insert(THINGS, MADE))


def row(item: Item, source: int | None = 1, of: Atomic | None = None) -> dict[str, InsertedRow]:
    made = transaction_digest(of, "") if of else ""
    made_of = None if source is None else key(source)
    return {key_text(key(int(item["id"]))): InsertedRow(made_of, image_digest(encode(item)), made)}


def current(
    items: list[Item], rows: dict[str, InsertedRow] | None = None, meets_insertions: bool = False
) -> CurrentItems:
    there = {key_text(key(int(item["id"]))): encode(item) for item in items}
    return CurrentItems(there, there, rows or {}, meets_insertions)


@pytest.mark.parametrize(
    ("doubt", "items", "rows", "found"),
    [
        (update(), [{"id": 1, "n": 10, "note": "live"}], {}, "written"),
        (update(), [{"id": 1, "n": 5, "note": "live"}], {}, "unwritten"),
        (update(), [{"id": 1, "n": 7}], {}, "unclear"),
        (update(), [], {}, "unwritten"),
        (REMOVE, [READ], {}, "unwritten"),
        (REMOVE, [], {}, "gone"),
        (REMOVE, [FREED], row(FREED, 9), "gone"),  # its key was free for another one
        (REMOVE, [{"id": 1, "n": 8}], row(FREED, 9), "unclear"),  # that one, changed since, or the one that was read
        (REMOVE, [READ], row(READ, 9), "unwritten"),  # the one that was read is that one
        (MOVE, [MADE], row(MADE, of=MOVE), "written"),
        (MOVE, [], row(MADE, of=MOVE), "written"),  # and deleted since
        (MOVE, [OTHER], row(MADE, of=MOVE), "written"),  # and changed since
        (MOVE, [MADE], {}, "unwritten"),  # written by the application
        (MOVE, [MADE], row(MADE, 7), "unwritten"),  # it was made of another
        (MOVE, [MADE], row(OTHER), "unwritten"),  # of an earlier state of this one
        (MOVE, [], {}, "unwritten"),
        (SPLIT, [{"id": 1, "n": 7}, OTHER], row(MADE, of=SPLIT), "written"),  # all of it or nothing
        (SPLIT, [{"id": 1, "n": 7}, MADE], row(MADE), "unwritten"),  # of another transaction with the insertion
        (SPLIT, [READ, MADE], row(MADE), "unwritten"),  # of an earlier transaction for the same item
        (SPLIT, [READ, MADE], row(MADE, of=SPLIT), "written"),  # and set back by the application
        (SPLIT, [READ], {}, "unwritten"),
        (BESIDE, [READ, OTHER], row(MADE, of=BESIDE), "written"),
        (BESIDE, [READ, MADE], {}, "unwritten"),
    ],
)
def test_the_evidence_of_the_present_item(
    doubt: Change, items: list[Item], rows: dict[str, InsertedRow], found: str
) -> None:
    assert evidence_of(doubt, current(items, rows)) == found


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"id": 1, "n": 7, "by": "run"}, "written"),  # whatever others have changed
        ({"id": 1, "n": 7}, "unclear"),  # put back by an application that does not know the stamp
        ({"id": 1, "n": 10}, "unclear"),
        ({"id": 1, "n": 5}, "unwritten"),
        ({"id": 1, "n": 5, "by": "older"}, "unwritten"),
        *(({"id": 1, "n": 7, "by": edited}, "unclear") for edited in ("another", 7, None, ["run"])),
    ],
)
def test_a_missing_or_edited_stamp_is_no_evidence_by_itself(item: Item, found: str) -> None:
    assert evidence_of(update(by="run"), current([item]), stamp="by") == found


def test_a_change_without_a_stamp_is_recognized_by_its_values() -> None:
    assert evidence_of(update(), current([{"id": 1, "n": 10}]), stamp="by") == "written"  # of a script without one


def test_an_equal_transaction_of_an_earlier_phase_is_another_one() -> None:
    rows = row(MADE, of=SPLIT)
    assert evidence_of(SPLIT, current([READ], rows)._replace(phase="run/retry1")) == "unwritten"


@pytest.mark.parametrize(
    ("refused", "items", "rows", "found"),
    [
        (update(), [{"id": 1, "n": 7}], {}, TransformAgain(encode({"id": 1, "n": 7}))),
        (update(), [], {}, Resolved("vanished")),
        (MOVE, [READ], {}, SendAgain(MOVE)),  # it met another transaction
        (MOVE, [READ, MADE], {}, SendAgain(REMOVE)),
        (MOVE, [READ, OTHER], {}, Collision(insert(THINGS, MADE), None, own=False)),
        (MOVE, [READ, OTHER], row(OTHER, 7), Collision(insert(THINGS, MADE), key(7), own=True)),
        (MOVE, [READ], row(OTHER, 7), Collision(insert(THINGS, MADE), key(7), own=True)),  # deleted since
        (MOVE, [READ], row(OTHER), Collision(insert(THINGS, MADE), key(1), own=True)),  # it was moved before
        (MOVE, [READ, MADE], row(MADE, 7), Collision(insert(THINGS, MADE), key(7), own=True)),  # two would become one
        (MOVE, [READ], row(MADE, 7), Collision(insert(THINGS, MADE), key(7), own=True)),  # and that one is gone
        (MOVE, [READ, MADE], row(MADE), SendAgain(REMOVE)),  # an earlier attempt has written it
        (PARTED, [READ, MADE], row(MADE, 7), SendAgain(several(*PARTED.parts[1:]))),  # one part is its own
        (PARTED, [READ, MADE, LAST], {**row(MADE, 7), **row(LAST)}, SendAgain(REMOVE)),
        (PARTED, [READ, MADE, LAST], row(MADE, 7), SendAgain(REMOVE)),
        (MOVE, [OTHER], {}, Resolved("vanished")),
        (SPLIT, [READ, MADE], row(MADE, 7), SendAgain(update())),  # its item stays
        (SPLIT, [READ, OTHER], {}, Collision(insert(THINGS, MADE), None, own=False)),
        (SPLIT, [READ, MADE], {}, SendAgain(update())),
        (INTO, [READ, OTHER], {}, SendAgain(INTO.parts[0])),  # it loses nothing
        (BESIDE, [READ, OTHER], {}, Resolved("superseded")),
        (BESIDE, [READ, MADE], {}, Resolved("unchanged")),
        (BESIDE, [READ, OTHER], row(MADE), Resolved("unchanged")),  # an earlier attempt has written it
        (BESIDE, [READ, OTHER], row(OTHER), Resolved("superseded")),  # of an earlier state: it needs no second one
        (BESIDE, [READ, OTHER], row(OTHER, 7), Collision(insert(THINGS, MADE), key(7), own=True)),
        (BESIDE, [READ, MADE], row(MADE, 7), Resolved("unchanged")),  # two items ask for the same
        (insert(THINGS, MADE), [MADE], {}, Resolved("unchanged")),
        (insert(THINGS, MADE), [OTHER], {}, Resolved("superseded")),
        (insert(THINGS, MADE), [], {}, SendAgain(insert(THINGS, MADE))),
        (insert(THINGS, MADE), [OTHER], row(MADE, None), Resolved("unchanged")),
        (insert(THINGS, MADE), [], row(MADE, None), Resolved("unchanged")),  # and deleted since
        (insert(THINGS, MADE), [OTHER], row(OTHER, None), Collision(insert(THINGS, MADE), None, own=True)),
    ],
)
def test_the_judgement_of_a_refused_change(
    refused: Change, items: list[Item], rows: dict[str, InsertedRow], found: object
) -> None:
    assert judge_refusal(refused, [], current(items, rows)) == found


@pytest.mark.parametrize(
    ("doubts", "items", "rows", "found"),
    [
        ([update()], [{"id": 1, "n": 10}], {}, Resolved("changed")),
        ([update()], [{"id": 1, "n": 7}], {}, Unclear(encode({"id": 1, "n": 7}))),
        ([REMOVE], [], {}, Resolved("changed", unconfirmed=True)),
        ([REMOVE], [READ], {}, TransformAgain(encode(READ))),
        ([REMOVE], [{"id": 1, "n": 7}], {}, TransformAgain(encode({"id": 1, "n": 7}), replaced=True)),
        ([MOVE], [], {}, Resolved("vanished")),
        ([MOVE], [], row(MADE, of=MOVE), Resolved("changed")),
        ([MOVE], [{"id": 1, "n": 7}], {}, TransformAgain(encode({"id": 1, "n": 7}))),
        ([insert(THINGS, MADE)], [], row(MADE, None), Resolved("changed")),
    ],
)
def test_the_judgement_of_a_change_in_doubt(
    doubts: list[Change], items: list[Item], rows: dict[str, InsertedRow], found: object
) -> None:
    assert judge_refusal(doubts[-1], doubts, current(items, rows)) == found


@pytest.mark.parametrize("refused", [update(), REMOVE, MOVE, BESIDE])
def test_an_item_that_the_run_has_put_there_is_not_the_source(refused: Change) -> None:
    rows = row({"id": 1, "n": 5}, 9)
    assert judge_refusal(refused, [], current([READ], rows, meets_insertions=True)) == Resolved("vanished")
    assert judge_refusal(refused, [], current([], rows, meets_insertions=True), known=encode(READ)) == Resolved(
        "vanished"
    )


# ---------------------------------------------------------------- which recorded changes are tries of one


def test_changes_of_one_item_are_grouped_by_their_source() -> None:
    remove = Remove(key(1), encode({"id": 1, "n": 6}))
    other = update(read={"id": 7, "n": 1})
    assert changes_by_source([[MOVE, other], [remove]]) == [[MOVE, remove], [other]]


def test_different_rows_of_one_key_are_distinguished_and_equal_ones_grouped() -> None:
    one, two = insert(THINGS, MADE), insert(THINGS, OTHER)
    assert changes_by_source([[one, two, one], [two, one]]) == [[one, one], [two, two], [one]]
