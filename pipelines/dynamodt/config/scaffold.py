"""Version files from a template: `init` writes a table's first version, `create` its next one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from string import Template

from dynamodt.errors import ScriptError, UsageError, file_explained
from dynamodt.script.names import check_table_name, slug, version_files

_FIRST = "initial"
_LONGEST_SLUG = 80

_SCRIPT = Template('''\
"""$title."""

sequence = $number


def transform_up(item):
    # Called for every item, a plain dict; returns its new shape. Keep old attributes: running code reads them.
    #     return {**item, "total": item["price"] * item["amount"]}
    return item


def transform_down(item):
    # From the new shape back to the old one (with `from dynamodt import without` at the top):
    #     return without(item, "total")
    return item
''')

_TEST = Template("""\
from pathlib import Path

from dynamodt import load_script

script = load_script(Path(__file__).parents[1] / "$file_name")

# One item, before and after. Numbers are Decimal, as DynamoDB returns them.
BEFORE = {"id": "1"}
AFTER = {"id": "1"}


def test_up():
    assert script.transform_up(BEFORE) == AFTER


def test_down():
    assert script.transform_down(AFTER) == BEFORE
""")


def init(folder: Path, tables: Iterable[str], *, dry_run: bool = False) -> list[Path]:
    """Creates `folder`/TABLE with a template v1 and its test, for each table without versions.

    Returns the files that were written (in a dry run, that would be); overwrites none. Raises UsageError for an invalid
    name of a table, before any file is written.
    """
    fresh = [table for table in tables if not _has_versions(folder, table)]
    return [path for table in fresh for path in _write_version(folder, table, 1, _FIRST, dry_run)]


def create(folder: Path, table: str, name: str, *, dry_run: bool = False) -> list[Path]:
    """Writes the table's next version file from the template, and its test; `name` describes the version.

    Returns the files that were written (in a dry run, that would be); overwrites none. Raises UsageError for a name
    without letters or digits, or a long one, ScriptError if the existing versions are not in order.
    """
    number = len(_versions(folder, table)) + 1
    return _write_version(folder, table, number, _slug(name), dry_run)


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


def _write_version(folder: Path, table: str, number: int, name: str, dry_run: bool) -> list[Path]:
    stem = f"v{number}_{name}"
    script = folder / table / f"{stem}.py"
    # pytest needs unique names of test files across folders: the table is part of the name.
    test = folder / table / "tests" / f"test_{slug(table)}_{stem}.py"
    title = name.replace("_", " ").capitalize()
    written = [
        (script, _SCRIPT.substitute(title=title, number=number)),
        (test, _TEST.substitute(file_name=script.name)),
    ]
    if dry_run:
        return [path for path, _ in written if not path.exists()]
    return [path for path, text in written if _write_new(path, text)]


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
