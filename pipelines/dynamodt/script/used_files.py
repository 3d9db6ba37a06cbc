"""The files of `transforms/` that a script uses: modules that it imports, and files that it opens by `__file__`.

They are found in the text, without executing it, before a run starts. They travel with the script, and no other file of
the folder does. A script can therefore use only the files that its version's record includes (docs/adr/039).

Names of files are relative to `transforms/`, with `/`: `users/names.py`, `shared/money.py`.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from dynamodt.errors import ScriptError
from dynamodt.model.runs import ScriptFile
from dynamodt.script.load import Places, below, parse
from dynamodt.script.names import SAMPLE_FILE, entries, files_below, looks_like_version_file
from dynamodt.script.syntax import syntax_checksum

MOST_BYTES: Final = 10 * 1024 * 1024
MOST_FILES: Final = 500
_TAKEN: Final = sys.stdlib_module_names | {"dynamodt", "apache_beam"}
_MEGABYTE: Final = 1024 * 1024


class Folder:
    """The folder `transforms/` as seen by a script of `table`. `shown` gives a file's name in messages.

    Each folder is listed once, and each file read once.
    """

    def __init__(self, root: Path, table: str, shown: Callable[[str], str]) -> None:
        self._root = root
        self._table = table
        self.shown = shown
        self._listed: dict[str, dict[str, Path]] = {}
        self._read: dict[str, bytes] = {}

    def path(self, name: str) -> Path | None:
        """The file or folder of a name, case-sensitive; None if the project has none of this name."""
        here, _, last = name.rpartition("/")
        if here not in self._listed:
            parent = self.path(here) if here else self._root
            planned = () if here else (self._table,)
            self._listed[here] = entries(parent, planned) if parent is not None else {}
        return self._listed[here].get(last)

    def is_file(self, name: str) -> bool:
        path = self.path(name)
        return path is not None and path.is_file()

    def is_folder(self, name: str) -> bool:
        path = self.path(name)
        return path is not None and path.is_dir()

    def has_modules(self, name: str) -> bool:
        return self.is_folder(name) and any(inner.endswith(".py") for inner in self.below(name))

    def data(self, name: str) -> Iterator[str]:
        """The files of a folder, recursively, except modules and saved samples, which only tests read."""
        return (file for file in self.below(name) if not file.endswith((".py", f"/{SAMPLE_FILE}")))

    def below(self, name: str) -> Iterator[str]:
        """The files of a folder, recursively."""
        path, planned = (self.path(name), ()) if name else (self._root, (self._table,))
        return (below(name, inner) for inner, _ in files_below(path, planned)) if path is not None else iter(())

    def content(self, name: str) -> bytes:
        """The bytes of a file. Raises ScriptError if it cannot be read."""
        if name not in self._read:
            path = self.path(name)
            assert path is not None
            try:
                self._read[name] = path.read_bytes()
            except OSError as error:
                hint = "Check the path and its permissions."
                raise ScriptError(f"cannot be read: {error.strerror}", where=self.shown(name), hint=hint) from error
        return self._read[name]

    def text(self, name: str) -> str:
        """The text of a module, with normalized line ends. Raises ScriptError if it is not UTF-8."""
        try:
            text = self.content(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ScriptError("is not UTF-8 text", where=self.shown(name), hint="Save the file as UTF-8.") from error
        return text.replace("\r\n", "\n").replace("\r", "\n")

    def size(self, name: str) -> int:
        path = self.path(name)
        return path.stat().st_size if path is not None else 0


def used_files(folder: Folder, name: str, tree: ast.Module) -> tuple[ScriptFile, ...]:
    """The files that the script `name` uses, directly or indirectly, sorted by name, without the script itself.

    Raises ScriptError for a module that is not valid, for a module with the name of one of Python's own, and for more
    than MOST_FILES files or MOST_BYTES bytes.
    """
    names = uses(folder, name, [tree]) - {name}
    _check_bounds(folder, name, names)
    return tuple(_file(folder, one) for one in sorted(names))


def _file(folder: Folder, name: str) -> ScriptFile:
    """A used file. The content of a module is its text with normalized line ends, as that of a script."""
    content = folder.text(name).encode() if name.endswith(".py") else folder.content(name)
    return ScriptFile(name, file_checksum(folder, name)[:16], content)


def file_checksum(folder: Folder, name: str) -> str:
    """The checksum, sha256 in hex, of a module's syntax, or of the bytes of any other file."""
    if not name.endswith(".py"):
        return hashlib.sha256(folder.content(name)).hexdigest()
    text = folder.text(name)
    try:
        return syntax_checksum(parse(text, folder.shown(name)), text)
    except ScriptError:  # not a module, but a file that a script opens
        return hashlib.sha256(text.encode()).hexdigest()


def _check_bounds(folder: Folder, script: str, names: Iterable[str]) -> None:
    sizes = {name: folder.size(name) for name in names}
    if len(sizes) <= MOST_FILES and sum(sizes.values()) <= MOST_BYTES:
        return
    largest = max(sizes, key=lambda name: (sizes[name], name))
    raise ScriptError(
        f"uses {len(sizes):,} files of transforms/ with {sum(sizes.values()) / _MEGABYTE:,.1f} MB, and at most "
        f"{MOST_FILES} with {MOST_BYTES // _MEGABYTE} MB travel with a script. The largest is "
        f"{folder.shown(largest)} ({sizes[largest] / _MEGABYTE:,.1f} MB)",
        where=folder.shown(script),
        hint="Read it in prepare (context.folder), which stores its rows once for all workers; or name the files that "
        'are needed, Path(__file__).parent / "NAME.csv", instead of their folder.',
    )


def uses(folder: Folder, name: str, nodes: Iterable[ast.AST]) -> set[str]:
    """The names of the files that these parts of the module `name` use, directly or indirectly."""
    found: set[str] = set()
    for node in nodes:
        _add(folder, name, node, found)
    return found


def _add(folder: Folder, name: str, node: ast.AST, found: set[str]) -> None:
    for module in imported(folder, name, node):
        if module not in found:
            found.add(module)
            _add(folder, module, parse(folder.text(module), folder.shown(module)), found)
    if isinstance(node, ast.Module):
        found |= opened(folder, name, node)


# ---------------------------------------------------------------- imports


def imported(folder: Folder, name: str, node: ast.AST) -> Iterator[str]:
    """The modules of the folder that the imports anywhere within `node` name.

    Raises ScriptError for a module with the name of one of Python's own.
    """
    places = Places(folder.is_file, folder.has_modules)
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            for alias in one.names:
                yield from _chain(folder, places, name, one, 0, alias.name, ())
        elif isinstance(one, ast.ImportFrom):
            yield from _chain(folder, places, name, one, one.level, one.module or "", [a.name for a in one.names])


def _chain(
    folder: Folder, places: Places, name: str, node: ast.stmt, level: int, dotted: str, attributes: Iterable[str]
) -> Iterator[str]:
    """The files of a module, of the packages that contain it, and of those of its attributes that are modules."""
    place = places.base(name, dotted, level)
    if place is None:
        return
    if not level:
        _check_taken(folder, places, f"{folder.shown(name)}:{node.lineno}", place, dotted.partition(".")[0])
    chain = [place] if level else []
    for part in filter(None, dotted.split(".")):
        place = below(place, part)
        chain.append(place)
    chain += [inner for one in attributes for inner in _attribute(folder, place, one)]
    yield from filter(None, map(places.file, chain))


def _attribute(folder: Folder, place: str, name: str) -> Iterator[str]:
    path = folder.path(place) if name == "*" else None
    names = [name] if name != "*" else entries(path) if path is not None else ()
    return (below(place, one.removesuffix(".py")) for one in names)


def _check_taken(folder: Folder, places: Places, where: str, base: str, first: str) -> None:
    if first in _TAKEN:
        place = below(base, first)
        shown = folder.shown(places.file(place) or place)
        raise ScriptError(
            f"imports {first}, a module of Python's own or of dynamodt, and {shown} has the same name",
            where=where,
            hint=f"Rename {shown}.",
        )


# ---------------------------------------------------------------- files by `__file__`


def opened(folder: Folder, name: str, tree: ast.Module) -> set[str]:
    """The files that a module may open by its `__file__`.

    A path whose parts are all literals, `Path(__file__).parent / "countries.csv"`, is that file. For any other path,
    the literal part is a folder (for the module itself, its folder), with all data files in it. A path that is bound to
    a name counts if the name is used in this text or, for a module, in another text.
    """
    if not any(isinstance(node, ast.Name) and node.id == "__file__" for node in ast.walk(tree)):
        return set()
    known = {"__file__": PurePosixPath(name)}
    bound = _bindings(tree)
    for target, value in bound.items():
        path = _path(value, known)
        if path is not None:
            known[target] = path
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    if looks_like_version_file(PurePosixPath(name).name):
        used |= {target for target in bound.keys() & known.keys() if not folder.is_file(known[target].as_posix())}
    elsewhere = {id(bound[target]) for target in bound.keys() & known.keys() & used}
    return {file for path in _literal_paths(tree, known, elsewhere) for file in _files_at(folder, name, path)}


def _bindings(tree: ast.Module) -> dict[str, ast.expr]:
    """The values of the names that are bound exactly once, at the top level, in order."""
    stores = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    found = {}
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if stores.count(name) == 1:
                found[name] = value
    return found


def _literal_paths(node: ast.AST, known: dict[str, PurePosixPath], elsewhere: set[int]) -> Iterator[PurePosixPath]:
    """The longest paths of literal parts only. The paths of the expressions `elsewhere`, which are bound to a name,
    count where the name is used."""
    path = _path(node, known) if isinstance(node, ast.expr) else None
    if path is None:
        for child in ast.iter_child_nodes(node):
            yield from _literal_paths(child, known, elsewhere)
    elif id(node) not in elsewhere and not isinstance(getattr(node, "ctx", None), ast.Store):
        yield path


def _files_at(folder: Folder, module: str, path: PurePosixPath) -> Iterator[str]:
    name = "" if path == PurePosixPath(".") else path.as_posix()
    if name == module:
        yield from folder.data(path.parent.as_posix())
    elif name == "" or folder.is_folder(name):
        yield from folder.data(name)
    elif folder.is_file(name):
        yield name


def _path(node: ast.expr, known: dict[str, PurePosixPath]) -> PurePosixPath | None:
    """The path, relative to `transforms/`, of an expression of `__file__` and string literals; None for any other
    expression."""
    match node:
        case ast.Name(id=name):
            return known.get(name)
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=str(text))):
            return _join(_path(left, known), [text])
        case ast.Attribute(value=value, attr="parent"):
            return _up(_path(value, known), 1)
        case ast.Subscript(value=ast.Attribute(value=value, attr="parents"), slice=ast.Constant(value=int(levels))):
            return _up(_path(value, known), levels + 1)
        case ast.Call(func=ast.Attribute(value=value, attr=method), args=parts) if _path(value, known) is not None:
            return _path_of_method(method, _path(value, known), list(map(_text, parts)))
        case ast.Call(func=function, args=[first, *parts]):
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            return _path_of_call(name, _path(first, known), map(_text, parts))
    return None


def _path_of_method(name: str, path: PurePosixPath | None, parts: list[str | None]) -> PurePosixPath | None:
    """The path that a method of a path returns."""
    if name == "with_name" and len(parts) == 1:
        return _join(_up(path, 1), parts)
    if name == "joinpath":
        return _join(path, parts)
    return path if name in ("resolve", "absolute") and not parts else None


def _path_of_call(function: str, path: PurePosixPath | None, parts: Iterable[str | None]) -> PurePosixPath | None:
    """The path that a function of `pathlib` or `os.path` returns for a path."""
    if function in ("Path", "PurePath", "join"):
        return _join(path, parts)
    if function == "dirname":
        return _up(path, 1)
    return path if function in ("str", "abspath", "realpath", "fspath") else None


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _join(path: PurePosixPath | None, parts: Iterable[str | None]) -> PurePosixPath | None:
    for part in parts:
        if path is None or part is None:
            return None
        for piece in PurePosixPath(part).parts:
            path = _up(path, 1) if piece == ".." else path / piece
            if path is None:
                return None
    return path


def _up(path: PurePosixPath | None, levels: int) -> PurePosixPath | None:
    """The folder `levels` levels above; None if it is above `transforms/`."""
    for _ in range(levels):
        if path is None or path == PurePosixPath("."):
            return None
        path = path.parent
    return path
