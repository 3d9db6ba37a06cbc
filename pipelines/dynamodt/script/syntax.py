"""A checksum of Python code that is independent of its layout: of the syntax tree, without comments and docstrings.

The checksum is the same in every Python from 3.11 on that parses the code, so that a history stays valid after an
upgrade of Python. Its input has node and field names, sorted and without empty fields, since each Python adds fields
(`type_params` in 3.12).

Everything that a formatter may change, or that has no effect, is left out: comments, line numbers, parentheses, quotes,
the spelling of numbers, the division of a string into literals, `pass`, and expressions of a lone constant, such as a
docstring. Code that reads its own text is an exception (docs/adr/063): docstrings count if the code names `__doc__` or
`getdoc`, and all of the text counts if it names a function that returns source code.

`part_checksum` covers one function and the code of the file that may have an effect on it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

_READS_DOCSTRINGS: Final = frozenset({"__doc__", "getdoc"})
_READS_TEXT: Final = frozenset({"getsource", "getsourcelines", "findsource", "getblock", "getcomments"})
_WITHOUT_EFFECT: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def syntax_checksum(tree: ast.Module, text: str) -> str:
    """The checksum, sha256 in hex, of a file's tree; of its text if the code reads source text."""
    named = _names(tree)
    if named & _READS_TEXT:
        return hashlib.sha256(text.encode()).hexdigest()
    return checksum_of([tree], docstrings=bool(named & _READS_DOCSTRINGS))


def checksum_of(nodes: Iterable[ast.AST], more: Iterable[str] = (), docstrings: bool = False) -> str:
    """The checksum of parts of a file, and of `more` texts."""
    digest = hashlib.sha256()
    for token in (*(token for node in nodes for token in _tokens(node, docstrings)), *more):
        digest.update(f"{token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _names(tree: ast.AST) -> set[str]:
    """The names, attributes and imported names that occur in the code."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


def _tokens(root: ast.AST, docstrings: bool) -> Iterator[str]:
    """The tree as one unambiguous sequence of tokens, made without recursion, since trees may be deep."""
    left: list[Any] = [root]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, ast.Constant):
            yield _constant(one.value)
        elif isinstance(one, ast.AST):
            left += reversed([f"({type(one).__name__}", *_fields(one, docstrings), ")"])
        elif isinstance(one, list):
            left += reversed(["[", *one, "]"])
        else:
            yield _constant(one)


def _fields(node: ast.AST, docstrings: bool) -> Iterator[Any]:
    for name in sorted(set(node._fields) - _WITHOUT_EFFECT):
        value = getattr(node, name, None)
        if isinstance(value, str):
            value = ascii(value)
        elif isinstance(value, list):
            value = _normal(node, value, docstrings)
        if value is not None and value != []:
            yield name
            yield value


def _normal(node: ast.AST, values: list[Any], docstrings: bool) -> list[Any]:
    if isinstance(node, ast.Delete):
        return list(_targets(values))
    if isinstance(node, ast.JoinedStr):
        return _join_texts(values)
    return [ascii(one) if isinstance(one, str) else one for one in values if not _is_ignored(one, docstrings)]


def _is_ignored(statement: object, docstrings: bool) -> bool:
    """Whether a statement has no effect."""
    if isinstance(statement, ast.Pass):
        return True
    lone = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(lone, ast.Constant) and not (docstrings and isinstance(lone.value, str))


def _targets(values: list[ast.expr]) -> Iterator[ast.expr]:
    """The targets of a `del`, without parentheses: `del (a, b)` is `del a, b`."""
    for one in values:
        if isinstance(one, ast.Tuple | ast.List):
            yield from _targets(one.elts)
        else:
            yield one


def _join_texts(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, with adjacent texts joined, and without empty ones."""
    parts: list[ast.expr] = []
    for is_text, group in groupby(values, lambda one: isinstance(one, ast.Constant)):
        found = list(group)
        if not is_text:
            parts += found
        elif text := "".join(str(getattr(one, "value", "")) for one in found):
            parts.append(ast.Constant(text))
    return parts


def _constant(value: object) -> str:
    """A constant with its type, in ASCII, since the escapes of `repr` depend on the Unicode version of Python."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int {value:x}"  # a decimal text has a limited length
    return f"{type(value).__name__} {value!a}"


# ---------------------------------------------------------------- a function, with what it uses


_READS_ALL_NAMES: Final = frozenset({"globals", "vars", "locals", "eval", "exec", "dir"})


class _Part(NamedTuple):
    """A statement of a file, with the names that it binds and reads. `defines`: it is a function, a class or an import.
    `alters`: it may alter what another statement has bound. `calls`: the names that it reads when it is executed, if it
    calls something, which may alter what they stand for; of a function or a class, those of decorators and bases."""

    statement: ast.stmt
    binds: set[str]
    reads: set[str]
    defines: bool
    alters: bool
    calls: set[str]


def part_checksum(
    tree: ast.Module, name: str, sums_of: Callable[[Sequence[ast.stmt]], Iterable[str]] = lambda used: ()
) -> str:
    """The sha256, in hex, of the statements that the function `name` uses, directly or indirectly, and of the texts
    that `sums_of` gives for them; empty if there is no such function. Edits elsewhere in the file, comments and layout
    have no effect on the checksum.

    A statement that binds no name (an `if`, a call), or that alters an object, may have any effect and is always
    included, except the docstring. One that calls something, or has a decorator, is included if it reads a variable
    that is used, or a function that reads one. If `name` looks names up (`globals()`), everything is included.
    """
    parts = [_part(statement) for statement in tree.body]
    if not any(name in part.binds for part in parts):
        return ""
    chosen = [part.statement for part in _used(parts, name)]
    return checksum_of(chosen, sums_of(chosen))


def _part(statement: ast.stmt) -> _Part:
    defines = isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
    nodes, binds = list(ast.walk(statement)), set(_bound_in(statement))
    reads = _reads(statement)
    alters = not binds or (not defines and any(map(_alters, nodes)))
    calls = reads if not defines and any(isinstance(node, ast.Call) for node in nodes) else set[str]()
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        calls = _reads(*statement.decorator_list, *getattr(statement, "bases", ()))
    return _Part(statement, binds, reads, defines, alters and not _is_text(statement), calls)


def _reads(*nodes: ast.AST) -> set[str]:
    return {node.id for one in nodes for node in ast.walk(one) if isinstance(node, ast.Name)}


def _used(parts: list[_Part], name: str) -> list[_Part]:
    """The parts that may have an effect on the function `name`, in their order."""
    wanted, used = {name}, [False] * len(parts)
    grown = True
    while grown:
        variables = {bound for part in parts if not part.defines for bound in part.binds & wanted}
        functions = {bound for part in parts if part.defines and part.reads & variables for bound in part.binds}
        found = [
            part.alters or bool(part.binds & wanted) or bool(part.calls & (variables | functions)) for part in parts
        ]
        grown = found != used
        used = [was or now for was, now in zip(used, found, strict=True)]
        wanted |= {read for part, counts in zip(parts, used, strict=True) if counts for read in part.reads}
    if wanted & _READS_ALL_NAMES:
        return parts
    return [part for part, counts in zip(parts, used, strict=True) if counts]


def _alters(node: ast.AST) -> bool:
    """Whether a node sets or deletes a part of an object, or is an expression that is evaluated for its effect."""
    if isinstance(node, ast.Attribute | ast.Subscript):
        return isinstance(node.ctx, ast.Store | ast.Del)
    return isinstance(node, ast.Expr) and not _is_text(node)


def _is_text(statement: ast.AST) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _bound_in(node: ast.AST) -> Iterator[str]:
    """The names that a statement may bind at the top level, including those within an `if`, `for`, `try` or `with`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names if alias.name != "*")
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _bound_in(child)
