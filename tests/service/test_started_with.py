"""The inputs with which a run started are part of it: any of them may differ when the run is continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.batch import Writes
from dynamodt.errors import DeadLetters, DynamodtError, Refused, RunFailed, ScriptError, ServiceError
from dynamodt.model.reports import TableReport, UndoReport
from dynamodt.model.tables import StorageSpec
from dynamodt.runs.options import RunOptions
from tests.emulators import Endpoint, in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.kills import attempt

pytestmark = pytest.mark.endpoints("ministack")  # enough for most of it; table identities are tried on both below

# It doubles a number, so that a second application shows; item 0 fails until it is mended.
DOUBLE = """
{settings}
def transform_up(item{prepared}):
    if item["id"] == 0 and {bad}:
        raise ValueError("bad")
    return {{**item, "n": item["n"] * 2{more}}}

def transform_down(item):
    if item["id"] == 0 and {bad_down}:
        raise ValueError("bad")
    return {{**item, "n": item["n"] / 2}}
"""
ITEMS = 40


def double(settings: str = "", bad: bool = False, bad_down: bool = False, prepared: str = "", more: str = "") -> str:
    return DOUBLE.format(settings=settings, bad=bad, bad_down=bad_down, prepared=prepared, more=more)


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    fill(bench, name)
    return name


def fill(bench: Bench, table: str) -> None:
    bench.tables.put(table, *({"id": number, "n": 1} for number in range(ITEMS)))


def recreate(bench: Bench, table: str, key: str = "id", kind: str = "N") -> None:
    """Replaces the table, as a stack or a restore does."""
    bench.tables.client.delete_table(TableName=table)
    bench.tables.client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind}],
        BillingMode="PAY_PER_REQUEST",
    )


def half_done(bench: Bench, table: str, settings: str = "", **words: str) -> str:
    """A run that has written all items but one; returns its id."""
    bench.script(table, double(settings, bad=True, **words))
    report = bench.run_past_dead_letters(table, max_errors=5)
    assert isinstance(report.error, DeadLetters), report.error
    return report.versions[0].run


def numbers(bench: Bench, table: str) -> list[int]:
    return [int(item["n"]) for item in bench.tables.items(table)]


def undone(bench: Bench, table: str, run: str) -> UndoReport:
    return operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)


def refused(bench: Bench, table: str, *words: str) -> Refused:
    """`up` is refused with a message, and has written nothing."""
    before, runs = bench.tables.items(table), bench.history(table)
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused), report.error
    assert bench.tables.items(table) == before and bench.history(table) == runs
    for word in words:
        assert word in f"{report.error.where} {report.error.what} {report.error.hint}", report.error
    return report.error


def last(bench: Bench, table: str) -> Any:
    return bench.history(table)[-1]


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("", 'STAMP = "_s"'),
        ('STAMP = "_s"', ""),
        ('STAMP = "_s"', 'STAMP = "_t"'),
        ("", 'GUARD = "changed"'),
        ('GUARD = "changed"', ""),
        ("", "IDEMPOTENT = True"),
    ],
)
def test_a_run_continues_with_the_settings_of_its_start(bench: Bench, table: str, was: str, now: str) -> None:
    run = half_done(bench, table, was)
    bench.script(table, double(now))
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].run == run
    assert numbers(bench, table) == [2] * ITEMS
    stamped = {name for item in bench.tables.items(table) for name in item if name.startswith("_")}
    assert stamped == ({"_s"} if "_s" in was else set())
    assert undone(bench, table, run).error is None and numbers(bench, table) == [1] * ITEMS


def test_an_idempotent_run_is_not_continued_by_a_script_that_is_not(bench: Bench, table: str) -> None:
    run = half_done(bench, table, "IDEMPOTENT = True")
    bench.script(table, double())
    refused(bench, table, run, "IDEMPOTENT was True and is False", "restore")
    bench.script(table, double("IDEMPOTENT = True"))
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


@pytest.mark.parametrize(("was", "now"), [(0, 1), (1, 0), (1, 2)])
def test_another_target_is_refused_and_an_undo_uses_the_target_of_the_run(
    bench: Bench, table: str, make_table: MakeTable, was: int, now: int
) -> None:
    targets = ["", *(f'TARGET_TABLE = "{make_table(id="N")}"' for _ in range(2))]
    run = half_done(bench, table, targets[was])
    bench.script(table, double(targets[now]))
    refused(bench, table, run, "TARGET_TABLE was", f"dynamodt undo {run}")
    ((shown,),) = (report.versions for report in bench.up(table))
    assert (shown.run, shown.status, shown.counts.changed) == (
        run,
        "refused",
        ITEMS - 1,
    ) and "TARGET_TABLE" in shown.error
    with_source = bench.tables.items(table)
    assert undone(bench, table, run).error is None
    assert len(bench.tables.items(table)) == ITEMS and numbers(bench, table) == [1] * ITEMS
    assert with_source == bench.tables.items(table) or not was
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].run != run


def test_a_run_that_has_written_nothing_begins_again(bench: Bench, table: str, make_table: MakeTable) -> None:
    target = make_table(id="N")
    bench.script(table, "def transform_up(item):\n    raise ValueError('bad')\n")
    (failed,) = bench.up(table)
    assert isinstance(failed.error, DeadLetters)
    bench.script(table, double(f'TARGET_TABLE = "{target}"'))
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, target) == [2] * ITEMS
    assert [run.status for run in bench.history(table)] == ["replaced", "succeeded"]
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert [version.state for version in status.versions] == ["applied"]


@pytest.mark.parametrize("by", ["script", "option"])
def test_a_run_that_has_written_nothing_may_read_another_source(
    bench: Bench, table: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export is impossible here, since the storage is a folder, which the run finds too late."""
    bench.script(table, double('SOURCE = "export"'))
    with monkeypatch.context() as patch:
        patch.setattr("dynamodt.runs.preflight.check_exportable", lambda *_: None)
        assert bench.up(table)[0].error is not None
    bench.script(table, double() if by == "script" else double('SOURCE = "export"'))
    (report,) = bench.up(table, source="scan" if by == "option" else "")
    assert report.error is None and numbers(bench, table) == [2] * ITEMS
    assert [(run.status, run.source) for run in bench.history(table)] == [("replaced", "export"), ("succeeded", "scan")]


def test_the_hint_for_another_source_names_every_option_that_chooses_one(bench: Bench, table: str) -> None:
    half_done(bench, table)
    bench.script(table, double())
    (report,) = bench.up(table, source="export", catch_up="none")
    assert isinstance(report.error, Refused) and "leave out --source, --export and --catch-up" in report.error.hint


def test_another_storage_is_refused(bench: Bench, table: str, tmp_path: Path) -> None:
    run = half_done(bench, table)
    bench.script(table, double())
    moved = replace(bench, stage=replace(bench.stage, storage=StorageSpec(str(tmp_path / "elsewhere"))))
    undo = f"DYNAMODT_STORAGE={bench.stage.storage.url} dynamodt undo {run}"
    refused(moved, table, "storage was", str(tmp_path / "elsewhere"), undo)
    with pytest.raises(Refused, match="the journal of run"):
        undone(moved, table, run)
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


# ---------------------------------------------------------------- the formula


def test_a_run_continues_with_an_edited_function_and_both_texts_are_in_the_history(bench: Bench, table: str) -> None:
    run = half_done(bench, table)
    first = last(bench, table).checksum
    bench.script(table, double(more=', "edited": True'))
    (report,) = bench.up(table)
    second = last(bench, table).checksum
    assert report.error is None and report.versions[0].run == run
    assert report.versions[0].texts == ((first, ITEMS - 1), (second, 1))
    assert sum("edited" in item for item in bench.tables.items(table)) == 1


def test_a_file_that_the_function_uses_is_part_of_the_text(bench: Bench, table: str) -> None:
    """A module is corrected between two attempts; the script is unchanged."""
    path = bench.beside(f"{table}/formula.py", "def twice(n):\n    return 1 / (n - 1)\n")
    text = "from formula import twice\ndef transform_up(item):\n    return {**item, 'n': twice(item['id'])}\n"
    bench.script(table, text)
    report = bench.run_past_dead_letters(table, max_errors=5)
    first = last(bench, table)
    assert isinstance(report.error, DeadLetters) and first.files.keys() == {f"{table}/formula.py"}
    path.write_text("def twice(n):\n    return 2\n")
    (report,) = bench.up(table)
    second = last(bench, table)
    assert report.error is None and second.checksum == first.checksum
    assert report.versions[0].texts == ((first.content, ITEMS - 1), (second.content, 1))
    assert any(f"transforms/{table}/formula.py was edited since" in note for note in bench.recorder.notes)


@pytest.mark.parametrize(
    ("moment", "count"), [("intended", 2), ("sent", 3), *in_chaos(("answered", 1), ("journaled", 1))]
)
def test_the_history_counts_the_items_of_each_text_of_a_killed_run_exactly(
    bench: Bench, endpoint: Endpoint, table: str, moment: str, count: int
) -> None:
    """Of a page with an intent, the written items are counted for the first text, and the others for the second."""
    bench = replace(bench, stage=replace(bench.stage, state_table=f"state-{table}"))
    operations.State(bench.stage.connection, bench.stage.state_table).ensure()
    bench.script(table, double())
    assert attempt(endpoint, bench.folder, table, "1", moment, count).returncode == -9
    first = last(bench, table).checksum
    bench.script(table, double(more=', "edited": True'))
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, table) == [2] * ITEMS
    edited = sum("edited" in item for item in bench.tables.items(table))
    told = {text.checksum: text.items for text in report.versions[0].texts}
    assert told == ({first: ITEMS - edited, last(bench, table).checksum: edited} if edited < ITEMS else {})


def test_reformatting_between_two_attempts_is_no_edit(bench: Bench, endpoint: Endpoint, table: str) -> None:
    bench = replace(bench, stage=replace(bench.stage, state_table=f"state-{table}"))
    operations.State(bench.stage.connection, bench.stage.state_table).ensure()
    bench.script(table, double())
    assert attempt(endpoint, bench.folder, table, "1", "answered", 1).returncode == -9
    first = last(bench, table)
    path = bench.script(table, f"# SPDX-License-Identifier: MIT\n{double()}")
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].texts == () and numbers(bench, table) == [2] * ITEMS
    assert not any("was edited" in note for note in bench.recorder.notes)
    assert last(bench, table).checksum == first.checksum and last(bench, table).text != first.text
    assert path.read_text().count("SPDX") == 1


# ---------------------------------------------------------------- prepared data and own rows

PREPARE = "def prepare(context):\n    yield 'rate', {0}\n    yield 'other', 1\n"
PREPARE_TURNED = "def prepare(context):\n    yield 'other', 1\n    yield 'rate', 1\n"
JOINED = {"prepared": ", prepared", "more": ', "rate": prepared["rate"]'}


def test_prepared_data_with_other_rows_is_refused(bench: Bench, table: str) -> None:
    bench.script(table, double(PREPARE.format(1), bad=True, **JOINED))
    bench.prepare(table)
    run = half_done(bench, table, PREPARE.format(1), **JOINED)
    bench.script(table, double(PREPARE.format(2), **JOINED))
    refused(bench, table, "another text", "dynamodt prepare")
    bench.prepare(table)
    refused(bench, table, "prepared data has other rows", f"dynamodt undo {run}")
    bench.script(table, double(PREPARE_TURNED, **JOINED))  # the same rows, by another text
    bench.prepare(table)
    assert bench.up(table)[0].error is None
    assert {int(item["rate"]) for item in bench.tables.items(table)} == {1}


READ = """
from pathlib import Path

def items():
    for digit in (Path(__file__).parent / "rows").read_text():
        yield {"id": 100 + int(digit), "n": 2}
"""
OWN = "def items():\n    for number in {0}:\n        yield {{'id': number, 'n': 2}}\n"


def test_changed_rows_of_items_are_refused_once_some_were_inserted(bench: Bench, table: str) -> None:
    bench.script(table, double(OWN.format("(100, 101)"), bad=True))
    (report,) = bench.up(table)  # it ends before its own rows
    assert isinstance(report.error, DeadLetters)
    bench.script(table, double(OWN.format("(102, 101)")))
    assert bench.up(table)[0].error is None
    assert [int(item["id"]) for item in bench.tables.items(table)][ITEMS:] == [101, 102]


@pytest.mark.parametrize("now", ["(101, 100)", "(100, 101, 102)", "(100,)"])
def test_rows_of_items_in_another_order_are_refused(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    run = half_done(bench, table, OWN.format("(100, 101)"))
    state = operations.State(bench.stage.connection, bench.stage.state_table)
    state.splits(f"{run}/items").claim(0, 1)
    bench.script(table, double(OWN.format(now)))
    refused(bench, table, "items() gives other rows", f"dynamodt undo {run}")
    bench.script(table, double(OWN.format("(100, 101)")))
    assert bench.up(table)[0].error is None


def test_down_leaves_no_row_of_items(bench: Bench, table: str) -> None:
    """It deletes the rows that `items()` gives, which may read a file that has changed since `up`."""
    rows = bench.beside(f"{table}/rows", "987")
    bench.script(table, double(READ))
    assert bench.up(table)[0].error is None
    run = bench.history(table)[0].run
    rows.write_text("786")
    for dry_run in (True, False):
        (report,) = bench.down(table, dry_run=dry_run)
        assert isinstance(report.error, Refused) and f"does not give 1 row that run {run}" in report.error.what
        assert report.versions == ()  # that run has succeeded: nothing of it is continued
        assert f"dynamodt undo {run}" in report.error.hint and numbers(bench, table) == [2] * (ITEMS + 3)
    rows.write_text("78695")  # in another order, and more of them
    assert bench.down(table)[0].error is None and numbers(bench, table) == [1] * ITEMS


def test_two_rows_of_items_with_one_key_are_refused_before_the_first_write(bench: Bench, table: str) -> None:
    bench.script(table, double(OWN.format("(100, 101, 100)")))
    (report,) = bench.up(table)
    assert isinstance(report.error, ScriptError) and "rows 1 and 3" in report.error.what
    assert numbers(bench, table) == [1] * ITEMS and bench.history(table) == []


# ---------------------------------------------------------------- tables that are not the same any more


def test_a_run_on_a_recreated_table_begins_again(bench: Bench, table: str) -> None:
    run = half_done(bench, table)
    recreate(bench, table)
    fill(bench, table)
    with pytest.raises(Refused, match="another table of this name"):
        undone(bench, table, run)
    with pytest.raises(Refused, match="deleted and created again") as caught:
        operations.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert f"dynamodt up --table {table}" in caught.value.hint
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert status.younger and [(one.state, one.run) for one in status.versions] == [("pending", None)]
    bench.script(table, double())
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, table) == [2] * ITEMS
    assert [(one.status, one.attempts) for one in bench.history(table)] == [("replaced", 1), ("succeeded", 1)]
    with pytest.raises(Refused, match="replaced"):
        undone(bench, table, run)


@pytest.mark.parametrize("settings", ["", "IDEMPOTENT = True"])
def test_a_run_whose_file_is_missing_is_refused_with_the_name_of_the_file(
    bench: Bench, table: str, settings: str
) -> None:
    bench.script(table, "def transform_up(item): return item")
    bench.script(table, double(settings, bad=True), 2, "double").rename(bench.folder / "kept")
    assert bench.up(table)[0].at == 1
    (bench.folder / "kept").rename(file := bench.folder / f"transforms/{table}/v2_double.py")
    run = bench.run_past_dead_letters(table, max_errors=5).versions[0].run
    file.unlink()
    hint = refused(bench, table, "unfinished", "bring v2_double.py back", f"dynamodt up --table {table} --to 2").hint
    assert (f"dynamodt undo {run}" in hint) == (not settings)  # the other one keeps no journal
    if not settings:
        undone(bench, table, run)
        assert bench.up(table)[0].error is None and numbers(bench, table) == [1] * ITEMS


def test_a_run_whose_number_belongs_to_another_script_is_refused(bench: Bench, table: str) -> None:
    """Two branches were merged: the unfinished version got the next number. It would be applied twice to some items."""
    run = half_done(bench, table)
    file = bench.folder / f"transforms/{table}/v1_change.py"
    kept = file.read_text()
    file.unlink()
    bench.script(table, "def transform_up(item): return {**item, 'm': 1}", 1, "other")
    bench.script(table, double(), 2, "change")
    refused(bench, table, f"run {run}", "another script", "bring v1_change.py back", f"dynamodt undo {run}")
    (bench.folder / f"transforms/{table}/v1_other.py").unlink()
    (bench.folder / f"transforms/{table}/v2_change.py").unlink()
    file.with_name("v1_renamed.py").write_text(kept.replace("bad", "bad"))  # a new name alone changes nothing
    assert isinstance(bench.up(table)[0].error, DeadLetters)
    bench.script(table, double(), 1, "renamed")
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


def test_a_run_on_a_table_recreated_with_another_key_begins_again(bench: Bench, table: str) -> None:
    half_done(bench, table)
    recreate(bench, table, "sk", "S")
    bench.tables.put(table, {"sk": "1", "id": 1, "n": 1})
    bench.script(table, double())
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2]


def test_a_table_restored_to_a_time_within_a_run_is_refused(bench: Bench, table: str) -> None:
    run = half_done(bench, table)
    backup = bench.tables.items(table)
    recreate(bench, table)
    bench.tables.put(table, *({**item, "n": 1} for item in backup[:20]), *backup[20:])  # some of each unit are done
    bench.script(table, double())
    refused(bench, table, f"from a moment within run {run}", "restore it from before")
    assert operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder).at == 0  # an operator's command
    assert bench.up(table)[0].error is None


@pytest.mark.parametrize("was", ["idempotent", "without its journal"])
def test_a_table_possibly_restored_to_a_time_within_a_run_is_refused(bench: Bench, table: str, was: str) -> None:
    run = half_done(bench, table, "IDEMPOTENT = True" if was == "idempotent" else "")
    if was != "idempotent":
        gone(bench, table, run, "journal")
    backup = bench.tables.items(table)
    recreate(bench, table)
    bench.tables.put(table, *({**item, "n": 1} for item in backup[:20]), *backup[20:])
    bench.script(table, double())
    told = ("IDEMPOTENT was True", "is False") if was == "idempotent" else ("of the journal", "restore the journal")
    refused(bench, table, run, *told, f"dynamodt stamp --table {table} --to 0")
    fill(bench, table)  # from before the run, as a person says
    assert operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder).at == 0
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


def test_an_idempotent_script_is_applied_again_to_a_restored_table(bench: Bench, table: str) -> None:
    half_done(bench, table, "IDEMPOTENT = True")
    recreate(bench, table)
    fill(bench, table)
    bench.script(table, double("IDEMPOTENT = True"))
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


@pytest.mark.parametrize("how", ["up", "down", "up again"])
def test_applied_versions_of_a_deleted_table_need_a_stamp(bench: Bench, table: str, how: str) -> None:
    bench.script(table, double())
    assert bench.up(table)[0].at == 1
    recreate(bench, table)
    fill(bench, table)
    if how == "up again":
        bench.script(table, "def transform_up(item):\n    return {**item, 'v': 2}\n", 2)
    (report,) = bench.down(table) if how == "down" else bench.up(table)
    assert isinstance(report.error, Refused) and "created after its last run" in report.error.what
    assert f"dynamodt stamp --table {table} --to N" in report.error.hint
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert "created after its last run" in status.younger
    assert "created after its last run" in operations.younger(bench.stage, table, bench.history(table))
    at = 0 if how == "up again" else 1
    assert operations.stamp(bench.stage, bench.folder, table, at, bench.recorder).at == at
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert status.younger == "" and status.at == at
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, table) == [2 if at == 0 else 1] * ITEMS


def test_prepared_data_of_a_table_that_was_recreated_before_its_first_run_is_refused(bench: Bench, table: str) -> None:
    bench.script(table, double(PREPARE.format(1), **JOINED))
    bench.prepare(table)
    recreate(bench, table)
    fill(bench, table)
    refused(bench, table, "of a former table", "dynamodt prepare")
    assert numbers(bench, table) == [1] * ITEMS
    bench.prepare(table)
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


def test_down_leaves_the_rows_that_a_recreated_table_has(bench: Bench, table: str) -> None:
    """They are the application's, though equal to rows that the run has inserted into the former table."""
    bench.script(table, double(OWN.format("(100, 101)")))
    assert bench.up(table)[0].at == 1
    recreate(bench, table)
    fill(bench, table)
    bench.tables.put(table, {"id": 100, "n": 2})
    assert operations.stamp(bench.stage, bench.folder, table, 1, bench.recorder).at == 1
    before = len(bench.recorder.notes)
    (report,) = bench.down(table)
    assert report.error is None and report.at == 0
    assert {int(item["id"]) for item in bench.tables.items(table)} == {*range(ITEMS), 100}
    assert any("a former table of this name" in note for note in bench.recorder.notes[before:])


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_run_whose_table_is_recreated_meanwhile_has_not_succeeded(
    bench: Bench, table: str, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    target = make_table(id="N") if which == "target" else ""
    bench.script(table, double(f'TARGET_TABLE = "{target}"' if target else ""))
    kind, names = "single" if target else "batch", [target or table]
    sent = getattr(Writes, kind)

    def send(writes: Writes, *arguments: Any) -> Any:
        for name in names:
            recreate(bench, name)
            fill(bench, table)
        names.clear()
        return sent(writes, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Writes, kind, send)
        (report,) = bench.up(table)
    assert isinstance(report.error, RunFailed) and "deleted during the run" in report.error.what
    assert (target or table) in report.error.where and f"dynamodt stamp --table {table} --to N" in report.error.hint
    assert bench.applied(table) == [] and last(bench, table).status == "failed"


def test_a_table_that_cannot_be_described_at_the_end_of_a_run_is_noted(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.script(table, double(""))
    denied = ServiceError("DescribeTable was refused: AccessDeniedException", where=f"table {table}")

    def identity(*_: Any) -> str:
        raise denied

    monkeypatch.setattr("dynamodt.runs.plan._identity", identity)
    (report,) = bench.up(table)
    assert (report.error, bench.applied(table)) == (None, [1])
    assert f"whether the table was deleted during the run is not known: {denied}" in bench.recorder.notes


def test_an_unfinished_run_on_a_deleted_table_prevents_no_run(bench: Bench, table: str) -> None:
    bench.script(table, double())
    assert bench.up(table)[0].at == 1
    bench.script(table, double(bad=True), 2)
    assert isinstance(bench.run_past_dead_letters(table, max_errors=5).error, DeadLetters)
    recreate(bench, table)
    fill(bench, table)
    assert operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder).at == 0
    assert bench.history(table)[1].status == "replaced"
    bench.script(table, double(), 2)
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, table) == [4] * ITEMS


def test_a_partly_undone_run_on_a_deleted_table_prevents_no_run(bench: Bench, table: str) -> None:
    run = half_done(bench, table)
    state = operations.State(bench.stage.connection, bench.stage.state_table)
    left = last(bench, table)
    state.rows.transact([{"Put": state._run_put(replace(left, status="undoing", revision=left.revision + 1))}])
    bench.script(table, double())
    refused(bench, table, "the undo is unfinished")
    recreate(bench, table)
    fill(bench, table)
    with pytest.raises(Refused, match="another table of this name"):
        undone(bench, table, run)
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


def test_a_recreated_target_is_filled_again(bench: Bench, table: str, make_table: MakeTable) -> None:
    target = make_table(id="N")
    run = half_done(bench, table, f'TARGET_TABLE = "{target}"')
    recreate(bench, target)
    with pytest.raises(Refused, match="another table of this name"):
        undone(bench, table, run)
    bench.script(table, double(f'TARGET_TABLE = "{target}"'))
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, target) == [2] * ITEMS


def test_a_recreated_source_of_a_target_is_refused_until_the_run_is_undone(
    bench: Bench, table: str, make_table: MakeTable
) -> None:
    target = make_table(id="N")
    run = half_done(bench, table, f'TARGET_TABLE = "{target}"')
    recreate(bench, table)
    fill(bench, table)
    bench.script(table, double(f'TARGET_TABLE = "{target}"'))
    refused(bench, table, "deleted and created again", f"dynamodt undo {run}")
    assert undone(bench, table, run).error is None and bench.tables.items(target) == []
    (report,) = bench.up(table)
    assert report.error is None and numbers(bench, target) == [2] * ITEMS


# ---------------------------------------------------------------- the way down


def test_the_script_of_a_down_with_dead_letters_can_be_corrected(bench: Bench, table: str) -> None:
    bench.script(table, double(bad_down=True))
    assert bench.up(table)[0].error is None
    report = bench.run_past_dead_letters(table, "down", max_errors=5)
    assert isinstance(report.error, DeadLetters)
    bench.script(table, double())
    (report,) = bench.down(table)
    assert report.error is None and report.at == 0 and numbers(bench, table) == [1] * ITEMS
    assert [text.items for text in report.versions[0].texts] == [ITEMS - 1, 1]


def test_an_edited_file_is_refused_before_a_down_begins(bench: Bench, table: str) -> None:
    bench.script(table, double())
    assert bench.up(table)[0].error is None
    bench.script(table, double(more=', "edited": 1'))
    (report,) = bench.down(table)
    assert isinstance(report.error, Refused) and "was edited" in report.error.what


@pytest.mark.parametrize("command", ["retry", "down"])
def test_every_command_that_would_continue_the_run_is_refused(
    bench: Bench, table: str, make_table: MakeTable, command: str
) -> None:
    run = half_done(bench, table)
    bench.script(table, double(f'TARGET_TABLE = "{make_table(id="N")}"'))
    before = bench.tables.items(table)
    if command == "retry":
        (report,) = operations.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    else:
        (report,) = bench.down(table)
    assert isinstance(report.error, DynamodtError) and bench.tables.items(table) == before


@pytest.mark.parametrize("tolerated", [0, ITEMS])
@pytest.mark.parametrize("now", ['STAMP = "_s"', 'GUARD = "changed"', "IDEMPOTENT = True"])
def test_a_retry_continues_its_run_although_that_has_written_nothing(
    bench: Bench, table: str, tolerated: int, now: str
) -> None:
    run = nothing_written(bench, table, tolerated)
    bench.script(table, double(now))
    (report,) = retried(bench, table, run)
    assert report.error is None and report.versions[0].run == run
    assert numbers(bench, table) == [2] * ITEMS and len(bench.history(table)) == 1


@pytest.mark.parametrize("tolerated", [0, ITEMS])
def test_a_retry_of_a_run_with_other_inputs_names_them(
    bench: Bench, table: str, make_table: MakeTable, tolerated: int
) -> None:
    run = nothing_written(bench, table, tolerated)
    bench.script(table, double(f'TARGET_TABLE = "{make_table(id="N")}"'))
    (report,) = retried(bench, table, run)
    assert isinstance(report.error, Refused) and "TARGET_TABLE was not set" in report.error.what
    begins = f"dynamodt up --table {table} --to 1"
    assert report.error.hint.endswith(f"undo it (dynamodt undo {run}), and begin a new run: {begins}")


@pytest.mark.parametrize("tolerated", [0, ITEMS])
def test_the_hint_of_a_refused_retry_applies_an_idempotent_version_again(
    bench: Bench, table: str, tolerated: int
) -> None:
    """Its prepared data has changed: the version can be applied to all items again."""
    prepare, words = 'def prepare(context):\n    yield "r", {}\n', {"prepared": ", prepared"}
    bench.script(table, double("IDEMPOTENT = True\n" + prepare.format(1), bad=True, **words))
    bench.prepare(table)
    (report,) = bench.up(table, max_errors=tolerated)
    run = report.versions[0].run
    bench.script(table, double("IDEMPOTENT = True\n" + prepare.format(2), **words))
    bench.prepare(table)
    (report,) = retried(bench, table, run)
    assert isinstance(report.error, Refused) and "the prepared data has other rows" in report.error.what
    again = f"dynamodt up --table {table} --to 1"
    assert report.error.hint.endswith(f"dynamodt stamp --table {table} --to 0, then {again}" if tolerated else again)


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("tolerated", [0, 1])
def test_the_hint_of_a_retry_without_its_dead_letters_begins_a_new_run(
    bench: Bench, table: str, tolerated: int, journal: bool
) -> None:
    bench.script(table, double("IDEMPOTENT = True", bad=True))
    (report,) = bench.up(table, max_errors=tolerated, journal=journal)
    gone(bench, table, run := report.versions[0].run, "dead")
    bench.script(table, double("IDEMPOTENT = True"))
    (report,) = retried(bench, table, run)
    assert isinstance(report.error, Refused) and "are gone" in report.error.what
    again, hint = f"dynamodt up --table {table} --to 1", str(report.error.hint)
    if journal:
        assert hint.startswith(f"undo the run (dynamodt undo {run}), and begin a new one: {again}; or,")
        assert undone(bench, table, run).error is None
    elif tolerated:
        assert hint.startswith(f"begin a new one: dynamodt stamp --table {table} --to 0, then {again}; or,")
        operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder)
    else:
        assert hint.startswith(f"begin a new one: {again}; or,")
    assert bench.up(table, to=1)[0].error is None and last(bench, table).run != run


def nothing_written(bench: Bench, table: str, tolerated: int) -> str:
    """A run whose items are dead letters, the first of them or all; returns its id."""
    bench.script(table, double().replace('item["id"] == 0 and False', "True"))
    (report,) = bench.up(table, max_errors=tolerated)
    assert (report.error is None) == bool(tolerated) and numbers(bench, table) == [1] * ITEMS
    return report.versions[0].run


def retried(bench: Bench, table: str, run: str) -> list[TableReport]:
    return operations.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)


# ---------------------------------------------------------------- dead letters that are gone


def gone(bench: Bench, table: str, run: str, what: str) -> None:
    """Deletes the dead letters, as a life-cycle rule of the bucket does."""
    for path in (Path(bench.stage.storage.url) / "runs" / table / run).rglob(f"{what}/*"):
        path.unlink()


@pytest.mark.parametrize("what", ["dead", "retries"])
def test_lost_dead_letters_are_reported_with_the_possible_next_commands(bench: Bench, table: str, what: str) -> None:
    run = half_done(bench, table)
    report = bench.run_past_dead_letters(table, max_errors=5)  # they are replayed, and die again
    assert isinstance(report.error, DeadLetters)
    gone(bench, table, run, what)
    bench.script(table, double())
    refused(bench, table, "gone", f"dynamodt undo {run}", f"dynamodt stamp --table {table} --to 1")
    (report,) = operations.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert isinstance(report.error, Refused) and "gone" in report.error.what
    assert undone(bench, table, run).error is None and numbers(bench, table) == [1] * ITEMS
    assert bench.up(table)[0].error is None and numbers(bench, table) == [2] * ITEMS


def cut(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def swapped(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize(
    ("what", "damage"), [("dead", cut), ("retries", swapped), *in_chaos(("dead", swapped), ("retries", cut))]
)
def test_dead_letters_that_are_damaged_or_of_another_run_are_gone_too(
    bench: Bench, make_table: MakeTable, table: str, what: str, damage: Callable[[Path, Path], None]
) -> None:
    another = make_table(id="N")
    bench.tables.put(another, *bench.tables.items(table))
    stored = []
    for name in (table, another):
        run = half_done(bench, name)
        assert isinstance(bench.run_past_dead_letters(name, max_errors=5).error, DeadLetters)
        stored += Path(bench.stage.storage.url).glob(f"runs/{name}/{run}/{what}/*")
        bench.script(name, double())
    damage(*stored)
    refused(bench, table, "gone", "truncated, or of another run")
    assert operations.show(bench.stage, bench.folder, [table], last(bench, table).run).record.counts.dead == 1


def test_lost_dead_letters_of_a_retry_are_reported_too(bench: Bench, table: str) -> None:
    run = half_done(bench, table)
    assert isinstance(bench.run_past_dead_letters(table, max_errors=5).error, DeadLetters)
    gone(bench, table, f"{run}/retry1", "dead")
    bench.script(table, double())
    refused(bench, table, "gone")
    taken = operations.stamp(bench.stage, bench.folder, table, 1, bench.recorder)
    assert taken.at == 1 and bench.history(table)[0].status == "replaced"
    assert bench.up(table)[0].error is None and bench.applied(table) == [1]


def test_an_idempotent_run_with_lost_dead_letters_begins_again(bench: Bench, table: str) -> None:
    run = half_done(bench, table, "IDEMPOTENT = True")
    gone(bench, table, run, "dead")
    bench.script(table, double("IDEMPOTENT = True"))
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].run != run and report.versions[0].counts.read == ITEMS
