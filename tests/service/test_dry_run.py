"""A dry run of several versions, through the interface behind the command line: it comes to what the run comes to."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.errors import Refused
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from tests.emulators import one_judge_is_quick
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

VERSIONS = (
    """
    import rates
    def items():
        for n in range(30): yield {"id": n, "n": n, "rate": rates.RATE}
    """,
    """
    from dynamodt import Delete
    def transform_up(item): return Delete() if item["n"] % 10 == 9 else {**item, "total": item["n"] * item["rate"]}
    def transform_down(item): item.pop("total"); return item
    """,
    """
    IDEMPOTENT = True
    def transform_up(item):
        return item if "moved" in item else {**item, "id": item["id"] + 1000, "moved": item["total"]}
    def transform_down(item):
        if "moved" in item: item = {**item, "id": item["id"] - 1000}; item.pop("moved")
        return item
    """,
    """
    def prepare(context): yield "name", "x"
    def transform_up(item, prepared): return {**item, "name": prepared["name"] + str(item["moved"])}
    def transform_down(item): item.pop("name"); return item
    """,
    "def transform_up(item): return {**item, 'wrong': item['name'][2]}",
)


def counts(report: TableReport) -> list[Counts]:
    return [version.counts for version in report.versions]


def spent(report: TableReport) -> list[float]:
    return [version.consumed.wcu for version in report.versions]


def dead(bench: Bench, report: TableReport) -> list[tuple[Any, str]]:
    return sorted((str(one["key"]), one["error"]) for one in bench.dead_letters(report))


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    table = make_table(id="N")
    bench.beside(f"{table}/rates.py", "RATE = 2")
    for number, text in enumerate(VERSIONS, 1):
        bench.script(table, text, number)
    return table


@one_judge_is_quick
def test_its_counts_and_dead_letters_are_those_of_the_run(bench: Bench, table: str) -> None:
    bench.tables.put(table, {"id": 5, "n": 5, "rate": 3}, {"id": 40, "n": 40, "rate": 3})
    bench.prepare(table, 4)
    (foreseen,) = bench.up(table, dry_run=True, max_errors=100)
    assert len(bench.tables.items(table)) == 2 and bench.history(table) == []
    (report,) = bench.up(table, max_errors=100)
    expected, found = counts(foreseen), counts(report)
    assert [one.read for one in expected] == [30, 31, 28, 28, 28] and expected[0].superseded == 1
    assert found[2].changed == expected[2].changed == 28  # a scan may meet what an idempotent version has moved itself
    assert [*found[:2], *found[3:]] == [*expected[:2], *expected[3:]]
    assert dead(bench, foreseen) == dead(bench, report) and len(dead(bench, report)) == found[4].dead > 0


def test_a_refused_move_costs_what_it_costs_the_run(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.script(table, "SOURCE = 'scan'\nIDEMPOTENT = True\ndef transform_up(item): return {**item, 'id': 100}", 1)
    bench.tables.put(table, *({"id": n, "n": n} for n in range(4)))
    (foreseen,) = bench.up(table, dry_run=True, max_errors=100)
    (report,) = bench.up(table, max_errors=100)
    assert counts(foreseen) == counts(report) and counts(report)[0].dead == 3
    assert spent(foreseen) == spent(report) == [4.0 * 4]


@one_judge_is_quick
def test_the_way_down_is_rehearsed_as_a_whole(bench: Bench, table: str) -> None:
    bench.tables.put(table, {"id": 5, "n": 5, "rate": 3}, {"id": 40, "n": 40, "rate": 3})
    bench.prepare(table, 4)
    bench.up(table, to=4)
    before = bench.tables.items(table)
    (foreseen,) = bench.down(table, to=1, dry_run=True)
    assert foreseen.error is None and bench.tables.items(table) == before
    (report,) = bench.down(table, to=1)
    assert report.error is None
    assert [one.changed for one in counts(foreseen)] == [one.changed for one in counts(report)] == [28, 28, 28]


def test_what_is_prepared_too_late_ends_it_where_the_run_is_refused(bench: Bench, table: str) -> None:
    (foreseen,) = bench.up(table, dry_run=True)
    assert [version.version for version in foreseen.versions] == [1, 2, 3]
    assert isinstance(foreseen.error, Refused) and "version 4 needs prepared data" in foreseen.error.what
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and report.versions == () and bench.tables.items(table) == []
    assert str(report.error) == str(foreseen.error)
