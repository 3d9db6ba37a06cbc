"""The examples of docs/connectors.md, as a reader copies them, on tables and an export in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.export.request import ExportRequest
from dynamodt.export.stand_in import StandInExports
from dynamodt.io.connector import Endpoint
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.script.codec import decode
from tests import ROOT
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB

pytestmark = pytest.mark.pipeline

PAGE = (ROOT / "docs" / "connectors.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ORDERS = [{"id": f"o{n}", "customer": f"c{n % 2}", "total": 60 * n} for n in range(1, 5)]
TABLES: dict[str, FakeDynamoDB] = {}
CUSTOMERS = [{"id": "c0", "name": "Ann"}]


def table(name: str, items: list[dict[str, Any]]) -> FakeDynamoDB:
    fake = FakeDynamoDB(TableSpec(name, (KeyAttribute("id", "S"),)))
    fake.put(*items)
    return fake


class Described:
    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        return {"Table": {"TableArn": f"arn:aws:dynamodb:local:0:table/{TableName}", "TableId": "i-1"}}


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    TABLES.update(orders=table("orders", ORDERS), customers=table("customers", CUSTOMERS))
    TABLES["large-orders"] = table("large-orders", [])
    tables = TABLES
    objects = FakeObjects()
    exports = StandInExports(Described(), tables["orders"], objects, "shop-exports", "orders", lambda: 1.7e9)  # type: ignore[arg-type]
    exports.request(ExportRequest(tables["orders"].spec, "a token"))
    monkeypatch.setattr(Endpoint, "wire", lambda self, name: tables[name])
    monkeypatch.setattr(Endpoint, "describe", lambda self, name: tables[name].spec)
    monkeypatch.setattr(Endpoint, "objects", lambda self, *bucket: objects)
    monkeypatch.setattr(beam, "Pipeline", _in_process(beam.Pipeline))
    monkeypatch.chdir(tmp_path)
    yield


def _in_process(pipeline: Any) -> Callable[[], Any]:
    """`DirectRunner` would first try to download another runner."""
    return lambda: pipeline(runner=FnApiRunner())


def filtered(printed: str, folder: Path) -> None:
    """The table in memory has no filters, so that the example sums all items."""
    assert sorted(printed.splitlines()) == ["('c0', Decimal('360'))", "('c1', Decimal('240'))"]


def to_parquet(printed: str, folder: Path) -> None:
    (file,) = folder.glob("orders*.parquet")
    rows = pyarrow.parquet.read_table(file).to_pylist()
    assert sorted((row["id"], row["total"]) for row in rows) == [(o["id"], o["total"]) for o in ORDERS]
    assert printed == ""


def joined(printed: str, folder: Path) -> None:
    assert sorted(printed.splitlines()) == ["o1 ?", "o2 Ann", "o3 ?", "o4 Ann"]


def copied(printed: str, folder: Path) -> None:
    assert TABLES["large-orders"].items == TABLES["orders"].items and printed == ""


def patched(printed: str, folder: Path) -> None:
    items = [decode(image) for image in TABLES["orders"].items.values()]
    assert items == [{**order, "large": order["total"] > 100} for order in ORDERS] and printed == ""


@pytest.mark.parametrize(
    ("marker", "check"),
    [
        ("CombinePerKey(sum)", filtered),
        ("WriteToParquet", to_parquet),
        ("AsDict", joined),
        ("large-orders", copied),
        ('mode="patch"', patched),
    ],
)
def test_an_example_runs(
    marker: str, check: Callable[[str, Path], None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (example,) = [text for text in EXAMPLES if marker in text]
    exec(compile(example, "docs/connectors.md", "exec"), {"__name__": "example"})
    check(capfd.readouterr().out, tmp_path)
