"""Ctrl-C and SIGTERM: both unwind the program as an exception, so that whatever is open is closed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dynamodt.errors import DynamodtError


class Terminated(KeyboardInterrupt):
    """SIGTERM. What is tidied up on Ctrl-C is then tidied up on SIGTERM too."""


class StoppedError(DynamodtError):
    """The command was told to stop. Exit code 130 (Ctrl-C) or 143 (SIGTERM), as a shell expects."""

    def __init__(self, name: str, exit_code: int, hint: str) -> None:
        super().__init__(f"stopped by {name}", hint=hint)
        self.exit_code = exit_code

    @classmethod
    def by(cls, interrupt: KeyboardInterrupt, hint: str) -> StoppedError:
        """The error for an interrupt; `hint` says how to go on."""
        return cls(signal_name(interrupt), 143 if isinstance(interrupt, Terminated) else 130, hint)


def signal_name(interrupt: KeyboardInterrupt) -> str:
    """What stopped the command, as a person would say it."""
    return "SIGTERM" if isinstance(interrupt, Terminated) else "Ctrl-C"


class Signals:
    """Those that have arrived. Someone who sends a second one does not want to wait for what is still in flight."""

    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told
        self.count = 0

    def arrived(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self._told()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def signals_raise(told: Callable[[], None]) -> Iterator[Signals]:
    """Ctrl-C and SIGTERM raise in the main thread, after `told` was called for the first. Must be entered there."""
    signals = Signals(told)
    previous = {number: signal.signal(number, signals.arrived) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
