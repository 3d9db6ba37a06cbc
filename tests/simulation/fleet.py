"""A run of many workers in simulated time: the real stages, as they are composed, and the real lease, allocator and
loop that follow the run, over the stores of `store`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.model.pages import Totals, Units
from dynamodt.model.runs import Job, RunProgress, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.ownership import split_groups
from dynamodt.runs import lock, runner
from dynamodt.runs.budget import Allocator
from dynamodt.runs.context import Follower
from dynamodt.runs.jobs import with_split_groups
from dynamodt.runs.options import RunOptions
from dynamodt.runs.runner import _GRANTERS
from tests.simulation.loop import Loop, Pool, Process
from tests.simulation.process import simulated
from tests.simulation.store import Bucket, Partition, State, StateRows, Things
from tests.simulation.worker import ComposedJob, Services, Worker

STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/prefix"))
_TEXT = """
sequence = 1

def transform_up(item):
    return {**item, "n": item["n"] + 1}
"""
SCRIPT = Script("things", 1, "plus_one", "v1_plus_one.py", _TEXT, "", has_up=True)  # it is not idempotent


@dataclass(frozen=True)
class Plan:
    """The size and the services of a fleet. `wcu` is the budget; `arrival` the seconds in which the workers start one
    by one; `application` the application's own write units, of the 1,000 of each partition."""

    workers: int = 1000
    wcu: float = 400_000.0
    rcu: float = 400_000.0
    kilobytes: int = 16
    units: int = 10_000
    items: int = 100_000
    partitions: int = 1000
    state_partitions: int = 4
    arrival: float = 20.0
    application: float = 100.0
    seed: int = 1

    def job(self) -> Job:
        """The job as planned for this number of workers."""
        size = self.kilobytes * 1024
        table = TableSpec("things", (KeyAttribute("id", "S"),), 10**6, size * 10**6, indexes=1)
        return with_split_groups(
            Job(f"run-{self.seed}", STAGE, table, SCRIPT, "up", splits=self.units, governed=True), self.workers
        )


@contextmanager
def running(plan: Plan) -> Iterator[Fleet]:
    """A context with a fleet, which is removed at the end."""
    with simulated(plan.seed) as loop, pytest.MonkeyPatch.context() as patch:
        fleet = Fleet(plan, loop)
        patch.setattr(runner, "_Background", lambda job, options: fleet.pipeline)
        yield fleet


class Fleet:
    """One run. Nothing happens until `live` is called."""

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self.plan = plan
        self.loop = loop
        self.job = plan.job()
        dice = Random(plan.seed)
        partitions = [Partition(loop, writes=1000.0 - plan.application) for _ in range(plan.partitions)]
        self.things = Things(loop, dice, plan.units, plan.items, plan.kilobytes, partitions)
        self.rows = StateRows(loop, dice, plan.state_partitions)
        self.bucket = Bucket(loop, dice)
        self.state = State(self.rows)
        self.control = Process("control")
        self.pipeline = _Ending(self._is_over, loop)
        self.totals = Totals()
        self.workers: list[Worker] = []
        self._composed = ComposedJob(self.job, Services(loop, self.things, self.state, self.bucket))
        self._lanes = deque(split_groups(self.job))
        for number in range(plan.workers):
            self.start(self._lanes.popleft(), after=1.0 + plan.arrival * number / plan.workers)
        loop.spawn(self.control, self._run)

    def start(self, split_group: tuple[int, ...], after: float = 0.0) -> Worker:
        """Starts a worker for a split group. Its task begins after `after` seconds."""
        worker = Worker(self.loop, self._composed, f"worker-{len(self.workers)}", split_group, self._next_group)
        self.workers.append(worker)
        self.loop.spawn(worker.process, worker.work, after=after)
        return worker

    def _next_group(self) -> tuple[int, ...] | None:
        return self._lanes.popleft() if self._lanes else None

    def _run(self) -> None:
        """What the process does that follows the run: `runs.session`, in simulated time."""
        loop, job, leases = self.loop, self.job, self.state.leases
        held = lock.acquire(leases, "things", job.run, lambda text: None, loop.time, loop.sleep)
        assert held.token == job.attempt
        keeper = SimpleNamespace(_leases=leases, _lease=held, _ended=_Ending(lambda: False, loop).ended)
        loop.spawn(self.control, lock._Keeper.run, keeper)
        limits = Units(rcu=self.plan.rcu, wcu=self.plan.wcu)._asdict()
        leases.set("things", held.token, lease_replicas=job.shards, **limits)
        rows = self.state.workers(job.base_run, job.attempt, job.shards)
        allocator = Allocator(job, leases, rows, clock=loop.time, executor=Pool(loop, _GRANTERS))  # type: ignore[arg-type]
        follower = Follower(self.state, [job], self, clock=loop.time)  # type: ignore[arg-type]
        self.totals = runner.run(
            job,
            self.state,  # type: ignore[arg-type]
            RunOptions(),
            partial(follower.progressed, job),
            [allocator.tick],
            follower.splits(job),
        )

    def progressed(self, table: str, run_progress: RunProgress) -> None:
        """Receives the progress, as a display does."""
        self.totals = run_progress.totals

    def intended(self) -> int:
        """The changes of pages that have an intent and are not counted yet, which an abort leaves to the next one."""
        units = self.state.splits(self.job.run).all(self.plan.units)  # type: ignore[attr-defined]
        return sum(claim.intent.records for claim in units if claim.intent is not None)

    def _is_over(self) -> bool:
        return all(worker.ended for worker in self.workers if worker.process.alive)

    def live(self, until: float) -> None:
        """Runs the simulation up to a time."""
        self.loop.run(until)

    def tell(self, **what: Any) -> None:
        """Sends a control command, as from another terminal."""
        self.loop.spawn(self.control, lambda: self.state.leases.set("things", self.job.attempt, **what))

    # ------------------------------------------------------------ figures

    @property
    def begun(self) -> int:
        """The splits that were ever claimed."""
        return sum(sk == "SPLIT" for _, sk in self.rows.rows)

    def spent(self, since: float, until: float, kind: str = "write") -> float:
        """The units of the user's table."""
        return sum(self.things.spent[kind, tenth] for tenth in range(round(10 * since), round(10 * until)))

    def busiest(self, seconds: float, since: float = 0.0, until: float | None = None) -> float:
        """The most write units in this number of consecutive seconds, as a share of the budget."""
        end = self.loop.now if until is None else until
        starts = range(round(10 * since), round(10 * (end - seconds)) + 1)
        most = max((self.spent(at / 10, at / 10 + seconds) for at in starts), default=float("inf"))
        return most / (self.plan.wcu * seconds)


class _Ending:
    """Replaces a thread: it has ended when `over` returns True."""

    error = None

    def __init__(self, over: Callable[[], bool], loop: Loop) -> None:
        self._over = over
        self._loop = loop
        self.ended = self

    def wait(self, seconds: float) -> bool:
        self._loop.sleep(seconds)
        return self._over()
