"""Exports on S3 (ministack's) of tables of both emulators: what the stand-in writes there is read back."""

from __future__ import annotations

import base64
import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.table import describe
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import RunFailed, ServiceError, UsageError
from dynamodt.export.datafiles import DataReader, data_files, read_manifest
from dynamodt.export.objects import PIECE, S3Objects
from dynamodt.export.request import COMPLETED, Export, ExportRequest, aws_exports, find, folder_of, poll_until_completed
from dynamodt.export.stand_in import StandInExports, stand_in_exports
from dynamodt.model.tables import Image, StorageSpec, TableSpec
from tests import ROOT
from tests.emulators import Endpoint
from tests.service.conftest import MakeTable

ODD: list[Image] = [
    {"id": {"N": "1"}, "B": {"B": "AAECAw=="}, "none": {"NULL": True}, "no": {"BOOL": False}, "": {"S": ""}},
    {"id": {"N": "2"}, "SS": {"SS": ["a", "é"]}, "NS": {"NS": ["1", "-2.5"]}, "BS": {"BS": ["AA==", "/w=="]}},
    {"id": {"N": "3"}, "nested": {"M": {"a.b": {"L": [{"N": "0.12345678901234567890123456789012345678"}, {"M": {}}]}}}},
]
del ODD[0][""]


@pytest.fixture
def bucket(ministack: Endpoint) -> str:
    name = f"exports-{uuid4().hex[:12]}"
    client(ministack.connection, "s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def objects(ministack: Endpoint, bucket: str) -> S3Objects:
    return S3Objects(client(ministack.connection, "s3"), bucket)


def put(endpoint: Endpoint, table: str, image: Image) -> None:
    Wire(endpoint.connection, 1).call("PutItem", {"TableName": table, "Item": image})


def records(objects: S3Objects, table: TableSpec, export: Export) -> list[Any]:
    manifest = read_manifest(objects, find(objects, "p"), export.table_arn)
    reader = DataReader(objects, table, size=2)
    read: Callable[..., Any] = reader.items if export.kind == "full" else reader.changes
    files = data_files(objects, manifest)
    return [record for file in files for chunk in read(file) for record in chunk.records]


def by_id(images: list[Image]) -> dict[str, dict[str, Any]]:
    """Sets in order, for emulators keep none."""
    sort = {"SS", "NS", "BS"}
    return {
        image["id"]["N"]: {n: {k: sorted(v) if k in sort else v for k, v in a.items()} for n, a in image.items()}
        for image in images
    }


def test_a_table_is_exported_and_read_back(
    endpoint: Endpoint, objects: S3Objects, bucket: str, make_table: MakeTable
) -> None:
    table = describe(endpoint.connection, make_table(id="N"))
    wire = Wire(endpoint.connection, 1)
    exports = StandInExports(endpoint.client, wire, objects, bucket, "p")
    for image in ODD:
        put(endpoint, table.name, image)
    full = exports.request(ExportRequest(table, "one"))
    assert list(poll_until_completed(exports, full.arn, lambda seconds: None)) == [full]
    assert (full.status, full.items, full.table) == (COMPLETED, 3, table.name)
    assert by_id(records(objects, table, full)) == by_id(ODD)

    put(endpoint, table.name, {"id": {"N": "4"}})
    put(endpoint, table.name, {"id": {"N": "1"}, "a": {"S": "new"}})
    wire.call("DeleteItem", {"TableName": table.name, "Key": {"id": {"N": "2"}}})
    changed = exports.request(ExportRequest(table, "two", since=full.at))
    with pytest.raises(UsageError, match="holds 2 exports"):
        find(objects, "p")
    manifest = read_manifest(objects, folder_of(changed), changed.table_arn)
    reader = DataReader(objects, table)
    found = {
        change.key["id"]["N"]: change
        for file in data_files(objects, manifest)
        for chunk in reader.changes(file)
        for change in chunk.records
    }
    assert set(found) == {"1", "2", "4"}
    assert found["4"].old is None and found["4"].new == {"id": {"N": "4"}}
    assert found["1"].old == ODD[0] and found["1"].new == {"id": {"N": "1"}, "a": {"S": "new"}}
    assert found["2"].new is None and by_id([found["2"].old or {}]) == by_id(ODD[1:2])

    put(endpoint, table.name, {"id": {"N": "5"}})
    last = exports.request(ExportRequest(table, "three", since=changed.until))
    assert last.since == changed.until and last.items == 1  # without the changes of the last window


def test_the_api_of_an_emulator_records_an_export_and_writes_nothing(
    ministack: Endpoint, objects: S3Objects, bucket: str
) -> None:
    name = f"test_{uuid4().hex[:12]}"
    ministack.client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    storage = StorageSpec(f"s3://{bucket}/p")
    exports = aws_exports(ministack.connection, storage)
    request = ExportRequest(describe(ministack.connection, name), "token")
    export = exports.request(request)
    assert exports.request(request).arn == export.arn
    *_, ended = poll_until_completed(exports, export.arn, lambda seconds: None, every=0)
    assert ended.status == COMPLETED and ended.table == name
    with pytest.raises(UsageError, match="there is no export"):
        find(objects, "p")
    stood_in = stand_in_exports(ministack.connection, storage)  # which is why there is one
    assert stood_in.request(request).items == 0 and find(objects, "p")
    with pytest.raises(UsageError, match="no such export"):
        exports.describe(stood_in.request(request).arn)


# ---------------------------------------------------------------- the bucket


def test_a_large_object_comes_in_pieces(objects: S3Objects) -> None:
    data = bytes(range(256)) * (PIECE // 256) + b"rest"
    etag = objects.write("large", data)
    head = objects.head("large")
    assert head is not None and head == (len(data), etag, True) and etag == hashlib.md5(data).hexdigest()
    pieces = list(objects.pieces("large", head))
    assert [len(piece) for piece in pieces] == [PIECE, 4] and b"".join(pieces) == data
    objects.write("empty", b"")
    empty = objects.head("empty")
    assert empty is not None and list(objects.pieces("empty", empty)) == []
    assert objects.head("absent") is None and objects.read("absent") is None


def test_an_object_that_changes_while_it_is_read(objects: S3Objects, ministack: Endpoint, bucket: str) -> None:
    objects.write("a", bytes(2 * PIECE))
    head = objects.head("a")
    assert head is not None
    pieces = objects.pieces("a", head)
    next(pieces)
    objects.write("a", bytes(2 * PIECE - 1))
    with pytest.raises(RunFailed, match="was replaced while it was read") as caught:
        next(pieces)
    assert caught.value.where == f"s3://{bucket}/a"
    client(ministack.connection, "s3").delete_object(Bucket=bucket, Key="a")
    with pytest.raises(RunFailed, match="was deleted while it was read"):
        next(objects.pieces("a", head))


def test_a_bucket_that_is_not_there(ministack: Endpoint) -> None:
    nowhere = S3Objects(client(ministack.connection, "s3"), "no-such-bucket-here")
    with pytest.raises(ServiceError, match="bucket does not exist") as caught:
        find(nowhere, "p")
    assert caught.value.where.startswith("s3://no-such-bucket-here/p")


# ---------------------------------------------------------------- memory

_READER = """
import resource, sys
from dynamodt.dynamodb.clients import client
from dynamodt.export.datafiles import DataReader
from dynamodt.export.request import find
from dynamodt.export.datafiles import data_files, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.model.tables import Connection, KeyAttribute, TableSpec

connection = Connection("us-east-1", sys.argv[1], access_key="local", secret_key="local")
objects = S3Objects(client(connection, "s3"), sys.argv[2])
files = data_files(objects, read_manifest(objects, find(objects, ""), sys.argv[3]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reader = DataReader(objects, TableSpec("t", (KeyAttribute("id", "S"),)))
items = sum(len(chunk.records) for file in files for chunk in reader.items(file))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(items, before, after)
"""


def test_reading_a_large_export_takes_little_memory(ministack: Endpoint, objects: S3Objects, bucket: str) -> None:
    """A file of 200,000 items, about 90 MB of lines: none of it is held beyond a piece and a chunk."""
    arn = "arn:aws:dynamodb:us-east-1:0:table/t"
    folder = "AWSDynamoDB/01700000000000-00000000"
    texts = [hashlib.sha256(b"%d" % n).hexdigest() * 5 for n in range(1000)]
    items = ({"Item": {"id": {"S": f"{n:08d}"}, "text": {"S": texts[n % 1000] + str(n)}}} for n in range(200_000))
    data = gzip.compress(b"".join(orjson.dumps(item) + b"\n" for item in items), 1)
    entry = {"itemCount": 200_000, "md5Checksum": md5(data), "etag": objects.write(f"{folder}/data/a.json.gz", data)}
    files = orjson.dumps({**entry, "dataFileS3Key": f"{folder}/data/a.json.gz"}) + b"\n"
    summary = {"exportArn": f"{arn}/export/{folder[-23:]}", "tableArn": arn, "itemCount": 200_000}
    summary |= {"manifestFilesS3Key": f"{folder}/manifest-files.json", "outputFormat": "DYNAMODB_JSON"}
    for name, content in (("files", files), ("summary", orjson.dumps(summary))):
        objects.write(f"{folder}/manifest-{name}.json", content)
        objects.write(f"{folder}/manifest-{name}.md5", md5(content).encode())
    pipelines = ROOT / "pipelines"
    done = subprocess.run(  # by a shell: a process that we start ourselves begins with our own peak
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", _READER, ministack.url, bucket, arn],
        env={"PYTHONPATH": str(pipelines), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    items_read, before, after = map(int, done.stdout.split())
    print(f"{items_read:,} items, {len(data):,} bytes compressed: {before:,} KB before, {after:,} KB at most")
    assert items_read == 200_000 and after - before < 64_000


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()
