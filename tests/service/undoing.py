"""Scripts, items and calls that the tests of `undo` share."""

from __future__ import annotations

from typing import Any

from dynamodt import api as operations
from dynamodt.model.reports import UndoReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Item
from dynamodt.runs.options import RunOptions
from tests.service.bench import Bench

DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2, "twice": True}\n'
FRAIL = """
def transform_up(item):
    if item["id"] in {bad}:
        raise ValueError("a bad one")
    return {{**item, "n": item["n"] * 2}}
"""


def numbered(count: int) -> list[Item]:
    return [{"id": number, "n": number + 1} for number in range(count)]


def undo(bench: Bench, run: str, *tables: str, **options: Any) -> UndoReport:
    return operations.undo(bench.stage, bench.folder, tables, run, RunOptions(**options), bench.recorder)


def last(bench: Bench, table: str) -> RunRecord:
    return bench.history(table)[-1]
