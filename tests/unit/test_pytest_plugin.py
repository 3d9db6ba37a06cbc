"""`pytest --dynamodt`: what it collects, skips and reports; without the option it does nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from dynamodt.config.scaffold import create, init
from dynamodt.model.tables import Item
from dynamodt.script.codec import encode

pytestmark = [pytest.mark.unit, pytest.mark.slow]
pytest_plugins = ["pytester"]

Ask = Callable[..., pytest.RunResult]


@pytest.fixture
def ask(pytester: pytest.Pytester) -> Ask:
    """Runs pytest in a project."""

    def run(*words: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("-p", "dynamodt.pytest_plugin", "-p", "no:cacheprovider", "-rs", *words)

    (pytester.path / "dynamodt.toml").write_text('[stages.local.tables]\nusers = { id = "S" }\norders = { id = "S" }\n')
    return run


def version(folder: Path, number: int, text: str, table: str = "users") -> None:
    path = folder / "transforms" / table / f"v{number}_change.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"from dynamodt import Delete, Put\nsequence = {number}\n" + dedent(text))


def sample(folder: Path, *items: Item, of: int | None = None, table: str = "users") -> None:
    head = [] if of is None else [json.dumps({"dynamodt_sample": {"version": of}})]
    path = folder / "transforms" / table / "sample.jsonl"
    path.write_text("\n".join([*head, *(json.dumps(encode(item)) for item in items)]))


def test_without_a_sample_the_reason_names_the_command(ask: Ask, pytester: pytest.Pytester) -> None:
    init(pytester.path / "transforms", ["users"])
    found = ask("--dynamodt", "--dynamodt-folder", str(pytester.path))
    found.assert_outcomes(passed=4, skipped=3)  # two of them generated
    found.stdout.fnmatch_lines(
        ["dynamodt: users: no saved sample: dynamodt check --table users --save",
         "SKIPPED*users/v1_initial.py*: no saved sample: dynamodt check --table users --save"]
    )  # fmt: skip


def test_nothing_is_collected_without_the_option(ask: Ask, pytester: pytest.Pytester) -> None:
    init(pytester.path / "transforms", ["users"])
    create(pytester.path / "transforms", "users", "split")
    ask().assert_outcomes(passed=4)
    code = "import sys, dynamodt.pytest_plugin; print(sorted(m for m in sys.modules if m.startswith('dynamodt')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['dynamodt', 'dynamodt.model', 'dynamodt.model.tables', 'dynamodt.pytest_plugin']"


CHAIN = (
    """
def transform_up(item): return {**item, 'v': item['n'] + 1}
def transform_down(item): item.pop('v'); return item
""",
    """
SOURCE = 'export'
def transform_up(item): return {**item, 'id': 'x' + item['id'], 'w': item['v']}
def transform_down(item): item.pop('w'); return {**item, 'id': item['id'][1:]}
""",
    """
IDEMPOTENT = True
def prepare(context):
    assert {'id', 'n'} == set(next(context.items(projection=['id', 'n'])))
    yield 'k', (context.folder / 'k.txt').read_text()
def transform_up(item, prepared): return {**item, 'k': prepared['k'], 'x': item['w']}
def transform_down(item): return item
""",
)


def chain(folder: Path, *texts: str) -> None:
    for number, text in enumerate(texts, 1):
        version(folder, number, text)
    (folder / "transforms" / "users" / "k.txt").write_text("key")


def test_each_version_is_tested_on_the_results_of_the_earlier_ones(ask: Ask, pytester: pytest.Pytester) -> None:
    chain(pytester.path, *CHAIN)
    sample(pytester.path, {"id": "1", "n": 1}, {"id": "2", "n": 2})
    ask("--dynamodt").assert_outcomes(passed=1 + 4 + 4 + 5)
    sample(pytester.path, {"id": "x1", "n": 1, "v": 2, "w": 2}, of=2)
    ask("--dynamodt").assert_outcomes(passed=1 + 4 + 4 + 5)
    sample(pytester.path, {"id": "x1", "n": 1, "v": 2, "w": 2, "k": "key", "x": 2}, of=9)  # of a newer checkout
    ask("--dynamodt").assert_outcomes(passed=1 + 4 + 4 + 5)


def test_a_stamped_version_is_tested_after_another_one_with_the_same_stamp(ask: Ask, pytester: pytest.Pytester) -> None:
    stamped = "STAMP = '_run'\nIDEMPOTENT = True\n"
    version(pytester.path, 1, stamped + "def transform_up(item): return {**item, 'v': 1}\n")
    wrong = "def transform_up(item): return {**item, 'n': 1 / item['n']}\ndef transform_down(item): return 1 / 0\n"
    version(pytester.path, 2, stamped + wrong)
    sample(pytester.path, {"id": "1", "n": 2})
    found = ask("--dynamodt", "-rf")
    found.assert_outcomes(passed=5 + 3, failed=2)
    found.stdout.fnmatch_lines(["*dead letters: 1 of 1 items*", "*1 / 0*", "*a second application changes 1 of 1*"])


def test_a_sample_of_a_later_version_needs_transform_down(ask: Ask, pytester: pytest.Pytester) -> None:
    version(pytester.path, 1, "def transform_up(item): return {**item, 'v': item['n']}")
    version(pytester.path, 2, "def transform_up(item): return {**item, 'w': item['v']}")
    sample(pytester.path, {"id": "1", "n": 1, "v": 1}, of=1)
    found = ask("--dynamodt")
    found.assert_outcomes(passed=1 + 1 + 3, skipped=2)
    found.stdout.fnmatch_lines(["*the sample has version 1, and version 1 has no transform_down*"])


@pytest.mark.parametrize(
    ("text", "test", "shown"),
    [
        ("def transform_up(item): return {**item, 'v': 1 / item['n']}", "up", "*item id = '2': *DivisionByZero*"),
        ("def transform_up(item): return {**item, 'x': 0.5}", "up", "*dead letters: 2 of 2 items*"),
        ("def transform_up(item): return item\ndef transform_down(item): return item['gone']", "down", "*KeyError*"),
        (
            "IDEMPOTENT = True\ndef transform_up(item): return {**item, 'n': item['n'] + 1}",
            "idempotent",
            "*a second application changes 2 of 2 items*",
        ),
        (
            "SOURCE = 'export'\ndef transform_up(item): return {**item, 'id': 'one'}",
            "key_kept",
            "*the key of an insertion is taken, for 1 of 2 items*",
        ),
        (
            "SOURCE = 'export'\ndef transform_up(i): return {'id': 'x' + i['id']}\ndef transform_down(i): return i",
            "key_kept",
            "*transform_down does not bring back to its own key 2 of 2 items*",
        ),
    ],
)
def test_a_wrong_version_is_reported(ask: Ask, pytester: pytest.Pytester, text: str, test: str, shown: str) -> None:
    version(pytester.path, 1, text)
    sample(pytester.path, {"id": "1", "n": 1}, {"id": "2", "n": 0})
    found = ask("--dynamodt")
    assert found.ret == 1
    found.stdout.fnmatch_lines(["collected [456] items", f"*_ users/v1_change.py {test} _*", shown])
    report, _, _ = found.stdout.str().partition(" warnings summary ")  # which names pytest's own files
    assert "site-packages" not in report and "pipelines/dynamodt" not in report


def test_rows_of_items_of_an_idempotent_version_are_not_transformed(ask: Ask, pytester: pytest.Pytester) -> None:
    text = """
    IDEMPOTENT = True
    def items(): yield {'id': 'root'}
    def transform_up(item): return item if item['id'][:2] == 'u#' else {**item, 'id': 'u#' + item['id']}
    """
    version(pytester.path, 1, text)
    sample(pytester.path, {"id": "1"}, {"id": "u#2"})
    ask("--dynamodt").assert_outcomes(passed=5)


def test_the_author_s_line_is_shown(ask: Ask, pytester: pytest.Pytester) -> None:
    version(pytester.path, 1, "import beside\ndef transform_up(item): return beside.of(item)")
    (pytester.path / "transforms" / "users" / "beside.py").write_text("def of(item):\n    return item['absent']\n")
    sample(pytester.path, {"id": "1"})
    found = ask("--dynamodt")
    found.stdout.fnmatch_lines(["*v1_change.py:4: *beside.of*", "*users/beside.py:2: return item*absent*"])


def test_a_gap_fails_only_the_test_of_the_chain(ask: Ask, pytester: pytest.Pytester) -> None:
    version(pytester.path, 1, "def transform_up(item): return item")
    version(pytester.path, 3, "def transform_up(item): return item")
    version(pytester.path, 1, "def transform_up(item): return item", "orders")
    found = ask("--dynamodt", "-k", "chain or loads")
    found.assert_outcomes(failed=1, passed=2)
    found.stdout.fnmatch_lines(["*version 2 is missing*"])


def test_a_version_that_cannot_be_loaded_is_named(ask: Ask, pytester: pytest.Pytester) -> None:
    version(pytester.path, 1, "import nowhere_to_be_found\ndef transform_up(item): return item")
    sample(pytester.path, {"id": "1"})
    found = ask("--dynamodt", "-k", "loads")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*No module named*nowhere_to_be_found*"])


def test_prepare_that_needs_a_stage_skips_its_version_and_those_after_it(ask: Ask, pytester: pytest.Pytester) -> None:
    text = "def prepare(context): yield from context.client('s3')\ndef transform_up(item, p): return item"
    version(pytester.path, 1, text)
    version(pytester.path, 2, "def transform_up(item): return item")
    sample(pytester.path, {"id": "1"})
    found = ask("--dynamodt")
    found.assert_outcomes(passed=3, skipped=4)
    found.stdout.fnmatch_lines(["*prepare of version 1 needs more than this folder: *no client of s3; test it by*"])


@pytest.mark.parametrize(
    ("rows", "why"),
    [("('k', 1), ('k', 2)", "the key 'k' twice"), ("('k', object())", "cannot be stored"), ("7", "row 1")],
)
def test_rows_of_prepare_that_a_stage_would_refuse_fail(
    ask: Ask, pytester: pytest.Pytester, rows: str, why: str
) -> None:
    version(pytester.path, 1, f"def prepare(context): yield from [{rows}]\ndef transform_up(item, p): return item")
    sample(pytester.path, {"id": "1"})
    found = ask("--dynamodt", "-k", "up")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines([f"*{why}*"])


@pytest.mark.parametrize(
    ("body", "failed", "shown"),
    [
        ("yield from LIST[0]", 2, "*prepare fails*list index*|*v1_change.py:4: *yield from LIST?0?*"),
        ("yield open(context.folder / 'none.csv')", 2, "*FileNotFoundError*|*v1_change.py:4: *yield open*"),
        ("yield from context.prepared(7)", 2, "*no earlier version 7*|*v1_change.py:4: *prepared(7)*"),
        ("raise ConnectionError('refused')", 0, "*needs more than this folder: ConnectionError: refused*"),
        (
            "\n  try: context.client('s3')\n  except Exception as e: raise KeyError('s3') from e\n  yield",
            0, "*needs more than this folder: a test has no client of s3*",
        ),
    ],
)  # fmt: skip
def test_an_error_in_prepare_fails_with_the_author_s_lines_unless_it_needs_a_service(
    ask: Ask, pytester: pytest.Pytester, body: str, failed: int, shown: str
) -> None:
    prepare = f"LIST = []\ndef prepare(context): {body}\ndef transform_up(item, p): return item\n"
    version(pytester.path, 1, prepare)
    version(pytester.path, 2, "def transform_up(item): return item\ndef transform_down(item): return item")
    version(pytester.path, 3, "def prepare(c): yield from c.prepared(1)\ndef transform_up(item, p): return item")
    sample(pytester.path, {"id": "1"})
    found = ask("--dynamodt", "-k", "not loads and not chain")
    found.assert_outcomes(failed=failed, skipped=7 - failed)
    found.stdout.fnmatch_lines(shown.split("|"))


def test_without_transforms_the_folder_is_named(ask: Ask) -> None:
    found = ask("--dynamodt")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*there is no folder*transforms*--dynamodt-folder*"])
