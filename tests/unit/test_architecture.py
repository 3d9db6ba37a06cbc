"""The project's rules that no linter checks. (`make lint` checks the direction of imports.)"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from dynamodt.runs.options import OPTIONS
from tests import ROOT
from tests.waiting import HANG_SECONDS

PACKAGE = ROOT / "pipelines" / "dynamodt"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LONGEST, LONG, MOST = 60, 30, 0.9
MOST_LINES, MOST_FILES, LONGEST_CHAIN = 400, 166, 11
VAGUE = {"util", "utils", "helper", "helpers", "common", "misc", "lib", "tools", "base", "core_utils"}
NAMES = {name for option in OPTIONS for name in option.commands}
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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions() -> Iterator[tuple[str, int]]:
    """Every function with its length in lines, docstring and signature included."""
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node.end_lineno - node.lineno + 1


def test_no_function_is_over_60_lines() -> None:
    assert [name for name, length in functions() if length > LONGEST] == []


def test_nine_functions_in_ten_are_under_30_lines() -> None:
    lengths = [length for _, length in functions()]
    assert len(lengths) > 200
    assert sum(length < LONG for length in lengths) >= MOST * len(lengths)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def for_types(tree: ast.Module) -> set[ast.AST]:
    """The statements below an `if TYPE_CHECKING`, which are no imports at run time."""
    tests = (node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    return {below for node in tests for below in ast.walk(node)}


@cache
def imports() -> dict[str, set[str]]:
    """The modules that each module imports, also within functions; a package's `__init__` does not count."""
    modules = {name_of(path): path for path in MODULES if path.name != "__init__.py"}
    return {name: imported(path) & modules.keys() - {name} for name, path in modules.items()}


def imported(path: Path) -> set[str]:
    tree = parsed(path)
    nodes = set(ast.walk(tree)) - for_types(tree)
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return plain | {str(n.module) for n in froms} | {f"{n.module}.{alias.name}" for n in froms for alias in n.names}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    list(TopologicalSorter(imports()).static_order())


def test_no_chain_of_imports_is_longer_than_11_modules() -> None:
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(imports()).static_order():
        chains[name] = [name, *max((chains[below] for below in imports()[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= LONGEST_CHAIN, longest


def test_there_are_at_most_166_files() -> None:
    assert len(MODULES) <= MOST_FILES


def test_no_file_is_over_400_lines() -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert [path for path, length in lengths.items() if length > MOST_LINES] == []


def test_no_test_imports_another_test_module() -> None:
    pattern = re.compile(r"^\s*(from|import) \S*\btest_\w+( import|$)|^from tests\S* import .*\btest_", re.MULTILINE)
    paths = (ROOT / "tests").rglob("*.py")
    assert [path for path in paths if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_no_module_has_a_meaningless_name() -> None:
    assert [path for path in MODULES if {path.stem.strip("_"), path.parent.name} & VAGUE] == []


def test_every_module_has_a_docstring() -> None:
    assert [path for path in MODULES if not ast.get_docstring(parsed(path))] == []


def as_text(path: Path) -> Iterator[str]:
    """The texts of a module that hold a command with arguments, and the f-strings that flatten a suggested one."""
    tree = parsed(path)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    typed = re.compile(rf"\bdynamodt ({'|'.join(NAMES)})( --| $)")
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if is_text and typed.search(node.value):
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}"
        if isinstance(node, ast.FormattedValue) and "suggest(" in ast.unparse(node):
            yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_a_hint_names_its_commands_by_suggest() -> None:
    """Only then can the command line add the stage, and `.venv/bin/` with make."""
    assert [place for path in MODULES if not path.name.startswith("help_") for place in as_text(path)] == []


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
def test_the_start_of_the_command_line_imports_no_heavy_package(module: str) -> None:
    """`dynamodt --help` must answer in 0.4 s."""
    assert loaded(f"import {module}").isdisjoint(HEAVY)


def test_an_author_s_import_brings_the_standard_library_only() -> None:
    statement = "from dynamodt import Put, Delete, without, load_script"
    assert loaded(statement) - loaded("pass") - sys.stdlib_module_names == {"dynamodt"}


PURE = ("script", "model", "rate.py", "errors.py")


def test_pure_modules_import_only_the_standard_library() -> None:
    core = [
        path.relative_to(PACKAGE.parent).with_suffix("")
        for path in MODULES
        if path.relative_to(PACKAGE).parts[0] in PURE
    ]
    names = [".".join(path.parts).removesuffix(".__init__") for path in core]
    assert len(names) > 10
    assert loaded(f"import {', '.join(names)}") - loaded("pass") - sys.stdlib_module_names == {"dynamodt"}
