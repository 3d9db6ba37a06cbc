"""A window is asked for until DynamoDB has what was written last."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodt.aws.export.request import SHORTEST, ExportRequest
from dynamodt.control.running import catching_up
from dynamodt.control.running.catching_up import CatchingUp
from dynamodt.control.running.exporting import Found
from dynamodt.errors import Refused, RunFailed
from dynamodt.model import ExportSource, KeyAttribute, RunRecord, TableSpec

TABLE = TableSpec("users", (KeyAttribute("id", "S"),))
SINCE = datetime.now(UTC) - timedelta(hours=1)


class Service:
    """Refuses so many requests; notes what it was asked, and what was waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: str, refusals: int) -> None:
        self.asked: list[ExportRequest] = []
        self.rests: list[datetime] = []
        self._code = code
        self._refusals = refusals
        monkeypatch.setattr(catching_up, "request", self._request)
        monkeypatch.setattr(catching_up, "rest_until", lambda session, record, moment: self.rests.append(moment))

    def _request(self, session: Any, wanted: ExportRequest) -> str:
        self.asked.append(wanted)
        if len(self.asked) <= self._refusals:
            cause = ClientError({"Error": {"Code": self._code, "Message": "no"}}, "ExportTableToPointInTime")
            raise Refused("no") from cause
        return "arn"

    def window(self) -> str:
        record = SimpleNamespace(run="run", failed_exports=0)
        session = SimpleNamespace(stage=SimpleNamespace(local=False))
        chronicle, main = SimpleNamespace(record=record), SimpleNamespace(table=TABLE)
        catching = CatchingUp(session, chronicle, None, main, [], None)  # type: ignore[arg-type]
        return catching._request(1, SINCE)


def test_a_window_that_is_asked_for_too_early_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "InvalidExportTimeException", 2)
    assert service.window() == "arn"
    assert service.asked == [ExportRequest(TABLE, "run-1-0", since=SINCE)] * 3
    assert service.rests[0] == SINCE + SHORTEST and len(service.rests) == 3


def test_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "InvalidExportTimeException", 99)
    with pytest.raises(Refused):
        service.window()
    assert 10 < len(service.asked) < 20


def test_another_refusal_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(monkeypatch, "PointInTimeRecoveryUnavailableException", 99)
    with pytest.raises(Refused):
        service.window()
    assert len(service.asked) == 1


def test_a_window_that_failed_is_forgotten_and_another_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command, typed again, would wait for the failed one for ever."""
    service = Service(monkeypatch, "", 0)
    chronicle = Kept(RunRecord("users", "run", 1, "change", "up", "", "running", "", exports=("full",), units=3))
    found = Found(ExportSource("bucket", "folder", "arn", incremental=True), 3, 0, SINCE)
    answers = iter([RunFailed("the export has failed"), found])

    def ready(*of: Any) -> Found:
        answer = next(answers)
        if isinstance(answer, RunFailed):
            raise answer
        return answer

    monkeypatch.setattr(catching_up, "ready", ready)
    session = SimpleNamespace(stage=SimpleNamespace(local=True))
    catching = CatchingUp(session, chronicle, None, SimpleNamespace(table=TABLE), [], None)  # type: ignore[arg-type]
    with pytest.raises(RunFailed):
        catching._window(1, SINCE)
    assert chronicle.record.exports == ("full",)
    assert catching._window(1, SINCE) is found and chronicle.record.windows == (3,)
    assert [wanted.token for wanted in service.asked] == ["run-1-0", "run-1-1"]


class Kept:
    """A run's record, in memory."""

    def __init__(self, record: RunRecord) -> None:
        self.record = record

    def keep(self, **changes: Any) -> None:
        self.record = replace(self.record, **changes)
