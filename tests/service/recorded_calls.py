"""The calls of commands, recorded where botocore makes them and where `dynamodb.wire` does, as the grants of
infra/template.yaml that they need; the IAM actions of each call are in the tables below."""

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

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.export.request import Export, ExportRequest, Exports, aws_exports
from dynamodt.export.stand_in import stand_in_exports
from dynamodt.model.tables import Stage, StorageSpec
from dynamodt.runs import exports as catching_up
from dynamodt.runs import exports as exporting
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.template_document import resource

Grant = tuple[str, str]  # an action, and its resources: "tables", "below the tables", "state", "objects" ...

STATEMENTS = {  # the statements of the policy, by their resources
    "NamedTables": "tables",
    "IndexesAndExports": "below the tables",
    "KeysOfTables": "keys of the tables",
    "StateTable": "state",
    "StorageObjects": "objects",
    "ListStorage": "names",
    "StorageKey": "key",
    "DescribeAlarms": "alarms",
    "WriteLogs": "logs",
    "LegacyGlobalTables": "global tables",
}
GLUES_OWN = {  # Glue writes the printed output
    (f"logs:{action}", "logs") for action in ("CreateLogGroup", "CreateLogStream", "DescribeLogStreams", "PutLogEvents")
}
OF_STREAMS = {("dynamodb:DescribeGlobalTable", "global tables")}  # asked for a table with a stream only
WITHOUT_TRANSACTIONS = {("dynamodb:PartiQLInsert", "tables")}  # an undo inserts into a table that takes no transactions
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

    def taken(self) -> set[Grant]:
        """The grants that were needed since the last time."""
        found, self.needed = set(self.needed), {}
        return found

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
