"""The role of the jobs is minimal: the API calls of all kinds of runs are compared with the grants of
infra/template.yaml.

The calls are recorded where botocore makes them and where `dynamodb.wire` does; the IAM actions of each are in the
tables below.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count
from typing import Any
from uuid import uuid4

import botocore.client
import pytest
from botocore.exceptions import ClientError

from dynamodt import api as operations
from dynamodt.doctor.doctor import read_only
from dynamodt.doctor.suite import CheckResult
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.export.request import Export, ExportRequest, Exports, aws_exports
from dynamodt.export.stand_in import stand_in_exports
from dynamodt.model.tables import Item, Stage, StorageSpec
from dynamodt.runs import exports as catching_up
from dynamodt.runs import exports as exporting
from dynamodt.runs.options import RunOptions
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import INDEX, MakeTable
from tests.template_document import resource

pytestmark = pytest.mark.endpoints("ministack")

Grant = tuple[str, str]  # an action, and its resources: "tables", "below the tables", "state", "objects" ...

STATEMENTS = {  # the statements of the policy, by their resources
    "TheNamedTables": "tables",
    "TheirIndexesAndExports": "below the tables",
    "WhatTheyAreEncryptedWith": "keys of the tables",
    "TheStateTable": "state",
    "ObjectsBelowThePrefix": "objects",
    "TheirNames": "names",
    "TheKey": "key",
    "AlarmsThatLetItRest": "alarms",
    "ItsOwnLogs": "logs",
    "LegacyGlobalTables": "global tables",
}
GLUES_OWN = {  # Glue writes the printed output
    (f"logs:{action}", "logs") for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
}
OF_STREAMS = {("dynamodb:DescribeGlobalTable", "global tables")}  # asked for a table with a stream only
DYNAMODBS_OWN = {  # DynamoDB calls KMS with the rights of the caller who reads or writes a table with its own key
    (f"kms:{action}", "keys of the tables")
    for action in ("Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey*", "ReEncrypt*")
}
OF_STATEMENTS = {
    "UPDATE": "PartiQLUpdate",
    "INSERT": "PartiQLInsert",
    "DELETE": "PartiQLDelete",
    "SELECT": "PartiQLSelect",
}
OF_TRANSACTIONS = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}
WRITTEN = {("s3:PutObject", "objects"), ("kms:GenerateDataKey", "key")}
READ = {("s3:GetObject", "objects"), ("kms:Decrypt", "key")}
IN_PARTS = WRITTEN | {("kms:Decrypt", "key")}  # the parts are read to be put together
OF_S3: dict[str, set[Grant]] = {
    "PutObject": WRITTEN,
    "GetObject": READ,
    "HeadObject": READ,
    "ListObjectsV2": {("s3:ListBucket", "names")},
    "CreateMultipartUpload": IN_PARTS,
    "UploadPart": IN_PARTS,
    "CompleteMultipartUpload": IN_PARTS,
    "AbortMultipartUpload": {("s3:AbortMultipartUpload", "objects")},
    "HeadBucket": {("s3:ListBucket", "the bucket")},  # not granted: the request has no prefix
}
# DynamoDB writes an export with the rights of its requester: "Requesting a table export", DynamoDB's guide
EXPORTED = WRITTEN | {
    ("dynamodb:ExportTableToPointInTime", "tables"),
    ("s3:PutObjectAcl", "objects"),
    ("s3:AbortMultipartUpload", "objects"),
    ("kms:Decrypt", "key"),
}


@dataclass
class Recording:
    """The grants that the calls so far need, each with one call that needs it."""

    state_table: str
    needed: dict[Grant, str] = field(default_factory=dict)
    scheduler: bool = False
    enforced: bool = False

    def add(self, service: str, operation: str, body: Mapping[str, Any]) -> None:
        grants = set() if self.scheduler else self._grants(service, operation, body)
        if self.enforced and not grants <= granted():
            raise _denied(service, operation)
        self.needed.update(dict.fromkeys(grants, f"{service}:{operation}"))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A context without recording, for calls of an emulator's stand-in that AWS makes itself."""
        self.scheduler = True
        try:
            yield
        finally:
            self.scheduler = False

    @contextmanager
    def enforcing(self) -> Iterator[None]:
        """A context in which calls without a grant are refused."""
        self.enforced = True
        try:
            yield
        finally:
            self.enforced = False

    def _grants(self, service: str, operation: str, body: Mapping[str, Any]) -> set[Grant]:
        if service == "s3":
            return OF_S3[operation]
        if service == "cloudwatch":
            return {(f"cloudwatch:{operation}", "alarms")}
        if service == "sts":  # GetCallerIdentity needs no permission
            return set()
        if service in ("glue", "kms"):
            return {(f"{service}:{operation}", "")}
        assert service == "dynamodb", service
        if operation == "ExportTableToPointInTime":
            return EXPORTED
        if operation == "DescribeExport":
            return {("dynamodb:DescribeExport", "below the tables")}
        kind = "below the tables" if "IndexName" in body else ""
        return {(f"dynamodb:{action}", kind or self._kind(table)) for action, table in _actions(operation, body)}

    def _kind(self, table: str) -> str:
        return "state" if table == self.state_table else "tables"


def _denied(service: str, operation: str) -> ClientError:
    code = "403" if operation.startswith("Head") else "AccessDenied" + "Exception" * (service != "s3")
    headers = {"date": format_datetime(datetime.now(UTC), usegmt=True)}
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": headers}}
    return ClientError(answer, operation)


def _actions(operation: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The actions of a call of DynamoDB, each with its table ("" for one of the tables that are transformed)."""
    if operation == "BatchExecuteStatement":
        for statement in body["Statements"]:
            yield OF_STATEMENTS[statement["Statement"].split()[0]], ""
    elif operation == "TransactWriteItems":
        for item in body["TransactItems"]:
            for kind, action in item.items():
                yield OF_TRANSACTIONS[kind], action["TableName"]
    elif operation == "BatchGetItem":
        for table in body["RequestItems"]:
            yield operation, table
    else:
        yield operation, body.get("TableName", "*")


class ExportsOfBoth:
    """Exports that are requested from DynamoDB, and written by the stand-in, since the emulator only records them."""

    def __init__(self, stage: Stage, recording: Recording) -> None:
        self._real = aws_exports(stage.connection, stage.storage)
        seconds = count(int(time.time()))  # whole ones, as exports of DynamoDB are asked for
        self._stand_in = stand_in_exports(stage.connection, stage.storage, lambda: float(next(seconds)))
        self._recording = recording

    def request(self, wanted: ExportRequest) -> Export:
        long = wanted if wanted.since is None else replace(wanted, since=wanted.since - timedelta(minutes=20))
        self._real.describe(self._real.request(long).arn)  # a window of seconds is too short for DynamoDB
        with self._recording.paused():
            return self._stand_in.request(replace(wanted, at=None, until=None))  # an emulator has no past

    def describe(self, arn: str) -> Export:
        with self._recording.paused():
            return self._stand_in.describe(arn)


@pytest.fixture
def recording(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Recording:
    found = Recording(bench.stage.state_table)
    by_botocore, by_wire = botocore.client.BaseClient._make_api_call, Wire.begin

    def make_api_call(self: Any, operation: str, body: dict[str, Any]) -> Any:
        found.add(self.meta.service_model.service_name, operation, body)
        return by_botocore(self, operation, body)

    def begin(self: Wire, operation: str, body: dict[str, Any] | bytes) -> Callable[[], dict[str, Any]]:
        found.add("dynamodb", operation, json.loads(body) if isinstance(body, bytes) else body)
        return by_wire(self, operation, body)

    def exports(connection: Any, storage: StorageSpec) -> Exports:
        return ExportsOfBoth(bench.stage, found)

    monkeypatch.setattr(exporting, "aws_exports", exports)
    monkeypatch.setattr(catching_up, "pause", lambda *_: None)
    monkeypatch.setattr(catching_up, "SHORTEST", timedelta(0))
    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", make_api_call)
    monkeypatch.setattr(Wire, "begin", begin)
    return found


@pytest.fixture
def bench(bench: Bench, endpoint: Endpoint) -> Bench:
    """The bench as a job in AWS has it: files in a bucket, a governed run, nothing that is made when it is missing."""
    bucket = f"files-{uuid4().hex[:12]}"
    client(endpoint.connection, "s3").create_bucket(Bucket=bucket)
    storage = StorageSpec(f"s3://{bucket}/below")
    return replace(bench, stage=replace(bench.stage, local=False, protected=True, storage=storage))


def granted() -> set[Grant]:
    """What the template grants to the jobs."""
    policies = resource("JobRole")["Policies"]
    statements = [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]
    return {(action, STATEMENTS[one["Sid"]]) for one in statements for action in _listed(one["Action"])}


def _listed(actions: str | list[str]) -> list[str]:
    return [actions] if isinstance(actions, str) else actions


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
    assert given - needed == GLUES_OWN | DYNAMODBS_OWN | OF_STREAMS


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
