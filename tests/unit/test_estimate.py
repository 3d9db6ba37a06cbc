"""Versions applied to a sample, one after the other, and the estimate for the whole table."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model.tables import Index, KeyAttribute, TableSpec
from dynamodt.runs.estimate import Chain, Stratum, VersionEstimate, share_of
from tests.unit.estimated import HALF, images, read

pytestmark = pytest.mark.unit

TABLE = TableSpec("things", (KeyAttribute("id", "S"),), projections=(Index("by_n", ("n",), ()),))


def applied(folder: Path, items: float, number: int, *texts: str, whole: bool = False) -> list[VersionEstimate]:
    chain = Chain(TABLE, Stratum(images(number), items, whole), keep=10)
    scripts = [read(folder, text, sequence) for sequence, text in enumerate(texts, 1)]
    return [chain.apply(script, {}, None, False, True) for script in scripts]


def rounded(span: Any) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in span)


def test_the_interval_is_wilson_s_and_for_a_whole_table_a_point() -> None:
    assert rounded(share_of(50, 100, False)) == (0.404, 0.5, 0.596)
    assert rounded(share_of(0, 100, False)) == (0.0, 0.0, 0.037)
    assert rounded(share_of(100, 100, False)) == (0.963, 1.0, 1.0)
    assert share_of(0, 0, False) == (0.0, 0.0, 1.0) and share_of(0, 0, True) == (0, 0, 0)
    assert share_of(3, 4, True) == (0.75, 0.75, 0.75)


def test_the_interval_contains_the_true_share_in_95_of_100_samples() -> None:
    dice, held = random.Random(7), 0
    for _ in range(2000):
        true = dice.random()
        hits = sum(dice.random() < true for _ in range(100))
        low, _, high = share_of(hits, 100, False)
        held += low <= true <= high
    assert 0.93 <= held / 2000 <= 0.97


def test_the_share_of_the_sample_is_that_of_the_table(tmp_path: Path) -> None:
    (found,) = applied(tmp_path, 10_000, 100, HALF)
    assert rounded(found.share) == (0.404, 0.5, 0.596) and rounded(found.changed) == (4038.298, 5000, 5961.702)
    assert found.table == found.changed and found.records == found.changed  # one unit each
    assert rounded(found.indexes["by_n"]) == (0, 0, 369.948)  # no entry changes; up to the bound for unobserved changes
    assert 0 < found.journal_bytes.likely < 5000 * 500
    (whole,) = applied(tmp_path, 100, 100, HALF, whole=True)
    assert whole.share == (0.5, 0.5, 0.5) and whole.indexes["by_n"] == (0, 0, 0)


def test_each_version_is_applied_to_the_results_of_the_one_before(tmp_path: Path) -> None:
    second = 'def transform_up(item):\n    return {**item, "n": 7} if item.get("half") else item\n'
    third = 'from dynamodt import Delete\ndef transform_up(item):\n    return Delete() if item["n"] == 7 else item\n'
    fourth = 'def transform_up(item):\n    return {**item, "last": 1}\n'
    found = applied(tmp_path, 1000, 100, HALF, second, third, fourth)
    assert [round(one.share.likely, 3) for one in found] == [0.5, 0.49, 0.5, 1.0]  # one item is 7 already
    assert [round(one.items) for one in found] == [1000, 1000, 1000, 500]
    assert found[1].indexes["by_n"].likely == pytest.approx(2 * 490)  # the key of its entry changes
    assert found[2].indexes["by_n"].likely == pytest.approx(500)


def test_rows_of_items_are_counted_exactly_and_read_by_later_versions(tmp_path: Path) -> None:
    rows = 'def items():\n    for n in range(30):\n        yield {"id": f"r{n}", "n": n}\n'
    later = 'def transform_up(item):\n    return {**item, "row": item["id"][0] == "r"}\n'
    first, second = applied(tmp_path, 0, 0, rows, later, whole=True)
    assert (first.rows, first.changed.likely, first.table.likely) == (30, 30, 60)  # each in a transaction
    assert first.indexes["by_n"].likely == 30 and first.items == 0
    assert (second.items, second.changed.likely) == (30, 30) and second.changed.low < 30  # by ten of them


def test_many_rows_are_sampled_at_random_and_not_at_a_fixed_interval(tmp_path: Path) -> None:
    rows = 'def items():\n    for n in range(300):\n        yield {"id": f"r{n:03}", "n": n % 3}\n'
    later = 'def transform_up(item):\n    return {**item, "x": 1} if item["n"] else item\n'
    chain = Chain(TABLE, Stratum((), 0.0, True), keep=100)
    chain.apply(read(tmp_path, rows), {}, None, False, True)
    found = chain.apply(read(tmp_path, later, 2), {}, None, False, True)
    assert found.changed.low < 200 < found.changed.high


def test_dead_letters_are_counted_and_errors_that_stop_a_run_are_raised(tmp_path: Path) -> None:
    (found,) = applied(tmp_path, 100, 10, 'def transform_up(item):\n    return {**item, "x": 1 / item["n"]}\n')
    assert found.dead == 1 and found.error.startswith("DivisionByZero") and rounded(found.share)[1] == 0.9
    bad = 'def transform_up(item):\n    return {**item, "id": "other-" + item["id"]}\n'
    with pytest.raises(ScriptError, match="scan"):
        applied(tmp_path, 100, 10, bad)
