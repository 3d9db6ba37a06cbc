"""A script cannot end the process: what would leave at once, without a word and with any exit code, raises instead.

`os._exit(0)` in a script would end a run as if it had succeeded, with nothing said and nothing recorded. So the
functions of `os` that do that are replaced, for a script's own calls in the process that has loaded it: other code, and
processes that a script forks, get the real ones. The limit: a native library that ends the process is not kept from it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_ENDINGS: Final = ("_exit", "abort", "execv", "execve")
_loaded: dict[str, int] = {}  # the process that has loaded a script, by the script's path


def keep_from_ending(path: str) -> None:
    """From now on, no code of the file `path` ends this process but by an exception."""
    _loaded[path] = os.getpid()
    for module in (os, sys.modules[os.name]):  # posix, of which os has them
        for name in _ENDINGS:
            real = getattr(module, name)
            if not hasattr(real, "ends_for_others"):
                setattr(module, name, _guarded(name, real))


def _guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def ends(*arguments: Any, **more: Any) -> Any:
        if _is_called_by_a_script(sys._getframe(1)):
            raise SystemExit(f"os.{name}() would end the process without a word")
        return real(*arguments, **more)

    ends.ends_for_others = True  # type: ignore[attr-defined]
    return ends


def _is_called_by_a_script(frame: FrameType | None) -> bool:
    while frame is not None:
        if _loaded.get(frame.f_code.co_filename) == os.getpid():
            return True
        frame = frame.f_back
    return False
