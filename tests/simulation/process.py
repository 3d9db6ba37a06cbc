"""Simulated processes for the pipeline's modules: each has its own waits, locks and threads, and its own copy of the
state that the modules keep for a process."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import pytest

from dynamodt.pipeline import author_output, rate_limit, signals
from tests.simulation.loop import Lock, Loop, Pool, Process, process

KEPT: dict[tuple[ModuleType, str], Callable[[], Any]] = {
    (signals, "_contexts"): dict,
    (author_output, "_label"): lambda: None,
}


@contextmanager
def simulated(seed: int) -> Iterator[Loop]:
    """A loop whose tasks may run the code of the pipeline. At the end, in any case, no task continues, and all modules
    are as they were."""
    loop, dice = Loop(_enter), random.getstate()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in KEPT:
            patch.setattr(module, name, getattr(module, name))
        for module in stages():
            _replace(patch, module, "threading", _Threading(loop))
            _replace(patch, module, "ThreadPoolExecutor", partial(Pool, loop))
        patch.setattr(rate_limit, "_name", lambda: process().name)
        random.seed(seed)  # the back-off of reads, and of much else, has no dice of its own
        try:
            yield loop
        finally:
            loop.close()
            random.setstate(dice)


def stages() -> list[ModuleType]:
    """The modules of the stages that are loaded."""
    return [module for name, module in sys.modules.items() if name.startswith("dynamodt.pipeline.")]


def _replace(patch: pytest.MonkeyPatch, module: ModuleType, name: str, stand_in: Any) -> None:
    if hasattr(module, name):
        patch.setattr(module, name, stand_in)


def _enter(process: Process) -> None:
    for (module, name), make in KEPT.items():
        if name not in process.kept:
            process.kept[name] = make()
        setattr(module, name, process.kept[name])


class _Threading:
    """Python's module, with locks between tasks."""

    def __init__(self, loop: Loop) -> None:
        self.Lock = partial(Lock, loop)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)
