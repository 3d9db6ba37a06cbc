"""`undo` by an incomplete journal, and the effect of partly restored items on the next run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.batch import BatchAnswer, Coming, Verdict, Writes
from dynamodt.errors import Refused, RunFailed, ServiceError
from dynamodt.model.pages import Counts
from dynamodt.state.journal import checked
from dynamodt.state.object_keys import JOURNAL, object_key
from tests.emulators import dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.undoing import DOUBLE, FRAIL, last, numbered, undo

pytestmark = dynamodb_local_in_chaos


def parts(bench: Bench, table: str) -> list[Path]:
    return sorted((bench.folder / "storage" / object_key(table, last(bench, table).run, JOURNAL)).iterdir())


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.tables.put(name, *numbered(40))
    bench.run(name, DOUBLE)
    return name


def doubled(bench: Bench, table: str) -> int:
    return sum("twice" in item for item in bench.tables.items(table))


@pytest.mark.parametrize("dry_run", [True, False])
def test_without_its_journal_nothing_is_undone(bench: Bench, table: str, dry_run: bool) -> None:
    shutil.rmtree(bench.folder / "storage")
    report = undo(bench, last(bench, table).run, dry_run=dry_run)
    assert isinstance(report.error, Refused) and "is incomplete" in report.error.what
    assert "--partial" in report.error.hint and "older versions" in report.error.hint
    assert (report.run.status, report.run.counts, report.at) == ("refused", Counts(), 1)
    assert doubled(bench, table) == 40 and bench.applied(table) == [1] and last(bench, table).status == "succeeded"


def test_a_partial_undo_reverts_the_existing_parts_and_later_the_others(bench: Bench, table: str) -> None:
    run, (lost, *_) = last(bench, table).run, parts(bench, table)
    kept = lost.read_bytes()
    lost.unlink()
    report = undo(bench, run, partial=True)
    assert isinstance(report.error, RunFailed) and "is undone in part: 1 of the" in report.error.what
    assert report.missing == 1 and report.run.status == last(bench, table).status == "partly-undone"
    assert 0 < doubled(bench, table) < 40 and bench.applied(table) == [1]
    for moved in (bench.up(table), bench.up(table, dry_run=True)):
        assert isinstance(moved[0].error, Refused) and f"dynamodt undo {run}" in moved[0].error.hint
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert (status.versions[0].state, status.versions[0].run and status.versions[0].run.status) == (
        "unfinished",
        "partly-undone",
    )
    assert isinstance(undo(bench, run).error, Refused)

    lost.write_bytes(kept)
    whole = undo(bench, run)
    assert (whole.error, whole.run.status, whole.missing) == (None, "undone", 0)
    assert bench.tables.items(table) == numbered(40) and bench.applied(table) == []


def test_a_part_that_is_lost_between_two_tries_hides_no_other(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodt.runs.jobs._PAGE_ITEMS", 2)
    monkeypatch.setattr("dynamodt.pipeline.record._FLUSH_SECONDS", 0.0)  # every page is checkpointed
    table = make_table(id="N")
    bench.tables.put(table, *numbered(40))
    bench.run(table, DOUBLE)
    run = last(bench, table).run
    with monkeypatch.context() as broken:
        broken.setattr(Writes, "batch", failing(Writes.batch, after=1))
        assert isinstance(undo(bench, run).error, ServiceError)
    restored = {int(item["id"]) for item in bench.tables.items(table) if "twice" not in item}
    done = next(part for part in parts(bench, table) if keys_of(bench, part) <= restored)
    done.unlink()
    report = undo(bench, run, partial=True)
    assert (report.missing, report.run.status, doubled(bench, table)) == (1, "partly-undone", 0)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_items_that_a_stopped_undo_has_not_restored_are_reported_by_the_next_one(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], Any]
) -> None:
    run = last(bench, table).run
    bench.tables.put(table, {"id": 3, "n": 8, "twice": False})
    with monkeypatch.context() as broken:
        broken.setattr("dynamodt.runs.undo.gather_not_restored", failing(print, after=0))
        assert isinstance(undo(bench, run).error, ServiceError)
    (stored,) = (bench.folder / "storage").rglob("not-restored/*")
    damage(stored)
    report = undo(bench, run)
    assert (report.error, report.run.status, report.not_restored, report.partly) == (None, "undone", 1, 1)


def failing(original: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = count(1)

    def call(*args: Any) -> Any:
        if next(calls) > after:
            raise ServiceError("no answer")
        return original(*args)

    return call


def keys_of(bench: Bench, part: Path) -> set[int]:
    name = str(part.relative_to(bench.folder / "storage"))
    lines = checked(name, part.read_bytes()).content().splitlines()
    return {int(json.loads(line)["Keys"]["id"]["N"]) for line in lines}


def test_a_stamp_after_a_partial_undo_states_what_is_applied(bench: Bench, table: str) -> None:
    run = last(bench, table).run
    parts(bench, table)[0].unlink()
    undo(bench, run, partial=True)
    taken = operations.stamp(bench.stage, bench.folder, table, 1, bench.recorder)
    assert taken.at == 1 and [one.status for one in bench.history(table)] == ["closed", "stamped"]
    assert [report.error for report in bench.up(table)] == [None]
    with pytest.raises(Refused, match="its version stamped since"):
        undo(bench, run)


def test_partly_restored_items_are_transformed_only_on_request(bench: Bench, table: str) -> None:
    run = last(bench, table).run
    bench.tables.put(table, {"id": 3, "n": 8, "twice": False}, {"id": 5, "n": 1, "twice": "mine"})
    report = undo(bench, run)
    assert (report.error, report.not_restored, report.partly, report.fully) == (None, 2, 1, 38)
    lines = {
        line["key"]["id"]["N"]: line for line in map(json.loads, Path(report.not_restored_at).read_text().splitlines())
    }
    assert lines["3"]["restored"] == ["n"] and lines["5"]["restored"] == []
    for options in ({}, {"dry_run": True}):
        (refused,) = bench.up(table, **options)
        assert isinstance(refused.error, Refused) and "1 item of version 1 in part" in refused.error.what
        assert refused.error.where == report.not_restored_at and "--accept-partly-restored" in refused.error.hint
    assert doubled(bench, table) == 2 and len(bench.history(table)) == 1
    (accepted,) = bench.up(table, accept_partly_restored=True)
    assert accepted.error is None and accepted.at == 1
    assert undo(bench, last(bench, table).run).error is None
    assert [again.error for again in bench.up(table)] == [None], "it was accepted before"


def changed_since(bench: Bench, table: str, patch: pytest.MonkeyPatch) -> None:
    bench.tables.put(table, {"id": 3, "n": 9})


def moved_and_changed_since(bench: Bench, table: str, patch: pytest.MonkeyPatch) -> None:
    bench.tables.put(table, {"id": 103, "n": 8, "note": "mine"})


def not_writable(bench: Bench, table: str, patch: pytest.MonkeyPatch) -> None:
    """The first write, as of a number that is no key of an index that was made since."""
    original, rejected = Writes.batch, iter([Verdict("rejected", None, "no key")])

    def batch(self: Writes, statements: Any) -> Coming:
        first = list(islice(rejected, 1))
        answers = original(self, statements[len(first) :])().verdicts if statements[len(first) :] else []
        return lambda: BatchAnswer([*first, *answers], None)

    patch.setattr(Writes, "batch", batch)
    patch.setattr(Writes, "single", lambda self, call: lambda: BatchAnswer([Verdict("rejected", None, "no key")], None))


MOVES = '[{**item, "n": item["n"] * 2, "id": item["id"] + 100}, Put({"id": item["id"] + 1000, "n": 0})]'


@pytest.mark.parametrize(
    ("result", "idempotent", "act"),
    [
        ('{**item, "n": item["n"] * 2}', False, changed_since),
        ('{**item, "n": item["n"] * 2}', True, changed_since),
        ('{**item, "n": item["n"] * 2}', False, not_writable),
        (MOVES + ' if item["id"] < 100 else item', False, moved_and_changed_since),
    ],
)
def test_items_that_an_undo_has_left_are_transformed_only_on_request(
    bench: Bench,
    make_table: MakeTable,
    monkeypatch: pytest.MonkeyPatch,
    result: str,
    idempotent: bool,
    act: Callable[[Bench, str, pytest.MonkeyPatch], None],
) -> None:
    """Unless the script is idempotent."""
    table = make_table(id="N")
    script = f"from dynamodt import Put\ndef transform_up(item):\n    return {result}\n"
    bench.tables.put(table, *numbered(4))
    bench.script(table, "IDEMPOTENT = True\n" + script)
    assert bench.up(table, journal=True)[0].error is None
    with monkeypatch.context() as patch:
        act(bench, table, patch)
        report = undo(bench, last(bench, table).run, max_errors=1)
    assert (report.error, report.not_restored, report.partly) == (None, 1, 0)
    left, run = bench.tables.items(table), last(bench, table).run
    bench.script(table, f"IDEMPOTENT = {idempotent}\n" + script)
    (again,) = bench.up(table, source="export" if "100" in result else "")
    assert (again.error is None) == idempotent
    if not idempotent:
        assert (
            isinstance(again.error, Refused) and f"undo of run {run} has left 1 item of version 1" in again.error.what
        )
        assert again.error.where == report.not_restored_at and "--accept-partly-restored" in again.error.hint
        assert bench.tables.items(table) == left
        bench.script(table, "def transform_up(item):\n    return {**item, 'seen': True}\n")
        assert bench.up(table, accept_partly_restored=True)[0].error is None
        assert last(bench, table).accepts == (run,)


def test_items_left_in_a_target_table_are_not_transformed_again(bench: Bench, make_table: MakeTable) -> None:
    source, target = make_table(id="N"), make_table(id="N")
    bench.tables.put(source, *numbered(4))
    bench.script(source, f'TARGET_TABLE = "{target}"\ndef transform_up(item):\n    return {{**item, "n": 9}}\n')
    assert bench.up(source)[0].error is None
    bench.tables.put(target, {"id": 3, "n": 9, "note": "mine"})
    report = undo(bench, last(bench, source).run)
    assert (report.error, report.not_restored, len(bench.tables.items(target))) == (None, 1, 1)
    bench.tables.put(source, {"id": 3, "n": 0, "note": "mine"})
    (again,) = bench.up(source)
    assert (again.error, len(bench.tables.items(target))) == (None, 4)


def test_items_that_an_undo_has_left_are_looked_for_before_the_first_of_several_versions(
    bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(4))
    bench.script(table, "IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, 'seen': True}\n")
    bench.script(table, DOUBLE, 2, "double")
    assert bench.up(table, journal=True)[0].at == 2
    bench.tables.put(table, {"id": 3, "n": 9, "twice": "mine", "seen": True})
    first, second = (run.run for run in bench.history(table))
    assert undo(bench, second).not_restored == 1 and undo(bench, first).error is None
    (again,) = bench.up(table)
    assert isinstance(again.error, Refused) and f"undo of run {second} has left 1 item" in again.error.what
    assert len(bench.history(table)) == 2
    assert bench.up(table, accept_partly_restored=True)[0].at == 2
    bench.script(table, DOUBLE.replace("* 2", "* 3"), 3, "triple")
    assert bench.up(table)[0].at == 3, "they are accepted for all versions of that command"


def test_a_phase_interrupted_by_a_retry_is_undone_in_two_parts(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(60))
    bench.failed(table, FRAIL.format(bad="(7,)"))
    bench.script(table, FRAIL.format(bad="()"))
    (report,) = bench.up(table)
    assert report.error is None
    order = [one.rpartition("@")[0] for one in last(bench, table).order]
    assert order[:2] == ["", "/retry1"]
    found = undo(bench, last(bench, table).run)
    assert (found.error, found.not_restored, found.run.counts) == (None, 0, Counts(read=60, changed=60))
    assert bench.tables.items(table) == numbered(60)


def test_a_run_records_the_order_of_its_phases(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(20))
    text = 'def items():\n    yield {"id": 100, "n": 1}\ndef transform_up(item):\n    return {**item, "m": 1}\n'
    bench.run(table, text)
    assert [one.rpartition("@")[0] for one in last(bench, table).order] == ["", "/items"]
