"""The author's function as a map from an item to its change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal, getcontext
from typing import Any

import pytest

from dynamodt import without
from dynamodt.errors import ItemError, ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Atomic, Check, Delete, Insert, Item, KeyAttribute, Put, Remove, TableSpec, Update
from dynamodt.script.apply import Apply
from dynamodt.script.codec import decode, encode
from dynamodt.script.diff import insert

USERS = TableSpec("users", (KeyAttribute("id", "S"),))
PEOPLE = TableSpec("people", (KeyAttribute("number", "N"),))
SCRIPT = Script("users", 1, "change", "transforms/users/v1_change.py", "", "")
RUN, EARLIER = "20260102T030405.678901Z-0a1b2c", "20250102T030405.678901Z-0a1b2c"
ITEM: Item = {"id": "u1", "n": 1, "old": None, "deep": {"list": [1]}}


class Returning:
    """A script's function that is given as a Python function."""

    def __init__(self, function: Callable[[Item], Any]) -> None:
        self.function = function

    def apply(self, item: Item, prepared: Mapping[Any, Any]) -> list[Item | Put | Delete]:
        result = self.function(item)
        return result if isinstance(result, list) else [result]


def change_of(function: Callable[[Item], Any], script: Script = SCRIPT, **more: Any) -> Any:
    return Apply(script, Returning(function), USERS, run=RUN, prepared={}, **more).change_of(encode(ITEM))


def test_one_dict_is_the_item_s_new_shape() -> None:
    found = change_of(lambda item: {**item, "n": 2})
    assert type(found) is Update and found.sets == {"n": {"N": "2"}}
    assert change_of(lambda item: item) is None


def test_a_script_may_alter_its_item_in_place() -> None:
    def alter(item: Item) -> Item:
        item["deep"]["list"].append(2)
        item["n"] = Decimal(2)
        item.pop("old")
        return item

    found = change_of(alter)
    assert found.removes == ("old",) and decode(found.sets) == {"n": 2, "deep": {"list": [1, 2]}}
    assert found.read == encode(ITEM)


def test_a_deletion_is_allowed_on_a_scan() -> None:
    assert change_of(lambda item: Delete()) == Remove(encode({"id": "u1"}), encode(ITEM))


OTHER_KEYS: list[Callable[[Item], Any]] = [
    lambda item: {**item, "id": "u2"},
    lambda item: Put({"id": "u2"}),
    lambda item: [item, Put({"id": "u2"})],
    lambda item: [Delete(), Put({"id": "u2"})],
]


@pytest.mark.parametrize("function", OTHER_KEYS, ids=["re-key", "put", "fan-out", "replace"])
def test_insertions_that_the_scan_would_read_need_idempotent(function: Callable[[Item], Any]) -> None:
    with pytest.raises(ScriptError, match="its own output") as caught:
        change_of(function)
    assert caught.value.where == f'{SCRIPT.path}: item {{"id": {{"S": "u1"}}}}' and "IDEMPOTENT" in caught.value.hint
    assert type(change_of(function, replace(SCRIPT, idempotent=True))) in (Atomic, Insert)
    assert type(change_of(function, snapshot=True)) in (Atomic, Insert)


@pytest.mark.parametrize("function", OTHER_KEYS, ids=["re-key", "put", "fan-out", "replace"])
def test_insertions_are_refused_with_a_final_scan(function: Callable[[Item], Any]) -> None:
    with pytest.raises(ScriptError, match="final scan") as caught:
        change_of(function, replace(SCRIPT, stamp="_mark"), snapshot=True, final_scan=True)
    assert caught.value.where.startswith(f"{SCRIPT.path}: item {{") and "--catch-up none" in caught.value.hint
    assert type(change_of(function, replace(SCRIPT, idempotent=True), snapshot=True, final_scan=True)) in (
        Atomic,
        Insert,
    )


@pytest.mark.parametrize("function", OTHER_KEYS, ids=["re-key", "put", "fan-out", "replace"])
def test_an_inserted_item_gets_the_stamp(function: Callable[[Item], Any]) -> None:
    found = change_of(function, replace(SCRIPT, stamp="_mark"), snapshot=True)
    inserts = [part for part in getattr(found, "parts", (found,)) if isinstance(part, Insert)]
    assert [part.item["_mark"] for part in inserts] == [{"S": RUN}]


def test_an_item_of_a_target_gets_no_stamp() -> None:
    """As `docs/scripts.md` says: it is recognised by its row."""
    found = change_of(lambda item: {"number": 1}, replace(SCRIPT, stamp="_mark"), target=PEOPLE)
    assert [part.item for part in found.parts if isinstance(part, Insert)] == [{"number": {"N": "1"}}]


def test_the_source_of_a_fan_out_gets_the_stamp_too() -> None:
    marked = replace(SCRIPT, stamp="_mark")
    found = change_of(lambda item: [{**item, "n": 2}, Put({"id": "u2"})], marked, snapshot=True)
    (update,) = [part for part in found.parts if isinstance(part, Update)]
    assert update.sets == {"n": {"N": "2"}, "_mark": {"S": RUN}}


def test_an_item_with_this_run_s_stamp_is_unchanged() -> None:
    marked = replace(SCRIPT, stamp="_mark")
    for mark, done in ((RUN, True), (EARLIER, False)):
        apply = Apply(marked, Returning(lambda item: {**item, "n": 2}), USERS, run=RUN, prepared={})
        assert (apply.change_of(encode({**ITEM, "_mark": mark})) is None) is done
    unmarked = Apply(SCRIPT, Returning(lambda item: {**item, "n": 2}), USERS, run=RUN, prepared={})
    assert unmarked.change_of(encode({**ITEM, "_mark": RUN})) is not None


def test_insertions_into_another_table_are_allowed_on_a_scan() -> None:
    source = {"id": {"S": "u1"}}
    found = change_of(lambda item: {"number": 7, "was": item["id"]}, target=PEOPLE)
    assert isinstance(found, Atomic) and found.key == source
    assert found.parts == (Check(source, found.read), insert(PEOPLE, {"number": 7, "was": "u1"}))
    put = change_of(lambda item: Put({"number": 7}), target=PEOPLE)
    assert isinstance(put, Atomic) and put.parts[1:] == (insert(PEOPLE, {"number": 7}),)
    assert change_of(lambda item: [], target=PEOPLE) is None


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda item: Delete(), "with TARGET_TABLE"),
        (lambda item: [{"number": 1}, Put({"number": 2})], "more than one item"),
        (lambda item: item, "key attribute with type N for table people"),
    ],
    ids=["delete", "several", "key"],
)
def test_a_result_that_the_target_cannot_hold_is_an_error(function: Callable[[Item], Any], what: str) -> None:
    with pytest.raises(ItemError, match=what):
        change_of(function, target=PEOPLE)


def test_a_stamp_is_set_only_with_another_change() -> None:
    marked = replace(SCRIPT, stamp="_mark")
    assert change_of(lambda item: {**item, "n": 2}, marked).sets == {"n": {"N": "2"}, "_mark": {"S": RUN}}
    assert change_of(lambda item: item, marked) is None
    assert change_of(lambda item: Delete(), marked) == Remove(encode({"id": "u1"}), encode(ITEM))
    apply = Apply(marked, Returning(lambda item: without(item, "_mark")), USERS, run=RUN, prepared={})
    assert apply.change_of(encode({**ITEM, "_mark": EARLIER})) is None


def apply_marked(function: Callable[[Item], Any], item: Item, **more: Any) -> Any:
    """The result of a script with a STAMP for an item."""
    marked = replace(SCRIPT, stamp="_mark")
    return Apply(marked, Returning(function), USERS, run=RUN, prepared={}, **more).change_of(encode(item))


@pytest.mark.parametrize(
    "held", ["Ann", "", None, 7, {"S": RUN}, {RUN}, [RUN], f"{RUN}x", f" {RUN}", f"{RUN}/retry1", RUN.upper()]
)
@pytest.mark.parametrize(
    "function", [lambda item: {**item, "n": 2}, lambda item: item, lambda item: Delete()], ids=["set", "same", "delete"]
)
def test_a_stamp_replaces_only_the_id_of_a_run(function: Callable[[Item], Any], held: Any) -> None:
    with pytest.raises(ItemError, match="STAMP would overwrite") as caught:
        apply_marked(function, {**ITEM, "_mark": held})
    assert caught.value.where == "_mark" and 'STAMP = "_dynamodt"' in caught.value.hint


@pytest.mark.parametrize(
    "function",
    [
        lambda item: {**item, "_mark": "mine"},
        lambda item: {**item, "id": "u2", "_mark": "mine"},
        lambda item: Put({"id": "u2", "_mark": "mine"}),
        lambda item: [{**item, "_mark": "mine"}, Put({"id": "u2"})],
    ],
    ids=["set", "re-key", "put", "fan-out"],
)
def test_a_script_that_writes_the_stamp_s_attribute_is_refused(function: Callable[[Item], Any]) -> None:
    with pytest.raises(ItemError, match="STAMP would overwrite"):
        apply_marked(function, ITEM, snapshot=True)


def test_an_earlier_run_s_stamp_is_replaced() -> None:
    found = apply_marked(lambda item: {**item, "n": 2}, {**ITEM, "_mark": EARLIER})
    assert found.sets == {"n": {"N": "2"}, "_mark": {"S": RUN}}
    assert apply_marked(lambda item: {**item, "id": "u2"}, {**ITEM, "_mark": EARLIER}, snapshot=True) is not None


def test_arithmetic_in_a_script_keeps_38_digits() -> None:
    digits = Decimal("1." + "3" * 37)
    image = encode({**ITEM, "n": digits})
    apply = Apply(SCRIPT, Returning(lambda item: {**item, "n": item["n"] * 3}), USERS, run=RUN, prepared={})
    before = getcontext().prec
    found = apply.change_of(image)
    assert isinstance(found, Update) and found.sets == {"n": {"N": "3." + "9" * 37}}
    assert getcontext().prec == before


@pytest.mark.parametrize(
    "function",
    [
        lambda item: {**item, "id": "u2"},
        lambda item: [item, Put({**item, "id": "u2"})],
        lambda item: Put({"id": "u2"}),
    ],
    ids=["move", "fan out", "put"],
)
def test_a_change_that_needs_a_transaction_is_an_item_error_where_there_are_none(
    function: Callable[[Item], Any],
) -> None:
    spec, script = replace(USERS, replicas=("us-east-1",), strong=True), replace(SCRIPT, idempotent=True)
    with pytest.raises(ItemError, match="needs a transaction") as caught:
        Apply(script, Returning(function), spec, run=RUN, prepared={}).change_of(encode(ITEM))
    assert caught.value.where == "table users"
    for plain in (lambda item: {**item, "n": 2}, lambda item: Delete()):
        assert Apply(script, Returning(plain), spec, run=RUN, prepared={}).change_of(encode(ITEM)) is not None
