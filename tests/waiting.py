"""Waits of the tests for an event, up to a limit that only a hang reaches, on a machine of any speed."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

HANG_SECONDS = 600.0  # also the timeout of every process that a test waits for
_POLL_SECONDS = 0.05

# For the text of a script: `hold(file)` returns when the file exists, which is how a test reaches a script that runs in
# another process, or in several.
HOLD = f"""
import time
from pathlib import Path


def hold(file):
    end = time.monotonic() + {HANG_SECONDS}
    while not Path(file).exists():
        assert time.monotonic() < end, file
        time.sleep({_POLL_SECONDS / 5})

"""

T = TypeVar("T")


def until(look: Callable[[], T], what: str, process: subprocess.Popen[Any] | None = None) -> T:
    """The first true result of `look`. Fails with the name of the event if there is none, and at once if the process
    that should cause it has ended."""
    end = time.monotonic() + HANG_SECONDS
    while not (found := look()):
        ended = process is not None and process.poll() is not None
        if ended and (found := look()):
            break
        assert not ended, f"the process ended with {process and process.returncode} before {what}; last seen: {found!r}"
        assert time.monotonic() < end, f"not within {HANG_SECONDS:.0f} s: {what}; last seen: {found!r}"
        time.sleep(_POLL_SECONDS)
    return found


def join(thread: threading.Thread, what: str) -> None:
    """Waits for the thread's end; fails, with the thread's task, if it does not end."""
    thread.join(HANG_SECONDS)
    assert not thread.is_alive(), f"not within {HANG_SECONDS:.0f} s: {what}"
