"""Explores every interleaving of some actors over a shared world, by running the real code in single steps.

An actor is a function; each time it calls `step()` (the fakes do, at the head of every call to a store) it waits for
the scheduler. A schedule is replayed from a fresh world. Two schedules that lead to the same world, with every actor
having seen the same answers, have the same future: only one of them is followed, and both are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

State = bytes


class World(Protocol):
    """A fresh world for each schedule. `actors` by name; two states are equal if their `snapshot`s are."""

    gone: list[Actor]  # actors that wait forever

    def actors(self) -> dict[str, Callable[[], None]]: ...

    def ready(self, name: str, alive: frozenset[str], started: frozenset[str]) -> bool: ...

    def snapshot(self) -> str: ...

    def check(self, ended: frozenset[str]) -> None: ...


@dataclass
class Actor:
    name: str
    task: Any
    seen: list[str] = field(default_factory=list)
    steps: int = 0
    error: BaseException | None = None
    ended: bool = False

    def end(self) -> None:
        """End the actor where it waits. A waiting greenlet is never garbage-collected, nor are the objects in its
        frames."""
        self.ended = True
        while not self.task.dead:
            self.task.throw()


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
            except Exception as error:
                actor.error = error

        actor.task = greenlet(guarded)
        actor.task.actor = actor
        return actor

    def move(self, name: str) -> None:
        """Run an actor's next step, until it waits for the one after it."""
        self.started.add(name)
        self.actors[name].steps += 1
        self.actors[name].task.switch()

    def alive(self) -> frozenset[str]:
        return frozenset(name for name, actor in self.actors.items() if not actor.task.dead)

    def enabled(self) -> list[str]:
        alive = self.alive()
        return [name for name in sorted(alive) if self.world.ready(name, alive, frozenset(self.started))]

    def end(self) -> None:
        """End all actors, before the world is discarded."""
        for actor in (*self.actors.values(), *self.world.gone):
            actor.end()

    def state(self) -> State:
        """The state of the world, and each actor's position and observations: together they determine all later
        steps."""
        actors = [(name, a.steps, a.seen, a.task.dead) for name, a in self.actors.items()]
        return blake2b(f"{self.world.snapshot()} {actors}".encode(), digest_size=16).digest()


def step() -> None:
    """Wait for the scheduler, if this is an actor. An ended actor cleans up without another step."""
    current = getcurrent()
    if hasattr(current, "actor"):
        if not current.actor.ended:
            current.parent.switch()
        if current.actor.ended:
            raise GreenletExit


def observed(answer: object) -> None:
    """Note an actor's observation, which determines its next steps."""
    current = getcurrent()
    if hasattr(current, "actor"):
        current.actor.seen.append(repr(answer))


def acting() -> str:
    """The actor whose step this is; empty: none."""
    actor = getattr(getcurrent(), "actor", None)
    return actor.name if actor is not None else ""


EXPLORED = "explored"  # the property of a test's report with a scene's name and its numbers


@dataclass
class Explored:
    """`states` were visited, standing for `interleavings`; `ends` are the different end states."""

    states: int = 0
    interleavings: int = 0
    ends: int = 0


@dataclass
class _Visited:
    """A state on the way that is being followed: what is still to be tried from it, and the ways found so far."""

    state: State
    schedule: tuple[str, ...]
    following: Iterator[str]
    ends: bool
    ways: int = 0


def explore(make_world: Callable[[], World]) -> Explored:
    """Follow every schedule, and check each state. The first way on from a state needs no replay."""
    explored = Explored()
    paths: dict[State, int] = {}
    scheduler = Scheduler(make_world())
    at: tuple[str, ...] = ()
    way = [_visit(scheduler, (), explored)]
    while True:
        here = way[-1]
        name = next(here.following, None)
        if name is None:
            way.pop()
            paths[here.state] = here.ways or 1
            if not way:
                scheduler.end()
                explored.interleavings = paths[here.state]
                return explored
            way[-1].ways += paths[here.state]
            continue
        if at != here.schedule:
            scheduler.end()
            scheduler = _replayed(make_world, here.schedule)
        at = (*here.schedule, name)
        scheduler.move(name)
        known = paths.get(scheduler.state())
        if known is not None:
            here.ways += known
        else:
            way.append(_visit(scheduler, at, explored))


def _replayed(make_world: Callable[[], World], schedule: tuple[str, ...]) -> Scheduler:
    scheduler = Scheduler(make_world())
    for name in schedule:
        scheduler.move(name)
    return scheduler


def _visit(scheduler: Scheduler, schedule: tuple[str, ...], explored: Explored) -> _Visited:
    """Check a new state. An actor that ends by an error has not done what is explored."""
    try:
        failed = {actor.name: repr(actor.error) for actor in scheduler.actors.values() if actor.error is not None}
        assert not failed, f"ended by an error: {failed}"
        scheduler.world.check(frozenset(scheduler.actors) - scheduler.alive())
    except AssertionError as error:
        raise AssertionError(f"{error} after {' '.join(schedule)}") from error
    following = scheduler.enabled()
    explored.states += 1
    explored.ends += not following
    return _Visited(scheduler.state(), schedule, iter(following), not following)
