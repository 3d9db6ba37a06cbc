"""Calls of the author's code: their time is limited, and what they print is kept.

The limit is a timer's signal, which interrupts Python code, sleeps and waits of the main thread; in another thread, and
in native code that does not return, there is none.
"""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType

_TICK = 0.5
_MOST = 64 * 1024  # characters that are kept


class HangError(BaseException):
    """A call of the author's code that does not return in time. No `except Exception` of a script catches it."""


class _Kept(io.TextIOBase):
    """A text stream that keeps its beginning and counts lines."""

    def __init__(self) -> None:
        self.text = ""
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        self.text += text[: _MOST - len(self.text)]
        return len(text)

    def writable(self) -> bool:
        return True


class Watch:
    """Limits each call within `call()` to `seconds`; `printed` is what the author's code has printed so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.printed = _Kept()
        self._calls = 0
        self._inside = False
        self._seen = (0, 0)  # a call, and the number of ticks that have found it

    def call(self) -> Watch:
        return self

    def __enter__(self) -> None:
        self._calls += 1
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While it lasts, calls are limited, and stdout and stderr are kept away from the terminal."""
        with redirect_stdout(self.printed), redirect_stderr(self.printed), self._timer():
            yield

    @contextmanager
    def _timer(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        tick = min(_TICK, self.seconds / 2)
        handler = signal.signal(signal.SIGALRM, self._ticked)
        before, interval = signal.setitimer(signal.ITIMER_REAL, tick, tick)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, before, interval)
            signal.signal(signal.SIGALRM, handler)

    def _ticked(self, number: int, frame: FrameType | None) -> None:
        call, ticks = self._seen
        self._seen = (self._calls, ticks + 1 if call == self._calls else 1)
        if self._inside and self._seen[1] * min(_TICK, self.seconds / 2) > self.seconds:
            raise HangError(f"does not return within {self.seconds:g} seconds")
