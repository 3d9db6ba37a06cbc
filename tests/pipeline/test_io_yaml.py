"""The connectors in Beam YAML, by the provider file of the package."""

from __future__ import annotations

import json
import re
from textwrap import dedent
from typing import Any

import pytest

from dynamodt import io
from dynamodt.errors import UsageError
from dynamodt.io.connector import Endpoint
from dynamodt.model.tables import KeyAttribute, TableSpec
from tests import ROOT
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB, numbers

yaml_main = pytest.importorskip("apache_beam.yaml.main", reason="needs dynamodt[yaml]: make test-pythons has it")
pytestmark = pytest.mark.pipeline

PROVIDER = f"{io.__path__[0]}/dynamodb.yaml"
FULL = "s3://bucket/AWSDynamoDB/01604474854028-a1b2c3d4"


def run(text: str) -> None:
    yaml_main.run(["--yaml_pipeline", dedent(text) + f"providers:\n  - include: {PROVIDER}\n"])


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> FakeDynamoDB:
    spec = TableSpec("things", (KeyAttribute("id", "N"),))
    fake, objects = FakeDynamoDB(spec), FakeObjects.of_folder(ROOT / "tests" / "exports" / "full")
    fake.put(*numbers(9), {"id": 9, "note": "with a map", "place": {"city": "Bern"}})
    monkeypatch.setattr(Endpoint, "wire", lambda self, table: fake)
    monkeypatch.setattr(Endpoint, "describe", lambda self, table: spec)
    monkeypatch.setattr(Endpoint, "objects", lambda self, *bucket: objects)
    return fake


def test_a_yaml_pipeline_reads_a_table_and_an_export(services: FakeDynamoDB) -> None:
    run(
        f"""
        pipeline:
          transforms:
            - type: ReadFromDynamoDB
              name: Things
              config:
                table: things
                schema:
                  type: object
                  properties:
                    id: {{type: integer}}
                    note: {{type: string}}
                    place: {{type: object, properties: {{city: {{type: string}}}}}}
                  required: [id, note]
            - type: Filter
              name: Some
              input: Things
              config: {{language: python, keep: id >= 8}}
            - type: MapToFields
              name: Flat
              input: Some
              config:
                language: python
                fields: {{id: id, city: "place.city if place else None"}}
            - type: AssertEqual
              input: Flat
              config: {{elements: [{{id: 8, city: null}}, {{id: 9, city: Bern}}]}}
            - type: ReadFromDynamoDBExport
              name: Books
              config:
                export: {FULL}
                schema: {{type: object, properties: {{Title: {{type: string}}}}}}
            - type: AssertEqual
              name: Titles
              input: Books.items
              config: {{elements: [{{Title: Book 103 Title}}, {{Title: Bike}}, {{Title: null}}]}}
        """
    )


def test_a_yaml_pipeline_writes_rows(services: FakeDynamoDB) -> None:
    run(
        """
        pipeline:
          transforms:
            - type: Create
              config: {elements: [{id: 8, note: theirs}, {id: 20, note: new}]}
            - type: WriteToDynamoDB
              input: Create
              config: {table: things, mode: put_if_absent}
            - type: MapToFields
              name: Codes
              input: WriteToDynamoDB.failed
              config: {language: python, fields: {code: code, id: element.id}}
            - type: AssertEqual
              input: Codes
              config: {elements: [{code: exists, id: 8}]}
        """
    )
    assert services.get({"id": 20}) == {"id": {"N": "20"}, "note": {"S": "new"}} and len(services.items) == 11


def test_the_documented_yaml_example_runs(
    services: FakeDynamoDB, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The example has its own list of providers, which Beam YAML checks, and logs JSON."""
    orders = FakeDynamoDB(TableSpec("orders", (KeyAttribute("id", "S"),)))
    orders.put(*({"id": f"o{total}", "customer": "c", "total": total} for total in (5, 500)))
    monkeypatch.setattr(Endpoint, "wire", lambda self, table: orders)
    monkeypatch.setattr(Endpoint, "describe", lambda self, table: orders.spec)
    (example,) = re.findall(
        r"^```yaml\n(.*?)^```", (ROOT / "docs" / "connectors.md").read_text(), re.MULTILINE | re.DOTALL
    )
    with caplog.at_level("INFO"):
        yaml_main.run(["--yaml_pipeline", example])
    logged = [message for message in caplog.messages if '"customer"' in message]
    assert [json.loads(message) for message in logged] == [{"id": "o500", "customer": "c", "total": 500}]


def test_a_filter_value_may_be_a_decimal_number() -> None:
    from dynamodt.io.beam_yaml import ReadFromDynamoDB

    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    reader = ReadFromDynamoDB("things", schema=schema, filter="n > :n", filter_values={":n": 1.5})
    assert dict(reader._options.filter)["ExpressionAttributeValues"] == {":n": {"N": "1.5"}}


def test_a_yaml_pipeline_has_no_pairs() -> None:
    from dynamodt.io.beam_yaml import WriteToDynamoDB

    with pytest.raises(UsageError, match="patch in a pipeline of Python"):
        WriteToDynamoDB("things", mode="patch")


def test_a_wrong_schema_is_refused_with_its_fault() -> None:
    from dynamodt.io.beam_yaml import ReadFromDynamoDB

    wrong: list[Any] = [{}, {"type": "object"}, {"type": "object", "properties": {"id": "string"}}, None]
    for schema in wrong:
        with pytest.raises(UsageError, match=r"not a JSON schema of an object.*properties: \{id"):
            ReadFromDynamoDB("things", schema=schema)
