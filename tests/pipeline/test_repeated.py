"""Transactions that were refused, and that the network repeats after their page has ended: in a retry, in an
incremental export and in an undo, the inserted rows decide, and not the note at the page's end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.dynamodb.wire import Refusal
from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job
from dynamodt.model.tables import Item, KeyAttribute, TableSpec
from dynamodt.pipeline.migrate import migrate
from dynamodt.pipeline.restoration import UNCONFIRMED
from dynamodt.runs.jobs import retry_job
from dynamodt.script.codec import decode
from dynamodt.state.object_keys import DEAD, key_of_job
from tests.fakes import FakeDynamoDB
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import Exporter, by_id
from tests.pipeline.undoing import not_restored_items, retry_dead_letters, undo_job

pytestmark = pytest.mark.slow

FAN = """
from dynamodt import Put

def transform_up(item):
    if item["id"] > 99:
        return item
    return [{**item, "n": item["n"] * 2}, Put({"id": 100 + item["id"], "n": 7})]
"""
FAN_ELSEWHERE = FAN.replace('100 + item["id"]', '100 + item["n"]')  # another key each time
LONE_ELSEWHERE = FAN_ELSEWHERE.replace('{**item, "n": item["n"] * 2}', "item")
MOVE = 'def transform_up(item):\n    return {**item, "id": item["id"] + 100, "n": item["n"] * 2}\n'
INTO_OTHER = """
TARGET_TABLE = "others"
def transform_up(item):
    return {"name": str(item["n"]), "n": item["n"]}
"""
OTHERS = TableSpec("others", (KeyAttribute("name", "S"),))


@dataclass
class Network:
    """Keeps each transaction that is sent while `keeps`, and carries them out again."""

    bench: Bench
    carry_out: Callable[..., dict[str, Any]]
    keeps: bool = True
    sent: list[dict[str, Any]] = field(default_factory=list)

    def repeat(self) -> None:
        self.keeps = False
        for request in self.sent:
            with suppress(Refusal):
                self.carry_out(self.bench.dynamodb, request)
        self.sent.clear()


@pytest.fixture
def network(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network(bench, FakeDynamoDB._transactwriteitems)

    def kept(dynamodb: FakeDynamoDB, request: dict[str, Any]) -> dict[str, Any]:
        if network.keeps:
            network.sent.append(request)
        return network.carry_out(dynamodb, request)

    monkeypatch.setattr(FakeDynamoDB, "_transactwriteitems", kept)
    return network


def dead_job(bench: Bench, text: str, taken: int = 101) -> tuple[Job, Any, Exporter]:
    """An export of one item, whose new key is taken before the run: it becomes a dead letter."""
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1})
    full = exporter.export()
    job = replace(exporter.job(full, text), max_errors=9)
    bench.dynamodb.put({"id": taken, "n": 0})
    assert bench.execute(job) == Counts(read=1, dead=1)
    return job, full, exporter


@pytest.mark.parametrize(("text", "beside"), [(FAN, {101: 7}), (FAN_ELSEWHERE, {101: 7})], ids=["same", "elsewhere"])
def test_a_retry_skips_an_item_whose_refused_fan_out_was_repeated_by_the_network(
    bench: Bench, network: Network, text: str, beside: dict[int, int]
) -> None:
    job, _, _ = dead_job(bench, text)
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    assert by_id(bench) == {1: 2, **beside}
    again, counts = retry_dead_letters(bench, job)
    assert (by_id(bench), counts) == ({1: 2, **beside}, Counts(unchanged=1, dead=-1))
    undo_job(bench, replace(again, attempt=8))
    undo_job(bench, replace(job, attempt=9))
    assert by_id(bench) == {1: 1}


def test_a_retry_transforms_an_item_whose_refused_fan_out_was_not_repeated(bench: Bench, network: Network) -> None:
    """The item was given the values of the refused update by hand: no inserted row shows that the run has written
    them."""
    job, _, _ = dead_job(bench, FAN)
    bench.dynamodb.delete({"id": 101})
    bench.dynamodb.put({"id": 1, "n": 2})
    _, counts = retry_dead_letters(bench, job)
    assert (by_id(bench), counts) == ({1: 4, 101: 7}, Counts(changed=1, dead=-1))


def test_a_fan_out_repeated_during_a_retry_is_not_transformed_again(bench: Bench, network: Network) -> None:
    job, _, _ = dead_job(bench, FAN_ELSEWHERE)
    bench.dynamodb.delete({"id": 101})

    def meanwhile(table: FakeDynamoDB) -> None:
        table.before_write = None
        network.repeat()

    network.keeps, bench.dynamodb.before_write = False, meanwhile
    _, counts = retry_dead_letters(bench, job)
    assert by_id(bench) == {1: 2, 101: 7} and counts.dead == -1


@pytest.mark.parametrize(
    ("text", "beside"), [("", {}), (FAN.replace("100", "200"), {201: 7})], ids=["same", "corrected"]
)
def test_an_item_that_was_changed_after_a_repeated_fan_out_is_in_doubt(
    bench: Bench, network: Network, text: str, beside: dict[int, int]
) -> None:
    """It may be the same item, changed by the application, or another item at its key. An operator decides, and the
    message names the inserted items: a corrected script would insert an item at another key, and the undo deletes
    both."""
    job, _, _ = dead_job(bench, FAN)
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    bench.dynamodb.put({"id": 1, "n": 5})
    again, counts = retry_dead_letters(bench, job)
    assert (by_id(bench), counts) == ({1: 5, 101: 7}, Counts())
    (name,) = bench.storage.names(key_of_job(again, DEAD))
    said = json.loads(bench.storage.read(name) or b"")
    assert name.endswith("-doubt.jsonl") and said["step"] == "doubt"
    assert "an item with the key id = '101'" in said["error"]
    corrected = replace(job, script=bench.script(text or FAN))
    last, counts = retry_dead_letters(bench, corrected, 2, (again.run,))  # --in-doubt again
    assert by_id(bench) == {1: 10, 101: 7, **beside}
    for number, one in enumerate((last, again, job), 7):
        undo_job(bench, replace(one, attempt=number))
    assert by_id(bench) == {1: 5} and not_restored_items(bench, job)[1].attributes == ("n",)


@pytest.mark.parametrize("text", [FAN, FAN_ELSEWHERE], ids=["same", "elsewhere"])
def test_a_later_incremental_export_skips_an_item_whose_retried_fan_out_was_repeated(
    bench: Bench, network: Network, text: str
) -> None:
    """One incremental export shows the item as deleted; it is created again, and its retry fails; the next export shows
    it as created."""
    job, full, exporter = dead_job(bench, text)
    network.sent.clear()
    bench.dynamodb.delete({"id": 1})
    first = exporter.export(full)
    assert bench.execute(exporter.window(job, 1, first)).changed == 0
    bench.dynamodb.put({"id": 1, "n": 1})
    again, _ = retry_dead_letters(bench, job)
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    assert by_id(bench) == {1: 2, 101: 7}
    window = replace(exporter.window(job, 2, exporter.export(first)), earlier=(job.run, again.run))
    assert bench.execute(window).changed == 0
    assert by_id(bench) == {1: 2, 101: 7}
    for number, one in enumerate((window, again, job), 7):
        undo_job(bench, replace(one, attempt=number))
    assert by_id(bench) == {1: 1}


@pytest.mark.parametrize("text", [FAN, FAN_ELSEWHERE], ids=["same", "elsewhere"])
def test_a_later_incremental_export_skips_an_item_whose_fan_out_was_repeated(
    bench: Bench, network: Network, text: str
) -> None:
    """As above, without a retry: the application restores the item's old values."""
    job, full, exporter = dead_job(bench, text)
    bench.dynamodb.delete({"id": 1})
    first = exporter.export(full)
    window = replace(exporter.window(job, 1, first), earlier=(job.run,))
    assert bench.execute(window).changed == 0
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    second = replace(exporter.window(job, 2, exporter.export(first)), earlier=(job.run, window.run))
    assert bench.execute(second).changed == 0
    assert by_id(bench) == {1: 2, 101: 7}


@pytest.mark.parametrize("kept", [5, 2])
def test_an_undo_follows_no_row_of_another_transaction(bench: Bench, kept: int) -> None:
    """A retry inserts what was refused before, with another change of its source. The values that the refused
    transaction would have written are the application's, 2 among them."""
    job, _, _ = dead_job(bench, FAN)
    bench.dynamodb.delete({"id": 101})
    bench.dynamodb.put({"id": 1, "n": kept})
    again, _ = retry_dead_letters(bench, job)
    assert by_id(bench) == {1: 2 * kept, 101: 7}
    undo_job(bench, replace(again, attempt=8))
    undo_job(bench, replace(job, attempt=9))
    assert by_id(bench) == {1: kept} and not not_restored_items(bench, again) and not not_restored_items(bench, job)


def test_a_retry_after_a_repeated_move_transforms_the_new_item_at_the_old_key(bench: Bench, network: Network) -> None:
    """The moved item is no longer at its old key: the present item there is the application's."""
    job, _, _ = dead_job(bench, MOVE)
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    assert by_id(bench) == {101: 2}
    _, counts = retry_dead_letters(bench, job)
    assert (by_id(bench), counts) == ({101: 2}, Counts(vanished=1, dead=-1))


def test_a_repeated_insertion_is_not_inserted_under_another_key_too(bench: Bench, network: Network) -> None:
    text = LONE_ELSEWHERE.replace("[item,", '[{k: v for k, v in item.items() if k != "old"},')
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1, "old": 1})
    job = replace(exporter.job(exporter.export(), text), max_errors=9)
    bench.dynamodb.put({"id": 101, "n": 0})
    assert bench.execute(job) == Counts(read=1, dead=1)
    bench.dynamodb.delete({"id": 101})
    network.repeat()
    bench.dynamodb.put({"id": 1, "n": 3, "old": 1})
    _, counts = retry_dead_letters(bench, job)
    assert by_id(bench) == {1: 3, 101: 7} and counts == Counts()


def test_a_target_gets_one_item_of_each_source_after_a_repeated_insertion(bench: Bench, network: Network) -> None:
    """The insertion was given up, and is repeated by the network after the source has got another key."""
    bench.dynamodb.keys["others"] = ("name",)
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults.extend(["throttled"] * 40)
    job = replace(bench.job(INTO_OTHER, splits=1, max_errors=9), target=OTHERS)
    network.sent.clear()
    assert bench.execute(job) == Counts(read=1, dead=1)
    bench.dynamodb.faults.clear()
    network.repeat()
    bench.dynamodb.put({"id": 1, "n": 3})
    _, counts = retry_dead_letters(bench, job)
    there: list[Item] = [decode(image) for image in bench.dynamodb.others["others"].values()]
    assert [item["name"] for item in there] == ["1"] and counts == Counts()
    assert undo_job(bench, replace(job, attempt=9)).changed == 1 and not bench.dynamodb.others["others"]


def test_a_fan_out_that_is_repeated_before_its_page_has_ended_counts_as_changed(bench: Bench, network: Network) -> None:
    """It is refused, made again from the application's present item, and carried out once the application restores the
    old item."""
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1})
    job = exporter.job(exporter.export(), FAN_ELSEWHERE)

    def first(table: FakeDynamoDB) -> None:
        table.before_write = second
        table.put({"id": 1, "n": 5})

    def second(table: FakeDynamoDB) -> None:
        table.before_write = None
        table.put({"id": 1, "n": 1})
        network.repeat()

    bench.dynamodb.before_write = first
    assert bench.execute(job) == Counts(read=1, changed=1)
    assert by_id(bench) == {1: 2, 101: 7}
    undo_job(bench, replace(job, attempt=9))
    assert by_id(bench) == {1: 1} and not not_restored_items(bench, job)


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_an_item_created_again_unchanged_is_transformed_by_its_incremental_export(bench: Bench, dies: bool) -> None:
    """Its transaction equals that of the earlier phase, whose row exists. The transaction of the incremental export's
    phase was not written."""
    exporter = Exporter(bench)
    bench.dynamodb.put({"id": 1, "n": 1})
    full = exporter.export()
    job = exporter.job(full, FAN)
    assert bench.execute(job) == Counts(read=1, changed=1)
    bench.dynamodb.delete({"id": 1})
    first = exporter.export(full)
    assert bench.execute(exporter.window(job, 1, first)).changed == 0
    bench.dynamodb.put({"id": 1, "n": 1})
    window = exporter.window(job, 2, exporter.export(first))
    if dies:
        bench.die_after(window, 0)
    assert bench.execute(replace(window, attempt=2)).changed == 1
    assert by_id(bench) == {1: 2, 101: 7}


def test_a_retry_that_died_and_a_partial_undo_follow_the_inserted_rows(bench: Bench, network: Network) -> None:
    """The network repeats the refused request once the retry's process has died, with its intent recorded."""
    job, _, _ = dead_job(bench, FAN_ELSEWHERE)
    bench.dynamodb.delete({"id": 101})
    again = retry_job(job, 1, tuple(bench.storage.names(key_of_job(job, DEAD))))
    again = replace(again, attempt=2, earlier=(job.run,))
    network.keeps = False
    bench.die_after(again, 0)
    network.repeat()
    assert by_id(bench) == {1: 2, 101: 7}
    again = replace(again, attempt=3)
    bench.state.lease(again)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        migrate(pipeline, again, bench.resources)
    assert by_id(bench) == {1: 2, 101: 7}
    undo_job(bench, replace(again, attempt=7), partial=True)
    undo_job(bench, replace(job, attempt=8), partial=True)
    assert by_id(bench) == {1: 1}


def test_a_stamp_shows_an_undo_what_a_refused_update_has_written(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application makes the item invalid, so that it is a dead letter, and restores it; then the network repeats
    the refused statement."""
    text = 'STAMP = "by"\ndef transform_up(item):\n    return {**item, "n": item["n"] * 2 // item["good"]}\n'
    bench.dynamodb.put({"id": 1, "n": 1, "good": 1})
    job, original, sent = bench.job(text, max_errors=9), FakeDynamoDB._batchexecutestatement, []

    def kept(dynamodb: FakeDynamoDB, request: dict[str, Any]) -> dict[str, Any]:
        sent.append(request)
        return original(dynamodb, request)

    def application(table: FakeDynamoDB) -> None:
        table.put({"id": 1, "n": 1, "good": 0})

    with monkeypatch.context() as patch:
        patch.setattr(FakeDynamoDB, "_batchexecutestatement", kept)
        bench.dynamodb.before_write = application
        assert bench.execute(job) == Counts(read=1, dead=1)
    bench.dynamodb.before_write = None
    bench.dynamodb.put({"id": 1, "n": 1, "good": 1})
    for request in sent:
        original(bench.dynamodb, request)
    assert by_id(bench) == {1: 2}
    undo_job(bench, job)
    assert bench.items() == [{"id": 1, "n": 1, "good": 1}]


@pytest.mark.parametrize("stamp", ["", 'STAMP = "by"\n'])
def test_an_update_that_is_executed_twice_before_its_answer_is_not_transformed_again(bench: Bench, stamp: str) -> None:
    before: list[Item] = [{"id": number, "n": 1} for number in range(3)]
    bench.dynamodb.put(*before)
    bench.dynamodb.faults.extend(["repeated"] * 3)
    job = bench.job(stamp + 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n', max_errors=9)
    counts = bench.execute(job)
    assert counts == (Counts(read=3, superseded=3) if stamp else Counts(read=3, dead=3))
    assert by_id(bench) == {0: 2, 1: 2, 2: 2}
    undo_job(bench, job)
    assert bench.items() == before


def test_a_deletion_that_is_executed_twice_before_its_answer_is_reported_by_an_undo(bench: Bench) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    bench.dynamodb.faults.append("repeated")
    job = bench.job("from dynamodt import Delete\ndef transform_up(item):\n    return Delete()\n")
    assert bench.execute(job) == Counts(read=1, vanished=1)
    undo_job(bench, job)
    assert bench.items() == []
    assert not_restored_items(bench, job)[1].why == UNCONFIRMED
