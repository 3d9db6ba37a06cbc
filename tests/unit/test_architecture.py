"""The rules of the house that no linter knows. (`make lint` sees to the direction of imports.)"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import HANG_SECONDS

PACKAGE = Path(__file__).parents[2] / "pipelines" / "dynamodt"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LONGEST, LONG, MOST = 60, 30, 0.9
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "lib", "tools", "base", "core_utils"}
HEAVY = (
    "apache_beam",
    "boto3",
    "botocore",
    "numpy",
    "orjson",
    "pyarrow",
    "pyspark",
    "questionary",
    "s3transfer",
    "urllib3",
)


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its length in lines, docstring and signature included."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node.end_lineno - node.lineno + 1


def test_no_function_is_over_60_lines() -> None:
    assert [name for name, length in functions() if length > LONGEST] == []


def test_nine_functions_in_ten_are_under_30_lines() -> None:
    lengths = [length for _, length in functions()]
    assert len(lengths) > 200
    assert sum(length < LONG for length in lengths) >= MOST * len(lengths)


def test_modules_are_named_for_what_they_do() -> None:
    assert [path for path in MODULES if {path.stem.strip("_"), path.parent.name} & VAGUE] == []


def test_every_module_says_what_it_is_for() -> None:
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


def loaded(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["dynamodt", "dynamodt.cli.app"])
def test_a_start_imports_nothing_heavy(module: str) -> None:
    """`dynamodt --help` must answer in 0.4 s."""
    assert loaded(f"import {module}").isdisjoint(HEAVY)


def test_an_author_s_import_brings_the_standard_library_only() -> None:
    statement = "from dynamodt import Put, Delete, without, load_script"
    assert loaded(statement) - loaded("pass") - sys.stdlib_module_names == {"dynamodt"}


PURE = ("script", "model", "rate.py", "errors.py")


def test_what_is_pure_needs_the_standard_library_only() -> None:
    core = [
        path.relative_to(PACKAGE.parent).with_suffix("")
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] in PURE
    ]
    names = [".".join(path.parts).removesuffix(".__init__") for path in core]
    assert len(names) > 10
    assert loaded(f"import {', '.join(names)}") - loaded("pass") - sys.stdlib_module_names == {"dynamodt"}
