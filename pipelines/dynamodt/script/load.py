"""A script's text as a syntax tree and as a module, the signatures of its functions, and errors at its lines.

The module is made from the text in `Script`, without the file. So are the modules beside the script that it imports: an
`import` in them searches the script's own files first. These modules are cached by the script's content and are not on
`sys.path`: two tables may have modules of the same name, and after an edit a process holds the old and the new module,
each for its own script. A process executes a module once for each content of a script.

A script cannot end the process: `os._exit(0)` would end a run as if it had succeeded, with nothing recorded. The
functions of `os` that end or replace the process raise SystemExit if a script calls them in the process that has loaded
it; other code, and processes that a script forks, call the real functions. A forked process that returns from the
script's code ends there. A native library can still end the process.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import fcntl
import linecache
import os
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from types import FrameType, ModuleType
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from dynamodt.errors import ScriptError, error_text

if TYPE_CHECKING:
    from dynamodt.model.runs import Script

SHARED: Final = "shared"  # the folder of modules that the scripts of all tables may import
_ENDINGS: Final = ("_exit", "abort", "execv", "execve")
_loaded: dict[str, int] = {}  # the process that has loaded a script, by the script's path


def prevent_exit(path: str) -> None:
    """From this call on, code of the file `path` can end this process only by an exception."""
    _loaded[path] = os.getpid()
    for module in (os, sys.modules[os.name]):  # posix, from which os imports them
        for name in _ENDINGS:
            real = getattr(module, name)
            if not hasattr(real, "ends_for_others"):
                setattr(module, name, _with_guard(name, real))


def _with_guard(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def ends(*arguments: Any, **more: Any) -> Any:
        if _calling_script(sys._getframe(1)):
            raise SystemExit(f"os.{name}() would end the process without an error")
        return real(*arguments, **more)

    ends.ends_for_others = True  # type: ignore[attr-defined]
    return ends


def _calling_script(frame: FrameType | None) -> str:
    """The path of the script that is on the stack, if any."""
    while frame is not None:
        if _loaded.get(frame.f_code.co_filename) == os.getpid():
            return frame.f_code.co_filename
        frame = frame.f_back
    return ""


_forking = threading.local()  # `by`: the path of the script that forks in this thread
forked_by: list[str] = []  # in a process that a script has forked, the script's path; empty in any other


def _before_fork() -> None:
    _forking.by = _calling_script(sys._getframe(1))


def _after_fork() -> None:
    forked_by[:] = filter(None, [_forking.by])


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def end_forked_process() -> None:
    """Ends this process if a script has forked it. It is called where the script's code ends: the process is a copy of
    the run, and would write its items a second time, or wait for threads that it does not have. The hot path tests
    `forked_by` itself, which is cheaper than a call for each item."""
    if not forked_by:
        return
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        os._exit((error.code or 0) & 0xFF)
    what = "a process that it has forked ends here: it must end by os._exit, and return nothing"
    os.write(2, f"{forked_by[0]}: {what}\n".encode())
    os._exit(1)


def parse(text: str, where: str) -> ast.Module:
    """The text's syntax tree. Raises ScriptError with the line of a syntax error."""
    try:
        return ast.parse(text, filename=where)
    except SyntaxError as error:
        line, hint = f"{where}:{error.lineno or 1}", _line_hint(error, text)
        raise ScriptError(f"syntax error: {error.msg}", where=line, hint=hint) from error
    except ValueError as error:  # null bytes, before Python 3.11.4
        raise ScriptError(f"syntax error: {error}", where=where, hint="Save the file as plain text.") from error


def _line_hint(error: SyntaxError, text: str) -> str:
    number = error.lineno or 1  # one past the end if a bracket or string is not closed
    line = "".join(text.splitlines()[number - 1 : number]).strip()
    return f"Correct this line: {line}" if line else "Check the end of the file."


def bindings(tree: ast.Module) -> dict[str, ast.stmt]:
    """The names bound at the top level of the file, each with the last statement that binds it."""
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


def load(script: Script) -> ModuleType:
    """Executes the script's text in a new module, whose tracebacks show the author's lines on any machine.

    Raises ScriptError, with file and line and the author's own error as its cause, when that fails.
    """
    module = ModuleType(f"dynamodt:{script.table}/v{script.sequence}_{script.name}")
    beside = _beside(script)
    beside.give(module, beside.script_name)
    try:
        _execute(module, script.text, script.path)
    except BaseException as error:
        if is_interrupt(error):
            raise
        raise script_failure(script, "fails when it is loaded", error) from error
    return module


def _execute(module: ModuleType, text: str, path: str) -> None:
    """Executes a text of the author's; after an error, no module remains in `sys.modules`."""
    # Without a modification time, linecache never compares the entry with a file, which may be absent or newer.
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    prevent_exit(path)
    sys.modules[module.__name__] = module  # dataclasses and typing look a class's module up there
    try:
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    finally:
        end_forked_process()


# ---------------------------------------------------------------- the files that a script uses


class Places(NamedTuple):
    """Resolves the imports of a script below `transforms/`: in its table's folder, then in `shared`.

    A module of `shared` can import from `shared` only, so that it is the same module for every table. A place is a
    module's path relative to `transforms/`, with `/` and without a suffix: `users/names`. `has_modules` is about a
    folder.
    """

    is_file: Callable[[str], bool]
    has_modules: Callable[[str], bool]

    def base(self, importer: str, dotted: str, level: int) -> str | None:
        """The place below which the file `importer` finds `dotted`; empty: `transforms/`; None: not a module of the
        project. `level` is the number of dots of a relative import."""
        folders = importer.split("/")[:-1]
        if level:
            return "/".join(folders[: len(folders) + 1 - level]) if level <= len(folders) + 1 else None
        first = dotted.partition(".")[0]
        for place in dict.fromkeys((folders[0], SHARED) if folders else ()):
            if (place == SHARED or folders[0] != SHARED) and self.exists(f"{place}/{first}"):
                return place
        return "" if first == SHARED and self.has_modules(SHARED) else None

    def exists(self, place: str) -> bool:
        """Whether a module, or a folder with modules, exists at a place."""
        return bool(self.file(place)) or self.has_modules(place)

    def file(self, place: str) -> str:
        """The file of a module or package; empty for a folder without `__init__.py`, and for no module."""
        files = (f"{place}.py", f"{place}/__init__.py")
        return next((name for name in files if self.is_file(name)), "")


def below(place: str, name: str) -> str:
    """The place of a name below another place."""
    return f"{place}/{name}".strip("/")


def shown(script: Script, name: str) -> str:
    """The path of a file that the script uses, in messages and tracebacks."""
    return str(PurePosixPath(script.path).parent.parent / name)


class _Beside:
    """The files of one content of a script in this process, and the modules among them, each executed once.

    Imports follow Python's rules, with `Places` to find a name; any other module is imported by Python itself. No other
    code can access the modules.
    """

    def __init__(self, script: Script) -> None:
        self.script_name = f"{script.folder or script.table}/{PurePosixPath(script.path).name}"
        self._script = script
        self._content = script.exact_content
        self._texts = {file.name: file.content.decode() for file in script.files if file.name.endswith(".py")}
        self._places = Places(self._texts.__contains__, self._has_modules)
        self._modules: dict[str, ModuleType] = {}
        self._lock = threading.RLock()
        self._folder: Path | None = None

    def _has_modules(self, place: str) -> bool:
        return any(name.startswith(f"{place}/") for name in self._texts)

    def give(self, module: ModuleType, name: str) -> None:
        """Sets `__file__` and the import function of the module of the file `name`."""
        module.__file__ = self._path(name)
        if self._texts:
            module.__dict__["__builtins__"] = {**vars(builtins), "__import__": partial(self._import, name)}

    def _import(
        self,
        importer: str,
        name: str,
        variables: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        wanted: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """`__import__` for the file `importer`; the other parameters are Python's."""
        place = self._places.base(importer, name, level)
        if place is None:
            return __import__(name, variables, local, wanted or (), level)
        modules = [self._module(place)] if level and not name else []
        for part in filter(None, name.split(".")):
            place = below(place, part)
            modules.append(self._module(place))
        if not wanted:
            return modules[0]
        for one in getattr(modules[-1], "__all__", ()) if "*" in wanted else wanted:
            if not hasattr(modules[-1], one) and self._places.exists(below(place, one)):
                self._module(below(place, one))
        return modules[-1]

    def _module(self, place: str) -> ModuleType:
        with self._lock:
            if place not in self._modules:
                self._make(place)
            return self._modules[place]

    def _make(self, place: str) -> None:
        file = self._places.file(place)
        if not file and not self._has_modules(place):
            dotted = place.replace("/", ".")
            raise ModuleNotFoundError(f"No module named {dotted!r} beside the script", name=dotted)
        module = ModuleType(f"dynamodt:{self._content[:12]}/{place}")
        self.give(module, file or f"{place}/__init__.py")
        if not file.startswith(f"{place}."):
            module.__path__ = []  # a package
        self._modules[place] = module
        try:
            if file:
                _execute(module, self._texts[file], shown(self._script, file))
        except BaseException:
            del self._modules[place]
            raise
        parent, _, last = place.rpartition("/")
        if parent in self._modules:
            setattr(self._modules[parent], last, module)

    def _path(self, name: str) -> str:
        """A file's `__file__`: a copy on this machine's disk, if the script uses `__file__` at all."""
        script = self._script
        if not any("__file__" in text for text in (script.text, *self._texts.values())):
            return shown(script, name)
        with self._lock:
            self._folder = self._folder or self._copy_files()
            return str(self._folder / name)

    def _copy_files(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="files-", dir=_copies()))
        own = (self.script_name, self._script.text.encode())
        for name, content in (own, *((file.name, file.content) for file in self._script.files)):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o444)  # all items of this process share it
        return folder


_kept: dict[tuple[str, str], _Beside] = {}
_keeping = threading.Lock()
_folders: dict[int, tuple[Path, IO[bytes]]] = {}  # by process id, with its lock; a forked process makes its own


def _beside(script: Script) -> _Beside:
    if not script.files and "__file__" not in script.text:
        return _Beside(script)
    with _keeping:
        key = (script.path, script.exact_content)
        if key not in _kept:
            _kept[key] = _Beside(script)
        return _kept[key]


def _copies() -> Path:
    """The folder for copies of files. It is removed when the process ends."""
    if (pid := os.getpid()) not in _folders:
        _folders[pid] = folder_of_process(Path(tempfile.gettempdir()), "dynamodt-files-")
        atexit.register(_remove, _folders[pid][0], pid)
    return _folders[pid][0]


def folder_of_process(parent: Path, prefix: str) -> tuple[Path, IO[bytes]]:
    """A new folder of this process, and its lock, which ends with the process. Those of ended ones are removed."""
    remove_left(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = (folder / "new").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / "new").rename(folder / "lock")  # visible to other processes only while it is held
    return folder, lock


def remove_left(parent: Path, prefix: str) -> None:
    """Removes the folders of processes that have ended, such as killed ones."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid():
                with (folder / "lock").open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


# ---------------------------------------------------------------- errors


def is_interrupt(error: BaseException) -> bool:
    """Whether an error of an author's function is a Ctrl-C or a signal, which arrive in the main thread only. Any other
    error is the script's, including SystemExit by `sys.exit()`."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def author_frames(script: Script, error: BaseException) -> list[traceback.FrameSummary]:
    """The frames of the script and of its modules in an error's traceback."""
    paths = {script.path, *(shown(script, file.name) for file in script.files)}
    return [one for one in traceback.extract_tb(error.__traceback__) if one.filename in paths]


def author_line(script: Script, error: BaseException) -> str:
    """`file:line` of the last of these frames; the script's path without one."""
    found = author_frames(script, error)
    return f"{found[-1].filename}:{found[-1].lineno}" if found else script.path


def script_failure(script: Script, what: str, error: BaseException, hint: str = "") -> ScriptError:
    """A ScriptError at the last of the author's lines."""
    text, hint = f"{what}: {error_text(error)}", hint or _hint(script, error)
    return ScriptError(text, where=author_line(script, error), hint=hint)


def _hint(script: Script, error: BaseException) -> str:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return "Correct the line named above; nothing was started."
    name = error.name.partition(".")[0]
    folder = PurePosixPath(script.path).parent
    return (
        f"Install the package that has it where this runs ({sys.executable} -m pip install {name}, if it has the same "
        "name); for the jobs of a stage add it to the file that `requirements` names, under [stages.NAME.deploy], and "
        f"deploy. Your own modules must be imported by import statements, from {folder} or {folder.parent / SHARED}."
    )


def line_of(script: Script, name: str) -> str:
    """`file:line` of the top-level statement that binds `name`."""
    statement = bindings(parse(script.text, script.path)).get(name.partition(".")[0])
    return f"{script.path}:{statement.lineno}" if statement else script.path
