"""Finds runs by id, lists them with their status, controls them (pause, throttle, abort), and follows them to their
end.

A command writes to the table's lease, and each worker applies the change before its next request. A run is followed in
the state table alone: by its lease, its record, and the rows of the splits that are not done yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.dynamodb.table import describe
from dynamodt.errors import Hint, Refused, ServiceError, UsageError, suggest
from dynamodt.model.pages import Units
from dynamodt.model.reports import RunReport, TableStatus, VersionStatus
from dynamodt.model.runs import ABORT, UNLOCKED, AppliedVersion, Lease, RunProgress, RunRecord, RunState
from dynamodt.model.tables import Item, Stage
from dynamodt.runs.history import continued_by, has_written, report_of
from dynamodt.runs.liveness import SILENT_SECONDS, LeaseWatch, has_ended_on_this_host, holder, is_alive, observed_life
from dynamodt.runs.options import check_control
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.script.versions import statuses
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.runs import ACTIVE, phases, run_progress, unfinished, with_runs
from dynamodt.state.split_rows import RunTotals, totals_of
from dynamodt.state.state import State

if TYPE_CHECKING:
    from dynamodt.runs.context import Project


_SHOWN = 3
_CHANGES: dict[str, dict[str, Any]] = {"pause": {"paused": True}, "resume": {"paused": False}, "abort": {"stop": ABORT}}


def find_run(project: Project, tables: Sequence[str], run: str) -> RunRecord:
    """The only run of these tables with an id that begins with `run`. Raises UsageError for none or several; its hint
    covers runs of a table to which one of the stage's logical names referred before."""
    found = [record for table in tables for record in project.state.runs(table) if record.run.startswith(run)]
    exact = [record for record in found if record.run == run]
    if not found:
        where = f"tables {', '.join(map(project.stage.names.shown, tables))}"
        hint = _former_table_hint(project, tables, run) or suggest("history") + " shows the ids of runs"
        raise UsageError(f"there is no run {run}", where=where, hint=hint)
    if len(found) > 1 and not exact:
        some = [f"{record.run} ({record.table} v{record.version} {record.direction})" for record in found[:_SHOWN]]
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"{len(found)} runs begin with {run}: {', '.join(some)}{more}", hint="write more of the id")
    return (exact or found)[0]


def _former_table_hint(project: Project, tables: Sequence[str], run: str) -> str:
    """The hint for a run of a table to which a logical name of the stage referred before; empty for any other run."""
    stage, state = project.stage, project.state
    for logical, meant in state.names(stage).items():
        for table in meant:
            if table in tables or not any(record.run.startswith(run) for record in state.runs(table)):
                continue
            if stage.names.known.get(logical, logical) == table:
                return f"it is a run of the table {stage.names.shown(table)}: pass --table {logical}"
            now = f", and now means {stage.names.known[logical]}" if logical in stage.names.known else ""
            again = f'{logical} = "{table}" under [stages.{stage.name}.tables] in dynamodt.toml'
            was = f"it is a run of the table {table}, which the name {logical} meant before{now}"
            return f"{was}. For commands about that table, let {logical} mean it again: {again}"
    return ""


def run_states(state: State, table: str) -> list[RunState]:
    """All runs of a table, the newest first. The counts of a run without a recorded end are read from its splits."""
    found = runs_and_lease(state, table)
    return [_run_state(state, record, found.lease, found.alive) for record in reversed(found.records)]


def version_states(
    state: State, versions: Sequence[VersionStatus], found: RunsAndLease, applied: Mapping[int, AppliedVersion] = {}
) -> tuple[VersionStatus, ...]:
    """The versions, each with its active or unfinished run, and applied versions with the number of their dead
    letters."""
    dead = {number: one.counts.dead for number, one in applied.items()}
    ended = [one for one in found.records if unfinished(one.status) and one.status not in ACTIVE]
    written = {one.run for one in ended if not one.counts.changed and has_written(state, one)}
    return with_runs(tuple(replace(one, dead=dead.get(one.version, 0)) for one in versions), *found, written)


def without_files(project: Project, here: Sequence[str]) -> list[TableStatus]:
    """The project's other existing tables with applied versions, which have no version files here."""
    stage, state, found = project.stage, project.state, list[TableStatus]()
    for table in (meant[-1] for meant in state.names(stage).values() if meant[-1] not in here):
        applied = state.applied(table)
        if applied and _may_exist(stage, table):
            found.append(TableStatus(table, max(applied), statuses((), applied)))
    return found


def _may_exist(stage: Stage, table: str) -> bool:
    """Whether a table exists, or cannot be described."""
    try:
        return bool(describe(stage.connection, table))
    except ServiceError as error:
        return error.what != NO_TABLE


def with_younger(found: TableStatus, younger: str) -> TableStatus:
    """The status of a table; if it was recreated (`younger` is its sentence), without runs to continue."""
    filed = (version for version in found.versions if version.path or version.when)
    versions = tuple(map(_without_run, filed)) if younger else found.versions
    return replace(found, younger=younger, versions=versions)


def _without_run(version: VersionStatus) -> VersionStatus:
    if version.run is None:
        return version
    return replace(version, run=None, state="applied" if version.when else "pending")


class RunsAndLease(NamedTuple):
    """A table's runs, the lease if one of them may hold it, and whether that run is alive."""

    records: list[RunRecord]
    lease: Lease
    alive: bool


def runs_and_lease(state: State, table: str) -> RunsAndLease:
    """The runs and the lease of a table. Both are read again if a run has ended between the two reads, since its
    process would seem to have died."""
    for _ in range(2):
        records, lease, alive = state.runs(table), Lease(table, 0), False
        open_runs = {record.run for record in records if record.status in ACTIVE}
        if open_runs:
            lease = state.leases.read(table)
            alive = lease.run in open_runs and _is_alive(state, lease)
        if open_runs <= ({lease.run} if alive else set()):
            break
    return RunsAndLease(records, lease, alive)


def _is_alive(state: State, lease: Lease) -> bool:
    """Whether the holder is alive. If it is on another host and its heartbeat is old, it is observed, since clocks may
    differ."""
    if is_alive(lease) and time.time() - lease.beat > SILENT_SECONDS:
        return not observed_life(state.leases, lease.table)[1].is_over
    return is_alive(lease)


def _run_state(state: State, record: RunRecord, lease: Lease, alive: bool) -> RunState:
    status = run_progress(record, lease, alive)
    if record.status not in ACTIVE:
        return RunState(record, status, record.counts)
    counts = totals_of(state, phases(record)).counts
    return RunState(record, status, counts, None if status == "gone" else lease)


def control_run(stage: Stage, table: str, command: str, limits: Units = Units()) -> Lease:
    """`pause`, `resume`, `abort`, `unlock` or `throttle` (to `limits` in units per second; 0: unchanged) the run that
    holds a table; returns the lease as it was before.

    Raises Refused when no run holds the table, or when the run is ending, Fenced when the run ends or is taken over at
    this moment; UsageError for another command, and for limits that the command line does not accept.
    """
    check_control(command, limits)
    state = State(stage.connection, stage.state_table)
    leases = state.leases
    lease = leases.read(table)
    if not lease.run:
        left = next((one for one in state.runs(table) if one.status == "paused"), None)
        paused = f"; run {left.run} is paused: {left.error.removeprefix(f'run {left.run}: ')}" if left else ""
        onward = left and continued_by(left) + " continues it"
        hint = onward or suggest("history", table=table) + " shows the runs that have ended"
        raise Refused(f"no run is in progress{paused}", where=f"table {table}", hint=hint)
    if lease.owner and command != "unlock":
        rates = _given(limits) if command == "throttle" else {}
        raise Refused(
            f"run {lease.run} of table {lease.owner} writes to this table: name its own table",
            where=f"table {table}",
            hint=suggest(command, table=lease.owner, **rates),
        )
    if command == "unlock":
        _unlock(leases, lease)
        return lease
    _check_alive(state, lease)
    if command != "abort":
        _check_not_ending(state, lease)
    if command == "throttle":
        leases.change(table, lease.token, partial(throttled, limits))
    else:
        leases.set(table, lease.token, **_CHANGES[command])
    return lease


def throttled(limits: Units, lease: Lease) -> Item:
    """The change of a lease by `throttle`: the given limits, which from then on do not follow the tables' capacity."""
    given = _given(limits)
    return {**given, "throttled": tuple(sorted({*lease.throttled, *given}))}


def _given(limits: Units) -> dict[str, float]:
    """The limits that `throttle` changes."""
    return {name: value for name, value in limits._asdict().items() if value}


def _unlock(leases: LeaseRows, lease: Lease) -> None:
    """Take the lease and release it. A holder that is still alive is fenced."""
    taken = Lease(table=lease.table, token=lease.token + 1, beat=time.time(), stop=UNLOCKED)
    if not leases.take(taken, over=lease):
        raise Refused(
            f"the holder has just sent a heartbeat: {holder(lease)}",
            where=f"table {lease.table}",
            hint="it is alive; to end it between two requests: " + suggest("abort", table=lease.table),
        )


def _check_alive(state: State, lease: Lease) -> None:
    if has_ended_on_this_host(lease):
        raise Refused(
            f"the run's process is gone: {holder(lease)}",
            where=f"table {lease.table}",
            hint=_continued_later(state, lease) + " takes the run over and continues it",
        )


def _continued_later(state: State, lease: Lease) -> Hint:
    record = state.run(lease.table, lease.run)
    return continued_by(record) if record is not None else Hint("the next `up` or `down`")


def _check_not_ending(state: State, lease: Lease) -> None:
    """Raises Refused for a run that was told to end, by `abort` or by an error: nothing stops its end."""
    if lease.stop:
        by = "it was aborted" if lease.stop == ABORT else "after an error or at a limit"
        raise Refused(
            f"run {lease.run} is ending ({by})",
            where=f"table {lease.table}",
            hint="once it has ended: " + _continued_later(state, lease) + " continues it from its checkpoints",
        )


LOOK_SECONDS = 1.0
_TICK_SECONDS = 0.25
LINGER_SECONDS = 3.0  # no lease is held between two tables of one `up`
_ROWS_PER_SECOND = 500  # a run with more splits is polled less often
_GONE = "its process is gone, or sent no heartbeat for too long"

Clock = Callable[[], float]
Sleep = Callable[[float], None]
CountItems = Callable[[str], int]  # DynamoDB's own count of a table


@dataclass(eq=False)
class TableWatch:
    """Polls one table, and reports the runs that begin, progress and end to its watcher.

    `before` are runs to ignore, with their attempts; later attempts are reported. By default, these are the runs that
    have ended when the first live run is observed.
    """

    state: State
    table: str
    count_items: CountItems
    watcher: ProgressRecorder
    before: Mapping[str, int] | None = None
    lives: LeaseWatch | None = None

    def __post_init__(self) -> None:
        self._lives = self.lives or LeaseWatch()
        self._held = ""  # the run that held the lease at the last poll
        self._gone = ""  # a run whose process was gone at the first poll
        self._shown: RunRecord | None = None
        self._totals = RunTotals(self.state)
        self.ended: dict[str, RunReport] = {}

    @property
    def active(self) -> bool:
        """Whether a run was active at the last poll."""
        return bool(self._held)

    @property
    def rows(self) -> int:
        """The number of split rows that the last poll has read."""
        return self._totals.rows if self._shown else 0

    def poll(self) -> bool:
        """Poll once; returns whether a run is active."""
        lease, life = self._lives.poll(self.state.leases, self.table)
        alive = not life.is_over and not lease.owner
        held = lease.run if alive else ""
        if not held and self.before is None:
            self._note_gone(lease.run, holder(lease))
            return False
        if held != self._held:
            self.report_ended(held)
        if held:
            self._show(lease)
        return alive

    def _note_gone(self, run: str, process: str) -> None:
        """Report once that the process of a run has died."""
        if run != self._gone:
            self._gone = run
            self.watcher.notify(f"{self.table}: left by {process}, which is gone; the same command continues it")

    def report_ended(self, held: str = "") -> None:
        """Report the runs that have ended since the lease's holder changed, including those that no poll has
        observed."""
        self._held = held
        records = [record for record in self.state.runs(self.table) if record.run != held]
        if self.before is None:
            self.before = {record.run: record.attempts for record in records}
        for record in records:
            shown = self._shown is not None and record.run == self._shown.run
            if shown or (record.attempts > self.before.get(record.run, 0) and record.run not in self.ended):
                self._end(record)

    def _show(self, lease: Lease) -> None:
        record = self.state.run(self.table, lease.run)
        if record is None or record.status not in ACTIVE:
            if record is not None and self._shown is not None and self._shown.run == record.run:
                self._end(record)
            return
        if self._shown is None or self._shown.run != record.run:
            self._begin(record, lease)
        totals = self._totals.poll(record)
        self.watcher.progressed(self.table, RunProgress.under(lease, totals, record.planned or record.splits))

    def _begin(self, record: RunRecord, lease: Lease) -> None:
        self.ended.pop(record.run, None)  # it failed, and continues now
        self._shown, self._totals = record, RunTotals(self.state)
        since = record.started if record.attempts == 1 else lease.since
        elapsed = max(0.0, time.time() - datetime.fromisoformat(since).timestamp())
        items = self.count_items(self.table)
        self.watcher.run_found(record, items, elapsed)

    def _end(self, record: RunRecord) -> None:
        if record.status in ACTIVE:  # its end is not recorded
            totals = self._totals if self._shown is not None else RunTotals(self.state)
            reached = totals.poll(record)
            report = replace(report_of(record), status="gone", error=_GONE)
            report = replace(report, counts=reached.counts, consumed=reached.units)
        else:
            report = report_of(record)
        self._shown = None
        self.ended[record.run] = report
        self.watcher.run_ended(report)


def follow_runs(
    state: State,
    tables: Sequence[str],
    count_items: CountItems,
    watcher: ProgressRecorder,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
) -> list[RunReport]:
    """Follow the tables' runs until none is active; returns the runs that have ended since, by table. A run without a
    live process and without a recorded end is "gone"."""
    watches = [TableWatch(state, table, count_items, watcher, lives=LeaseWatch(clock)) for table in tables]
    busy_at = clock() if _poll(watches) else None
    while busy_at is not None:
        rest(watcher, max(LOOK_SECONDS, sum(watch.rows for watch in watches) / _ROWS_PER_SECOND), sleep)
        if _poll(watches):
            busy_at = clock()
        elif len(watches) == 1 or clock() - busy_at >= LINGER_SECONDS:
            busy_at = None
    return [report for watch in watches for report in watch.ended.values()]


def _poll(watches: Sequence[TableWatch]) -> bool:
    active = [watch.poll() for watch in watches]  # a list, so that every table is polled
    return any(active)


def rest(watcher: ProgressRecorder, seconds: float, sleep: Sleep = time.sleep) -> float:
    """Wait while the display is refreshed; returns the seconds."""
    for _ in range(round(seconds / _TICK_SECONDS)):
        sleep(_TICK_SECONDS)
        watcher.tick()
    return seconds
