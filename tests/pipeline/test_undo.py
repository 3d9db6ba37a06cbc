"""The composition of `pipeline.undo`, on a fake DynamoDB: exactly what a run wrote is reverted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dynamodt.dynamodb.inserted_rows import InsertedRow
from dynamodt.dynamodb.reads import Reads
from dynamodt.model.pages import Claim, Counts, JournalPage, Page, Totals
from dynamodt.model.runs import Job, RowsSource
from dynamodt.model.tables import Change, Image, IndexKey, Insert, Item, KeyAttribute, Remove, TableSpec, Update
from dynamodt.pipeline.outcomes import WriteResult
from dynamodt.pipeline.record import IntentLog
from dynamodt.pipeline.restoration import CHANGED, COPIED, DELETED, REPLACED, STAYS, TAKEN, UNCONFIRMED, PageItems
from dynamodt.pipeline.undo import records_of
from dynamodt.script.apply import Apply
from dynamodt.script.codec import decode, encode, image_digest, key_text
from dynamodt.state.journal import Journal, Note, Records
from dynamodt.state.object_keys import is_note, journal_prefix, note_name, part_name
from tests.fakes import FakeDynamoDB, numbers
from tests.pipeline.conftest import Bench
from tests.pipeline.undoing import DOUBLE, act_once, not_restored_items, undo_job, undo_totals

UPPER = 'def transform_up(item):\n    return {**item, "upper": item["name"].upper()}'


def voids(bench: Bench, job: Job) -> set[int]:
    """The keys that the journal's notes list as without effect."""
    journal = Journal(bench.storage, bench.dynamodb.spec, journal_prefix(job))
    names = filter(is_note, bench.storage.names(journal_prefix(job)))
    return {int(key["id"]["N"]) for name in names for key in journal.read_note(name).void}


# ---------------------------------------------------------------- what is restored, and what is left


def test_an_undo_restores_all_items_of_a_run(bench: Bench) -> None:
    before = list(numbers(23))
    bench.dynamodb.put(*before)
    job = bench.job(DOUBLE)
    bench.execute(job)
    assert bench.items() != before
    assert undo_job(bench, job) == Counts(read=23, changed=23)
    assert bench.items() == before and not_restored_items(bench, job) == {}


def test_an_undo_restores_only_attributes_that_are_as_the_run_wrote_them(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(10))
    job = bench.job(DOUBLE)
    bench.execute(job)
    bench.dynamodb.put(
        {"id": 3, "n": 6, "twice": False, "note": "item 3"},  # one of the two is changed
        {"id": 4, "n": 50, "twice": False, "note": "item 4"},  # both are
        {"id": 5, "n": 10, "twice": True, "note": "live", "more": 1},  # none is
        {"id": 6, "n": 6, "note": "item 6"},  # taken back by hand
    )
    bench.dynamodb.delete({"id": 7})
    assert undo_job(bench, job) == Counts(read=10, changed=7, unchanged=1, superseded=1, vanished=1)
    items = {int(item["id"]): item for item in bench.items()}
    assert items[3] == {"id": 3, "n": 3, "twice": False, "note": "item 3"}
    assert items[4] == {"id": 4, "n": 50, "twice": False, "note": "item 4"}
    assert items[5] == {"id": 5, "n": 5, "note": "live", "more": 1}
    assert items[6] == {"id": 6, "n": 6, "note": "item 6"} and 7 not in items
    assert {key: (item.attributes, item.why) for key, item in not_restored_items(bench, job).items()} == {
        3: (("twice",), "changed since the run"),
        4: (("n", "twice"), "changed since the run"),
        7: ((), "the item was deleted since the run"),
    }


def test_a_second_undo_restores_nothing(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(DOUBLE)
    bench.execute(job)
    undo_job(bench, job)
    before = bench.items()
    assert undo_job(bench, job, run=f"{job.run}/undo2") == Counts(read=12, unchanged=12)
    assert bench.items() == before


def test_a_dry_run_counts_the_same_and_writes_nothing(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(DOUBLE)
    bench.execute(job)
    bench.dynamodb.put({"id": 3, "n": 50, "twice": False})
    after = bench.items()
    bench.dynamodb.calls.clear()
    assert undo_job(bench, job, run="rehearsal/undo1", dry_run=True) == Counts(read=12, changed=11, superseded=1)
    assert bench.items() == after and set(bench.dynamodb.calls) == {"BatchGetItem"}


@pytest.mark.parametrize("kind", ["S", "N"])
def test_a_dry_run_counts_the_items_that_an_index_added_since_would_refuse(bench: Bench, kind: str) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job("def transform_up(item): return {'id': item['id'], 'count': item['n']}\n")
    bench.execute(job)
    index = IndexKey("n", kind, 2048, "by_n")
    later = replace(job, max_errors=12, table=replace(job.table, index_keys=(index,)))
    refused = 12 if kind == "S" else 0
    counts = undo_job(bench, later, run="rehearsal/undo1", dry_run=True)
    assert counts == Counts(read=12, changed=12 - refused, dead=refused)


@pytest.mark.parametrize("fault", ["throttled", "lost", "reset", "partial", "partial-500"])
def test_faults_lose_nothing(bench: Bench, fault: str) -> None:
    before = list(numbers(40))
    bench.dynamodb.put(*before)
    job = bench.job(DOUBLE)
    bench.execute(job)
    bench.dynamodb.faults = deque([fault, "", fault, fault, "", fault])
    assert undo_job(bench, job) == Counts(read=40, changed=40)
    assert bench.items() == before and not bench.dynamodb.faults


def test_a_live_write_during_the_undo_wins(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(5))
    job = bench.job(DOUBLE, splits=1)
    bench.execute(job)

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "n": 2, "twice": "mine"}, {"id": 2, "n": 77, "twice": "mine"})
        table.delete({"id": 3})

    bench.dynamodb.before_write = act_once(application)
    assert undo_job(bench, job) == Counts(read=5, changed=3, superseded=1, vanished=1)
    assert [item["n"] for item in bench.items()] == [0, 1, 77, 4]
    assert {key: item.attributes for key, item in not_restored_items(bench, job).items()} == {
        1: ("twice",),
        2: ("n", "twice"),
        3: (),
    }


def test_an_undo_removes_the_stamp_with_the_change(bench: Bench) -> None:
    before = list(numbers(4))
    bench.dynamodb.put(*before)
    job = bench.job('STAMP = "_dynamodt"\n' + DOUBLE)
    bench.execute(job)
    undo_job(bench, job)
    assert bench.items() == before


@pytest.mark.parametrize("edited", ["20200101T000000.000000Z-0a1b2c", "nonsense", 5, None])
def test_an_edited_stamp_is_no_evidence_of_a_write(bench: Bench, edited: Any) -> None:
    """The answer to the write is lost, and the stamp is another one when the request is repeated: the item is in doubt,
    and is not transformed twice. The undo restores unchanged attributes, and reports the stamp."""
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults.append("reset")
    requests = iter((lambda: None, lambda: bench.dynamodb.put({"id": 1, "n": 2, "twice": True, "by": edited})))
    bench.dynamodb.before_write = lambda _: next(requests)()
    job = bench.job('STAMP = "by"\n' + DOUBLE, splits=1, max_errors=9)
    assert bench.execute(job) == Counts(read=1, dead=1) and '"step":"doubt"' in bench.dead_letters()[0]
    bench.dynamodb.before_write = None
    undo_job(bench, job)
    assert bench.items() == [{"id": 1, "n": 1, "by": edited}]
    assert not_restored_items(bench, job)[1].attributes == ("by",) and set(
        not_restored_items(bench, job)[1].restored
    ) == {"n", "twice"}


def test_an_undo_deletes_unchanged_rows_of_items(bench: Bench) -> None:
    script = 'def items():\n    for n in range(7):\n        yield {"id": n, "n": n}'
    there: list[Item] = [{"id": 1, "n": 1}, {"id": 2, "n": "mine"}]
    bench.dynamodb.put(*there)
    job = bench.job(script, source=RowsSource(), splits=1)
    bench.execute(job)
    bench.dynamodb.put({"id": 5, "n": "used"})
    assert undo_job(bench, job) == Counts(read=5, changed=4, superseded=1)  # the two that were there are not ours
    assert bench.items() == [*there, {"id": 5, "n": "used"}]
    assert not_restored_items(bench, job)[5].attributes == ("n",)


def test_a_second_try_of_an_undo_counts_the_items_that_the_first_has_deleted(bench: Bench) -> None:
    job = bench.job("def items():\n    for number in range(10):\n        yield {'id': number}\n", splits=1)
    job = replace(job, source=RowsSource())
    assert bench.execute(job) == Counts(read=10, changed=10)
    assert undo_job(bench, job) == Counts(read=10, changed=10)
    assert undo_job(bench, job, run=f"{job.run}/undo2") == Counts(read=10, unchanged=10)


@pytest.mark.parametrize("strong", [False, True])
def test_an_undo_restores_deleted_items_whose_key_is_free(make_bench: Callable[..., Bench], strong: bool) -> None:
    """Each is inserted in a transaction with a row; by a statement if the table takes no transactions."""
    bench = make_bench(TableSpec("things", (KeyAttribute("id", "N"),), replicas=("us-west-2",), strong=strong))
    script = 'from dynamodt import Delete\ndef transform_up(item):\n    return Delete() if item["id"] > 1 else item'
    before = list(numbers(6))
    bench.dynamodb.put(*before)
    job = bench.job(script)
    bench.execute(job)
    bench.dynamodb.put({"id": 3, "n": "another"})
    assert undo_job(bench, job) == Counts(read=4, changed=3, superseded=1)
    assert bench.items() == [*before[:3], {"id": 3, "n": "another"}, *before[4:]]
    assert not_restored_items(bench, job)[3].why == "another item has the key of the one that the run deleted"
    assert bench.dynamodb.calls["TransactWriteItems"] == (0 if strong else 3)


# ---------------------------------------------------------------- what had no effect


def test_an_intended_write_that_was_refused_is_noted_and_not_undone(bench: Bench) -> None:
    """The application writes the same values as the patch would: they stay."""
    bench.dynamodb.put({"id": 0, "name": "ada"}, {"id": 1, "name": "bob"}, {"id": 2, "name": "cyd"})
    job = bench.job(UPPER, splits=1)

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "name": "bob", "upper": "BOB"})
        table.delete({"id": 2})

    bench.dynamodb.before_write = act_once(application)
    assert bench.execute(job) == Counts(read=3, changed=1, superseded=1, vanished=1)
    assert voids(bench, job) == {1, 2}
    assert undo_job(bench, job) == Counts(read=1, changed=1)
    assert bench.items() == [{"id": 0, "name": "ada"}, {"id": 1, "name": "bob", "upper": "BOB"}]


def test_a_dead_letter_is_noted_as_without_effect_unless_its_write_is_in_doubt(bench: Bench) -> None:
    for fault, expected in (("throttled", {1}), ("lost", set[int]())):
        bench.dynamodb.put({"id": 1, "n": 1})
        bench.dynamodb.faults = deque([fault] * 1000)
        job = bench.job(DOUBLE, splits=1, max_errors=9)
        assert bench.execute(job).dead == 1
        assert voids(bench, job) == expected


def test_an_undo_reverts_a_write_in_doubt_if_the_item_shows_it(bench: Bench) -> None:
    """The first answer was lost, then the application changed one of the two attributes: the outcome was unknown."""
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults = deque(["reset"])
    acts = iter([lambda table: None, lambda table: table.put({"id": 1, "n": 2, "twice": "mine"})])
    bench.dynamodb.before_write = lambda table: next(acts, lambda table: None)(table)
    job = bench.job(DOUBLE, splits=1, max_errors=9)
    assert bench.execute(job).dead == 1
    assert undo_job(bench, job) == Counts(read=1, changed=1)
    assert bench.items() == [{"id": 1, "n": 1, "twice": "mine"}]


def test_a_page_whose_writes_all_succeeded_has_no_note(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(12))
    job = bench.job(DOUBLE)
    bench.execute(job)
    assert list(bench.storage.names(journal_prefix(job))) and voids(bench, job) == set()


def test_a_note_lists_only_intended_changes() -> None:
    class Noted:
        def __init__(self) -> None:
            self.voids: list[object] = []

        def write(self, *args: object) -> str:
            return "part"

        def write_note(self, split: int, page: int, fencing_token: int, note: Note) -> None:
            self.voids.append((split, page, fencing_token, note))

        def intend(self, *args: object) -> None: ...

    journal = Noted()
    page = Page(Claim(split=3, fencing_token=2), 7, [])
    intent_log = IntentLog(page, Totals(), Counts(), journal, journal)  # type: ignore[arg-type]
    key = {"id": {"N": "1"}}
    intent_log.record_result([key], [])
    assert journal.voids == []
    intent_log.record_intent([Update(key, key, {})])
    intent_log.record_result([], [])
    assert journal.voids == []
    intent_log.record_result([key], [])
    assert journal.voids == [(3, 7, 2, Note(1, [key], [], ()))]


@pytest.mark.parametrize("fault", ["reset", "lost"])
def test_an_undo_does_not_restore_an_item_whose_deletion_has_no_answer(bench: Bench, fault: str) -> None:
    """The item was deleted by the run, or by the application before the lost request."""
    bench.dynamodb.put({"id": 1, "n": 1})
    job = bench.job("from dynamodt import Delete\ndef transform_up(item):\n    return Delete()\n", splits=1)
    bench.dynamodb.faults.append(fault)
    if fault == "lost":
        bench.dynamodb.before_write = act_once(lambda table: table.delete({"id": 1}))
    assert bench.execute(job) == Counts(read=1, changed=1)
    assert undo_job(bench, job) == Counts(read=1, superseded=1)
    assert not_restored_items(bench, job)[1].why == UNCONFIRMED and bench.items() == []


# ---------------------------------------------------------------- deaths


def test_an_undone_page_without_a_checkpoint_is_repeated(bench: Bench) -> None:
    """Every item is restored, but no checkpoint was written, as if the process had died in between."""
    before = list(numbers(15))
    bench.dynamodb.put(*before)
    job = bench.job(DOUBLE, splits=1)
    bench.execute(job)
    rows = bench.state.rows.rows
    begun = dict(rows)
    undo_job(bench, job)
    rows.clear()
    rows.update(begun)
    bench.dynamodb.put({"id": 2, "n": 2, "note": "live"})
    assert undo_job(bench, job, attempt=job.attempt + 5) == Counts(read=15, unchanged=15)
    assert [decode(image) for image in bench.dynamodb.items.values()][2]["note"] == "live"


def test_an_undo_continues_from_its_checkpoints(bench: Bench) -> None:
    bench.dynamodb.put(*numbers(15))
    job = bench.job(DOUBLE, splits=1)
    bench.execute(job)
    units = bench.state.splits(f"{job.run}/undo1")
    units.checkpoint(units.claim(0, 1), 2, None, Totals(Counts(read=10, unchanged=10)))
    assert undo_job(bench, job) == Counts(read=15, changed=5, unchanged=10)
    assert sum("twice" in item for item in bench.items()) == 10


def test_a_journal_part_without_an_intent_is_ignored(bench: Bench) -> None:
    """The worker died between the journal and the intent; the application wrote the same values itself."""
    bench.dynamodb.put({"id": 1, "name": "ada", "upper": "ADA"})
    job = bench.job(UPPER, splits=1)
    bench.state.lease(job)
    claim = bench.state.splits(job.run).claim(0, job.attempt)
    journal = Journal(bench.storage, bench.dynamodb.spec, journal_prefix(job))
    read = {"id": {"N": "1"}, "name": {"S": "ada"}}
    journal.write(0, 1, claim.fencing_token, 0, [Update({"id": {"N": "1"}}, read, {"upper": {"S": "ADA"}})], 0)
    assert undo_job(bench, job) == Counts()
    assert bench.items() == [{"id": 1, "name": "ada", "upper": "ADA"}]


# ---------------------------------------------------------------- transactions, and take-overs


def test_an_undo_reverts_a_move_and_its_fan_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that is not idempotent may only do this from a snapshot; this one leaves moved items unchanged."""
    monkeypatch.setattr(Apply, "_check_halloween", lambda self, found, image: None)
    script = """
    from dynamodt import Put
    def transform_up(item):
        if item["id"] >= 100:
            return item
        return [{**item, "id": item["id"] + 100, "n": item["n"] * 2}, Put({"id": item["id"] + 1000})]
    """
    before = list(numbered(4))
    bench.dynamodb.put(*before)
    job = bench.job(script, splits=1)
    assert bench.execute(job).changed == 4
    assert {int(item["id"]) // 100 for item in bench.items()} == {1, 10}
    bench.dynamodb.put({"id": 102, "n": "used"})
    assert undo_job(bench, job) == Counts(read=12, changed=11, superseded=1)
    assert bench.items() == [*before, {"id": 102, "n": "used"}]


def test_a_moved_item_that_the_application_deleted_stays_deleted(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apply, "_check_halloween", lambda self, found, image: None)
    moved = """
    def transform_up(item):
        return item if item["id"] >= 100 else {**item, "id": item["id"] + 100}
    """
    bench.dynamodb.put(*numbered(3))
    job = bench.job(moved, splits=1)
    assert bench.execute(job).changed == 3
    bench.dynamodb.delete({"id": 101})
    assert undo_job(bench, job) == Counts(read=6, changed=4, unchanged=1, vanished=1)
    assert bench.items() == [{"id": 0, "n": 1}, {"id": 2, "n": 3}]
    assert not_restored_items(bench, job)[1].why == DELETED
    bench.dynamodb.delete({"id": 0})  # after the undo, which takes no item back a second time
    undo_job(bench, replace(job, attempt=2), run=f"{job.run}/undo2")
    assert bench.items() == [{"id": 2, "n": 3}]


MOVED = """
def transform_up(item):
    return item if item["id"] >= 100 else {**item, "id": item["id"] + 100, "n": item["n"] * 2, "twice": True}
"""


@pytest.mark.parametrize("during", [False, True], ids=["before", "during"])
def test_a_moved_item_that_the_application_has_changed_is_moved_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, during: bool
) -> None:
    """Only the attributes of the run are restored, as those of an updated item; a dry run counts the same."""
    monkeypatch.setattr(Apply, "_check_halloween", lambda self, found, image: None)
    bench.dynamodb.put(*({**item, "note": "old"} for item in numbered(3)))
    job = bench.job(MOVED, splits=1)
    assert bench.execute(job).changed == 3

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 101, "n": 50, "twice": True, "note": "live", "more": 1})
        table.put({"id": 102, "n": 6, "twice": True, "note": "live"})

    if during:
        bench.dynamodb.before_write = act_once(application)
    else:
        application(bench.dynamodb)
        after = bench.items()
        assert undo_job(bench, job, run="rehearsal/undo1", dry_run=True) == Counts(read=6, changed=6)
        assert bench.items() == after
    assert undo_job(bench, job) == Counts(read=6, changed=6)
    live = [{"id": 1, "n": 50, "note": "live", "more": 1}, {"id": 2, "n": 3, "note": "live"}]
    assert bench.items() == [{"id": 0, "n": 1, "note": "old"}, *live]
    ((number, left),) = not_restored_items(bench, job).items()
    assert (number, left.attributes, left.why, set(left.restored)) == (1, ("n",), CHANGED, {"id", "twice"})
    assert undo_job(bench, job, run=f"{job.run}/undo2").changed == 0 and bench.items()[1:] == live


def test_a_moved_item_stays_at_its_new_key_if_its_old_key_is_taken_during_the_undo(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Apply, "_check_halloween", lambda self, found, image: None)
    bench.dynamodb.put(*numbered(2))
    job = bench.job(MOVED, splits=1)
    bench.execute(job)
    bench.dynamodb.put({"id": 101, "n": 4, "twice": "live"})
    bench.dynamodb.before_write = act_once(lambda table: table.put({"id": 1, "n": "new"}))
    assert undo_job(bench, job) == Counts(read=4, changed=2, superseded=2)
    taken = [{"id": 1, "n": "new"}, {"id": 101, "n": 4, "twice": "live"}]
    assert bench.items() == [{"id": 0, "n": 1}, *taken]
    assert {number: one.why for number, one in not_restored_items(bench, job).items()} == {1: TAKEN, 101: COPIED}


def test_a_moved_item_that_cannot_be_written_at_its_old_key_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Apply, "_check_halloween", lambda self, found, image: None)
    bench.dynamodb.put(*numbered(2))
    job = replace(bench.job(MOVED, splits=1), max_errors=9)
    bench.execute(job)
    after = bench.items()
    bench.dynamodb.faults = deque(["throttled"] * 1000)
    assert undo_job(bench, job) == Counts(read=4, superseded=2, dead=2)
    bench.dynamodb.faults.clear()
    assert bench.items() == after and {one.why for key, one in not_restored_items(bench, job).items() if key < 2} == {
        STAYS
    }
    assert undo_job(bench, job, run=f"{job.run}/undo2") == Counts(read=4, changed=4)
    assert bench.items() == numbered(2)


@pytest.mark.parametrize("attributes", [148, 149, 150])
def test_a_dry_run_counts_the_units_of_the_request_that_deletes_an_inserted_item(bench: Bench, attributes: int) -> None:
    """A transaction, unless the item has more attributes than a transaction's condition can name."""
    names = {f"a{number}": number for number in range(attributes)}
    job = replace(bench.job(f"def items():\n    yield {{'id': 1, **{names}}}\n", splits=1), source=RowsSource())
    bench.execute(job)
    expected = undo_totals(bench, job, run="rehearsal/undo1", dry_run=True)
    bench.dynamodb.calls.clear()
    undo_job(bench, job)
    transactions = bench.dynamodb.calls["TransactWriteItems"]
    assert bench.items() == [] and transactions == (attributes < 150) and expected.units.wcu == 1 + transactions


def numbered(count: int) -> list[Item]:
    return [{"id": number, "n": number + 1} for number in range(count)]


class Parts:
    """A journal of one key: each part has one record, which adds 10 to what it read."""

    def __init__(self, reads: dict[str, int], voids: tuple[str, ...]) -> None:
        self.reads = reads
        self.voids = voids

    def page(self) -> JournalPage:
        return JournalPage(Page(Claim(0, 9), 1, []), tuple(self.reads), self.voids)

    def intended(self, name: str) -> list[Change]:
        read = self.reads[name]
        key: Image = {"id": {"N": "1"}}
        return [Update(key, {**key, "n": {"N": str(read)}}, {"n": {"N": str(read + 10)}})]

    def read_note(self, name: str) -> Note:
        return Note(1, [{"id": {"N": "1.0"}}])

    def rows_at(self, keys: object) -> dict[str, InsertedRow]:
        return {}


@pytest.mark.parametrize(("epochs", "kept"), [((), 2), ((1,), 1), ((2,), 0), ((1, 2), 0)])
def test_a_note_applies_only_to_the_intents_before_it(epochs: tuple[int, ...], kept: int) -> None:
    """The first owner noted that its change was refused; the second owner, which took the page over, recorded another
    intent."""
    reads = {part_name("j/", 0, 1, fencing_token, fencing_token - 1): fencing_token for fencing_token in (1, 2)}
    parts = Parts(reads, tuple(note_name("j/", 0, 1, fencing_token) for fencing_token in epochs))
    found = records_of(parts.page(), parts, parts)
    assert [len(records) for records in found.by_key.values()] == ([kept] if kept else [])


def test_an_item_that_leaves_a_key_between_two_reads_is_not_taken_for_the_restored_one(bench: Bench) -> None:
    """The run has deleted an item, and moved an equal one to its key, which another worker has just moved back."""
    bench.dynamodb.put({"id": 1, "n": 1})
    image = encode({"id": 1, "n": 1})
    deleted = Remove({"id": image["id"]}, image)
    text = key_text(deleted.key)

    def rows(keys: object) -> dict[str, InsertedRow]:
        bench.dynamodb.delete({"id": 1})
        return {text: InsertedRow({"id": {"N": "2"}}, image_digest(image), removed=True)}

    spec = bench.dynamodb.spec
    items = PageItems(spec, Records({text: [deleted]}), Reads(bench.dynamodb, spec), None, rows)
    assert items.changes == [Insert(spec.name, deleted.key, image)]


@pytest.mark.parametrize(("there", "outcome"), [(True, "unchanged"), (False, "vanished")])
def test_an_item_that_an_earlier_try_has_restored_is_left(bench: Bench, there: bool, outcome: str) -> None:
    """The application has replaced or deleted it since."""
    if there:
        bench.dynamodb.put({"id": 1, "n": 5})
    image, spec = encode({"id": 1, "n": 1}), bench.dynamodb.spec
    deleted = Remove({"id": image["id"]}, image)
    text = key_text(deleted.key)
    rows = {text: InsertedRow(None, image_digest(image))}
    reads = Reads(bench.dynamodb, spec)
    items = PageItems(spec, Records({text: [deleted]}), reads, put_back=lambda keys: rows if keys else {})
    assert not items.changes and items.counts._asdict()[outcome] == 1
    assert [one.why for one in items.not_restored(WriteResult())] == [DELETED] * (not there)


def test_an_item_whose_deletion_is_in_doubt_is_reported_if_another_one_of_its_key_is_restored(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first deletion is lost, and the application creates another item of the key."""
    bench.dynamodb.put({"id": 1, "note": "first"})
    job = bench.job("from dynamodt import Delete\ndef transform_up(item):\n    return Delete()\n", splits=1)
    original = FakeDynamoDB._batchgetitem

    def read(table: FakeDynamoDB, request: dict[str, Any]) -> dict[str, Any]:
        if not table.items:
            table.put({"id": 1, "note": "second"})
        return original(table, request)

    bench.dynamodb.faults.append("reset")
    with monkeypatch.context() as patch:
        patch.setattr(FakeDynamoDB, "_batchgetitem", read)
        assert bench.execute(job) == Counts(read=1, changed=1)
    assert bench.items() == []
    assert undo_job(bench, job) == Counts(read=2, changed=1, superseded=1)
    assert bench.items() == [{"id": 1, "note": "second"}]
    assert not_restored_items(bench, job)[1].why == REPLACED
