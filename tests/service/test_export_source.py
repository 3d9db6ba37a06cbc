"""A version that reads an export, through `up`: exports in S3, incremental exports, a final scan, unusable files,
kills.

On ministack only, which has S3 and DynamoDB together: DynamoDB Local has no S3, and a run's table and its exports are
of one stage. The exports are the stand-in's; the layout is AWS's.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from dynamodt import api
from dynamodt.checks.check import CheckOptions
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.table import describe
from dynamodt.errors import DeadLetters, DynamodtError, Refused, RunFailed, ScriptError, UsageError
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import FILES, STARTED, SUMMARY, Export, ExportFolder, ExportRequest, folder_of
from dynamodt.export.stand_in import stand_in_exports
from dynamodt.model.pages import Counts
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import Job
from dynamodt.model.tables import Item, StorageSpec
from dynamodt.runs import exports, history, runner
from dynamodt.runs.exports import CatchingUp
from dynamodt.runs.options import RunOptions
from dynamodt.state.object_keys import JOURNAL, object_key
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage
from tests.emulators import Endpoint, in_chaos
from tests.migrate_once import ALONE, MOMENTS
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.kills import COUNTS, KILLS, SEEDS, attempt
from tests.service.live_writers import DOUBLE as LOGGED_DOUBLE
from tests.service.live_writers import check_contest, check_item, entries, first, writing
from tests.service.undoing import last, undo
from tests.service.writer import ITEMS
from tests.spoilt_exports import largest, rewrite, write_manifest
from tests.waiting import until

pytestmark = pytest.mark.endpoints("ministack")


DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n'
TWICE = 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "twice": item["n"] * 2}\n'
BACK = '\ndef transform_down(item):\n    return {**item, "n": item["n"] / 2}\n'


@dataclass
class Bucket:
    """The stage's bucket, and exports in it that dynamodt has not requested."""

    bench: Bench
    objects: S3Objects
    name: str

    def export(self, table: str, prefix: str = "others") -> Export:
        storage = StorageSpec(f"s3://{self.name}/{prefix}")
        connection = self.bench.stage.connection
        return stand_in_exports(connection, storage).request(ExportRequest(describe(connection, table), uuid4().hex))

    def url(self, export: Export) -> str:
        return f"s3://{self.name}/{folder_of(export).key}"


@pytest.fixture
def bench(bench: Bench, endpoint: Endpoint) -> Bench:
    """The bench with its storage in a bucket."""
    name = f"stage-{uuid4().hex[:12]}"
    client(endpoint.connection, "s3").create_bucket(Bucket=name)
    return replace(bench, stage=replace(bench.stage, storage=StorageSpec(f"s3://{name}/some")))


@pytest.fixture
def bucket(bench: Bench, endpoint: Endpoint) -> Bucket:
    name = bench.stage.storage.url.split("/")[2]
    return Bucket(bench, S3Objects(client(endpoint.connection, "s3"), name), name)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The acts of the application right before each incremental export is requested, in turn."""
    acts: list[Callable[[], None]] = []
    original = CatchingUp._request

    def request(self: CatchingUp, number: int, since: datetime) -> str:
        if acts:
            acts.pop(0)()
        return original(self, number, since)

    monkeypatch.setattr(CatchingUp, "_request", request)
    return acts


def numbered(*numbers: int) -> list[Item]:
    return [{"id": number, "n": number} for number in numbers]


def by_id(bench: Bench, table: str) -> dict[int, int]:
    return {int(item["id"]): int(item["n"]) for item in bench.tables.items(table)}


def exported(bench: Bench, table: str, text: str, **options: Any) -> RunReport:
    """Apply the text from an export; it must succeed."""
    return bench.succeeded(table, text, source="export", **options)


# ---------------------------------------------------------------- the whole way


class Inserter(threading.Thread):
    """The application: puts items, updates every third of them and deletes every fifth, until `end` is called."""

    def __init__(self, bench: Bench, table: str) -> None:
        super().__init__(daemon=True)
        self._tables = bench.tables
        self._table = table
        self.told = threading.Event()
        self.put: dict[int, int] = {}  # by id, how often it was touched

    def run(self) -> None:
        number = ITEMS
        while not self.told.wait(0.01):
            number += 1
            self._tables.put(self._table, {"id": number, "n": 1, "archived": 0})
            self.put[number] = 0
            if number % 3 == 0:
                self._touch(number - 60)
            if number % 5 == 0 and self.put.pop(number - 40, None) is not None:
                self._tables.delete(self._table, {"id": number - 40})

    def _touch(self, number: int) -> None:
        if number in self.put:
            self._tables.client.update_item(
                TableName=self._table,
                Key={"id": {"N": str(number)}},
                UpdateExpression="ADD touched :one",
                ExpressionAttributeValues={":one": {"N": "1"}},
            )
            self.put[number] += 1

    def end(self) -> None:
        until(lambda: len(self.put) > 100, "the application has put a hundred items")
        self.told.set()
        self.join()


@pytest.mark.slow
@pytest.mark.chaos
def test_live_writes_always_win_and_every_item_is_doubled_exactly_once(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *map(first, range(ITEMS)))
    poller, logs = bench.folder / "looks.txt", [bench.folder / f"writer-{number}.jsonl" for number in (0, 1)]
    poller.touch()
    inserter = Inserter(bench, table)
    between += [lambda: None, lambda: None, inserter.end]  # or there would always be one more window
    with ExitStack() as writers:
        for number, log in enumerate(logs):
            writers.enter_context(writing(endpoint, table, number, log, poller))
        inserter.start()
        writers.callback(inserter.end)
        report = exported(bench, table, LOGGED_DOUBLE.format(log=str(poller)))

    done = entries(*logs)
    found = {int(item["id"]): item for item in bench.tables.items(table)}
    deleted = {number for number, commands in done.items() if any(command == "delete" for command, *_ in commands)}
    assert found.keys() == (set(range(ITEMS)) - deleted) | inserter.put.keys()  # no deleted item exists, none is lost
    for number in range(ITEMS):
        if number in found:
            check_item(found[number], done[number])
    for number, touches in inserter.put.items():
        assert (found[number]["n"], found[number].get("touched", 0)) == (2, touches), found[number]
    assert report.counts.dead == 0
    check_contest(report.counts, poller)
    (record,) = bench.history(table)
    assert len(record.incremental_exports) == 4 and not between


def test_incremental_exports_give_new_items_until_one_shows_no_change(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    """After a full export and three incremental exports with changes, the table equals a model: every item that was put
    is doubled once, the application's writes to doubled items stay, and its deletions too."""
    table = make_table(id="N")
    dice = random.Random(7)
    bench.tables.put(table, *({"id": number, "n": number + 1} for number in range(200)))
    model = {number: 2 * (number + 1) for number in range(200)}  # as the export's pass leaves it

    def act(window: int) -> None:
        for number in dice.sample(sorted(model), 30):
            bench.tables.delete(table, {"id": number})
            del model[number]
        for number in dice.sample(sorted(model), 30):
            model[number] += 7
            bench.tables.put(table, {"id": number, "n": model[number]})
        born = {1000 * window + number: number for number in range(1, 21)}
        bench.tables.put(table, *({"id": number, "n": n} for number, n in born.items()))
        model.update({number: 2 * n for number, n in born.items()})

    between += [partial(act, window) for window in (1, 2, 3)]
    counts = exported(bench, table, DOUBLE).counts
    assert by_id(bench, table) == model
    assert counts == Counts(read=260, changed=260)
    (record,) = bench.history(table)
    assert len(record.incremental_exports) == 4 and not between  # the last one brought nothing


def test_incremental_exports_give_updates_to_an_idempotent_script(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(20)))
    between += [
        lambda: bench.tables.put(table, {"id": 1, "n": 100}, {"id": 21, "n": 21}),
        lambda: bench.tables.delete(table, {"id": 2}, {"id": 21}) or bench.tables.put(table, {"id": 3, "n": 300}),
        lambda: bench.tables.put(table, {"id": 2, "n": 200}),
    ]
    report = exported(bench, table, TWICE)
    assert report.uncovered == "" and not between
    found = {int(item["id"]): int(item["twice"]) for item in bench.tables.items(table)}
    assert found == {number: 2 * number for number in range(20)} | {1: 200, 2: 400, 3: 600}


def test_down_reads_an_export_too(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(1, 9)))
    exported(bench, table, DOUBLE + BACK)
    (report,) = bench.down(table, source="export")
    assert report.error is None and by_id(bench, table) == {number: number for number in range(1, 9)}
    assert [record.source for record in bench.history(table)] == ["export", "export"]


def test_an_empty_table(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    assert exported(bench, table, DOUBLE).counts == Counts()
    assert bench.applied(table) == [1]


FAILING = 'def transform_up(item):\n    return {**item, "n": item["n"] * (2 if item["id"] != 30 else item["none"])}\n'


def test_dead_letters_of_an_incremental_export_are_retried(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    between += [lambda: bench.tables.put(table, *numbered(30, 31))]
    error = bench.failed(table, FAILING, source="export", max_errors=1).error
    assert isinstance(error, DeadLetters)
    report = exported(bench, table, DOUBLE)
    assert report.counts == Counts(read=4, changed=4)
    assert by_id(bench, table) == {1: 2, 2: 4, 30: 60, 31: 62}


def test_a_run_that_is_continued_after_its_last_incremental_export_reads_another_one(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt dies after an empty one. Until the second begins, the application still creates items in their
    old form."""

    def dies(*_: object) -> bool:
        raise RunFailed("the machine is lost")

    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    bench.script(table, DOUBLE)
    with monkeypatch.context() as patch:
        patch.setattr(CatchingUp, "_has_changed", dies)
        (report,) = bench.up(table, source="export")
        assert isinstance(report.error, RunFailed)
    bench.tables.put(table, *numbered(3))
    (report,) = bench.up(table, source="export")
    assert report.error is None and by_id(bench, table) == {1: 2, 2: 4, 3: 6}
    assert len(last(bench, table).exports) == 4  # the third one has item 3, the fourth one is empty


@pytest.mark.parametrize("tolerated", [0, 1])
def test_a_retry_reads_the_source_of_its_run_although_that_has_written_nothing(
    bench: Bench, make_table: MakeTable, tolerated: int
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30))
    bench.script(table, FAILING)
    (report,) = bench.up(table, source="export", max_errors=tolerated)
    run = report.versions[0].run
    bench.script(table, DOUBLE)
    (report,) = api.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert report.error is None and report.versions[0].run == run
    assert by_id(bench, table) == {30: 60} and last(bench, table).source == "export"


def test_an_incremental_export_whose_changes_were_dead_letters_is_followed_by_another_one(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    between += [lambda: bench.tables.put(table, *numbered(30))]
    assert isinstance(bench.failed(table, FAILING, source="export", max_errors=1).error, DeadLetters)
    bench.tables.put(table, *numbered(40))
    assert exported(bench, table, DOUBLE).counts == Counts(read=4, changed=4)
    assert by_id(bench, table) == {1: 2, 2: 4, 30: 60, 40: 80}


def test_a_retry_leaves_an_item_that_was_created_again_and_transformed_by_an_incremental_export(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 30))
    between += [
        lambda: bench.tables.delete(table, {"id": 30}) or bench.tables.put(table, *numbered(2)),
        lambda: bench.tables.put(table, {"id": 30, "n": 7, "none": 2}),
    ]
    report = bench.failed(table, FAILING, source="export", max_errors=1)
    assert report.versions[0].counts == Counts(read=4, changed=3, dead=1)
    bench.script(table, DOUBLE)
    options = RunOptions(dry_run=True)
    (tried,) = api.retry(bench.stage, bench.folder, [table], last(bench, table).run, options, bench.recorder)
    assert (tried.error, tried.versions[0].counts) == (None, Counts(read=1, unchanged=1))
    assert exported(bench, table, DOUBLE).counts == Counts(read=4, changed=3, unchanged=1)
    assert by_id(bench, table) == {1: 2, 2: 4, 30: 14}
    undo(bench, last(bench, table).run)
    assert by_id(bench, table) == {1: 1, 2: 2, 30: 7}


@pytest.fixture
def retried(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A table with an unfinished run: the item with the id 30 is a dead letter of the export, and the retry of an
    incremental export has transformed it."""
    table, original = make_table(id="N"), runner.run
    bench.tables.put(table, *numbered(1, 30))
    between += [
        lambda: bench.tables.delete(table, {"id": 30}) or bench.tables.put(table, *numbered(2)),
        lambda: bench.tables.put(table, *numbered(30)),
    ]
    assert bench.failed(table, FAILING, source="export", max_errors=2).versions[0].counts.dead == 2

    def run(job: Job, *arguments: Any) -> Any:
        if job.run.endswith("incremental2/retry1"):  # the application repairs the item
            bench.tables.put(table, {"id": 30, "n": 7, "none": 2})
        return original(job, *arguments)

    monkeypatch.setattr(runner, "run", run)
    report = bench.run_past_dead_letters(table, source="export", max_errors=2)
    assert report.versions[0].counts.dead == 1 and by_id(bench, table) == {1: 2, 2: 4, 30: 14}
    return table


def test_a_retry_leaves_an_item_that_the_retry_of_an_incremental_export_has_transformed(
    bench: Bench, retried: str
) -> None:
    exported(bench, retried, DOUBLE)
    assert by_id(bench, retried) == {1: 2, 2: 4, 30: 14}


def test_a_retry_is_refused_if_a_journal_that_shows_what_was_written_has_lost_objects(
    bench: Bench, bucket: Bucket, retried: str
) -> None:
    """Without it, the item would be transformed once more."""
    bench.script(retried, DOUBLE)
    run, storage = last(bench, retried).run, open_storage(bench.stage.connection, bench.stage.storage)
    (name,) = storage.names(object_key(retried, f"{run}/incremental2/retry1", JOURNAL))
    client(bench.stage.connection, "s3").delete_object(Bucket=bucket.name, Key=f"some/{name}")
    (report,) = bench.up(retried, source="export")
    assert isinstance(report.error, Refused) and "1 object of the journal" in report.error.what
    with pytest.raises(Refused, match="1 object of the journal"):
        api.retry(bench.stage, bench.folder, (), run, RunOptions(dry_run=True), bench.recorder)
    assert by_id(bench, retried) == {1: 2, 2: 4, 30: 14}


# ---------------------------------------------------------------- other ways to catch up


def test_without_catching_up_the_report_names_the_period_that_is_not_covered(
    bench: Bench, bucket: Bucket, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    made = bucket.export(table)
    bench.tables.put(table, *numbered(3))
    report = exported(bench, table, DOUBLE, export=bucket.url(made), catch_up="none")
    assert made.at is not None and report.uncovered == made.at.isoformat(timespec="seconds")
    assert by_id(bench, table) == {1: 2, 2: 4, 3: 3}


@pytest.mark.parametrize("promise", ["IDEMPOTENT = True\n", 'STAMP = "_mark"\n'], ids=["idempotent", "stamp"])
def test_a_final_scan_transforms_items_written_after_the_export(
    bench: Bench, bucket: Bucket, make_table: MakeTable, promise: str
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(1, 9)))
    made = bucket.export(table)
    bench.tables.put(table, *numbered(20, 21))
    bench.tables.delete(table, {"id": 1})
    body = TWICE.partition("\n")[2] if "IDEMPOTENT" in promise else DOUBLE
    report = exported(bench, table, promise + body, export=bucket.url(made), catch_up="scan")
    assert report.counts == Counts(read=17, changed=9, unchanged=7, vanished=1)
    name = "twice" if "IDEMPOTENT" in promise else "n"
    found = {int(item["id"]): int(item[name]) for item in bench.tables.items(table)}
    assert found == {number: 2 * number for number in (*range(2, 9), 20, 21)}


def test_a_final_scan_is_refused_if_it_would_transform_items_twice(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1))
    error = bench.failed(table, DOUBLE, source="export", catch_up="scan").error
    assert isinstance(error, Refused) and "STAMP" in error.hint and error.where.endswith("v1_change.py")
    assert by_id(bench, table) == {1: 1}


PUTS = 'from dynamodt import Put\ndef transform_up(item):\n    return [item, Put({"id": item["id"] + 1000, "n": 0})]\n'
MOVES = 'def transform_up(item):\n    return {**item, "id": item["id"] + 1000}\n'


@pytest.mark.parametrize(("text", "left"), [(PUTS, [1, 2, 3, 1001, 1002, 1003]), (MOVES, [1001, 1002, 1003])])
def test_incremental_exports_skip_items_that_the_run_has_inserted(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]], text: str, left: list[int]
) -> None:
    """An incremental export shows the run's own insertions and those of the application: only the latter are
    transformed."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    between.append(lambda: bench.tables.put(table, *numbered(3)))
    assert exported(bench, table, text).counts == Counts(read=3, changed=3)
    assert sorted(by_id(bench, table)) == left
    assert [len(record.incremental_exports) for record in bench.history(table)] == [2]


TAKEN = """
from dynamodt import Put
def transform_up(item):
    return [item, Put({"id": item["id"] + 1000, "n": 0})] if item["id"] < 1000 else {**item, "n": item["n"] + 1}
"""


def test_incremental_exports_give_an_item_that_the_application_inserted_first(
    bench: Bench, bucket: Bucket, make_table: MakeTable
) -> None:
    """The script's own insertion was recorded, and refused."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1))
    made = bucket.export(table, "some")
    bench.tables.put(table, *numbered(1001))
    exported(bench, table, TAKEN, export=bucket.url(made))
    assert by_id(bench, table) == {1: 1, 1001: 1002}


@pytest.mark.parametrize(
    ("promise", "how"),
    [
        ("", "windows"),
        ("IDEMPOTENT = True\n", "windows"),
        ('STAMP = "_mark"\n', "scan"),
        *in_chaos(("IDEMPOTENT = True\n", "scan"), ('STAMP = "_mark"\n', "windows")),
    ],
)
def test_a_version_never_transforms_its_own_rows(bench: Bench, make_table: MakeTable, promise: str, how: str) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1))
    rows = 'def items():\n    yield {"id": 500, "n": 5}\n'
    text = promise + rows + 'def transform_up(item):\n    return {**item, "twice": 2 * item["n"]}\n'
    exported(bench, table, text, catch_up=how)
    found = {int(item["id"]): item.get("twice") for item in bench.tables.items(table)}
    assert found == {1: 2, 500: None}


# ---------------------------------------------------------------- exports that exist


@pytest.mark.parametrize("how", ["folder", "arn", *in_chaos("prefix", "manifest")])
def test_an_existing_export_is_read(bench: Bench, bucket: Bucket, make_table: MakeTable, how: str) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    made = bucket.export(table, "some" if how == "arn" else "others")
    words = {
        "folder": bucket.url(made),
        "prefix": f"s3://{bucket.name}/others/",
        "manifest": f"s3://{bucket.name}/{made.manifest}",
        "arn": made.arn,
    }
    assert exported(bench, table, DOUBLE, export=words[how], catch_up="none").counts.changed == 2
    (record,) = bench.history(table)
    assert record.exports == (words[how],)


# ---------------------------------------------------------------- bad input


Spoil = Callable[[Bucket, ExportFolder], str]  # returns the words that the error must have


@pytest.mark.parametrize("how", ["arn", *in_chaos("folder")])
def test_check_reads_its_sample_from_an_export(bench: Bench, bucket: Bucket, make_table: MakeTable, how: str) -> None:
    table = make_table(id="S")
    bench.tables.put(table, *({"id": f"u{number}", "n": number} for number in range(30)))
    made = bucket.export(table, "some" if how == "arn" else "others")
    bench.tables.delete(table, *({"id": f"u{number}"} for number in range(30)))
    bench.script(table, "def transform_up(item):\n    return {**item, 'n': item['n'] + 1}\n")
    options = CheckOptions(sample=20, export=made.arn if how == "arn" else bucket.url(made), variants=5)
    (found,) = api.check(bench.stage, bench.folder, [table], options, bench.recorder)
    assert found.error is None and (found.items, found.faults) == (20, 0)
    assert found.versions[0].effect.changed == 20


def truncated(bucket: Bucket, folder: ExportFolder) -> str:
    key = largest(bucket.objects, folder)
    bucket.objects.write(key, (bucket.objects.read(key) or b"")[:-9])
    return key


def replaced(bucket: Bucket, folder: ExportFolder) -> str:
    key = largest(bucket.objects, folder)
    bucket.objects.write(key, bytes(reversed(bucket.objects.read(key) or b"")))
    return key


def gone(bucket: Bucket, folder: ExportFolder) -> str:
    key = largest(bucket.objects, folder)
    client(bucket.bench.stage.connection, "s3").delete_object(Bucket=bucket.name, Key=key)
    return key


def miscounted(bucket: Bucket, folder: ExportFolder) -> str:
    name = folder.file(f"{SUMMARY}.json")
    data = (bucket.objects.read(name) or b"").replace(b'"itemCount":40', b'"itemCount":41')
    write_manifest(bucket.objects, folder, SUMMARY, data)
    return folder.file(f"{FILES}.json")


def wrong_checksum(bucket: Bucket, folder: ExportFolder) -> str:
    bucket.objects.write(folder.file(f"{FILES}.md5"), b"A" * 22 + b"==")
    return folder.file(f"{FILES}.json")


def no_list(bucket: Bucket, folder: ExportFolder) -> str:
    key = folder.file(f"{FILES}.json")
    client(bucket.bench.stage.connection, "s3").delete_object(Bucket=bucket.name, Key=key)
    return key


def unfinished(bucket: Bucket, folder: ExportFolder) -> str:
    key = folder.file(f"{SUMMARY}.json")
    client(bucket.bench.stage.connection, "s3").delete_object(Bucket=bucket.name, Key=key)
    return folder.key


def nothing_there(bucket: Bucket, folder: ExportFolder) -> str:
    for name in (f"{SUMMARY}.json", STARTED):
        client(bucket.bench.stage.connection, "s3").delete_object(Bucket=bucket.name, Key=folder.file(name))
    return folder.key


SPOILT: list[tuple[Spoil, type[DynamodtError], int]] = [
    (truncated, RunFailed, 1),
    (replaced, RunFailed, 1),
    (gone, RunFailed, 1),
    (miscounted, RunFailed, 1),
    (wrong_checksum, RunFailed, 1),
    (no_list, RunFailed, 1),
    (unfinished, Refused, 3),
    (nothing_there, UsageError, 2),
]


@pytest.mark.parametrize(("spoil", "kind", "code"), SPOILT, ids=[one[0].__name__ for one in SPOILT])
def test_a_run_with_an_unusable_export_writes_nothing_and_can_use_another_export(
    bench: Bench, bucket: Bucket, make_table: MakeTable, spoil: Spoil, kind: type[DynamodtError], code: int
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(1, 41)))
    bad = bucket.export(table)
    named = spoil(bucket, folder_of(bad))
    error = bench.failed(table, DOUBLE, source="export", export=bucket.url(bad)).error
    assert isinstance(error, kind) and error.exit_code == code, error
    assert error.where.startswith(f"s3://{bucket.name}/{named}") and error.hint
    assert by_id(bench, table) == {number: number for number in range(1, 41)}
    good = bucket.export(table, "some")  # where the windows come from, too
    assert exported(bench, table, DOUBLE, export=bucket.url(good)).counts.changed == 40
    assert by_id(bench, table) == {number: 2 * number for number in range(1, 41)}


def test_a_run_whose_incremental_export_is_gone_is_undone(
    bench: Bench, bucket: Bucket, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    between.append(lambda: bench.tables.put(table, *numbered(30)))
    assert isinstance(bench.failed(table, FAILING, source="export").error, DeadLetters)
    (run,) = bench.history(table)
    bucket.objects.write(f"some/AWSDynamoDB/{run.exports[1].rpartition('/')[2]}/{FILES}.json", b"")
    error = bench.failed(table, DOUBLE, source="export").error
    assert isinstance(error, RunFailed) and error.hint.startswith("restore it; or undo it: dynamodt undo")
    undo(bench, run.run)
    assert by_id(bench, table) == {1: 1, 2: 2, 30: 30}


@pytest.mark.parametrize("copied", [True, False])
def test_a_run_whose_export_is_gone_continues_with_a_copy_or_is_undone(
    bench: Bench, bucket: Bucket, make_table: MakeTable, copied: bool
) -> None:
    """A lifecycle rule of the bucket has deleted the files, or DynamoDB has forgotten the export, after 90 days."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(1, 41)))
    assert isinstance(bench.failed(table, FAILING, source="export").error, DeadLetters)
    (run,) = bench.history(table)
    s3 = client(bench.stage.connection, "s3")
    whole = f"some/AWSDynamoDB/{run.exports[0].rpartition('/')[2]}/"  # there may be an incremental one already
    found = s3.list_objects_v2(Bucket=bucket.name, Prefix=whole)["Contents"]
    for name in (entry["Key"] for entry in found):
        bucket.objects.write(name.replace("some/", "copy/"), bucket.objects.read(name) or b"")
        s3.delete_object(Bucket=bucket.name, Key=name)
    (report,) = bench.up(table, source="export")
    assert report.error is not None and "no such export" in report.error.what
    assert f"up --table {table} --export s3://" in report.error.hint and f"undo {run.run}" in report.error.hint
    if copied:
        report = exported(bench, table, DOUBLE, export=f"s3://{bucket.name}/copy", catch_up="none")
        assert report.run == run.run and report.counts == Counts(read=40, changed=40)
        assert by_id(bench, table) == {number: 2 * number for number in range(1, 41)}
    undo(bench, run.run)
    assert by_id(bench, table) == {number: number for number in range(1, 41)}


def test_a_run_does_not_continue_with_another_list_of_files(
    bench: Bench, bucket: Bucket, make_table: MakeTable
) -> None:
    """A cursor is a line of a file, by its place in the list: in another order, items would be read twice."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(*range(1, 41)))
    made = bucket.export(table)
    failing = DOUBLE.replace("2}", '(2 if item["id"] != 30 else item["none"])}')
    options = {"source": "export", "export": bucket.url(made), "catch_up": "none"}
    assert isinstance(bench.failed(table, failing, **options, max_errors=1).error, DeadLetters)
    left = by_id(bench, table)
    folder = folder_of(made)
    listed = bucket.objects.read(folder.file(f"{FILES}.json")) or b""
    write_manifest(bucket.objects, folder, FILES, b"".join(reversed(listed.splitlines(keepends=True))))
    error = bench.failed(table, DOUBLE, **options).error
    assert isinstance(error, Refused) and made.arn in error.what and "restore that one" in error.hint
    assert by_id(bench, table) == left
    write_manifest(bucket.objects, folder, FILES, listed)
    assert exported(bench, table, DOUBLE, export=bucket.url(made), catch_up="none").counts.changed == 40


def test_several_exports_under_a_prefix_are_listed(bench: Bench, bucket: Bucket, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1))
    made = [bucket.export(table), bucket.export(table)]
    error = bench.failed(table, DOUBLE, source="export", export=f"s3://{bucket.name}/others").error
    assert isinstance(error, UsageError) and all(one.id in error.what for one in made) and "name one" in error.hint
    exported(bench, table, DOUBLE, export=bucket.url(made[1]), catch_up="none")


def test_an_export_of_another_table_is_refused(bench: Bench, bucket: Bucket, make_table: MakeTable) -> None:
    table, other = make_table(id="N"), make_table(id="N")
    bench.tables.put(table, *numbered(1))
    made = bucket.export(other)
    error = bench.failed(table, DOUBLE, source="export", export=bucket.url(made)).error
    assert isinstance(error, UsageError) and "another table" in error.what and made.manifest in error.where
    exported(bench, table, DOUBLE)


def test_an_export_of_a_deleted_table_of_the_same_name_is_refused(
    bench: Bench, bucket: Bucket, make_table: MakeTable
) -> None:
    """The table was deleted and created again under its name: the export's items were another table's."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    made = bucket.export(table)
    dynamodb = client(bench.stage.connection, "dynamodb")
    dynamodb.delete_table(TableName=table)
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    bench.tables.put(table, *numbered(2, 3))
    error = bench.failed(table, DOUBLE, source="export", export=bucket.url(made), catch_up="none").error
    assert isinstance(error, Refused) and "deleted" in error.what and error.where == bucket.url(made)
    assert by_id(bench, table) == {2: 2, 3: 3} and not bench.applied(table)
    exported(bench, table, DOUBLE, export="new")


def test_an_export_with_another_key_schema_is_refused(bench: Bench, bucket: Bucket, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1))
    made = bucket.export(table)
    folder = folder_of(made)
    key = largest(bucket.objects, folder)
    rewrite(bucket.objects, folder, key, lambda lines: [b'{"Item": {"pk": {"S": "1"}}}'])
    error = bench.failed(table, DOUBLE, source="export", export=bucket.url(made)).error
    assert isinstance(error, RunFailed) and error.where.endswith(key) and "not an item of this table" in error.what
    assert by_id(bench, table) == {1: 1}
    assert exported(bench, table, DOUBLE, export="new").counts.changed == 1  # nothing was written: a run of its own
    assert [record.status for record in bench.history(table)] == ["replaced", "succeeded"]


def test_an_unreadable_line_is_a_dead_letter_that_cannot_be_retried(
    bench: Bench, bucket: Bucket, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2, 3))
    made = bucket.export(table)
    folder = folder_of(made)
    rewrite(bucket.objects, folder, largest(bucket.objects, folder), lambda lines: [*lines, b"{"])
    options = {"source": "export", "export": bucket.url(made), "max_errors": 1, "catch_up": "none"}
    for _ in range(2):
        report = bench.failed(table, DOUBLE, **options)
        assert isinstance(report.error, DeadLetters)
        assert "another export" in report.error.hint and "undo" in report.error.hint
        assert report.versions[-1].counts == Counts(read=4, changed=3, dead=1)
    (record,) = bench.history(table)
    assert record.retries == 0 and by_id(bench, table) == {1: 2, 2: 4, 3: 6}


# ---------------------------------------------------------------- killed


@pytest.fixture
def state_table(endpoint: Endpoint) -> Iterator[list[str]]:
    """The tables whose state tables are to be deleted."""
    made: list[str] = []
    yield made
    for table in made:
        endpoint.client.delete_table(TableName=f"state-{table}")


def deaths(seed: int) -> list[tuple[str, int]]:
    """Moments to be killed at: before the export is asked for, at any, and before an incremental one is."""
    known = some_deaths(
        [moment for moment in MOMENTS if moment not in ("prepared", "history", "recorded")], KILLS - 3, seed
    )
    return [("requested", 1), ("kept", 2), *known, ("requested", 1)]


def some_deaths(moments: list[str], count: int, seed: int) -> list[tuple[str, int]]:
    dice = random.Random(seed)
    dice.shuffle(moments)
    some = [moments[number % len(moments)] for number in range(count)]
    return [(moment, COUNTS.get(moment, dice.randint(1, 4))) for moment in some]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_moment_moves_every_item_exactly_once(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, state_table: list[str], seed: int
) -> None:
    """As on a scan, and also killed while it requests exports. Items are put and deleted between the attempts."""
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number, "n": 1} for number in range(1000)))
    bench.script(table, DOUBLE)
    state_table.append(table)
    killed, deleted, born = 0, set(), set()
    for number, (moment, count) in enumerate(deaths(seed)):
        ended = attempt(endpoint, bench.folder, table, "1", moment, count, bench.stage.storage.url)
        assert ended.returncode in (0, -9), (moment, ended.stderr)
        if ended.returncode == 0:
            break
        killed += 1
        gone, new = 3 * number, 1000 + number
        bench.tables.delete(table, {"id": gone})
        bench.tables.put(table, {"id": new, "n": 1})
        deleted.add(gone)
        born.add(new)
    else:
        ended = attempt(endpoint, bench.folder, table, "1", "never", 0, bench.stage.storage.url)
    assert ended.returncode == 0, ended.stderr
    print(f"killed {killed} times")
    assert killed >= min(KILLS, 20) - 1, "it was hardly ever killed: this has shown nothing"
    assert by_id(bench, table) == dict.fromkeys((set(range(1000)) | born) - deleted, 2)
    (run,) = State(endpoint.connection, f"state-{table}").runs(table)
    assert run.status == "succeeded" and run.counts.balanced and run.counts.dead == 0


MOVE = 'def transform_up(item):\n    return {**item, "id": item["id"] + 100_000, "n": item["n"] * 2}\n'


@pytest.mark.chaos
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_killed_at_any_moment_gives_every_item_its_new_key_exactly_once(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, state_table: list[str], seed: int
) -> None:
    """Each item is a transaction. An item that was deleted before it was moved does not exist under its new key."""
    table = make_table(id="N")
    items = 200 if KILLS < 8 else 600  # where it is killed often, each attempt must leave something to do
    bench.tables.put(table, *({"id": number, "n": 1} for number in range(items)))
    bench.script(table, MOVE)
    state_table.append(table)
    killed, deleted = 0, set()
    moments = [*ALONE, "claimed", "journal", "journaled", "intent", "intended", "checkpoint", "checkpointed"]
    for number, (moment, count) in enumerate(some_deaths(moments, KILLS, seed)):
        ended = attempt(endpoint, bench.folder, table, "1", moment, count, bench.stage.storage.url)
        assert ended.returncode in (0, -9), (moment, ended.stderr)
        if ended.returncode == 0:
            break
        killed += 1
        for gone in (7 * number, 7 * number + 1):
            key = {"id": {"N": str(gone)}}
            old = bench.tables.client.delete_item(TableName=table, Key=key, ReturnValues="ALL_OLD")
            deleted.update({gone} if "Attributes" in old else ())
    else:
        ended = attempt(endpoint, bench.folder, table, "1", "never", 0, bench.stage.storage.url)
    assert ended.returncode == 0, ended.stderr
    print(f"killed {killed} times")
    assert killed >= min(KILLS, 12) - 1, "it was hardly ever killed: this has shown nothing"
    assert by_id(bench, table) == {number + 100_000: 2 for number in range(items) if number not in deleted}
    (run,) = State(endpoint.connection, f"state-{table}").runs(table)
    assert run.status == "succeeded" and run.counts.balanced and run.counts.dead == 0


TAKES_KEYS = """
from dynamodt import Delete, Put

def transform_up(item):
    if item["id"] < 100:
        return Delete()
    return [{**item, "m": 0}, Put({"id": item["id"] - 100, "n": -1})]
"""


def test_an_undo_restores_items_whose_keys_the_run_has_filled(bench: Bench, make_table: MakeTable) -> None:
    """The splits of an undo are processed in any order: some items wait for their key until all splits are complete."""
    table, items = make_table(id="N"), numbered(*range(40), *range(100, 140))
    bench.tables.put(table, *items)
    bench.run(table, TAKES_KEYS, source="export", catch_up="none")
    foreseen = undo(bench, last(bench, table).run, dry_run=True)
    report = undo(bench, last(bench, table).run)
    assert (report.error, report.not_restored, bench.tables.items(table)) == (None, 0, items)
    assert (foreseen.not_restored, foreseen.run.counts) == (0, report.run.counts)


def test_an_undo_restores_the_waiting_items_of_an_incremental_export_before_the_main_phase(
    bench: Bench, make_table: MakeTable, between: list[Callable[[], None]]
) -> None:
    """The main phase has changed the items that the phase of an incremental export deletes and replaces."""
    table, items = make_table(id="N"), numbered(*range(40), *range(100, 140))
    bench.tables.put(table, *items)
    between.append(lambda: bench.tables.put(table, *({**item, "x": 1, "go": True} for item in items)))
    go = TAKES_KEYS.replace("    if item", '    if "go" not in item:\n        return {**item, "x": 1}\n    if item', 1)
    go = go.replace('"n": -1', '"n": -1, "x": 1')
    exported(bench, table, "IDEMPOTENT = True\n" + go, journal=True)
    report = undo(bench, last(bench, table).run)
    assert bench.tables.items(table) == [{**item, "go": True} for item in items], report
    assert (report.error, report.not_restored) == (None, 0)


def test_an_export_from_before_the_last_run_is_refused(
    bench: Bench, make_table: MakeTable, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its items lack the changes of the previous version: this version would change nothing, and count as applied."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(1, 2))
    made = bucket.export(table)
    later = datetime.now(UTC) + timedelta(seconds=9)  # than the export, whatever a second is a part of
    monkeypatch.setattr(history, "now", lambda: later.isoformat(timespec="seconds"))
    bench.run(table, 'def transform_up(item):\n    return {**item, "kind": "a"}\n')
    text = 'def transform_up(item):\n    return {**item, "old": True} if "kind" in item else item\n'
    bench.script(table, text, 2, "next")
    (report,) = bench.up(table, source="export", export=bucket.url(made), catch_up="none")
    assert isinstance(report.error, Refused) and "older than the last change of the table, by run" in str(report.error)
    (report,) = bench.up(table, source="export", export="new", catch_up="none")
    assert report.error is None and report.versions[0].counts == Counts(read=2, changed=2)


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens of the exports that were requested."""
    tokens: list[str] = []
    original = exports.request
    monkeypatch.setattr(exports, "request", lambda of, wanted: tokens.append(wanted.token) or original(of, wanted))
    return tokens


def test_a_dry_run_whose_command_is_refused_requests_no_export(
    bench: Bench, make_table: MakeTable, requested: list[str]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(0, 1, 2))
    left = bench.failed(table, "def transform_up(item): return {**item, 'v': 1 / item['n']}", max_errors=1)
    assert isinstance(left.error, DeadLetters) and left.versions[0].counts.changed
    (foreseen,) = bench.up(table, source="export", dry_run=True)
    (refused,) = bench.up(table, source="export")
    assert isinstance(foreseen.error, Refused) and str(foreseen.error) == str(refused.error)
    assert foreseen.error.hint == refused.error.hint and "began with a scan" in str(refused.error)  # type: ignore[union-attr]
    assert requested == []


def test_a_dry_run_requests_no_export_if_the_command_is_refused_for_another_table(
    bench: Bench, make_table: MakeTable, requested: list[str]
) -> None:
    tables = refused, exported, scanned = sorted(make_table(id="N") for _ in range(3))
    bench.script(refused, "def transform_up(item): return item['typo'")
    bench.script(exported, "SOURCE = 'export'\n" + DOUBLE)
    bench.script(scanned, DOUBLE)
    for table in tables:
        bench.tables.put(table, *numbered(1, 2))
    reports = api.up(bench.stage, bench.folder, tables, None, RunOptions(dry_run=True), bench.recorder)
    assert requested == [] and isinstance(reports[0].error, ScriptError)
    assert isinstance(reports[1].error, Refused) and f"refused for table {refused}" in reports[1].error.what
    assert reports[2].error is None and reports[2].versions[0].counts == Counts(read=2, changed=2)
    bench.script(refused, DOUBLE)
    reports = api.up(bench.stage, bench.folder, tables, None, RunOptions(dry_run=True), bench.recorder)
    assert [report.error for report in reports] == [None] * 3 and len(requested) == 1


def test_a_run_that_dead_letters_of_the_other_direction_refuse_requests_no_export(
    bench: Bench, make_table: MakeTable, bucket: Bucket, requested: list[str]
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(0, 1, 2))
    bench.script(table, "def transform_up(item): return {**item, 'v': 1 / item['n']}\n" + BACK)
    (report,) = bench.up(table, max_errors=1)
    assert report.error is None and report.versions[0].counts.dead == 1
    s3 = client(bench.stage.connection, "s3")
    for entry in s3.list_objects_v2(Bucket=bucket.name, Prefix="some/runs/")["Contents"]:
        s3.delete_object(Bucket=bucket.name, Key=entry["Key"])
    for dry_run in (True, False):
        (refused,) = bench.down(table, source="export", dry_run=dry_run)
        assert isinstance(refused.error, Refused) and "are gone" in str(refused.error)
    assert requested == [] and [run.status for run in bench.history(table)] == ["succeeded"]
