"""Settings of a process: its signals, its log, the garbage collector and gRPC. Imports no Beam, since it is used first.

Ctrl-C and SIGTERM both unwind the program as an exception, so that all resources are closed.

A page is thousands of small dicts and lists without a cycle: reference counts free them all. Each is an allocation, so
that the cyclic collector scans them repeatedly, for 10 to 30 % of the client's CPU (10,000 items of 450 bytes on
ministack). The import of Beam makes hundreds of thousands of objects, and a process scans all remaining ones at its
end: a third of a second each.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any

from dynamodt.errors import DynamodtError

_LIBRARIES = ("apache_beam", "py4j")
_STANDARD_LIBRARY = os.path.dirname(threading.__file__) + os.sep


def is_from_beam(record: logging.LogRecord) -> bool:
    """Whether Beam itself (or py4j) has logged this. The file decides, since Beam also uses the root logger, and a
    script may use a logger of Beam's name."""
    if in_beam(record.pathname):
        return True
    by_name = record.name.partition(".")[0] in _LIBRARIES  # compiled code has no frame: the caller may be `threading`
    return by_name and record.pathname.startswith(_STANDARD_LIBRARY) and "site-packages" not in record.pathname


def in_beam(path: str) -> bool:
    """Whether a file belongs to Beam or to py4j."""
    found = (getattr(sys.modules.get(name), "__path__", ()) for name in _LIBRARIES)
    return path.startswith(tuple(f"{folder}{os.sep}" for paths in found for folder in paths))


class _WithoutBeams(logging.Filter):
    """Drops Beam's own records while at least one caller asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def filter(self, record: logging.LogRecord) -> bool:
        return not (self.asked and is_from_beam(record))


_without_beams = _WithoutBeams()


@contextmanager
def mute_beam() -> Iterator[None]:
    """Drops Beam's own records (optional packages, a worker's stack), which add nothing to our errors. Other records
    are logged as before, also by a logger that Beam uses, and no level is changed."""
    _without_beams.asked += 1
    _install()
    try:
        yield
    finally:
        _without_beams.asked -= 1


def _install() -> None:
    """Adds the filter to all loggers and handlers of Beam's records: its own loggers, and the root logger with its
    handlers."""
    root = logging.getLogger()
    names = [name for name in root.manager.loggerDict if name.partition(".")[0] in _LIBRARIES]
    for one in (root, *map(logging.getLogger, names), *root.handlers, logging.lastResort):
        if one is not None:
            one.addFilter(_without_beams)


_ALLOCATIONS = 200_000  # between two scans of the youngest generation; 700 (or 2,000) by default


def reduce_collections() -> None:
    """Scan rarely from now on, and not at the end of the process. A higher threshold that was set before stays."""
    youngest, *older = gc.get_threshold()
    if 0 < youngest < _ALLOCATIONS:
        gc.set_threshold(_ALLOCATIONS, *older)
        atexit.register(gc.freeze)


_NO_PROXY = ("no_grpc_proxy", "no_proxy")  # gRPC reads the second only without the first
_HERE = ("localhost", "127.0.0.1", "::1")


def bypass_proxy_for_beam() -> None:
    """Makes gRPC, by which the parts of Beam on one machine communicate, bypass HTTP_PROXY for these connections.
    Processes that are started later inherit this."""
    given = next((os.environ[name] for name in _NO_PROXY if os.environ.get(name)), "")
    hosts = [host for host in given.split(",") if host and host not in _HERE]
    os.environ[_NO_PROXY[0]] = ",".join([*hosts, *_HERE])


class Terminated(KeyboardInterrupt):
    """SIGTERM; the program cleans up as for Ctrl-C."""


class StoppedError(DynamodtError):
    """The command was stopped by a signal. Exit code 130 (Ctrl-C) or 143 (SIGTERM), as a shell expects."""

    def __init__(self, name: str, exit_code: int, hint: str) -> None:
        super().__init__(f"stopped by {name}", hint=hint)
        self.exit_code = exit_code

    @classmethod
    def by(cls, interrupt: KeyboardInterrupt, hint: str) -> StoppedError:
        """The error for an interrupt; `hint` is about how to continue."""
        return cls(signal_name(interrupt), 143 if isinstance(interrupt, Terminated) else 130, hint)


def signal_name(interrupt: KeyboardInterrupt) -> str:
    """The signal's name in messages."""
    return "SIGTERM" if isinstance(interrupt, Terminated) else "Ctrl-C"


class Signals:
    """Counts the signals that arrive. A second one ends the command without waiting for requests in flight."""

    def __init__(self, notify: Callable[[], None]) -> None:
        self._notify = notify
        self.count = 0

    def arrived(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._notify()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def raise_on_signals(notify: Callable[[], None]) -> Iterator[Signals]:
    """Raises in the main thread, where it must be entered, for Ctrl-C and SIGTERM; calls `notify` before the first."""
    signals = Signals(notify)
    previous = {number: signal.signal(number, signals.arrived) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_redirecting = threading.RLock()


@contextmanager
def redirected(stream: Any) -> Iterator[None]:
    """Sends the standard streams of this process to `stream` until the end. Threads of a program take turns: of two at
    once, the later one would restore the stream of the other, and the program would have no output any more."""
    with _redirecting, redirect_stdout(stream), redirect_stderr(stream):
        yield


class _Again(threading.local):
    on = False


again = _Again()  # `on`: the output of scripts in this thread was shown before


@contextmanager
def without_output() -> Iterator[None]:
    """Drops the output of scripts in this thread until the end. It was shown before: a dry run applies a version again
    to make the items for a later one."""
    before, again.on = again.on, True
    try:
        yield
    finally:
        again.on = before
