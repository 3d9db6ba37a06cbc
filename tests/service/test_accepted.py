"""Dead letters that an operator accepts, and runs that succeed with some: versions, history and undo."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from dynamodt import api as operations
from dynamodt.dynamodb.clients import client
from dynamodt.errors import DeadLetters, Refused, ServiceError, UsageError
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from dynamodt.model.tables import StorageSpec
from dynamodt.runs import context
from dynamodt.runs.options import RunOptions
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.undoing import FRAIL, last, numbered, undo

pytestmark = pytest.mark.endpoints("ministack")
NEXT = 'def transform_up(item):\n    return {**item, "next": True}\n'
BOTH = FRAIL + "\ndef transform_down(item):\n    return {{**item, 'n': item['n'] / 2}}\n"


def retry(bench: Bench, run: str, **options: Any) -> TableReport:
    (report,) = operations.retry(bench.stage, bench.folder, (), run, RunOptions(**options), bench.recorder)
    return report


def show(bench: Bench, run: str) -> Any:
    return operations.show(bench.stage, bench.folder, (), run)


def keys(bench: Bench, run: str) -> list[str]:
    return list(operations.keys_to_accept(bench.stage, bench.folder, (), run))


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    """A table of thirty items."""
    table = make_table(id="N")
    bench.tables.put(table, *numbered(30))
    return table


def test_a_dead_letter_is_accepted_by_its_key_and_the_others_are_replayed(bench: Bench, table: str) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20, 21)"), max_errors=2)
    run = last(bench, table).run
    bench.script(table, FRAIL.format(bad="(3, 21)"))
    report = retry(bench, run, accept=("3", '{"id": 21}'), reason="of a test", by="ann")
    assert (report.error, report.at, bench.applied(table)) == (None, 1, [1])
    assert report.versions[0].counts == Counts(read=30, changed=28, dead=2) and report.versions[0].accepted == 2
    (accepted,) = last(bench, table).accepted
    assert (accepted.items, accepted.by, accepted.why) == (2, "ann", "of a test")
    assert {item["id"] for item in bench.tables.items(table) if item["n"] == item["id"] + 1} == {3, 21}
    assert [line["accepted"] for line in bench.dead_letters(report)] == [True, True] and keys(bench, run) == []
    with pytest.raises(Refused, match="2 accepted by ann: of a test"):
        retry(bench, run)
    assert undo(bench, run).run.counts == Counts(read=28, changed=28)
    assert bench.tables.items(table) == numbered(30) and bench.applied(table) == []


def test_a_dry_run_of_a_retry_skips_accepted_dead_letters(bench: Bench, table: str) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=1)
    run = last(bench, table).run
    assert isinstance(retry(bench, run, accept=("20",), reason="old").error, DeadLetters)
    (tried,) = bench.up(table, dry_run=True)
    assert isinstance(tried.error, DeadLetters) and [line["key"] for line in bench.dead_letters(tried)] == [
        {"id": {"N": "3"}}
    ]
    bench.script(table, FRAIL.format(bad="()"))
    (tried,), (report,) = bench.up(table, dry_run=True), bench.up(table)
    assert tried.error is None and tried.versions[0].counts.dead == report.versions[0].counts.dead == 1


def test_a_dry_run_of_a_retry_transforms_in_memory(bench: Bench, table: str) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=1)
    before, items = last(bench, table), bench.tables.items(table)
    tried = retry(bench, before.run, dry_run=True, accept=("3",), reason="of a test")
    assert isinstance(tried.error, DeadLetters) and "id = 20: ValueError: a bad one" in tried.error.what
    bench.script(table, FRAIL.format(bad="(20,)"))
    tried = retry(bench, before.run, dry_run=True, accept=("20",), reason="of a test")
    assert tried.error is None and tried.versions[0].status == "dry-run"
    assert tried.versions[0].counts == Counts(read=2, changed=1, dead=1)
    assert bench.tables.items(table) == items and last(bench, table) == before


def test_a_stopped_retry_continues_before_the_rest_is_accepted(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=1)
    run = last(bench, table).run
    with monkeypatch.context() as killed:  # its list of what it replays is stored, and nothing else
        killed.setattr("dynamodt.runs.recording.RunRecorder.begin", lambda recorder: sys.exit(9))
        with pytest.raises(SystemExit):
            retry(bench, run)
    tried = retry(bench, run, dry_run=True)
    assert isinstance(tried.error, DeadLetters) and tried.versions[0].counts == Counts(read=2, dead=2)
    with pytest.raises(UsageError) as unknown:
        retry(bench, run, accept=("3",), reason="old")
    assert f"replays its dead letters first: dynamodt retry {run}" in unknown.value.hint
    assert isinstance(retry(bench, run, accept_all=True, reason="old").error, DeadLetters)
    assert any("their dead letters are not accepted yet" in text for text in bench.recorder.notes)
    assert retry(bench, run, accept_all=True, reason="old").error is None


def test_dead_letters_that_are_not_accepted_fail_the_run_and_acceptances_stay(bench: Bench, table: str) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=1)
    run = last(bench, table).run
    assert isinstance(retry(bench, run, accept=("20",), reason="old").error, DeadLetters)
    assert bench.applied(table) == [] and keys(bench, run) == ["3"]
    assert isinstance(retry(bench, run).error, DeadLetters)
    (group,) = show(bench, run).groups
    assert (group.step, group.error, group.items, group.accepted, group.keys) == (
        "transform", "ValueError: a bad one", 2, 1, ["3"],
    )  # fmt: skip
    (report,) = bench.up(table, max_errors=1)
    assert report.error is None and last(bench, table).tolerated == 1
    report = retry(bench, run, accept_all=True, reason="old, too")
    assert (report.error, [one.items for one in last(bench, table).accepted]) == (None, [1, 1])
    assert last(bench, table).tolerated == 0 and bench.applied(table) == [1]


@pytest.mark.parametrize(
    ("options", "kind", "what"),
    [
        ({"accept": ("7",), "reason": "why"}, UsageError, "1 key has no dead letter"),
        ({"accept": ("3", "x"), "reason": "why"}, UsageError, "1 key has no dead letter"),
        ({"accept": ("3",)}, UsageError, "needs a reason"),
    ],
)
def test_wrong_keys_and_missing_reasons_are_refused(
    bench: Bench, table: str, options: dict[str, Any], kind: type[Exception], what: str
) -> None:
    bench.failed(table, FRAIL.format(bad="(3,)"))
    before = last(bench, table)
    with pytest.raises(kind, match=what):
        retry(bench, before.run, **options)
    assert last(bench, table) == before


def test_a_run_that_succeeded_with_dead_letters_can_be_retried_until_another_run(bench: Bench, table: str) -> None:
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    bench.script(table, NEXT, 2, "next")
    (report,) = bench.up(table, to=1, max_errors=2)
    run = last(bench, table).run
    assert (report.error, report.at, report.versions[0].outcome) == (None, 1, "succeeded with 2 dead letters")
    assert any("succeeded with 2 dead letters" in note for note in (*report.notices, *bench.recorder.notes))
    (status,) = operations.status(bench.stage, bench.folder, [table])
    assert [(one.state, one.dead) for one in status.versions] == [("applied", 2), ("pending", 0)]

    bench.script(table, FRAIL.format(bad="(3,)"))
    assert retry(bench, run).error is None  # it tolerates again what it has tolerated
    assert (bench.applied(table), last(bench, table).tolerated) == ([1], 1)

    assert bench.up(table)[0].at == 2
    with pytest.raises(Refused, match=r"cannot be replayed: run \S+ \(up of version 2, next\) has changed"):
        retry(bench, run)
    assert undo(bench, last(bench, table).run).error is None
    bench.script(table, FRAIL.format(bad="()"))
    assert retry(bench, run).error is None and last(bench, table).run == run  # the last to have written
    assert [item["n"] for item in bench.tables.items(table)] == [2 * (n + 1) for n in range(30)]
    assert undo(bench, run).run.counts == Counts(read=30, changed=30) and bench.tables.items(table) == numbered(30)


def test_the_dead_letters_of_a_run_that_another_one_has_followed_are_not_said_to_be_retried(
    bench: Bench, table: str
) -> None:
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    bench.script(table, NEXT, 2, "next")
    (report,) = bench.up(table, max_errors=2)
    (notice,) = (note for note in report.notices if "2 dead letters" in note)
    assert notice.endswith("version 2 has run since, so that `retry` replays them only once that is undone")
    first = report.versions[0].run
    with pytest.raises(Refused, match="cannot be replayed"):
        retry(bench, first)
    assert undo(bench, last(bench, table).run).error is None
    assert retry(bench, first, max_errors=2).error is None


def test_a_retry_that_dies_leaves_an_unfinished_run_that_can_continue(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    bench.up(table, max_errors=2)
    run = last(bench, table).run

    def out_of_reach(*_: object) -> None:
        raise ServiceError("out of reach")

    with monkeypatch.context() as patch:
        patch.setattr("dynamodt.runs.execute.run_phases", out_of_reach)
        assert isinstance(retry(bench, run).error, ServiceError)
    assert (last(bench, table).status, bench.applied(table)) == ("failed", [])
    (report,) = bench.up(table)
    assert (report.error, report.versions[0].run, last(bench, table).tolerated) == (None, run, 2)
    assert bench.applied(table) == [1] and context.run_phases is not out_of_reach


@pytest.mark.parametrize("accept", [{"accept": ("3",)}, {"accept_all": True}])
def test_a_command_that_died_after_accepting_can_be_repeated(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch, accept: dict[str, Any]
) -> None:
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    bench.up(table, max_errors=2)
    run = last(bench, table).run

    class Died(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Died

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr("dynamodt.runs.execute.run_phases", dies)
        retry(bench, run, **accept, reason="old")
    assert (last(bench, table).status, bench.applied(table)) == ("running", [])
    assert retry(bench, run, **accept, reason="old").error is None
    kept = last(bench, table)
    assert (kept.run, [one.items for one in kept.accepted], bench.applied(table)) == (run, [2 - kept.tolerated], [1])
    if kept.tolerated:
        with pytest.raises(Refused, match="3 is accepted already"):
            retry(bench, run, **accept, reason="old")


def test_an_undone_run_with_tolerated_dead_letters_cannot_be_retried(bench: Bench, table: str) -> None:
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    bench.up(table, max_errors=2)
    run = last(bench, table).run
    undo(bench, run)
    for options in ({}, {"accept": ("3",), "reason": "old"}):
        with pytest.raises(Refused, match=r"has ended \(undone\): nothing of it is left to retry"):
            retry(bench, run, **options)
    assert not any("continues" in note for note in bench.recorder.notes)


def test_down_can_succeed_with_dead_letters(bench: Bench, table: str) -> None:
    bench.run(table, BOTH.format(bad="()"))
    bench.tables.put(table, {"id": 5, "n": "none"})
    (report,) = bench.down(table, max_errors=1)
    run = last(bench, table).run
    assert (report.error, report.at, bench.applied(table)) == (None, 0, [])
    bench.tables.put(table, {"id": 5, "n": 12})
    bench.script(table, BOTH.format(bad="()") + "# corrected\nCORRECTED = 1\n")
    assert retry(bench, run).error is None and bench.applied(table) == []
    assert bench.tables.items(table) == numbered(30)


def test_dead_letters_of_a_run_are_skipped_by_the_other_direction(bench: Bench, table: str) -> None:
    bench.script(table, BOTH.format(bad="(3, 20)"))
    bench.up(table, max_errors=2)
    assert retry(bench, last(bench, table).run, accept=("3",), reason="a test").error is None
    assert bench.down(table)[0].versions[0].counts == Counts(read=30, changed=28, unchanged=2)
    assert bench.tables.items(table) == numbered(30)
    bench.up(table, max_errors=2)
    for damage in (cut, Path.unlink):
        for lost in Path(bench.stage.storage.url).glob(f"runs/{table}/{last(bench, table).run}/dead/*"):
            damage(lost)
        (report,) = bench.down(table)
        assert isinstance(report.error, Refused)
        assert "which items it has not transformed is not known" in str(report.error)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def test_dead_letters_of_an_export_are_replayed_without_its_files_and_without_a_new_one(
    bench: Bench, table: str, endpoint: Endpoint
) -> None:
    name = f"stage-{uuid4().hex[:12]}"
    client(endpoint.connection, "s3").create_bucket(Bucket=name)
    bench = replace(bench, stage=replace(bench.stage, storage=StorageSpec(f"s3://{name}/some")))
    bench.script(table, FRAIL.format(bad="(3, 20)"))
    (report,) = bench.up(table, max_errors=2, source="export", catch_up="none")
    run, exports = last(bench, table).run, last(bench, table).exports
    assert report.error is None
    s3 = client(endpoint.connection, "s3")
    for entry in s3.list_objects_v2(Bucket=name, Prefix="some/AWSDynamoDB/")["Contents"]:
        s3.delete_object(Bucket=name, Key=entry["Key"])
    bench.script(table, FRAIL.format(bad="(20,)"))
    assert retry(bench, run, accept=("20",), reason="gone").error is None
    record = last(bench, table)
    assert (record.exports, record.counts.dead, record.tolerated) == (exports, 1, 0)
    assert [item["n"] for item in bench.tables.items(table)] == [n + 1 if n == 20 else 2 * (n + 1) for n in range(30)]


def test_a_lost_list_of_acceptances_is_an_error_and_is_shown(bench: Bench, table: str) -> None:
    bench.failed(table, FRAIL.format(bad="(3, 20)"), max_errors=1)
    run = last(bench, table).run
    retry(bench, run, accept=("3",), reason="old")
    for path in (Path(bench.stage.storage.url) / "runs" / table / run / "accepted").iterdir():
        path.unlink()
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "list of dead letters" in report.error.what
    shown = show(bench, run)
    assert shown.stored == shown.counts.dead == 2 and "list of dead letters accepted by" in shown.final
    assert [group.accepted for group in shown.groups] == [0]
