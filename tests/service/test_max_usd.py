"""`--max-usd`: a run stops at the limit between two pages, reports how it continues, and counts all of its attempts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamodt import api as operations
from dynamodt.cli.next_steps import continuing
from dynamodt.errors import CostReached, Refused
from dynamodt.runs.cost import Prices, Spending
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.undoing import undo
from tests.waiting import HOLD

pytestmark = pytest.mark.endpoints("ministack")

ITEMS = 600
# Of 30 pages of 20 items, those after the 200th item wait for the file.
HELD = """
seen = 0


def transform_up(item):
    global seen
    seen += 1
    if seen > 200:
        hold({go_on!r})
    return {{**item, "n": item["n"] + 1}}
"""
A_DOLLAR_A_WRITE = Prices("2026-01-01", write=1e6, read=0.0, put=0.0, get=0.0)


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("dynamodt.runs.cost.prices_of", lambda stage, tables: A_DOLLAR_A_WRITE)
    yield


def goes_on_when_reached(monkeypatch: pytest.MonkeyPatch, go_on: Path) -> None:
    """The waiting pages continue once the limit is reached, and not before."""
    check = Spending.check

    def checked(self: Spending, limit: float, run: str) -> None:
        try:
            check(self, limit, run)
        except CostReached:
            go_on.touch()
            raise

    monkeypatch.setattr(Spending, "check", checked)


@pytest.mark.usefixtures("priced")
def test_a_run_stops_at_its_cost_limit_and_continues_with_a_higher_one(
    bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, go_on = make_table(id="N"), bench.folder / "go_on"
    monkeypatch.setattr("dynamodt.runs.jobs._PAGE_ITEMS", 20)
    goes_on_when_reached(monkeypatch, go_on)
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(ITEMS)))
    bench.script(table, HOLD + HELD.format(go_on=str(go_on)))
    (report,) = bench.up(table, max_usd=100.0)
    assert isinstance(report.error, CostReached) and report.error.exit_code == 1
    (run,) = report.versions
    assert run.status == "paused" and 100 <= run.counts.changed < ITEMS
    (record,) = bench.history(table)
    assert (
        "the limit of $100.00 is reached: $" in record.error and "a higher --max-usd continues the run" in record.error
    )
    (version,) = operations.status(bench.stage, bench.folder, [table])[0].versions
    assert version.state == "unfinished" and version.run is not None and version.run.error == record.error

    assert continuing(version.run, "local", table).options.max_usd == record.higher_usd > 100
    with pytest.raises(Refused, match="is paused: the limit of") as refused:
        operations.control_run(bench.stage, table, "resume")
    assert refused.value.hint == f"dynamodt up --table {table} --to 1 --max-usd {record.higher_usd:g} continues it"

    (again,) = bench.up(table, max_usd=100.0)  # the first attempt has cost as much
    assert isinstance(again.error, CostReached) and again.versions[0].counts.changed == run.counts.changed
    (continued,) = bench.up(table, max_usd=2.0 * ITEMS)
    assert continued.error is None and continued.versions[0].run == run.run
    assert [item["n"] for item in bench.tables.items(table)] == [1] * ITEMS

    undone = undo(bench, run.run, table, max_usd=2.0 * ITEMS)
    assert undone.error is None and [item["n"] for item in bench.tables.items(table)] == [0] * ITEMS


@pytest.mark.usefixtures("priced")
def test_the_limit_is_that_of_all_runs_of_the_command(bench: Bench, make_table: MakeTable) -> None:
    first, second = make_table(id="N"), make_table(id="N")
    for table in (first, second):
        bench.tables.put(table, *({"id": number} for number in range(50)))
        bench.script(table, 'def transform_up(item):\n    return {**item, "n": 1}\n')
    done, stopped = bench.up(first, second, max_usd=50.0)
    assert done.error is None  # its last pages have reached the limit
    assert isinstance(stopped.error, CostReached) and stopped.versions[0].counts.changed == 0


def test_a_cost_limit_without_a_known_price_is_refused_before_the_start(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1})
    bench.script(table, 'def transform_up(item):\n    return {**item, "n": 1}\n')
    (report,) = bench.up(table, max_usd=5.0)
    assert isinstance(report.error, Refused) and "an emulator, which has no prices" in report.error.what
    assert bench.history(table) == []
    (done,) = bench.up(table)
    with pytest.raises(Refused, match="an emulator, which has no prices"):
        undo(bench, done.versions[0].run, table, max_usd=5.0)
