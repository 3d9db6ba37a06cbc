"""The display of a change: one item, before and after."""

from __future__ import annotations

from dynamodt.model.tables import Atomic, Image, Insert, Remove, Update
from dynamodt.pipeline.outcomes import samples

KEY: Image = {"id": {"S": "1"}}
READ: Image = {**KEY, "n": {"N": "1"}}
OTHER: Image = {"id": {"S": "2"}, "n": {"N": "1"}}
PUT = Insert("users", {"id": {"S": "2"}}, OTHER)


def test_a_fan_out_is_shown_as_the_change_of_its_item() -> None:
    update = Update(KEY, READ, {"n": {"N": "2"}}, ())
    assert samples([Atomic(KEY, READ, (PUT, update))]) == [(READ, {**KEY, "n": {"N": "2"}})]


def test_a_move_shows_the_item_under_its_new_key() -> None:
    assert samples([Atomic(KEY, READ, (PUT, Remove(KEY, READ)))]) == [(READ, OTHER)]


def test_an_insertion_beside_an_unchanged_item_is_shown_as_new() -> None:
    assert samples([Atomic(KEY, READ, (PUT, PUT))]) == [({}, OTHER)]
