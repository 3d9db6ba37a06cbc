"""The reads of `prepare` from the stage: items of its own table, of another one and of an index, and earlier data."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dynamodt import api
from dynamodt.checks.check import CheckOptions
from dynamodt.dynamodb.table import describe
from dynamodt.errors import DynamodtError, Refused, UsageError
from dynamodt.model.tables import TableNames
from dynamodt.runs.options import RunOptions
from dynamodt.state.prepared import find, load
from dynamodt.state.storage import open_storage
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

UP = "def transform_up(item, prepared):\n    return {**item, 'n': prepared[item['id']]}\n"
ORDERS = 300


@pytest.fixture
def table(bench: Bench, make_table: MakeTable) -> str:
    name = make_table(id="N")
    bench.tables.put(name, *({"id": number} for number in range(10)))
    return name


@pytest.fixture
def orders(bench: Bench, indexed_table: str) -> str:
    """Another table of the project: its items have a group of ten, and half of them are in its index."""
    items = ({"id": n, "at": {"city": "Wien", "zip": n}, "u": n % 10} for n in range(ORDERS))
    bench.tables.put(indexed_table, *({**item, "g": str(item["u"])} if item["id"] % 2 else item for item in items))
    bench.script(indexed_table, "def transform_up(item):\n    return item\n")
    return indexed_table


def prepared(bench: Bench, table: str, body: str, number: int = 1, **options: float) -> dict[object, object]:
    bench.script(table, f"from collections import Counter\ndef prepare(context):\n    {body}\n{UP}", number)
    bench.prepare(table, number, RunOptions(**options))
    script = bench.read(table, number)
    storage = open_storage(bench.stage.connection, bench.stage.storage)
    return dict(load(storage, script, find(storage, script)))


def test_prepare_reads_its_own_table_another_one_and_an_index(bench: Bench, table: str, orders: str) -> None:
    own = "yield from ((item['id'], len(item)) for item in context.items())"
    assert prepared(bench, table, own) == dict.fromkeys(range(10), 1)
    other = f"yield from Counter(o['u'] for o in context.items({orders!r}, projection=['u', 'at.city'])).items()"
    assert prepared(bench, table, other) == dict.fromkeys(range(10), ORDERS // 10)
    index = f"yield from Counter(o['g'] for o in context.items({orders!r}, index='index')).items()"
    assert prepared(bench, table, index) == dict.fromkeys("13579", ORDERS // 10)


def test_nested_attributes_are_projected(bench: Bench, table: str, orders: str) -> None:
    body = f"yield 'all', [o for o in context.items({orders!r}, projection=['at.city'])]"
    assert prepared(bench, table, body) == {"all": [{"at": {"city": "Wien"}}] * ORDERS}


def test_prepare_keeps_to_a_read_limit(bench: Bench, table: str, orders: str) -> None:
    body = f"yield 'n', sum(1 for _ in context.items({orders!r}))"
    assert prepared(bench, table, body, max_rcu=200.0) == {"n": ORDERS}


def test_prepare_may_stop_reading_early(bench: Bench, table: str, orders: str) -> None:
    threads = threading.active_count()
    body = f"prepare.left = context.items({orders!r}); yield next(prepare.left)['id'] * 0, 1"
    assert prepared(bench, table, body) == {0: 1}
    left = sys.modules[f"dynamodt:{table}/v1_change"].prepare.left  # it is still there, and closed
    assert list(left) == [] and threading.active_count() == threads


def test_a_logical_name_is_the_stages_own(bench: Bench, table: str, orders: str) -> None:
    (bench.folder / "transforms" / orders).rename(bench.folder / "transforms" / "orders")
    bench = replace(bench, stage=replace(bench.stage, names=TableNames({"orders": orders})))
    body = "yield 'n', sum(1 for _ in context.items('orders'))"
    assert prepared(bench, table, body) == {"n": ORDERS}


def test_prepare_reads_the_prepared_data_of_an_earlier_version(bench: Bench, table: str) -> None:
    assert prepared(bench, table, "yield 'rate', 2") == {"rate": 2}
    assert prepared(bench, table, "yield 'twice', 2 * context.prepared(1)['rate']", 2) == {"twice": 4}
    for number in (2, 3):
        with pytest.raises(UsageError, match=f"there is no earlier version {number} with") as caught:
            prepared(bench, table, f"yield 1, context.prepared({number})", 2)
        assert "earlier versions with prepared data: 1" in caught.value.hint
    bench.script(table, f"def prepare(context):\n    yield 'rate', 3\n{UP}")
    with pytest.raises(Refused, match="another text"):
        prepared(bench, table, "yield 'twice', context.prepared(1)['rate']", 2)


@pytest.mark.parametrize(
    ("call", "what", "hint"),
    [
        ("context.items('nothing_here')", "nothing_here has no folder in transforms/", "policy_arns"),
        ("context.items('gone')", "the table does not exist", "create the table first"),
        ("context.items(index='by_email')", "there is no index 'by_email'", "it has no index"),
        ("context.items({orders!r}, index='by_email')", "there is no index 'by_email'", "its indexes are index"),
        ("context.items(projection=['a..b'])", "projection has 'a..b'", "address.city"),
        ("context.items(projection=['a', 'a.b'])", "Scan was refused: ValidationException", ""),
    ],
)
def test_a_table_that_prepare_cannot_read_is_named(
    bench: Bench, table: str, orders: str, call: str, what: str, hint: str
) -> None:
    bench.script("gone", "def transform_up(item):\n    return item\n")
    with pytest.raises(DynamodtError) as caught:
        prepared(bench, table, f"yield 1, list({call.format(orders=orders)})")
    assert what in caught.value.what and hint in caught.value.hint, caught.value
    assert f"transforms/{table}/v1_change.py: context.items" in caught.value.where


def test_prepared_data_of_a_table_of_another_account_is_refused(bench: Bench, table: str) -> None:
    prepared(bench, table, "yield from ((n, 1) for n in range(10))")
    spec = describe(bench.stage.connection, table)
    (path,) = Path(bench.stage.storage.url).glob("prepared/**/v1.json")
    manifest = json.loads(path.read_text())
    assert manifest["place"] == f"{bench.stage.connection.region}:{spec.account}:{spec.identity}" and spec.identity
    assert len(spec.account) == 12
    path.write_text(json.dumps({**manifest, "place": f"{bench.stage.connection.region}:999999999999"}))
    (report,) = bench.up(table)
    assert isinstance(report.error, Refused) and "999999999999" in report.error.what
    path.write_text(json.dumps(manifest))
    assert bench.up(table)[0].error is None


def test_rows_of_another_account_are_not_read_by_prepare_and_check_either(bench: Bench, table: str) -> None:
    prepared(bench, table, "yield 'rate', 2")
    (path,) = Path(bench.stage.storage.url).glob("prepared/**/v1.json")
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "place": f"{bench.stage.connection.region}:999999999999"}))
    with pytest.raises(Refused, match="999999999999"):
        prepared(bench, table, "yield 'twice', context.prepared(1)['rate']", 2)
    assert api.unprepared(bench.stage, bench.folder, table, 0) == 1
    options = CheckOptions(version=1, variants=1)
    (checked,) = api.check(bench.stage, bench.folder, [table], options, bench.recorder)
    assert checked.versions[0].prepared == "missing"
