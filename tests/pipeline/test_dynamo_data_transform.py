"""A record of dynamo-data-transform in the table: neither read, nor transformed, nor counted."""

from __future__ import annotations

from collections.abc import Callable

from dynamodt.dynamodb.reads import FoundItems as FoundItems
from dynamodt.model.pages import Claim, Counts, DeadLetter
from dynamodt.model.tables import Item, KeyAttribute, TableSpec
from dynamodt.pipeline.read import replayed_pages
from dynamodt.script.codec import encode
from tests.pipeline.conftest import Bench

SPEC = TableSpec("things", (KeyAttribute("id", "S"),))
RECORD: Item = {"id": "DataTransformations", "executionState": [1], "TransformationsRunHistory": {}}
TOUCH = 'def transform_up(item):\n    return {**item, "seen": True}\n'


def test_a_scan_skips_the_record(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(SPEC)
    people: list[Item] = [{"id": f"u{number:02}"} for number in range(12)]
    bench.dynamodb.put(RECORD, *people)
    assert bench.run(TOUCH) == Counts(read=12, changed=12)
    assert bench.items() == [*({**person, "seen": True} for person in people), RECORD]


def test_a_table_with_only_the_record_counts_as_empty(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(SPEC)
    bench.dynamodb.put(RECORD)
    assert bench.run(TOUCH) == Counts()


def test_an_item_of_the_application_with_the_record_s_key_is_transformed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(SPEC)
    bench.dynamodb.put({"id": "DataTransformations", "note": "ours"})
    assert bench.run(TOUCH) == Counts(read=1, changed=1)


class Found:
    def items(self, keys: object) -> FoundItems:
        return FoundItems({"a": encode(RECORD), "b": encode({"id": "u1"})}, 0.0)


def test_a_replay_by_key_skips_the_record(make_bench: Callable[..., Bench]) -> None:
    job = make_bench(SPEC).job(TOUCH)
    dead_letters = [DeadLetter(encode({"id": key}), {}, "transform", "") for key in ("DataTransformations", "u1")]
    (page,) = replayed_pages(job, Claim(0, 1), iter(dead_letters), Found())
    assert (page.images, page.replayed) == ([encode({"id": "u1"})], 2)
