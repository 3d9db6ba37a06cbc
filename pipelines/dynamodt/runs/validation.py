"""`validate`: checks the version files of `transforms/` in the same way as `up` before it reads a table.

No stage is opened and no request is sent. A table's key is that of `KEY` in its scripts, or the one that dynamodt.toml
gives for the embedded stage. Checks that need the table itself (its indexes, its recovery) are made by `plan` and `up`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dynamodt.config.stage import embedded_stage
from dynamodt.errors import DynamodtError, ScriptError, UsageError, suggest
from dynamodt.model.runs import Script
from dynamodt.model.tables import KeyAttribute, TableSpec
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.process import mute_beam
from dynamodt.runs.options import RunOptions
from dynamodt.runs.plan import Step, TablePlan
from dynamodt.runs.preflight import check_step
from dynamodt.script.apply import check_rows, item_rows
from dynamodt.script.functions import function_errors
from dynamodt.script.names import (
    check_table_name,
    is_script_file,
    number_errors,
    parse_version_file,
    tables,
    without_folder,
)
from dynamodt.script.read import folder_of, read_script, script_errors
from dynamodt.script.used_files import Folder

Keys = dict[str, tuple[KeyAttribute, ...]]


@dataclass(frozen=True)
class ValidatedTable:
    """A table's version files: the valid ones as scripts, and all errors of the others."""

    table: str
    files: tuple[str, ...]
    versions: tuple[Script, ...]
    errors: tuple[DynamodtError, ...]


class Validation(NamedTuple):
    """All tables that were checked. `errors` are those of dynamodt.toml."""

    tables: tuple[ValidatedTable, ...]
    errors: tuple[DynamodtError, ...] = ()

    @property
    def all_errors(self) -> tuple[DynamodtError, ...]:
        """Every error once, even if several files use the module that has it."""
        found = [*self.errors, *(error for table in self.tables for error in table.errors)]
        return tuple({(error.what, error.where): error for error in found}.values())


def validate(folder: Path, names: Sequence[str] = ()) -> Validation:
    """Check the version files of these tables, by the names of their folders (default: all of them).

    The files are loaded, and `items()` is called. Raises UsageError for a table without a folder.
    """
    transforms = folder / "transforms"
    chosen = tuple(dict.fromkeys(names)) or tables(transforms)
    if not chosen:
        raise UsageError("transforms/ holds no table", hint="begin with one: " + suggest("init", table="users"))
    for name in chosen:
        if not (transforms / name).is_dir():
            raise without_folder(transforms, name)
    keys, errors = _keys(folder)
    return Validation(tuple(_validated(folder, name, keys) for name in chosen), errors)


def _keys(folder: Path) -> tuple[Keys, tuple[DynamodtError, ...]]:
    try:
        return dict(embedded_stage(folder).tables), ()
    except DynamodtError as error:
        return {}, (error,)


def _validated(folder: Path, table: str, keys: Keys) -> ValidatedTable:
    beside = folder_of(folder / "transforms", table, folder)
    paths = sorted(filter(is_script_file, (folder / "transforms" / table).iterdir()))
    errors: list[DynamodtError] = []
    try:
        check_table_name(table)
    except UsageError as error:
        errors.append(error)
    errors += number_errors(sorted(_numbered(paths, folder)))
    scripts: list[Script] = []
    for path in paths:
        found = script_errors(path, folder, beside)
        errors += found
        scripts += [] if found else _read(path, folder, beside, errors)
    scripts.sort(key=lambda script: script.sequence)
    key = keys.get(table) or next((script.key for script in scripts if script.key), ())
    for script in scripts:
        errors += _script_errors(script, scripts, key, keys)
    return ValidatedTable(table, tuple(str(path.relative_to(folder)) for path in paths), tuple(scripts), tuple(errors))


def _numbered(paths: Sequence[Path], folder: Path) -> Iterator[tuple[int, Path]]:
    """The files that are named as a version, with their numbers."""
    for path in paths:
        with suppress(ScriptError):
            yield parse_version_file(path.name, "")[0], path.relative_to(folder)


def _read(path: Path, folder: Path, beside: Folder, errors: list[DynamodtError]) -> list[Script]:
    try:
        return [read_script(path, folder, beside)]
    except ScriptError as error:
        errors.append(error)
        return []


def _script_errors(
    script: Script, scripts: Sequence[Script], key: tuple[KeyAttribute, ...], keys: Keys
) -> Iterator[DynamodtError]:
    with mute_beam(), labelled(script):
        found = list(function_errors(script))
    yield from found
    spec = TableSpec(script.table, key or script.key)
    planned = TablePlan(spec, "up", (), 0, tuple(scripts))
    checks: list[Callable[[], None]] = [partial(check_step, planned, Step(script, None, None), RunOptions())]
    if script.has_items and not found:
        of_rows = keys.get(script.target_table, ()) if script.target_table else spec.key
        checks.append(partial(_check_rows, script, of_rows))
    for check in checks:
        try:
            with labelled(script):
                check()
        except DynamodtError as error:
            yield error


def _check_rows(script: Script, key: tuple[KeyAttribute, ...]) -> None:
    """Check the rows of `items()`. Raises ScriptError for a row that is not an item, or that a table with this key
    (empty: unknown) cannot hold."""
    if key:
        check_rows(script, TableSpec(script.target_table or script.table, key))
        return
    for _ in item_rows(script):
        pass
