"""stdin, stdout and stderr as they are given: one may be closed, full, or read by nobody. None of it is a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress

from dynamodt.errors import DynamodtError

_STANDARD = (0, 1, 2)
_was_closed: set[int] = set()  # of 1 and 2, when the command began


def prepare() -> None:
    """Before anything is opened or printed: a closed descriptor would be given to the next file that is opened, and
    what goes wrong with a message on stderr must not end a run."""
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            _was_closed.add(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    elif sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Forgiving(sys.stderr)


def lenient() -> None:
    """An unusual character must not fail a run that has succeeded: it is escaped where a stream cannot show it."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def flush_results() -> DynamodtError | None:
    """Why what was written to stdout has not arrived, if that is a failure. A reader who has left is none."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return not_written(error)
    if 1 in _was_closed:
        return not_written(OSError(errno.EBADF, "closed"))
    return None


def not_written(error: OSError) -> DynamodtError | None:
    """The failure to write to stdout, as it is reported; nothing more is written there."""
    drop_output()
    if isinstance(error, BrokenPipeError):
        return None
    reason = error.strerror or str(error)
    hint = "the command itself has ended as its other messages say; send its result elsewhere (> FILE)"
    return DynamodtError(f"the result could not be written to stdout: {reason}", hint=hint)


def drop_output() -> None:
    """What is written to stdout from now on goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave(code: int) -> None:
    """Ends the process without waiting for threads that are still at work."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class _Forgiving(io.TextIOWrapper):
    """stderr, where a message that cannot be written is dropped."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()
