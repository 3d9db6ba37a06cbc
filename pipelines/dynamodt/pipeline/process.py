"""Settings of a process: its signals, its log, the garbage collector and gRPC. Imports no Beam: it comes before that.

Ctrl-C and SIGTERM both unwind the program as an exception, so that all resources are closed.

A page is thousands of small dicts and lists without a cycle: reference counts free them all. Each is an allocation, so
that the cyclic collector scans them again and again: 10 to 30 % of the client's CPU (10,000 items of 450 bytes on
ministack). Importing Beam makes hundreds of thousands more, and at its end a process scans all that is left: a third of
a second each.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dynamodt.errors import DynamodtError

_LOUD = ("apache_beam", "root", "py4j")


@contextmanager
def muted_beam() -> Iterator[None]:
    """Beam's warnings (optional packages, a worker's stack) add nothing to our own errors."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_ALLOCATIONS = 200_000  # between two scans of the youngest objects; 700 (or 2,000) by default


def collect_less() -> None:
    """Scan rarely from now on, and not at the end of the process. A higher threshold that was set before stays."""
    youngest, *older = gc.get_threshold()
    if 0 < youngest < _ALLOCATIONS:
        gc.set_threshold(_ALLOCATIONS, *older)
        atexit.register(gc.freeze)


_NO_PROXY = ("no_grpc_proxy", "no_proxy")  # as gRPC reads them: the second without the first
_HERE = ("localhost", "127.0.0.1", "::1")


def reach_beam_directly() -> None:
    """Has gRPC, by which the parts of Beam on one machine communicate, use no proxy for it: gRPC would send even that
    through HTTP_PROXY. Processes that are started later inherit this."""
    given = next((os.environ[name] for name in _NO_PROXY if os.environ.get(name)), "")
    hosts = [host for host in given.split(",") if host and host not in _HERE]
    os.environ[_NO_PROXY[0]] = ",".join([*hosts, *_HERE])


class Terminated(KeyboardInterrupt):
    """SIGTERM, which cleans up as Ctrl-C does."""


class StoppedError(DynamodtError):
    """The command was stopped by a signal. Exit code 130 (Ctrl-C) or 143 (SIGTERM), as a shell expects."""

    def __init__(self, name: str, exit_code: int, hint: str) -> None:
        super().__init__(f"stopped by {name}", hint=hint)
        self.exit_code = exit_code

    @classmethod
    def by(cls, interrupt: KeyboardInterrupt, hint: str) -> StoppedError:
        """The error for an interrupt; `hint` says how to continue."""
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
def signals_raise(notify: Callable[[], None]) -> Iterator[Signals]:
    """Raises in the main thread for Ctrl-C and SIGTERM; calls `notify` before the first. Must be entered there."""
    signals = Signals(notify)
    previous = {number: signal.signal(number, signals.arrived) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
