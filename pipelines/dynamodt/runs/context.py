"""The context of a command (`Project`) and of one run (`RunContext`), and the execution of a run's phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, Self

from dynamodt.dynamodb.table import describe
from dynamodt.errors import Aborted, CostReached, Refused, ServiceError, UsageError, suggest
from dynamodt.model.pages import Totals, Units
from dynamodt.model.reports import RunReport
from dynamodt.model.runs import (
    ABORT,
    DeadLetterSource,
    EarlierPhase,
    Fence,
    Job,
    Lease,
    PreparedRef,
    RunProgress,
    Script,
)
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.budget import alarm_states
from dynamodt.runs.cost import Meter, Spending
from dynamodt.runs.jobs import lease_replicas, with_split_groups
from dynamodt.runs.options import Observer, RunOptions, check_values
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.stored_dead_letters import Accepted
from dynamodt.script.names import tables
from dynamodt.script.read import read_versions
from dynamodt.state import prepared
from dynamodt.state.split_rows import SplitTotals, sum_of
from dynamodt.state.state import State
from dynamodt.state.storage import Storage, open_storage

_LEASE_SECONDS = 1.0
Tick = Callable[[], None]


class Runner(Protocol):
    """The interface of `runs.runner`."""

    def ready(self, options: RunOptions, note: Callable[[str], None], /) -> RunOptions: ...

    def ticks(self, context: RunContext, job: Job, /) -> list[Tick]: ...

    def run(
        self,
        job: Job,
        state: State,
        options: RunOptions,
        on_progress: Callable[[Totals], None],
        ticks: Sequence[Tick],
        splits: SplitTotals,
        /,
    ) -> Totals: ...


@dataclass(frozen=True)
class Project:
    """A project on one of its stages: the folder that holds `transforms/`, with the options and the observer of a
    command. It is made once for each command, and is an argument of every operation."""

    stage: Stage
    folder: Path
    options: RunOptions = RunOptions()
    observer: Observer = field(default_factory=ProgressRecorder)

    def __post_init__(self) -> None:
        check_values(self.options)

    @cached_property
    def state(self) -> State:
        """The stage's state table."""
        return State(self.stage.connection, self.stage.state_table)

    @cached_property
    def storage(self) -> Storage:
        """The stage's storage. Raises UsageError for a URL without a bucket."""
        return open_storage(self.stage.connection, self.stage.storage)

    @cached_property
    def missing_alarms(self) -> tuple[str, ...]:
        """The alarms of the options that do not exist, read once for all tables; none if they cannot be read."""
        try:
            there = alarm_states(self.stage.connection, self.options.alarms)
        except ServiceError:
            return ()
        return tuple(name for name in self.options.alarms if name not in there)

    def versions(self, table: str) -> tuple[Script, ...]:
        """The version files of a table, in their order. Raises ScriptError, UsageError."""
        return read_versions(self.folder / "transforms", table, self.stage.names)

    def place_of(self, table: str) -> str:
        """`region:account:identity` of a table; the last two are empty if the table cannot be described."""
        with suppress(ServiceError):
            return self._place(describe(self.stage.connection, table))
        return f"{self.stage.connection.region}::"

    def _place(self, table: TableSpec) -> str:
        return f"{self.stage.connection.region}:{table.account}:{table.identity}"

    def prepared(self, script: Script, table: TableSpec | None = None) -> PreparedRef:
        """The prepared data of a version of this table, which is described if it is not given. Raises Refused if it is
        missing or cannot be used, such as that of a table of the same name in another account, or of a deleted one."""
        place = self._place(table) if table is not None else self.place_of(script.table)
        return prepared.find(self.storage, script, place)

    def prepared_if_usable(self, script: Script) -> PreparedRef | None:
        """The prepared data of a version; None if it is missing or cannot be used."""
        with suppress(Refused):
            return self.prepared(script)
        return None

    def tables(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """The real names of these tables, or of all that have a folder. Raises UsageError if there is none."""
        if isinstance(names, str):  # a sequence of letters
            raise UsageError(f"the tables cannot be {names!r}", hint=f"give a list of names: [{names!r}]")
        if found := tuple(map(self.stage.names.real, names)) or tables(self.folder / "transforms", self.stage.names):
            return found
        hint = "name the table: --table TABLE; or begin with one: " + suggest("init", table="users")
        raise UsageError("transforms/ holds no table", hint=hint)


@dataclass(frozen=True, kw_only=True)
class RunContext(Project):
    """The context of the steps of one run. `token` is the lease's; `keep` receives each version's report."""

    runner: Runner
    token: int
    fences: tuple[Fence, ...] = ()  # of the other tables that the run writes to
    keep: Callable[[RunReport], None] = lambda report: None
    rehearsed: list[Job] = field(default_factory=list)  # by a dry run: the phases of the whole command so far
    spending: Spending = field(default_factory=Spending)  # of all runs of the command
    accepted: Accepted = Accepted({})  # dead letters of the run that a person has accepted

    @classmethod
    def opened(cls, project: Project, runner: Runner) -> RunContext:
        """The context of a run before it holds a lease; its storage is ready for use."""
        project.storage.check()
        return cls(project.stage, project.folder, project.options, project.observer, runner=runner, token=0)

    def ready(self, lease: str = "") -> Self:
        """The context with its runner ready for use, which may start Spark: after the checks. The leases that it holds,
        `lease` and those of other tables, get a replica for every fifty workers."""
        options = self.runner.ready(self.options, self.observer.notify)
        replicas = lease_replicas(options.workers)
        for name, token in ((lease, self.token), *self.fences) if lease and replicas > 1 else ():
            self.state.leases.change(name, token, lambda seen: {"lease_replicas": max(replicas, seen.lease_replicas)})
        return replace(self, options=options)


def is_governed(context: RunContext, job: Job) -> bool:
    """Whether the run has a budget from its first request on: always on a remote stage, and on a local one if a limit
    is set."""
    lease = context.state.leases.read(job.lease)
    return not context.stage.local or bool(lease.wcu or lease.rcu)


def run_phases(context: RunContext, phases: list[Job], follower: Follower) -> None:
    """Run the phases in order, until the dead letters exceed the limit. Raises the error that ends a phase."""
    phases = [with_split_groups(job, context.options.workers) for job in phases]
    ticks = context.runner.ticks(context, phases[0]) if phases else []
    meter = Meter(context.spending, context.options, phases, lambda: follower.totals)
    ticks = [meter.tick, *ticks]
    for job in phases:
        replays = isinstance(job.source, DeadLetterSource)  # a retry runs to its end, with any number of dead letters
        dead = follower.totals.counts.dead - context.accepted.items
        if not replays and dead > context.options.max_errors:
            return
        if not follower.complete(job):
            follower.begins(job)
            on_progress = partial(follower.progressed, job)
            try:
                context.runner.run(job, context.state, context.options, on_progress, ticks, follower.splits(job))
            except CostReached:  # by its last pages
                if not all(map(follower.complete, phases)):
                    raise
            finally:
                meter.record()
        if context.state.leases.read(job.lease).stop == ABORT:
            raise aborted(job.base_run)
        if not follower.complete(job):
            return


def aborted(run: str) -> Aborted:
    """The error of a run that was aborted."""
    return Aborted("the run was aborted", where=f"run {run}", hint="the same command continues from its checkpoints")


@dataclass(eq=False)
class Follower:
    """Sums a run's phases over all attempts, and reports the progress together with the lease's limits.

    `begins` is called with each phase before it writes anything."""

    state: State
    phases: Sequence[Job]
    observer: Observer
    clock: Callable[[], float] = time.monotonic
    begins: Callable[[Job], None] = lambda job: None

    def __post_init__(self) -> None:
        self._lease = Lease("", 0)
        self._lease_read = float("-inf")
        self._planned = 0
        self._splits: dict[str, SplitTotals] = {}
        self._totals: dict[str, Totals] = {}
        for job in self.phases:
            self.add(job)

    def add(self, job: Job) -> None:
        """Follow one more phase."""
        self._splits[job.run] = SplitTotals(self.state.splits(job.run), job.splits)
        self._totals[job.run] = self._splits[job.run].poll()
        self._planned += job.splits

    @property
    def totals(self) -> Totals:
        """The totals of all phases."""
        return sum_of(self._totals.values())

    @property
    def budget(self) -> Units:
        """The limits in the lease when it was last read, in units a second; 0: unlimited, or not known."""
        return Units(rcu=self._lease.rcu, wcu=self._lease.wcu)

    def splits(self, job: Job) -> SplitTotals:
        """The totals of a phase's splits, shared so that no row is read twice."""
        return self._splits[job.run]

    def complete(self, job: Job) -> bool:
        """Whether all splits of a phase are done."""
        return self._totals[job.run].done == job.splits

    @property
    def totals_of_a_run(self) -> Totals:
        """The totals without the read units of phases that only a dry run has."""
        apart = sum(self._totals[job.run].units.rcu for job in self.phases if isinstance(job.source, EarlierPhase))
        return self.totals._replace(units=self.totals.units._replace(rcu=self.totals.units.rcu - apart))

    def changed(self, job: Job) -> int:
        """The number of items that a phase has changed."""
        return self._totals[job.run].counts.changed

    def read(self, job: Job) -> int:
        """The number of items that a phase has read."""
        return self._totals[job.run].counts.read

    def progressed(self, job: Job, totals: Totals) -> None:
        self._totals[job.run] = totals
        progress = RunProgress.under(self._lease_now(job), self.totals, self._planned)
        progress = progress._replace(run=job.base_run, rehearsal=job.dry_run)
        self.observer.progressed(job.table.name, progress)

    def _lease_now(self, job: Job) -> Lease:
        """The lease, at most a second old."""
        if self.clock() - self._lease_read >= _LEASE_SECONDS:
            self._lease, self._lease_read = self.state.leases.read(job.lease), self.clock()
        return self._lease
