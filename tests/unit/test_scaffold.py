"""The files that `init` and `create` write: they run unedited, and overwrite nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TextIO
from unittest.mock import Mock

import pytest

import dynamodt.errors
from dynamodt.config.scaffold import create, init
from dynamodt.errors import ScriptError, ServiceError, UsageError
from dynamodt.model.tables import KeyAttribute
from dynamodt.script.functions import Transform, check
from dynamodt.script.read import read_versions
from dynamodt.script.versions import plan

pytestmark = pytest.mark.unit


def shown(paths: list[Path], folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def test_init_makes_a_folder_and_a_first_version_for_each_table(tmp_path: Path) -> None:
    folder = tmp_path / "transforms"
    assert shown(init(folder, ["users", "Orders.2", "users"]), folder) == [
        "users/v1_initial.py",
        "users/tests/test_users_v1_initial.py",
        "Orders.2/v1_initial.py",
        "Orders.2/tests/test_orders_2_v1_initial.py",
    ]
    assert init(folder, ["users", "Orders.2"]) == []


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init(tmp_path, ["users"])
    opened = Path.open

    def full(path: Path, *words: str, **more: str) -> TextIO:
        file: TextIO = opened(path, *words, **more)  # type: ignore[call-overload]
        monkeypatch.setattr(file, "write", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        return file

    with monkeypatch.context() as patched, pytest.raises(ServiceError, match="No space left") as caught:
        patched.setattr(Path, "open", full)
        create(tmp_path, "users", "split")
    assert caught.value.where.endswith("v2_split.py") and not (tmp_path / "users" / "v2_split.py").exists()


def test_create_writes_the_next_version(tmp_path: Path) -> None:
    init(tmp_path, ["users"])
    assert shown(create(tmp_path, "users", "Split the Name!"), tmp_path) == [
        "users/v2_split_the_name.py",
        "users/tests/test_users_v2_split_the_name.py",
    ]
    (script,) = read_versions(tmp_path, "users")[1:]
    assert (script.sequence, script.name, script.title) == (2, "split_the_name", "Split the name.")
    assert create(tmp_path, "orders", "v7_joinNames")[0].name == "v1_join_names.py"


def test_a_generated_version_runs_up_and_down_unedited(tmp_path: Path) -> None:
    init(tmp_path, ["users"])
    create(tmp_path, "users", "anything")
    scripts = read_versions(tmp_path, "users")
    assert plan(scripts, {}, "up") == scripts
    for script in scripts:
        check(script)
        item = {"id": "1", "n": 2}
        assert Transform(script, "up").apply(item, {}) == Transform(script, "down").apply(item, {}) == [item]


@pytest.mark.slow
def test_generated_tests_pass_under_plain_pytest(tmp_path: Path) -> None:
    init(tmp_path / "transforms", ["users", "orders"])
    create(tmp_path / "transforms", "users", "split name")
    source_root = str(Path(dynamodt.errors.__file__).parents[1])
    outcome = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "transforms"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": source_root}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout
    assert "6 passed" in outcome.stdout


def test_a_generated_test_has_the_table_s_key(tmp_path: Path) -> None:
    key = (KeyAttribute("p k", "S"), KeyAttribute("sk", "N"))
    _, test = create(tmp_path / "transforms", "orders", "x", key)
    assert 'BEFORE: Item = {"p k": "1", "sk": Decimal(1)}' in test.read_text()
    assert 'KEY = {"p k": "S", "sk": "N"}' in test.read_text()
    exec(compile(test.read_text() + "\ntest_up(), test_down()", str(test), "exec"), {"__file__": str(test)})


def test_a_generated_test_can_fail(tmp_path: Path) -> None:
    script, test = create(tmp_path, "users", "x")
    script.write_text(script.read_text().replace("    return item\n", "    return {**item, 'more': 1}\n", 1))
    with pytest.raises(AssertionError):
        exec(compile(test.read_text() + "\ntest_up()", str(test), "exec"), {"__file__": str(test)})


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    test = tmp_path / "users" / "tests" / "test_users_v1_x.py"
    test.parent.mkdir(parents=True)
    test.write_text("# mine\n")
    assert shown(create(tmp_path, "users", "x"), tmp_path) == ["users/v1_x.py"]
    assert test.read_text() == "# mine\n"
    with pytest.raises(UsageError, match="is a file, not a folder"):
        init(test, ["users"])


@pytest.mark.parametrize("table", ["ab", "a b c", "a/b", "../users", "x" * 256, "", "größe"])
def test_an_invalid_table_name_stops_init_before_any_file(tmp_path: Path, table: str) -> None:
    with pytest.raises(UsageError) as caught:
        init(tmp_path / "transforms", ["users", table])
    assert repr(table) in caught.value.what
    assert "3 to 255 characters" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "!!", "v2_", "x" * 81])
def test_a_version_name_that_gives_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        create(tmp_path, "users", name)
    assert "split_name" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_create_is_refused_in_a_folder_with_faults(tmp_path: Path) -> None:
    init(tmp_path, ["users"])
    (tmp_path / "users" / "v3_later.py").touch()
    with pytest.raises(ScriptError, match="version 2 is missing"):
        create(tmp_path, "users", "x")


def test_a_folder_with_faults_stops_no_other_table_and_is_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "transforms"
    (folder / "old").mkdir(parents=True)
    (folder / "old" / "v2_late.py").write_text("sequence = 2\n")
    made = init(folder, ["old", "fresh"])
    assert [path.name for path in made] == ["v1_initial.py", "test_fresh_v1_initial.py"]
    assert [path.name for path in (folder / "old").iterdir()] == ["v2_late.py"]


TYPED = """
from collections.abc import Iterator
from typing import Any

from dynamodt import Context, Delete, Item, Prepared, Put, Result, without

sequence = 2


def prepare(context: Context) -> Iterator[tuple[str, Any]]:
    for item in context.items("orders", projection=["id"]):
        yield item["id"], {**context.prepared(1), "in": context.folder / context.table, "v": context.version}


def transform_up(item: Item, prepared: Prepared) -> Result:
    if item["id"] in prepared:
        return [Put(without(item, "x")), Delete()]
    return {**item, "n": 1}


def transform_down(item: Item) -> Result:
    return Delete()
"""


@pytest.mark.chaos
def test_the_templates_and_the_public_types_pass_mypy_strict_in_a_project(tmp_path: Path) -> None:
    init(tmp_path / "transforms", ["users", "orders"], {"orders": (KeyAttribute("n", "N"),)})
    _, test = create(tmp_path / "transforms", "users", "typed")
    (tmp_path / "transforms" / "users" / "v2_typed.py").write_text(TYPED)
    test.unlink()
    argv = ["--strict", "--explicit-package-bases", "--cache-dir", str(tmp_path / "cache"), "transforms"]
    source_root = str(Path(dynamodt.errors.__file__).parents[1])
    outcome = subprocess.run(
        [sys.executable, "-m", "mypy", *argv],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": source_root}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stdout
    check(read_versions(tmp_path / "transforms", "users")[1])


def test_a_generated_first_version_mentions_stamp(tmp_path: Path) -> None:
    script, _ = init(tmp_path, ["users"])
    assert "dynamodt stamp --table users --to 1" in script.read_text()
    assert "stamp" not in create(tmp_path, "users", "more")[0].read_text()
