"""Time that passes only while everybody waits: the real code of many processes, run in one thread and one at a time.

A task is a function in a greenlet. Wherever the real code would sleep, or wait for an answer, it calls `Loop.sleep`
and another task goes on. Two runs with the same seed are the same to the last step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import getcurrent, greenlet


class Process:
    """Where tasks belong to; when it dies, none of them ever goes on, and nothing of them is tidied up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True


class Loop:
    """The clock, and who is to go on when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._hub = getcurrent()
        self._order = count()
        self._due: list[tuple[float, int, Any]] = []

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """The calling task goes on after so many seconds."""
        self.wake(getcurrent(), seconds)
        self._hub.switch()

    def park(self) -> None:
        """The calling task goes on when somebody wakes it."""
        self._hub.switch()

    def wake(self, task: Any, seconds: float = 0.0) -> None:
        """A task goes on after so many seconds."""
        heappush(self._due, (self.now + seconds, next(self._order), task))

    def spawn(self, process: Process, function: Callable[..., Any], *arguments: Any, after: float = 0.0) -> Any:
        """A new task of a process. What it raises, `run` raises."""
        task = greenlet(lambda: function(*arguments), parent=self._hub)
        task.process = process
        self.wake(task, after)
        return task

    def run(self, until: float) -> None:
        """Let time pass up to a moment."""
        while self._due and self._due[0][0] <= until:
            self.now, _, task = heappop(self._due)
            if task.process.alive:
                task.switch()
        self.now = until


class Lock:
    """A lock between tasks; who waits, waits in line."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held = False
        self._line: deque[Any] = deque()

    def __enter__(self) -> None:
        if self._held:
            self._line.append(getcurrent())
            self._loop.park()
        self._held = True

    def __exit__(self, *error: object) -> None:
        if self._line:
            self._loop.wake(self._line.popleft())
        else:
            self._held = False


class Coming:
    """The result of a call under way."""

    def __init__(self, loop: Loop, call: Callable[[], Any]) -> None:
        self._loop = loop
        self._call = call
        self._done = False
        self._value: Any = None
        self._error: Exception | None = None
        self._waiting: Any = None

    def carry_out(self) -> None:
        try:
            self._value = self._call()
        except Exception as error:
            self._error = error
        self._done = True
        if self._waiting is not None:
            self._loop.wake(self._waiting)

    def result(self) -> Any:
        if not self._done:
            self._waiting = getcurrent()
            self._loop.park()
        if self._error is not None:
            raise self._error
        return self._value


class Pool:
    """A process's pool of so many threads: as much of an Executor as the stages use."""

    def __init__(self, loop: Loop, process: Process, width: int) -> None:
        self._loop = loop
        self._process = process
        self._width = width
        self._busy = 0
        self._left: deque[Coming] = deque()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Coming:
        coming = Coming(self._loop, lambda: function(*arguments))
        self._left.append(coming)
        if self._busy < self._width:
            self._busy += 1
            self._loop.spawn(self._process, self._work)
        return coming

    def map(self, function: Callable[..., Any], *items: Iterable[Any]) -> Iterator[Any]:
        coming = [self.submit(function, *each) for each in zip(*items, strict=True)]
        return (one.result() for one in coming)

    def _work(self) -> None:
        while self._left:
            self._left.popleft().carry_out()
        self._busy -= 1
