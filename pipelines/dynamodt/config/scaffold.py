"""Version files from a template: `init` writes a table's first version, `create` its next one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from dynamodt.config.settings import Key
from dynamodt.errors import ScriptError, UsageError, file_explained, suggest
from dynamodt.model.tables import KeyAttribute
from dynamodt.script.names import check_table_name, slug, version_files

_FIRST = "initial"
_LONGEST_SLUG = 80

_FIRST_NOTE = """
# A first version that returns each item as it is has nothing to run: `up` would only read the table. This records it
# as applied instead: $stamp
"""
_SCRIPT = Template('''\
"""$title."""

from dynamodt import Item, Result
$note
sequence = $number


def transform_up(item: Item) -> Result:
    # Called for every item, a plain dict; returns its new shape. Keep old attributes: running code reads them.
    #     return {**item, "total": item["price"] * item["amount"]}
    return item


def transform_down(item: Item) -> Result:
    # From the new shape back to the old one (with `without` imported from dynamodt, too):
    #     return without(item, "total")
    return item
''')

_TEST = Template("""\
${imports}from pathlib import Path

from dynamodt import Item
from dynamodt.testing import transformed

VERSION = Path(__file__).parents[1] / "$file_name"
KEY = $key  # of the table

# One item, before and after. Numbers are Decimal, as DynamoDB returns them.
BEFORE: Item = $item
AFTER: Item = $item


def test_up() -> None:
    assert transformed(VERSION, [BEFORE], key=KEY) == [AFTER]


def test_down() -> None:
    assert transformed(VERSION, [AFTER], direction="down", key=KEY) == [BEFORE]
""")


_ID = (KeyAttribute("id", "S"),)
_VALUES = {"S": '"1"', "N": "Decimal(1)", "B": 'b"1"'}


def init(folder: Path, tables: Iterable[str], keys: Mapping[str, Key] = {}, *, dry_run: bool = False) -> list[Path]:
    """Creates `folder`/TABLE with a template v1 and its test, for each table without versions. `keys` are those of the
    tables, as far as they are known: a test has an item with its table's key.

    Returns the files that were written (in a dry run, that would be); overwrites none. Raises UsageError for an invalid
    name of a table, before any file is written.
    """
    written = []
    for table, begun in [(table, _has_versions(folder, table)) for table in tables]:
        key = keys.get(table) or _ID
        if begun:
            written += _with_key(folder, table, key, dry_run)
        else:
            written += _write_version(folder, table, 1, _FIRST, dry_run, key)
    return written


def _with_key(folder: Path, table: str, key: Key, dry_run: bool) -> list[Path]:
    """The test of the first version, written again with the table's key, if it is as it was written without one."""
    (_, unknown), (test, known) = (_contents(folder, table, 1, _FIRST, one)[1] for one in (_ID, key))
    if unknown == known or not test.is_file() or test.read_text(encoding="utf-8") != unknown:
        return []
    if not dry_run:
        with file_explained("written", test):
            test.write_text(known, encoding="utf-8")
    return [test]


def create(folder: Path, table: str, name: str, key: Key = (), *, dry_run: bool = False) -> list[Path]:
    """Writes the table's next version file from the template, and its test; `name` describes the version, `key` is the
    table's, if it is known.

    Returns the files that were written (in a dry run, that would be); overwrites none. Raises UsageError for a name
    without letters or digits, or a long one, ScriptError if the existing versions are not in order.
    """
    number = len(_versions(folder, table)) + 1
    return _write_version(folder, table, number, _slug(name), dry_run, key or _ID)


def _has_versions(folder: Path, table: str) -> bool:
    """Also if they are not in order, which other commands report."""
    try:
        return bool(_versions(folder, table))
    except ScriptError:
        return True


def _versions(folder: Path, table: str) -> tuple[Path, ...]:
    check_table_name(table)
    for place in (folder, folder / table):
        if place.exists() and not place.is_dir():
            raise UsageError(f"{place} is a file, not a folder", hint="move it away")
    return version_files(folder, table) if (folder / table).is_dir() else ()


def _slug(name: str) -> str:
    short = re.sub(r"^v[0-9]+(_|$)", "", slug(name))
    if not short or len(short) > _LONGEST_SLUG:
        raise UsageError(
            f"{name!r} cannot be the name of a version",
            hint=f"describe it in letters and digits, at most {_LONGEST_SLUG}, such as split_name",
        )
    return short


def _write_version(folder: Path, table: str, number: int, name: str, dry_run: bool, key: Key) -> list[Path]:
    written = _contents(folder, table, number, name, key)
    if dry_run:
        return [path for path, _ in written if not path.exists()]
    return [path for path, text in written if _write_new(path, text)]


def _contents(folder: Path, table: str, number: int, name: str, key: Key) -> tuple[tuple[Path, str], tuple[Path, str]]:
    """A version's file and its test, each with its text."""
    stem = f"v{number}_{name}"
    script = folder / table / f"{stem}.py"
    # pytest needs unique names of test files across folders: the table is part of the name.
    test = folder / table / "tests" / f"test_{slug(table)}_{stem}.py"
    title = name.replace("_", " ").capitalize()
    note = Template(_FIRST_NOTE).substitute(stamp=suggest("stamp", table=table, to=1)) if number == 1 else ""
    item = "{" + ", ".join(f"{json.dumps(one, ensure_ascii=False)}: {_VALUES[kind]}" for one, kind in key) + "}"
    types = json.dumps(dict(key), ensure_ascii=False)
    imports = "from decimal import Decimal\n" if "Decimal" in item else ""
    return (
        (script, _SCRIPT.substitute(title=title, number=number, note=note)),
        (test, _TEST.substitute(file_name=script.name, item=item, imports=imports, key=types)),
    )


def _write_new(path: Path, text: str) -> bool:
    """Writes the file unless it exists; returns whether it was written."""
    with file_explained("written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("x", encoding="utf-8")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(text)
        except OSError:
            path.unlink()  # half a script would fail every command
            raise
    return True
