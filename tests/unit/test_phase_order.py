"""An undo reverts the phases of a run in reverse order."""

from __future__ import annotations

from dataclasses import replace

from dynamodt.model.runs import RunRecord
from dynamodt.state.runs import WritePeriod, order_with_phase, undo_phases, write_periods

RECORD = RunRecord(
    "users", "RUN", 1, "change", "up", "", "running", "now", splits=4, incremental_exports=(2, 3), retries=1
)


def begun(*phases: tuple[str, int]) -> RunRecord:
    record = RECORD
    for suffix, attempt in phases:
        record = replace(record, order=order_with_phase(record, f"RUN{suffix}", attempt))
    return record


def ordered(record: RunRecord) -> list[WritePeriod]:
    known = {f"RUN{one.rpartition('@')[0]}" for one in record.order}
    return [period for period in write_periods(record) if period.run in known]


def test_a_retry_between_two_incremental_exports_is_undone_between_them() -> None:
    record = begun(("", 1), ("/incremental1", 1), ("/retry1", 2), ("/incremental2", 2))
    assert ordered(record) == [
        WritePeriod("RUN", 4),
        WritePeriod("RUN/incremental1", 2),
        WritePeriod("RUN/retry1", 1),
        WritePeriod("RUN/incremental2", 3),
    ]
    undone = [one.run for one in undo_phases(record, 1)]
    assert undone[:4] == ["RUN/incremental2/undo1", "RUN/retry1/undo1", "RUN/incremental1/undo1", "RUN/undo1"]


def test_a_phase_interrupted_by_another_one_is_undone_in_two_periods() -> None:
    record = begun(("", 1), ("/incremental1", 1), ("/retry1", 5), ("/incremental1", 5))
    assert ordered(record) == [
        WritePeriod("RUN", 4),
        WritePeriod("RUN/incremental1", 2, 0, 5),
        WritePeriod("RUN/retry1", 1),
        WritePeriod("RUN/incremental1", 2, 5, 0, 2),
    ]
    undone = [one.run for one in undo_phases(record, 2)]
    assert undone[:4] == ["RUN/incremental1/undo2.2", "RUN/retry1/undo2", "RUN/incremental1/undo2", "RUN/undo2"]


def test_a_phase_continued_without_interruption_is_one_period() -> None:
    record = begun(("", 1), ("", 2), ("", 3), ("/items", 3), ("/items", 4))
    assert record.order == ("@1", "/items@3")
    assert ordered(record) == [WritePeriod("RUN", 4), WritePeriod("RUN/items", 1)]


def test_phases_without_a_recorded_order_come_first() -> None:
    assert [one.run for one in write_periods(RECORD)][:4] == [
        "RUN",
        "RUN/items",
        "RUN/incremental1",
        "RUN/incremental2",
    ]
    assert [one.run for one in write_periods(begun(("/incremental1", 3)))][-1] == "RUN/incremental1"
