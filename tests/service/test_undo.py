"""`undo` and `retry` (guarantees G5 and G2): the table, the history and the reports afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.cli.json_output import error_document
from dynamodt.dynamodb.batch import BatchAnswer, Coming, Verdict, Writes
from dynamodt.errors import DeadLetters, DynamodtError, Refused, ServiceError, UsageError
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Item
from dynamodt.rate import Backoff
from dynamodt.runs.context import Project
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.runs.stored_dead_letters import StoredDeadLetters
from dynamodt.state.state import State
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.kills import attempt
from tests.service.undoing import DOUBLE, FRAIL, last, numbered, undo

pytestmark = dynamodb_local_in_chaos

HALVE = """
from dynamodt import without

def transform_up(item):
    return {**item, "n": item["n"] * 2}

def transform_down(item):
    return {**item, "n": item["n"] / 2}
"""


def retry(bench: Bench, run: str, **options: Any) -> TableReport:
    (report,) = operations.retry(bench.stage, bench.folder, (), run, RunOptions(**options), bench.recorder)
    return report


def refusal(bench: Bench, run: str, kind: type[DynamodtError] = Refused) -> DynamodtError:
    with pytest.raises(kind) as caught:
        undo(bench, run)
    return caught.value


# ---------------------------------------------------------------- undo


def test_a_run_without_transform_down_is_undone(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(60))
    bench.run(table, DOUBLE)
    run = last(bench, table).run
    rehearsal = undo(bench, run[:20], dry_run=True)
    assert (rehearsal.run.status, rehearsal.run.counts) == ("dry-run", Counts(read=60, changed=60))
    assert rehearsal.run.consumed.wcu == 60 and bench.applied(table) == [1] and last(bench, table).status == "succeeded"

    report = undo(bench, run[:20])
    assert (report.error, report.not_restored, report.at) == (None, 0, 0)
    assert (report.run.status, report.run.counts) == ("undone", Counts(read=60, changed=60))
    assert bench.tables.items(table) == numbered(60) and bench.applied(table) == []
    record = last(bench, table)
    assert (record.run, record.status, record.counts) == (run, "undone", Counts(read=60, changed=60))
    assert record.undone

    assert "undone already" in refusal(bench, run).what
    (again,) = bench.up(table)
    assert again.error is None and again.at == 1 and last(bench, table).run != run


def test_an_undo_keeps_and_reports_later_writes(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30))
    bench.run(table, DOUBLE)
    bench.tables.put(
        table,
        {"id": 3, "n": 1000, "twice": True},
        {"id": 4, "n": 10, "twice": True, "note": "live"},
        {"id": 5, "n": 12, "twice": False},
    )
    bench.tables.delete(table, {"id": 6})
    report = undo(bench, last(bench, table).run)
    assert report.error is None and report.run.counts == Counts(read=30, changed=29, vanished=1)
    items = {int(item["id"]): item for item in bench.tables.items(table)}
    assert items.pop(3) == {"id": 3, "n": 1000}
    assert items.pop(4) == {"id": 4, "n": 5, "note": "live"}
    assert items.pop(5) == {"id": 5, "n": 6, "twice": False}
    assert 6 not in items and list(items.values()) == [i for i in numbered(30) if i["id"] not in (3, 4, 5, 6)]
    lines = [json.loads(line) for line in Path(report.not_restored_at).read_text().splitlines()]
    assert {int(x["key"]["id"]["N"]): x["attributes"] for x in lines} == {3: ["n"], 5: ["twice"], 6: []}
    assert report.not_restored == 3 and len(report.first_not_restored) == 3
    assert "1000" not in Path(report.not_restored_at).read_text()


LOSES = """
import boto3

TABLE = boto3.resource(
    "dynamodb", endpoint_url={url!r}, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
).Table({table!r})

def transform_up(item):
    if "done" in item:
        return item
    if item["id"] in (3, 4):  # the application comes in between
        TABLE.put_item(Item={{**item, "done": True}})
    if item["id"] == 4:
        TABLE.delete_item(Key={{"id": 4}})
    return {{**item, "done": True}}
"""


def test_an_undo_keeps_a_live_write_that_equals_the_run_s_result(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable
) -> None:
    """The application itself has written to item 3 what the run would have written."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(6))
    counts = bench.run(table, LOSES.format(url=endpoint.url, table=table))
    assert counts == Counts(read=6, changed=4, superseded=1, vanished=1)
    assert undo(bench, last(bench, table).run).run.counts == Counts(read=4, changed=4)
    expected = [{**item, "done": True} if item["id"] == 3 else item for item in numbered(6) if item["id"] != 4]
    assert bench.tables.items(table) == expected


def test_an_unfinished_run_is_undone(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(50))
    report = bench.failed(table, FRAIL.format(bad="(7,)"))
    assert 0 < report.versions[0].counts.changed < 50
    record = last(bench, table)
    bench.script(table, HALVE, 1, "another")  # another script, of another name
    (bench.folder / "transforms" / table / "v1_change.py").unlink()
    found = undo(bench, record.run)
    assert found.error is None and found.run.counts.changed == record.counts.changed
    assert bench.tables.items(table) == numbered(50) and last(bench, table).status == "undone"
    (again,) = bench.up(table)
    assert again.error is None and again.at == 1 and last(bench, table).run != record.run


def test_down_and_up_are_refused_while_a_run_is_unfinished(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(50))
    bench.failed(table, FRAIL.format(bad="(7,)"))
    record = last(bench, table)
    for report in (*bench.down(table), *bench.up(table, to=0)):
        assert isinstance(report.error, Refused) and "is unfinished" in report.error.what
        assert f"dynamodt undo {record.run}" in report.error.hint
        assert [(known.run, known.status) for known in report.versions] == [(record.run, "refused")]
    state = State(bench.stage.connection, bench.stage.state_table)
    with hold_lease(state.leases, table, record.run, bench.recorder.notify):
        (report,) = bench.down(table)
        assert isinstance(report.error, Refused) and "another run is in progress" in report.error.what
    undo(bench, record.run)
    assert [report.error for report in bench.down(table)] == [None]


def test_an_undone_down_leaves_its_version_applied(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(10))
    bench.run(table, HALVE)
    up = last(bench, table)
    after = bench.tables.items(table)
    bench.down(table)
    assert bench.tables.items(table) == numbered(10) and bench.applied(table) == []
    refused = refusal(bench, up.run)
    assert "changed this table later" in refused.what and error_document(refused)["run"] == last(bench, table).run

    assert undo(bench, last(bench, table).run).at == 1
    assert bench.tables.items(table) == after
    (report,) = bench.up(table)
    assert (report.error, report.versions) == (None, ())  # nothing to do: the very version stands
    (report,) = bench.down(table)
    assert report.error is None and bench.tables.items(table) == numbered(10)


def test_retries_and_rows_of_items_are_undone_too(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(40))
    own = 'def items():\n    for n in range(100, 110):\n        yield {"id": n, "n": n}\n'
    bench.failed(table, FRAIL.format(bad="(3, 30)") + own, max_errors=2)
    bench.script(table, FRAIL.format(bad="()") + own)
    (report,) = bench.up(table)
    assert report.error is None and last(bench, table).retries == 1
    bench.tables.put(table, {"id": 105, "n": "used"})
    found = undo(bench, last(bench, table).run)
    assert found.error is None and found.run.counts == Counts(read=50, changed=49, superseded=1)
    assert bench.tables.items(table) == [*numbered(40), {"id": 105, "n": "used"}]


def test_a_run_that_changed_nothing_is_undone(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(5))
    bench.run(table, "def transform_up(item):\n    return item\n")
    report = undo(bench, last(bench, table).run)
    assert (report.error, report.run.counts, report.at) == (None, Counts(), 0)


def test_an_undo_restores_deleted_items(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(20))
    script = 'from dynamodt import Delete\ndef transform_up(item):\n    return Delete() if item["n"] % 2 else item\n'
    assert bench.run(table, script).changed == 10
    assert undo(bench, last(bench, table).run).run.counts == Counts(read=10, changed=10)
    assert bench.tables.items(table) == numbered(20)


def test_an_undo_deletes_items_inserted_into_a_target(bench: Bench, make_table: MakeTable) -> None:
    table, target = make_table(id="N"), make_table(name="S")
    bench.tables.put(table, *numbered(12))
    bench.tables.put(target, {"name": "n3", "mine": True})
    script = f'TARGET_TABLE = "{target}"\ndef transform_up(item):\n    return {{"name": f"n{{item[\'id\']}}"}}\n'
    assert bench.run(table, script) == Counts(read=12, changed=11, superseded=1)
    bench.tables.put(target, {"name": "n5", "used": True})
    report = undo(bench, last(bench, table).run)
    assert report.run.counts == Counts(read=11, changed=10, superseded=1)
    assert sorted(item["name"] for item in bench.tables.items(target)) == ["n3", "n5"]
    assert bench.tables.items(table) == numbered(12)


def test_an_undo_deletes_items_of_a_target_after_the_target_s_later_run_is_undone(
    bench: Bench, make_table: MakeTable
) -> None:
    """Without that later run, all inserted items would count as changed by others."""
    source, target = make_table(id="N"), make_table(id="N")
    bench.tables.put(source, *numbered(3))
    bench.run(source, f'TARGET_TABLE = "{target}"\n' + DOUBLE)
    bench.run(target, DOUBLE)
    later = last(bench, target).run
    with pytest.raises(Refused, match=f"run {later} .* changed this table later") as refused:
        undo(bench, last(bench, source).run, source, target)
    assert refused.value.where == f"table {target}"
    undo(bench, later, source, target)
    report = undo(bench, last(bench, source).run, source, target)
    assert (report.not_restored, bench.tables.items(target)) == (0, [])


def test_a_journaled_move_to_other_keys_is_undone(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(8))
    script = 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "id": item["id"] % 100 + 100, "m": 1}\n'
    bench.run(table, script, journal=True)
    assert [item["id"] for item in bench.tables.items(table)] == list(range(100, 108))
    bench.tables.put(table, {"id": 103, "n": 0}, {"id": 5, "n": 0})
    report = undo(bench, last(bench, table).run)
    assert report.error is None and report.not_restored == 2 and report.run.counts.superseded == 2
    expected = [item for item in numbered(8) if item["id"] not in (3, 5)]
    (stays,) = [{**item, "id": 105, "m": 1} for item in numbered(8) if item["id"] == 5]  # its old key is another's
    live = [{"id": 3, "n": 0}, {"id": 5, "n": 0}]  # the first is moved back with the application's value
    assert bench.tables.items(table) == sorted([*expected, *live, stays], key=lambda item: item["id"])


def test_an_undo_restores_attributes_of_every_type(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(pk="S", sk="N")
    before: list[Item] = [
        {"pk": "a", "sk": 1, "l[0]": [1, {"x": None}], "#n": {1, 2}, 'say "hi"': b"\x00", "n": Decimal("1E+2")},
        {"pk": "a", "sk": 2, "deep": {"er": {"n": Decimal("0.10")}}, "ss": {"x", "y"}, "on": True},
    ]
    bench.tables.put(table, *before)
    script = (
        'def transform_up(item):\n    return {"pk": item["pk"], "sk": item["sk"], "n": 7, "ss": {"z"}, "new": {"a"}}\n'
    )
    assert bench.run(table, script).changed == 2
    assert undo(bench, last(bench, table).run).run.counts == Counts(read=2, changed=2)
    assert bench.tables.items(table) == before


# ---------------------------------------------------------------- refused


def test_an_undo_of_these_runs_is_refused(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(5))
    bench.run(table, HALVE)
    bench.script(table, 'IDEMPOTENT = True\ndef transform_up(item):\n    return {**item, "m": 1}\n', 2)
    bench.up(table)
    first, second = bench.history(table)
    after = bench.tables.items(table)

    assert refusal(bench, "19990101", UsageError).hint == "dynamodt history shows the ids of runs"
    several = first.run[:8]  # the day
    assert first.run in refusal(bench, several, UsageError).what
    idempotent = refusal(bench, second.run)
    assert "no journal" in idempotent.what and idempotent.hint.startswith(f"dynamodt down --table {table} --to 1")
    below = refusal(bench, first.run)
    assert second.run in below.what and below.hint == f"undo that one first: dynamodt undo {second.run}"
    assert bench.tables.items(table) == after and bench.applied(table) == [1, 2]


def test_a_partly_undone_run_prevents_other_runs_of_its_table(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some items cannot be written: the run stays partly undone until the undo is repeated."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(10))
    bench.run(table, HALVE)
    run = last(bench, table).run
    original = Writes.batch

    def refusing(self: Writes, statements: Any) -> Coming:
        answer = original(self, statements[1:])() if statements[1:] else BatchAnswer([], 0.0)
        return lambda: BatchAnswer([Verdict("rejected", None, "no"), *answer.verdicts], answer.wcu)

    with monkeypatch.context() as patch:
        patch.setattr(Writes, "batch", refusing)
        patch.setattr(Writes, "single", lambda self, call: lambda: BatchAnswer([Verdict("rejected", None, "no")], 0.0))
        report = undo(bench, run)
    assert isinstance(report.error, DeadLetters) and report.run.status == "undoing" and report.at == 1
    assert report.not_restored == report.run.counts.dead > 0 and "no" in report.first_not_restored[0].why
    for moved in (bench.up(table), bench.down(table), bench.up(table, dry_run=True)):
        assert isinstance(moved[0].error, Refused) and moved[0].error.hint == f"finish it first: dynamodt undo {run}"
        assert [known.run for known in moved[0].versions] == [run]
    with pytest.raises(Refused, match=r"the undo of run .* is unfinished"):
        retry(bench, run)

    found = undo(bench, run)
    assert (found.error, found.run.status, found.not_restored) == (None, "undone", 0)
    before = report.run.counts.changed  # by the first try, which was stopped
    assert found.run.counts == Counts(read=10, changed=10 - before, unchanged=before)
    assert bench.tables.items(table) == numbered(10) and bench.applied(table) == []


# ---------------------------------------------------------------- killed


def doubled(bench: Bench, table: str) -> int:
    return sum(item["n"] != item["id"] + 1 for item in bench.tables.items(table))


def test_an_undo_killed_and_repeated_has_the_same_result(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable
) -> None:
    """A run is killed half-way and undone; the undo is killed at three moments, and continues each time."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(400))
    bench.script(table, HALVE)
    state = f"state-{table}"
    try:
        assert attempt(endpoint, bench.folder, table, "1", "sent", 7).returncode == -9
        assert 0 < doubled(bench, table) < 400
        for moment, count in (("sent", 2), ("batch", 3), ("recorded", 1)):
            ended = attempt(endpoint, bench.folder, table, "undo", moment, count)
            assert ended.returncode == -9, ended.stderr
        assert doubled(bench, table) > 0, "it was undone at once: this has shown nothing"
        elsewhere = replace(bench, stage=replace(bench.stage, state_table=state))
        (record,) = elsewhere.history(table)
        assert record.status == "undoing"
        ended = attempt(endpoint, bench.folder, table, "undo", "never", 0)
        assert ended.returncode == 0, ended.stderr
        assert bench.tables.items(table) == numbered(400)
        assert elsewhere.history(table)[0].status == "undone" and elsewhere.applied(table) == []
    finally:
        endpoint.client.delete_table(TableName=state)


# ---------------------------------------------------------------- retry


def test_retry_replays_the_dead_letters_and_records_the_version(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30))
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=2)
    run = last(bench, table).run
    assert isinstance(retry(bench, run).error, DeadLetters)  # nothing was mended
    bench.script(table, FRAIL.format(bad="()"))
    report = retry(bench, run[:22])
    assert (report.error, report.at) == (None, 1)
    assert report.versions[0].run == run and report.versions[0].counts == Counts(read=30, changed=30)
    assert [item["n"] for item in bench.tables.items(table)] == [2 * (n + 1) for n in range(30)]
    with pytest.raises(Refused, match="nothing of it is left"):
        retry(bench, run)


def test_a_run_without_dead_letters_is_not_retried(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(5))
    bench.script(table, 'def transform_up(item):\n    return {**item, "id": 0}\n')  # the Halloween problem
    assert bench.up(table)[0].error is not None
    with pytest.raises(Refused, match="has no dead letters") as caught:
        retry(bench, last(bench, table).run)
    assert caught.value.hint == f"to continue it: dynamodt up --table {table} --to 1"
    with pytest.raises(UsageError):
        retry(bench, "1999")


def test_a_retry_whose_end_was_not_recorded_is_ended_by_the_same_command(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30))
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=2)
    run, record_in = last(bench, table).run, State.record
    bench.script(table, FRAIL.format(bad="()"))

    def denied(self: State, record: RunRecord, *rest: Any, **more: Any) -> RunRecord:
        if record.status == "succeeded":
            raise ServiceError("TransactWriteItems was refused: AccessDeniedException")
        return record_in(self, record, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(State, "record", denied)
        assert isinstance(retry(bench, run).error, ServiceError)
    report = retry(bench, run)
    assert (report.error, report.at, report.versions[0].counts) == (None, 1, Counts(read=30, changed=30))
    assert [item["n"] for item in bench.tables.items(table)] == [2 * (n + 1) for n in range(30)]


@pytest.fixture
def doubtful(bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A table and its run, whose writes of the items 1 and 2 have an unknown outcome: 1 was written, and 2 was not."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(6))
    original, live = Writes.batch, {1: 5, 2: 7}

    def unanswered(self: Writes, statements: Any) -> Coming:
        ids = [int(one.parameters[1]["N"]) for one in statements]
        sent = [one for one, number in zip(statements, ids, strict=True) if number != 2]
        answers = iter(original(self, sent)().verdicts if sent else [])
        verdicts = [Verdict("doubt") if number == 2 else next(answers) for number in ids]
        for index, number in enumerate(ids):
            if number == 1:
                verdicts[index] = Verdict("doubt")
            if number in live:
                bench.tables.put(table, {"id": number, "n": live[number]})
        return lambda: BatchAnswer(verdicts, None)

    bench.script(table, FRAIL.format(bad="()"))
    with monkeypatch.context() as patch:
        patch.setattr(Writes, "batch", unanswered)
        patch.setattr(Backoff, "delay", lambda self, attempt, random: 0.002)
        (report,) = bench.up(table, max_errors=9)
    assert isinstance(report.error, DeadLetters) and report.versions[0].counts.dead == 2
    run = last(bench, table).run
    assert "2 are in doubt" in report.error.hint
    assert f"dynamodt retry --in-doubt again {run}" in report.error.hint
    return table, run


def test_dead_letters_in_doubt_need_a_decision(bench: Bench, doubtful: tuple[str, str]) -> None:
    table, run = doubtful
    before = bench.tables.items(table)
    report = retry(bench, run)
    assert isinstance(report.error, Refused) and "--in-doubt done" in report.error.hint
    (report,) = bench.up(table)
    assert isinstance(report.error, DeadLetters) and "--in-doubt done" in report.error.hint
    assert bench.tables.items(table) == before and bench.applied(table) == []


def test_dead_letters_in_doubt_are_transformed_on_request(bench: Bench, doubtful: tuple[str, str]) -> None:
    table, run = doubtful
    report = retry(bench, run, in_doubt="again")
    assert report.error is None and report.versions[0].counts == Counts(read=6, changed=6)
    assert [item["n"] for item in bench.tables.items(table)] == [2, 10, 14, 8, 10, 12]


def test_dead_letters_in_doubt_are_counted_as_written_on_request(bench: Bench, doubtful: tuple[str, str]) -> None:
    table, run = doubtful
    bench.tables.delete(table, {"id": 2})
    report = retry(bench, run, in_doubt="done")
    assert report.error is None and report.versions[0].counts == Counts(read=6, changed=5, vanished=1)
    assert [item["n"] for item in bench.tables.items(table)] == [2, 5, 8, 10, 12] and bench.applied(table) == [1]


def test_dead_letters_in_doubt_are_decided_one_by_one(bench: Bench, doubtful: tuple[str, str]) -> None:
    table, run = doubtful
    (tried,) = retry(bench, run, in_doubt="again", keys=("1",), dry_run=True).versions
    assert tried.counts.read == 1
    for _ in range(2):
        report = retry(bench, run, in_doubt="again", keys=("1",))
        assert [item["n"] for item in bench.tables.items(table)] == [2, 10, 7, 8, 10, 12]
        if isinstance(report.error, DeadLetters):
            assert report.versions[0].counts.dead == 1
    assert isinstance(report.error, UsageError) and "1 key has no dead letter in doubt" in report.error.what
    report = retry(bench, run, in_doubt="done", keys=('{"id": {"N": "2"}}',))
    assert report.error is None and report.versions[0].counts == Counts(read=6, changed=6)
    assert [item["n"] for item in bench.tables.items(table)] == [2, 10, 7, 8, 10, 12] and bench.applied(table) == [1]
    assert not [*StoredDeadLetters(Project(bench.stage, bench.folder), last(bench, table))]


def test_dead_letters_in_doubt_are_accepted_and_an_undo_keeps_later_writes(
    bench: Bench, doubtful: tuple[str, str]
) -> None:
    """An accepted doubt is not resolved: the application's writes to these items stay."""
    table, run = doubtful
    before = bench.tables.items(table)
    report = retry(bench, run, accept_all=True, reason="looked at")
    assert report.error is None and report.versions[0].counts == Counts(read=6, changed=4, dead=2)
    assert bench.tables.items(table) == before and bench.applied(table) == [1]
    undone = undo(bench, run)
    assert undone.error is None and undone.run.counts == Counts(read=6, changed=4, superseded=2)
    assert [item["n"] for item in bench.tables.items(table)] == [1, 5, 7, 4, 5, 6] and bench.applied(table) == []
