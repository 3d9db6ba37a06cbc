"""Settings of a process in which Beam runs: its log and the garbage collector. Imports no Beam: it comes before that.

A page is thousands of small dicts and lists without a cycle: reference counts free them all. Each is an allocation, so
that the cyclic collector scans them again and again: 10 to 30 % of the client's CPU (10,000 items of 450 bytes on
ministack). Importing Beam makes hundreds of thousands more, and at its end a process scans all that is left: a third of
a second each.
"""

from __future__ import annotations

import atexit
import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
