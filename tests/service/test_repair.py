"""An accepted edit of an applied version, and the report of `stamp` about each version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import Busy, Refused, UsageError
from dynamodt.model.reports import TakeOver
from dynamodt.model.runs import AppliedVersion
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage
from tests.emulators import dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.undoing import undo

pytestmark = dynamodb_local_in_chaos  # it tests dynamodt's own rows

UP = "def transform_up(item):\n    return {**item, 'n': item['n'] + 1}\n"
DOWN = "def transform_down(item):\n    return {**item, 'n': item['n'] - 1}\n"


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    """Three versions, two of them applied."""
    name = make_table(id="S")
    bench.tables.put(name, *({"id": str(number), "n": number} for number in range(9)))
    for number in (1, 2, 3):
        bench.script(name, UP + DOWN, number)
    assert bench.up(name, to=2)[0].error is None
    return name


def repair(bench: Bench, table: str, to: int | None = None, reason: str = "a test", **more: Any) -> TakeOver:
    return operations.repair(bench.stage, bench.folder, table, to, bench.recorder, RunOptions(reason=reason, **more))


def edit(bench: Bench, table: str, number: int) -> str:
    return bench.script(table, f"{UP}{DOWN}EDITED = {number}\n", number).read_text()


def applied_rows(bench: Bench, table: str) -> dict[int, AppliedVersion]:
    return State(bench.stage.connection, bench.stage.state_table).applied(table)


def stored(bench: Bench, place: str) -> str:
    storage = open_storage(bench.stage.connection, bench.stage.storage)
    content = storage.read(place.removeprefix(storage.place("")).lstrip("/"))
    assert content is not None
    return content.decode()


def outcomes(taken: TakeOver) -> list[tuple[int, str]]:
    return [(one.version, one.outcome) for one in taken.outcomes]


def test_repair_records_an_edit_with_both_texts_and_runs_nothing(bench: Bench, table: str) -> None:
    before = State(bench.stage.connection, bench.stage.state_table).applied(table)
    items = bench.tables.items(table)
    was, now = (bench.folder / "transforms" / table / "v1_change.py").read_text(), edit(bench, table, 1)
    assert isinstance(bench.up(table)[0].error, Refused)

    rehearsed = repair(bench, table, dry_run=True)
    assert outcomes(rehearsed) == [(1, "accepted"), (2, "unchanged")] and len(bench.history(table)) == 2
    taken = repair(bench, table, reason=" the same, in other words ")
    assert (outcomes(taken), taken.at) == (outcomes(rehearsed), 2)
    (record,) = taken.records
    assert (record.status, record.version, record.reason) == ("repaired", 1, "the same, in other words")
    assert record.by and (stored(bench, record.text_before), stored(bench, record.text)) == (was, now)
    assert bench.history(table)[-1].run == record.run

    after = State(bench.stage.connection, bench.stage.state_table).applied(table)
    assert (after[1].run, after[1].when, after[1].counts) == (before[1].run, before[1].when, before[1].counts)
    assert after[2] == before[2] and bench.tables.items(table) == items
    assert bench.up(table)[0].error is None and bench.down(table, to=0)[0].error is None
    assert [item["n"] for item in bench.tables.items(table)] == list(range(9))


def test_repair_up_to_a_number_leaves_later_versions(bench: Bench, table: str) -> None:
    edit(bench, table, 1)
    edit(bench, table, 2)
    assert outcomes(repair(bench, table, to=1)) == [(1, "accepted")]
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "v2_change.py" in report.error.where
    assert "repair" in report.error.hint
    assert outcomes(repair(bench, table)) == [(1, "unchanged"), (2, "accepted")]
    assert repair(bench, table).records == ()
    assert bench.up(table)[0].at == 3


def test_a_run_can_be_undone_after_an_edit_of_its_version_was_accepted(bench: Bench, table: str) -> None:
    run = bench.history(table)[-1].run
    edit(bench, table, 2)
    (record,) = repair(bench, table).records
    with pytest.raises(Refused, match="accepted an edit"):
        undo(bench, record.run)
    assert undo(bench, run).run.status == "undone"


@pytest.mark.parametrize("stamped", [False, True])
def test_an_undone_down_restores_the_recorded_version(bench: Bench, table: str, stamped: bool) -> None:
    """With its accepted edit, and with the run or stamp that applied it last."""
    if stamped:
        assert bench.down(table)[0].error is None
        edit(bench, table, 2)
        operations.stamp(bench.stage, bench.folder, table, 2, bench.recorder)
    else:
        edit(bench, table, 2)
        repair(bench, table)
    before = applied_rows(bench, table)
    assert bench.down(table)[0].error is None
    assert undo(bench, bench.history(table)[-1].run).run.status == "undone"
    assert applied_rows(bench, table) == before and bench.up(table)[0].error is None


def test_what_repair_refuses(bench: Bench, table: str) -> None:
    edit(bench, table, 1)
    for wrong in ({"reason": "  "}, {"to": 3}):
        with pytest.raises(UsageError):
            repair(bench, table, **wrong)  # type: ignore[arg-type]
    state = State(bench.stage.connection, bench.stage.state_table)
    with hold_lease(state.leases, table, "another", lambda _: None), pytest.raises(Busy):
        repair(bench, table)
    (bench.folder / "transforms" / table / "v1_change.py").rename(bench.folder / "transforms" / table / "v1_other.py")
    with pytest.raises(Refused, match="another script"):
        repair(bench, table)
    assert len(bench.history(table)) == 2


def test_repair_is_refused_while_a_run_is_unfinished(bench: Bench, table: str) -> None:
    bench.script(table, "def transform_up(item):\n    return {**item, 'x': 6 // int(item['id'])}\n", 3)
    assert bench.up(table)[0].error is not None
    edit(bench, table, 1)
    with pytest.raises(Refused, match="is unfinished: failed") as caught:
        repair(bench, table)
    assert "dynamodt undo" in caught.value.hint
    undo(bench, caught.value.run)
    assert outcomes(repair(bench, table))[0] == (1, "accepted")


def test_a_stamp_reports_its_outcome_for_each_version(bench: Bench, table: str) -> None:
    text = edit(bench, table, 1)
    taken = operations.stamp(bench.stage, bench.folder, table, 3, bench.recorder)
    assert outcomes(taken) == [(1, "edited"), (2, "unchanged"), (3, "recorded")]
    assert Path(taken.records[0].text).name.startswith("v3-") and stored(bench, taken.records[0].text)
    assert outcomes(operations.stamp(bench.stage, bench.folder, table, 0, bench.recorder)) == [
        (1, "removed"), (2, "removed"), (3, "removed"),
    ]  # fmt: skip
    taken = operations.stamp(bench.stage, bench.folder, table, 1, bench.recorder)
    assert outcomes(taken) == [(1, "recorded")] and stored(bench, taken.records[0].text) == text


def test_no_hint_suggests_repair_while_a_run_is_unfinished(bench: Bench, table: str) -> None:
    bench.script(table, "def transform_up(item):\n    raise ValueError\n", 3)
    failed = bench.up(table)[0].versions[0]
    edit(bench, table, 1)
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "repair" not in report.error.hint
    assert f"dynamodt undo {failed.run}" in report.error.hint
    undo(bench, failed.run)
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "repair" in report.error.hint
    repair(bench, table)


def test_a_table_without_files_is_shown(bench: Bench, table: str, make_table: MakeTable) -> None:
    other = make_table(id="S")
    bench.script(other, UP)
    (bench.folder / "transforms" / table).rename(bench.folder / "gone")
    shown = {one.table: one for one in operations.status(bench.stage, bench.folder, ())}
    assert [version.state for version in shown[table].versions] == ["missing", "missing"]
    assert table not in {one.table for one in operations.status(bench.stage, bench.folder, (other,))}
