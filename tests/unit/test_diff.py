"""The change between an image and a result, which is as small as possible."""

from __future__ import annotations

import copy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.errors import ItemError
from dynamodt.model.tables import (
    Atomic,
    Check,
    Delete,
    Index,
    IndexKey,
    Insert,
    Item,
    KeyAttribute,
    Put,
    Remove,
    TableSpec,
    Update,
)
from dynamodt.script.codec import MAX_ITEM_BYTES, decode, encode, encode_value, image_bytes, same, same_image
from dynamodt.script.diff import (
    change,
    combined_change,
    image_after,
    image_shows,
    insert,
    key_of,
    with_stamp,
    write_units,
)
from tests import strategies
from tests.strategies import pairs

USERS = TableSpec("users", (KeyAttribute("id", "S"),))
EVENTS = TableSpec("events", (KeyAttribute("pk", "S"), KeyAttribute("sk", "N")))


def diff(spec: TableSpec, before: Item, after: Item) -> Any:
    """As `Apply` calls it: the author is handed a copy of the decoded image."""
    image = encode(before)
    return change(spec, image, decode(image), after)


def update(before: Item, after: Item, spec: TableSpec = USERS) -> Update:
    found = diff(spec, before, after)
    assert type(found) is Update
    return found


def refused(spec: TableSpec, before: Item, after: Item) -> ItemError:
    with pytest.raises(ItemError) as caught:
        diff(spec, before, after)
    return caught.value


# ---------------------------------------------------------------- laws


@given(pairs())
def test_the_change_leads_from_one_to_the_other(pair: tuple[TableSpec, Item, Item]) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if found is None:
        assert same_image(encode(before), encode(after))
    else:
        assert same_image(image_after(found), encode(after))
        assert found.read == encode(before)
        assert found.key == key_of(spec, encode(before))


@given(pairs())
def test_the_change_is_minimal(pair: tuple[TableSpec, Item, Item]) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if found is not None:
        read = found.read
        assert all(name not in read or not same(read[name], value) for name, value in found.sets.items())
        assert all(name in read and name not in after for name in found.removes)
        assert len(set(found.removes)) == len(found.removes)
        assert not {*found.sets, *found.removes} & set(spec.key_names)
        assert found.sets or found.removes


@given(pairs())
def test_nothing_changes_from_an_item_to_itself(pair: tuple[TableSpec, Item, Item]) -> None:
    spec, before, _ = pair
    image = encode(before)
    item = decode(image)
    assert change(spec, image, item, item) is None
    assert change(spec, image, item, dict(item)) is None
    assert change(spec, image, item, copy.deepcopy(item)) is None
    assert change(spec, image, item, dict(reversed(item.items()))) is None


@given(pairs())
def test_a_change_and_its_reverse_restore_the_item(pair: tuple[TableSpec, Item, Item]) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if found is not None:
        image = image_after(found)
        back = change(spec, image, decode(image), before)
        assert same_image(image_after(back), encode(before))


@given(pairs())
def test_an_image_carries_a_change_after_it_is_made(pair: tuple[TableSpec, Item, Item]) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if found is not None:
        assert image_shows(found, image_after(found))
        assert not image_shows(found, found.read)
        for name in found.sets:
            assert not image_shows(found, {n: value for n, value in image_after(found).items() if n != name})
            assert not image_shows(found, {**image_after(found), name: {"S": "someone else's"}})
        for name in found.removes:
            assert not image_shows(found, {**image_after(found), name: found.read[name]})


@given(pairs(), st.data())
def test_carries_ignores_other_attributes(pair: tuple[TableSpec, Item, Item], data: st.DataObject) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if found is not None:
        others = {f"{name}~other": value for name, value in data.draw(strategies.attributes).items()}
        assert image_shows(found, {**image_after(found), **encode(others)})


# ---------------------------------------------------------------- examples


def test_only_changed_attributes_are_set_and_only_absent_ones_removed() -> None:
    before = {"id": "u1", "name": "Ada L", "n": 1, "tags": {"a", "b"}, "old": None}
    after = {"id": "u1", "name": "Ada", "n": 1, "tags": {"b", "a"}, "new": []}
    found = update(before, after)
    assert found.sets == {"name": {"S": "Ada"}, "new": {"L": []}}
    assert found.removes == ("old",)


def alter(item: Item, path: str) -> Item:
    """A change deep inside, made in place."""
    exec(f"item{path}")
    return item


@pytest.mark.parametrize(
    ("path", "touched"),
    [
        ('["deep"]["list"].append(1)', "deep"),
        ('["deep"]["list"][0].update(x=2)', "deep"),
        ('["tags"].add("new")', "tags"),
        ('["tags"].discard("a")', "tags"),
        ('["list"].clear()', "list"),
        ('["list"].reverse()', "list"),
    ],
)
def test_an_item_altered_in_place_is_a_change(path: str, touched: str) -> None:
    image = encode({"id": "u1", "deep": {"list": [{"x": 1}]}, "tags": {"a", "b"}, "list": [1, 2]})
    item = decode(image)
    found = change(USERS, image, item, alter(dict(item), path))
    assert type(found) is Update and set(found.sets) == {touched}
    assert same_image(image_after(found), encode(alter(decode(image), path)))


@pytest.mark.parametrize("path", ['["n"] += 0', '["list"].sort()', '["tags"].add("a")', '["deep"].update(list=[])'])
def test_an_alteration_without_effect_is_no_change(path: str) -> None:
    image = encode({"id": "u1", "n": 7, "deep": {"list": []}, "tags": {"a", "b"}, "list": [1, 2]})
    item = decode(image)
    assert change(USERS, image, item, alter(dict(item), path)) is None


@pytest.mark.parametrize("number", [1, Decimal("1.0"), Decimal("1E0"), Decimal("1.000E+0"), Decimal("0.1E1")])
@pytest.mark.parametrize("stored", ["1", "1.00", "1E0"])
def test_a_number_in_another_notation_is_no_change(number: Any, stored: str) -> None:
    inside = {"n": {"N": stored}, "l": {"L": [{"N": stored}]}, "s": {"NS": [stored]}, "m": {"M": {"n": {"N": stored}}}}
    image = {"id": {"S": "u1"}, **inside}
    result = {"id": "u1", "n": number, "l": [number], "s": {number}, "m": {"n": number}}
    assert change(USERS, image, decode(image), result) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, True), (True, 1), (0, False), ("1", 1), (1, "1"), (b"a", "a"), (None, False), ("", None), ([], {}),
     ({1}, [1]), ({"a"}, {b"a"}), ([1], [True]), ({"a": 1}, {"a": True}), ([1, 2], [2, 1])],
    ids=repr,
)  # fmt: skip
def test_another_type_is_a_change(before: Any, after: Any) -> None:
    found = update({"id": "u1", "x": before}, {"id": "u1", "x": after})
    assert found.sets == {"x": encode_value(after, "x")} and found.removes == ()


def test_an_attribute_that_cannot_be_stored_is_named() -> None:
    error = refused(USERS, {"id": "u1"}, {"id": "u1", "lines": [{"price": 1.5}]})
    assert error.where == "lines[0].price"


@pytest.mark.parametrize("name", [1, None, ("a",), ""], ids=repr)
def test_an_invalid_attribute_name_is_refused(name: Any) -> None:
    assert "attribute name must" in refused(USERS, {"id": "u1"}, {"id": "u1", name: "x"}).what


def test_an_unchanged_value_is_not_encoded() -> None:
    """Every item passes here: only replaced values are encoded."""
    image = encode({"id": "u1", "a": "x"})
    item = decode(image)
    image["a"] = {"S": "what only a comparison would notice"}
    assert change(USERS, image, item, dict(item)) is None


# ---------------------------------------------------------------- keys


def test_a_dropped_key_is_refused() -> None:
    error = refused(USERS, {"id": "u1", "n": 1}, {"n": 2})
    assert error.where == "id" and "missing from the result" in error.what


@pytest.mark.parametrize("value", [1, b"u1", None, True, ["u1"]], ids=repr)
def test_a_key_of_another_type_is_refused(value: Any) -> None:
    error = refused(USERS, {"id": "u1"}, {"id": value})
    assert error.where == "id" and "must stay of type S" in error.what


def test_a_key_that_cannot_be_stored_is_refused() -> None:
    assert refused(EVENTS, {"pk": "a", "sk": 1}, {"pk": "a", "sk": 1.5}).where == "sk"


@pytest.mark.parametrize("sk", [1, Decimal("1.0"), Decimal("1E0")])
def test_an_equal_key_number_is_no_rekey(sk: Any) -> None:
    assert diff(EVENTS, {"pk": "a", "sk": 1}, {"pk": "a", "sk": sk}) is None
    assert update({"pk": "a", "sk": 1}, {"pk": "a", "sk": sk, "n": 1}, EVENTS).key["sk"] == {"N": "1"}


@pytest.mark.parametrize("key", [{"pk": "b", "sk": 1}, {"pk": "a", "sk": 2}, {"pk": "b", "sk": 2}], ids=str)
def test_another_key_moves_the_item(key: Item) -> None:
    before = {"pk": "a", "sk": 1, "n": 1}
    after = {**key, "n": 2}
    found = diff(EVENTS, before, after)
    old = key_of(EVENTS, encode(before))
    assert found == Atomic(
        old, encode(before), (Insert("events", encode(key), encode(after)), Remove(old, encode(before)))
    )


@pytest.mark.parametrize(
    ("after", "where"), [({"pk": "b"}, "sk"), ({"pk": "b", "sk": "1"}, "sk"), ({"pk": "b", "sk": None}, "sk")]
)
def test_a_rekey_needs_the_whole_key(after: Item, where: str) -> None:
    assert refused(EVENTS, {"pk": "a", "sk": 1}, after).where == where


# ---------------------------------------------------------------- sizes


def test_an_item_of_400_kb_is_accepted_and_one_byte_more_refused() -> None:
    item = {"id": "u1", "a": "x" * 100_000, "b": ""}
    room = MAX_ITEM_BYTES - image_bytes(encode(item))
    found = update(item, {**item, "b": "x" * room})
    assert image_bytes(image_after(found)) == MAX_ITEM_BYTES
    error = refused(USERS, item, {**item, "b": "x" * (room + 1)})
    assert "409,601 bytes" in error.what and "409,600" in error.what
    with pytest.raises(ItemError, match="409,601"):
        insert(USERS, {**item, "b": "x" * (room + 1)})


LOCAL = replace(
    EVENTS, projections=(Index("by_day", ("pk", "day"), None, local=True), Index("by_day_of_all", ("day",)))
)


def test_the_entry_in_a_local_index_counts_to_the_size_of_an_item() -> None:
    """It has all attributes of the item, so that half of the size is left. One in a global index does not count."""
    item = {"pk": "a", "sk": 1, "day": "x", "b": ""}
    room = (MAX_ITEM_BYTES - 2 * image_bytes(encode(item))) // 2
    assert insert(LOCAL, {**item, "b": "x" * room}).item["b"] == {"S": "x" * room}
    assert diff(LOCAL, item, {**item, "b": "x" * room})
    with pytest.raises(ItemError, match="409,602 bytes with its entries in the local indexes; "):
        insert(LOCAL, {**item, "b": "x" * (room + 1)})
    error = refused(LOCAL, {**item, "b": "x" * (room - 1)}, {**item, "b": "x" * (room + 1)})
    assert "409,602 bytes with its entries" in error.what
    without = {name: value for name, value in item.items() if name != "day"}
    assert insert(LOCAL, {**without, "b": "x" * 2 * room})  # it is not in the index
    assert "entries" in refused(LOCAL, {**without, "b": "x" * 2 * room}, {**item, "b": "x" * 2 * room}).what


def test_a_stamp_in_a_local_index_counts_twice() -> None:
    item = {"pk": "a", "sk": 1, "day": "x", "b": "x" * 204_780}
    found = diff(LOCAL, {**item, "b": ""}, item)
    with pytest.raises(ItemError, match="local indexes"):
        with_stamp(LOCAL, found, "mark", {"S": "20260131"})


def test_a_removal_reduces_the_size() -> None:
    item = {"id": "u1", "a": "x" * 300_000}
    assert update(item, {"id": "u1", "b": "y" * 300_000}).removes == ("a",)


@pytest.mark.parametrize(("attribute", "most"), [("pk", 2048), ("sk", 1024)])
def test_a_key_has_its_own_limit(attribute: str, most: int) -> None:
    spec = TableSpec("events", (KeyAttribute("pk", "S"), KeyAttribute("sk", "S")))
    key = {"pk": "a", "sk": "b"}
    assert insert(spec, {**key, attribute: "é" * (most // 2)}).key[attribute] == {"S": "é" * (most // 2)}
    for value in ("", "é" * (most // 2) + "x"):
        with pytest.raises(ItemError) as caught:
            insert(spec, {**key, attribute: value})
        assert caught.value.where == attribute and "key attribute" in caught.value.what
        assert refused(spec, key, {**key, attribute: value}).where == attribute


def test_a_key_number_may_be_zero() -> None:
    assert insert(EVENTS, {"pk": "a", "sk": 0}).key["sk"] == {"N": "0"}


@pytest.mark.parametrize(
    ("number", "stored"),
    [("101.00", "101"), ("2E+2", "200"), ("-0.50", "-0.5"), ("1E-3", "0.001"), ("-0", "0"), ("9" * 38, "9" * 38)],
)
def test_a_number_in_a_new_key_has_the_form_in_which_it_is_stored(number: str, stored: str) -> None:
    """ministack finds no item by another form: an undo would report a moved item as gone."""
    part = insert(EVENTS, {"pk": "a", "sk": Decimal(number)})
    assert part.key["sk"] == part.item["sk"] == {"N": stored}


# ---------------------------------------------------------------- several results


BEFORE = {"id": "u1", "n": 1}


def several(*results: Any) -> Any:
    image = encode(BEFORE)
    return combined_change(USERS, image, decode(image), results)


def test_a_single_result_is_no_transaction() -> None:
    assert several(dict(BEFORE)) is None
    assert several(Delete()) == Remove(key_of(USERS, encode(BEFORE)), encode(BEFORE))


def test_several_results_are_one_transaction() -> None:
    found = several({**BEFORE, "n": 2}, Put({"id": "u2"}), Put({"id": "u3"}))
    assert [type(part) for part in found.parts] == [Update, Insert, Insert]
    assert found.key == {"id": {"S": "u1"}} and found.read == encode(BEFORE)


def test_a_rekey_among_several_results_is_one_flat_transaction() -> None:
    found = several({**BEFORE, "id": "u9"}, Put({"id": "u2"}))
    assert [type(part) for part in found.parts] == [Insert, Remove, Insert]


def test_an_insertion_beside_an_item_is_conditional_on_the_item() -> None:
    key, read = key_of(USERS, encode(BEFORE)), encode(BEFORE)
    assert several(dict(BEFORE), Put({"id": "u2"})).parts == (Check(key, read), insert(USERS, {"id": "u2"}))
    assert several(Put({"id": "u2"})).parts == (Check(key, read), insert(USERS, {"id": "u2"}))


def test_a_transaction_has_at_most_49_new_items() -> None:
    """Each has a row of the state table beside it."""
    puts = [Put({"id": f"new{number}"}) for number in range(50)]
    assert len(several(*puts[1:]).parts) == 50
    assert len(several(Delete(), *puts[1:]).parts) == 50
    with pytest.raises(ItemError, match="50 new items"):
        several(Delete(), *puts)
    with pytest.raises(ItemError, match="50 new items"):
        several({**BEFORE, "id": "u9"}, *puts[1:])


def test_two_new_items_of_one_key_are_refused() -> None:
    with pytest.raises(ItemError, match="two new items have one key") as caught:
        several(Put({"id": "u2", "n": 1}), Put({"id": "u2", "n": 2}))
    assert caught.value.where == "id = 'u2'"


def test_an_insertion_with_its_source_s_key_is_refused() -> None:
    assert several(Put(dict(BEFORE))) is None
    with pytest.raises(ItemError, match="the key of the item itself"):
        several(Put({**BEFORE, "n": 2}))


@pytest.mark.parametrize("others", [(), (Put({"id": "u2"}),)], ids=["alone", "beside another"])
def test_an_item_is_not_both_put_and_deleted(others: tuple[Put, ...]) -> None:
    """As by a script that gives items another key, which this one has already."""
    for results in ((Put(dict(BEFORE)), *others, Delete()), (Delete(), *others, Put(dict(BEFORE)))):
        with pytest.raises(ItemError, match="the key of the item itself") as caught:
            several(*results)
        assert "without Delete()" in caught.value.hint


def test_a_put_without_its_key_is_refused() -> None:
    with pytest.raises(ItemError, match="type S for table users") as caught:
        several(Put({"name": "x"}))
    assert caught.value.where == "id"


# ---------------------------------------------------------------- the run's mark


@given(pairs(), strategies.names.map(lambda name: name + "_mark"))
def test_a_stamp_adds_only_its_attribute(pair: tuple[TableSpec, Item, Item], mark: str) -> None:
    spec, before, after = pair
    found = diff(spec, before, after)
    if type(found) is Update:
        marked = with_stamp(spec, found, mark, {"S": "run"})
        assert marked.sets[mark] == {"S": "run"}
        assert same_image(image_after(marked), {**encode(after), mark: {"S": "run"}})


def test_a_stamp_is_never_removed() -> None:
    found = update({"id": "u1", "mark": "old", "n": 1}, {"id": "u1"})
    assert found.removes == ("mark", "n")
    marked = with_stamp(USERS, found, "mark", {"S": "new"})
    assert marked.removes == ("n",) and marked.sets == {"mark": {"S": "new"}}


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(
    ("before", "after", "units"),
    [(10, 10, 1), (1000, 10, 1), (10, 1100, 2), (1100, 10, 2), (2100, 2100, 3)],
)
def test_a_write_costs_the_larger_of_before_and_after(before: int, after: int, units: int) -> None:
    found = update({"id": "u1", "a": "x" * before}, {"id": "u1", "a": "y" * after})
    assert write_units(found) == units
    assert write_units(Remove(found.key, found.read)) == -(-(before + 5) // 1024)


def test_a_transaction_costs_double() -> None:
    assert write_units(several(Put({"id": "u2", "a": "x" * 2000}), Delete())) == 2 * (2 + 1)
    assert write_units(several(Put({"id": "u2"}))) == 2 * (1 + 1)  # with the check of its source
    assert write_units(insert(USERS, {"id": "u2", "a": "x" * 2000})) == 2 * 2  # with its row


# ---------------------------------------------------------------- keys of indexes

INDEXED = TableSpec(
    "users",
    (KeyAttribute("id", "S"),),
    index_keys=(
        IndexKey("email", "S", 2048, "by-email"),
        IndexKey("at", "N", 1024, "by-email"),
        IndexKey("email", "S", 1024, "by-town"),
        IndexKey("raw", "B", 1024, "by-raw"),
        IndexKey("id", "S", 1024, "by-town"),
    ),
)
BAD: list[tuple[str, Any, str]] = [
    ("email", 1, "by-email of table users, which takes type S, not N"),
    ("email", None, "by-email of table users, which takes type S, not NULL"),
    ("email", "", "by-email of table users, which takes no empty value"),
    ("email", "x" * 2049, "by-email of table users, which takes at most 2,048 bytes, not 2,049"),
    ("email", "\u00fc" * 513, "by-town of table users, which takes at most 1,024 bytes, not 1,026"),
    ("at", "1", "by-email of table users, which takes type N, not S"),
    ("raw", b"", "by-raw of table users, which takes no empty value"),
    ("raw", "x", "by-raw of table users, which takes type B, not S"),
    ("raw", b"x" * 1025, "by-raw of table users, which takes at most 1,024 bytes, not 1,025"),
]


@pytest.mark.parametrize(("name", "value", "what"), BAD, ids=str)
def test_a_value_that_an_index_refuses_is_an_item_error(name: str, value: Any, what: str) -> None:
    item: Item = {"id": "a", "email": "a@b", "other": 1}
    changed = {**item, name: value}
    for found in (
        lambda: change(INDEXED, encode(item), item, changed),
        lambda: change(INDEXED, encode(item), item, {**changed, "id": "b"}),
        lambda: insert(INDEXED, changed),
        lambda: combined_change(INDEXED, encode(item), item, [item, Put({**changed, "id": "c"})]),
    ):
        with pytest.raises(ItemError) as caught:
            found()
        assert (
            what in caught.value.what and caught.value.where == name and "leave the attribute out" in caught.value.hint
        )


def test_an_index_accepts_the_longest_value_and_an_absent_one() -> None:
    item: Item = {"id": "a", "email": "x", "at": 1, "raw": b"x"}
    most = {"id": "a", "email": "x" * 1024, "at": Decimal("-1" + "1" * 37), "raw": b"x" * 1024}
    assert change(INDEXED, encode(item), item, most) is not None
    assert change(INDEXED, encode(item), item, {"id": "a"}) is not None
    assert insert(INDEXED, most).item == encode(most) and insert(INDEXED, {"id": "a"})


def test_a_key_of_the_table_that_is_too_long_for_an_index_is_an_item_error() -> None:
    with pytest.raises(ItemError, match="by-town"):
        insert(INDEXED, {"id": "x" * 1025})


def test_unchanged_attributes_are_not_checked_against_indexes() -> None:
    """An index that was added later does not contain such an item."""
    item: Item = {"id": "a", "email": "", "n": 1}
    found = change(INDEXED, encode(item), item, {**item, "n": 2})
    assert isinstance(found, Update) and found.sets == {"n": {"N": "2"}}


@pytest.mark.parametrize(("name", "value", "_"), BAD)
def test_an_unchanged_result_may_have_a_value_that_an_index_refuses(name: str, value: Any, _: str) -> None:
    """Nothing is written, and such an item may be older than the index."""
    item = {"id": "a", name: value}
    assert combined_change(INDEXED, encode(item), item, [Put(dict(item))]) is None
    with pytest.raises(ItemError, match="which takes"):
        combined_change(INDEXED, encode(item), item, [Put({**item, "id": "b"})])
