"""The rule that `runs.cost` has for indexes, against what the service charges for a write."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.model.tables import Image, Remove, Update
from dynamodt.runs.cost import Work, cost_of
from dynamodt.script.diff import write_units
from tests.emulators import Endpoint

KEY: Image = {"id": {"N": "1"}}
READ: Image = {**KEY, "g": {"S": "a"}, "n": {"N": "1"}, "text": {"S": "x" * 1500}}  # two units


@pytest.mark.parametrize(
    ("change", "writes"),
    [
        (Update(KEY, READ, {"g": {"S": "b"}}), 3),  # the index's key: one in the table, two in the index
        (Update(KEY, READ, {"n": {"N": "2"}}), 2),
        (Update(KEY, READ, {"text": {"S": "x" * 5000}}), 2),
        (Update(KEY, READ, {}, ("g",)), 2),  # it leaves the index
        (Remove(KEY, READ), 2),
    ],
    ids=["key", "other", "grows", "leaves", "delete"],
)
def test_an_index_takes_at_most_the_estimated_units(
    endpoint: Endpoint, indexed_table: str, change: Update | Remove, writes: int
) -> None:
    endpoint.client.put_item(TableName=indexed_table, Item=READ)
    charged = apply(endpoint, indexed_table, change)
    cost = cost_of(Work(wcu=write_units(change), indexes=1), None)
    assert charged["CapacityUnits"] <= cost.wcu_most
    if endpoint.name == "dynamodb-local":  # ministack counts neither sizes nor entries of indexes
        assert charged["CapacityUnits"] == cost.wcu * writes


def apply(endpoint: Endpoint, table: str, change: Update | Remove) -> Any:
    asked = {"TableName": table, "Key": KEY, "ReturnConsumedCapacity": "INDEXES"}
    if isinstance(change, Remove):
        return endpoint.client.delete_item(**asked)["ConsumedCapacity"]
    updates = {name: {"Action": "PUT", "Value": value} for name, value in change.sets.items()}
    updates |= {name: {"Action": "DELETE"} for name in change.removes}
    return endpoint.client.update_item(**asked, AttributeUpdates=updates)["ConsumedCapacity"]
