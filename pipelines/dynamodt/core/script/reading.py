"""A version file -> a Script, by parsing its text; nothing of it is executed."""

from __future__ import annotations

import ast
import difflib
import hashlib
from pathlib import Path

from dynamodt.core.names import parse_version_file
from dynamodt.core.script.parts import part_checksum
from dynamodt.core.script.settings import bindings, literal, read_settings
from dynamodt.errors import ScriptError
from dynamodt.model import Script

TRANSFORMS = ("transform_up", "TransformUp", "transform_down", "TransformDown")
ENTRY_POINTS = (*TRANSFORMS, "prepare", "items")


def read_script(path: Path, root: Path) -> Script:
    """Read the version file at `path`, whose folder bears the table's name; messages show it relative to `root`.

    The checksum is that of the text with line ends normalised, so that a checkout on another system changes nothing.
    Raises ScriptError, with file and line, for whatever keeps the file from being a version.
    """
    where = _shown(path, root)
    number, name = parse_version_file(path.name, where)
    text = _read_text(path, where)
    tree = parse(text, where)
    bound = bindings(tree)
    table = path.absolute().parent.name
    _check_sequence(bound, number, path, where)
    _check_entry_points(bound, where)
    return Script(
        table=table,
        sequence=number,
        name=name,
        path=where,
        text=text,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        title=_title(tree),
        has_up="transform_up" in bound or "TransformUp" in bound,
        has_down="transform_down" in bound or "TransformDown" in bound,
        has_prepare="prepare" in bound,
        has_items="items" in bound,
        prepare_checksum=part_checksum(tree, "prepare"),
        **read_settings(tree, bound, table, where),
    )


def parse(text: str, where: str) -> ast.Module:
    """The text's syntax tree. Raises ScriptError with the line of a syntax error."""
    try:
        return ast.parse(text, filename=where)
    except SyntaxError as error:
        raise ScriptError(
            f"syntax error: {error.msg}", where=f"{where}:{error.lineno or 1}", hint=_marked(error, text)
        ) from error
    except ValueError as error:  # null bytes, before Python 3.11.4
        raise ScriptError(f"syntax error: {error}", where=where, hint="Save the file as plain text.") from error


def _marked(error: SyntaxError, text: str) -> str:
    number = error.lineno or 1  # one past the end, where something was never closed
    line = "".join(text.splitlines()[number - 1 : number]).strip()
    return f"Correct this line: {line}" if line else "Look at the end of the file."


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


def _check_sequence(bound: dict[str, ast.stmt], number: int, path: Path, where: str) -> None:
    if "sequence" not in bound:
        raise ScriptError("has no sequence", where=where, hint=f"Add the line: sequence = {number}")
    line = f"{where}:{bound['sequence'].lineno}"
    value = literal(bound["sequence"])
    if type(value) is not int:
        raise ScriptError("sequence must be a plain whole number", where=line, hint=f"Write: sequence = {number}")
    if value != number:
        raise _mismatch(value, number, path, line)


def _mismatch(value: int, number: int, path: Path, line: str) -> ScriptError:
    """The author copied a file (then the number is another's) or misnamed this one."""
    others = sorted(other.name for other in path.parent.glob(f"v{value}_*.py"))
    what = f"sequence is {value}, but the file's name says {number}"
    if others:
        return ScriptError(
            f"{what}; {value} is the number of {others[0]}", where=line, hint=f"Write: sequence = {number}"
        )
    renamed = path.name.replace(f"v{number}_", f"v{value}_", 1)
    return ScriptError(what, where=line, hint=f"Write: sequence = {number} (or rename the file to {renamed}).")


def _check_entry_points(bound: dict[str, ast.stmt], where: str) -> None:
    _check_spelling(bound, where)
    for function, kind in (TRANSFORMS[:2], TRANSFORMS[2:]):
        if function in bound and kind in bound:
            line = max(bound[function].lineno, bound[kind].lineno)
            raise ScriptError(
                f"has both {function} and {kind}", where=f"{where}:{line}", hint="Keep the one that is meant."
            )
    for name in ENTRY_POINTS:
        if isinstance(bound.get(name), ast.AsyncFunctionDef):
            raise ScriptError(
                f"{name} is async", where=f"{where}:{bound[name].lineno}", hint=f"Write: def {name}, without async."
            )
    if not {"transform_up", "TransformUp", "items"} & bound.keys():
        raise ScriptError(
            "has neither transform_up nor items",
            where=where,
            hint="Write, at the top level of the file, def transform_up(item): return the item's new shape; "
            "or def items(): yield the rows that this version adds.",
        )


def _check_spelling(bound: dict[str, ast.stmt], where: str) -> None:
    """A misspelt transform_down would be found missing only on the day it is needed."""
    for name, statement in bound.items():
        defined = isinstance(statement, ast.FunctionDef | ast.ClassDef) and not name.startswith("_")
        close = difflib.get_close_matches(name, TRANSFORMS, n=1, cutoff=0.9) if defined else []
        if close and name not in TRANSFORMS:
            raise ScriptError(
                f"{name} is not a name that dynamodt knows",
                where=f"{where}:{statement.lineno}",
                hint=f"Did you mean {close[0]}? A function of your own begins with '_'.",
            )
