"""The reasons that prevent a run's start, or pause it, on an endpoint. DynamoDB Local has neither continuous backups
nor alarms: options that depend on them are refused, or pause the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.clients import client
from dynamodt.errors import Aborted, Refused, ServiceError, UsageError
from dynamodt.model.reports import UndoReport
from dynamodt.model.tables import Item
from dynamodt.runs import budget
from dynamodt.runs.budget import alarm_states
from dynamodt.runs.control import control_run
from dynamodt.runs.options import RunOptions
from dynamodt.runs.pace import ProgressRecorder
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = dynamodb_local_in_chaos

TOUCH = 'def transform_up(item):\n    return {**item, "seen": True}\n'
IDEMPOTENT = "IDEMPOTENT = True\n" + TOUCH
ITEMS: list[Item] = [{"id": "a", "n": 1}, {"id": "b", "n": 2}]
SEEN: list[Item] = [{**item, "seen": True} for item in ITEMS]
on_ministack = pytest.mark.endpoints("ministack")
on_dynamodb_local = pytest.mark.endpoints("dynamodb-local")


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="S")
    bench.tables.put(name, *ITEMS)
    return name


@pytest.fixture
def protected(bench: Bench) -> Bench:
    return replace(bench, stage=replace(bench.stage, protected=True))


def refused(bench: Bench, table: str, text: str, **options: Any) -> Refused:
    """The error with which `up` was refused: nothing is written and no run is recorded."""
    error = bench.failed(table, text, **options).error
    assert isinstance(error, Refused) and error.exit_code == 3, error
    assert bench.tables.items(table) == ITEMS and bench.history(table) == []
    return error


def turn_on(endpoint: Endpoint, table: str) -> None:
    endpoint.client.update_continuous_backups(
        TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )


# ---------------------------------------------------------------- point-in-time recovery


@on_ministack
def test_a_protected_table_is_written_only_with_point_in_time_recovery(
    protected: Bench, endpoint: Endpoint, table: str
) -> None:
    error = refused(protected, table, TOUCH)
    assert error.where == f"table {table}" and f"update-continuous-backups --table-name {table}" in error.hint
    assert protected.succeeded_dry(table, TOUCH).counts.changed == 2
    (foreseen,) = protected.up(table, dry_run=True)
    assert str(foreseen.refusal) == str(error)
    turn_on(endpoint, table)
    assert protected.run(table, TOUCH).changed == 2


@on_ministack
def test_the_target_of_a_protected_table_needs_point_in_time_recovery_too(
    protected: Bench, endpoint: Endpoint, make_table: MakeTable, table: str
) -> None:
    target = make_table(id="S")
    turn_on(endpoint, table)
    text = f'TARGET_TABLE = "{target}"\n{TOUCH}'
    assert refused(protected, table, text).where == f"table {target}"
    turn_on(endpoint, target)
    protected.run(table, text)
    assert protected.tables.items(target) == SEEN


@on_dynamodb_local
def test_a_run_is_refused_if_the_state_of_recovery_cannot_be_read(protected: Bench, table: str) -> None:
    error = refused(protected, table, TOUCH)
    assert "cannot be read" in error.what and "dynamodb:DescribeContinuousBackups" in error.hint


def test_a_protected_table_is_written_with_allow_no_pitr(protected: Bench, table: str) -> None:
    protected.run(table, TOUCH, allow_no_pitr=True)
    assert protected.tables.items(table) == SEEN


def test_down_needs_recovery_too_unless_there_is_nothing_to_do(protected: Bench, table: str) -> None:
    protected.run(table, TOUCH + "def transform_down(item):\n    return item\n", allow_no_pitr=True)
    (nothing,) = protected.up(table)
    assert nothing.error is None
    (report,) = protected.down(table)
    assert isinstance(report.error, Refused) and protected.applied(table) == [1]


def test_a_dry_run_of_several_versions_needs_no_recovery(protected: Bench, table: str) -> None:
    protected.script(table, TOUCH, 1)
    protected.script(table, TOUCH, 2)
    (report,) = protected.up(table, dry_run=True)
    assert report.error is None and [run.status for run in report.versions] == ["dry-run", "dry-run"]


# ---------------------------------------------------------------- the key


def test_a_script_for_another_key_is_refused(bench: Bench, make_table: MakeTable, table: str) -> None:
    error = refused(bench, table, 'KEY = {"pk": "S", "sk": "N"}\n' + TOUCH)
    assert '{"pk": "S", "sk": "N"}' in error.what and '{"id": "S"}' in error.what
    bench.run(table, 'KEY = {"id": "S"}\n' + TOUCH)
    pair = make_table(pk="S", sk="N")
    assert bench.run(pair, 'KEY = {"pk": "S", "sk": "N"}\n' + TOUCH).read == 0


# ---------------------------------------------------------------- the journal


def parts(bench: Bench) -> list[str]:
    return [str(path) for path in bench.folder.rglob("*.json.zst")]


def test_no_journal_is_refused_for_a_script_that_needs_one(bench: Bench, table: str) -> None:
    assert "IDEMPOTENT = True" in refused(bench, table, TOUCH, journal=False).hint


@pytest.mark.parametrize("journal", [None, False, True])
def test_an_idempotent_script_has_a_journal_on_request(bench: Bench, table: str, journal: bool | None) -> None:
    bench.run(table, IDEMPOTENT, journal=journal)
    assert bool(parts(bench)) is bool(journal)
    assert [record.journal for record in bench.history(table)] == [bool(journal)]


def test_a_continued_run_keeps_its_journal_setting(bench: Bench, table: str) -> None:
    failing = IDEMPOTENT.replace("return", 'assert item["id"] == "a"\n    return')
    bench.failed(table, failing, journal=True)
    (report,) = bench.up(table, journal=False)
    assert isinstance(report.error, Refused) and "began with a journal" in report.error.what
    assert report.error.hint == "leave out --no-journal"
    before = len(parts(bench))
    bench.run(table, IDEMPOTENT)
    assert bench.tables.items(table) == SEEN and len(parts(bench)) > before
    assert [record.journal for record in bench.history(table)] == [True]


def test_a_run_that_began_without_a_journal_continues_without_one(bench: Bench, table: str) -> None:
    failing = IDEMPOTENT.replace("return", 'assert item["id"] == "a"\n    return')
    bench.failed(table, failing)
    (report,) = bench.up(table, journal=True)
    assert isinstance(report.error, Refused) and report.error.hint == "leave out --journal"


# ---------------------------------------------------------------- alarms


@dataclass
class Alarm:
    cloudwatch: Any
    name: str = "test-alarm"

    def make(self) -> None:
        self.cloudwatch.put_metric_alarm(
            AlarmName=self.name, Namespace="test", MetricName="errors", Statistic="Sum", Period=60,
            EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
        )  # fmt: skip

    def make_composite(self) -> None:
        replace(self, name="another").make()
        self.cloudwatch.put_composite_alarm(AlarmName=self.name, AlarmRule="ALARM(another)")

    def set(self, state: str) -> None:
        self.cloudwatch.set_alarm_state(AlarmName=self.name, StateValue=state, StateReason="a test")


@pytest.fixture
def alarm(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Alarm:
    monkeypatch.setattr(budget, "ALARM_SECONDS", 0.1)
    return Alarm(client(endpoint.connection, "cloudwatch"))


class Acting(ProgressRecorder):
    """Acts when the run is reported as paused, and records all messages."""

    def __init__(self, when_resting: Callable[[], None]) -> None:
        super().__init__()
        self.when_resting = when_resting
        self.notes: list[str] = []

    def notify(self, text: str) -> None:
        self.notes.append(text)
        if text.startswith("the run pauses"):
            self.when_resting()


@on_ministack
@pytest.mark.parametrize("composite", [False, True])
def test_a_run_pauses_while_an_alarm_is_on(bench: Bench, alarm: Alarm, table: str, composite: bool) -> None:
    alarm = replace(alarm, name=f"test-{composite}")
    alarm.make_composite() if composite else alarm.make()
    alarm.set("ALARM")
    holds: list[str] = []

    def resume_and_end_the_alarm() -> None:
        assert bench.tables.items(table) == ITEMS
        control_run(bench.stage, table, "resume")
        holds.append(control_run(bench.stage, table, "resume").pause_reason)
        alarm.set("OK")

    recorder = Acting(resume_and_end_the_alarm)
    replace(bench, recorder=recorder).run(table, TOUCH, alarms=(alarm.name,))
    assert holds == [f"the alarm {alarm.name} is in ALARM"]
    assert [note for note in recorder.notes if note.startswith("the run continues")]
    assert bench.tables.items(table) == SEEN


@on_ministack
@pytest.mark.parametrize("state", ["OK", "INSUFFICIENT_DATA"])
def test_an_alarm_in_state_ok_pauses_no_run(bench: Bench, alarm: Alarm, table: str, state: str) -> None:
    alarm.make()
    alarm.set(state)
    recorder = Acting(lambda: pytest.fail("it rests"))
    assert replace(bench, recorder=recorder).run(table, TOUCH, alarms=(alarm.name,)).changed == 2


@on_ministack
@pytest.mark.parametrize("options", [{}, {"dry_run": True}])
def test_a_name_that_no_alarm_has_is_refused_before_the_start(
    bench: Bench, alarm: Alarm, table: str, options: dict[str, Any]
) -> None:
    alarm.make()
    bench.script(table, TOUCH)
    (report,) = bench.up(table, alarms=(alarm.name, "nobody-made-it"), **options)
    assert isinstance(report.error, UsageError) and "there is no alarm nobody-made-it," in report.error.what
    assert bench.history(table) == [] and bench.tables.items(table) == ITEMS


def test_an_unreadable_alarm_pauses_the_run(
    bench: Bench, endpoint: Endpoint, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB Local has no alarms at all."""
    if endpoint.name == "ministack":
        monkeypatch.setattr("dynamodt.runs.budget.client", denied)
    seen: list[list[Item]] = []

    def abort() -> None:
        seen.append(bench.tables.items(table))
        control_run(bench.stage, table, "abort")

    recorder = Acting(abort)
    report = replace(bench, recorder=recorder).failed(table, TOUCH, alarms=("nobody-made-it",))
    assert isinstance(report.error, Aborted)
    assert seen == [ITEMS] and bench.tables.items(table) == ITEMS
    assert "cannot be read" in recorder.notes[-1]


def denied(*_: Any, **__: Any) -> None:
    raise ServiceError("AccessDenied")


@on_dynamodb_local
def test_an_endpoint_without_alarms_refuses_the_option(endpoint: Endpoint) -> None:
    with pytest.raises(ServiceError, match="DescribeAlarms"):
        alarm_states(endpoint.connection, ["x"])


# ---------------------------------------------------------------- indexes, and what receives the writes

BAD_KEYS = 'def transform_up(item):\n    return {**item, "g": item["wanted"]}\n'


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_value_of_the_wrong_type_for_an_index_is_a_dead_letter_before_the_write(
    bench: Bench, indexed_table: str, dry_run: bool
) -> None:
    """Emulators take any value as an index's key."""
    wanted: list[Any] = ["fits", 7, None, "", "x" * 2049]
    bench.tables.put(indexed_table, *({"id": number, "wanted": one} for number, one in enumerate(wanted)))
    report = bench.failed(indexed_table, BAD_KEYS, dry_run=dry_run, max_errors=9)
    (run,) = report.versions
    assert (run.counts.changed, run.counts.dead) == (1, 4)
    found = {dead_letter["key"]["id"]["N"]: dead_letter["error"] for dead_letter in bench.dead_letters(report)}
    assert found.keys() == {"1", "2", "3", "4"}
    assert all("the index index" in str(error) and indexed_table in str(error) for error in found.values())
    there = {item["id"]: "g" in item for item in bench.tables.items(indexed_table)}
    assert there == {number: number == 0 and not dry_run for number in range(5)}


@on_ministack
def test_consumers_of_the_writes_are_reported_before_the_first_run(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    stream = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    endpoint.client.update_table(TableName=table, StreamSpecification=stream)
    endpoint.client.update_time_to_live(
        TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"}
    )
    away = replace(bench, stage=replace(bench.stage, local=False))
    away.script(table, TOUCH)
    for dry_run, told in ((True, True), (False, True), (False, False)):
        (report,) = away.up(table, dry_run=dry_run)
        assert report.error is None
        assert any("a record of its stream" in line and "(TTL)" in line for line in report.notices) == told


@on_ministack
def test_a_global_table_is_written_only_with_single_region_writers_which_the_run_records(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamodt.dynamodb.table._replicas", lambda described, region: ("us-west-2",))
    error = refused(bench, table, TOUCH)
    assert error.where == f"table {table}" and "--single-region-writers" in error.hint
    assert bench.succeeded_dry(table, TOUCH).counts.changed == 2
    run = bench.succeeded(table, TOUCH, single_region_writers=True).run
    (record,) = bench.history(table)
    assert record.began["region of all writers"] == bench.stage.connection.region

    def undo(**options: Any) -> UndoReport:
        return operations.undo(bench.stage, bench.folder, [table], run, RunOptions(**options), bench.recorder)

    with pytest.raises(Refused, match="us-west-2"):
        undo()
    assert bench.tables.items(table) == SEEN
    assert undo(single_region_writers=True).error is None and bench.tables.items(table) == ITEMS
