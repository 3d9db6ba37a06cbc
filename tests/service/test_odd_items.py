"""Items that are hard to store: odd names, extreme numbers, every type, the deepest, the widest and the largest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from dynamodt.dynamodb.batch import Verdict, Writes
from dynamodt.dynamodb.statements import Statements
from dynamodt.dynamodb.table import describe
from dynamodt.dynamodb.wire import Statement, Wire
from dynamodt.errors import ItemError
from dynamodt.model.pages import Counts
from dynamodt.model.tables import Guard, Item, Remove
from dynamodt.script.codec import encode, image_bytes
from dynamodt.script.diff import change, insert, key_of
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable

pytestmark = dynamodb_local_in_chaos

NAMES = [
    'a "quote"',
    '"',
    "apostrophe's",
    "'",
    "dot.ted",
    "a space",
    " ",
    "emoji 🙂",
    "ключ",
    "name",
    "status",
    "date",
    "value",
    "order",
    "user",
    "REMOVE",
    " AND ",
    '" REMOVE "n',
    "SET",
    "MISSING",
    "WHERE",
    "?",
    "a=?",
    "#0",
    ":0",
    "a[0]",
    "{b}",
    "back\\slash",
    "a, b",
    "--",
    "new\nline",
    "$",
    "x" * 255,
]
EVERYTHING: Item = {
    "text": "é",
    "empty": "",
    "number": Decimal("-12.50"),
    "digits": Decimal("1234567890123456789012345678901234567.8"),
    "binary": b"\x00\xff",
    "no bytes": b"",
    "yes": True,
    "no": False,
    "null": None,
    "list": [1, "a", [b"b", {"c": None}], []],
    "map": {"a b": {"deep": [Decimal("1.0")]}, "empty": {}},
    "strings": {"b", "a", "é"},
    "numbers": {Decimal("1.50"), Decimal(2), Decimal("-1E+20")},
    "binaries": {b"\x00", b"a"},
}
NUMBERS = [
    "12345678901234567890123456789012345678",
    "-0.12345678901234567890123456789012345678",
    "1E-130",
    "-1E-130",
    "9.9999999999999999999999999999999999999E+125",
    "1E+125",
    "1.2345678901234567890123456789012345678E-93",
    "0.00",
    "1.10",
    "1E+3",
]


def text_of(value: object) -> str:
    """The value as a script's text; Decimal is imported there."""
    return f"from decimal import Decimal\nVALUE = {value!r}\n"


# ---------------------------------------------------------------- names


def test_each_odd_name_is_set_changed_and_removed(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    for number, name in enumerate(NAMES):
        bench.tables.put(table, {"id": f"change-{number:02}", name: "old", "n": 1})
        bench.tables.put(table, {"id": f"remove-{number:02}", name: "old", "n": 1})
        bench.tables.put(table, {"id": f"set-{number:02}"})  # nothing but its key
    script = """
def transform_up(item):
    verb, _, number = item["id"].partition("-")
    name = VALUE[int(number)]
    if verb == "remove":
        del item[name]
        return item
    return {**item, name: "new"}
"""
    assert bench.run(table, text_of(NAMES) + script).changed == 3 * len(NAMES)
    found = {item.pop("id"): item for item in bench.tables.items(table)}
    for number, name in enumerate(NAMES):
        assert found[f"change-{number:02}"] == {name: "new", "n": 1}
        assert found[f"remove-{number:02}"] == {"n": 1}
        assert found[f"set-{number:02}"] == {name: "new"}


def test_all_odd_names_are_set_and_removed_in_one_item(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    before: list[Item] = [{"id": "1"}, {"id": "2", **dict.fromkeys(NAMES, "old")}]
    bench.tables.put(table, *before)
    bench.script(
        table,
        text_of(NAMES)
        + """
def transform_up(item):
    return {**item, **dict.fromkeys(VALUE, "new")}

def transform_down(item):
    kept = {"id": item["id"]}
    return kept if item["id"] == "1" else {**kept, **dict.fromkeys(VALUE, "old")}
""",
    )
    (report,) = bench.up(table)
    assert report.error is None and report.versions[0].counts == Counts(read=2, changed=2)
    assert bench.tables.items(table) == [{"id": number, **dict.fromkeys(NAMES, "new")} for number in "12"]
    (report,) = bench.down(table)
    assert report.error is None and bench.tables.items(table) == before


def test_odd_names_are_inserted_moved_and_deleted(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    odd = dict.fromkeys(NAMES, "x")
    bench.tables.put(table, {"id": "delete", **odd}, {"id": "move", **odd})
    script = """
from dynamodt import Delete
IDEMPOTENT = True

def transform_up(item):
    if item["id"] == "move":
        return {**item, "id": "moved"}
    return Delete() if item["id"] == "delete" else item

def items():
    yield {"id": "own", **dict.fromkeys(VALUE, "x")}
"""
    counts = bench.run(table, text_of(NAMES) + script)
    assert (counts.changed, counts.dead) == (3, 0)
    assert bench.tables.items(table) == [{"id": "own", **odd}, {"id": "moved", **odd}]


# ---------------------------------------------------------------- the guard holds whatever it is about


def written(endpoint: Endpoint, table: str, read: Item, result: Item, guard: Guard = "item") -> Verdict:
    """The outcome of the change from the image `read` to `result`."""
    spec, image = describe(endpoint.connection, table), encode(read)
    patch = change(spec, image, read, result)
    assert patch is not None
    return sent(endpoint, table, Statements(spec, guard).write(patch))


def sent(endpoint: Endpoint, table: str, request: Any) -> Verdict:
    wire = Wire(endpoint.connection, 1)
    writes = Writes(wire, table)
    answer = writes.batch([request])() if isinstance(request, Statement) else writes.single(request)()
    wire.close()
    return answer.verdicts[0]


@pytest.mark.parametrize("guard", ["item", "changed"])
def test_a_stale_read_is_refused_for_each_odd_name(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, guard: Guard
) -> None:
    table = make_table(id="S")
    for name in NAMES:
        live = {"id": "1", name: "live"}
        bench.tables.put(table, live)
        for read, result in (
            ({"id": "1", name: "old"}, {"id": "1", name: "new"}),  # changed meanwhile
            ({"id": "1", name: "old"}, {"id": "1"}),  # to be removed, but changed meanwhile
            ({"id": "1"}, {"id": "1", name: "new"}),  # added meanwhile
        ):
            verdict = written(endpoint, table, read, result, guard)
            assert verdict.outcome == "conflict", (name, read, result, verdict)
            assert verdict.image == encode(live)
        assert bench.tables.items(table) == [live]


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_stale_read_is_refused_for_each_type(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, name: str
) -> None:
    table = make_table(id="S")
    live = {"id": "1", **EVERYTHING}
    bench.tables.put(table, live)
    stale = {**live, name: {"other": 1} if name == "map" else [live[name]]}
    assert written(endpoint, table, stale, {**stale, "n": 1}).outcome == "conflict"
    bench.tables.put(table, live)
    assert written(endpoint, table, live, {**live, "n": 1}).outcome == "done"
    assert bench.tables.items(table) == [{**live, "n": 1}]


def test_an_update_of_a_deleted_item_is_refused(endpoint: Endpoint, bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    for read in ({"id": "1"}, {"id": "1", "n": 1}, {"id": "1", 'a "quote"': 1}):
        for result in ({"id": "1", "new": 1}, {"id": "1", "n": 2}, {"id": "1", 'a "quote"': 2}):
            assert written(endpoint, table, read, result).outcome == "conflict"
    assert bench.tables.items(table) == []


# ---------------------------------------------------------------- values


def test_every_type_is_kept_changed_and_removed(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "keep", **EVERYTHING}, {"id": "add"}, {"id": "nest", **EVERYTHING})
    script = """
def transform_up(item):
    if item["id"] == "keep":
        return {**item, "extra": 1}
    if item["id"] == "add":
        return {**item, **VALUE}
    return {"id": "nest", "all": dict(item), "list": [VALUE]}
"""
    assert bench.run(table, text_of(EVERYTHING) + script).changed == 3
    assert bench.tables.items(table) == [
        {"id": "add", **EVERYTHING},
        {"id": "keep", "extra": 1, **EVERYTHING},
        {"id": "nest", "all": {"id": "nest", **EVERYTHING}, "list": [EVERYTHING]},
    ]


def test_equal_values_in_another_notation_are_no_change(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "1", **EVERYTHING, "zero": 0})
    script = """
def transform_up(item):
    other = {**item, "number": Decimal("-1.25E+1"), "zero": Decimal("-0"), "strings": frozenset(item["strings"])}
    return {**other, "list": tuple(item["list"]), "numbers": {Decimal("1.5"), 2, Decimal("-100000000000000000000")}}
"""
    assert bench.run(table, text_of(None) + script) == Counts(read=1, unchanged=1)


def test_numbers_keep_every_digit(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N", sort="N")
    rows = [{"id": number, "sort": Decimal(text), "n": Decimal(text)} for number, text in enumerate(NUMBERS)]
    bench.tables.put(table, *rows)
    script = """
def transform_up(item, prepared):
    n = item["n"]
    return {**item, "copy": n, "list": [n], "set": {n, 7}, "less": -n, "sum": n + 0, "zero": Decimal("-0")}
"""
    assert bench.run(table, text_of(None) + script) == Counts(read=len(rows), changed=len(rows))
    for row, found in zip(rows, sorted(bench.tables.items(table), key=lambda item: item["id"]), strict=True):
        n = row["n"]
        assert found == {**row, "copy": n, "list": [n], "set": {n, 7}, "less": n.copy_negate(), "sum": n, "zero": 0}


# ---------------------------------------------------------------- deep, wide, large


def nested(levels: int, kind: str) -> Any:
    """This number of lists or maps within one another, with a string innermost."""
    value: Any = "bottom"
    for _ in range(levels):
        value = [value] if kind == "list" else {"in": value}
    return value


@pytest.mark.parametrize("kind", ["list", "map"])
def test_the_deepest_item_that_the_service_takes(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, kind: str
) -> None:
    """32 levels, including the item: both emulators refuse one more, and dynamodt refuses it first."""
    table = make_table(id="S")
    bench.tables.put(table, {"id": "1"}, {"id": "2", "deep": nested(31, kind)})
    with pytest.raises(endpoint.client.exceptions.ClientError, match=r"nested levels|path length"):
        bench.tables.put(table, {"id": "3", "deep": nested(32, kind)})
    script = "def transform_up(item):\n    return {**item, 'also': VALUE}\n"
    assert bench.run(table, text_of(nested(31, kind)) + script).changed == 2
    assert all(item["also"] == nested(31, kind) for item in bench.tables.items(table))


@pytest.mark.parametrize("kind", ["list", "map"])
def test_one_level_more_is_a_dead_letter(bench: Bench, make_table: MakeTable, kind: str) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "1"})
    script = "def transform_up(item):\n    return {**item, 'deep': VALUE}\n"
    report = bench.failed(table, text_of(nested(32, kind)) + script)
    (dead_letter,) = bench.dead_letters(report)
    assert "ItemError: deep" in dead_letter["error"] and "nested deeper than 32 levels" in dead_letter["error"]
    assert bench.tables.items(table) == [{"id": "1"}]


def wide(number: int, count: int, length: int) -> Item:
    """An item of this number of attributes, whose names have about this length."""
    return {"id": str(number), **{f"a{i:03}".ljust(length, "x"): f"{number}-{i}" for i in range(count)}}


WIDE_SCRIPT = """
def transform_up(item):
    names = sorted(item)
    result = {**item, names[0]: "changed", names[5]: "changed", "added": 1, 'added "too"': 2}
    del result[names[7]], result[names[8]]
    return result
"""


SHAPES = [(140, 4), (170, 4), (400, 4), (140, 40), (400, 40)]  # attributes, and about how long their names are


@pytest.mark.parametrize("guard", ["item", "changed"])
def test_wide_items_are_updated_by_statement_expression_or_legacy_conditions(
    bench: Bench, make_table: MakeTable, guard: Guard
) -> None:
    """The width decides which of the three is used."""
    table = make_table(id="S")
    before = [wide(number, count, length) for number, (count, length) in enumerate(SHAPES)]
    bench.tables.put(table, *before)
    assert bench.run(table, f'GUARD = "{guard}"\n{WIDE_SCRIPT}') == Counts(read=len(before), changed=len(before))
    assert bench.tables.items(table) == [wide_after(item) for item in before]


def wide_after(item: Item) -> Item:
    names = sorted(item)
    after = {**item, names[0]: "changed", names[5]: "changed", "added": 1, 'added "too"': 2}
    return {name: value for name, value in after.items() if name not in names[7:9]}


@pytest.mark.parametrize(("count", "length"), SHAPES)
def test_a_stale_read_of_a_wide_item_is_refused(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable, count: int, length: int
) -> None:
    table = make_table(id="S")
    live = wide(1, count, length)
    bench.tables.put(table, live)
    last = sorted(live)[count - 1]
    for stale in ({**live, last: "stale"}, {**live, "gone": 1}):
        assert written(endpoint, table, stale, {**stale, "n": 1}).outcome == "conflict"
    assert written(endpoint, table, {"id": "1"}, {"id": "1", last: 1}).outcome == "conflict"  # added meanwhile
    before = {name: value for name, value in live.items() if name != last}
    assert written(endpoint, table, before, {**before, last: 1}).outcome == "conflict"
    gone = {**live, "id": "2"}
    assert written(endpoint, table, gone, {**gone, "n": 1}).outcome == "conflict"  # deleted meanwhile
    removal = Remove(key_of(describe(endpoint.connection, table), encode(live)), encode({**live, last: "stale"}))
    assert removed(endpoint, table, removal).outcome == "conflict"
    assert bench.tables.items(table) == [live]
    assert removed(endpoint, table, removal._replace(read=encode(live))).outcome == "done"
    assert bench.tables.items(table) == []


def removed(endpoint: Endpoint, table: str, removal: Remove) -> Verdict:
    return sent(endpoint, table, Statements(describe(endpoint.connection, table)).write(removal))


def test_a_wide_item_that_no_transaction_can_guard_is_a_dead_letter(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    narrow, broad = wide(1, 20, 4), wide(2, 400, 4)
    bench.tables.put(table, narrow, broad)
    script = """
from dynamodt import Put

IDEMPOTENT = True
def transform_up(item):
    if item["id"] not in "12":
        return item
    return [{**item, "n": 1}, Put({"id": item["id"] + "-copy"})]
"""
    report = bench.failed(table, script, max_errors=1)
    (dead_letter,) = bench.dead_letters(report)
    assert dead_letter["key"] == {"id": {"S": "2"}} and "too many attributes for a transaction" in dead_letter["error"]
    assert 'GUARD = "changed"' in dead_letter["error"]
    assert bench.tables.items(table) == [{**narrow, "n": 1}, broad, {"id": "1-copy"}]
    assert bench.run(table, 'GUARD = "changed"\n' + script).dead == 0
    assert [item["id"] for item in bench.tables.items(table)] == ["1", "2", "1-copy", "2-copy"]


def test_a_page_of_items_near_the_size_limit_is_written(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    for number in range(25):
        bench.tables.put(table, {"id": str(number), "large": "x" * 390 * 1024, "n": number})
    script = """
def transform_up(item):
    if item["id"] == "7":
        return {**item, "large": "y" * len(item["large"])}
    return {**item, "n": item["n"] + 100}
"""
    assert bench.run(table, script) == Counts(read=25, changed=25)
    found = {item["id"]: item for item in bench.tables.items(table)}
    assert found["7"] == {"id": "7", "large": "y" * 390 * 1024, "n": 7}
    assert all(found[str(n)] == {"id": str(n), "large": "x" * 390 * 1024, "n": n + 100} for n in range(25) if n != 7)


def test_an_item_that_would_grow_too_large_is_a_dead_letter(bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="S")
    bench.tables.put(table, {"id": "large", "text": "é" * 100 * 1024}, {"id": "small", "text": "é"})
    script = 'def transform_up(item):\n    return {**item, "twice": item["text"] * 2}\n'
    report = bench.failed(table, script, max_errors=1)
    (dead_letter,) = bench.dead_letters(report)
    assert dead_letter["key"] == {"id": {"S": "large"}} and dead_letter["step"] == "transform"
    assert "DynamoDB keeps at most 409,600" in dead_letter["error"]
    assert bench.tables.items(table) == [
        {"id": "large", "text": "é" * 100 * 1024},
        {"id": "small", "text": "é", "twice": "éé"},
    ]


def test_the_computed_size_of_an_item_is_the_size_that_the_service_measures(
    endpoint: Endpoint, bench: Bench, make_table: MakeTable
) -> None:
    """For text, to the byte: the service refuses one byte more, too, so that no item that fits is refused."""
    table = make_table(id="S")
    fits = {"id": "1", "t": "x" * (400 * 1024 - len("id1t"))}
    bench.tables.put(table, fits)
    with pytest.raises(endpoint.client.exceptions.ClientError, match="size"):
        bench.tables.put(table, {"id": "2", "t": fits["t"] + "x"})
    spec, image = describe(endpoint.connection, table), encode({"id": "1"})
    assert change(spec, image, {"id": "1"}, fits) is not None
    with pytest.raises(ItemError, match="409,601"):
        change(spec, image, {"id": "1"}, {**fits, "t": fits["t"] + "x"})


@pytest.mark.endpoints("dynamodb-local")  # ministack does not measure the entries of indexes
def test_the_computed_size_with_entries_in_local_indexes_is_the_size_that_the_service_measures(
    endpoint: Endpoint, bench: Bench
) -> None:
    table, names = f"test_{uuid4().hex[:12]}", ("pk", "sk", "a", "b")
    index: Any = {"Projection": {"ProjectionType": "ALL"}}
    endpoint.client.create_table(
        TableName=table,
        KeySchema=_keys("pk", "sk"),
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in names],
        LocalSecondaryIndexes=[{"IndexName": f"by_{n}", "KeySchema": _keys("pk", n), **index} for n in ("a", "b")],
        BillingMode="PAY_PER_REQUEST",
    )
    spec = describe(endpoint.connection, table)
    for number, indexed in enumerate(({}, {"a": "1"}, {"a": "1", "b": "1"}), 1):
        item = {"pk": "1", "sk": "1", "t": "", **indexed}
        fits = {**item, "t": "x" * (400 * 1024 // number - image_bytes(encode(item)))}
        bench.tables.put(table, fits)
        with pytest.raises(endpoint.client.exceptions.ClientError, match="size"):
            bench.tables.put(table, {**fits, "t": fits["t"] + "x"})
        assert insert(spec, fits)
        with pytest.raises(ItemError, match="at most 409,600"):
            insert(spec, {**fits, "t": fits["t"] + "x"})
    endpoint.client.delete_table(TableName=table)


def _keys(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
