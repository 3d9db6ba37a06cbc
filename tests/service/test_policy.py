"""The role of the jobs is minimal: the API calls of all kinds of runs are compared with the grants of
infra/template.yaml."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from dynamodt import api as operations
from dynamodt.doctor.doctor import read_only
from dynamodt.doctor.suite import CheckResult
from dynamodt.dynamodb.clients import client
from dynamodt.model.tables import Item, Stage
from dynamodt.runs.options import RunOptions
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import INDEX, MakeTable
from tests.service.recorded_calls import (
    DYNAMODBS_OWN,
    GLUES_OWN,
    OF_STREAMS,
    WITHOUT_TRANSACTIONS,
    Recording,
    bench,
    granted,
    recording,
)

__all__ = ["bench", "recording"]  # fixtures

pytestmark = pytest.mark.endpoints("ministack")


# ---------------------------------------------------------------- all that a run may be


WIDE = {f"a{number:03}".ljust(40, "x"): str(number) for number in range(400)}  # too wide for a statement
FIRST = f"""
import os
from dynamodt import Delete, Put

IDEMPOTENT = True
WIDE = {WIDE!r}


def items():
    yield {{"id": "added"}}
    yield {{"id": "added and wide", **WIDE}}


def prepare(context):
    yield "x", sum(1 for _ in context.items()) and sum(1 for _ in context.items(index="index")) + 1
    yield "large", os.urandom(5_000_000).hex()  # so that it goes in parts


def transform_up(item, prepared):
    kind = item.get("kind")
    if kind == "delete":
        return Delete()
    if kind == "move":
        return {{"id": "moved", "kind": "moved"}}
    if kind == "fan out":
        return [{{**item, "kind": "fanned out"}}, Put({{"id": "fanned"}})]
    if kind == "beside":
        return [item, Put({{"id": "beside it"}})]
    if kind == "dead":
        return {{**item, "x": item["missing"]}}
    return {{**item, "x": prepared["x"]}}
"""
SECOND = """
from dynamodt import Delete


def transform_up(item):
    return Delete() if item.get("kind") == "obsolete" else {**item, "y": 1}


def transform_down(item):
    return {key: value for key, value in item.items() if key != "y"}
"""
ITEMS: list[Item] = [
    {"id": "plain"},
    {"id": "wide", **WIDE},
    *({"id": kind, "kind": kind} for kind in ("delete", "move", "fan out", "beside", "dead")),
    {"id": "wide and deleted", "kind": "delete", **WIDE},
]


def _all_that_a_run_may_be(bench: Bench, recording: Recording, table: str, alarm: str) -> None:
    with recording.paused():
        bench.tables.put(table, *ITEMS)
    bench.script(table, FIRST)
    bench.prepare(table)
    (failed,) = bench.up(table, alarms=(alarm,))
    run = failed.versions[0].run
    assert failed.error is not None and failed.versions[0].counts.dead == 1, failed.error
    with recording.paused():
        bench.tables.put(table, {"id": "dead"})
    (retried,) = operations.retry(bench.stage, bench.folder, [table], run, RunOptions(), bench.recorder)
    assert retried.error is None, retried.error
    with recording.paused():
        found = {item["id"] for item in bench.tables.items(table)}
    assert found >= {"moved", "fanned", "added", "added and wide"}
    bench.script(table, SECOND, 2)
    for direction in (bench.up, bench.down):
        (moved,) = direction(table)
        assert moved.error is None and moved.versions[0].counts.changed > 4, moved.error
    with recording.paused():
        bench.tables.put(table, {"id": "obsolete", "kind": "obsolete"})
    (exported,) = bench.up(table, source="export")
    assert exported.error is None, exported.error
    undone = operations.undo(
        bench.stage, bench.folder, [table], exported.versions[-1].run, RunOptions(), bench.recorder
    )
    assert undone.error is None and undone.run.counts.changed > 4, undone.error


def test_the_role_grants_exactly_the_calls_of_all_runs(
    bench: Bench, endpoint: Endpoint, recording: Recording, make_table: MakeTable
) -> None:
    alarm = f"alarm-{uuid4().hex[:8]}"
    with recording.paused():  # the application's calls
        table = make_table(id="S")
        endpoint.client.update_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "g", "AttributeType": "S"}],
            GlobalSecondaryIndexUpdates=[{"Create": INDEX}],
        )
        endpoint.client.update_continuous_backups(
            TableName=table, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        client(endpoint.connection, "cloudwatch").put_metric_alarm(
            AlarmName=alarm,
            MetricName="errors",
            Namespace="shop",
            Period=60,
            EvaluationPeriods=1,
            ComparisonOperator="GreaterThanThreshold",
            Threshold=1,
            Statistic="Sum",
        )
    _all_that_a_run_may_be(bench, recording, table, alarm)
    needed, given = set(recording.needed), granted()
    assert needed <= given, {one: recording.needed[one] for one in needed - given}
    assert given - needed == GLUES_OWN | DYNAMODBS_OWN | OF_STREAMS | WITHOUT_TRANSACTIONS


def test_the_checks_of_doctor_in_a_job_need_no_more_than_its_role(
    bench: Bench, recording: Recording, make_table: MakeTable
) -> None:
    with recording.paused():
        table = make_table(id="S")
    storage = replace(bench.stage.storage, kms_key="alias/of-the-stage")
    elsewhere = replace(storage, url=storage.url.replace("files-", "other-"))
    with recording.enforcing():
        found = _findings(replace(bench.stage, protected=False, storage=storage), table)
        missing = _findings(replace(bench.stage, storage=elsewhere), table)
    assert not [one for one in found.values() if one.status == "wrong"]
    for name in ("clock", "state table", "storage", f"table {table}"):
        assert found[name].status == "ok", found[name]
    assert missing["storage"].status == "wrong"


def _findings(stage: Stage, table: str) -> dict[str, CheckResult]:
    return {one.name: one for one in read_only(stage, [table])}
