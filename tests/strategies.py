"""Items, keys and tables drawn by hypothesis: every type, odd names, and values at the limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from dynamodt.model.tables import Image, Item, KeyAttribute, TableSpec
from dynamodt.script.codec import encode

Strategy = st.SearchStrategy

ODD_NAMES = (
    "a.b",
    'say "hi"',
    "it's",
    "size",
    "SELECT",
    "a b",
    "#1",
    ":v",
    "naïve",
    "emoji 🙂",
    "l[0]",
    "\\",
    "?",
    " ",
)
_ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)  # no halves of surrogate pairs

texts: Strategy[str] = _ANY_TEXT | st.sampled_from(("", "x" * 40, "1", "true", "🙂"))
binaries: Strategy[bytes] = st.binary(max_size=6)
names: Strategy[str] = st.sampled_from("abcdefgh") | st.sampled_from(ODD_NAMES) | _ANY_TEXT.filter(bool)


def _number(sign: int, digits: int, shift: int) -> Decimal:
    """`digits` with its first digit at 10**shift, which DynamoDB keeps between -130 and 125."""
    places = len(str(digits)) - 1
    return Decimal((sign, tuple(map(int, str(digits))), shift - places))


wide_numbers: Strategy[Decimal] = st.builds(
    _number,
    st.integers(0, 1),
    st.integers(10**37, 10**38 - 1) | st.integers(1, 10**6) | st.integers(1, 10**38 - 1),
    st.integers(-130, 125),
)
small_numbers: Strategy[Decimal] = st.integers(-3, 3).map(Decimal) | st.sampled_from(
    (Decimal("1.0"), Decimal("1E0"), Decimal("0.10"), Decimal("100"), Decimal("1E+2"), Decimal("-0"))
)
numbers: Strategy[Decimal] = small_numbers | wide_numbers

scalars: Strategy[Any] = texts | numbers | binaries | st.booleans() | st.none()
sets: Strategy[Any] = (
    st.sets(texts, min_size=1, max_size=4)
    | st.sets(numbers, min_size=1, max_size=4)
    | st.sets(binaries, min_size=1, max_size=4)
)


def _nested(inner: Strategy[Any]) -> Strategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)


values: Strategy[Any] = scalars | sets | st.recursive(scalars | sets, _nested, max_leaves=5)
attributes: Strategy[Item] = st.dictionaries(names, values, max_size=4)

# ---------------------------------------------------------------- tables and their keys

_KEY_VALUES: dict[str, Strategy[Any]] = {
    "S": texts.filter(bool),
    "N": numbers,
    "B": binaries.filter(bool),
}


@st.composite
def tables(draw: st.DrawFn) -> TableSpec:
    """A table with one or two key attributes of any type and name."""
    key_names = draw(st.lists(names, min_size=1, max_size=2, unique=True))
    return TableSpec("things", tuple(KeyAttribute(name, draw(st.sampled_from("SNB"))) for name in key_names))


def keys(spec: TableSpec) -> Strategy[Item]:
    return st.fixed_dictionaries({attribute.name: _KEY_VALUES[attribute.type] for attribute in spec.key})


def items(spec: TableSpec) -> Strategy[Item]:
    """Items of a table; their key attributes come first, in the key's order."""
    return st.builds(
        lambda key, rest: {**key, **{n: v for n, v in rest.items() if n not in key}}, keys(spec), attributes
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[TableSpec, Item, Item]:
    """A table, an item of it, and another shape of that item: some attributes kept, some removed, some set."""
    spec = draw(tables())
    before = draw(items(spec))
    rest = [name for name in before if name not in spec.key_names]
    kept = draw(st.sets(st.sampled_from(rest))) if rest else set()
    anew = {name: value for name, value in draw(attributes).items() if name not in spec.key_names}
    after = {name: value for name, value in before.items() if name in spec.key_names or name in kept}
    return spec, before, {**after, **anew}


def images(spec: TableSpec) -> Strategy[Image]:
    return items(spec).map(encode)
