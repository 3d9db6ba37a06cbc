"""The checksum of a script's syntax, which is independent of its layout and of the Python that computes it."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import dynamodt.script.syntax as module
from dynamodt.model.runs import AppliedVersion, Script
from dynamodt.script.load import load
from dynamodt.script.read import read_script
from dynamodt.script.syntax import syntax_checksum
from dynamodt.script.versions import is_unedited

pytestmark = pytest.mark.unit

TEXT = '''
"""Splits the name."""
sequence = 1
STEP, NAME = 1000, "first" " name"


def transform_up(item: dict[str, object]) -> dict[str, object]:
    """One item."""
    first, last = item["name"].split(" ")  # of two words
    del first, last
    return {**item, "n": STEP * 2, f"{NAME}!{item['id']!r:>{STEP}}": 'x'}
'''
SAME = {
    "a formatter": ("= 1000, ", "= \\\n    1000,"), "a number": ("1000", "1_000"), "quotes": ("'x'", '"x"'),
    "parentheses": ("STEP * 2", "(STEP * 2)"), "one literal": ('"first" " name"', '"first name"'),
    "a docstring": ("Splits the name.", "Another title."), "its absence": ('    """One item."""\n', ""),
    "a comment": ("  # of two words", ""), "a licence": ('"""Splits', '# SPDX-License-Identifier: MIT\n"""Splits'),
    "a deletion": ("del first, last", "del (first, last)"), "pass": ("    return", "    pass\n    return"),
    "an f-string": ("f\"{NAME}!{item['id']", "f\"{NAME}\" '!' f\"{item['id']"),
    "a raw text": ("'x'", "r'x'"), "a u": ("'x'", "u'x'"), "a hexadecimal": ("1000", "0x3E8"),
}  # fmt: skip
OTHER = {
    "an annotation": (" -> dict[str, object]", " -> dict"), "a type": ("1000", "1000.0"), "True": ("STEP * 2", "True"),
    "an order": ("{**item, ", '{"a": 1, **item, '), "a text": ("'x'", "'y'"), "a name": ("def transform_up", "def up"),
    "bytes": ("'x'", "b'x'"), "a format": (":>", ":<"), "a conversion": ("!r", "!s"),
    "a default": ("object])", "object] = {})"),
}  # fmt: skip


def checksum(text: str) -> str:
    return syntax_checksum(ast.parse(dedent(text)), text)


@pytest.mark.parametrize(("was", "now"), SAME.values(), ids=SAME.keys())
def test_layout_comments_and_docstrings_change_nothing(was: str, now: str) -> None:
    assert was in TEXT and checksum(TEXT.replace(was, now)) == checksum(TEXT)


@pytest.mark.parametrize(("was", "now"), OTHER.values(), ids=OTHER.keys())
def test_every_other_change_changes_the_checksum(was: str, now: str) -> None:
    assert was in TEXT and checksum(TEXT.replace(was, now)) != checksum(TEXT)


@pytest.mark.parametrize("use", ["print(transform_up.__doc__)", "import inspect\ninspect.getdoc(transform_up)"])
def test_a_docstring_that_the_code_reads_counts(use: str) -> None:
    text = f"{TEXT}\n{use}\n"
    assert checksum(text.replace("One item.", "An item.")) != checksum(text)
    assert checksum(text.replace("  # of two words", "")) == checksum(text)


def test_code_that_reads_its_own_source_is_compared_as_a_text() -> None:
    text = f"{TEXT}\nfrom inspect import getsource\n"
    assert checksum(text.replace("  # of two words", "")) != checksum(text)


def test_a_deeply_nested_script_has_a_checksum() -> None:
    assert checksum("x = " + " + ".join("a" * 1500))


# Of forms that Pythons parse differently, or may print differently: as computed by 3.11, 3.12 and 3.13.
FORMS = """
def f(a, /, b: int = 1, *c: str, d=-2.50, **e) -> "X": return {**e, **{"k": [*c]}}
class A(B, metaclass=M):
    x: int
    async def g(self): return [y async for y in z if y]
match x:
    case {"a": None, **rest}: pass
    case A(1, c=[2, *_]) | True | "\\ud800": ...
try: ...
except* E as e: raise X from e
with (a as b, c as d): pass
s = f"{x:>10}{y!r}{z = }{w:{n}.{p}f}{v:}{q:%Y-%m}{{}}" "\\N{BULLET}\U0001fae8é" f'{d["k"]}{(lambda: 1)():x}'
n = 0x10 + 1_000 + 1e23 + 2j + 0.1 + 10 ** -3
t = a[1:2, ::3, None, ...], b"\\xff", (yield_ := 3), not b, lambda *a, k=None: (yield)
from . import d as e
from ..g import *
"""
EXPECTED = "90aac2fa52f1a782e548e9f5155fa32923bca2f7c6dfd142264aeec410ec9952"
PROGRAM = f"""
import ast, runpy, sys
made = runpy.run_path({module.__file__!r})["syntax_checksum"]
text = sys.stdin.buffer.read().decode()
print(made(ast.parse(text), text))
"""


def pythons() -> list[str]:
    """This Python, and the others of the machine."""
    names = [f"python3.{minor}" for minor in (11, 12, 13, 14)]
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    others = [str(path) for name in names for path in root.glob(f"*/bin/{name}")]
    return [sys.executable, *filter(None, map(shutil.which, names)), *others]


def test_every_python_has_the_same_checksum() -> None:
    for python in pythons():
        done = subprocess.run([python, "-I", "-c", PROGRAM], input=FORMS.encode(), capture_output=True, check=False)
        if done.returncode != 127:  # a shim of pyenv without that version
            assert done.stdout.decode().strip() == EXPECTED, (python, done.stderr.decode())


# ---------------------------------------------------------------- of a script, and of what it uses


def script(folder: Path, files: dict[str, str]) -> Script:
    for name, text in files.items():
        path = folder / "transforms" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_script(folder / "transforms" / "users" / "v1_a.py", folder)


UP = "import names\nsequence = 1\ndef transform_up(item):\n    return {**item, 'n': names.N}\n"


def test_a_module_beside_a_script_is_compared_by_its_syntax_and_a_data_file_by_its_bytes(tmp_path: Path) -> None:
    read = "from pathlib import Path\nN = (Path(__file__).parent / 'n.txt').read_text()\n"
    before = script(tmp_path, {"users/v1_a.py": UP, "users/names.py": read, "users/n.txt": "1"})
    same = script(tmp_path, {"users/v1_a.py": f"# a licence\n{UP}", "users/names.py": f"# a licence\n\n{read}"})
    assert (same.content, same.file_checksums) == (before.content, before.file_checksums)
    assert same.exact_content != before.exact_content
    assert script(tmp_path, {"users/n.txt": "1\n"}).content != before.content
    assert script(tmp_path, {"users/n.txt": "1", "users/names.py": f"{read}M = 1\n"}).content != before.content


def test_the_present_text_is_executed(tmp_path: Path) -> None:
    """Its docstrings and lines are those of the file, although its checksum equals an earlier text's."""
    load(script(tmp_path, {"users/v1_a.py": UP, "users/names.py": '"""One."""\nN = 1\n'}))
    again = script(tmp_path, {"users/names.py": '\n"""Another."""\nN = 1\n'})
    assert load(again).names.__doc__ == "Another."


def test_a_python_file_that_is_opened_need_not_be_python(tmp_path: Path) -> None:
    text = f"{UP}from pathlib import Path\nT = (Path(__file__).parent / 'old.py').read_text()\n"
    files = {"users/v1_a.py": text, "users/names.py": "N = 1\n", "users/old.py": "print 'x'\n"}
    assert set(script(tmp_path, files).file_checksums) == {"users/names.py", "users/old.py"}


def test_a_version_that_was_recorded_by_its_text_is_applied_while_the_text_is_the_same(tmp_path: Path) -> None:
    found = script(tmp_path, {"users/v1_a.py": UP, "users/names.py": "N = 1\n"})
    recorded = AppliedVersion("users", 1, "a", found.text_checksum, "run-1", "2026-01-01T00:00:00Z", "me")
    assert is_unedited(found, recorded)
    assert not is_unedited(script(tmp_path, {"users/v1_a.py": f"{UP}M = 1\n"}), recorded)
