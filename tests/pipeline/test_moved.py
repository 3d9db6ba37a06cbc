"""Items that are moved to keys that other items are moved from: the run, its death, and its undo."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from dynamodt.dynamodb.wire import Refusal
from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.pipeline.restoration import COPIED, DELETED, UNCONFIRMED
from dynamodt.script.codec import decode
from tests.fakes import FakeDynamoDB
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import Exporter, by_id
from tests.pipeline.undoing import not_restored_items, repeat_undo, retry_dead_letters, undo_job

MakeBench = Callable[..., Bench]
PAGES = TableSpec("things", (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")))
RENUMBER = """
def transform_up(item):
    return {**item, "sk": item["sk"] - 1}
"""
BEFORE = {1: "x1", 2: "x2", 3: "x3"}
AFTER = {0: "x1", 1: "x2", 2: "x3"}


def texts(bench: Bench) -> dict[int, str]:
    return {int(item["sk"]): str(item["text"]) for item in map(decode, bench.dynamodb.items.values())}


def prepared(make_bench: MakeBench, page_items: int = 50) -> tuple[Bench, Job]:
    """An export of three items of one partition, whose numbers all are to be one less."""
    bench = make_bench(PAGES)
    bench.dynamodb.put(*({"pk": "a", "sk": number, "text": text} for number, text in BEFORE.items()))
    exporter = Exporter(bench)
    job = exporter.job(exporter.export(), RENUMBER)
    return bench, replace(job, page_items=page_items, writers=1, max_errors=9)


@pytest.mark.parametrize("page_items", [1, 2, 50])
def test_an_undo_restores_renumbered_items_to_their_numbers(make_bench: MakeBench, page_items: int) -> None:
    """Each key except the first and the last has lost one item and got another. Within a page, the last item must be
    restored first."""
    bench, job = prepared(make_bench, page_items)
    assert bench.execute(job) == Counts(read=3, changed=3) and texts(bench) == AFTER
    counts = undo_job(bench, job)
    assert texts(bench) == BEFORE and counts.superseded == counts.vanished == counts.dead == 0


def test_an_undo_reports_that_a_moved_item_changed_since_is_there_twice(make_bench: MakeBench) -> None:
    bench, job = prepared(make_bench)
    bench.execute(job)
    bench.dynamodb.put({"pk": "a", "sk": 0, "text": "live"})
    undo_job(bench, job)
    assert texts(bench) == {0: "live", **BEFORE}
    ((number, left),) = not_restored_items(bench, job).items()
    assert (number, left.attributes, left.why) == (0, ("text",), COPIED)


@pytest.mark.parametrize("page_items", [1, 50])
def test_an_undo_that_died_is_repeated(make_bench: MakeBench, page_items: int) -> None:
    bench, job = prepared(make_bench, page_items)
    bench.execute(job)
    for writes in (1, 2, 3):
        left = iter([True] * writes)

        def dies(dynamodb: FakeDynamoDB, left: object = left) -> None:
            if not next(left, False):  # type: ignore[call-overload]
                raise RuntimeError("the machine is lost")

        bench.dynamodb.before_write = dies
        try:
            undo_job(bench, job)
        except Exception as error:
            assert "the machine is lost" in str(error)
        assert set(BEFORE.values()) <= set(texts(bench).values()), "an item is in the journal only"
    bench.dynamodb.before_write = None
    undo_job(bench, job)
    assert texts(bench) == BEFORE


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_completed_move_is_not_repeated_on_the_next_item_at_its_key(make_bench: MakeBench, writes: int) -> None:
    """The next item has been moved to the old key of the moved item."""
    bench, job = prepared(make_bench)
    bench.die_after(job, writes)
    assert bench.execute(replace(job, attempt=2)) == Counts(read=3, changed=3)
    assert texts(bench) == AFTER


EXACT = "from decimal import Decimal\nfrom dynamodt import Put\n\ndef transform_up(item):\n    return "
ELSEWHERE = "Decimal('1.00E+2') * item['id']"


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("{**item, 'id': item['id'] * Decimal('1.0'), 'n': 2}", {1: 2, 2: 2}),
        (f"{{**item, 'id': {ELSEWHERE}, 'n': 2}}", {100: 2, 200: 2}),
        (f"[{{**item, 'id': Decimal(f\"{{item['id']}}.0\"), 'n': 2}}, Put({{'id': {ELSEWHERE}, 'n': 7}})]", None),
    ],
    ids=["update", "move", "fan-out"],
)
def test_a_number_key_is_the_same_key_in_every_notation(bench: Bench, text: str, after: dict[int, int] | None) -> None:
    """`1.0` is the key 1, and `1.00E+2` the key 100: after a death, in a retry of a refused item, and in an undo."""
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 1})
    job = replace(exporter.job(exporter.export(), EXACT + text), max_errors=9, writers=1)
    bench.dynamodb.put({"id": 200, "n": 0})
    bench.die_after(job, 1)
    job = replace(job, attempt=2)
    moved = "1.00E+2" in text
    assert bench.execute(job) == Counts(read=2, changed=2 - moved, dead=moved)
    bench.dynamodb.delete({"id": 200})
    again, counts = retry_dead_letters(bench, job)
    assert counts == Counts(changed=moved, dead=-moved) and by_id(bench) == (after or {1: 2, 2: 2, 100: 7, 200: 7})
    assert {image["id"]["N"] for image in bench.dynamodb.items.values()} <= {"1", "2", "100", "200"}
    for number, one in enumerate((again, job), 8):
        undo_job(bench, replace(one, attempt=number))
    assert by_id(bench) == {1: 1, 2: 1}


SHIFT = """
def transform_up(item):
    return {**item, "n": item["n"] * 10, "id": item["id"] - (item["id"] == 2)}
"""


def test_an_undo_distinguishes_a_moved_item_from_the_updated_one_whose_key_it_took(bench: Bench) -> None:
    """The application deletes the updated item before the other one is moved to its key. The undo of the update leaves
    the moved item, in any order."""
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1, "note": "one"}, {"id": 2, "n": 1, "note": "two"})
    job = replace(exporter.job(exporter.export(), SHIFT), max_errors=9)
    assert bench.execute(job) == Counts(read=2, changed=1, dead=1)
    bench.dynamodb.delete({"id": 1})
    again, _ = retry_dead_letters(bench, job)
    assert bench.items() == [{"id": 1, "n": 10, "note": "two"}]
    assert undo_job(bench, replace(job, attempt=8)) == Counts(read=1, vanished=1)
    assert bench.items() == [{"id": 1, "n": 10, "note": "two"}] and not_restored_items(bench, job)[1].why == DELETED
    undo_job(bench, replace(again, attempt=9))
    assert bench.items() == [{"id": 2, "n": 1, "note": "two"}]


FILLED = """
from dynamodt import Delete

IDEMPOTENT = True

def transform_up(item):
    if "moved" in item:
        return item
    if item["id"] == 1:
        return Delete()
    return {**item, "id": item["id"] - (item["id"] == 2), "moved": True}
"""


def test_an_undo_reports_a_deleted_item_whose_key_the_run_has_filled(bench: Bench) -> None:
    """An idempotent script with a journal: the process dies before the page's end, and the next attempt finds another
    item of the run at the key, which the script leaves unchanged."""
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 2}, {"id": 3, "n": 3})
    job = bench.job(FILLED, splits=1, journal=True, writers=1)
    bench.die_after(job, 2)
    job = replace(job, attempt=2)
    assert bench.execute(job) == Counts(read=3, changed=3) and by_id(bench) == {1: 2, 3: 3}
    undo_job(bench, job)
    assert by_id(bench) == {2: 2, 3: 3} and not_restored_items(bench, job)[1].why == UNCONFIRMED


def test_an_undo_keeps_a_moved_item_whose_old_key_is_taken(make_bench: MakeBench) -> None:
    """The application has put another item at the old key: removing the moved one would lose it."""
    bench, job = prepared(make_bench)
    bench.execute(job)
    bench.dynamodb.put({"pk": "a", "sk": 3, "text": "another"})
    undo_job(bench, job)
    assert texts(bench) == AFTER | {3: "another"}


def test_a_refused_move_that_the_network_repeats_after_the_run_is_undone_completely(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is taken during the run, so that the item is a dead letter; it is free when the network repeats the
    request."""
    bench, job = prepared(make_bench)
    bench.dynamodb.put({"pk": "a", "sk": 0, "text": "another"})
    original, sent = FakeDynamoDB._transactwriteitems, []

    def kept(dynamodb: FakeDynamoDB, request: dict[str, Any]) -> dict[str, Any]:
        sent.append(request)
        return original(dynamodb, request)

    with monkeypatch.context() as patch:
        patch.setattr(FakeDynamoDB, "_transactwriteitems", kept)
        assert bench.execute(job) == Counts(read=3, dead=3)
    bench.dynamodb.items = {key: image for key, image in bench.dynamodb.items.items() if decode(image)["sk"] != 0}
    for request in sent:
        with suppress(Refusal):
            original(bench.dynamodb, request)
    assert texts(bench)[0] == "x1"
    undo_job(bench, job)
    assert texts(bench) == BEFORE


# ---------------------------------------------------------------- between splits, which are undone in no order

TAKES = """
from dynamodt import Delete, Put

def transform_up(item):
    if item["id"] > 1000:
        return item
    return {first} if item["id"] < 100 else {second}
"""
REPLACED = TAKES.format(first="Delete()", second='[{**item, "n": 8}, Put({"id": item["id"] - 100, "n": 7})]')
CHAINED = TAKES.format(first='{**item, "id": item["id"] + 1000}', second='{**item, "id": item["id"] - 100, "n": 9}')


@pytest.mark.parametrize("text", [REPLACED, CHAINED], ids=["replaced", "chained"])
def test_an_item_is_restored_to_a_key_that_another_split_frees(bench: Bench, text: str) -> None:
    """An item is moved, and one of another split is put at its key: whether it is restored first or last depends on the
    order of the splits. With this run id, the splits are undone in the order in which they were written."""
    bench.dynamodb.put(*({"id": number, "n": number} for number in (*range(1, 30), *range(101, 130))))
    before = by_id(bench)
    exporter = Exporter(bench)
    job = replace(exporter.job(exporter.export(), text), max_errors=99, run="20260101T000000.000000Z-000000")
    bench.execute(job)
    first = undo_job(bench, job)
    waiting = not_restored_items(bench, job)
    assert waiting and first.superseded == len(waiting) and first.dead == 0
    assert repeat_undo(bench, job) == Counts(read=len(waiting), changed=len(waiting))
    assert by_id(bench) == before


def test_a_changed_item_is_moved_back_once_another_split_frees_its_key(bench: Bench) -> None:
    """An undo leaves it as it is until then, and a dry run counts it as restored."""
    bench.dynamodb.put(*({"id": number, "n": number} for number in (*range(1, 30), *range(101, 130))))
    before = by_id(bench)
    exporter = Exporter(bench)
    job = replace(exporter.job(exporter.export(), CHAINED), max_errors=99, run="20260101T000000.000000Z-000000")
    bench.execute(job)
    moved = [item for item in bench.items() if item["id"] > 1000]
    bench.dynamodb.put(*({**item, "note": "live"} for item in moved))
    expected = undo_job(bench, job, run="rehearsal/undo1", dry_run=True)
    assert expected.read == expected.changed
    first = undo_job(bench, job)
    waiting = not_restored_items(bench, job)
    assert waiting and first == Counts(expected.read, expected.read - len(waiting), superseded=len(waiting))
    assert repeat_undo(bench, job) == Counts(read=len(waiting), changed=len(waiting)) and by_id(bench) == before
    assert {item["id"] + 1000 for item in bench.items() if "note" in item} == {item["id"] for item in moved}
