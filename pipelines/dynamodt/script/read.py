"""Reads a version file into a Script by parsing its text, without executing it.

Settings (GUARD, STAMP ...) are literals of the syntax tree.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from dynamodt.errors import ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import KEY_TYPES, KeyAttribute, TableNames
from dynamodt.script.load import bindings, parse
from dynamodt.script.names import is_table_name, parse_version_file, slug, version_files
from dynamodt.script.syntax import part_checksum, syntax_checksum
from dynamodt.script.used_files import Folder, file_checksum, used_files, uses


class _Setting(NamedTuple):
    expected: str
    valid: Callable[[object], bool]


def _is_key(value: object) -> bool:
    return isinstance(value, dict) and len(value) in (1, 2) and all(map(_is_key_attribute, value.items()))


def _is_key_attribute(entry: tuple[object, object]) -> bool:
    name, kind = entry
    return isinstance(name, str) and name != "" and kind in KEY_TYPES


_SETTINGS: Final = {
    "GUARD": _Setting('"item" or "changed"', lambda value: value in ("item", "changed")),
    "TARGET_TABLE": _Setting(
        "the name of a table", lambda value: value is None or (isinstance(value, str) and is_table_name(value))
    ),
    "IDEMPOTENT": _Setting("True or False", lambda value: isinstance(value, bool)),
    "STAMP": _Setting(
        'the name of an attribute, such as "_dynamodt"',
        lambda value: value is None or (isinstance(value, str) and value != ""),
    ),
    "SOURCE": _Setting('"scan" or "export"', lambda value: value in ("scan", "export")),
    "KEY": _Setting('the table\'s key attributes, the partition key first, each "S", "N" or "B": {"id": "S"}', _is_key),
}
NOT_LITERAL: Final = object()


def literal(statement: ast.stmt) -> object:
    """The plain value that the statement assigns, or NOT_LITERAL."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    try:
        return NOT_LITERAL if value is None else ast.literal_eval(value)
    except (ValueError, TypeError):
        return NOT_LITERAL


def read_settings(tree: ast.Module, bound: dict[str, ast.stmt], table: str, where: str) -> dict[str, Any]:
    """The file's settings, by the name of their field in Script.

    Raises ScriptError for a value of the wrong type, a value that is not a literal, and a misspelt name.
    """
    for error in _setting_errors(tree, bound, table, where):
        raise error
    found: dict[str, Any] = {name: literal(bound[name]) for name in _SETTINGS if name in bound}
    if "KEY" in found:
        found["KEY"] = tuple(KeyAttribute(*entry) for entry in dict(found["KEY"]).items())
    return {name.lower(): value for name, value in found.items()}


def _setting_errors(tree: ast.Module, bound: dict[str, ast.stmt], table: str, where: str) -> Iterator[ScriptError]:
    yield from _multiple(tree, bound, where)
    yield from _misspelt_settings(bound, where)
    for name in (name for name in _SETTINGS if name in bound):
        value, line = literal(bound[name]), f"{where}:{bound[name].lineno}"
        if value is NOT_LITERAL or not _SETTINGS[name].valid(value):
            given = "something that must be computed" if value is NOT_LITERAL else repr(value)
            yield ScriptError(f"{name} is {given}", where=line, hint=f"{name} must be {_SETTINGS[name].expected}.")
        elif name == "TARGET_TABLE" and value == table:
            yield ScriptError(f"TARGET_TABLE is {table}, the table itself", where=line, hint="Remove the line.")


def _multiple(tree: ast.Module, bound: dict[str, ast.stmt], where: str) -> Iterator[ScriptError]:
    """An error for each setting that is assigned in an `if`, or twice: its value depends on execution."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _SETTINGS:
            statement = bound.get(node.id)
            if statement is None or node.lineno != statement.lineno:
                yield ScriptError(
                    f"{node.id} is not assigned once, at the top level of the file",
                    where=f"{where}:{node.lineno}",
                    hint=f"Write one line, not indented: {node.id} = {_SETTINGS[node.id].expected}",
                )


def _misspelt_settings(bound: dict[str, ast.stmt], where: str) -> Iterator[ScriptError]:
    """An error for each misspelt setting: a name similar to a setting's, with a valid value for it."""
    for name, statement in bound.items():
        if name in _SETTINGS:
            continue
        for close in difflib.get_close_matches(name.upper(), _SETTINGS, n=1, cutoff=0.8):
            value = literal(statement)
            if value is not None and value is not NOT_LITERAL and _SETTINGS[close].valid(value):
                yield ScriptError(
                    f"{name} is not a setting of dynamodt",
                    where=f"{where}:{statement.lineno}",
                    hint=f"Did you mean {close}? Otherwise choose a less similar name.",
                )


TRANSFORMS = ("transform_up", "TransformUp", "transform_down", "TransformDown")
ENTRY_POINTS = (*TRANSFORMS, "prepare", "items")


def read_script(path: Path, root: Path, folder: Folder | None = None) -> Script:
    """Reads the version file at `path`, whose folder has the table's name, and the files beside it that it uses.
    Messages show paths relative to `root`. `folder` is `transforms/` as the table's scripts see it.

    The checksum is that of the syntax (`script.syntax`): formatting and comments do not change it. Raises ScriptError,
    with file and line, for a file that is not a valid version.
    """
    where = _shown(path, root)
    number, name = parse_version_file(path.name, where)
    table = path.absolute().parent.name
    folder = folder or folder_of(path.absolute().parents[1], table, root)
    own = f"{table}/{path.name}"
    text = _read_text(path, where)
    tree = parse(text, where)
    bound = bindings(tree)
    for error in _errors(bound, number, path, where):
        raise error
    return Script(
        table=table,
        sequence=number,
        name=name,
        path=where,
        text=text,
        checksum=syntax_checksum(tree, text),
        title=_title(tree),
        has_up="transform_up" in bound or "TransformUp" in bound,
        has_down="transform_down" in bound or "TransformDown" in bound,
        has_prepare="prepare" in bound,
        has_items="items" in bound,
        prepare_checksum=part_checksum(tree, "prepare", lambda used: _modules(folder, own, used)),
        folder=table,
        files=used_files(folder, own, tree),
        **read_settings(tree, bound, table, where),
    )


def script_errors(path: Path, root: Path, folder: Folder | None = None) -> list[ScriptError]:
    """All errors of a version file; `read_script` raises the first of them."""
    where = _shown(path, root)
    try:
        number, _ = parse_version_file(path.name, where)
        tree = parse(_read_text(path, where), where)
    except ScriptError as error:
        return [error]
    bound, table = bindings(tree), path.absolute().parent.name
    found = [*_errors(bound, number, path, where), *_setting_errors(tree, bound, table, where)]
    try:
        used_files(folder or folder_of(path.absolute().parents[1], table, root), f"{table}/{path.name}", tree)
    except ScriptError as error:
        found.append(error)
    return found


def _errors(bound: dict[str, ast.stmt], number: int, path: Path, where: str) -> Iterator[ScriptError]:
    yield from _sequence_errors(bound, number, path, where)
    yield from _entry_point_errors(bound, where)


def folder_of(transforms: Path, table: str, root: Path) -> Folder:
    """`transforms` as the scripts of a table see it; messages show it relative to `root`."""
    return Folder(transforms, table, lambda name: _shown(transforms / name, root))


def _modules(folder: Folder, own: str, statements: Sequence[ast.stmt]) -> list[str]:
    """The checksums of the modules that these statements of a script use."""
    return [file_checksum(folder, name) for name in sorted(uses(folder, own, statements)) if name.endswith(".py")]


def _shown(path: Path, root: Path) -> str:
    full, base = path.resolve(), root.resolve()
    return full.relative_to(base).as_posix() if full.is_relative_to(base) else str(path)


def _read_text(path: Path, where: str) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScriptError("is not UTF-8 text", where=where, hint="Save the file as UTF-8.") from error
    except OSError as error:
        raise ScriptError(
            f"cannot be read: {error.strerror}", where=where, hint="Check the path and its permissions."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _title(tree: ast.Module) -> str:
    lines = (ast.get_docstring(tree) or "").strip().splitlines()
    return lines[0].strip() if lines else ""


_NUMBERS = {"transformationNumber", "transformation_number"}  # as in dynamo-data-transform


def _sequence_errors(bound: dict[str, ast.stmt], number: int, path: Path, where: str) -> Iterator[ScriptError]:
    if "sequence" not in bound:
        for name in bound.keys() & _NUMBERS:
            place = f"{where}:{bound[name].lineno}"
            yield ScriptError(f"{name} is not a version's number", where=place, hint=f"Write: sequence = {number}")
            return
        yield ScriptError("has no sequence", where=where, hint=f"Add the line: sequence = {number}")
        return
    line = f"{where}:{bound['sequence'].lineno}"
    value = literal(bound["sequence"])
    if type(value) is not int:
        yield ScriptError("sequence must be a plain whole number", where=line, hint=f"Write: sequence = {number}")
    elif value != number:
        yield _mismatch(value, number, path, line)


def _mismatch(value: int, number: int, path: Path, line: str) -> ScriptError:
    """The error for `sequence` and file name with different numbers. The hint depends on the cause: a copied file,
    whose number another file has, or a misnamed file."""
    others = sorted(other.name for other in path.parent.glob(f"v{value}_*.py"))
    what = f"sequence is {value}, but the file's name says {number}"
    if others:
        return ScriptError(
            f"{what}; {value} is the number of {others[0]}", where=line, hint=f"Write: sequence = {number}"
        )
    renamed = path.name.replace(f"v{number}_", f"v{value}_", 1)
    return ScriptError(what, where=line, hint=f"Write: sequence = {number} (or rename the file to {renamed}).")


def _entry_point_errors(bound: dict[str, ast.stmt], where: str) -> Iterator[ScriptError]:
    yield from _misspelt_functions(bound, where)
    for function, kind in (TRANSFORMS[:2], TRANSFORMS[2:]):
        if function in bound and kind in bound:
            line = max(bound[function].lineno, bound[kind].lineno)
            yield ScriptError(f"has both {function} and {kind}", where=f"{where}:{line}", hint="Keep one of them.")
    for name in ENTRY_POINTS:
        if isinstance(bound.get(name), ast.AsyncFunctionDef):
            yield ScriptError(
                f"{name} is async", where=f"{where}:{bound[name].lineno}", hint=f"Write: def {name}, without async."
            )
    meant = {_meant(name, statement) for name, statement in bound.items()}
    if not {"transform_up", "TransformUp", "items"} & (bound.keys() | meant):
        yield ScriptError(
            "has neither transform_up nor items",
            where=where,
            hint="Write, at the top level of the file, def transform_up(item): return the item's new shape; "
            "or def items(): yield the rows that this version adds.",
        )


def _misspelt_functions(bound: dict[str, ast.stmt], where: str) -> Iterator[ScriptError]:
    """An error for each misspelt function: a missing transform_down would be noticed only when it is needed."""
    for name, statement in bound.items():
        meant = _meant(name, statement)
        if meant and name in TRANSFORMS:
            yield ScriptError(
                f"{name} is a function, and the name is that of a class, a beam.DoFn",
                where=f"{where}:{statement.lineno}",
                hint=f"Write: def {meant}(item); or class {name}, with def process(self, item).",
            )
        elif meant:
            yield ScriptError(
                f"{name} is not a function of a version",
                where=f"{where}:{statement.lineno}",
                hint=f"Did you mean {meant}? A function of your own begins with '_'.",
            )


def _meant(name: str, statement: ast.stmt) -> str:
    """The name that a function or class was probably meant to have; empty if its name is right, or is the author's
    own."""
    is_class = isinstance(statement, ast.ClassDef)
    if name.startswith("_") or not (is_class or isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef)):
        return ""
    if is_class:
        close = [] if name in TRANSFORMS else difflib.get_close_matches(name, TRANSFORMS[1::2], n=1, cutoff=0.9)
    else:
        close = difflib.get_close_matches(slug(name), TRANSFORMS[::2], n=1, cutoff=0.9)
    return close[0] if close and close[0] != name else ""


# ---------------------------------------------------------------- a table's versions


def read_versions(folder: Path, table: str, names: TableNames = TableNames()) -> tuple[Script, ...]:
    """The versions of `table`, a real name, in the folder `transforms`, in order and without a gap from 1 on; no code
    is executed. The scripts have the real names of the tables that they read and write.

    Raises UsageError when the table has no folder, ScriptError naming every file that is at fault.
    """
    beside = folder_of(folder, names.logical(table), folder.parent)
    scripts = (read_script(path, folder.parent, beside) for path in version_files(folder, names.logical(table)))
    return tuple(replace(script, table=table, target_table=_target(script, table, names)) for script in scripts)


def _target(script: Script, table: str, names: TableNames) -> str | None:
    """The real name of the script's TARGET_TABLE. Raises ScriptError if it is `table`, the script's own table."""
    real = script.target_table and names.real(script.target_table)
    if real == table:
        what = f"TARGET_TABLE is {script.target_table}, the table itself"
        raise ScriptError(what, where=script.path, hint="Remove the line.")
    return real
