"""What the steps of one table have in common, and how their passes are run and followed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from dynamodt.errors import Aborted, DynamodtError, Fenced
from dynamodt.model.pages import Totals
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import ABORT, Fence, Job, Lease, RunProgress
from dynamodt.model.tables import Stage
from dynamodt.runs.budget import Allocator, watching
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.plan import fitted
from dynamodt.runs.runner import Tick, run
from dynamodt.runs.worker_registry import SplitTotals
from dynamodt.state.state import State
from dynamodt.state.storage import Storage

_LEASE_SECONDS = 1.0
_GRANTERS = 10  # as many connections as botocore keeps for a client
_AFTER_ABORT = "the same command goes on from its checkpoints"


@dataclass(frozen=True, slots=True)
class Session:
    """What the steps of one table have in common: the stage, the lease's token, and who watches."""

    stage: Stage
    state: State
    storage: Storage
    options: RunOptions
    observer: Observer
    token: int
    keep: Callable[[RunReport], None]
    fences: tuple[Fence, ...] = ()  # what is held beside the table


def is_governed(session: Session, job: Job) -> bool:
    """Whether the run keeps to a budget from its first request on: away from this machine always, here if asked."""
    lease = session.state.leases.read(job.lease)
    return not session.stage.local or bool(lease.wcu or lease.rcu)


def _ticks(session: Session, job: Job) -> list[Tick]:
    """What goes on beside all passes of a run: dividing its budget, and watching alarms."""
    workers = session.state.workers(job.base_run, job.attempt, job.shards)
    executor = ThreadPoolExecutor(_GRANTERS, thread_name_prefix="grant") if job.shards > 1 else None
    allocator = Allocator(job, session.state.leases, workers, executor=executor)
    return [allocator.tick, *watching(session.options.alarms, job, session.state, session.observer.note)]


def run_phases(session: Session, phases: list[Job], follower: Follower) -> BaseException | None:
    """Run the passes until one of them fails; the failure is returned, since it is yet to be recorded."""
    phases = [fitted(job, session.options.workers) for job in phases]
    ticks = _ticks(session, phases[0]) if phases else []
    for job in phases:
        if not job.replays and follower.totals.counts.dead > session.options.max_errors:
            return None  # dead letters have stopped it: the verdict says so; what replays them goes on, whatever dies
        try:
            if follower.done(job) < job.splits:
                follower.begins(job)
                run(job, session.state, session.options, partial(follower.progressed, job), ticks, follower.units(job))
        except Fenced:
            raise
        except (DynamodtError, KeyboardInterrupt, SystemExit) as error:
            return error
        if session.state.leases.read(job.lease).stop == ABORT:
            return aborted(job.base_run)
        if follower.done(job) < job.splits:
            return None  # dead letters have stopped it, too
    return None


def aborted(run: str) -> Aborted:
    """What ends a run that a person has aborted."""
    return Aborted("the run was aborted", where=f"run {run}", hint=_AFTER_ABORT)


class Follower:
    """Adds the passes of a version up to one progress, over all attempts, and tells it with what the lease says.

    `begins` is called with each pass before that writes anything."""

    def __init__(
        self,
        state: State,
        phases: list[Job],
        observer: Observer,
        clock: Callable[[], float] = time.monotonic,
        begins: Callable[[Job], None] = lambda job: None,
    ) -> None:
        self.begins = begins
        self._observer = observer
        self._state = state
        self._leases = state.leases
        self._lease = Lease(phases[0].lease if phases else "", 0)
        self._lease_read = float("-inf")
        self._clock = clock
        self._all_splits = sum(job.splits for job in phases)
        self._units: dict[str, SplitTotals] = {}
        self._each = {job.run: self._first_look(job) for job in phases}

    @property
    def totals(self) -> Totals:
        """What all passes together have come to."""
        total = Totals()
        for each in self._each.values():
            total = total.plus(each)
        return total

    def add(self, job: Job) -> None:
        """Follow one more pass, which was not known when the run began."""
        self._each[job.run] = self._first_look(job)
        self._all_splits += job.splits

    def _first_look(self, job: Job) -> Totals:
        self._units[job.run] = SplitTotals(self._state.splits(job.run), job.splits)
        return self._units[job.run].look()

    def units(self, job: Job) -> SplitTotals:
        """What has been read of a pass: a large one has ten thousand rows, which are not read twice."""
        return self._units[job.run]

    def done(self, job: Job) -> int:
        """The units of a pass that are done."""
        return self._each[job.run].done

    def complete(self, job: Job) -> bool:
        """Whether a pass is through."""
        return self.done(job) == job.splits

    def changed(self, job: Job) -> int:
        """How many items a pass has changed."""
        return self._each[job.run].counts.changed

    def progressed(self, job: Job, totals: Totals) -> None:
        self._each[job.run] = totals
        self._observer.progressed(
            job.table.name, RunProgress.under(self._lease_now(job), self.totals, self._all_splits)
        )

    def _lease_now(self, job: Job) -> Lease:
        """The lease, at most a second old."""
        if self._clock() - self._lease_read >= _LEASE_SECONDS:
            self._lease, self._lease_read = self._leases.read(job.lease), self._clock()
        return self._lease
