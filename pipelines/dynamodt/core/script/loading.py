"""A Script's text -> a module that has run once. Everything is taken from the Script: the file need not be here."""

from __future__ import annotations

import linecache
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType

from dynamodt.core.script.endings import keep_from_ending
from dynamodt.core.script.reading import read_script
from dynamodt.errors import ScriptError
from dynamodt.model import Script


def load_script(path: Path | str) -> ModuleType:
    """The module of the version file at `path`, for a test that calls its functions. Raises ScriptError."""
    return load(read_script(Path(path), Path.cwd()))


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
    # No modification time: linecache then never compares the entry with a file that may be absent or newer.
    lines = script.text.splitlines(keepends=True)
    linecache.cache[script.path] = (len(script.text), None, lines, script.path)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error that comes out of an author's function is a Ctrl-C or a signal, which arrive in the main thread
    alone. All else is the script's own doing, `sys.exit()` too."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def said(error: BaseException) -> str:
    """An error in one sentence. Its text is the author's code, too, where the class is his own."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as failure:
        return f"{type(error).__name__}, whose text cannot be had ({type(failure).__name__})"


def script_failure(script: Script, what: str, error: BaseException, hint: str = "") -> ScriptError:
    """A ScriptError at the author's line that the error came through last."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == script.path]
    where = f"{script.path}:{lines[-1]}" if lines else script.path
    return ScriptError(f"{what}: {said(error)}", where=where, hint=hint or _hint(error))


def _hint(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "A script travels alone: what it imports must be installed where it runs; a file beside it is not found."
    return "Correct the line named above; nothing was started."
