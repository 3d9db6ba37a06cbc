"""A run of many workers in simulated time: the real reading, settling, journaling, checkpoints, signals, governors and
allocator, and the real loop that follows the run, over the stores of `store`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.aws.reads import Reads
from dynamodt.aws.unit_rows import UnitRows
from dynamodt.aws.worker_rows import WorkerRows
from dynamodt.control import runner
from dynamodt.control.budget import Allocator
from dynamodt.control.lease import BEAT_SECONDS
from dynamodt.control.requests import RunOptions
from dynamodt.model import AppliedPage, Connection, Job, KeyAttribute, Lease, Script, Stage, StorageSpec, TableSpec
from dynamodt.stages import signals
from dynamodt.stages.governor import Governor
from dynamodt.stages.ledger import Running
from dynamodt.stages.pages import ReadPages
from dynamodt.stages.progress import Recorder
from dynamodt.stages.read import lanes, scan_pages
from dynamodt.stages.settle import Settlement
from dynamodt.stages.signals import Signal
from dynamodt.stages.write import settled_page
from tests.simulation.loop import Lock, Loop, Pool, Process
from tests.simulation.store import Partition, Parts, Sending, StateRows, Things, Updates, plus_one

STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/prefix"))
SCRIPT = Script("things", 1, "plus_one", "v1_plus_one.py", "", "")
_ITEM_SECONDS = 80e-6  # of CPU


@dataclass(frozen=True)
class Plan:
    """How large a fleet, and on what. `wcu` is the budget; `arrival` the seconds in which the workers start one by
    one; `application` what the application itself writes, of the 1,000 write units of each partition."""

    workers: int = 1000
    wcu: float = 400_000.0
    rcu: float = 400_000.0
    kilobytes: int = 16
    units: int = 10_000
    items: int = 100_000
    partitions: int = 1000
    state_partitions: int = 4
    arrival: float = 20.0
    spread: int = 20
    application: float = 100.0
    seed: int = 1
    governed: bool = True


class Fleet:
    """One run. Nothing happens until `live`."""

    def __init__(self, plan: Plan) -> None:
        random.seed(plan.seed)  # the reads' back-off has no dice of its own
        signals._stopped.clear()
        self.plan = plan
        self.loop = Loop()
        self._dice = Random(plan.seed)
        self.state = StateRows(self.loop, self._dice, plan.state_partitions)
        self.things = self._things()
        self.parts = Parts(self.loop, self._dice)
        self.leases = LeaseRows(self.state)  # type: ignore[arg-type]
        size = plan.kilobytes * 1024
        spec = TableSpec("things", (KeyAttribute("id", "S"),), 10**6, size * 10**6, indexes=1)
        self.job = Job(
            f"run-{plan.seed}",
            STAGE,
            spec,
            SCRIPT,
            "up",
            units=plan.units,
            lanes=plan.workers,
            spread=plan.spread,
            governed=plan.governed,
        )
        self.control = Process("control")
        self.workers: list[Worker] = []
        self.ended = 0
        self.looks: list[float] = []
        for number, lane in enumerate(lanes(self.job)):
            self.start(lane, after=1.0 + plan.arrival * number / plan.workers)
        self.loop.spawn(self.control, self._run)
        self.loop.spawn(self.control, self._beat)

    def _things(self) -> Things:
        plan = self.plan
        partitions = [Partition(self.loop, writes=1000.0 - plan.application) for _ in range(plan.partitions)]
        return Things(self.loop, self._dice, plan.units, plan.items, plan.kilobytes, partitions)

    def units(self, run: str) -> UnitRows:
        """As `aws.state.State` has it."""
        return UnitRows(self.state, run)  # type: ignore[arg-type]

    def board(self) -> WorkerRows:
        return WorkerRows(self.state, self.job.base_run, self.job.attempt, self.job.spread)  # type: ignore[arg-type]

    def _run(self) -> None:
        lease = Lease("things", 1, self.job.run, boards=self.plan.spread, wcu=self.plan.wcu, rcu=self.plan.rcu)
        assert self.leases.take(lease, over=Lease("things", 0))
        pool = Pool(self.loop, self.control, 10)
        self.allocator = Allocator(self.job, self.leases, self.board(), clock=self.loop.time, executor=pool)  # type: ignore[arg-type]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "_Background", lambda job, options: _Pipeline(self))
            runner.run(
                self.job, self, RunOptions(), lambda totals: self.looks.append(self.loop.now), [self.allocator.tick]
            )  # type: ignore[arg-type]

    def _beat(self) -> None:
        while True:
            self.loop.sleep(BEAT_SECONDS)
            self.leases.beat("things", 1, self.loop.now)

    def start(self, lane: tuple[int, ...], after: float = 0.0) -> Worker:
        """A worker for a lane. Its task begins `after` so many seconds."""
        worker = Worker(self, f"worker-{len(self.workers)}", lane)
        self.workers.append(worker)
        self.loop.spawn(worker.process, worker.work, after=after)
        return worker

    def live(self, until: float) -> None:
        """Let time pass up to a moment."""
        self.loop.run(until)

    def tell(self, **what: Any) -> None:
        """A word from another terminal."""
        self.loop.spawn(self.control, lambda: self.leases.tell("things", 1, **what))

    # ------------------------------------------------------------ figures

    def spent(self, since: float, until: float, kind: str = "write") -> float:
        """Units of the user's table."""
        return sum(self.things.spent[kind, tenth] for tenth in range(round(10 * since), round(10 * until)))

    def busiest(self, seconds: float, since: float = 0.0, until: float | None = None) -> float:
        """The most write units in so many seconds on end, of what the budget allows for them."""
        end = self.loop.now if until is None else until
        starts = range(round(10 * since), round(10 * (end - seconds)) + 1)
        most = max((self.spent(at / 10, at / 10 + seconds) for at in starts), default=float("inf"))
        return most / (self.plan.wcu * seconds)


class _Pipeline:
    """Stands for the pipeline's thread: it has ended when the workers have."""

    error = None

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.ended = self

    def wait(self, seconds: float) -> bool:
        self._fleet.loop.sleep(seconds)
        return all(worker.ended for worker in self._fleet.workers if worker.process.alive)


class Worker:
    """What the stages of one worker do with a lane, page after page."""

    def __init__(self, fleet: Fleet, name: str, lane: tuple[int, ...]) -> None:
        loop, job = fleet.loop, fleet.job
        self.process = Process(name)
        self.lane = lane
        self.ended = False
        self.begun_at = self.paged_at = self.ended_at = -1.0  # when it began, recorded its first page, ended
        self._fleet = fleet
        self.governor = Governor(job, fleet.board(), name, clock=loop.time, sleep=loop.sleep)
        for flow in (self.governor.reads, self.governor.writes):
            flow._line = Lock(loop)  # type: ignore[assignment]
        self._units = fleet.units(job.run)
        self._running = Running()
        self._recorder = Recorder(job, self._units, fleet.leases, _Nowhere(), clock=loop.time)  # type: ignore[arg-type]
        self._settlement = self._settling(Signal(fleet.leases, job, loop.time, loop.sleep).assure)

    @property
    def rate(self) -> float:
        """Write units a second that it keeps to."""
        return self.governor.writes.within(1.0, 1.0) * self.governor.writes._price

    def _settling(self, assure: Callable[[], None]) -> Settlement:
        fleet, governor = self._fleet, self.governor
        reads = Reads(fleet.things, fleet.job.table, flow=governor.reads, sleep=fleet.loop.sleep)
        return Settlement(
            Sending(fleet.things, Pool(fleet.loop, self.process, fleet.job.writers)),  # type: ignore[arg-type]
            reads,
            Updates(),  # type: ignore[arg-type]
            plus_one,
            fleet.job.writers,
            assure=assure,
            flow=governor.writes,
            sleep=fleet.loop.sleep,
            dice=fleet._dice.random,
        )

    def work(self) -> None:
        fleet, loop = self._fleet, self._fleet.loop
        self.begun_at = loop.now
        signal = Signal(fleet.leases, fleet.job, loop.time, loop.sleep)
        for page in self._pages():
            if signal.stopping():
                break
            loop.sleep(_ITEM_SECONDS * len(page.images))
            applied = AppliedPage(page, list(map(plus_one, page.images)), 0, 0)
            before = self._running.before(page)
            written = settled_page(applied, before, self._settlement, fleet.parts, self._units)
            self._running.add(written)
            self._recorder.add(written)
            self.paged_at = loop.now if self.paged_at < 0 else self.paged_at
        self._recorder.flush()
        self.ended, self.ended_at = True, loop.now

    def _pages(self) -> Iterator[Any]:
        fleet, job, governor = self._fleet, self._fleet.job, self.governor
        reads = Reads(
            fleet.things, job.table, flow=governor.reads, units=governor.read_estimate, sleep=fleet.loop.sleep
        )
        reading = ReadPages(job, None)  # type: ignore[arg-type]
        reading._units = self._units
        pool = Pool(fleet.loop, self.process, job.read_ahead)
        return scan_pages(job, reading._claims(self.lane), reads, pool, governor.page_items)  # type: ignore[arg-type]


class _Nowhere:
    """Storage for samples and dead letters."""

    def write(self, name: str, data: bytes) -> None: ...
