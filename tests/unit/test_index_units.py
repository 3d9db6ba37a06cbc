"""The charged units of a change: AWS's rules for the entries of an index, for each kind of change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.model.tables import Atomic, Check, Image, Index, Insert, KeyAttribute, Remove, TableSpec, Update
from dynamodt.script.diff import charge_of, index_units

pytestmark = pytest.mark.unit

ALL, SOME, KEYS = Index("all", ("g",)), Index("some", ("g",), ("n",)), Index("keys", ("g", "s"), ())
TABLE = TableSpec("things", (KeyAttribute("id", "S"),), projections=(ALL, SOME, KEYS))
KEY: Image = {"id": {"S": "a"}}
ITEM: Image = {**KEY, "g": {"S": "x"}, "s": {"S": "y"}, "n": {"N": "1"}}
WIDE = {"S": "w" * 1500}


@pytest.mark.parametrize(
    ("after", "units"),
    [
        (ITEM, (0, 0, 0)),
        ({**ITEM, "other": {"S": "z"}}, (1, 0, 0)),  # projected into `all` alone
        ({**ITEM, "n": {"N": "1.0"}}, (0, 0, 0)),  # the same number
        ({**ITEM, "n": {"N": "2"}}, (1, 1, 0)),
        ({**ITEM, "g": {"S": "new"}}, (2, 2, 2)),  # the old entry is deleted, a new one put
        ({name: value for name, value in ITEM.items() if name != "g"}, (1, 1, 1)),  # it leaves the indexes
        ({name: value for name, value in ITEM.items() if name != "s"}, (1, 0, 1)),
        ({**ITEM, "other": WIDE}, (2, 0, 0)),
        ({**ITEM, "n": WIDE}, (2, 2, 0)),
        (None, (1, 1, 1)),
    ],
)
def test_an_index_is_charged_where_its_entry_changes(after: Image | None, units: tuple[int, ...]) -> None:
    assert tuple(index_units(index, TABLE, ITEM, after) for index in (ALL, SOME, KEYS)) == units


def test_an_item_that_is_in_no_index_costs_none() -> None:
    for before, after in ((KEY, {**KEY, "n": {"N": "1"}}), (None, KEY), (KEY, None), (None, None)):
        assert index_units(ALL, TABLE, before, after) == 0
    assert index_units(ALL, TABLE, None, ITEM) == 1


def test_a_change_is_charged_for_all_of_its_items() -> None:
    update = Update(KEY, ITEM, {"n": {"N": "2"}})
    assert charge_of(None, TABLE).records == 0
    one = charge_of(update, TABLE)
    assert (one.table, one.indexes, one.records) == (1.0, {"all": 1.0, "some": 1.0}, 1)
    moved = {**ITEM, "id": {"S": "b"}}
    move = charge_of(Atomic(KEY, ITEM, (Insert("things", {"id": {"S": "b"}}, moved), Remove(KEY, ITEM))), TABLE)
    assert (move.table, move.records) == (4.0, 2) and move.indexes == {"all": 2.0, "some": 2.0, "keys": 2.0}
    target = replace(TABLE, name="others", projections=())
    copied = charge_of(Atomic(KEY, ITEM, (Check(KEY, ITEM), Insert("others", KEY, ITEM))), target)
    assert (copied.table, copied.indexes, copied.records) == (4.0, {}, 1)
