"""The record of a run, written by the holder of its table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from dynamodt.errors import Fenced, Refused
from dynamodt.model.pages import Counts, Units
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import Direction, KeyAttribute, TableSpec
from dynamodt.pipeline.process import Terminated
from dynamodt.runs.history import RunRecorder, first_record, last_change, next_record
from dynamodt.runs.recording import _text
from dynamodt.runs.undo import _script as undone_script
from dynamodt.state.runs import written_order

TABLE = TableSpec("users", (KeyAttribute("id", "S"),))
SCRIPT = Script("users", 2, "split_name", "v2_split_name.py", "", "ab" * 32)


class Rows:
    """The part of the state table that a recorder uses; only `holder` may write."""

    def __init__(self, holder: int = 1) -> None:
        self.holder = holder
        self.runs: list[RunRecord] = []
        self.applied: AppliedVersion | None = None
        self.reverted = False

    def record(
        self, record: RunRecord, token: int, *, applied: AppliedVersion | None = None, reverted: bool = False
    ) -> RunRecord:
        if token != self.holder:
            raise Fenced("another process has taken over the run")
        self.runs.append(record)
        self.applied, self.reverted = applied, reverted
        return record


def run_recorder(rows: Rows, direction: Direction = "up", **more: Any) -> RunRecorder:
    record = first_record(SCRIPT, direction, "01RUN", 4)
    found = RunRecorder(rows, TABLE, record, **{"token": 1, "dry_run": False, **more})  # type: ignore[arg-type]
    found.begin()
    return found


def test_a_successful_up_is_recorded_as_applied_with_its_counts() -> None:
    rows = Rows()
    run_recorder(rows).end("succeeded", Counts(3, 2, 1), Units(1.0, 2.0))
    assert [run.status for run in rows.runs] == ["running", "succeeded"]
    assert rows.applied is not None
    assert (rows.applied.version, rows.applied.run, rows.applied.counts) == (2, "01RUN", Counts(3, 2, 1))
    assert not rows.reverted


def test_a_successful_down_removes_the_applied_version() -> None:
    rows = Rows()
    run_recorder(rows, "down").end("succeeded", Counts(3, 3), Units())
    assert rows.reverted and rows.applied is None


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("status", ["failed", "stopped"])
def test_an_unsuccessful_run_changes_no_applied_version(direction: Direction, status: str) -> None:
    rows = Rows()
    run_recorder(rows, direction).end(status, Counts(3, 3), Units(), "why")
    assert (rows.runs[-1].status, rows.runs[-1].error) == (status, "why")
    assert rows.runs[-1].ended
    assert rows.applied is None and not rows.reverted


def test_a_process_without_the_lease_records_nothing() -> None:
    rows = Rows()
    mine = run_recorder(rows)
    rows.holder = 2
    with pytest.raises(Fenced):
        mine.end("succeeded", Counts(3, 3), Units())
    assert [run.status for run in rows.runs] == ["running"]
    assert rows.applied is None


def test_a_dry_run_is_not_recorded() -> None:
    rows = Rows()
    rehearsal = run_recorder(rows, dry_run=True)
    rehearsal.end("succeeded", Counts(1, 1), Units())
    assert rows.runs == []
    assert (rehearsal.report().status, rehearsal.report().rehearsal) == ("dry-run", True)


def test_a_continued_run_keeps_its_id_and_has_the_present_script() -> None:
    rows = Rows()
    run_recorder(rows).end("stopped", Counts(3, 3), Units(), "stopped by Ctrl-C")
    mended = Script("users", 2, "split_names", "v2_split_names.py", "", "cd" * 32)
    again = next_record(rows.runs[-1], mended)
    assert (again.run, again.status, again.attempts, again.error) == ("01RUN", "running", 2, "")
    assert (again.name, again.checksum) == (
        "split_names",
        "cd" * 32,
    )  # else the applied version would be another file's
    with pytest.raises(Refused):
        next_record(RunRecord("users", "01RUN", 2, "split_name", "up", "ab", "succeeded", ""), mended)


def test_an_interrupt_is_recorded_with_the_name_of_its_signal() -> None:
    assert _text(KeyboardInterrupt()) == "stopped by Ctrl-C"
    assert _text(Terminated()) == "stopped by SIGTERM"
    assert _text(ValueError("boom")) == "boom"
    assert _text(None) == ""


@dataclass
class Recorded:
    """A state table with these runs, none of which has written an item that counts."""

    records: list[RunRecord]

    def runs(self, table: str) -> list[RunRecord]:
        return sorted(self.records, key=written_order)


def test_the_last_change_is_by_the_lease_and_not_by_clocks() -> None:
    """The first run was on a machine whose clock is fast; the versions of one command were recorded while the clock was
    set back."""
    up = replace(first_record(SCRIPT, "up", "20260101T1200", 4), status="succeeded", ended="2026-01-01T12:00", token=1)
    down = replace(first_record(SCRIPT, "down", "20260101T1100", 4), status="succeeded", ended="2026-01-01T11:00")
    down = replace(down, token=2)
    assert last_change(Recorded([up, down]), up) == down  # type: ignore[arg-type]
    further = replace(up, version=3, run="20260101T1155", ended="2026-01-01T11:55")
    assert last_change(Recorded([up, further]), up) == further  # type: ignore[arg-type]
    back = replace(down, version=1, run="20260101T1050", ended="2026-01-01T10:50")
    assert last_change(Recorded([back, down]), down) == back  # type: ignore[arg-type]


def test_runs_are_ordered_by_the_lease_and_imported_ones_by_their_times() -> None:
    begun = replace(first_record(SCRIPT, "up", "20260101T1200", 4), token=5)
    replaced = replace(begun, run="20260101T1300", status="replaced", ended="2026-01-01T13:00")
    earlier = replace(begun, run="20260102T1200", status="succeeded", ended="2026-01-02T12:00", token=4)
    adopted = replace(earlier, run="20230101T1200", status="adopted", ended="2023-01-01T12:00", token=6)
    taken_back = replace(adopted, run="20230102T1200", direction="down", ended="2023-01-02T12:00")
    assert sorted([replaced, earlier, begun, taken_back, adopted], key=written_order) == [
        adopted,
        taken_back,
        earlier,
        replaced,
        begun,
    ]


def test_an_undo_recognizes_writes_by_the_stamp_that_its_run_began_with() -> None:
    record = first_record(SCRIPT, "up", "01RUN", 4, began={"STAMP": "_run"})
    assert (undone_script(record).stamp, undone_script(replace(record, began={"STAMP": ""})).stamp) == ("_run", None)
