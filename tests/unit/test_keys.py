"""Keys as a user types them, and as commands print them."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.model.tables import Image
from dynamodt.runs.display import inert, printable
from dynamodt.runs.stored_dead_letters import key_meant, key_typed, shape_of
from dynamodt.script.codec import key_text

_VALUES = st.one_of(
    st.builds(lambda text: {"S": text}, st.text(st.characters(codec="utf-8"), min_size=1)),
    st.builds(lambda number: {"N": str(number)}, st.integers(-(10**37), 10**37)),
    st.builds(lambda number: {"N": str(number)}, st.decimals(-1000, 1000, places=3)),
    st.sampled_from([{"B": "AAE="}, {"B": "+/8="}]),
)
_KEYS = st.one_of(
    st.builds(lambda pk: {"pk": pk}, _VALUES), st.builds(lambda pk, sk: {"pk": pk, "sk": sk}, _VALUES, _VALUES)
)


@given(_KEYS)
def test_a_printed_key_is_parsed_to_the_same_key(key: Image) -> None:
    """On one line, as printed, and after a shell has removed the quotes."""
    typed = key_typed(key)
    assert "\n" not in typed and inert(printable(typed)) == typed
    for text in (typed, json.dumps(key), shlex.split(shlex.quote(typed))[0]):
        found = key_meant(text, shape_of(key))
        assert found is not None and key_text(found) == key_text(key)


@given(_KEYS, _KEYS)
def test_different_keys_are_printed_differently(one: Image, other: Image) -> None:
    if shape_of(one) == shape_of(other) and one != other:
        assert key_typed(one) != key_typed(other)


@pytest.mark.parametrize(
    ("key", "typed"),
    [
        ({"id": {"S": "u1"}}, "u1"),
        ({"pk": {"S": "USER#1"}, "sk": {"S": "2026-01-31T10:15:00Z"}}, "USER#1,2026-01-31T10:15:00Z"),
        ({"pk": {"S": "u1"}, "at": {"N": "-7.50"}}, "u1,-7.50"),
        ({"pk": {"S": "a, b"}, "at": {"N": "7"}}, '"a, b",7'),
        ({"id": {"S": "-x"}}, '"-x"'),
        ({"id": {"S": "##vso["}}, '"#\\u0023vso["'),
        ({}, "{}"),
    ],
)
def test_keys_are_printed_in_the_shortest_form(key: Image, typed: str) -> None:
    assert key_typed(key) == typed and key_meant(typed, shape_of(key)) == key


PAIR = (("pk", "S"), ("at", "N"))


@pytest.mark.parametrize(
    ("text", "shape", "meant"),
    [
        ("a,b", (("id", "S"),), {"id": {"S": "a,b"}}),
        ('{"at": 7.0, "pk": "u1"}', PAIR, {"pk": {"S": "u1"}, "at": {"N": "7.0"}}),
        ("7", (("id", "S"),), {"id": {"S": "7"}}),
    ],
)
def test_other_forms_of_keys_are_parsed(text: str, shape: tuple[tuple[str, str], ...], meant: Image) -> None:
    assert key_meant(text, shape) == meant


@pytest.mark.parametrize(
    "text",
    ["u1", "u1,x", "u1,7,8", '"u1', '"u1"7', '{"pk": "u1"}', '{"pk": 1, "at": 7}', '{"pk": "u1", "at": "7"}', "{"],
)
def test_an_invalid_key_is_not_parsed(text: str) -> None:
    assert key_meant(text, PAIR) is None
