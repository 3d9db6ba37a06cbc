"""Prepared values are read-only at every depth, and otherwise equal to their originals."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from dynamodt.script.codec import encode_value, holds
from dynamodt.script.functions import frozen
from tests import strategies

VALUE = {"a": {"b": [1, {"c": {"x"}}]}, "l": [[1], "s"], "n": Decimal(1)}


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.__setitem__("z", 1),
        lambda v: v["a"].update(z=1),
        lambda v: v["a"].pop("b"),
        lambda v: v["a"].setdefault("z", 1),
        lambda v: v["a"].clear(),
        lambda v: v["a"].__ior__({"z": 1}),
        lambda v: v["a"].__delitem__("b"),
        lambda v: v["a"].popitem(),
        lambda v: v["a"]["b"].append(1),
        lambda v: v["a"]["b"].__setitem__(0, 2),
        lambda v: v["a"]["b"].__iadd__([2]),
        lambda v: v["a"]["b"].__imul__(2),
        lambda v: v["a"]["b"][1].__setitem__("c", 2),
        lambda v: v["l"].sort(),
        lambda v: v["l"].reverse(),
        lambda v: v["l"].insert(0, 1),
        lambda v: v["l"].extend([1]),
        lambda v: v["l"].remove("s"),
        lambda v: v["l"][0].pop(),
        lambda v: v["l"].clear(),
        lambda v: v["l"].__delitem__(0),
    ],
)
def test_a_frozen_value_cannot_be_changed(change: Callable[[Any], Any]) -> None:
    value = frozen(VALUE)
    with pytest.raises(TypeError, match="read-only"):
        change(value)
    assert value == VALUE


def test_a_frozen_set_is_a_frozenset() -> None:
    members = frozen(VALUE)["a"]["b"][1]["c"]
    assert members == {"x"} and isinstance(members, frozenset)


@given(strategies.values)
def test_a_frozen_value_is_equal_to_and_stored_and_pickled_as_its_original(value: Any) -> None:
    found = frozen(value)
    assert found == value and encode_value(found, "v") == encode_value(value, "v")
    assert pickle.loads(pickle.dumps(found)) == value
    assert copy.deepcopy(found) == value and copy.copy(found) == value
    assert holds(encode_value(value, "v"), found) in (True, False)


def test_a_copy_of_a_frozen_value_can_be_changed() -> None:
    value = frozen(VALUE)
    deep, flat = copy.deepcopy(value), {**value["a"], "z": 1}
    deep["a"]["b"][1]["z"] = 1
    value["l"].copy().append(2)
    value["a"].copy()["z"] = 2
    assert flat["z"] == 1 and value == VALUE and json.loads(json.dumps(value["l"])) == [[1], "s"]
