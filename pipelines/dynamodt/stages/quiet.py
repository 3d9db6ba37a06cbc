"""Keeps Beam's log lines off a person's screen. Imports no Beam: it is entered before Beam is imported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_LOUD = ("apache_beam", "root", "py4j")


@contextmanager
def quiet_beam() -> Iterator[None]:
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
