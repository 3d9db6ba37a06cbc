"""The connectors on the emulators, and on the runners that have processes of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.prism_runner import PrismRunner
from apache_beam.testing.util import assert_that, equal_to
from boto3.dynamodb.conditions import Attr

from dynamodt.errors import DynamodtError
from dynamodt.io import ReadFromDynamoDB, WriteOutcome, WriteToDynamoDB
from dynamodt.io.connector import METRICS
from dynamodt.pipeline.engine import engine
from tests.emulators import Endpoint
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

PRISM = shutil.which("prism")
ITEMS: list[dict[str, Any]] = [
    {"id": number, "age": number % 90, "tags": {"a", "b"}, "place": {"city": f"c{number}"}, "b": b"\x00"}
    for number in range(300)
]


class Person(NamedTuple):
    id: int
    age: int


@pytest.fixture
def place(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """The location of the tables. The credentials are in a file, which all Spark executors find."""
    file, keys = Path(os.environ["AWS_SHARED_CREDENTIALS_FILE"]), endpoint.connection
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"[reader]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n")
    yield {"region": keys.region, "endpoint_url": keys.endpoint_url, "profile": "reader"}
    file.unlink()


@pytest.fixture
def people(bench: Bench, make_table: MakeTable) -> str:
    table = make_table(id="N")
    bench.tables.put(table, *ITEMS)
    return table


def test_a_table_is_read_with_filter_projection_and_types(people: str, place: dict[str, Any]) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        old = pipeline | "Old" >> ReadFromDynamoDB(
            people, filter=Attr("age").gt(87), projection=["id", "place.city"], segments=3, consistent=True, **place
        )
        cities = [{"id": i["id"], "place": i["place"]} for i in ITEMS if i["age"] > 87]
        assert_that(old, equal_to(cities), label="old")
        text = {"filter": "#a = :a", "filter_names": {"#a": "age"}, "filter_values": {":a": 3}, "max_rcu": 5000}
        some = pipeline | "Some" >> ReadFromDynamoDB(people, **text, **place)  # type: ignore[arg-type]
        assert_that(some, equal_to([i for i in ITEMS if i["age"] == 3]), label="some")
        rows = pipeline | "Rows" >> ReadFromDynamoDB(people, schema=Person, **place)
        assert_that(rows | beam.Map(lambda one: one.id), equal_to(list(range(300))), label="rows")
    found = pipeline.result.metrics().query(beam.metrics.MetricsFilter().with_namespace(METRICS))["counters"]
    assert sum(one.committed for one in found if one.key.metric.name == "items_read") == 300 + len(cities) + 4


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"index": "by_age"}, "there is no index 'by_age'; it has no index"),
        ({"filter": "age >>> 3"}, "Scan was refused: ValidationException"),
    ],
)
def test_what_the_service_refuses_names_the_table(
    people: str, place: dict[str, Any], asked: dict[str, Any], told: str
) -> None:
    with (
        pytest.raises(DynamodtError, match=f"table {people}: {told}"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        pipeline | ReadFromDynamoDB(people, **asked, **place)


def test_a_table_that_does_not_exist_is_named(place: dict[str, Any]) -> None:
    with (
        pytest.raises(DynamodtError, match="table nobody: the table does not exist; create the table first"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        pipeline | ReadFromDynamoDB("nobody", **place)


def test_a_table_is_copied_patched_and_emptied(
    people: str, bench: Bench, make_table: MakeTable, place: dict[str, Any]
) -> None:
    """Each mode, with what the service refuses: a taken key, an item that differs from `old`, a missing item."""
    copy = make_table(id="N")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        old = pipeline | ReadFromDynamoDB(people, filter=Attr("age").gt(87), **place)
        written(old | WriteToDynamoDB(copy, max_wcu=10_000, **place))
    items = bench.tables.items(copy)
    assert sorted(items, key=lambda item: item["id"]) == [item for item in ITEMS if item["age"] > 87]
    first, second = sorted(items, key=lambda item: item["id"])[:2]
    free = {"id": 1000, "age": 1}
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        absent = pipeline | beam.Create([first, {**second, "age": 1}, free]) | WriteToDynamoDB(
            copy, mode="put_if_absent", **place
        )  # fmt: skip
        codes(absent, "exists")
    pairs = [
        (first, {**first, "age": 1}),
        ({**second, "age": 2}, {**second, "age": 3}),
        ({"id": 9999}, {"id": 9999, "n": 1}),
    ]
    for _ in range(2):  # as a runner repeats a bundle
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            patched = pipeline | beam.Create(pairs) | WriteToDynamoDB(copy, mode="patch", guard="changed", **place)
            codes(patched, "conflict", "missing")
    assert {item["id"]: item["age"] for item in bench.tables.items(copy)}.items() >= {(first["id"], 1), (1000, 1)}
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        written(pipeline | beam.Create([*ITEMS, free]) | WriteToDynamoDB(copy, mode="delete", **place))
    assert bench.tables.items(copy) == []


def written(outcome: WriteOutcome) -> None:
    codes(outcome)


def codes(outcome: WriteOutcome, *expected: str) -> None:
    label = f"codes of {outcome.failed.producer.full_label}"
    found = outcome.failed | label >> beam.Map(lambda failed: failed.error.code)
    assert_that(found, equal_to(list(expected)), label=f"the {label}")


def counted(runner: Any, people: str, place: dict[str, Any], *words: str, with_rows: bool = True) -> None:
    """Reads the table on a runner, as dicts and as rows, and compares the result."""
    with beam.Pipeline(runner=runner, options=PipelineOptions([*words])) as pipeline:
        read = pipeline | ReadFromDynamoDB(people, segments=7, max_rcu=5000, processes=2, **place)
        ids = read | beam.Map(lambda item: int(item["id"]))
        assert_that(ids, equal_to(list(range(300))))
        codes(read | WriteToDynamoDB(people, max_wcu=5000, processes=2, **place))
        if with_rows:
            _count_rows(pipeline, people, place)


def _count_rows(pipeline: beam.Pipeline, people: str, place: dict[str, Any]) -> None:
    rows = pipeline | "Rows" >> ReadFromDynamoDB(people, schema=Person, max_rcu=5000, processes=2, **place)
    shuffled = rows | "Shuffle" >> beam.Reshuffle()
    assert_that(shuffled | "Ids" >> beam.Map(lambda row: row.id), equal_to(list(range(300))), label="rows")
    again = shuffled | "Again" >> WriteToDynamoDB(people, mode="put_if_absent", max_wcu=5000, processes=2, **place)
    codes(again, *["exists"] * 300)


@pytest.mark.chaos
@pytest.mark.endpoints("ministack")
def test_processes_of_beam_read_a_table(people: str, place: dict[str, Any]) -> None:
    words = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    counted(engine("direct").runner, people, place, *words)


@pytest.mark.chaos
@pytest.mark.endpoints("ministack")
def test_executors_of_spark_read_a_table(people: str, place: dict[str, Any], spark_master: str) -> None:
    """Of dicts: executors may be lost where Java decodes the rows of a schema (docs/connectors.md)."""
    counted(engine("spark", spark_master).runner, people, place, with_rows=False)


@pytest.mark.chaos
@pytest.mark.endpoints("ministack")
def test_a_job_server_reads_a_table(people: str, place: dict[str, Any], job_server: tuple[str, ...]) -> None:
    counted(engine("PortableRunner").runner, people, place, *job_server)


@pytest.mark.chaos
@pytest.mark.endpoints("ministack")
@pytest.mark.skipif(PRISM is None, reason="prism is not on the PATH: docs/connectors.md, Runners")
def test_prism_reads_a_table(people: str, place: dict[str, Any]) -> None:
    """The runner that `DirectRunner` tries first, where it can download it."""
    counted(PrismRunner(), people, place, f"--prism_location={PRISM}")
