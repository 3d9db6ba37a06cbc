"""The keys of the embedded stage's tables, written into `dynamodt.toml` by `init`.

The text of an existing file is kept: an entry is added, and written only if the result parses as intended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dynamodt.config.serverless import service_keys
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
from dynamodt.errors import Refused, UsageError, file_explained, suggest
from dynamodt.model.tables import KEY_TYPES, WORK_FOLDER, KeyAttribute
from dynamodt.script.names import check_table_name
from dynamodt.state.storage import make_work_folder

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
    """A key as `--key` takes it."""
    return ",".join(f"{name}:{kind}" for name, kind in key)


def keys_here(folder: Path) -> dict[str, Key]:
    """The keys that a project's own files give tables: those of the embedded stage, and of a Serverless service."""
    keys: dict[str, Key] = {}
    with suppress(UsageError):
        keys |= service_keys(folder)
    return keys | read_settings(folder / FILE_NAME).get("local", StageSettings()).tables


def declare(folder: Path, keys: Mapping[str, Key], dry_run: bool = False) -> Path | None:
    """Gives the embedded stage these tables; returns the file if it was written (in a dry run, would be).

    Raises UsageError for a name that no table has; Refused if the file gives one of them another key, or has a form
    that an entry cannot be added to.
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
