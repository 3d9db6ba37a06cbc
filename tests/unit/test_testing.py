"""`dynamodt.testing`: a version applied to items in a test is what a run makes of them, or its error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dynamodt import load_script
from dynamodt.errors import ItemError, ScriptError, UsageError
from dynamodt.model.tables import Direction
from dynamodt.testing import transformed

pytestmark = pytest.mark.unit

KEY = {"id": "S"}
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a version of the table `users` of the project `tmp_path`."""

    def script(text: str, number: int = 1, table: str = "users") -> Path:
        path = tmp_path / "transforms" / table / f"v{number}_change.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"from dynamodt import Delete, Put\nsequence = {number}\n" + dedent(text))
        return path

    return script


def configure(folder: Path) -> None:
    (folder / "dynamodt.toml").write_text(
        '[stages.local.tables]\npeople = { name = "S" }\n'
        'users = { key = { id = "S" }, indexes = { by_mail = { mail = "S" } } }\n'
    )


TOTAL = (
    "def transform_up(item): return {**item, 'n': item['n'] / 2}\ndef transform_down(item): return {'id': item['id']}"
)


def test_up_and_down(write: Write) -> None:
    path = write(TOTAL)
    assert transformed(path, [{"id": "1", "n": 3}], key=KEY) == [{"id": "1", "n": Decimal("1.5")}]
    assert transformed(str(path), [{"id": "1", "n": 3}], direction="down", key=KEY) == [{"id": "1"}]


def test_a_version_is_named_by_its_path_its_module_or_its_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path)
    path = write("def transform_up(item): return {**item, 'at': 1}")
    (path.parent / "tests").mkdir()
    monkeypatch.chdir(path.parent / "tests")
    for version in (path, load_script(path), "users/v1", "users/v1_change"):
        assert transformed(version, [{"id": "1"}]) == [{"id": "1", "at": 1}]
    for wrong in ("users/v2", "users/v1_other", "people/v1", "nowhere.py"):
        with pytest.raises(UsageError, match="no such version file"):
            transformed(wrong, [])


def test_the_results_of_each_item_are_in_its_place_and_rows_last(write: Write) -> None:
    path = write("""
        SOURCE = "export"
        def items(): yield {"id": "row"}; yield {"id": "there", "n": 2}
        def transform_up(item):
            if item["id"] == "gone": return Delete()
            if item["id"] == "moved": return {**item, "id": "elsewhere"}
            return [item, Put({"id": item["id"] + "+"})]
        def transform_down(item): return item
    """)
    items = [{"id": "there", "n": 1}, {"id": "gone"}, {"id": "moved"}]
    after = [{"id": "there", "n": 1}, {"id": "there+"}, {"id": "elsewhere"}, {"id": "row"}]
    assert transformed(path, items, key=KEY) == after
    changed = [{"id": "row", "by": "the application"}, {"id": "there", "n": 2}]
    assert transformed(path, [*changed, {"id": "1"}], direction="down", key=KEY) == [changed[0], {"id": "1"}]


def test_a_version_with_only_items_adds_its_rows_and_deletes_them(write: Write) -> None:
    path = write("def items(): yield {'id': 'row', 'n': 1}")
    assert transformed(path, [{"id": "1"}], key=KEY) == [{"id": "1"}, {"id": "row", "n": 1}]
    assert transformed(path, [{"id": "1"}, {"id": "row", "n": 1}], direction="down", key=KEY) == [{"id": "1"}]
    with pytest.raises(ScriptError, match="no transform_down"):
        transformed(write("def transform_up(item): return item"), [], direction="down", key=KEY)


def test_each_application_has_a_stamp_of_its_own(write: Write) -> None:
    path = write("STAMP = '_run'\n" + TOTAL)
    once = transformed(path, [{"id": "1", "n": 4}], key=KEY)
    assert transformed(path, [{"id": "1", "n": 4}], key=KEY) == once and once[0]["n"] == 2  # the same in each test
    twice = transformed(path, once, key=KEY)
    assert twice[0]["n"] == 1 and len({once[0]["_run"], twice[0]["_run"]}) == 2
    (back,) = transformed(path, twice, direction="down", key=KEY)
    assert "n" not in back and back["_run"] != twice[0]["_run"]


@pytest.mark.parametrize("direction", ["up", "down"])
def test_two_rows_with_one_key_are_refused_as_by_a_run(write: Write, direction: Direction) -> None:
    path = write("def items(): yield {'id': 'row', 'n': 1}; yield {'id': 'row', 'n': 2}")
    with pytest.raises(ScriptError, match="rows 1 and 2 both have id = 'row'"):
        transformed(path, [{"id": "1"}], direction=direction, key=KEY)
    with pytest.raises(ScriptError, match=r"v1_change.py: items\(\): the item would take"):
        transformed(write("def items(): yield {'id': 'x', 'n': 'x' * 420_000}"), [], direction=direction, key=KEY)


def test_the_life_cycle_of_a_class_is_that_of_a_run(write: Write) -> None:
    path = write("""
        class TransformUp:
            def setup(self): self.lived = ["setup"]
            def start_bundle(self): self.lived.append("start")
            def process(self, item, prepared): yield {**item, "lived": [*self.lived, prepared["x"][0]]}
            def finish_bundle(self): print("finished", self.lived)
            def teardown(self): print("ended")
        def prepare(context): yield "x", [1]
    """)
    assert transformed(path, [{"id": "1"}], prepared={"x": (1, 2)}, key=KEY) == [
        {"id": "1", "lived": ["setup", "start", 1]}
    ]
    with pytest.raises(UsageError, match="needs prepared data") as caught:
        transformed(path, [{"id": "1"}], key=KEY)
    assert "prepared={...}" in caught.value.hint


def test_an_error_of_teardown_is_reported_and_leaves_the_result(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("""
        class TransformUp:
            def process(self, item): yield {**item, "n": 1 // item["one"]}
            def teardown(self): raise IndexError("no such")
    """)
    assert transformed(path, [{"id": "1", "one": 1}], key=KEY) == [{"id": "1", "one": 1, "n": 1}]
    assert "TransformUp.teardown fails: IndexError: no such" in caplog.text
    with pytest.raises(ZeroDivisionError):
        transformed(path, [{"id": "1", "one": 0}], key=KEY)


def test_errors_are_those_of_a_run(write: Write, tmp_path: Path) -> None:
    configure(tmp_path)

    def error_of(body: str, *items: dict[str, Any], settings: str = "SOURCE = 'export'") -> BaseException:
        with pytest.raises(BaseException) as caught:
            transformed(write(f"{settings}\ndef transform_up(item): {body}"), items or [{"id": "1"}])
        return caught.value

    assert type(error_of("return item['absent']")) is KeyError
    assert type(error_of("raise SystemExit(3)")) is SystemExit
    assert "key of the index by_mail" in str(error_of("return {**item, 'mail': ''}"))
    assert "at most 409,600" in str(error_of("return {**item, 'x': 'x' * 500_000}"))
    assert "another item has the new key" in str(
        error_of("return {**item, 'id': '2'}", {"id": "1"}, {"id": "2", "n": 1})
    )
    assert "two items are for the key" in str(error_of("return {**item, 'id': '3'}", {"id": "1"}, {"id": "2", "n": 1}))
    assert isinstance(error_of("return {**item, 'id': '2'}", settings=""), ScriptError)
    assert isinstance(error_of("return item", {"id": "1", "x": 0.1}), ItemError)
    assert isinstance(error_of("return item", {"name": "1"}), ItemError)
    assert isinstance(error_of("return item", {"id": "1"}, {"id": "1"}), UsageError)
    assert isinstance(error_of("return item", settings="KEY = {'name': 'S'}"), ItemError)


def test_a_target_table_has_its_own_key(write: Write, tmp_path: Path) -> None:
    configure(tmp_path)
    path = write("TARGET_TABLE = 'people'\ndef transform_up(item): return {'name': item['id'], 'n': 1}")
    assert transformed(path, [{"id": "1"}, {"id": "2"}]) == [{"name": "1", "n": 1}, {"name": "2", "n": 1}]
    with pytest.raises(UsageError, match="TARGET_TABLE"):
        transformed(path, [{"id": "1"}], direction="down")
    (tmp_path / "dynamodt.toml").unlink()
    with pytest.raises(UsageError, match="key of TARGET_TABLE people is not known"):
        transformed(path, [{"id": "1"}], key=KEY)
    with pytest.raises(ItemError, match="type N for table people"):
        transformed(path, [{"id": "1"}], key=KEY, target_key={"name": "N"})


def test_a_key_is_needed_and_must_be_one(write: Write) -> None:
    path = write("def transform_up(item): return item")
    with pytest.raises(UsageError, match="the key of table users is not known") as caught:
        transformed(path, [])
    assert 'key={"id": "S"}' in caught.value.hint
    for wrong in ({}, {"id": "X"}, {"a": "S", "b": "S", "c": "S"}):
        with pytest.raises(UsageError, match="is not the key of a table"):
            transformed(path, [], key=wrong)


def test_versions_of_one_module_are_kept_apart(write: Write, tmp_path: Path) -> None:
    helper = tmp_path / "transforms" / "users" / "rates.py"
    first = write("from pathlib import Path\nimport rates\ndef transform_up(item): return {**item, 'r': rates.RATE, "
                  "'c': (Path(__file__).parent / 'c.txt').read_text()}")  # fmt: skip
    other = write("from rates import RATE\ndef transform_up(item): return {**item, 'r': RATE}", table="orders")
    helper.write_text("RATE = 1")
    (tmp_path / "transforms" / "users" / "c.txt").write_text("one")
    (tmp_path / "transforms" / "orders" / "rates.py").write_text("RATE = 7")
    assert transformed(first, [{"id": "1"}], key=KEY) == [{"id": "1", "r": 1, "c": "one"}]
    helper.write_text("RATE = 2")
    assert transformed(first, [{"id": "1"}], key=KEY) == [{"id": "1", "r": 2, "c": "one"}]
    assert transformed(other, [{"id": "1"}], key=KEY) == [{"id": "1", "r": 7}]
    assert "rates" not in sys.modules


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    from tests import ROOT

    before = {"id": "u1", "name": "Ada Lovelace"}
    version = ROOT / "transforms" / "users" / "v2_split_name.py"
    assert transformed(version, [before], key=KEY) == [{**before, "first_name": "Ada", "last_name": "Lovelace"}]


def test_neither_boto_nor_beam_is_imported() -> None:
    program = (
        "import sys, dynamodt.testing; print([m for m in ('apache_beam', 'boto3', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
