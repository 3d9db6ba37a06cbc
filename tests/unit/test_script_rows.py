"""The checks of the rows of `items()` before a run starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model.pages import Claim
from dynamodt.model.runs import Job, RowsSource, Script
from dynamodt.model.tables import Connection, Direction, IndexKey, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.read import row_pages
from dynamodt.runs import plan
from dynamodt.runs.context import Project
from dynamodt.script.apply import check_rows, check_same_rows, item_rows

TABLE = TableSpec("plans", (KeyAttribute("id", "N"), KeyAttribute("at", "S")))


def script(*rows: str) -> Script:
    body = "".join(f"    yield {row}\n" for row in rows)
    return Script("plans", 1, "seed", "transforms/plans/v1_seed.py", f"def items():\n{body}", "", has_items=True)


def test_two_rows_with_one_key_are_named_with_it() -> None:
    with pytest.raises(ScriptError) as caught:
        check_rows(script('{"id": 1, "at": "a"}', '{"id": 2, "at": "b"}', '{"id": 1, "at": "a", "n": 1}'), TABLE)
    assert "rows 1 and 3" in caught.value.what and "id = 1, at = 'a'" in caught.value.what
    assert "v1_seed.py" in caught.value.where


def test_numbers_that_are_equal_are_one_key() -> None:
    one = 'dict(id=__import__("decimal").Decimal("1.0"), at="a")'
    with pytest.raises(ScriptError, match="rows 1 and 2"):
        check_rows(script('{"id": 1, "at": "a"}', one), TABLE)
    assert check_rows(script('{"id": 1, "at": "a"}', '{"id": 1, "at": "b"}'), TABLE)


def test_the_checksum_is_of_the_rows_and_their_order() -> None:
    a, b = '{"id": 1, "at": "a", "n": {1, 2}}', '{"id": 2, "at": "b"}'
    first = check_rows(script(a, b), TABLE)
    assert check_rows(script('{"at": "a", "n": {2, 1}, "id": 1}', b), TABLE) == first
    assert (
        len({first, *(check_rows(script(*rows), TABLE) for rows in ([b, a], [a], [a, b, '{"id": 3, "at": "c"}']))}) == 4
    )
    check_same_rows(script(a, b), TABLE, first)
    with pytest.raises(ScriptError, match="other rows"):
        check_same_rows(script(b, a), TABLE, first)


def test_a_row_that_the_table_cannot_hold_is_named() -> None:
    with pytest.raises(ScriptError) as caught:
        check_rows(script('{"id": "one", "at": "a"}'), TABLE)
    assert caught.value.where == "transforms/plans/v1_seed.py: items(): id"


def test_rows_that_a_new_index_refuses_can_still_be_deleted() -> None:
    """An index that was added after `up` does not contain them; `up` itself is refused before it starts."""
    stage = Stage("local", Connection("eu-central-1"), StorageSpec("/none"))
    indexed = replace(TABLE, index_keys=(IndexKey("town", "S", 2048, "by-town"),))
    rows = script('{"id": 1, "at": "a", "town": 7}')
    rows = replace(rows, text=rows.text + "def transform_down(item):\n    return item\n", has_down=True)

    def read(direction: Direction) -> tuple[str, int]:
        began = plan._step(Project(stage, Path()), indexed, rows, direction, None).began
        job = Job("run", stage, indexed, rows, direction, 1, source=RowsSource())
        return began["items"], sum(len(page.images) for page in row_pages(job, Claim(0, 1), item_rows(rows)))

    assert read("down") == (check_rows(rows, TABLE), 1)
    with pytest.raises(ScriptError, match="by-town"):
        read("up")
