"""An incremental export is requested until DynamoDB has the last writes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodt.errors import Refused, RunFailed
from dynamodt.export.request import LONGEST, SHORTEST, ExportRequest
from dynamodt.model.runs import ExportSource, RunRecord, Script
from dynamodt.model.tables import Connection, KeyAttribute, StorageSpec, TableSpec
from dynamodt.model.tables import Stage as StageSpec
from dynamodt.runs import exports
from dynamodt.runs.exports import CatchingUp, SourceExport, source_export, token_of
from dynamodt.runs.options import RunOptions
from dynamodt.runs.preflight import check_moment

TABLE = TableSpec("users", (KeyAttribute("id", "S"),))
SINCE = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
SERVICE_TIME = SINCE + timedelta(minutes=5)  # by its own clock; ours is 55 minutes ahead of it
SCRIPT = Script("users", 1, "change", "v1_change.py", "", "")
EARLY = "Point in Time Recovery is not available for specified export time"
AWAY = StageSpec("prod", Connection("eu-west-1"), StorageSpec("s3://b"))


class Service:
    """Refuses this number of requests; records the requests and the waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: str, refusals: int, message: str = EARLY) -> None:
        self.asked: list[ExportRequest] = []
        self.idle: list[timedelta] = []
        self.notes: list[str] = []
        self._code = code
        self._message = message
        self._refusals = refusals
        for module in (exports, exports):
            monkeypatch.setattr(module, "request", self._request)
            monkeypatch.setattr(module, "pause", lambda context, record, time_left: self.idle.append(time_left))
            monkeypatch.setattr(module, "time_of", lambda stage, table: SERVICE_TIME)

    def _request(self, session: Any, wanted: ExportRequest) -> str:
        self.asked.append(wanted)
        if len(self.asked) <= self._refusals:
            cause = ClientError({"Error": {"Code": self._code, "Message": self._message}}, "ExportTableToPointInTime")
            raise Refused("no") from cause
        return "arn"

    def window(self, since: datetime = SINCE, script: Script = SCRIPT) -> str:
        record = RunRecord("users", "run", 1, "change", "up", "", "running", "", journal=True)
        session = SimpleNamespace(stage=AWAY, observer=SimpleNamespace(notify=self.notes.append))
        run_recorder, main = SimpleNamespace(record=record), SimpleNamespace(table=TABLE, script=script)
        catching = CatchingUp(session, run_recorder, None, main, [], None)  # type: ignore[arg-type]
        return catching._request(1, since)


def test_an_incremental_export_requested_too_early_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "InvalidExportTimeException", 2)
    assert service.window() == "arn"
    first = service.asked[0]
    assert service.asked == [first] * 3 and first.since == SINCE and first.until is not None
    assert first.until == SINCE + SHORTEST, "not by this machine's clock"
    assert service.idle[0] == SHORTEST - timedelta(minutes=5) and len(service.idle) == 3


def test_the_owner_of_a_named_bucket_is_looked_up_once_by_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket that another account creates under the name of a deleted one is not read when the run continues."""
    owners, read = ["123456789012", ""], list[str]()
    monkeypatch.setattr(exports, "owner_of", lambda stage, bucket: owners.pop(0))
    monkeypatch.setattr(exports, "client", lambda *_: None)
    monkeypatch.setattr(exports, "identity", lambda *_: None)
    monkeypatch.setattr(exports, "find", lambda *_: None)
    monkeypatch.setattr(exports, "_objects", lambda stage, bucket, owner: None)

    def found(stage: Any, table: Any, bucket: str, owner: str, folder: Any) -> SourceExport:
        read.append(owner)
        return SourceExport(ExportSource(bucket, "x", "arn", owner), 1, 1, None)

    monkeypatch.setattr(exports, "_source_export", found)
    state = SimpleNamespace(runs=lambda table: [])
    context = SimpleNamespace(stage=AWAY, options=RunOptions(export="s3://theirs/x"), state=state)
    recorder = Kept(RunRecord("users", "run", 1, "change", "up", "", "running", ""))
    for _ in range(2):
        source_export(context, TABLE, recorder)  # type: ignore[arg-type]
    assert read == ["123456789012"] * 2 and owners == [""]


def test_another_export_is_refused_once_the_run_has_read_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cursors of a run are lines of the files of one export."""
    there = SourceExport(ExportSource("b", "x", "arn"), 3, 1, None, "arn:one")
    monkeypatch.setattr(exports, "await_export", lambda *_: there)
    context = SimpleNamespace(stage=AWAY, options=RunOptions())
    recorder = Kept(RunRecord("users", "run", 1, "change", "up", "", "running", "", exports=("s3://theirs/x",)))
    for _ in range(2):
        assert source_export(context, TABLE, recorder).name == "arn:one"  # type: ignore[arg-type]
    there = replace(there, name="arn:two")
    with pytest.raises(Refused, match="began with the export arn:one, and arn:two is there now") as caught:
        source_export(context, TABLE, recorder)  # type: ignore[arg-type]
    assert "run the same command again" in caught.value.hint
    assert recorder.record.exports == ("s3://theirs/x",)


def test_an_incremental_export_is_not_requested_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "InvalidExportTimeException", 99)
    with pytest.raises(Refused):
        service.window()
    assert 16 < len(service.asked) < 40  # DynamoDB takes a quarter of an hour and more


@pytest.mark.parametrize(
    ("message", "waits"),
    [
        ("Point in Time Recovery is not available for specified export time", True),
        ("Incremental export period to time cannot be greater than the current time : 2026-10-09T01:51:50Z", True),
        ("Difference between export period from time and export period to time is less than 15 minutes", True),
        ("Incremental export period from time cannot be less than the table creation time : 2026-10-08", False),
        ("Export Time is invalid", False),
        ("", False),
    ],
)  # fmt: skip
def test_only_the_message_of_a_too_early_request_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, message: str, waits: bool
) -> None:
    """Captured messages of the service: without point-in-time recovery the code is the same one."""
    service = Service(monkeypatch, "InvalidExportTimeException", 1, message)
    with nullcontext() if waits else pytest.raises(Refused):
        service.window()
    assert len(service.asked) == 1 + waits


@pytest.mark.parametrize("hours", [0, 1, 100])
def test_an_incremental_export_is_of_whole_seconds_which_its_token_contains(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    service = Service(monkeypatch, "", 0)
    service.window(SINCE.replace(microsecond=950_000) - timedelta(hours=hours))
    (wanted,) = service.asked
    assert wanted.since is not None and wanted.until is not None
    assert wanted.since.microsecond == wanted.until.microsecond == 0
    assert SHORTEST <= wanted.until - wanted.since <= LONGEST
    assert wanted.token == f"run-1-0-{int(wanted.since.timestamp())}-{int(wanted.until.timestamp())}"


@pytest.mark.parametrize(
    ("hours", "script", "warns"),
    [
        (23, SCRIPT, False),
        (25, SCRIPT, True),
        (25, replace(SCRIPT, stamp="_s"), False),
        (25, replace(SCRIPT, idempotent=True), False),
    ],
)
def test_an_export_that_was_read_for_more_than_a_day_is_reported(
    monkeypatch: pytest.MonkeyPatch, hours: int, script: Script, warns: bool
) -> None:
    service = Service(monkeypatch, "", 0)
    service.window(SERVICE_TIME - timedelta(hours=hours), script)
    assert [("24 hours" in note, "STAMP" in note) for note in service.notes] == [(True, True)] * warns


def test_the_full_export_is_requested_at_a_whole_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first incremental export would begin before the full export's time. The second is one in which no
    earlier version ended, by the service's clock."""
    service = Service(monkeypatch, "InvalidExportTimeException", 2)
    monkeypatch.setattr(exports, "await_export", lambda *of: SourceExport(ExportSource("b", "f", "arn"), 3, 0, SINCE))
    slept: list[float] = []
    monkeypatch.setattr(exports, "_abortable_sleep", lambda session, record: slept.append)
    session = SimpleNamespace(stage=AWAY, options=RunOptions(dry_run=True))
    source_export(session, TABLE, Kept(RunRecord("users", "run", 1, "change", "up", "", "running", "")))  # type: ignore[arg-type]
    wanted = service.asked[0]
    assert service.asked == [wanted] * 3
    assert wanted.at == SERVICE_TIME + timedelta(seconds=1) and slept == [2.0]
    assert wanted.token == f"run-0-0-{int(wanted.at.timestamp())}"


def test_the_token_of_each_export_is_different() -> None:
    record = RunRecord("users", "run", 1, "change", "up", "", "running", "")
    later = SINCE + SHORTEST
    moments: list[tuple[datetime, ...]] = [(), (SINCE,), (later,), (SINCE, later)]
    tokens = {token_of(record, number, *of) for number in (0, 1) for of in moments}
    assert len({*tokens, token_of(replace(record, failed_exports=1), 0)}) == 9


IN_A_SECOND = SourceExport(ExportSource("bucket", "folder", "arn"), 3, 0, SINCE.replace(microsecond=28_000))


@pytest.mark.parametrize(
    ("found", "script", "catch_up", "refused"),
    [
        (IN_A_SECOND, SCRIPT, "", True),
        (IN_A_SECOND, SCRIPT, "windows", True),
        (IN_A_SECOND, replace(SCRIPT, stamp="_dynamodt"), "windows", True),
        (IN_A_SECOND, SCRIPT, "none", False),
        (IN_A_SECOND, replace(SCRIPT, idempotent=True), "windows", False),
        (replace(IN_A_SECOND, until=SINCE), SCRIPT, "windows", False),
    ],
)
def test_incremental_exports_are_refused_after_an_export_of_a_fraction_of_a_second(
    found: SourceExport, script: Script, catch_up: str, refused: bool
) -> None:
    with pytest.raises(Refused) if refused else nullcontext() as caught:
        check_moment(found, script, catch_up)
    if caught is not None:
        assert caught.value.where == "s3://bucket/folder" and "--export new" in caught.value.hint


@pytest.mark.parametrize(
    ("script", "way"),
    [
        (SCRIPT, "dynamodt up --table users --catch-up none leaves the changes"),
        (replace(SCRIPT, stamp="_s"), "dynamodt up --table users --catch-up scan scans the table; or undo it: "),
        (replace(SCRIPT, idempotent=True), "dynamodt up --table users --catch-up scan scans the table"),
    ],
)
@pytest.mark.parametrize("code", ["PointInTimeRecoveryUnavailableException", "InvalidExportTimeException"])
def test_any_other_refusal_of_an_export_is_raised_at_once_with_another_way(
    monkeypatch: pytest.MonkeyPatch, code: str, script: Script, way: str
) -> None:
    """If point-in-time recovery was off during the run, no request for the period ever succeeds."""
    service = Service(monkeypatch, code, 99, "Export Time is invalid")
    with pytest.raises(Refused) as caught:
        service.window(script=script)
    assert len(service.asked) == 1 and way in caught.value.hint


def test_a_failed_incremental_export_is_forgotten_and_another_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the same command, repeated, would wait for the failed one for ever."""
    service = Service(monkeypatch, "", 0)
    run_recorder = Kept(RunRecord("users", "run", 1, "change", "up", "", "running", "", exports=("full",), splits=3))
    found = SourceExport(ExportSource("bucket", "folder", "arn", incremental=True), 3, 0, SINCE)
    answers = iter([RunFailed("the export has failed"), found])

    def ready(*of: Any) -> SourceExport:
        answer = next(answers)
        if isinstance(answer, RunFailed):
            raise answer
        return answer

    monkeypatch.setattr(exports, "await_export", ready)
    session = SimpleNamespace(stage=SimpleNamespace(local=True))
    catching = CatchingUp(session, run_recorder, None, SimpleNamespace(table=TABLE), [], None)  # type: ignore[arg-type]
    with pytest.raises(RunFailed):
        catching._export(1, SINCE)
    assert run_recorder.record.exports == ("full",)
    assert catching._export(1, SINCE) is found and run_recorder.record.incremental_exports == (3,)
    assert [wanted.token for wanted in service.asked] == ["run-1-0", "run-1-1"]


class Kept:
    """A run's record in memory."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def keep(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
