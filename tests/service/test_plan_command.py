"""`plan` on an emulator: the run does what it forecasts, and it names the obstacles."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt import api as operations
from dynamodt.errors import ScriptError
from dynamodt.runs.forecast import TableForecast
from dynamodt.runs.lock import hold_lease
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")

HALF = 'def transform_up(item):\n    return {**item, "g": "new", "more": 1} if item["id"] % 2 else item\n'
PREPARED = """
def prepare(context):
    yield 1, 2

def transform_up(item, prepared):
    return {**item, "p": prepared[1]}
"""


def plan(bench: Bench, table: str, sample: int = 1000, **options: Any) -> TableForecast:
    (found,) = operations.forecast(bench.stage, bench.folder, [table], None, RunOptions(**options), sample)
    return found


def test_the_forecast_of_a_whole_table_is_what_the_run_does(bench: Bench, indexed_table: str) -> None:
    table = indexed_table
    bench.tables.put(table, *({"id": number, "g": "old"} for number in range(80)))
    bench.script(table, HALF)
    bench.script(table, 'def transform_up(item):\n    return {**item, "n": 1} if "more" in item else item\n', 2)
    found = plan(bench, table)
    assert found.error is None and found.sample.whole and (found.items, found.at, found.latest) == (80, 0, 2)
    first, second = (version.estimate for version in found.versions)
    assert first is not None and second is not None
    assert first.changed.likely == second.changed.likely == 40
    assert first.indexes["index"].likely == 80  # its key changes: the old entry is deleted, a new one put
    assert second.indexes["index"].likely == 40  # all attributes are projected
    assert bench.history(table) == [] and found.obstacles == ()
    (report,) = bench.up(table)
    assert [run.counts.changed for run in report.versions] == [40, 40]
    assert plan(bench, table).versions == ()


def test_a_part_of_a_table_is_a_random_sample(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number} for number in range(300)))
    bench.script(table, HALF)
    found = plan(bench, table, sample=100)
    assert not found.sample.whole and len(found.sample.images) == 100
    estimate = found.versions[0].estimate
    assert estimate is not None and 0.2 < estimate.share.likely < 0.8  # of half; six standard deviations
    assert estimate.share.low < estimate.share.likely < estimate.share.high
    ids = {image["id"]["N"] for image in found.sample.images}
    assert len(ids) == 100 and ids != {image["id"]["N"] for image in plan(bench, table, sample=100).sample.images}


def test_the_obstacles_of_a_run_are_named(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1}, {"id": 2})
    path = bench.script(table, 'def transform_up(item):\n    return {**item, "n": 1}\n')
    bench.up(table)
    bench.script(table, PREPARED, 2)
    unprepared = plan(bench, table)
    assert [(one.kind, one.stops) for one in unprepared.obstacles] == [("prepared", True)]
    assert "prepare --table" in unprepared.obstacles[0].hint and "prepared data" in unprepared.unknown
    bench.prepare(table, 2)
    leases = State(bench.stage.connection, bench.stage.state_table).leases
    with hold_lease(leases, table, "another", lambda text: None):
        assert [(one.kind, one.stops) for one in plan(bench, table).obstacles] == [("lease", True)]
    bench.script(table, 'def transform_up(item):\n    return {**item, "x": item["p"] / (item["id"] - 1)}\n', 3)
    dead = plan(bench, table)
    assert [one.kind for one in dead.obstacles] == ["dead letters"] and "1 of 2 sampled items" in dead.obstacles[0].text
    path.write_text(path.read_text().replace("1}", "2}"))
    edited = plan(bench, table)
    assert edited.obstacles[0].kind == "refused" and "was edited" in edited.obstacles[0].text
    assert [version.estimate is None for version in edited.versions] == [False, False]
    bench.script(table, "def transform_up(item):\nreturn item\n", 3)
    assert isinstance(plan(bench, table).error, ScriptError)
