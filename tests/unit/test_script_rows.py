"""The rows of `items()`, looked at before anything is started."""

from __future__ import annotations

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.script.apply import check_same_rows, checked_rows

TABLE = TableSpec("plans", (KeyAttribute("id", "N"), KeyAttribute("at", "S")))


def script(*rows: str) -> Script:
    body = "".join(f"    yield {row}\n" for row in rows)
    return Script("plans", 1, "seed", "transforms/plans/v1_seed.py", f"def items():\n{body}", "", has_items=True)


def test_two_rows_with_one_key_are_named_with_it() -> None:
    with pytest.raises(ScriptError) as caught:
        checked_rows(script('{"id": 1, "at": "a"}', '{"id": 2, "at": "b"}', '{"id": 1, "at": "a", "n": 1}'), TABLE)
    assert "rows 1 and 3" in caught.value.what and "id = 1, at = 'a'" in caught.value.what
    assert "v1_seed.py" in caught.value.where


def test_numbers_that_are_equal_are_one_key() -> None:
    one = 'dict(id=__import__("decimal").Decimal("1.0"), at="a")'
    with pytest.raises(ScriptError, match="rows 1 and 2"):
        checked_rows(script('{"id": 1, "at": "a"}', one), TABLE)
    assert checked_rows(script('{"id": 1, "at": "a"}', '{"id": 1, "at": "b"}'), TABLE)


def test_the_checksum_is_of_the_rows_and_their_order() -> None:
    a, b = '{"id": 1, "at": "a", "n": {1, 2}}', '{"id": 2, "at": "b"}'
    first = checked_rows(script(a, b), TABLE)
    assert checked_rows(script('{"at": "a", "n": {2, 1}, "id": 1}', b), TABLE) == first
    assert (
        len({first, *(checked_rows(script(*rows), TABLE) for rows in ([b, a], [a], [a, b, '{"id": 3, "at": "c"}']))})
        == 4
    )
    check_same_rows(script(a, b), TABLE, first)
    with pytest.raises(ScriptError, match="other rows"):
        check_same_rows(script(b, a), TABLE, first)


def test_a_row_that_the_table_cannot_hold_is_named() -> None:
    with pytest.raises(ScriptError) as caught:
        checked_rows(script('{"id": "one", "at": "a"}'), TABLE)
    assert caught.value.where == "transforms/plans/v1_seed.py: items(): id"
