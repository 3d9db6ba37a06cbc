"""The constants that a version file may set, read as literals from its syntax tree."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from dynamodt.core.names import is_table_name
from dynamodt.errors import ScriptError
from dynamodt.model import KEY_TYPES, KeyAttribute


class _Setting(NamedTuple):
    expected: str
    valid: Callable[[object], bool]


def _is_key(value: object) -> bool:
    return isinstance(value, dict) and len(value) in (1, 2) and all(map(_is_key_attribute, value.items()))


def _is_key_attribute(entry: tuple[object, object]) -> bool:
    name, letter = entry
    return isinstance(name, str) and name != "" and letter in KEY_TYPES


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


def bindings(tree: ast.Module) -> dict[str, ast.stmt]:
    """Each name bound at the top level of the file -> the statement that binds it (the last one, as Python has it)."""
    return {name: statement for statement in tree.body for name in _bound_by(statement)}


def _bound_by(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (target.id for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name for alias in names)


def literal(statement: ast.stmt) -> object:
    """The plain value that the statement assigns, or NOT_LITERAL."""
    value = statement.value if isinstance(statement, ast.Assign | ast.AnnAssign) else None
    try:
        return NOT_LITERAL if value is None else ast.literal_eval(value)
    except (ValueError, TypeError):
        return NOT_LITERAL


def read_settings(tree: ast.Module, bound: dict[str, ast.stmt], table: str, where: str) -> dict[str, Any]:
    """The settings that the file makes, by the name of their field in Script.

    Raises ScriptError for a value of the wrong type, a value that only running the file would tell, a misspelt name.
    """
    _check_single(tree, bound, where)
    _check_spelling(bound, where)
    found: dict[str, Any] = {name: literal(bound[name]) for name in _SETTINGS if name in bound}
    for name, value in found.items():
        line = f"{where}:{bound[name].lineno}"
        if value is NOT_LITERAL or not _SETTINGS[name].valid(value):
            given = "something that must be computed" if value is NOT_LITERAL else repr(value)
            raise ScriptError(f"{name} is {given}", where=line, hint=f"{name} must be {_SETTINGS[name].expected}.")
        if name == "TARGET_TABLE" and value == table:
            raise ScriptError(f"TARGET_TABLE is {table}, the table itself", where=line, hint="Remove the line.")
    if "KEY" in found:
        found["KEY"] = tuple(KeyAttribute(*entry) for entry in dict(found["KEY"]).items())
    return {name.lower(): value for name, value in found.items()}


def _check_single(tree: ast.Module, bound: dict[str, ast.stmt], where: str) -> None:
    """A setting made in an `if`, or made twice, would be read otherwise than Python reads it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _SETTINGS:
            statement = bound.get(node.id)
            if statement is None or node.lineno != statement.lineno:
                raise ScriptError(
                    f"{node.id} is not assigned once, at the top level of the file",
                    where=f"{where}:{node.lineno}",
                    hint=f"Write one line, not indented: {node.id} = {_SETTINGS[node.id].expected}",
                )


def _check_spelling(bound: dict[str, ast.stmt], where: str) -> None:
    """A name one slip away from a setting, with a value fit for it, is that setting misspelt."""
    for name, statement in bound.items():
        if name in _SETTINGS:
            continue
        for close in difflib.get_close_matches(name.upper(), _SETTINGS, n=1, cutoff=0.8):
            value = literal(statement)
            if value is not None and value is not NOT_LITERAL and _SETTINGS[close].valid(value):
                raise ScriptError(
                    f"{name} is not a setting that dynamodt knows",
                    where=f"{where}:{statement.lineno}",
                    hint=f"Did you mean {close}? If the name is your own, choose one less alike.",
                )
