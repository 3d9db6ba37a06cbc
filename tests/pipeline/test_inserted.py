"""A run reads keys that it has inserted itself: it never mistakes its own output for the application's items."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.model.pages import Claim, Counts, Totals
from dynamodt.model.runs import Job
from dynamodt.model.tables import Cursor, KeyAttribute, TableSpec
from dynamodt.pipeline.migrate import migrate
from dynamodt.runs.jobs import retry_job
from dynamodt.script.codec import decode
from dynamodt.state.object_keys import DEAD, key_of_job
from dynamodt.state.split_rows import SplitRows
from tests.fakes import FakeDynamoDB
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import Exporter, by_id
from tests.pipeline.undoing import not_restored_items, repeat_undo, undo_job

DOWN_ONE = """
from dynamodt import Delete

def transform_up(item):
    if item.get("obsolete"):
        return Delete()
    return {**item, "id": item["id"] - 1, "n": item["n"] * 2}
"""
BESIDE = """
from dynamodt import Put

def transform_up(item):
    if item["id"] >= 100:
        return {**item, "n": item["n"] * 2}
    return [item, Put({"id": item["id"] + 100, "n": item["n"]})]
"""
DOUBLE_UNLESS_BAD = """
def transform_up(item):
    if item.get("bad"):
        raise ValueError("bad")
    return {**item, "n": item["n"] * 2}
"""
INTO_OTHER = """
TARGET_TABLE = "others"
def transform_up(item):
    return {"name": str(item["name"]), "n": item["n"]}
"""
OTHERS = TableSpec("others", (KeyAttribute("name", "S"),))


@pytest.fixture
def exporter(bench: Bench) -> Exporter:
    return Exporter(bench)


def retry_dead_letters(bench: Bench, job: Job, number: int = 1) -> Counts:
    """Replays the dead letters of a phase."""
    again = retry_job(replace(job, attempt=job.attempt + 1), number, tuple(bench.storage.names(key_of_job(job, DEAD))))
    bench.state.lease(again)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        migrate(pipeline, again, bench.resources)
    return bench.state.splits(again.run).totals(1).counts


def act_at_request(act: Callable[[FakeDynamoDB], None], call: int = 1) -> Callable[[FakeDynamoDB], None]:
    """The application acts before the write request of this number."""
    left = iter(range(1, call + 1))

    def before(table: FakeDynamoDB) -> None:
        if next(left, 0) == call:
            act(table)

    return before


# ---------------------------------------------------------------- freed keys


def test_an_item_moved_to_a_freed_key_is_moved_once(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*({"id": n, "n": 1} for n in (11, 21, 31, 10, 20, 30)))
    job = exporter.job(exporter.export(), DOWN_ONE)
    bench.dynamodb.delete({"id": 10})
    bench.dynamodb.delete({"id": 20})
    bench.dynamodb.delete({"id": 30})
    assert bench.execute(job) == Counts(read=6, changed=3, vanished=3)
    assert by_id(bench) == {10: 2, 20: 2, 30: 2}


def test_a_dead_letter_of_a_freed_key_is_replayed_as_vanished(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put({"id": 11, "n": 1}, {"id": 10, "n": "no number"})
    job = exporter.job(exporter.export(), DOWN_ONE.replace('"n": item["n"]', '"n": int(item["n"])'), final_scan=False)
    bench.dynamodb.delete({"id": 10})
    assert bench.execute(replace(job, max_errors=1)) == Counts(read=2, changed=1, dead=1)
    assert by_id(bench) == {10: 2}
    assert retry_dead_letters(bench, job) == Counts(vanished=1, dead=-1)
    assert by_id(bench) == {10: 2}


SHIFTED = """
def transform_up(item):
    return {**item, "id": item["id"] - 10}
"""


@pytest.mark.parametrize("first", range(5))
def test_of_items_that_differ_only_by_their_keys_none_is_lost(bench: Bench, exporter: Exporter, first: int) -> None:
    """An item's new key may have an equal item, which the run moves away in turn."""
    before = {first + n: 1 for n in range(0, 120, 10)}
    bench.dynamodb.put(*({"id": number, "n": n} for number, n in before.items()))
    job = replace(exporter.job(exporter.export(), SHIFTED), max_errors=20)
    counts = bench.execute(job)
    assert counts.changed + counts.dead == len(by_id(bench)) == len(before)
    undo_job(bench, replace(job, attempt=9))
    waiting = not_restored_items(bench, job)
    assert len(by_id(bench)) + len(waiting) >= len(before)
    if waiting:
        repeat_undo(bench, replace(job, attempt=9))
        waiting = not_restored_items(bench, job, 2)
    assert by_id(bench) == before or waiting
    assert len(by_id(bench)) + len(waiting) >= len(before)


def test_an_item_is_merged_with_an_equal_one_that_the_version_leaves_as_it_is(bench: Bench, exporter: Exporter) -> None:
    """The application has written the new item already."""
    bench.dynamodb.put({"id": 11, "n": 1}, {"id": 1, "n": 1})
    script = 'def transform_up(item):\n    return {**item, "id": item["id"] % 10}\n'
    job = exporter.job(exporter.export(), script)
    assert bench.execute(job) == Counts(read=2, changed=1, unchanged=1)
    assert by_id(bench) == {1: 1}


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_deletion_does_not_delete_an_item_that_the_run_has_moved_to_its_key(
    bench: Bench,
    exporter: Exporter,
    writes: int,
) -> None:
    """The process dies at any point before the page's checkpoint."""
    bench.dynamodb.put({"id": 1, "n": 1, "obsolete": True}, {"id": 2, "n": 1})
    job = replace(exporter.job(exporter.export(), DOWN_ONE), splits=4, writers=1, max_errors=9)
    bench.die_after(job, writes) if writes < 2 else checkpoint_lost(bench, job)
    bench.execute(replace(job, attempt=2, max_errors=9))
    assert items_after_retry(bench, job) == {1: 2}
    if any("/retry1/journal" in name for name in bench.storage.names("runs/")):
        undo_job(bench, replace(job, run=f"{job.run}/retry1", splits=1, attempt=8))
    undo_job(bench, replace(job, attempt=9))
    there = by_id(bench)
    assert there[2] == 1 and there.get(1) in (None, 1)
    assert 1 in there or 1 in not_restored_items(bench, job), "not restored, and not reported"


def checkpoint_lost(bench: Bench, job: Job) -> None:
    """The process dies before it records the first page that has written an item."""
    original = SplitRows.checkpoint

    def dies(self: SplitRows, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, **how: Any) -> None:
        if totals.counts.changed:
            raise RuntimeError("the machine is lost")
        original(self, claim, page, cursor, totals, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SplitRows, "checkpoint", dies)
        with pytest.raises(Exception, match="the machine is lost"):
            bench.execute(job)


def items_after_retry(bench: Bench, job: Job) -> dict[int, int]:
    """The items by id, after a retry if there are dead letters: items whose new key was not free."""
    if any(bench.storage.names(key_of_job(job, DEAD))):
        retry_dead_letters(bench, replace(job, attempt=2))
    return by_id(bench)


# ---------------------------------------------------------------- insertions in doubt


@pytest.mark.parametrize("act", ["change", "delete"])
def test_an_insertion_in_doubt_counts_as_the_run_s_although_the_application_changed_it(
    bench: Bench,
    exporter: Exporter,
    act: str,
) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    export = exporter.export()
    job = exporter.job(export, BESIDE)
    bench.dynamodb.faults.append("reset")  # 101 is inserted, the answer is lost

    def application(table: FakeDynamoDB) -> None:
        assert table.get({"id": 101}) is not None
        table.delete({"id": 101})
        if act == "change":
            table.put({"id": 101, "n": 1, "note": "live"})

    bench.dynamodb.before_write = act_at_request(application, call=2)
    bench.dynamodb.tokens = Forgetful()  # type: ignore[assignment]
    assert bench.execute(job) == Counts(read=1, changed=1)
    bench.dynamodb.before_write = None
    there = bench.items()
    assert bench.execute(exporter.window(job, 1, exporter.export(export))) == Counts()
    assert bench.items() == there
    counts = undo_job(bench, job)
    assert bench.items() == there and counts.changed == 0
    assert (101 in not_restored_items(bench, job)) is (act == "change")


class Forgetful(set[str]):
    """The service keeps a transaction's token for ten minutes."""

    def add(self, token: str) -> None: ...


# ---------------------------------------------------------------- windows and retries


def test_a_later_incremental_export_skips_items_that_a_retry_has_written(
    bench: Bench,
    exporter: Exporter,
) -> None:
    """The item is a dead letter, is deleted during the first incremental export, then created again and retried. The
    second incremental export shows it as created."""
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 1, "bad": True})
    full = exporter.export()
    job = exporter.job(full, DOUBLE_UNLESS_BAD)
    assert bench.execute(replace(job, max_errors=1)) == Counts(read=2, changed=1, dead=1)
    bench.dynamodb.delete({"id": 2})
    first = exporter.export(full)
    assert bench.execute(exporter.window(job, 1, first)) == Counts()
    bench.dynamodb.put({"id": 2, "n": 5})
    assert retry_dead_letters(bench, job) == Counts(changed=1, dead=-1)
    assert by_id(bench) == {1: 2, 2: 10}
    bench.dynamodb.put({"id": 2, "n": 10, "note": "live"}, {"id": 3, "n": 7})
    window = replace(exporter.window(job, 2, exporter.export(first)), earlier=(f"{job.run}/retry1",))
    assert bench.execute(window) == Counts(read=2, changed=1, unchanged=1)
    assert by_id(bench) == {1: 2, 2: 10, 3: 14}


def test_an_item_that_a_retry_may_have_written_is_a_dead_letter_in_a_later_incremental_export(
    bench: Bench,
    exporter: Exporter,
) -> None:
    bench.dynamodb.put({"id": 2, "n": 1, "bad": True})
    full = exporter.export()
    job = exporter.job(full, DOUBLE_UNLESS_BAD)
    bench.execute(replace(job, max_errors=1))
    bench.dynamodb.delete({"id": 2})
    first = exporter.export(full)
    bench.execute(exporter.window(job, 1, first))
    bench.dynamodb.put({"id": 2, "n": 5})
    retry_dead_letters(bench, job)
    bench.dynamodb.put({"id": 2, "n": 11})  # counted up, or set anew
    window = replace(exporter.window(job, 2, exporter.export(first)), earlier=(f"{job.run}/retry1",), max_errors=1)
    assert bench.execute(window) == Counts(read=1, dead=1)
    assert by_id(bench) == {2: 11}
    (name,) = bench.storage.names(key_of_job(window, DEAD))
    assert name.endswith("-doubt.jsonl")
    assert json.loads(bench.storage.read(name) or b"")["step"] == "doubt"


# ---------------------------------------------------------------- another table


def into_others(bench: Bench, **changes: object) -> Job:
    bench.dynamodb.keys["others"] = ("name",)
    return replace(bench.job(INTO_OTHER, splits=1, max_errors=9), target=OTHERS, **changes)  # type: ignore[arg-type]


def others(bench: Bench) -> dict[str, int]:
    items = map(decode, bench.dynamodb.others.get("others", {}).values())
    return {item["name"]: int(item["n"]) for item in items}


def test_of_two_items_for_one_key_of_a_target_one_is_a_dead_letter_that_names_both(bench: Bench) -> None:
    bench.dynamodb.put(
        {"id": 1, "name": "ann", "n": 1}, {"id": 2, "name": "ann", "n": 2}, {"id": 3, "name": "bo", "n": 3}
    )
    assert bench.execute(into_others(bench)) == Counts(read=3, changed=2, dead=1)
    assert others(bench) == {"ann": 1, "bo": 3}
    (line,) = bench.dead_letters()
    assert "two items are for the key name = 'ann': id = '1' and id = '2'" in json.loads(line)["error"]


MERGED = """
from dynamodt import Put

def transform_up(item):
    one = {"id": 100, "n": item["n"]}
    return one if item["id"] < 50 else [item, Put(one)]
"""


@pytest.mark.parametrize("page_items", [1, 9])
def test_of_two_items_that_move_to_one_key_one_stays_and_is_a_dead_letter_that_names_both(
    bench: Bench, exporter: Exporter, page_items: int
) -> None:
    """Their results are equal: nothing would show that there were two items."""
    bench.dynamodb.put({"id": 1, "n": 5}, {"id": 2, "n": 5})
    job = replace(exporter.job(exporter.export(), MERGED), max_errors=9, page_items=page_items)
    assert bench.execute(job) == Counts(read=2, changed=1, dead=1)
    assert by_id(bench) in ({1: 5, 100: 5}, {2: 5, 100: 5})
    (line,) = bench.dead_letters()
    assert "two items are for the key id = '100': id = '" in json.loads(line)["error"]
    retry_dead_letters(bench, job)
    assert by_id(bench) in ({1: 5, 100: 5}, {2: 5, 100: 5})


def test_items_that_stay_may_add_one_equal_item(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put({"id": 51, "n": 5}, {"id": 52, "n": 5})
    job = exporter.job(exporter.export(), MERGED)
    assert bench.execute(job) == Counts(read=2, changed=1, unchanged=1)
    assert by_id(bench) == {51: 5, 52: 5, 100: 5}


@pytest.mark.parametrize("act", ["delete", "change"])
def test_a_target_gets_the_result_of_the_present_source(bench: Bench, act: str) -> None:
    bench.dynamodb.put({"id": 1, "name": "ann", "n": 1})

    def application(table: FakeDynamoDB) -> None:
        table.delete({"id": 1})
        if act == "change":
            table.put({"id": 1, "name": "ann", "n": 5})

    bench.dynamodb.before_write = act_at_request(application)
    counts = bench.execute(into_others(bench))
    assert counts == (Counts(read=1, vanished=1) if act == "delete" else Counts(read=1, changed=1))
    assert others(bench) == ({} if act == "delete" else {"ann": 5})


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_items_of_a_target_are_inserted_once_at_whatever_point_the_run_died(bench: Bench, writes: int) -> None:
    bench.dynamodb.put(*({"id": n, "name": f"u{n}", "n": n} for n in range(3)))
    job = into_others(bench)
    bench.die_after(job, writes)
    written = dict(others(bench))
    for name in written:  # the application goes on with what is there
        del bench.dynamodb.others["others"][bench.dynamodb._text({"name": {"S": name}}, "others")]
    assert bench.execute(replace(job, attempt=2)) == Counts(read=3, changed=3)
    assert others(bench).keys() == {"u0", "u1", "u2"} - written.keys()  # a deleted item stays deleted


# ---------------------------------------------------------------- what insertions are made of

KEY_BESIDE = """
from dynamodt import Put

def transform_up(item):
    return [item, Put({"id": item["id"] + 100})]
"""
KEY_MOVED = """
def transform_up(item):
    return {**item, "id": item["id"] + 100}
"""
SUM_BESIDE = """
from dynamodt import Put
%s
def transform_up(item):
    return [{**item, "done": True}, Put({"id": item["id"] + 100, "n": item["n"] + item.get("more", 0)})]
"""


@pytest.mark.parametrize("text", [KEY_BESIDE, KEY_MOVED])
def test_results_of_items_with_only_key_attributes_are_sent_after_a_death(
    bench: Bench,
    exporter: Exporter,
    text: str,
) -> None:
    """The journal has no image of such an insertion's source, which must not be mistaken for an image with only a
    key."""
    bench.dynamodb.put({"id": 1}, {"id": 2})
    job = exporter.job(exporter.export(), text)
    bench.die_after(job, 0)
    assert bench.execute(replace(job, attempt=2)) == Counts(read=2, changed=2)
    assert {101, 102} <= {int(item["id"]) for item in bench.items()}


@pytest.mark.parametrize(
    ("guard", "n", "more"),
    [("", 1, {"more": 5}), ('GUARD = "changed"', 1, {"more": 5}), ('GUARD = "changed"', 6, {})],
)
def test_an_inserted_item_is_made_from_the_present_source(
    bench: Bench,
    exporter: Exporter,
    guard: str,
    n: int,
    more: dict[str, int],
) -> None:
    """The guard does not contain an attribute that the application has added since the read."""
    bench.dynamodb.put({"id": 1, "n": 1})
    job = exporter.job(exporter.export(), SUM_BESIDE % guard)
    bench.dynamodb.delete({"id": 1})
    bench.dynamodb.put({"id": 1, "n": n, **more})
    assert bench.execute(job) == Counts(read=1, changed=1)
    assert by_id(bench) == {1: n, 101: 6}


def test_a_target_gets_attributes_that_were_added_after_the_export(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put({"id": 1, "name": "ann", "n": 1})
    text = INTO_OTHER.replace('item["n"]}', 'item["n"] + item.get("more", 0)}')
    job = replace(exporter.job(exporter.export(), text), target=OTHERS)
    bench.dynamodb.keys["others"] = ("name",)
    bench.dynamodb.delete({"id": 1})
    bench.dynamodb.put({"id": 1, "name": "ann", "n": 1, "more": 5})
    assert bench.execute(job) == Counts(read=1, changed=1)
    assert others(bench) == {"ann": 6}


def test_a_written_transaction_is_not_repeated_although_its_source_was_set_back(
    bench: Bench, exporter: Exporter
) -> None:
    """The inserted row shows that the transaction was written, also if the application has restored the source's old
    values."""
    bench.dynamodb.put({"id": 1, "n": 1})
    job = exporter.job(exporter.export(), BESIDE.replace("[item,", '[{**item, "n": item["n"] * 2},'))
    checkpoint_lost(bench, job)
    assert by_id(bench) == {1: 2, 101: 1}
    bench.dynamodb.put({"id": 1, "n": 1})
    assert bench.execute(replace(job, attempt=2)) == Counts(read=1, changed=1)
    assert by_id(bench) == {1: 1, 101: 1}
