"""One item through one version: the write of a run, or the dead letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.statements import Statements
from dynamodt.errors import DynamodtError, Fenced, ItemError, Refused, ScriptError, ServiceError
from dynamodt.model.tables import Change, Image, IndexKey, Item, KeyAttribute, TableSpec
from dynamodt.pipeline.attempts import REHEARSED, Rehearsal
from dynamodt.script.apply import Attempt, attempt_change, effect
from dynamodt.script.codec import decode, encode, image_bytes
from dynamodt.script.read import read_script

pytestmark = pytest.mark.unit

THINGS = TableSpec("things", (KeyAttribute("id", "S"),), index_keys=(IndexKey("mail", "S", 2048, "by_mail"),))
PEOPLE = TableSpec("people", (KeyAttribute("name", "S"),))
Rehearse = Callable[..., Attempt]


@pytest.fixture
def rehearse(tmp_path: Path) -> Rehearse:
    def attempt(text: str, item: Item, **more: Any) -> Attempt:
        path = tmp_path / "things" / "v1_change.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("from dynamodt import Delete, Put\nsequence = 1\n" + dedent(text))
        with Rehearsal(read_script(path, tmp_path), more.pop("table", THINGS), **more) as version:
            return version.attempt(encode(item))

    return attempt


def after(found: Attempt) -> tuple[Item | None, list[Item]]:
    assert found.error is None, found.error
    stays, inserts = effect(found.image, found.change)
    return None if stays is None else decode(stays), [decode(part.item) for part in inserts]


@pytest.mark.parametrize(
    ("result", "stays", "inserts"),
    [
        ("item", {"id": "1", "n": 1}, []),
        ("{**item, 'n': 2}", {"id": "1", "n": 2}, []),
        ("Delete()", None, []),
        ("{**item, 'id': '2'}", None, [{"id": "2", "n": 1}]),
        ("[item, Put({'id': '2'})]", {"id": "1", "n": 1}, [{"id": "2"}]),
        ("[Put({'id': '2'}), Put({'id': '3'}), Delete()]", None, [{"id": "2"}, {"id": "3"}]),
    ],
)
def test_the_items_after_a_change(rehearse: Rehearse, result: str, stays: Item | None, inserts: list[Item]) -> None:
    found = rehearse(f"SOURCE = 'export'\ndef transform_up(item): return {result}", {"id": "1", "n": 1})
    assert after(found) == (stays, inserts)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return item['absent']", "absent"),
        ("import sys; sys.exit(1)", "1"),
        ("return None", "forgot to return"),
        ("return {**item, 'mail': ''}", "takes no empty value"),
        ("return {**item, 'mail': 5}", "takes type S, not N"),
        ("return {**item, 'mail': 'x' * 3000}", "at most 2,048 bytes"),
        ("return {**item, 'x': 'x' * 500_000}", "409,600"),
        ("return {**item, 'x': 0.1}", "no exact decimal value"),
        ("return {**item, 'x': 10 ** 40 + 1}", "lose precision"),
        ("return {**item, 'x': set()}", "empty set"),
        ("return {'n': 1}", "the key attribute is missing"),
        ("return {**item, 'id': 5}", "must stay of type S"),
        ("return [item, Put({'id': ''})]", "must not be empty"),
        ("return [item, Put({'id': 'x' * 3000})]", "at most 2,048"),
        ("return [item, Put({'id': '2'}), Put({'id': '2'})]", "two new items have one key"),
        ("return [Put({'id': f'new {n}'}) for n in range(50)]", "at most 49"),
    ],
)
def test_a_result_that_cannot_be_written_is_a_dead_letter(rehearse: Rehearse, body: str, why: str) -> None:
    found = rehearse(f"SOURCE = 'export'\ndef transform_up(item): {body}", {"id": "1"})
    assert found.change is None and found.step == "transform" and why in str(found.error)


def test_a_stamp_counts_to_the_size_and_overwrites_no_other_data(rehearse: Rehearse) -> None:
    script = "STAMP = '_run'\nSOURCE = 'export'\ndef transform_up(item): return {}"
    item = {"id": "1", "x": ""}
    room = 409_600 - image_bytes(encode({**item, "n": 1}))
    full = {**item, "x": "x" * room}
    for result in ("{**item, 'n': 1}", "{**item, 'n': 1, 'id': '2'}"):
        error = rehearse(script.replace("{}", result), full).error
        assert isinstance(error, ItemError) and "409,600" in str(error)
        assert rehearse(script.replace("{}", result).replace("STAMP", "MARK_OF"), full).error is None
    assert "STAMP would overwrite" in str(rehearse(script.replace("{}", "item"), {"id": "1", "_run": "mine"}).error)
    stays, _ = after(rehearse(script.replace("{}", "{**item, 'n': 1}"), item))
    assert stays is not None and stays["_run"] == REHEARSED


def test_an_item_too_wide_for_its_request_is_a_dead_letter_of_the_write(rehearse: Rehearse) -> None:
    wide = {"id": "1", **{f"attribute{n}": n for n in range(400)}}
    request = Statements(THINGS, "item", InsertedRows("state", "run")).write
    script = "SOURCE = 'export'\ndef transform_up(item): return [item, Put({'id': '2'})]"
    found = rehearse(script, wide, request=request)
    assert found.step == "write" and "too many attributes" in str(found.error)
    assert rehearse(script, {"id": "1"}, request=request).error is None


@pytest.mark.parametrize(("items", "each", "fits"), [(20, 400_000, False), (41, 102_200, False), (41, 101_000, True)])
def test_a_transaction_that_is_too_large_with_its_rows_is_a_dead_letter_of_the_write(
    rehearse: Rehearse, items: int, each: int, fits: bool
) -> None:
    """41 items of 102,200 bytes have less than 4 MB without their rows."""
    request = Statements(THINGS, "item", InsertedRows("state", "run")).write
    result = f"[Put({{'id': f'new {{n}}', 'x': 'x' * {each}}}) for n in range({items})]"
    found = rehearse(f"SOURCE = 'export'\ndef transform_up(item): return {result}", {"id": "1"}, request=request)
    assert (found.error is None) == fits
    assert fits or (found.step == "write" and "at most 4,194,304" in str(found.error))


@pytest.mark.parametrize(
    "error", [Refused("damaged"), ServiceError("no answer"), Fenced("another run has it")], ids=repr
)
def test_a_fault_of_what_the_script_needs_is_raised_and_no_dead_letter(error: DynamodtError) -> None:
    """Such as prepared rows that cannot be loaded: the items are not at fault."""

    def change_of(image: Image) -> Change | None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        attempt_change({"id": {"S": "1"}}, change_of)


def test_an_error_of_dynamodt_that_the_function_itself_raises_is_a_dead_letter(rehearse: Rehearse) -> None:
    script = "from dynamodt.errors import Refused\ndef transform_up(item): raise Refused('busy', hint='wait')"
    found = rehearse(script, {"id": "1"})
    assert isinstance(found.error, ItemError) and str(found.error) == "Refused: busy" and found.error.hint == "wait"


def test_a_fault_of_the_whole_script_is_raised(rehearse: Rehearse) -> None:
    with pytest.raises(ScriptError, match="its own output"):
        rehearse("def transform_up(item): return {**item, 'id': '2'}", {"id": "1"})


def test_prepared_data_is_read_only_and_reaches_a_class(rehearse: Rehearse) -> None:
    script = """
        class TransformUp:
            def setup(self): self.suffix = "!"
            def process(self, item, prepared): yield {**item, "name": prepared["de"]["name"] + self.suffix}
    """
    assert after(rehearse(script, {"id": "1"}, prepared={"de": {"name": "Germany"}})) == (
        {"id": "1", "name": "Germany!"},
        [],
    )
    script = "def transform_up(item, prepared): prepared['de']['name'] = ''; return item"
    assert "read-only" in str(rehearse(script, {"id": "1"}, prepared={"de": {"name": "Germany"}}).error)


def test_the_target_s_key_is_checked(rehearse: Rehearse) -> None:
    script = "TARGET_TABLE = 'people'\ndef transform_up(item): return {'name': item['id']}"
    stays, inserts = after(rehearse(script, {"id": "1"}, target=PEOPLE))
    assert (stays, inserts) == ({"id": "1"}, [{"name": "1"}])
    found = rehearse(script.replace("item['id']", "7"), {"id": "1"}, target=PEOPLE)
    assert "type S for table people" in str(found.error)
