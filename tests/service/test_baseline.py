"""Tables whose versions ran elsewhere: what `stamp` and `adopt` record, and how `up` continues."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from dynamodt import api as operations
from dynamodt.errors import DynamodtError, Refused, ServiceError, UsageError
from dynamodt.model.pages import Counts, Intent
from dynamodt.model.reports import TakeOver
from dynamodt.model.tables import Item
from dynamodt.runs.history import first_record
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.script.read import read_versions
from dynamodt.state.state import Rows, State
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = dynamodb_local_in_chaos

ADD = 'def transform_up(item):\n    return {{**item, "v{0}": item.get("v{0}", 0) + 1}}\n'
ITEMS: list[Item] = [{"pk": f"u{number}", "sk": "profile", "v1": 1, "v2": 1} for number in range(30)]
NAME = "DataTransformations"
WRITTEN = {
    "2023-05-04T08:15:30.123Z": {"transformationNumber": 1, "executedCommand": "up", "transformed": 1200},
    "2023-05-04T08:16:00.000Z": {"transformationNumber": 2, "executedCommand": "up", "transformed": 30},
    "2023-06-01T12:00:00.500Z": {"transformationNumber": 2, "executedCommand": "down"},
    "2023-06-02T12:00:00.500Z": {"transformationNumber": 2, "executedCommand": "up", "transformed": 30},
}


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    """Three versions; the first two have run elsewhere."""
    name = make_table(pk="S", sk="S")
    bench.tables.put(name, *ITEMS)
    for number in (1, 2, 3):
        bench.script(name, ADD.format(number), number, f"add_{number}")
    return name


def put_record(endpoint: Endpoint, table: str, **changes: Any) -> Item:
    """The record as that tool's own document client writes it; boto3's resource has the same types."""
    connection = endpoint.connection
    resource = boto3.resource(
        "dynamodb",
        region_name=connection.region,
        endpoint_url=connection.endpoint_url,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=connection.secret_key,
    )
    record = {"pk": NAME, "sk": NAME, "executionState": [1, 2], "TransformationsRunHistory": WRITTEN, **changes}
    resource.Table(table).put_item(Item=record)
    stored: Item = resource.Table(table).get_item(Key={"pk": NAME, "sk": NAME}, ConsistentRead=True)["Item"]
    return stored


def stamp(bench: Bench, table: str, to: int, dry_run: bool = False) -> TakeOver:
    return operations.stamp(bench.stage, bench.folder, table, to, bench.recorder, RunOptions(dry_run=dry_run))


def adopt(bench: Bench, table: str, dry_run: bool = False) -> TakeOver:
    return operations.import_history(bench.stage, bench.folder, table, bench.recorder, RunOptions(dry_run=dry_run))


def state_of(bench: Bench) -> State:
    return State(bench.stage.connection, bench.stage.state_table)


def states(bench: Bench, table: str) -> list[str]:
    (status,) = operations.status(bench.stage, bench.folder, [table])
    return [version.state for version in status.versions]


def runs(bench: Bench, table: str) -> list[tuple[int, str, str]]:
    return [(run.version, run.direction, run.status) for run in bench.history(table)]


def check_up_runs_the_third_alone(bench: Bench, table: str) -> None:
    (report,) = bench.up(table)
    assert report.error is None, report.error
    (run,) = report.versions
    assert (run.version, run.counts) == (3, Counts(read=30, changed=30))
    people = [item for item in bench.tables.items(table) if item["pk"] != NAME]
    assert people == sorted(({**item, "v3": 1} for item in ITEMS), key=lambda item: repr(item["pk"]).rjust(24))


# ---------------------------------------------------------------- stamp


def test_stamped_versions_count_as_applied_and_up_runs_the_pending_ones(bench: Bench, table: str) -> None:
    before = bench.tables.items(table)
    taken = stamp(bench, table, 2)
    assert (taken.at, taken.latest, [run.version for run in taken.records]) == (2, 3, [1, 2])
    assert bench.tables.items(table) == before
    assert states(bench, table) == ["applied", "applied", "pending"]
    assert runs(bench, table) == [(1, "up", "stamped"), (2, "up", "stamped")]
    for run, script in zip(bench.history(table), read_versions(bench.folder / "transforms", table), strict=False):
        assert (run.checksum, run.name) == (script.checksum, script.name)
        assert run.by and run.ended and run.counts == Counts()
    check_up_runs_the_third_alone(bench, table)


def test_a_stamp_of_a_lower_number_removes_the_versions_above(bench: Bench, table: str) -> None:
    stamp(bench, table, 3)
    taken = stamp(bench, table, 1)
    assert (taken.at, [(run.version, run.direction) for run in taken.records]) == (1, [(2, "down"), (3, "down")])
    assert states(bench, table) == ["applied", "pending", "pending"]
    assert stamp(bench, table, 0).at == 0
    assert states(bench, table) == ["pending"] * 3
    assert runs(bench, table)[3:] == [(3, "down", "stamped"), (2, "down", "stamped"), (1, "down", "stamped")]
    assert bench.tables.items(table) == sorted(ITEMS, key=lambda item: repr(item["pk"]).rjust(24))


def test_a_repeated_stamp_has_nothing_to_do(bench: Bench, table: str) -> None:
    stamp(bench, table, 2)
    again = stamp(bench, table, 2)
    assert (again.records, again.at) == ((), 2)
    assert len(bench.history(table)) == 2


def test_a_dry_run_records_nothing(bench: Bench, table: str) -> None:
    taken = stamp(bench, table, 2, dry_run=True)
    assert (taken.at, len(taken.records), taken.dry_run) == (2, 2, True)
    assert (bench.applied(table), bench.history(table)) == ([], [])


def test_more_versions_than_fit_in_a_transaction_are_stamped(bench: Bench, table: str) -> None:
    for number in range(4, 121):
        bench.script(table, ADD.format(number), number, f"add_{number}")
    assert stamp(bench, table, 120).at == 120
    assert bench.applied(table) == [run.version for run in bench.history(table)] == list(range(1, 121))
    assert stamp(bench, table, 0).at == 0
    assert bench.applied(table) == []


@pytest.mark.parametrize(("command", "transactions"), [("stamp", 1), ("adopt", 3)])
def test_a_stamp_that_died_half_way_is_refused_by_up_and_can_be_repeated(
    bench: Bench, table: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, command: str, transactions: int
) -> None:
    put_record(endpoint, table)
    command = {"stamp": lambda: stamp(bench, table, 2), "adopt": lambda: adopt(bench, table)}[command]
    monkeypatch.setattr("dynamodt.state.state._MOST_ENTRIES", 1)
    with monkeypatch.context() as patch, pytest.raises(ServiceError, match="out of reach"):
        patch.setattr(Rows, "transact", working(Rows.transact, transactions))
        command()
    assert bench.applied(table) == [2]
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and report.versions == ()
    assert command().at == 2
    assert bench.applied(table) == [1, 2]


def working(call: Callable[..., None], times: int) -> Callable[..., None]:
    """A call that succeeds this number of times, and then fails as if its service were unreachable."""
    left = iter(range(times))

    def calls(*arguments: Any) -> None:
        if next(left, None) is None:
            raise ServiceError("out of reach")
        call(*arguments)

    return calls


def test_a_stamp_of_a_version_without_a_file_is_refused(bench: Bench, table: str) -> None:
    with pytest.raises(UsageError, match="no version 4") as raised:
        stamp(bench, table, 4)
    assert f"dynamodt create --table {table}" in raised.value.hint


def test_a_missing_table_is_refused(bench: Bench) -> None:
    bench.script("test_nowhere", ADD.format(1))
    with pytest.raises(ServiceError, match="does not exist"):
        stamp(bench, "test_nowhere", 1)


@contextmanager
def an_active_run(bench: Bench, table: str) -> Iterator[None]:
    with hold_lease(state_of(bench).leases, table, "another-run", bench.recorder.notify):
        yield


def test_a_stamp_is_refused_while_another_run_is_active(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table)
    dry_run = lambda: stamp(bench, table, 2, dry_run=True)  # noqa: E731
    for command in (lambda: stamp(bench, table, 2), lambda: adopt(bench, table), dry_run):
        with an_active_run(bench, table), pytest.raises(Refused, match=f"in progress.*process {os.getpid()}"):
            command()
    assert (bench.applied(table), bench.history(table)) == ([], [])


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_stamp_is_refused_while_a_run_is_unfinished(bench: Bench, table: str, dry_run: bool) -> None:
    state, script = state_of(bench), read_versions(bench.folder / "transforms", table)[0]
    record = first_record(script, "up", "half-done", 1)
    with hold_lease(state.leases, table, record.run, bench.recorder.notify) as lease:
        state.record(record, lease.token)
        units = state.splits(record.run)
        units.intend(units.claim(0, lease.token), Intent((), None, False, Counts(), 0.0, 1))
    with pytest.raises(Refused, match="is unfinished: run half-done") as raised:
        stamp(bench, table, 2, dry_run)
    assert f"dynamodt up --table {table} --to 1" in raised.value.hint
    assert bench.applied(table) == []


def test_a_stamp_ends_a_run_that_has_written_nothing(bench: Bench, table: str) -> None:
    state, script = state_of(bench), read_versions(bench.folder / "transforms", table)[0]
    with hold_lease(state.leases, table, "begun", bench.recorder.notify) as lease:
        state.record(first_record(script, "up", "begun", 1), lease.token)
    stamp(bench, table, 2)
    assert runs(bench, table) == [(1, "up", "replaced"), (1, "up", "stamped"), (2, "up", "stamped")]
    assert states(bench, table) == ["applied", "applied", "pending"]


# ---------------------------------------------------------------- adopt


def test_up_continues_after_the_imported_versions(bench: Bench, table: str, endpoint: Endpoint) -> None:
    record = put_record(endpoint, table, owner="the other tool", blob=b"\x00\xff")
    taken = adopt(bench, table)
    assert (taken.at, taken.latest, len(taken.records)) == (2, 3, 4)
    assert states(bench, table) == ["applied", "applied", "pending"]
    assert runs(bench, table) == [
        (1, "up", "adopted"),
        (2, "up", "adopted"),
        (2, "down", "adopted"),
        (2, "up", "adopted"),
    ]
    assert [run.counts.changed for run in bench.history(table)] == [1200, 30, 0, 30]
    first = bench.history(table)[0]
    assert first.ended == "2023-05-04T08:15:30+00:00" and first.by.startswith("dynamo-data-transform, adopted by ")
    run_progress, scripts = state_of(bench).applied(table), read_versions(bench.folder / "transforms", table)
    assert [run_progress[n].checksum for n in (1, 2)] == [script.checksum for script in scripts[:2]]
    assert (run_progress[2].when, run_progress[2].run) == ("2023-06-02T12:00:00+00:00", bench.history(table)[3].run)
    check_up_runs_the_third_alone(bench, table)
    assert record in bench.tables.items(table)
    assert bench.history(table)[-1].status == "succeeded"


def test_down_reverts_an_imported_version(bench: Bench, table: str, endpoint: Endpoint) -> None:
    down = 'def transform_down(item):\n    return {name: value for name, value in item.items() if name != "v2"}\n'
    bench.script(table, ADD.format(2) + down, 2, "add_2")
    record = put_record(endpoint, table)
    adopt(bench, table)
    (report,) = bench.down(table)
    assert report.error is None, report.error
    assert (report.at, report.versions[0].counts) == (1, Counts(read=30, changed=30))
    assert all("v2" not in item for item in bench.tables.items(table)) and record in bench.tables.items(table)
    assert states(bench, table) == ["applied", "pending", "pending"]


def test_up_is_refused_before_the_import(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table)
    for options in ({}, {"dry_run": True}):
        (report,) = bench.up(table, **options)
        assert isinstance(report.error, Refused), report.error
        assert f"dynamodt import-history --table {table}" in report.error.hint and report.versions == ()
    assert bench.history(table) == []
    adopt(bench, table, dry_run=True)
    assert (bench.applied(table), bench.history(table)) == ([], [])


def test_with_a_record_without_applied_versions_up_begins_with_version_1(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    put_record(endpoint, table, executionState=[])
    (report,) = bench.up(table, to=1)
    assert report.error is None, report.error
    assert report.versions[0].counts == Counts(read=30, changed=30)


def test_a_second_import_records_only_new_versions(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table, executionState=[1], TransformationsRunHistory=dict(list(WRITTEN.items())[:3]))
    assert adopt(bench, table).at == 1
    assert adopt(bench, table).records == ()
    put_record(endpoint, table)
    taken = adopt(bench, table)
    assert (taken.at, [(run.version, run.direction) for run in taken.records]) == (2, [(2, "up")])
    put_record(endpoint, table, executionState=[1])
    with pytest.raises(Refused, match="rolled it back since") as raised:
        adopt(bench, table)
    assert f"dynamodt stamp --table {table} --to 1" in raised.value.hint


def test_up_is_refused_if_the_other_tool_has_run_or_taken_back_a_version_since_the_import(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    bench.script(table, ADD.format(2) + "def transform_down(item):\n    return item\n", 2, "add_2")
    put_record(endpoint, table, executionState=[1])
    adopt(bench, table)
    put_record(endpoint, table)
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "has run version 2 since" in report.error.what
    assert f"dynamodt import-history --table {table}" in report.error.hint and adopt(bench, table).at == 2
    put_record(endpoint, table, executionState=[1])
    for (report,) in (bench.up(table), bench.down(table)):
        assert isinstance(report.error, Refused) and "has rolled back version 2 since" in report.error.what
        assert f"dynamodt stamp --table {table} --to 1" in report.error.hint
    put_record(endpoint, table)
    check_up_runs_the_third_alone(bench, table)


def test_up_is_refused_if_the_other_tool_has_run_a_version_that_is_pending(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    put_record(endpoint, table)
    adopt(bench, table)
    down = 'def transform_down(item):\n    return {name: value for name, value in item.items() if name != "v3"}\n'
    bench.script(table, ADD.format(3) + down, 3, "add_3")
    check_up_runs_the_third_alone(bench, table)
    for report in (*bench.down(table), *bench.up(table)):
        assert report.error is None  # its record does not have the runs of this tool
    bench.script(table, ADD.format(4), 4, "add_4")
    put_record(endpoint, table, executionState=[1, 2, 4])
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "version 4 has run, and no run here" in report.error.what
    assert f"dynamodt stamp --table {table} --to N" in report.error.hint
    stamp(bench, table, 4)
    bench.script(table, ADD.format(5), 5, "add_5")
    assert bench.up(table)[0].at == 5


def test_an_imported_version_without_a_time_is_recorded_with_the_present_time(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    put_record(
        endpoint, table, TransformationsRunHistory={"2023-05-04T08:15:30.123Z": WRITTEN["2023-05-04T08:15:30.123Z"]}
    )
    assert adopt(bench, table).at == 2
    first, second = bench.history(table)
    assert (first.version, second.version, second.status) == (1, 2, "adopted")
    assert second.ended >= time.strftime("%Y-%m-%d", time.gmtime())
    assert adopt(bench, table).records == ()


def refusal(bench: Bench, table: str) -> DynamodtError:
    with pytest.raises(DynamodtError) as raised:
        adopt(bench, table)
    assert (bench.applied(table), raised.value.hint != "") == ([], True)
    return raised.value


def test_an_import_with_a_gap_in_the_versions_is_refused(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table, executionState=[1, 3])
    error = refusal(bench, table)
    assert "version 3 has run, but version 2 has not" in error.what and error.exit_code == 3


def test_an_import_of_a_version_without_a_file_is_refused(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table, executionState=[1, 2, 3, 4])
    error = refusal(bench, table)
    assert "version 4 has run, but it has no file" in error.what and error.exit_code == 2
    assert f"dynamodt create --table {table}" in error.hint


def test_an_import_of_a_malformed_record_is_refused(bench: Bench, table: str, endpoint: Endpoint) -> None:
    put_record(endpoint, table, executionState="1, 2")
    assert "executionState" in refusal(bench, table).what
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused)


def test_an_import_without_a_record_is_refused(bench: Bench, table: str) -> None:
    error = refusal(bench, table)
    assert "holds no record of dynamo-data-transform" in error.what and "dynamodt stamp" in error.hint


def test_an_import_from_a_table_whose_key_cannot_hold_a_record_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(pk="S", sk="N")
    bench.script(table, ADD.format(1))
    error = refusal(bench, table)
    assert "its key is not of strings (pk S, sk N)" in error.what and "dynamodt stamp" in error.hint


def test_an_import_into_a_table_with_a_history_is_refused(bench: Bench, table: str, endpoint: Endpoint) -> None:
    stamp(bench, table, 1)
    put_record(endpoint, table)
    with pytest.raises(Refused, match="a history of its own") as raised:
        adopt(bench, table)
    assert f"dynamodt history --table {table}" in raised.value.hint
    assert bench.applied(table) == [1]
