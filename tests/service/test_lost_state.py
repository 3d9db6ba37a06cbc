"""The state table is unreachable at the end of a run: the run is reported as far as it is known, with its error, and
the same command continues it. A state table that was restored from a backup is refused."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.cli.next_steps import not_applied
from dynamodt.dynamodb.batch import Writes
from dynamodt.errors import Refused, RunFailed, ServiceError
from dynamodt.model.reports import TableStatus
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import TableSpec
from dynamodt.runs.dead_letters import samples_under
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage
from tests.service.bench import Bench, Recorder
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")

MARK = """
def transform_up(item):
    return {**item, "n": item.get("n", 0) + 1}

def transform_down(item):
    return {name: value for name, value in item.items() if name != "n"}
"""
OLDER = "the state table is older than the storage"
_LOST = ServiceError("TransactWriteItems failed: connection refused", where="state table", hint="check the network")


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.script(name, MARK, 1, "mark")
    bench.tables.put(name, *({"id": number} for number in range(30)))
    return name


class Lost:
    """The records of these statuses cannot be written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.statuses: tuple[str, ...] = ()
        record = State.record

        def lost(state: State, one: RunRecord, token: int, **more: Any) -> RunRecord:
            if one.status in self.statuses:
                raise _LOST
            return record(state, one, token, **more)

        monkeypatch.setattr(State, "record", lost)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Lost:
    return Lost(monkeypatch)


def test_an_end_that_cannot_be_recorded_is_reported_and_continued(bench: Bench, table: str, lost: Lost) -> None:
    lost.statuses = ("succeeded",)
    (report,) = bench.up(table)
    (run,) = report.versions
    assert report.error is _LOST and (run.status, run.counts.changed) == ("failed", 30)
    assert run.error == str(_LOST) and report.at == 0
    assert any(run.run in note and "could not be recorded" in note for note in bench.recorder.notes)
    lost.statuses = ()
    (report,) = bench.up(table)
    assert report.error is None and [one.run for one in report.versions] == [run.run]
    assert {item["n"] for item in bench.tables.items(table)} == {1}


def test_the_error_that_ended_the_run_is_reported_although_it_cannot_be_recorded(
    bench: Bench, table: str, lost: Lost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RunFailed("the pipeline failed")

    lost.statuses = ("failed", "stopped")
    with monkeypatch.context() as patched:
        patched.setattr("dynamodt.runs.execute.run_phases", broken)
        (report,) = bench.up(table)
    assert isinstance(report.error, RunFailed) and report.error.what == "the pipeline failed"
    assert [run.status for run in report.versions] == ["failed"]
    lost.statuses = ()
    (report,) = bench.up(table)
    assert report.error is None and report.at == 1


def test_an_undo_whose_end_cannot_be_recorded_is_reported_and_continued(bench: Bench, table: str, lost: Lost) -> None:
    (done,) = bench.up(table)
    run = done.versions[0].run
    lost.statuses = ("undone",)
    report = operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert report.error is _LOST and (report.run.status, report.run.counts.changed, report.at) == ("undoing", 30, 1)
    assert any("the undo of run" in note and "could not be recorded" in note for note in bench.recorder.notes)
    lost.statuses = ()
    report = operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert report.error is None and (report.run.status, report.at) == ("undone", 0)
    assert all("n" not in item for item in bench.tables.items(table))


# ---------------------------------------------------------------- a state table that was restored from a backup


class Backup:
    """The rows of the state table at one moment."""

    def __init__(self, bench: Bench) -> None:
        self._client, self._table = bench.tables.client, bench.stage.state_table
        self._rows = self._all()

    def _all(self) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
        return [row for page in pages for row in page["Items"]]

    def restore(self) -> None:
        for row in self._all():
            self._client.delete_item(TableName=self._table, Key={name: row[name] for name in ("pk", "sk")})
        for row in self._rows:
            self._client.put_item(TableName=self._table, Item=row)


def marks(bench: Bench, table: str) -> set[Any]:
    return {item.get("n") for item in bench.tables.items(table)}


def check_refused_until_stamped(bench: Bench, table: str) -> None:
    """Nothing is written until an operator has stamped the table, however often the command is repeated."""
    for _ in range(2):
        (report,) = bench.up(table)
        assert isinstance(report.error, Refused) and OLDER in report.error.what
        assert marks(bench, table) == {1}
    operations.stamp(bench.stage, bench.folder, table, 1, bench.recorder)
    (report,) = bench.up(table)
    assert (report.error, report.at, marks(bench, table)) == (None, 1, {1})
    (report,) = bench.down(table, to=0)
    assert (report.error, marks(bench, table)) == (None, {None})


def test_a_state_table_from_before_a_run_is_refused(bench: Bench, table: str) -> None:
    before = Backup(bench)
    assert bench.up(table)[0].error is None
    before.restore()
    check_foretold(bench, table)
    check_refused_until_stamped(bench, table)


def check_foretold(bench: Bench, table: str) -> None:
    """Dry run, plan and status report the refusal."""
    (dry,) = bench.up(table, dry_run=True)
    assert dry.refusal is not None and OLDER in dry.refusal.what
    (forecast,) = operations.forecast(bench.stage, bench.folder, [table], None, RunOptions())
    assert [OLDER in one.text for one in forecast.obstacles if one.stops] == [True]
    assert OLDER in status_of(bench, table).older_state


def status_of(bench: Bench, table: str) -> TableStatus:
    (status,) = operations.status(bench.stage, bench.folder, [table])
    return status


def test_an_older_state_table_is_refused_also_with_nothing_to_do(bench: Bench, table: str) -> None:
    """The version has been rolled back since the backup."""
    bench.up(table)
    before = Backup(bench)
    assert status_of(bench, table).older_state == "" and bench.down(table)[0].error is None
    before.restore()
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and OLDER in report.error.what
    status = status_of(bench, table)
    error = not_applied(status)
    assert status.versions[0].state == "applied" and error is not None and OLDER in error.what
    operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder)
    assert status_of(bench, table).older_state == "" and bench.up(table)[0].error is None


def test_nothing_to_do_needs_no_storage(bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As before a run whose role may read the state table only; a pending version needs the storage."""
    assert bench.up(table)[0].error is None

    def unreachable(*_: Any) -> str:
        raise _LOST

    monkeypatch.setattr("dynamodt.runs.restored_tables.unknown_run", unreachable)
    assert bench.up(table)[0].error is None and str(_LOST) in bench.recorder.notes[-1]
    check_not_compared(status_of(bench, table))
    bench.script(table, "def transform_up(item):\n    return item\n", 2)
    assert bench.up(table)[0].error is _LOST
    (dry,) = bench.up(table, dry_run=True)
    assert (dry.error, dry.refusal) == (None, None)
    assert f"whether the command would be refused is not known: {_LOST}" in bench.recorder.notes


def check_not_compared(status: TableStatus) -> None:
    """`status` reports the error, and `status --check` fails for it."""
    error = not_applied(status)
    assert (status.younger, status.older_state, status.unread) == ("", "", _LOST)
    assert error is not None and str(_LOST) in error.what and error.hint == _LOST.hint


def test_status_reports_that_a_table_cannot_be_described(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench.up(table)[0].error is None

    def denied(*_: Any) -> TableSpec:
        raise _LOST

    monkeypatch.setattr("dynamodt.dynamodb.table.describe", denied)
    check_not_compared(status_of(bench, table))
    runs, recorder = bench.history(table), Recorder()
    assert operations.younger(bench.stage, table, runs, recorder) == "" and str(_LOST) in recorder.notes[-1]


def test_no_table_of_the_command_is_started_on_an_older_state_table(
    bench: Bench, table: str, make_table: MakeTable
) -> None:
    other = make_table(id="N")
    bench.script(other, MARK, 1, "mark")
    before = Backup(bench)
    assert bench.up(table)[0].error is None
    before.restore()
    assert [report.versions for report in bench.up(other, table)] == [(), ()]


def test_a_state_table_from_between_two_versions_of_a_command_is_refused(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both versions run under one lease."""
    bench.script(table, 'def transform_up(item):\n    return {**item, "m": item.get("m", 0) + 1}\n', 2)
    backups = list[Backup]()
    monkeypatch.setattr(bench.recorder, "run_ended", lambda report: backups.append(Backup(bench)))
    assert bench.up(table)[0].at == 2
    backups[0].restore()
    for _ in range(2):
        (report,) = bench.up(table)
        assert isinstance(report.error, Refused) and OLDER in report.error.what
        assert {item["m"] for item in bench.tables.items(table)} == {1}


def test_a_killed_emulator_has_table_and_state_of_the_same_time(bench: Bench, table: str) -> None:
    """The embedded stage's files are later than both: the run is repeated."""
    before, items = Backup(bench), bench.tables.items(table)
    embedded = replace(bench, stage=replace(bench.stage, embedded=True))
    assert embedded.up(table)[0].error is None
    before.restore()
    bench.tables.put(table, *items)
    assert embedded.up(table)[0].error is None and marks(bench, table) == {1}


def test_a_stamp_can_state_that_no_version_is_applied(bench: Bench, table: str) -> None:
    before = Backup(bench)
    run = bench.up(table)[0].versions[0].run
    operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    before.restore()
    assert isinstance(bench.up(table)[0].error, Refused)
    operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder)
    (report,) = bench.up(table)
    assert (report.error, marks(bench, table)) == (None, {1})


@pytest.mark.parametrize("later", [True, False], ids=["of the next attempt", "of the same attempt"])
def test_a_state_table_from_within_a_run_is_refused(
    bench: Bench, table: str, later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that were written since the backup would be transformed again, or skipped by an undo."""
    monkeypatch.setattr("dynamodt.runs.jobs._PAGE_ITEMS", 2)
    batch, backups, calls = Writes.batch, list[Backup](), count()

    def backed_up(writes: Writes, *arguments: Any) -> Any:
        if next(calls) == 1:
            backups.append(Backup(bench))
            if later:
                raise RuntimeError("the machine is lost")
        return batch(writes, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Writes, "batch", backed_up)
        (report,) = bench.up(table)
    assert (report.error is None) is not later
    if later:
        (report,) = bench.up(table)
        assert report.error is None
    backups[0].restore()
    run = report.versions[0].run
    with pytest.raises(Refused, match=OLDER):
        operations.undo(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert (dry := bench.up(table, dry_run=True)[0].refusal) is not None and OLDER in dry.what
    check_refused_until_stamped(bench, table)


def test_damaged_objects_of_a_run_are_reported_or_left_out(bench: Bench, table: str) -> None:
    """The object that names the last run: an error with the next step. Samples of a report: left out."""
    assert bench.up(table)[0].error is None
    folder = bench.folder / "storage" / "runs" / table
    (begun,) = folder.glob("last-begun-*.json")
    storage = open_storage(bench.stage.connection, bench.stage.storage)
    samples = [f"runs/{table}/{bench.history(table)[-1].run}/samples/"]
    assert samples_under(storage, samples)
    for sample in folder.glob("*/samples/*.json"):
        sample.write_bytes(b"{")
    assert samples_under(storage, samples) == ()
    for damaged in (b"", b"<html/>", b"[]"):
        begun.write_bytes(damaged)
        (failed,) = bench.down(table)
        assert isinstance(failed.error, RunFailed) and "is damaged" in failed.error.what
        assert failed.error.where == str(begun) and "delete the object" in failed.error.hint
    begun.unlink()
    assert bench.down(table)[0].error is None
