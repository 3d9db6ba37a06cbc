"""A script's use of files beside it: found without executing it, isolated by content, and named in errors."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynamodt import load_script
from dynamodt.errors import ScriptError
from dynamodt.model.runs import Script
from dynamodt.script import used_files
from dynamodt.script.apply import item_rows
from dynamodt.script.functions import Transform, check
from dynamodt.script.load import load
from dynamodt.script.names import tables
from dynamodt.script.read import read_script, read_versions

pytestmark = pytest.mark.unit

UP = "sequence = 1\n"


def project(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A project with these files below `transforms/`."""
    for name, content in files.items():
        path = folder / "transforms" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def script(folder: Path, files: Mapping[str, str | bytes], table: str = "users") -> Script:
    return read_script(project(folder, files) / "transforms" / table / "v1_a.py", folder)


def used(found: Script) -> list[str]:
    return [file.name for file in found.files]


def fault(folder: Path, files: Mapping[str, str | bytes]) -> ScriptError:
    with pytest.raises(ScriptError) as caught:
        load(script(folder, files))
    return caught.value


def up(found: Script) -> Any:
    return Transform(found, "up").apply({}, {})[0]


# ---------------------------------------------------------------- imports


@pytest.mark.parametrize(
    ("line", "files", "name", "value"),
    [
        ("import names", ["users/names.py"], "names.NAME", "users/names.py"),
        ("from names import NAME as n", ["users/names.py"], "n", "users/names.py"),
        ("from .names import NAME", ["users/names.py"], "NAME", "users/names.py"),
        ("from . import names", ["users/names.py"], "names.NAME", "users/names.py"),
        ("import money", ["shared/money.py"], "money.NAME", "shared/money.py"),
        ("from shared import money", ["shared/money.py"], "money.NAME", "shared/money.py"),
        ("import shared.money", ["shared/money.py"], "shared.money.NAME", "shared/money.py"),
        ("from ..shared.money import NAME", ["shared/money.py"], "NAME", "shared/money.py"),
        ("import pkg.inner", ["users/pkg/__init__.py", "users/pkg/inner.py"], "pkg.inner.NAME", "users/pkg/inner.py"),
        ("import pkg.inner as i", ["users/pkg/__init__.py", "users/pkg/inner.py"], "i.NAME", "users/pkg/inner.py"),
        ("from pkg import *", ["users/pkg/__init__.py", "users/pkg/inner.py"], "NAME", "users/pkg/__init__.py"),
        ("from plain import inner", ["users/plain/inner.py"], "inner.NAME", "users/plain/inner.py"),
        ("from both import NAME", ["users/both.py"], "NAME", "users/both.py"),
    ],
)
def test_an_import_finds_modules_beside_the_script(
    tmp_path: Path, line: str, files: list[str], name: str, value: str
) -> None:
    """In each of the forms that Python has; the table's folder comes before `shared`."""
    names = ("users/names.py", "shared/money.py", "users/pkg/__init__.py", "users/pkg/inner.py", "users/plain/inner.py",
             "users/both.py", "shared/both.py", "users/unused.py")  # fmt: skip
    modules = {one: f"NAME = {one!r}\n" for one in names}
    found = script(tmp_path, {"users/v1_a.py": f"{line}\n{UP}def transform_up(item):\n    return {name}\n", **modules})
    assert used(found) == files
    assert load(found).transform_up({}) == value


def test_imports_are_found_anywhere_in_a_script_and_in_its_modules(tmp_path: Path) -> None:
    text = f"{UP}def transform_up(item):\n    from one import f\n    return {{'n': f()}}\n"
    cycle = "import two\nX = 1\ndef f():\n    return two.X + 1\n"
    found = script(tmp_path, {"users/v1_a.py": text, "users/one.py": cycle, "users/two.py": "import one\nX = 2\n"})
    assert used(found) == ["users/one.py", "users/two.py"]
    assert up(found) == {"n": 3}


def test_modules_of_a_shared_folder_see_that_folder_alone(tmp_path: Path) -> None:
    files = {"shared/money.py": "from rounding import NAME\n", "shared/rounding.py": "NAME = 'shared'\n"}
    text = f"from money import NAME\n{UP}def transform_up(item):\n    return {{'n': NAME}}\n"
    found = script(tmp_path, {"users/v1_a.py": text, "users/rounding.py": "NAME = 'users'\n", **files})
    assert used(found) == ["shared/money.py", "shared/rounding.py"]
    assert up(found) == {"n": "shared"}


def test_two_tables_have_modules_of_one_name_in_one_process(tmp_path: Path) -> None:
    text = f"import names\n{UP}def transform_up(item):\n    import names as again\n    return {{'n': again.N}}\n"
    files = {f"{table}/{name}": content for table in ("users", "orders")
             for name, content in (("v1_a.py", text), ("names.py", f"N = {table!r}\n"))}  # fmt: skip
    both = [Transform(script(tmp_path, files, table), "up") for table in ("users", "orders")]
    assert [one.apply({}, {}) for one in both] == [[{"n": "users"}], [{"n": "orders"}]]
    assert "names" not in sys.modules


def test_an_edited_module_and_its_old_content_are_loaded_side_by_side(tmp_path: Path) -> None:
    """Also modules that a function imports later."""
    text = f"{UP}def transform_up(item):\n    from names import N\n    return {{'n': N}}\n"
    before = script(tmp_path, {"users/v1_a.py": text, "users/names.py": "N = 1\n"})
    old = Transform(before, "up")
    after = script(tmp_path, {"users/names.py": "N = 2\n"})
    new = Transform(after, "up")
    assert [one.apply({}, {})[0]["n"] for one in (new, old, new)] == [2, 1, 2]
    assert before.checksum == after.checksum and before.content != after.content


def test_a_module_is_executed_once_for_each_content(tmp_path: Path) -> None:
    text = f"import names\n{UP}def transform_up(item):\n    return {{'n': names.N}}\n"
    found = script(tmp_path, {"users/v1_a.py": text, "users/names.py": "N = object()\n"})
    assert load(found).names is load(found).names
    assert pickle.loads(pickle.dumps(found)) == found


def test_classes_of_a_module_are_dataclasses_and_can_be_pickled(tmp_path: Path) -> None:
    text = f"from kinds import Kind\n{UP}def transform_up(item): ...\n"
    kinds = "from dataclasses import dataclass\n@dataclass\nclass Kind:\n    x: 'int' = 1\n"
    kind = load(script(tmp_path, {"users/v1_a.py": text, "users/kinds.py": kinds})).Kind
    assert pickle.loads(pickle.dumps(kind())) == kind()


# ---------------------------------------------------------------- data files


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ('Path(__file__).parent / "a.csv"', ["users/a.csv"]),
        ('Path(__file__).resolve().parent.joinpath("data", "c.csv")', ["users/data/c.csv"]),
        ('Path(__file__).with_name("a.csv")', ["users/a.csv"]),
        ('Path(__file__).parents[1] / "shared" / "s.csv"', ["shared/s.csv"]),
        ('Path(__file__).parent / "../shared/s.csv"', ["shared/s.csv"]),
        ('os.path.join(os.path.dirname(os.path.abspath(__file__)), "a.csv")', ["users/a.csv"]),
        ('HERE / "a.csv"', ["users/a.csv"]),
        ('next((HERE / "data").iterdir())', ["users/data/c.csv"]),
        ("HERE / f\"{1 and 'a'}.csv\"", ["users/a.csv", "users/b.csv", "users/data/c.csv"]),
        ('__file__.replace("v1_a.py", "a.csv")', ["users/a.csv", "users/b.csv", "users/data/c.csv"]),
    ],
)
def test_a_file_is_opened_relative_to_the_script(tmp_path: Path, path: str, expected: list[str]) -> None:
    """A path that is written in full is one file; any other may be each file of the folder."""
    head = f"import os\nfrom pathlib import Path\n{UP}HERE = Path(__file__).parent\n"
    data = {name: name for name in ("users/a.csv", "users/b.csv", "users/data/c.csv", "shared/s.csv", "orders/o.csv")}
    left_out = dict.fromkeys(("users/.hidden", "users/tests/t.csv", "users/m.pyc", "users/unused.py"), "x")
    text = f"{head}def transform_up(item):\n    return {{'n': open({path}).read()}}\n"
    found = script(tmp_path, {"users/v1_a.py": text, **data, **left_out})
    assert used(found) == expected
    (tmp_path / "transforms").rename(tmp_path / "elsewhere")  # as on a worker, which has no such folder
    assert up(found)["n"] in expected


def test_a_module_opens_files_beside_itself(tmp_path: Path) -> None:
    rates = "from pathlib import Path\nFILE = Path(__file__).parent / 'rates.json'\n"
    text = f"from shared.rates import FILE\n{UP}def transform_up(item):\n    return {{'n': FILE.read_bytes()}}\n"
    files = {"shared/rates.py": rates, "shared/rates.json": b"\xff\x00", "shared/other.json": "{}"}
    found = script(tmp_path, {"users/v1_a.py": text, **files})
    assert used(found) == ["shared/rates.json", "shared/rates.py"]
    assert up(found) == {"n": b"\xff\x00"}


def test_a_table_with_another_name_has_the_same_folder(tmp_path: Path) -> None:
    head = f"from pathlib import Path\nfrom names import N\n{UP}def transform_up(item):\n"
    text = f"{head}    return {{'n': (Path(__file__).parent / 'a.csv').read_text() + N}}\n"
    files = {"users/v1_a.py": text, "users/a.csv": "a", "users/names.py": "N = 'b'\n"}
    assert up(replace(script(tmp_path, files), table="users-prod")) == {"n": "ab"}


def test_a_file_that_does_not_travel_is_not_found(tmp_path: Path) -> None:
    """Not even on the machine that has the file: otherwise it would be missing only in a job."""
    head = f"from pathlib import Path\n{UP}def transform_up(item):\n"
    text = f"{head}    return {{'n': open(Path(__file__).parents[2] / 'x.csv').read()}}\n"
    (tmp_path / "x.csv").write_text("x")
    with pytest.raises(FileNotFoundError):
        up(script(tmp_path, {"users/v1_a.py": text}))


def test_copies_cannot_be_changed_and_are_shared_by_all_that_load_the_script(tmp_path: Path) -> None:
    head = f"from pathlib import Path\n{UP}FILE = Path(__file__).parent / 'a.csv'\n"
    found = script(tmp_path, {"users/v1_a.py": f"{head}def transform_up(item): ...\n", "users/a.csv": "a"})
    assert load(found).FILE == load(found).FILE
    assert os.stat(load(found).FILE).st_mode & 0o777 == 0o444


def test_a_link_is_followed_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    text = f"import linked\n{UP}HERE = __file__\ndef transform_up(item):\n    return {{'n': linked.N}}\n"
    (tmp_path / "library.py").write_text("N = 3\n")
    project(tmp_path, {"users/v1_a.py": text})
    (tmp_path / "transforms/users/linked.py").symlink_to(tmp_path / "library.py")
    (tmp_path / "transforms/users/around").symlink_to(tmp_path / "transforms")
    assert up(script(tmp_path, {})) == {"n": 3}


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("names.py", "def f(:\n", "names.py:1", "syntax error"),
        ("names.py", b"# \xff\n", "names.py", "is not UTF-8"),
        ("names.py", "x = 1\ny = 1 / 0\n", "names.py:2", "ZeroDivisionError"),
        ("names.py", "import no_such_package\n", "names.py:1", "No module named 'no_such_package'"),
        ("names.py", "", "v1_a.py:1", "cannot import name 'f' from"),
        ("names.pyc", b"\x00", "v1_a.py:1", "No module named 'names'"),
        ("_other.py", "", "v1_a.py:1", "No module named 'names'"),
    ],
)
def test_an_error_names_the_module_and_the_line(
    tmp_path: Path, name: str, content: str | bytes, where: str, what: str
) -> None:
    text = f"from names import f\n{UP}def transform_up(item): ...\n"
    error = fault(tmp_path, {"users/v1_a.py": text, f"users/{name}": content})
    assert (error.where, what in error.what) == (f"transforms/users/{where}", True), error


def test_a_missing_package_is_named_with_what_to_do(tmp_path: Path) -> None:
    error = fault(tmp_path, {"users/v1_a.py": f"import requests_x.y\n{UP}def transform_up(item): ...\n"})
    assert (error.where, "'requests_x'" in error.what) == ("transforms/users/v1_a.py:1", True)
    assert all(word in error.hint for word in (sys.executable, "pip install requests_x", "requirements", "shared"))


@pytest.mark.parametrize("place", ["users", "shared"])
@pytest.mark.parametrize("name", ["json", "dynamodt"])
def test_a_module_with_the_name_of_pythons_own_is_refused(tmp_path: Path, place: str, name: str) -> None:
    files = {"users/v1_a.py": f"\nfrom {name} import x\n{UP}def transform_up(item): ...\n", f"{place}/{name}.py": ""}
    error = fault(tmp_path, files)
    assert error.where == "transforms/users/v1_a.py:2"
    assert f"transforms/{place}/{name}.py" in error.what and "Rename" in error.hint


def test_an_unused_module_with_the_name_of_a_python_module_is_ignored(tmp_path: Path) -> None:
    text = f"import json\nfrom .types import T\n{UP}def transform_up(item):\n    return {{'n': json.dumps(T)}}\n"
    files = {"users/v1_a.py": text, "users/types.py": "T = 1\n", "users/csv.py": "", "users/json/data.txt": ""}
    assert up(script(tmp_path, files)) == {"n": "1"}


@pytest.mark.parametrize(("files", "size", "what"), [(1, 11, "11 bytes"), (3, 1, "3 files")])
def test_too_large_or_too_many_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int, size: int, what: str
) -> None:
    monkeypatch.setattr(used_files, "MOST_BYTES", 10)
    monkeypatch.setattr(used_files, "MOST_FILES", 2)
    head = f"{UP}HERE = print(__file__)\ndef transform_up(item): ...\n"
    data = {f"users/{number}.csv": "x" * size for number in range(files)}
    error = fault(tmp_path, {"users/v1_a.py": head, **data})
    assert f"transforms/users/{files - 1}.csv" in error.what and f"uses {files} files" in error.what, what
    assert "context.folder" in error.hint


# ---------------------------------------------------------------- the folder


def test_a_module_is_not_a_version_and_a_folder_of_modules_not_a_table(tmp_path: Path) -> None:
    files = {"users/v1_a.py": f"{UP}def transform_up(item): ...\n", "users/names.py": "", "shared/money.py": ""}
    transforms = project(tmp_path, files) / "transforms"
    assert tables(transforms) == ("users",)
    assert [one.sequence for one in read_versions(transforms, "users")] == [1]


def test_a_version_with_another_name_is_still_reported(tmp_path: Path) -> None:
    files = {"users/v1_a.py": f"{UP}def transform_up(item): ...\n", "users/add_total.py": "sequence = 2  # next\n"}
    with pytest.raises(ScriptError, match=r"add_total\.py: is not named as a version"):
        read_versions(project(tmp_path, files) / "transforms", "users")


def test_a_module_imported_by_prepare_is_part_of_its_checksum(tmp_path: Path) -> None:
    head = f"from rows import rows\nfrom other import x\n{UP}def prepare(context):\n    yield from rows()\n"
    files = {"users/v1_a.py": f"{head}def transform_up(item):\n    return x(item)\n",
             "users/rows.py": "def rows(): ...\n", "users/other.py": "def x(item): ...\n"}  # fmt: skip
    first = script(tmp_path, files).prepare_checksum
    assert script(tmp_path, {"users/other.py": "def x(item): return item\n"}).prepare_checksum == first
    assert script(tmp_path, {"users/rows.py": "def rows(): return []\n"}).prepare_checksum != first


def test_a_folder_is_listed_once_for_all_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {f"users/v{n}_a.py": f"import names\nsequence = {n}\ndef transform_up(item): ...\n" for n in range(1, 9)}
    transforms = project(tmp_path, {**versions, "users/names.py": ""}) / "transforms"
    listed: list[Path] = []
    entries = used_files.entries
    monkeypatch.setattr(used_files, "entries", lambda path, planned=(): listed.append(path) or entries(path, planned))
    assert all(used(one) == ["users/names.py"] for one in read_versions(transforms, "users"))
    assert len(listed) == len(set(listed)) <= 3


def test_load_script_imports_what_the_run_does(tmp_path: Path) -> None:
    text = f"from names import N\n{UP}def items():\n    yield {{'id': N}}\n"
    project(tmp_path, {"users/v1_a.py": text, "users/names.py": "N = 1\n"})
    assert list(load_script(tmp_path / "transforms/users/v1_a.py").items()) == [{"id": 1}]
    found = script(tmp_path, {})
    check(found)
    assert list(item_rows(found)) == [{"id": 1}]


def test_copies_are_removed_with_their_process_or_by_the_next_one(tmp_path: Path) -> None:
    """A forked process keeps those of its parent; a killed process leaves its own, which another process removes."""
    head = f"from pathlib import Path\n{UP}FILE = Path(__file__).parent / 'a.csv'\n"
    script(tmp_path, {"users/v1_a.py": f"{head}def transform_up(item): ...\n", "users/a.csv": "a"})
    made = tmp_path / "copies"
    made.mkdir()
    code = f"""
import os, signal, sys
from dynamodt import load_script
file = load_script({str(tmp_path / "transforms/users/v1_a.py")!r}).FILE
if not os.fork():
    sys.exit(load_script({str(tmp_path / "transforms/users/v1_a.py")!r}).FILE != file)
assert os.wait()[1] == 0 and file.read_text() == "a"
print(*sorted(os.listdir({str(made)!r})), flush=True)
if sys.argv[1] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
"""

    def run(how: str) -> list[str]:
        environment = {**os.environ, "TMPDIR": str(made)}
        done = subprocess.run([sys.executable, "-c", code, how], env=environment, stdout=subprocess.PIPE, text=True)
        assert done.returncode == (-9 if how == "die" else 0)
        return done.stdout.split()

    assert len(run("die")) == 1 == len(os.listdir(made))
    assert len(run("end")) == 1 and os.listdir(made) == []
