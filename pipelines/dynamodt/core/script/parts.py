"""The part of a version file that one of its functions depends on: the function, and what it uses of the file."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator


def part_checksum(tree: ast.Module, name: str) -> str:
    """The sha256, in hex, of the statements that the function `name` uses, directly or not: what is edited elsewhere
    leaves it as it is, and so do comments and the layout. Empty where there is no such function.

    A statement that binds no name (an `if`, a call) may do anything: it always counts, but for the docstring.
    """
    statements = [(statement, _binds(statement), _reads(statement)) for statement in tree.body]
    if not any(name in binds for _, binds, _ in statements):
        return ""
    wanted = {name}
    used = [not binds and not _is_text(statement) for statement, binds, _ in statements]
    for (_, _, reads), counts in zip(statements, used, strict=True):
        wanted |= reads if counts else set()
    grown = True
    while grown:
        grown = False
        for number, (_, binds, reads) in enumerate(statements):
            if not used[number] and binds & wanted:
                used[number] = grown = True
                wanted |= reads
    text = "\n".join(
        ast.unparse(statement) for (statement, _, _), counts in zip(statements, used, strict=True) if counts
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _reads(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement may bind at the top level, also from within an `if`, a `for`, a `try` or a `with`."""
    return set(_bound_in(statement))


def _bound_in(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound_in(child)
