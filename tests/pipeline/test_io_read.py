"""The reading connectors in Beam's in-process runner, on a fake table and on exports that were made by hand."""

from __future__ import annotations

import datetime as dt
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam import coders
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner, fn_runner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.environments import EmbeddedPythonGrpcEnvironment
from apache_beam.utils.timestamp import Timestamp
from boto3.dynamodb.conditions import Attr

from dynamodt.dynamodb import table as table_calls
from dynamodt.errors import DynamodtError, ItemError, UsageError
from dynamodt.export.request import ExportFolder
from dynamodt.io import (
    ReadAllFromDynamoDB,
    ReadAllFromDynamoDBExport,
    ReadFromDynamoDB,
    ReadFromDynamoDBExport,
    ReadRequest,
)
from dynamodt.io import read as reading
from dynamodt.io.connector import METRICS, Budget, Endpoint
from dynamodt.io.rows import Schema
from dynamodt.model.tables import Connection, KeyAttribute, TableSpec
from tests import ROOT
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB, numbers
from tests.spoilt_exports import largest, rewrite
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.pipeline

TABLE = TableSpec("things", (KeyAttribute("id", "N"),), item_count=43, size_bytes=4300)
EXPORTS = ROOT / "tests" / "exports"


class Thing(NamedTuple):
    id: int
    note: str
    absent: Decimal | None


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> FakeDynamoDB:
    fake = FakeDynamoDB(TABLE)
    fake.put(*numbers(43))
    monkeypatch.setattr(Endpoint, "wire", lambda self, table: fake)
    monkeypatch.setattr(Endpoint, "describe", lambda self, table: TABLE)
    return fake


def run(
    transform: Any, *checks: Callable[[Any], None], of: list[Any] | None = None, splits: bool = False
) -> Counter[str]:
    """Runs a reader on this process; the metrics of its namespace. A bundle that `splits` has a thread of its own."""
    environment = EmbeddedPythonGrpcEnvironment.default() if splits else None
    with beam.Pipeline(runner=FnApiRunner(environment)) as pipeline:
        found = (pipeline if of is None else pipeline | beam.Create(of)) | "Read" >> transform
        for number, check in enumerate(checks):
            check(found[number] if isinstance(found, tuple) else found)
    counters = pipeline.result.metrics().query()["counters"]
    return Counter({c.key.metric.name: c.committed for c in counters if c.key.metric.namespace == METRICS})


def holds(*elements: Any) -> Callable[[Any], None]:
    return lambda found: assert_that(found, equal_to(list(elements)), label=f"{found.producer.full_label} {found.tag}")


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("segments", [None, 1, 7])
def test_each_item_is_read_and_counted_once(things: FakeDynamoDB, segments: int | None) -> None:
    counted = run(ReadFromDynamoDB("things", segments=segments), holds(*numbers(43)))
    assert counted["items_read"] == 43 and counted["pages_read"] == things.calls["Scan"] >= 9
    assert counted["read_units"] in (things.calls["Scan"] // 2, things.calls["Scan"] // 2 - 1)  # of half a unit


@pytest.mark.parametrize("runner_splits", [False, True])
def test_with_faults_and_checkpoints_each_item_is_read_once(
    things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch, runner_splits: bool
) -> None:
    monkeypatch.setattr("dynamodt.rate.Backoff.delay", lambda self, attempt, random: 0.0)
    things.read_faults.extend(["throttled", "", "reset", "throttled", "", "", "reset"])
    asked, parts = things._scan, Counter[str]()
    reached, go = threading.Event(), threading.Event()

    def scan(request: dict[str, Any]) -> dict[str, Any]:
        if "ExclusiveStartKey" in request:
            parts[str(request["ExclusiveStartKey"])] += 1
        if runner_splits and things.calls["Scan"] == 6:
            reached.set()
            assert go.wait(HANG_SECONDS)
        return asked(request)

    def manager(elements: int) -> Iterator[float | None]:
        if not go.is_set():
            yield
            assert reached.wait(HANG_SECONDS)
            yield 0.0
            go.set()

    monkeypatch.setattr(things, "_scan", scan)
    with fn_runner.split_manager("Read/Read pages" if runner_splits else "no stage", manager):
        counted = run(ReadFromDynamoDB("things", segments=1), holds(*numbers(43)), splits=runner_splits)
    assert counted["read_throttles"] == 2 and counted["items_read"] == 43
    assert go.is_set() == runner_splits
    assert not runner_splits or max(parts.values()) > 1  # the residual begins at the cursor of a page that was dropped


def test_images_and_rows(things: FakeDynamoDB) -> None:
    things.items = {text: image for text, image in things.items.items() if image["id"]["N"] == "3"}
    run(
        ReadFromDynamoDB("things", raw=True),
        holds({"id": {"N": "3"}, "n": {"N": "3"}, "note": {"S": "item 3"}}),
    )
    run(ReadFromDynamoDB("things", schema=Thing), holds(Thing(3, "item 3", None)))
    run(ReadFromDynamoDB("things", schema=[("id", int), ("n", float)]), holds(beam.Row(id=3, n=3.0)))


def test_an_item_that_is_not_of_the_schema_is_named(things: FakeDynamoDB) -> None:
    things.put({"id": 99, "note": 5})
    with pytest.raises(ItemError, match=r"table things, item \{'id': Decimal\('99'\)\}, attribute note.*correct the"):
        run(ReadFromDynamoDB("things", schema=Thing))


@pytest.mark.parametrize(
    ("kind", "kept", "refused"),
    [
        (int, [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
        (np.int64, [-(2**63), 2**63 - 1], [2**63]),
        (np.int32, [-(2**31), 2**31 - 1], [-(2**31) - 1, 2**31]),
        (np.int16, [-(2**15), 2**15 - 1], [2**15]),
        (np.int8, [0, 127], [-1, 128]),
        (np.float32, [0, 1.5, 2.0**127], [Decimal("1e39"), Decimal("-1e39")]),
        (float, [1.5, Decimal("1e125")], []),
        (
            Decimal,
            [Decimal(28 * "7"), Decimal("1e125"), Decimal("1e-130")],
            [Decimal(29 * "7"), Decimal(f"0.{38 * '7'}")],
        ),
        (Any, [Decimal(38 * "7")], []),
        (dt.datetime, [], ["2026-01-31"]),
        (Timestamp, [], ["2026-01-31"]),
    ],
)
def test_a_row_has_only_values_that_its_coder_keeps(kind: Any, kept: list[Any], refused: list[Any]) -> None:
    """Beam's coder wraps, rounds or makes infinite what does not fit, or fails without a key."""
    schema = Schema([("x", kind | None), ("xs", list[kind] | None)])
    read, coder = schema.reader(), coders.registry.get_coder(schema.element_type)
    for value in kept:
        number = value if isinstance(value, Decimal) else Decimal(value)
        row = coder.decode(coder.encode(read({"x": number, "xs": [number]})))
        assert (row.x, list(row.xs)) == (number, [number]) or (kind is float and row.x == float(number))
    for value in refused:
        wrong = value if isinstance(value, str | Decimal) else Decimal(value)
        for item in ({"x": wrong, "xs": []}, {"xs": [wrong]}):
            with pytest.raises(
                ItemError, match=r"^xs?: (has a number that the field cannot hold|is a (str|list) which)"
            ):
                read(item)


def test_the_members_of_a_field_may_be_optional(things: FakeDynamoDB) -> None:
    things.put({"id": 99, "ns": [None, 1], "m": {"a": None, "b": 2}})
    schema = [("id", int), ("ns", list[int | None] | None), ("m", Mapping[str, int | None] | None)]
    read = ReadFromDynamoDB("things", schema=schema, filter=Attr("id").eq(99))
    run(read, lambda rows: assert_that(rows | beam.Filter(lambda row: row.ns), of_optional_members))
    with pytest.raises(ItemError, match="attribute ns: is a list"):
        run(ReadFromDynamoDB("things", schema=[("id", int), ("ns", list[int] | None)]))


def of_optional_members(rows: list[Any]) -> None:
    (row,) = rows
    assert (list(row.ns), dict(row.m)) == ([None, 1], {"a": None, "b": 2})


def test_tables_come_from_a_collection(things: FakeDynamoDB) -> None:
    asked = [ReadRequest("things", segments=2), beam.Row(table="things", projection=["id"]), "things"]
    read = {"table": "things", "segments": Decimal(3)}  # as ReadFromDynamoDB gives it
    assert run(ReadAllFromDynamoDB(), of=[*asked, read])["items_read"] == 4 * 43


def test_a_request_has_the_given_options(things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, asked = list[dict[str, Any]](), things._scan
    monkeypatch.setattr(things, "_scan", lambda request: (requests.append(request), asked(request))[1])
    reader = ReadFromDynamoDB("things", segments=1, projection=["id", "a.b"], filter=Attr("age").gt(3), consistent=True)
    run(reader)
    (body, *_) = requests
    assert body["ProjectionExpression"] == "#0, #1.#2" and body["FilterExpression"] == "#n0 > :v0"
    assert body["ExpressionAttributeNames"] == {"#0": "id", "#1": "a", "#2": "b", "#n0": "age"}
    assert body["ExpressionAttributeValues"] == {":v0": {"N": "3"}} and body["ConsistentRead"]
    assert reader.display_data()["filter"] == "#n0 > :v0"


@pytest.mark.parametrize(
    "wrong",
    [
        {"table": "no table!"},
        {"segments": 0},
        {"segments": True},
        {"index": ""},
        {"consistent": "yes"},
        {"max_rcu": True},
        {"projection": "id"},
        {"filter": 3},
        {"filter": "age > :a", "filter_values": {"a": 3}},
        {"filter_values": {":a": 3}},
        {"raw": True, "schema": Thing},
        {"schema": dict},
        {"endpoint_url": "localhost:8000"},
        {"region": ""},
    ],
)
def test_wrong_arguments_are_refused_at_construction(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        ReadFromDynamoDB(**{"table": "things", **wrong})
    assert caught.value.hint


def test_a_reader_of_one_table_begins_a_pipeline() -> None:
    given = beam.Pipeline(runner=FnApiRunner()) | beam.Create(["things"])
    for reader, other in (
        (ReadFromDynamoDB("things"), "ReadAllFromDynamoDB"),
        (ReadFromDynamoDBExport("s3://b/x"), "ReadAllFromDynamoDBExport"),
    ):
        with pytest.raises(UsageError, match=f"applied to a PCollection; apply it to the pipeline; {other} reads"):
            given | reader


def test_a_missing_index_is_refused_on_the_worker_with_the_existing_ones(
    things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {"GlobalSecondaryIndexes": [{"IndexName": "by_note"}]}
    monkeypatch.setattr(table_calls, "description", lambda connection, name: described)
    monkeypatch.setattr(Endpoint, "connection", lambda self, table="": Connection("eu-west-1"))
    with pytest.raises(DynamodtError, match="table things: there is no index 'by_age'; its indexes are by_note"):
        run(ReadFromDynamoDB("things", index="by_age"))
    unknown = {"table": "things", "filter": "n > :n"}
    for wrong, why in (
        (7, "an element of type int names no table"),
        (unknown, "an element has the unknown field 'filter'"),
        (ReadRequest("things", ""), "index is ''"),
    ):
        with pytest.raises(DynamodtError, match=why):
            run(ReadAllFromDynamoDB(), of=[wrong])


# ---------------------------------------------------------------- exports

FULL = "AWSDynamoDB/01604474854028-a1b2c3d4"
INCREMENTAL = "AWSDynamoDB/01695097218000-d6299cbd"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> FakeObjects:
    objects = FakeObjects.of_folder(EXPORTS / "full")
    objects.content |= FakeObjects.of_folder(EXPORTS / "incremental").content
    monkeypatch.setattr(Endpoint, "objects", lambda self, bucket, region="", owner="": objects)
    return objects


def ids(found: Any) -> Any:
    return found | beam.Map(lambda item: str(item["Id"]))


@pytest.mark.parametrize("url", [f"s3://bucket/{FULL}", f"s3://bucket/{FULL}/manifest-summary.json"])
def test_a_full_export_is_verified_and_read(bucket: FakeObjects, url: str) -> None:
    counted = run(ReadFromDynamoDBExport(url), lambda found: holds("103", "-1.5E-130", "7")(ids(found)), holds())
    assert counted["items_read"] == 3 and counted["unreadable_lines"] == 0


def test_an_unreadable_line_is_a_second_output_without_its_text(bucket: FakeObjects) -> None:
    folder = ExportFolder(FULL)
    key = largest(bucket, folder)  # type: ignore[arg-type]
    rewrite(bucket, folder, key, lambda lines: [b"{secret", *lines])  # type: ignore[arg-type]

    def places(found: Any) -> Any:
        return holds((f"s3://bucket/{key}", 1, True))(
            found | beam.Map(lambda bad: (bad.file, bad.line, "secret" not in bad.why))
        )

    counted = run(ReadFromDynamoDBExport(f"s3://bucket/{FULL}"), lambda found: None, places)
    assert counted["unreadable_lines"] == 1


def test_a_damaged_file_fails_the_pipeline(bucket: FakeObjects) -> None:
    key = largest(bucket, ExportFolder(FULL))  # type: ignore[arg-type]
    bucket.content[key] = bucket.content[key][:-9]
    with pytest.raises(DynamodtError, match=r"was replaced.*restore the file"):
        run(ReadFromDynamoDBExport(f"s3://bucket/{FULL}"))


def test_an_incremental_export_has_new_images_or_changes(bucket: FakeObjects) -> None:
    url = f"s3://bucket/{INCREMENTAL}"
    new = run(ReadAllFromDynamoDBExport(), of=[url])["items_read"]

    def kinds(found: Any) -> None:
        return holds(*KINDS)(found | beam.Map(lambda change: (change.new is not None, change.old is not None)))

    changes = run(ReadFromDynamoDBExport(url, view="new_and_old"), kinds)["items_read"]
    assert (new, changes) == (sum(kind[0] for kind in KINDS), len(KINDS))


KINDS = [(True, False), (True, True), (False, True)]


def test_a_view_that_the_export_does_not_have_is_refused(bucket: FakeObjects) -> None:
    with pytest.raises(DynamodtError, match=r"is a full export, which has no old images; read it with view"):
        run(ReadFromDynamoDBExport(f"s3://bucket/{FULL}", view="new_and_old"))
    for wrong in ({"export": "bucket/x"}, {"export": "arn:aws:s3:::x"}, {"view": "old"}):
        with pytest.raises(UsageError):
            ReadFromDynamoDBExport(**{"export": "s3://bucket/x", **wrong})  # type: ignore[arg-type]


def test_the_lines_of_a_split_file_are_read_once(bucket: FakeObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, number, decode = ExportFolder(FULL), 2500, reading.decode
    lines = [b'{"Item":{"Id":{"N":"%d"}}}' % one for one in range(1000, 1000 + number)]
    rewrite(bucket, folder, largest(bucket, folder), lambda before: [*before, *lines])  # type: ignore[arg-type]
    reached, go, splits = threading.Event(), threading.Event(), list[Any]()

    def slow(image: Any) -> Any:
        if image["Id"]["N"] == "1900":
            reached.set()
            assert go.wait(HANG_SECONDS)
        return decode(image)

    def manager(elements: int) -> Iterator[float | None]:
        if not go.is_set():
            yield
            assert reached.wait(HANG_SECONDS)
            splits.append((yield 0.1))
            go.set()

    monkeypatch.setattr(reading, "decode", slow)
    all_ids = ["103", "-1.5E-130", "7", *map(str, range(1000, 1000 + number))]
    with fn_runner.split_manager("Read/Read lines/ParDo(_ReadFiles)", manager):
        run(
            ReadFromDynamoDBExport(f"s3://bucket/{FULL}"),
            lambda found: holds(*all_ids)(ids(found)),
            holds(),
            splits=True,
        )
    assert splits and splits[0].residual_roots


# ---------------------------------------------------------------- budgets


def test_a_budget_is_divided_among_processes_and_shared_by_threads() -> None:
    direct = beam.Pipeline(runner=FnApiRunner())
    whole = Budget.of("max_rcu", 100.0, None, "here").on(direct, "here")
    assert whole.processes == 1 and whole.queue() is pickle.loads(pickle.dumps(whole)).queue()
    assert whole.queue() is not Budget.of("max_rcu", 100.0, None, "here").on(direct, "here").queue()
    options = PipelineOptions(["--direct_running_mode=multi_processing", "--direct_num_workers=4"])
    part = Budget.of("max_rcu", 100.0, None, "here").on(beam.Pipeline(FnApiRunner(), options), "here")
    assert part.queue().within(0.25, 1.0) == 6.25 and not Budget().queue().limited


def test_a_budget_on_another_runner_needs_the_number_of_its_processes() -> None:
    elsewhere = beam.Pipeline(runner=PortableRunner())
    with pytest.raises(UsageError, match="a budget on PortableRunner needs the number of worker processes"):
        elsewhere | ReadFromDynamoDB("things", max_rcu=5)
    assert elsewhere | "Given" >> ReadFromDynamoDB("things", max_rcu=5, processes=3)
    for wrong in ({"max_rcu": 0}, {"max_rcu": 5, "processes": 0}):
        with pytest.raises(UsageError):
            ReadFromDynamoDB("things", **wrong)  # type: ignore[arg-type]


def test_a_limited_read_asks_for_pages_that_fit_its_budget(
    things: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, asked = set[int](), things._scan
    monkeypatch.setattr(things, "_scan", lambda request: (limits.add(request["Limit"]), asked(request))[1])
    run(ReadFromDynamoDB("things", max_rcu=1000, segments=2), holds(*numbers(43)))
    assert limits and max(limits) <= 1000
