"""Explores every interleaving of some actors over a shared world, by running the real code in single steps.

An actor is a function; each time it calls `step()` (the fakes do, at the head of every call to a store) it waits for
the scheduler. A schedule is replayed from a fresh world. Two schedules that lead to the same world, with every actor
having seen the same answers, have the same future: only one of them is followed, and both are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from greenlet import getcurrent, greenlet


class World(Protocol):
    """A fresh world for each schedule. `actors` by name; `snapshot` is hashable and tells two states apart."""

    def actors(self) -> dict[str, Callable[[], None]]: ...

    def ready(self, name: str, alive: frozenset[str], started: frozenset[str]) -> bool: ...

    def snapshot(self) -> object: ...

    def check(self, ended: frozenset[str]) -> None: ...


@dataclass
class Actor:
    name: str
    task: Any
    seen: list[str] = field(default_factory=list)
    steps: int = 0
    error: BaseException | None = None


class Scheduler:
    """Runs one schedule: the names of the actors in the order of their steps."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.actors = {name: self._actor(name, run) for name, run in world.actors().items()}
        self.started: set[str] = set()

    def _actor(self, name: str, run: Callable[[], None]) -> Actor:
        actor = Actor(name, None)

        def guarded() -> None:
            try:
                run()
            except Exception as error:  # an owner that is fenced ends so
                actor.error = error

        actor.task = greenlet(guarded)
        actor.task.actor = actor
        return actor

    def move(self, name: str) -> None:
        """Let an actor do its next step, up to the one after."""
        self.started.add(name)
        self.actors[name].steps += 1
        self.actors[name].task.switch()

    def alive(self) -> frozenset[str]:
        return frozenset(name for name, actor in self.actors.items() if not actor.task.dead)

    def enabled(self) -> list[str]:
        alive = self.alive()
        return [name for name in sorted(alive) if self.world.ready(name, alive, frozenset(self.started))]

    def state(self) -> object:
        """The world, and of each actor: how far it is, and what it knows. The two together decide all that follows."""
        actors = tuple((name, a.steps, tuple(a.seen), a.task.dead) for name, a in self.actors.items())
        return self.world.snapshot(), actors


def step() -> None:
    """Wait for the scheduler, if this is an actor."""
    current = getcurrent()
    if hasattr(current, "actor"):
        current.parent.switch()


def saw(answer: object) -> None:
    """Note what an actor has learnt: it decides what it does next."""
    current = getcurrent()
    if hasattr(current, "actor"):
        current.actor.seen.append(repr(answer))


@dataclass
class Explored:
    """`states` were visited, standing for `interleavings`; `ends` are the different end states."""

    states: int = 0
    interleavings: int = 0
    ends: int = 0


def explore(make_world: Callable[[], World]) -> Explored:
    """Follow every schedule, and check each end state (and each where an actor never moves again)."""
    explored = Explored()
    paths: dict[object, int] = {}

    def follow(schedule: tuple[str, ...]) -> int:
        scheduler = Scheduler(make_world())
        for name in schedule:
            scheduler.move(name)
        state = scheduler.state()
        if state in paths:
            return paths[state]
        explored.states += 1
        ended = frozenset(scheduler.actors) - scheduler.alive()
        try:
            scheduler.world.check(ended)
        except AssertionError as error:
            raise AssertionError(f"{error} after {' '.join(schedule)}") from error
        following = scheduler.enabled()
        if not following:
            explored.ends += 1
        paths[state] = sum(follow((*schedule, name)) for name in following) or 1
        return paths[state]

    explored.interleavings = follow(())
    return explored
