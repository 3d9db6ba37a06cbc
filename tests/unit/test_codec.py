"""Attribute values to Python and back: nothing is lost or confused, and a value that cannot be stored is named by its
path."""

from __future__ import annotations

import collections
import enum
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynamodt.errors import ItemError
from dynamodt.model.tables import AttributeValue, Image, Item
from dynamodt.script import codec
from dynamodt.script.codec import decode, decode_value, encode, encode_value, image_bytes, same, same_image
from tests import strategies


def typed(value: Any) -> Any:
    """A value in a form that compares types too: True is not 1, and {True} is not {1}."""
    if isinstance(value, dict):
        return "dict", tuple(sorted((name, typed(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return "list", tuple(map(typed, value))
    if isinstance(value, set):
        return "set", frozenset(map(typed, value))
    return type(value).__name__, value


def as_the_service_says(value: AttributeValue) -> AttributeValue:
    """Numbers in full and without zeros at their ends, sets in another order."""
    ((kind, raw),) = value.items()
    if kind == "M":
        return {kind: {name: as_the_service_says(inner) for name, inner in raw.items()}}
    if kind == "L":
        return {kind: list(map(as_the_service_says, raw))}
    if kind == "N":
        return {kind: in_full(raw)}
    if kind in ("SS", "BS", "NS"):
        return {kind: [in_full(one) if kind == "NS" else one for one in reversed(raw)]}
    return value


def in_full(number: str) -> str:
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


few: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([True, False, None, "", "1", b"1", Decimal(1), Decimal("1.0"), Decimal(0), {Decimal(1)}, {"1"}]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=3,
)

# ---------------------------------------------------------------- there and back


@given(strategies.attributes)
def test_decode_undoes_encode(item: Item) -> None:
    assert typed(decode(encode(item))) == typed(item)


@given(strategies.attributes)
def test_encode_undoes_decode_however_the_service_writes_it(item: Item) -> None:
    image = {name: as_the_service_says(value) for name, value in encode(item).items()}
    assert same_image(encode(decode(image)), image)


@given(strategies.values)
def test_a_value_alone_is_the_value_in_an_item(value: Any) -> None:
    encoded = encode_value(value, "x")
    assert encode({"x": value}) == {"x": encoded}
    assert typed(decode_value(encoded)) == typed(value)


@given(strategies.wide_numbers)
def test_every_digit_of_a_number_is_kept(number: Decimal) -> None:
    (text,) = encode_value(number, "n").values()
    assert Decimal(text) == number
    assert Decimal(in_full(text)) == number


class Colour(str, enum.Enum):  # noqa: UP042 - authors have the older form too
    RED = "red"


class Size(enum.IntEnum):
    LARGE = 3


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (3, {"N": "3"}),
        (-(10**38 - 1), {"N": "-" + "9" * 38}),
        (Size.LARGE, {"N": "3"}),
        (Decimal("-0.0"), {"N": "0"}),
        (Decimal("0E-200"), {"N": "0"}),
        (True, {"BOOL": True}),
        (Colour.RED, {"S": "red"}),
        ((1, "a"), {"L": [{"N": "1"}, {"S": "a"}]}),
        (Point(1, 2), {"L": [{"N": "1"}, {"N": "2"}]}),
        (frozenset({"b", "a"}), {"SS": ["a", "b"]}),
        ({1, 2}, {"NS": ["1", "2"]}),
        ({Colour.RED, "a"}, {"SS": ["a", "red"]}),
        (bytearray(b"a"), {"B": "YQ=="}),
        (Binary(b"a"), {"B": "YQ=="}),
        ({Binary(b"a")}, {"BS": ["YQ=="]}),
        ({""}, {"SS": [""]}),
        (collections.OrderedDict(a=1), {"M": {"a": {"N": "1"}}}),
        ({}, {"M": {}}),
        ([], {"L": []}),
        ("", {"S": ""}),
        (b"", {"B": ""}),
        (None, {"NULL": True}),
    ],
    ids=repr,
)
def test_other_accepted_python_values(given: Any, expected: AttributeValue) -> None:
    encoded = encode_value(given, "x")
    assert encoded == expected
    assert all(type(inner) in (str, bool, list, dict) for inner in encoded.values())


@pytest.mark.parametrize("number", ["1E+125", "1E+50", "-9." + "9" * 37 + "E+125"])
def test_a_large_number_comes_back_in_full_and_goes_out_again(number: str) -> None:
    image = {"n": {"N": in_full(number)}}
    assert len(image["n"]["N"]) > 38
    assert same_image(encode(decode(image)), image)
    assert encode({"n": int(Decimal(number))}) == encode(decode(image))


# ---------------------------------------------------------------- refusals


def nested(levels: int, leaf: Any) -> Any:
    value = leaf
    for _ in range(levels):
        value = [value]
    return value


REFUSALS: list[tuple[Item, str, str]] = [
    ({"price": 1.5}, "price", "float 1.5"),
    ({"a": {"lines": ["x", "y", 0.5]}}, "a.lines[2]", "float"),
    ({"a": {"b c": [{"d": 1.0}]}}, "a.b c[0].d", "float"),
    ({"a": float("nan")}, "a", "nan is not a number"),
    ({"a": [float("-inf")]}, "a[0]", "-inf is not a number"),
    ({"a": Decimal("NaN")}, "a", "NaN is not a number"),
    ({"a": Decimal("sNaN")}, "a", "sNaN is not a number"),
    ({"a": {"b": Decimal("Infinity")}}, "a.b", "Infinity is not a number"),
    ({"a": Decimal("1." + "1" * 38)}, "a", "would lose precision"),
    ({"a": 10**38 + 1}, "a", "would lose precision"),
    ({"a": 7 ** (10**4)}, "a", "would lose precision"),
    ({"a": Decimal("1E+126")}, "a", "would lose precision"),
    ({"a": Decimal("1E-131")}, "a", "would lose precision"),
    ({"a": Decimal("1.5E-131")}, "a", "would lose precision"),
    ({"a": {Decimal("1E+126"), Decimal(1)}}, "a{}", "would lose precision"),
    ({"tags": set()}, "tags", "empty set"),
    ({"a": [frozenset()]}, "a[0]", "empty set"),
    ({"tags": {1, "a"}}, "tags", "one type, not N, S together"),
    ({"tags": {b"a", "a"}}, "tags", "one type, not B, S together"),
    ({"tags": {True}}, "tags", "one type, not BOOL"),
    ({"tags": {None, "a"}}, "tags", "one type"),
    ({"tags": {(1, 2)}}, "tags", "one type, not L"),
    ({"tags": {frozenset({1})}}, "tags", "one type, not NS"),
    ({"tags": {1.5}}, "tags{}", "float"),
    ({"a": {1: "x"}}, "a.1", "must be a string, not int"),
    ({1: "x"}, "1", "must be a string, not int"),  # type: ignore[dict-item]
    ({None: "x"}, "None", "must be a string, not NoneType"),  # type: ignore[dict-item]
    ({"": "x"}, "", "must not be empty"),
    ({"é" * 32_768: "x"}, "é" * 120, "65,536 bytes"),
    ({"a": [{"": "x"}]}, "a[0].", "must not be empty"),
    ({"a": object()}, "a", "type object"),
    ({"a": [1 + 2j]}, "a[0]", "type complex"),
    ({"a": {"b": memoryview(b"")}}, "a.b", "type memoryview"),
    ({"a": ["half \ud83d"]}, "a[0]", "surrogate"),
    ({"a": {"x\udfff": 1}}, "'a.x\\udfff'", "surrogate"),
    ({"a": nested(32, 1)}, "a" + "[0]" * 31, "nested deeper than 32"),
]


@pytest.mark.parametrize(("item", "path", "what"), REFUSALS, ids=[f"{path}: {what}" for _, path, what in REFUSALS])
def test_a_value_that_cannot_be_stored_is_named_by_its_path(item: Item, path: str, what: str) -> None:
    with pytest.raises(ItemError) as caught:
        encode({"fine": "x", **item})
    assert caught.value.where == path
    assert what in caught.value.what
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [0.1, 1e300, -2.5e-7])
def test_the_hint_for_a_float_is_valid_python(value: float) -> None:
    with pytest.raises(ItemError) as caught:
        encode({"a": value})
    assert f'Decimal("{value!r}")' in caught.value.hint
    assert (
        encode({"a": Decimal(repr(value))}) == {"a": {"N": str(Decimal(repr(value)))}} if abs(value) < 1e125 else True
    )


@pytest.mark.parametrize("leaf", [1, "x", None, {1}])
def test_thirty_two_levels_with_the_item_are_taken(leaf: Any) -> None:
    encode({"a": nested(31, leaf)})
    with pytest.raises(ItemError, match="nested deeper"):
        encode({"a": nested(31, [])})


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ItemError, match="nested deeper"):
        encode({"a": endless})


# ---------------------------------------------------------------- equality


@given(strategies.values | few, strategies.values | few)
def test_same_is_equality_of_values_and_types(one: Any, other: Any) -> None:
    equal = typed(one) == typed(other)
    assert same(encode_value(one, "x"), encode_value(other, "x")) is equal


@settings(max_examples=150)
@given(few, few, few)
def test_same_is_an_equivalence(a: Any, b: Any, c: Any) -> None:
    one, two, three = (encode_value(value, "x") for value in (a, b, c))
    assert same(one, one)
    assert same(one, two) is same(two, one)
    if same(one, two) and same(two, three):
        assert same(one, three)


@given(strategies.values)
def test_same_ignores_the_notation_of_a_value(value: Any) -> None:
    encoded = encode_value(value, "x")
    assert same(encoded, as_the_service_says(encoded))
    assert same(as_the_service_says(encoded), encoded)


@given(strategies.attributes, strategies.attributes)
def test_same_image_is_equality_of_items(one: Item, other: Item) -> None:
    assert same_image(encode(one), encode(other)) is (typed(one) == typed(other))


@given(strategies.attributes, strategies.names)
def test_same_image_sees_a_missing_attribute(item: Item, name: str) -> None:
    assume(name not in item)
    assert not same_image(encode(item), encode({**item, name: None}))
    assert not same_image(encode({**item, name: None}), encode(item))


@given(strategies.attributes, strategies.attributes)
def test_an_image_digest_is_equality_of_items(one: Item, other: Item) -> None:
    equal = codec.image_digest(encode(one)) == codec.image_digest(encode(other))
    assert equal is same_image(encode(one), encode(other))
    assert codec.image_digest(encode(decode(encode(one)))) == codec.image_digest(encode(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": ["x", "y"]}, {"a": ["x,S:y"]}),
        ({"a": ["x", "y"]}, {"a": ["x','S:'y"]}),
        ({"a": {"b": "1", "c": "2"}}, {"a": {"b": "1,'c'=S:'2'"}}),
        ({"a": {"b": {}, "c": []}}, {"a": {"b": {"c": []}}}),
        ({"a": [["x"], []]}, {"a": [["x", []]]}),
    ],
)
def test_an_image_digest_distinguishes_structures(one: Item, other: Item) -> None:
    assert codec.image_digest(encode(one)) != codec.image_digest(encode(other))


@pytest.mark.parametrize("within", [lambda value: [value], lambda value: {"prev": value}])
def test_the_input_of_a_digest_grows_linearly_with_depth(within: Any) -> None:
    value: Any = 'it\'s "quoted"'
    lengths = []
    for _ in range(12):
        lengths.append(len(codec._canonical(encode_value(value, "a"))))
        value = within(value)
    assert len({deeper - length for length, deeper in pairwise(lengths)}) == 1


CONFUSABLE = [
    {"N": "1"}, {"S": "1"}, {"B": "MQ=="}, {"BOOL": True}, {"BOOL": False}, {"NULL": True}, {"L": [{"N": "1"}]},
    {"NS": ["1"]}, {"SS": ["1"]}, {"BS": ["MQ=="]}, {"M": {}}, {"L": []}, {"S": ""}, {"B": ""}, {"N": "0"},
    {"L": [{"BOOL": True}]}, {"L": [{"S": "1"}]}, {"M": {"a": {"N": "1"}}}, {"M": {"a": {"BOOL": True}}},
]  # fmt: skip


@pytest.mark.parametrize("one", CONFUSABLE, ids=str)
def test_types_are_never_confused(one: AttributeValue) -> None:
    assert [other for other in CONFUSABLE if same(one, other)] == [one]


@given(strategies.values | few, strategies.values | few)
def test_holds_is_never_true_for_different_values(one: Any, other: Any) -> None:
    if codec.holds(encode_value(one, "x"), other):
        assert same(encode_value(one, "x"), encode_value(other, "x"))


@given(strategies.values)
def test_holds_is_true_for_an_unchanged_value(value: Any) -> None:
    assert codec.holds(encode_value(value, "x"), value)


@pytest.mark.parametrize(
    ("stored", "value"),
    [({"N": "1"}, True), ({"NS": ["1"]}, {True}), ({"L": [{"N": "1"}]}, [True]), ({"BOOL": True}, 1),
     ({"M": {"a": {"N": "1"}}}, {"a": 1.0}), ({"N": "1"}, 1.0), ({"NS": ["1"]}, {1.0}), ({"SS": ["a"]}, ["a"]),
     ({"L": [{"S": "a"}]}, ["a", "b"]), ({"M": {"a": {"S": "a"}}}, {"a": "a", 1: "b"}), ({"NULL": True}, False)],
    ids=str,
)  # fmt: skip
def test_holds_distinguishes_values_that_python_treats_as_equal(stored: AttributeValue, value: Any) -> None:
    assert not codec.holds(stored, value)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ({}, 0),
        ({"id": {"S": "u1"}}, 2 + 2),
        ({"naïve": {"S": "🙂"}}, 6 + 4),  # UTF-8 bytes, of the name too
        ({"n": {"N": "7"}}, 1 + 1 + 1),  # a byte for two digits, and one more
        ({"n": {"N": "12"}}, 1 + 1 + 1),
        ({"n": {"N": "123"}}, 1 + 2 + 1),
        ({"n": {"N": "-123"}}, 1 + 2 + 1 + 1),
        ({"n": {"N": "-1"}}, 1 + 3),  # a byte for the sign
        ({"n": {"N": "3.14159"}}, 1 + 5),  # the digits before the point and after it apart
        ({"n": {"N": "1.5"}}, 1 + 3),
        ({"n": {"N": "15E-1"}}, 1 + 3),
        ({"n": {"N": "1.200"}}, 1 + 3),
        ({"n": {"N": "0.0000001"}}, 1 + 2),
        ({"n": {"N": "1E-100"}}, 1 + 2),
        ({"n": {"N": "0042"}}, 1 + 2),
        ({"n": {"N": "1010"}}, 1 + 3),
        ({"n": {"N": "0"}}, 1 + 1),
        ({"n": {"N": "1200000"}}, 1 + 1 + 1),  # zeros at the ends are trimmed
        ({"n": {"N": "0.0012"}}, 1 + 1 + 1),
        ({"n": {"N": "1.2E+30"}}, 1 + 1 + 1),
        ({"n": {"N": "1" * 38}}, 1 + 19 + 1),
        ({"b": {"B": "AQID"}}, 1 + 3),  # the raw bytes, not their base64 text
        ({"b": {"B": "AQI="}}, 1 + 2),
        ({"b": {"B": "AQ=="}}, 1 + 1),
        ({"b": {"B": ""}}, 1),
        ({"t": {"BOOL": False}, "u": {"NULL": True}}, 1 + 1 + 1 + 1),
        ({"l": {"L": []}, "m": {"M": {}}}, 1 + 3 + 1 + 3),
        ({"l": {"L": [{"S": "ab"}, {"BOOL": True}]}}, 1 + 3 + (2 + 1) + (1 + 1)),
        ({"m": {"M": {"ab": {"S": "c"}, "d": {"N": "1"}}}}, 1 + 3 + (2 + 1 + 1) + (1 + 2 + 1)),
        ({"m": {"M": {"l": {"L": [{"NULL": True}]}}}}, 1 + 3 + 1 + (1 + 3 + (1 + 1))),
        ({"s": {"SS": ["a", "🙂"]}}, 1 + 1 + 4),
        ({"s": {"NS": ["1", "123"]}}, 1 + 2 + 3),
        ({"s": {"BS": ["AQ==", "AQID"]}}, 1 + 1 + 3),
    ],
    ids=str,
)
def test_sizes_are_as_aws_counts_them(image: Image, size: int) -> None:
    assert image_bytes(image) == size


@given(strategies.attributes, strategies.attributes)
def test_sizes_add_up(one: Item, other: Item) -> None:
    assume(not one.keys() & other.keys())
    assert image_bytes(encode({**one, **other})) == image_bytes(encode(one)) + image_bytes(encode(other))


@given(strategies.attributes)
def test_a_size_does_not_depend_on_how_a_value_is_written(item: Item) -> None:
    image = encode(item)
    assert image_bytes({name: as_the_service_says(value) for name, value in image.items()}) == image_bytes(image)


def many(name: str, value: Any) -> Item:
    """Thousands of attributes, up to one byte or a little more than an item may have."""
    one = image_bytes(encode({"00000" + name: value}))
    return {f"{number:05}{name}": value for number in range(codec.MAX_ITEM_BYTES // one + 1)}


@pytest.mark.parametrize(
    "item",
    [
        {"a": "x" * codec.MAX_ITEM_BYTES},
        {"a": "🙂" * (codec.MAX_ITEM_BYTES // 4)},
        {"a": b"x" * codec.MAX_ITEM_BYTES},
        {"a": [True] * (codec.MAX_ITEM_BYTES // 2)},
        {"a": [[]] * (codec.MAX_ITEM_BYTES // 4)},
        {"a": ["🙂"] * (codec.MAX_ITEM_BYTES // 5)},
        {"a": many("🙂", None)},
        {"a": {Decimal(f"0.{number:05}{'1' * 33}") for number in range(codec.MAX_ITEM_BYTES // 19)}},
        many("", Decimal("1." + "1" * 37)),
        many("", {}),
        many("🙂🙂🙂🙂🙂🙂🙂🙂", True),
        many("", {b"xxxx"}),
    ],
    ids=lambda item: repr(item)[:50],
)
def test_what_does_not_fit_never_surely_fit(item: Item) -> None:
    image = encode(item)
    assert image_bytes(image) > codec.MAX_ITEM_BYTES
    assert not codec.surely_fit(image)


def test_an_ordinary_item_surely_fit() -> None:
    assert codec.surely_fit(encode({"id": "u1", "name": "Ada" * 20, "tags": {"a", "b"}, "n": Decimal("1.5")}))


# ---------------------------------------------------------------- numbers as keys


@given(strategies.wide_numbers | strategies.numbers)
def test_a_normal_number_is_its_value_without_zeros_at_the_end(number: Decimal) -> None:
    (raw,) = encode_value(number, "n").values()
    assert codec.normal_number(raw) == number
    assert str(codec.normal_number(raw)) == str(codec.normal_number(in_full(raw)))
