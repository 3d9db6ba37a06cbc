"""A dry run of several versions, through the interface behind the command line: it has the result of the run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dynamodt.errors import DeadLetters, Refused
from dynamodt.model.pages import Counts
from dynamodt.model.reports import TableReport
from tests.emulators import dynamodb_local_in_chaos
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


ITEMS = """
def items():
    for n in range(30): yield {"id": n, "n": n}
"""


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


@dynamodb_local_in_chaos
def test_a_dry_run_has_the_counts_and_dead_letters_of_the_run(bench: Bench, table: str) -> None:
    bench.tables.put(table, {"id": 5, "n": 5, "rate": 3}, {"id": 40, "n": 40, "rate": 3})
    bench.prepare(table, 4)
    (foreseen,) = bench.up(table, dry_run=True, max_errors=100)
    assert len(bench.tables.items(table)) == 2 and bench.history(table) == []
    (report,) = bench.up(table, max_errors=100)
    expected, found = counts(foreseen), counts(report)
    assert [one.read for one in expected] == [30, 31, 28, 28, 28] and expected[0].superseded == 1
    assert found[2].changed == expected[2].changed == 28  # a scan may read items that an idempotent version has moved
    assert [*found[:2], *found[3:]] == [*expected[:2], *expected[3:]]
    assert dead(bench, foreseen) == dead(bench, report) and len(dead(bench, report)) == found[4].dead > 0


def test_a_dry_run_counts_the_units_of_a_refused_move(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.script(table, "SOURCE = 'scan'\nIDEMPOTENT = True\ndef transform_up(item): return {**item, 'id': 100}", 1)
    bench.tables.put(table, *({"id": n, "n": n} for n in range(4)))
    (foreseen,) = bench.up(table, dry_run=True, max_errors=100)
    (report,) = bench.up(table, max_errors=100)
    assert counts(foreseen) == counts(report) and counts(report)[0].dead == 3
    assert spent(foreseen) == spent(report) == [4.0 * 4]


@dynamodb_local_in_chaos
def test_a_dry_run_reports_the_refusal_of_its_command(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.script(table, ITEMS + "def transform_down(item): return item", 1)
    bench.up(table)
    bench.script(table, "def transform_up(item): return {**item, 'v': 1 / item['n']}", 2)
    (left,) = bench.up(table)
    assert left.error is not None and left.versions[0].counts.changed
    (foreseen,) = bench.down(table, dry_run=True)
    (refused,) = bench.down(table)
    assert foreseen.error is None and str(foreseen.refusal) == str(refused.error) and "unfinished: run" in str(refused)


def test_a_dry_run_with_dead_letters_reports_the_refusal_of_its_command_too(
    bench: Bench, make_table: MakeTable
) -> None:
    table, protected = make_table(id="N"), replace(bench, stage=replace(bench.stage, protected=True))
    bench.script(table, "def transform_up(item): return 1 / item['n']")
    bench.tables.put(table, {"id": 1, "n": 0})
    (foreseen,) = protected.up(table, dry_run=True)
    assert isinstance(foreseen.error, DeadLetters) and isinstance(foreseen.refusal, Refused)
    (refused,) = protected.up(table)
    assert str(refused.error) == str(foreseen.refusal) and bench.history(table) == []


def test_a_dry_run_has_the_stamp_with_which_the_unfinished_run_began(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    text = 'STAMP = "{}"\ndef transform_up(item): return {{**item, "v": 1 / item["n"]}}'
    bench.tables.put(table, *({"id": n, "n": n, "_b": "a text"} for n in range(20)))
    bench.script(table, text.format("_a"))
    (left,) = bench.up(table)
    assert isinstance(left.error, DeadLetters) and left.versions[0].counts.changed
    bench.tables.put(table, {"id": 0, "n": 1, "_b": "a text"})
    bench.script(table, text.format("_b"))
    (foreseen,) = bench.up(table, dry_run=True)
    assert foreseen.error is None and foreseen.refusal is None and counts(foreseen)[0].dead == 0
    (report,) = bench.up(table)
    assert report.error is None and counts(report)[0].dead == 0


@dynamodb_local_in_chaos
def test_a_dry_run_of_down_covers_all_of_its_versions(bench: Bench, table: str) -> None:
    bench.tables.put(table, {"id": 5, "n": 5, "rate": 3}, {"id": 40, "n": 40, "rate": 3})
    bench.prepare(table, 4)
    bench.up(table, to=4)
    before = bench.tables.items(table)
    (foreseen,) = bench.down(table, to=1, dry_run=True)
    assert foreseen.error is None and bench.tables.items(table) == before
    (report,) = bench.down(table, to=1)
    assert report.error is None
    assert [one.changed for one in counts(foreseen)] == [one.changed for one in counts(report)] == [28, 28, 28]


@dynamodb_local_in_chaos
def test_a_dry_run_reads_items_that_earlier_tables_would_insert(bench: Bench, make_table: MakeTable) -> None:
    """By way of a table in between, by `items()`, onto a taken key, and twice onto one key; a table that has failed
    leaves a notice."""
    first, second, third = (make_table(id="N") for _ in range(3))
    into = "TARGET_TABLE = {!r}\ndef transform_up(item): return {{**item, 'id': item['id'] {}}}"
    bench.script(first, ITEMS, 1)
    bench.script(first, "def transform_up(item): return {**item, 'v': item['n'] + 1}", 2)
    bench.script(first, into.format(second, "+ 100"), 3)
    bench.script(second, f"TARGET_TABLE = {third!r}\n{ITEMS.replace('range(30)', 'range(4)')}", 1)
    bench.script(second, "def transform_up(item): return {**item, 'w': item['v'] * 2} if item['n'] % 7 else 1 / 0", 2)
    bench.script(second, into.format(third, "// 2"), 3)
    bench.script(third, "def transform_up(item): return {**item, 'x': item.get('w', 0) // (item['id'] - 3)}", 1)
    bench.tables.put(first, {"id": 40, "n": 40})
    bench.tables.put(second, {"id": 102, "n": 0, "v": 0}, {"id": 6, "n": 1, "v": 1})
    foreseen = bench.up(first, second, third, dry_run=True, max_errors=100)
    assert not any(bench.history(table) for table in (first, second, third))
    found = bench.up(first, second, third, max_errors=100)
    assert list(map(counts, foreseen)) == list(map(counts, found))
    assert [one.read for one in counts(found[1])] == [4, 32, 32] and counts(found[2])[0].dead == 1
    assert not any(report.notices for report in foreseen)
    last = foreseen[2].versions[0]
    assert last.cost is not None and last.cost.rcu < last.consumed.rcu  # a run does not read the other tables


@dynamodb_local_in_chaos
def test_a_table_that_has_failed_leaves_a_notice_on_the_one_that_it_inserts_into(
    bench: Bench, make_table: MakeTable
) -> None:
    first, second = make_table(id="N"), make_table(id="N")
    bench.script(first, f"TARGET_TABLE = {second!r}\ndef transform_up(item): return 1 / 0", 1)
    bench.script(second, ITEMS + "def transform_up(item): return item", 1)
    bench.tables.put(first, {"id": 1})
    failed, tried = bench.up(first, second, dry_run=True)
    assert failed.error and not failed.notices and tried.error is None
    (notice,) = tried.notices
    assert notice.startswith(
        f"version 1 of table {second} met none of the items that version 1 of table {first} inserts"
    )


@dynamodb_local_in_chaos
def test_a_dry_run_ends_at_the_version_without_prepared_data(bench: Bench, table: str) -> None:
    (foreseen,) = bench.up(table, dry_run=True)
    assert [version.version for version in foreseen.versions] == [1, 2, 3]
    assert isinstance(foreseen.error, Refused) and "version 4 needs prepared data" in foreseen.error.what
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and report.versions == () and bench.tables.items(table) == []
    assert str(report.error) == str(foreseen.error)
