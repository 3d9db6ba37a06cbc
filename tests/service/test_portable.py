"""A portable runner of Beam: a job server, which gets everything about dynamodt from the pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model.pages import Counts
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")  # the requests are the same


@pytest.fixture
def portable(job_server: tuple[str, ...]) -> dict[str, Any]:
    """The options of a run on a job server, whose workers are this very process."""
    return {"runner": "PortableRunner", "beam_args": job_server}


def test_a_version_is_applied_and_reverted(bench: Bench, make_table: MakeTable, portable: dict[str, Any]) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(200)))
    bench.script(
        table,
        """
        def transform_up(item):
            return {**item, "n": 1}

        def transform_down(item):
            return {**item, "n": 0}
        """,
    )
    (report,) = bench.up(table, **portable)
    assert report.error is None and report.versions[0].counts == Counts(read=200, changed=200)
    assert {item["n"] for item in bench.tables.items(table)} == {1}
    (report,) = bench.down(table, **portable)
    assert report.error is None
    assert {item["n"] for item in bench.tables.items(table)} == {0}


def test_an_exception_of_a_script_keeps_its_type(bench: Bench, make_table: MakeTable, portable: dict[str, Any]) -> None:
    report = bench.failed(make_table(id="N"), "def items():\n    yield {'no': 'key'}\n", **portable)
    assert isinstance(report.error, ScriptError) and "items()" in report.error.where
