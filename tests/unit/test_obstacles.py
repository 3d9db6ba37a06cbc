"""The obstacles of a plan, on a stage of AWS: recovery, and the consumers of the writes, with their number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.dynamodb.table import Consumers
from dynamodt.errors import ServiceError
from dynamodt.model.runs import Lease
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs import forecast
from dynamodt.runs.estimate import Span, VersionEstimate
from dynamodt.runs.forecast import VersionForecast, obstacles_of
from dynamodt.runs.plan import Step, TablePlan
from tests.unit.estimated import HALF, read

pytestmark = pytest.mark.unit

STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/p"))
TABLE = TableSpec("things", (KeyAttribute("id", "S"),), stream="arn:s", replicas=("eu-west-1",))
NONE = Span()
ESTIMATE = VersionEstimate(1, "change", 10, 100, 10, NONE, NONE, NONE, {}, Span(4, 5, 6), NONE)


class NoRuns:
    leases: Any = None

    def __init__(self) -> None:
        self.leases = self

    def read(self, table: str) -> Lease:
        return Lease(table, 0)

    def runs(self, table: str) -> list[Any]:
        return []


def found(folder: Any, monkeypatch: pytest.MonkeyPatch, recovery: Any, consumers: Consumers = Consumers()) -> list[str]:
    def has_recovery(connection: Connection, table: str) -> bool:
        if isinstance(recovery, Exception):
            raise recovery
        return bool(recovery)

    monkeypatch.setattr(forecast, "check_unfinished", lambda *_: None)
    monkeypatch.setattr(forecast, "has_point_in_time_recovery", has_recovery)
    monkeypatch.setattr(forecast, "consumers", lambda *_: consumers)
    planned = TablePlan(TABLE, "up", (Step(read(folder, HALF), None, None),), 0, ())
    versions = [VersionForecast(1, "change", ESTIMATE)]
    shown = obstacles_of(SimpleNamespace(stage=STAGE, state=NoRuns()), planned, None, versions)  # type: ignore[arg-type]
    assert not any(one.stops for one in shown)
    return [f"{one.kind}: {one.text.removeprefix('table things: ')}" for one in shown]


def test_consumers_of_the_writes_are_named_with_the_number_of_writes(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = Consumers(("index-items",), ("clicks",), "expires", ("dynamodb:DescribeGlobalTable",))
    assert found(tmp_path, monkeypatch, True, received) == [
        "stream: each of about 4 to 6 writes is a record of its stream",
        "replicas: each of about 4 to 6 writes is replicated to eu-west-1",
        "stream: its stream triggers index-items",
        "kinesis: each of about 4 to 6 writes is a record of the Kinesis stream clicks",
        "ttl: items expire by expires; one that expires during the run counts as vanished",
        f"consumers: {received.unknown}",
    ]


def test_recovery_that_is_off_or_unknown_is_an_obstacle(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "recovery: point-in-time recovery is off: it cannot be restored" in found(tmp_path, monkeypatch, False)
    denied = found(tmp_path, monkeypatch, ServiceError("access denied"))
    assert "recovery: whether point-in-time recovery is on cannot be read: access denied" in denied
