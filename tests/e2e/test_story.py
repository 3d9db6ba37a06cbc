"""From an empty folder to an accepted edit, as the author of a first version: the commands run with the wheel installed
and without this repository, and each command is suggested by the one before."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.project import Done, Project

pytestmark = pytest.mark.chaos  # half a minute

SPLIT = '''\
"""Split name into first_name and last_name."""

from dynamodt import Item, Result, without

sequence = 2


def transform_up(item: Item) -> Result:
    first, _, last = item["name"].partition(" ")
    return {**item, "first_name": first, "last_name": last}


def transform_down(item: Item) -> Result:
    return without(item, "first_name", "last_name")
'''
REFORMATTED = """\
'''One name becomes two.'''
from dynamodt import Item, Result, without
sequence = 2
def transform_up( item: Item ) -> Result:
    # the first word, and the rest
    first, _, last = item['name'].partition(' ')
    return {
        **item, 'first_name': first, 'last_name': last,
    }
def transform_down(item: Item) -> Result: return without(item, 'first_name', 'last_name')
"""
ODD = "odd one"  # without a name; its key needs quotes in a shell
CHANGED = {"first_name": "Ada", "last_name": "Byron"}


class Session:
    """The typed commands, one after the other."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.last: Done = Done([], 0, "", "")

    def types(self, line: str, code: int = 0, *, says: str = "") -> str:
        """One command, with its exit code and some of its output. Returns all of it."""
        program, *words = shlex.split(line)
        assert program == "dynamodt"
        self.last = self.project.ddt(*words)
        text = self.last.stdout + self.last.stderr
        assert self.last.returncode == code, (line, text)
        assert says in text, (line, text)
        return text

    def follows(self, start: str, code: int = 0, *, says: str = "", **filled: str) -> str:
        """The last command's suggestion that begins with these words, with its placeholders replaced."""
        text = self.last.stdout + self.last.stderr
        found = re.search(rf"{re.escape(start)}[^\n;]*?(?=   |  \S|\n|;|$)", text)
        assert found, (start, text)
        line = found[0]
        for name, value in filled.items():
            assert name in line, (name, line)
            line = line.replace(name, shlex.quote(value))
        return self.types(line, code, says=says)

    def tests(self, failed: str = "") -> None:
        done = self.project.pytest("--dynamodt", "-q")
        assert done.returncode == bool(failed), done.stdout + done.stderr
        assert failed in done.stdout


def test_a_first_version_from_an_empty_folder(installed: Project) -> None:
    """The table is that of the embedded stage; the application's writes are boto3's."""
    one, transforms = Session(installed), installed.folder / "transforms" / "users"
    _begins(one, transforms)
    _looks_before(one)
    run = _meets_a_dead_letter(one)
    _goes_back_and_forward(one, transforms, run)
    _edits(one, transforms)
    _deploys_an_older_release(one, transforms)
    _history_is_told(one, run)


def _begins(one: Session, transforms: Path) -> None:
    one.types("dynamodt status", 2, says="there is no folder transforms/ here")
    one.follows("dynamodt init --table users", says="v1_initial.py")
    (table,) = one.project.json("check")["tables"]  # it says the same as `init` has
    assert table["error"]["hint"].endswith(": dynamodt init --table users --key id:S")
    one.follows("dynamodt init --table users --key id:S", says="dynamodt.toml")
    one.types("dynamodt create --table users split_name", says="v2_split_name.py")
    (transforms / "v2_split_name.py").write_text(SPLIT, encoding="utf-8")
    test = transforms / "tests" / "test_users_v2_split_name.py"
    text = test.read_text(encoding="utf-8").replace('BEFORE: Item = {"id": "1"', f'{_BEFORE}, "name": "Ada Byron"')
    test.write_text(
        text.replace('AFTER: Item = {"id": "1"', f"AFTER: Item = {{**BEFORE, **{CHANGED}"), encoding="utf-8"
    )
    one.follows("dynamodt check --table users", says="no item")
    for number in range(24):
        _put(one, id=f"u{number}", name="Ada Byron")


_BEFORE = 'BEFORE: Item = {"id": "1"'


def _looks_before(one: Session) -> None:
    one.types("dynamodt validate", says="2 versions  valid")
    checked = one.types("dynamodt check --table users --save", says="saved transforms/users/sample.jsonl")
    assert "fault" not in checked.replace("no fault", "")
    assert "warning raises: KeyError: 'name', where name is absent" in checked
    one.tests()
    one.types("dynamodt stamp --table users --to 1", says="users is at version 1")
    one.types("dynamodt status --check", 1, says="pending: v2 split_name")
    one.types("dynamodt plan", says="24 items (counted now), all of them sampled")
    one.follows("dynamodt up --table users --dry-run", says="24 =      24")
    assert "first_name" not in _item(one, "u1")


def _meets_a_dead_letter(one: Session) -> str:
    """The application has written an item since the dry run. Returns the run."""
    _put(one, id=ODD)
    one.types("dynamodt up --by ada --reason 'two names'", 1, says="KeyError: 'name'")
    one.follows("dynamodt show --table users", says='keys: "odd one"')
    one.follows("dynamodt retry --table users --accept", says="1 dead letter, accepted", TEXT="a test account")
    shown = one.project.json("show", _run(one))
    assert [(each["error"], each["items"], each["accepted"]) for each in shown["errors"]] == [
        ("KeyError: 'name'", 1, 1)
    ]
    assert _item(one, "u1").items() >= CHANGED.items()
    one.types("dynamodt status --check", says="nothing pending")
    return str(shown["run"])


def _goes_back_and_forward(one: Session, transforms: Path, run: str) -> None:
    (transforms / "v2_split_name.py").write_text(REFORMATTED, encoding="utf-8")
    one.types("dynamodt status --check", says="nothing pending")
    one.types(f"dynamodt undo {run} --reason 'the release is wrong'", says="24 restored")
    assert _item(one, "u1") == {"id": "u1", "name": "Ada Byron"}
    one.types("dynamodt up --max-errors 1", says="succeeded with 1 dead letter")
    assert _item(one, "u1").items() >= CHANGED.items()
    assert _item(one, ODD) == {"id": ODD}


def _edits(one: Session, transforms: Path) -> None:
    edited = transforms / "v2_split_name.py"
    edited.write_text(edited.read_text(encoding="utf-8").replace("': first", "': first.strip()"), encoding="utf-8")
    one.types("dynamodt status --check", 1, says="users at version 2, 1 edited\n")
    one.types("dynamodt up", 3, says="was edited after version 2 of users was applied")
    one.follows(
        "dynamodt repair --table users --reason", says="v2 split_name  up  repaired", WHY="the same for all items"
    )
    one.types("dynamodt status --check", says="nothing pending")
    one.tests()


def _deploys_an_older_release(one: Session, transforms: Path) -> None:
    one.types("dynamodt create --table users add_total", says="v3_add_total.py")
    one.types("dynamodt stamp --table users --to 3 --by ci --reason 'nothing to add yet'", says="at version 3")
    (transforms / "v3_add_total.py").unlink()
    (transforms / "tests" / "test_users_v3_add_total.py").unlink()
    one.types("dynamodt up", says="v3_add_total is applied, and has no file here")
    one.types("dynamodt up --strict", 3, says="v3_add_total is applied, and has no file here")
    one.types("dynamodt status --check", 1, says="users at version 3, 1 missing\n")
    one.tests()


def _history_is_told(one: Session, run: str) -> None:
    (table,) = one.project.json("history", "--table", "users")["tables"]
    told = [(each["version"], each["status"], each["by"], each["reason"]) for each in table["runs"]]
    user = told[0][2]
    assert told == [
        (1, "stamped", user, ""),
        (2, "undone", user, "two names"),  # by any process
        (2, "succeeded", user, ""),
        (2, "repaired", user, "the same for all items"),
        (3, "stamped", "ci", "nothing to add yet"),
    ]
    undone = table["runs"][1]
    assert (undone["run"], undone["undone_reason"]) == (run, "the release is wrong")
    assert [(each["items"], each["why"]) for each in undone["accepted"]] == [(1, "a test account")]
    one.types("dynamodt history", says="undone")


def _run(one: Session) -> str:
    found = re.search(r"run[s/a-z ]*/?(\d{8}T\S+?-[0-9a-f]{6})", one.last.stdout + one.last.stderr)
    assert found, one.last
    return found[1]


def _put(one: Session, **item: str) -> None:
    one.project.client().put_item(TableName="users", Item={name: {"S": value} for name, value in item.items()})


def _item(one: Session, key: str) -> dict[str, str]:
    found = one.project.client().get_item(TableName="users", Key={"id": {"S": key}}, ConsistentRead=True)["Item"]
    return {name: value["S"] for name, value in found.items()}
