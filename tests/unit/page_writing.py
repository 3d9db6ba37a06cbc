"""Pages on a fake table, written by a `PageWriter`: what the tests of `pipeline.write_page` share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.model.tables import Change, Guard, Image, Item, KeyAttribute, Remove, TableSpec
from dynamodt.pipeline.outcomes import WriteResult
from dynamodt.pipeline.own_writes import InsertedItems, Lookups
from dynamodt.pipeline.request_pipeline import Wait
from dynamodt.pipeline.write_page import PageWriter, WriteTask
from dynamodt.script.codec import decode
from dynamodt.script.diff import change, key_of
from tests.fakes import FakeDynamoDB

THINGS = TableSpec("things", (KeyAttribute("id", "N"),))
many = settings(max_examples=60)
Apply = Callable[[Image], Change | None]


def page_writer(
    fake: FakeDynamoDB, apply: Apply, guard: Guard = "item", meets_insertions: bool = False, **more: Any
) -> PageWriter:
    rows, pause = InsertedRows("state", "run"), {"sleep": lambda seconds: None}
    inserted = InsertedItems(fake, rows, fake.spec.name, **pause)
    reads = Lookups(Reads(fake, fake.spec, **pause), inserted=inserted, meets_insertions=meets_insertions)
    writer = Statements(fake.spec, guard, rows, meets_insertions=meets_insertions)
    options = {"dice": lambda: 0.5, **pause, **more}
    return PageWriter(Writes(fake, fake.spec.name), reads, writer, apply, 3, **options)


def double(image: Image) -> Change | None:
    item = decode(image)
    return change(THINGS, image, item, {**item, "n": item["n"] * 2})


def numbered(count: int, extra: Item | None = None) -> list[Item]:
    return [{"id": number, "n": number + 1, "note": 0, **(extra or {})} for number in range(count)]


def remaining_items(fake: FakeDynamoDB) -> dict[int, Item]:
    return {int(item["id"]): item for item in map(decode, fake.items.values())}


acts = st.lists(st.tuples(st.integers(0, 19), st.sampled_from(["note", "note", "delete"])), max_size=30)


def moved(image: Image) -> Change | None:
    item = decode(image)
    return change(THINGS, image, item, {**item, "id": item["id"] + 100, "n": item["n"] * 2})


def rows(fake: FakeDynamoDB) -> dict[int, str]:
    """The inserted rows of the state table: the keys that the run has inserted, and their sources."""
    found = fake.others.get("state", {}).values()
    return {int(json.loads(row["key"]["S"])["id"]["N"]): row["source"]["S"] for row in found}


def removals(fake: FakeDynamoDB) -> list[Change]:
    return [Remove(key_of(THINGS, image), image) for image in list(fake.items.values())]


def write_whole_page(
    one: PageWriter, changes: Sequence[Change], record_intent: Callable[[Sequence[Change]], None]
) -> WriteResult:
    """Writes a page completely."""
    task = WriteTask(one, record_intent)
    task.begin(changes)
    return last_step(task)


def last_step(task: WriteTask) -> WriteResult:
    while isinstance(step := task.step(), Wait):
        pass
    return step
