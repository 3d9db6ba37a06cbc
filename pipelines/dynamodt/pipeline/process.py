"""Keeps Beam's log lines off a person's screen. Imports no Beam: it is entered before Beam is imported.

Python's cyclic garbage collector, told to look less often.

A page is thousands of small dicts and lists without a cycle among them: reference counts free them all. The collector
goes through them again and again nevertheless, since each is an allocation: 10 to 30 % of the client's CPU, before
(10,000 items of 450 bytes on ministack). Importing Beam is hundreds of thousands more of them, and at the end of a
process it goes through all that is left: a third of a second each.
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
    """Beam's warnings (optional packages, a worker's stack) say nothing that our own errors do not."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_ALLOCATIONS = 200_000  # between two looks at the youngest objects; 700 (or 2,000) by default


def collect_less() -> None:
    """For this process, from now on, and not at all at its end; a higher threshold that somebody has set stays."""
    youngest, *older = gc.get_threshold()
    if 0 < youngest < _ALLOCATIONS:
        gc.set_threshold(_ALLOCATIONS, *older)
        atexit.register(gc.freeze)
