"""A script's text as a syntax tree and as a module, the signatures of its functions, and errors at its lines.

The module is made of the text that `Script` carries, without the file. A script cannot end the process: `os._exit(0)`
would end a run as if it had succeeded, with nothing recorded. So the functions of `os` that end or replace the process
raise SystemExit instead, for a script's own calls in the process that has loaded it; other code, and processes that a
script forks, call the real ones. A native library can still end the process.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from dynamodt.errors import ScriptError

if TYPE_CHECKING:
    from dynamodt.model.runs import Script

_ENDINGS: Final = ("_exit", "abort", "execv", "execve")
_loaded: dict[str, int] = {}  # the process that has loaded a script, by the script's path


def keep_from_ending(path: str) -> None:
    """From now on, code of the file `path` ends this process only by an exception."""
    _loaded[path] = os.getpid()
    for module in (os, sys.modules[os.name]):  # posix, of which os has them
        for name in _ENDINGS:
            real = getattr(module, name)
            if not hasattr(real, "ends_for_others"):
                setattr(module, name, _guarded(name, real))


def _guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def ends(*arguments: Any, **more: Any) -> Any:
        if _is_called_by_a_script(sys._getframe(1)):
            raise SystemExit(f"os.{name}() would end the process without an error")
        return real(*arguments, **more)

    ends.ends_for_others = True  # type: ignore[attr-defined]
    return ends


def _is_called_by_a_script(frame: FrameType | None) -> bool:
    while frame is not None:
        if _loaded.get(frame.f_code.co_filename) == os.getpid():
            return True
        frame = frame.f_back
    return False


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


def load(script: Script) -> ModuleType:
    """Execute the script's text in a fresh module, whose tracebacks show the author's lines on any machine.

    Raises ScriptError, with file and line and the author's own error as its cause, when that fails.
    """
    module = ModuleType(f"dynamodt:{script.table}/v{script.sequence}_{script.name}")
    module.__file__ = script.path
    _show_lines(script)
    keep_from_ending(script.path)
    sys.modules[module.__name__] = module  # dataclasses and typing look a class's module up there
    try:
        exec(compile(script.text, script.path, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        del sys.modules[module.__name__]
        if is_interrupt(error):
            raise
        raise script_failure(script, "fails when it is loaded", error) from error
    return module


def _show_lines(script: Script) -> None:
    # Without a modification time, linecache never compares the entry with a file, which may be absent or newer.
    lines = script.text.splitlines(keepends=True)
    linecache.cache[script.path] = (len(script.text), None, lines, script.path)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error of an author's function is a Ctrl-C or a signal, which arrive in the main thread only. Any other
    one is the script's, including `sys.exit()`."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def error_text(error: BaseException) -> str:
    """An error in one sentence. Its text may be computed by the author's own class, and fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:
        return f"{type(error).__name__}, whose text cannot be shown ({type(failure).__name__})"


def script_failure(script: Script, what: str, error: BaseException, hint: str = "") -> ScriptError:
    """A ScriptError at the last of the author's lines in the error's traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script.path]
    where = f"{script.path}:{lines[-1]}" if lines else script.path
    return ScriptError(f"{what}: {error_text(error)}", where=where, hint=hint or _hint(error))


def _hint(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "A script travels alone: what it imports must be installed where it runs; a file beside it is not found."
    return "Correct the line named above; nothing was started."


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def line_of(script: Script, name: str) -> str:
    """`file:line` of the top-level statement that binds `name`."""
    statement = bindings(parse(script.text, script.path)).get(name.partition(".")[0])
    return f"{script.path}:{statement.lineno}" if statement else script.path


def parameters(script: Script, name: str, function: object, forms: Mapping[int, str]) -> int:
    """The number of positional parameters of `function`, one of `forms` (number -> signature, for the hint).

    Raises ScriptError at the function's line when it is not a function, or has another signature.
    """
    written = " or ".join(f"def {name.rpartition('.')[2]}{form}" for form in forms.values())
    if not callable(function):
        raise ScriptError(f"{name} is not a function", where=line_of(script, name), hint=f"Write {written}.")
    found = _positional(function)
    if found not in forms:
        raise ScriptError(
            f"{name} has parameters other than {' or '.join(forms.values())}",
            where=line_of(script, name),
            hint=f"Write {written}. A decorator must keep the signature (functools.wraps).",
        )
    return found


def _positional(function: Callable[..., Any]) -> int:
    """The number of parameters; -1 when some are not positional or the signature is unknown."""
    try:
        found = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return -1
    return len(found) if all(parameter.kind in _POSITIONAL for parameter in found) else -1
