"""The files of `init` and `create`: version files from a template, and in `dynamodt.toml` the keys of the embedded
stage's tables.

`init` writes a table's first version, `create` its next one. The text of an existing `dynamodt.toml` is kept: an entry
is added, and written only if the result parses as intended.

The keys may come from the file of a Serverless Framework service, before anything is deployed. Only what is written in
the file, or in a file that it includes as a whole or by a key, is read: values that the framework computes are not. A
table's logical name is its logical id, as the plugin has it (`infra/serverless`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from string import Template
from typing import Any

from dynamodt.config.settings import (
    FILE_NAME,
    SCHEMA_FILE,
    Key,
    StageSettings,
    place,
    read_settings,
    schema,
    settings_of,
)
from dynamodt.config.stage import SERVICE
from dynamodt.errors import Refused, ScriptError, UsageError, file_explained, suggest
from dynamodt.model.tables import KEY_TYPES, WORK_FOLDER, KeyAttribute
from dynamodt.script.names import check_table_name, slug, version_files
from dynamodt.state.storage import make_work_folder

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
    """Creates `folder`/TABLE with a template v1 and its test, for each table without versions. `keys` are the known
    keys of the tables: a test has an item with its table's key.

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
    """Whether a table has versions, in order or not: other commands report their order."""
    try:
        return bool(_versions(folder, table))
    except ScriptError:
        return True


def _versions(folder: Path, table: str) -> tuple[Path, ...]:
    check_table_name(table)
    for path in (folder, folder / table):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file, not a folder", hint="move it away")
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


# ---------------------------------------------------------------- keys in dynamodt.toml

_HEADER = "[stages.local.tables]"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_HINT = "write the partition key, then the sort key if there is one: --key id:S, or --key pk:S,sk:N"
_BEGIN = f"""\
#:schema ./{WORK_FOLDER}/{SCHEMA_FILE}
# The stages of this project. The stage `local` is an emulator on this machine, which creates these tables: the
# partition key, then the sort key if there is one; "S" string, "N" number, "B" binary.

{_HEADER}
"""


def parse_key(text: str) -> Key:
    """`"pk:S,sk:N"` as a key. Raises UsageError for any other text."""
    parts = [part.strip().rpartition(":") for part in text.split(",")]
    key = tuple(KeyAttribute(name.strip(), kind.strip().upper()) for name, _, kind in parts)
    wrong = any(not one.name or one.type not in KEY_TYPES for one in key)
    if wrong or len(key) > 2 or len({one.name for one in key}) < len(key):
        raise UsageError(f"--key cannot be {text!r}", hint=_HINT)
    return key


def shown_key(key: Key) -> str:
    """A key in the form of `--key`."""
    return ",".join(f"{name}:{kind}" for name, kind in key)


def keys_here(folder: Path) -> dict[str, Key]:
    """The keys that a project's own files give tables: those of the embedded stage, and of a Serverless service."""
    keys: dict[str, Key] = {}
    with suppress(UsageError):
        keys |= service_keys(folder)
    return keys | read_settings(folder / FILE_NAME).get("local", StageSettings()).tables


def declare(folder: Path, keys: Mapping[str, Key], dry_run: bool = False) -> Path | None:
    """Gives the embedded stage these tables; returns the file if it was written (in a dry run, would be).

    Raises UsageError for a name that no table has; Refused if the file gives one of them another key, or has a form to
    which no entry can be added.
    """
    file = folder / FILE_NAME
    known = read_settings(file).get("local", StageSettings())
    for table, key in keys.items():
        check_table_name(table)
        if table in known.tables and known.tables[table] != key:
            raise Refused(
                f"the table has the key {shown_key(known.tables[table])} there, and not {shown_key(key)}",
                where=place("stages", "local", "tables", table),
                hint="leave out --key; or correct the file, and create the tables again: " + suggest("local reset"),
            )
    missing = {table: key for table, key in keys.items() if table not in known.tables}
    if not missing or dry_run:
        return file if missing else None
    with file_explained("written", file):
        before = file.read_text(encoding="utf-8-sig") if file.exists() else ""
        text = _with_entries(file, before, known, missing)
        file.write_text(text, encoding="utf-8")
    _write_schema(folder)
    return file


def _write_schema(folder: Path) -> None:
    """A copy that the project's file can refer to, wherever the package is installed."""
    make_work_folder(folder.resolve() / WORK_FOLDER)
    (folder / WORK_FOLDER / SCHEMA_FILE).write_text(schema(), encoding="utf-8")


def _with_entries(file: Path, before: str, known: StageSettings, missing: Mapping[str, Key]) -> str:
    lines = "".join(f"{entry(table, key)}\n" for table, key in missing.items())
    if not before:
        return f"{_BEGIN}{lines}"
    header = re.search(rf"^[ \t]*{re.escape(_HEADER)}[ \t]*(?:#.*)?$\n?", before, re.MULTILINE)
    if header is None:
        text = f"{before.rstrip()}\n\n{_HEADER}\n{lines}"
    else:
        text = f"{before[: header.end()].rstrip()}\n{lines}{before[header.end() :]}"
    try:
        found = settings_of(text, file).get("local")
    except UsageError:
        found = None
    if found is None or replace(found, extras=known.extras) != replace(known, tables={**known.tables, **missing}):
        what = "no entry can be added to the file as it is written"
        raise Refused(what, where=str(file), hint=f"add it yourself: {lines.strip()}")
    return text


def entry(table: str, key: Key) -> str:
    """A table's line below the header."""
    attributes = ", ".join(f"{_quoted(name)} = {json.dumps(kind)}" for name, kind in key)
    return f"{_quoted(table)} = {{ {attributes} }}"


def _quoted(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


# ---------------------------------------------------------------- the keys of a Serverless service


_NAMES = ("serverless.yml", "serverless.yaml", "serverless.json")
_TYPES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")
_INCLUDED = re.compile(r"\$\{file\(([^)]+)\)(?::([A-Za-z0-9_.-]+))?\}")
_MOST_INCLUDED = 10  # files within each other


def service_keys(folder: Path) -> dict[str, tuple[KeyAttribute, ...]]:
    """The keys of the service's tables, by logical id, without tables whose key is computed. Raises UsageError for a
    file that cannot be read. The plugin's keys take precedence, since they include values that the framework
    computes."""
    return {**_keys_in_files(folder), **_given_by_the_plugin()}


def _given_by_the_plugin() -> dict[str, tuple[KeyAttribute, ...]]:
    """The `keys` of DYNAMODT_SERVICE, whose form `config.stage` checks."""
    try:
        found = json.loads(os.environ.get(SERVICE) or "{}").get("keys", {})
        return {table: tuple(KeyAttribute(str(name), str(kind)) for name, kind in key) for table, key in found.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _keys_in_files(folder: Path) -> dict[str, tuple[KeyAttribute, ...]]:
    file = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    content = _read(file) if file is not None else None
    sections = content.get("resources") if isinstance(content, dict) else None
    found = (_key(id, one) for section in _included(folder, sections) for id, one in _resources(section))
    return dict(entry for entry in found if entry is not None)


def _read(file: Path) -> Any:
    import yaml

    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_multi_constructor("!", lambda loader, suffix, node: None)  # !Ref and the like: unknown values
    try:
        return yaml.load(file.read_text(encoding="utf-8-sig"), loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        what, hint = " ".join(str(error).split()), "correct it, or give the key: --key"
        raise UsageError(f"cannot be read: {what}", where=str(file), hint=hint) from error


def _included(folder: Path, value: Any, depth: int = 0) -> Iterator[Any]:
    """The sections of `resources`: one, or a list of them, each written out or in a file of its own."""
    if isinstance(value, list):
        for one in value:
            yield from _included(folder, one, depth)
    elif isinstance(value, str) and (found := _INCLUDED.fullmatch(value.strip())) and depth < _MOST_INCLUDED:
        file = folder / found[1]
        content = _read(file) if file.is_file() and file.suffix in (".yml", ".yaml", ".json") else None
        for key in filter(None, (found[2] or "").split(".")):
            content = content.get(key) if isinstance(content, dict) else None
        yield from _included(folder, content, depth + 1)
    elif isinstance(value, dict):
        yield value


def _resources(section: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    resources = section.get("Resources")
    yield from resources.items() if isinstance(resources, dict) else ()


def _key(id: str, resource: Any) -> tuple[str, tuple[KeyAttribute, ...]] | None:
    properties = resource.get("Properties") if isinstance(resource, dict) and resource.get("Type") in _TYPES else None
    if not isinstance(properties, dict):
        return None
    types = dict(_pairs(properties.get("AttributeDefinitions"), "AttributeName", "AttributeType"))
    schema = sorted(_pairs(properties.get("KeySchema"), "KeyType", "AttributeName"))  # HASH before RANGE
    key = tuple(KeyAttribute(name, types.get(name, "")) for _, name in schema)
    return (id, key) if key and all(attribute.type in KEY_TYPES for attribute in key) else None


def _pairs(values: Any, first: str, second: str) -> Iterator[tuple[str, str]]:
    for one in values if isinstance(values, list) else ():
        if isinstance(one, dict) and isinstance(one.get(first), str) and isinstance(one.get(second), str):
            yield one[first], one[second]
