"""Simulated time, which passes only while all tasks wait: the real code of many processes runs in one thread, one
process at a time.

A task is a function in a greenlet. Wherever the real code would sleep, or wait for an answer, it calls `Loop.sleep`,
and another task continues. Two runs with the same seed are the same in every step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet


class Process:
    """A group of tasks. When the process dies, its tasks never continue, and no clean-up runs. `kept` is the module
    state of the process, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.kept: dict[str, Any] = {}


def process() -> Process:
    """The process of the calling task."""
    found: Process = getcurrent().process  # type: ignore[attr-defined]
    return found


class Loop:
    """The clock, and the tasks in the order in which they continue. `entering` is called whenever the process
    changes."""

    def __init__(self, entering: Callable[[Process], None] = lambda process: None) -> None:
        self.now = 0.0
        self._entering = entering
        self._entered: Process | None = None
        self._tasks: set[Any] = set()  # kept, also of dead tasks: Python would finalize unreferenced ones
        self._closed = False
        self._hub = getcurrent()
        self._order = count()
        self._due: list[tuple[float, int, Any]] = []

    def time(self) -> float:
        """Seconds since the beginning."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """The calling task continues after this number of seconds."""
        self.wake(getcurrent(), seconds)
        self.park()

    def park(self) -> None:
        """The calling task continues when another one wakes it."""
        if self._closed:
            raise GreenletExit
        self._hub.switch()

    def wake(self, task: Any, seconds: float = 0.0) -> None:
        """A task continues after this number of seconds."""
        heappush(self._due, (self.now + seconds, next(self._order), task))

    def spawn(self, process: Process, function: Callable[..., Any], *arguments: Any, after: float = 0.0) -> Any:
        """A new task of a process. What it raises, `run` raises."""
        task: Any = greenlet(lambda: self._carry_out(task, function, arguments), parent=self._hub)
        task.process = process
        self._tasks.add(task)
        self.wake(task, after)
        return task

    def _carry_out(self, task: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            function(*arguments)
        finally:
            self._tasks.discard(task)

    def run(self, until: float) -> None:
        """Runs all tasks up to a time."""
        while self._due and self._due[0][0] <= until:
            self.now, _, task = heappop(self._due)
            if task.process.alive:
                self._enter(task.process)
                task.switch()
        self.now = until

    def _enter(self, process: Process) -> None:
        if process is not self._entered:
            self._entered = process
            self._entering(process)

    @property
    def tasks(self) -> int:
        """How many have not ended."""
        return len(self._tasks)

    def close(self) -> None:
        """End all tasks where they are, so that none continues in the time of a later test."""
        self._closed = True
        for task in list(self._tasks):
            self._enter(task.process)
            task.throw(GreenletExit)
        self._tasks = {task for task in self._tasks if not task.dead}  # one that had not begun does nothing at all


class Lock:
    """A lock between tasks, which get it in the order of their requests."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held = False
        self._line: deque[Any] = deque()

    def acquire(self, blocking: bool = True) -> bool:
        if self._held and not blocking:
            return False
        if self._held:
            self._line.append(getcurrent())
            self._loop.park()
        self._held = True
        return True

    def release(self) -> None:
        if self._line:
            self._loop.wake(self._line.popleft())
        else:
            self._held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


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
    """A pool of this number of threads of the calling process: the part of an Executor that the pipeline uses."""

    def __init__(self, loop: Loop, max_workers: int, thread_name_prefix: str = "") -> None:
        self._loop = loop
        self._process = process()
        self._width = max_workers
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

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is left of it when its process has ended."""

    def _work(self) -> None:
        while self._left:
            self._left.popleft().carry_out()
        self._busy -= 1
