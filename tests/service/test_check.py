"""`check` on a stage: the items of a table, what a version hands to the next one, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt import api
from dynamodt.checks.check import CheckOptions
from dynamodt.checks.examples import read_images, version_of
from dynamodt.model.reports import TableCheck
from tests.service.bench import SPLIT, Bench
from tests.service.conftest import MakeTable

pytestmark = pytest.mark.endpoints("ministack")

DROP = """
from dynamodt import without

def transform_up(item):
    return without(item, "name")

def transform_down(item):
    return {**item, "name": item["first"] + " " + item["last"]}
"""
GREET = """
def prepare(context):
    yield "en", "Hello"

def transform_up(item, prepared):
    return {**item, "greeting": prepared["en"] + " " + item["first"]}
"""


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.tables.put(name, *({"id": number, "name": f"Ada {number}"} for number in range(60)))
    for number, text in enumerate((SPLIT, DROP, GREET), 1):
        bench.script(name, text, number)
    return name


def checked(bench: Bench, table: str, **options: object) -> TableCheck:
    (found,) = api.check(bench.stage, bench.folder, [table], CheckOptions(variants=20, **options), bench.recorder)  # type: ignore[arg-type]
    assert found.error is None, found.error
    return found


def test_each_version_is_checked_on_the_results_of_the_one_before(bench: Bench, table: str) -> None:
    before = bench.tables.items(table)
    found = checked(bench, table)
    assert [(one.version, one.items, one.effect.kind) for one in found.versions] == [
        (1, 60, "expanding"), (2, 60, "contracting"), (3, 60, ""),
    ]  # fmt: skip
    assert found.whole and found.read_units > 0 and found.faults == 0
    assert found.versions[2].prepared == "missing" and found.versions[2].bound is None
    assert bench.tables.items(table) == before
    bench.prepare(table, 3)
    assert [one.effect.kind for one in checked(bench, table).versions] == ["expanding", "contracting", "expanding"]
    assert [one.version for one in checked(bench, table, version=2).versions] == [2]


def test_applied_versions_are_checked_on_the_results_of_transform_down(bench: Bench, table: str) -> None:
    bench.up(table, to=2)
    assert [one.version for one in checked(bench, table).versions] == [3]  # the pending versions
    found = checked(bench, table, version=1)
    assert found.at == 2 and found.versions[0].derived and found.versions[0].items == 60
    assert "the items have version 2 already" in found.notices[0] and found.faults == 0
    bench.script(table, DROP.partition("def transform_down")[0], 2)
    found = checked(bench, table, version=1)
    assert found.versions[0].items == 0 and "version 2 has no transform_down" in found.notices[0]


def test_a_saved_sample_is_checked_without_the_table_s_items(bench: Bench, table: str) -> None:
    bench.up(table, to=1)
    found = checked(bench, table, save=True)
    path = bench.folder / found.saved
    assert version_of(path) == 1 and len(list(read_images(path))) == 60
    names = {(image["name"]["S"], image["last"]["S"]) for image in read_images(path)}
    assert len(names) == 60 and all(name == f"Ada {last}" for name, last in names)  # half of the names begin with it
    assert sorted(last for _, last in names) != sorted(str(number) for number in range(60))
    bench.tables.delete(table, *({"id": number} for number in range(60)))
    again = checked(bench, table, items=str(path))
    assert [(one.version, one.items) for one in again.versions] == [(2, 60), (3, 60)] and again.faults == 0
    empty = checked(bench, table)
    assert empty.items == 0 and "--items" in empty.notices[0] and empty.versions[0].variants > 0


def test_a_wrong_file_stops_the_check_of_its_own_table_only(bench: Bench, table: str, make_table: MakeTable) -> None:
    other = make_table(id="N")
    bench.script(other, "def transform_up(item: return item\n")
    found = api.check(bench.stage, bench.folder, [table, other], CheckOptions(variants=5), bench.recorder)
    assert found[0].error is None and "syntax error" in str(found[1].error)
    bench.script(other, "import no_such_module\ndef transform_up(item): return item\n")
    (check,) = api.check(bench.stage, bench.folder, [other], CheckOptions(variants=5), bench.recorder)
    assert [fault.name for fault in check.versions[0].faults] == ["loads"]


def test_a_check_leaves_no_files_in_the_folder(bench: Bench, table: str) -> None:
    def files() -> list[Path]:
        return sorted(bench.folder.rglob("*"))

    before = files()
    checked(bench, table)
    assert files() == before
