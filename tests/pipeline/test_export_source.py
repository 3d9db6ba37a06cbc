"""A version that reads an export while its table has moved on: `pipeline.read` in the real composition."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.export.request import ExportFolder, folder_of
from dynamodt.model.pages import Counts
from dynamodt.model.runs import Job, ScanSource
from dynamodt.pipeline import signals
from dynamodt.pipeline.migrate import migrate
from dynamodt.runs.jobs import new_run, retry_job
from dynamodt.state.object_keys import DEAD, key_of_job
from dynamodt.state.split_rows import SplitRows
from tests.fakes import FakeDynamoDB, numbers
from tests.pipeline.conftest import Bench
from tests.pipeline.exporter import FILES, Exporter, by_id
from tests.pipeline.undoing import retry_dead_letters
from tests.spoilt_exports import largest, listed, rewrite

pytestmark = pytest.mark.slow

DOUBLE = """
def transform_up(item):
    return {**item, "n": item["n"] * 2}
"""
SPLIT = """
from dynamodt import Put

def transform_up(item):
    return [item, Put({"id": item["id"] + 1000, "n": item["n"]})]
"""
MOVE = """
def transform_up(item):
    return {**item, "id": item["id"] + 1000}
"""
BESIDE = SPLIT.replace("[item,", '[{**item, "split": True},')


@pytest.fixture
def exporter(bench: Bench) -> Exporter:
    return Exporter(bench)


# ---------------------------------------------------------------- the table has moved on


def test_an_item_changed_since_the_export_is_transformed_exactly_once_in_its_present_state(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put(*numbers(23))
    export = exporter.export()
    bench.dynamodb.put({"id": 3, "n": 100, "note": "live"}, {"id": 50, "n": 7})
    bench.dynamodb.delete({"id": 4})
    job = exporter.job(export, DOUBLE)
    assert bench.execute(job) == Counts(read=23, changed=21, unchanged=1, vanished=1)
    expected = {n: 2 * n for n in range(23)} | {3: 200, 50: 7}  # 50 is for a window
    del expected[4]
    assert by_id(bench) == expected
    assert bench.dynamodb.calls["Scan"] == 0 and bench.dynamodb.calls["BatchGetItem"] == 3  # is 4 gone, is either new?


def test_an_item_that_the_application_already_transformed_counts_as_superseded(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put({"id": 1, "name": "old"})
    export = exporter.export()
    bench.dynamodb.put({"id": 1, "name": "new", "upper": "NEW"})
    script = 'def transform_up(item):\n    return {**item, "upper": item["name"].upper()}'
    assert bench.execute(exporter.job(export, script)) == Counts(read=1, superseded=1)


def test_an_export_of_an_empty_table(bench: Bench, exporter: Exporter) -> None:
    export = exporter.export()
    bench.dynamodb.put({"id": 1, "n": 1})
    assert bench.execute(exporter.job(export, DOUBLE)) == Counts()
    assert by_id(bench) == {1: 1}


def test_a_dry_run_of_an_export_sends_no_request_to_the_table(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*numbers(23))
    export = exporter.export()
    assert bench.execute(replace(exporter.job(export, DOUBLE), dry_run=True)).changed == 22
    assert by_id(bench) == {n: n for n in range(23)} and not bench.dynamodb.calls


# ---------------------------------------------------------------- several items made of one, and a death


@pytest.mark.parametrize("writes", [0, 1, 4])
@pytest.mark.parametrize("act", ["", "change", "delete"])
@pytest.mark.parametrize("script", [MOVE, BESIDE])
def test_the_next_attempt_writes_each_transaction_once_from_the_present_items(
    bench: Bench, exporter: Exporter, script: str, act: str, writes: int
) -> None:
    """An item that the application has deleted is not moved; one that it has changed is moved with its changes."""
    bench.dynamodb.put(*numbers(12))
    job = replace(exporter.job(exporter.export(), script), writers=1)
    bench.die_after(job, writes)
    made = {number - 1000 for number in by_id(bench) if number >= 1000}
    for item in bench.items():
        if act == "delete" and item["id"] < 1000:
            bench.dynamodb.delete({"id": item["id"]})
        if act == "change" and item["id"] < 1000:
            bench.dynamodb.put({**item, "n": item["n"] + 500})
    counts = bench.execute(replace(job, attempt=2))  # asserts the balance
    lost = set(range(12)) - made if act == "delete" else set()
    assert counts == Counts(read=12, changed=12 - len(lost), vanished=len(lost))
    late = 500 if act == "change" else 0
    moved = {number + 1000: number + (late if number not in made else 0) for number in range(12) if number not in lost}
    stayed = {number: number + late for number in range(12)} if script == BESIDE and act != "delete" else {}
    assert by_id(bench) == moved | stayed


# ---------------------------------------------------------------- insertions that die


ALL_TO_ONE = """
from dynamodt import Put

def transform_up(item):
    return [item, Put({"id": 500})]
"""
INTO = "TARGET_TABLE = 'others'\n" + MOVE


def replayed(bench: Bench, job: Job) -> Counts:
    """The counts of a phase whose items are throttled until all are dead letters, and of their replay."""
    bench.dynamodb.faults = deque(["throttled"] * 900)
    bench.execute(job)
    bench.dynamodb.faults.clear()
    again = retry_job(replace(job, attempt=2), 1, tuple(bench.storage.names(key_of_job(job, DEAD))))
    bench.state.lease(again)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        migrate(pipeline, again, bench.resources)
    totals = (bench.state.splits(each.run).totals(each.splits) for each in (job, again))
    return next(totals).plus(next(totals)).counts


def test_an_inserted_item_is_replayed_from_its_source(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    job = replace(exporter.job(exporter.export(), SPLIT), max_errors=9)
    assert replayed(bench, job) == Counts(read=1, changed=1)
    assert by_id(bench) == {1: 1, 1001: 1}


def test_two_items_that_insert_the_same_item_are_both_replayed(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 2})
    job = replace(exporter.job(exporter.export(), ALL_TO_ONE), max_errors=9)
    assert replayed(bench, job) == Counts(read=2, changed=1, unchanged=1)


def test_an_item_of_a_target_table_is_replayed_from_its_source(bench: Bench, exporter: Exporter) -> None:
    """The fake is one table: it is the target, too."""
    bench.dynamodb.put({"id": 1, "n": 1})
    job = replace(exporter.job(exporter.export(), INTO), max_errors=9, target=bench.dynamodb.spec)
    assert replayed(bench, job) == Counts(read=1, changed=1)
    assert by_id(bench) == {1: 1, 1001: 1}


# ---------------------------------------------------------------- lines that are no items


def test_unreadable_lines_count_as_read_and_are_dead_letters_in_a_file_of_their_own(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put(*numbers(23), {"id": 99})
    export = exporter.export()
    folder = folder_of(export)
    key = largest(bench.objects, folder)
    rewrite(bench.objects, folder, key, lambda lines: [b'{"Item": 1}', *lines[:2], b"{", *lines[2:]])
    counts = bench.execute(replace(exporter.job(export, DOUBLE), max_errors=3))
    assert counts == Counts(read=26, changed=22, unchanged=1, dead=3)
    names = [name for name in bench.storage.names("runs/") if "/dead/" in name]
    apart = [name for name in names if name.endswith("-unreadable.jsonl")]
    dead_letters = [json.loads(line) for name in apart for line in (bench.storage.read(name) or b"").splitlines()]
    assert [(one["key"], one["step"]) for one in dead_letters] == [({}, "read")] * 2
    for line, dead_letter in zip((1, 4), dead_letters, strict=True):
        assert dead_letter["error"].startswith(f"s3://bucket/{key}, line {line}: ")
    (other,) = set(names) - set(apart)
    assert other.endswith("-transform.jsonl") and len((bench.storage.read(other) or b"").splitlines()) == 1


# ---------------------------------------------------------------- in the middle of a file


class Killed(Exception):
    pass


def before_a_write(bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    left = iter(range(count))

    def die(table: FakeDynamoDB) -> None:
        if next(left, None) is None:
            raise Killed

    bench.dynamodb.before_write = die


def before_a_checkpoint(bench: Bench, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    left, original = iter(range(count)), SplitRows.checkpoint

    def die(self: SplitRows, *args: Any, **how: Any) -> None:
        if next(left, None) is None:
            raise Killed
        original(self, *args, **how)

    monkeypatch.setattr(SplitRows, "checkpoint", die)


@pytest.mark.parametrize("count", [1, 5, 8])
@pytest.mark.parametrize("kill", [before_a_write, before_a_checkpoint])
def test_a_run_that_died_continues_in_the_middle_of_a_file(
    bench: Bench, exporter: Exporter, monkeypatch: pytest.MonkeyPatch, kill: Callable[..., None], count: int
) -> None:
    bench.dynamodb.put(*({"id": n, "n": n + 1} for n in range(200)))
    export = exporter.export()
    folder = folder_of(export)
    rewrite(bench.objects, folder, largest(bench.objects, folder), lambda lines: [b"no item", *lines])
    job = exporter.job(export, DOUBLE)
    with monkeypatch.context() as patch:
        kill(bench, patch, count)
        with pytest.raises(Exception, match="Killed"):
            bench.execute(replace(job, max_errors=1))
    bench.dynamodb.before_write = None
    in_the_middle(bench, folder, job)
    counts = bench.execute(replace(job, attempt=2, max_errors=1))
    assert counts == Counts(read=201, changed=200, dead=1)
    assert by_id(bench) == {n: 2 * (n + 1) for n in range(200)}


def in_the_middle(bench: Bench, folder: ExportFolder, job: Job) -> None:
    """Some page had an intent and no checkpoint, and its cursor is a line within its file."""
    items = [int(entry["itemCount"]) for entry in listed(bench.objects, folder)]
    claims = bench.state.splits(job.run).all(FILES)
    intended = [(claim.split, claim.intent.cursor) for claim in claims if claim.intent is not None]
    assert intended and all(isinstance(cursor, int) and 0 < cursor < items[split] for split, cursor in intended)


# ---------------------------------------------------------------- windows


def test_an_incremental_export_gives_only_new_items_to_a_script_that_is_not_idempotent(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put(*({"id": n, "n": 1} for n in range(20)))
    full = exporter.export()
    bench.dynamodb.put({"id": 2, "n": 10}, {"id": 30, "n": 10}, {"id": 31, "n": 10})
    bench.dynamodb.delete({"id": 3})
    job = exporter.job(full, DOUBLE)
    assert bench.execute(job) == Counts(read=20, changed=19, vanished=1)
    window = exporter.export(full)  # holds this run's own writes, too
    bench.dynamodb.delete({"id": 31})
    bench.dynamodb.put({"id": 30, "n": 11})
    assert bench.execute(exporter.window(job, 1, window)) == Counts(read=2, changed=1, vanished=1)
    expected = dict.fromkeys(range(20), 2) | {2: 20, 30: 22}
    del expected[3]
    assert by_id(bench) == expected  # deleted items stay deleted
    last = exporter.export(window)
    assert bench.execute(exporter.window(job, 2, last)) == Counts()
    assert by_id(bench) == expected


def test_an_incremental_export_gives_every_changed_item_to_an_idempotent_script(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put(*({"id": n, "n": n} for n in range(5)))
    full = exporter.export()
    job = exporter.job(full, 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "twice": item["n"] * 2}')
    assert bench.execute(job).changed == 5
    bench.dynamodb.put({"id": 0, "n": 50, "twice": 0}, {"id": 9, "n": 9})
    bench.dynamodb.delete({"id": 1})
    window = exporter.export(full)
    bench.dynamodb.delete({"id": 2})
    counts = bench.execute(exporter.window(job, 1, window))
    assert counts == Counts(read=5, changed=2, unchanged=3)  # 2 needs no write, and is not looked at
    assert {int(item["id"]): item["twice"] for item in bench.items()} == {0: 100, 3: 6, 4: 8, 9: 18}


def test_an_incremental_export_skips_items_with_the_run_s_stamp(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*({"id": n, "n": n} for n in range(4)))
    full = exporter.export()
    job = exporter.job(full, 'STAMP = "_mark"' + SPLIT)
    assert bench.execute(job).changed == 4
    bench.dynamodb.put({"id": 500, "n": 5, "_mark": new_run()})
    window = exporter.export(full)
    assert bench.execute(exporter.window(job, 1, window)) == Counts(read=1, changed=1)
    assert sorted(by_id(bench)) == [0, 1, 2, 3, 500, 1000, 1001, 1002, 1003, 1500]
    last = exporter.export(window)
    assert bench.execute(exporter.window(job, 2, last)) == Counts()


def test_the_final_scan_skips_items_with_the_run_s_stamp(bench: Bench, exporter: Exporter) -> None:
    bench.dynamodb.put(*({"id": n, "n": n + 1} for n in range(4)))
    full = exporter.export()
    job = exporter.job(full, 'STAMP = "_mark"' + DOUBLE, final_scan=True)
    assert bench.execute(job).changed == 4
    bench.dynamodb.put({"id": 7, "n": 7})
    rest = replace(job, run=f"{job.run}/final-scan", source=ScanSource())
    assert bench.execute(rest) == Counts(read=5, changed=1, unchanged=4)
    assert by_id(bench) == {0: 2, 1: 4, 2: 6, 3: 8, 7: 14}


BAD = """
from dynamodt import Put

def transform_up(item):
    if "bad" in item:
        raise ValueError(item["id"])
    return {CHANGED}
"""
TWICE_N = '{**item, "n": item["n"] * 2}'
CREATED_AGAIN = {
    "update": (TWICE_N, {1: 20}, "unchanged"),
    "update, changed since": (TWICE_N, {1: 21}, "dead"),
    "fan-out": (f'[{TWICE_N}, Put({{"id": item["id"] + 100, "n": item["n"]}})]', {1: 20, 101: 10}, "unchanged"),
}


@pytest.mark.parametrize("phase", ["main", "incremental"])
@pytest.mark.parametrize("case", CREATED_AGAIN)
def test_a_retry_does_not_transform_what_an_incremental_export_has_transformed(
    bench: Bench, exporter: Exporter, case: str, phase: str
) -> None:
    """The item of a dead letter was deleted, and created again: a later incremental export shows it as created."""
    changed, expected, outcome = CREATED_AGAIN[case]
    text = BAD.replace("{CHANGED}", changed)
    if phase == "incremental":
        full = exporter.export()
    bench.dynamodb.put({"id": 1, "n": 1, "bad": True})
    made = [exporter.export() if phase == "main" else exporter.export(full)]
    job = replace(exporter.job(made[0] if phase == "main" else full, text), max_errors=9)
    dead = job if phase == "main" else exporter.window(job, 1, made[0])
    assert bench.execute(dead).dead == 1
    bench.dynamodb.delete({"id": 1})
    made.append(exporter.export(made[-1]))
    bench.dynamodb.put({"id": 1, "n": 10})
    made.append(exporter.export(made[-1]))
    windows = [exporter.window(job, number, one) for number, one in enumerate(made[1:], 2)]
    assert [bench.execute(window).changed for window in windows] == [0, 1]
    if 21 in expected.values():
        bench.dynamodb.put({"id": 1, "n": 21})
    _, counts = retry_dead_letters(bench, dead, later=tuple(window.run for window in windows))
    assert (by_id(bench), counts.plus(Counts(dead=1))) == (expected, Counts(**{outcome: 1}))


@pytest.mark.parametrize(("stamp", "outcome"), [("", "dead"), ('STAMP = "_mark"', "unchanged")])
def test_an_item_created_again_before_the_export_was_read_to_its_end_is_transformed_once(
    bench: Bench, exporter: Exporter, stamp: str, outcome: str
) -> None:
    """Reading took longer than an incremental export can span: two of them precede its end."""
    bench.dynamodb.put({"id": 1, "n": 1}, {"id": 2, "n": 2})
    full = exporter.export()
    bench.dynamodb.delete({"id": 1})
    first = exporter.export(full)
    bench.dynamodb.put({"id": 1, "n": 10})
    second = exporter.export(first)
    job = replace(exporter.job(full, stamp + DOUBLE), max_errors=9)
    assert bench.execute(job) == Counts(read=2, changed=2)
    if stamp:  # otherwise its values show it
        bench.dynamodb.put({**bench.items()[0], "n": 21})
    assert bench.execute(exporter.window(job, 1, first)) == Counts()
    found = bench.execute(exporter.window(job, 2, second))
    assert (found.dead, found.unchanged + found.superseded) == ((1, 0) if outcome == "dead" else (0, 1)), found
    assert by_id(bench) == {1: 21 if stamp else 20, 2: 4}


def test_an_item_at_the_key_of_an_insertion_of_the_run_is_left_as_the_application_has_put_it(
    bench: Bench, exporter: Exporter
) -> None:
    bench.dynamodb.put({"id": 1, "n": 1})
    full = exporter.export()
    job = exporter.job(full, BESIDE)
    assert bench.execute(job).changed == 1
    bench.dynamodb.delete({"id": 1001})
    first = exporter.export(full)
    bench.dynamodb.put({"id": 1001, "n": 5})
    for number, one in enumerate((first, exporter.export(first)), 1):
        assert bench.execute(exporter.window(job, number, one)) == Counts()
    assert by_id(bench) == {1: 1, 1001: 5}


# ---------------------------------------------------------------- under other keys


@pytest.mark.parametrize(("text", "left"), [(SPLIT, 24), (MOVE, 12)], ids=["put", "re-key"])
def test_a_script_that_inserts_may_read_an_export(bench: Bench, exporter: Exporter, text: str, left: int) -> None:
    bench.dynamodb.put(*numbers(12))
    counts = bench.execute(exporter.job(exporter.export(), text))
    assert counts == Counts(read=12, changed=12) and len(bench.items()) == left


@pytest.mark.parametrize("text", [SPLIT, MOVE], ids=["put", "re-key"])
def test_a_script_that_inserts_is_refused_with_a_final_scan(bench: Bench, exporter: Exporter, text: str) -> None:
    bench.dynamodb.put(*numbers(12))
    job = exporter.job(exporter.export(), text, final_scan=True)
    with pytest.raises(Exception, match="final scan"):
        bench.execute(job)
    error = signals.reported_error(bench.state.leases.read(job.lease), job)
    assert error is not None and error.exit_code == 2 and "--catch-up none" in error.hint
    assert by_id(bench) == {n: n for n in range(12)}
