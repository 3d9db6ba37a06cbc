"""Runs on a real Spark with two executor processes, each of which starts Python of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model import Counts
from tests.service.bench import Bench

MakeTable = Callable[..., str]

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint(ministack: Any) -> Any:
    """One judge is enough here: what is sent is the same."""
    return ministack


@dataclass(frozen=True)
class OnSpark:
    bench: Bench
    master: str

    @property
    def options(self) -> dict[str, Any]:
        return {"runner": "spark", "spark_master": self.master}


@pytest.fixture
def spark(bench: Bench, spark_master: str) -> OnSpark:
    return OnSpark(bench, spark_master)


def test_a_version_goes_up_with_its_prepared_data_and_down_again(spark: OnSpark, make_table: MakeTable) -> None:
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(500)))
    bench.script(
        table,
        """
        import os

        def prepare(context):
            yield "step", 1

        def items():
            yield {"id": -1, "own": True}

        def transform_up(item, prepared):
            return {**item, "n": item["n"] + prepared["step"], "by": os.getpid()}

        def transform_down(item):
            return {"id": item["id"], "n": item["n"] - 1}
        """,
    )
    bench.prepare(table)
    (report,) = bench.up(table, **spark.options)
    assert report.error is None and report.versions[0].counts == Counts(read=501, changed=501)
    items = [item for item in bench.tables.items(table) if item["id"] >= 0]
    assert {item["n"] for item in items} == {1}
    assert len({item["by"] for item in items}) == 2, "one of the executors has had nothing to do"
    (report,) = bench.down(table, **spark.options)
    assert report.error is None
    assert bench.tables.items(table) == [{"id": number, "n": 0} for number in range(500)]


def test_a_script_s_fault_comes_out_by_its_own_type(spark: OnSpark, make_table: MakeTable) -> None:
    table, bench = make_table(id="N"), spark.bench
    bench.tables.put(table, *({"id": number} for number in range(50)))
    report = bench.failed(table, "def transform_up(item):\n    return None\n", **spark.options)
    assert isinstance(report.error, ScriptError) or report.versions[0].counts.dead
