"""Which runs are at work on a stage's tables.

The run that a person means: by its id, or the beginning of it.

The runs of a table as they stand now: what is recorded of them, seen together with the table's lease.

What a person tells a run that is at work, from another terminal: every worker obeys between two requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from dynamodt.dynamodb.table import list_tables
from dynamodt.errors import Refused, UsageError
from dynamodt.model.pages import Units
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import ABORT, Lease, RunRecord, RunState
from dynamodt.model.tables import Stage
from dynamodt.runs.liveness import SILENT_SECONDS, holder, is_alive, is_gone, observed_life
from dynamodt.runs.totals import totals_of
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.phases import AT_WORK, phases, run_progress, with_runs
from dynamodt.state.state import State


def runs_at_work(stage: Stage) -> list[Lease]:
    """The leases that a live run holds; none where the stage has no state table yet. Raises ServiceError."""
    tables = list_tables(stage.connection)
    if stage.state_table not in tables:
        return []
    leases = State(stage.connection, stage.state_table).leases
    answers = [leases.begin_read(name) for name in tables if name != stage.state_table]
    return [lease for lease in (answer() for answer in answers) if is_alive(lease)]


_SHOWN = 3


def find_run(state: State, tables: Sequence[str], run: str) -> RunRecord:
    """The one run of these tables whose id begins with `run`. Raises UsageError when there is none, or several."""
    found = [record for table in tables for record in state.runs(table) if record.run.startswith(run)]
    exact = [record for record in found if record.run == run]
    if not found:
        raise UsageError(f"there is no run {run}", where=f"tables {', '.join(tables)}", hint="dynamodt history")
    if len(found) > 1 and not exact:
        some = [f"{record.run} ({record.table} v{record.version} {record.direction})" for record in found[:_SHOWN]]
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"{len(found)} runs begin with {run}: {', '.join(some)}{more}", hint="write more of the id")
    return (exact or found)[0]


def run_states(state: State, table: str) -> list[RunState]:
    """All runs of a table, the newest first. One that has not recorded its end is counted from its units."""
    records, lease, alive = _seen(state, table)
    return [_run_state(state, record, lease, alive) for record in reversed(records)]


def version_states(state: State, table: str, versions: tuple[VersionStatus, ...]) -> tuple[VersionStatus, ...]:
    """The versions, with those marked that a run is at work on or was left half done."""
    records, lease, alive = _seen(state, table)
    return with_runs(versions, records, lease, alive)


def _seen(state: State, table: str) -> tuple[list[RunRecord], Lease, bool]:
    """The runs, and the lease where one of them may hold it. A run that ends between the two reads, as the next one
    begins, would look dead: they are read again then."""
    for _ in range(2):
        records, lease, alive = state.runs(table), Lease(table, 0), False
        open_runs = {record.run for record in records if record.status in AT_WORK}
        if open_runs:
            lease = state.leases.read(table)
            alive = lease.run in open_runs and _is_alive(state, lease)
        if open_runs <= ({lease.run} if alive else set()):
            break
    return records, lease, alive


def _is_alive(state: State, lease: Lease) -> bool:
    """A holder elsewhere whose last sign of life seems to be old is looked at until it is known: its clock may be
    wrong, or ours."""
    if is_alive(lease) and time.time() - lease.beat > SILENT_SECONDS:
        return not observed_life(state.leases, lease.table)[1].is_over
    return is_alive(lease)


def _run_state(state: State, record: RunRecord, lease: Lease, alive: bool) -> RunState:
    status = run_progress(record, lease, alive)
    if record.status not in AT_WORK:
        return RunState(record, status, record.counts)
    counts = totals_of(state, phases(record)).counts
    return RunState(record, status, counts, None if status == "gone" else lease)


def tell(stage: Stage, table: str, command: str, limits: Units = Units()) -> Lease:
    """Do `pause`, `resume`, `abort`, `unlock` or `throttle` (to `limits`, in units a second; 0: as it was) to the run
    that holds a table; returns its lease as it was.

    Raises Refused when no run holds the table, Fenced when the run ends or is taken over in this very moment.
    """
    leases = State(stage.connection, stage.state_table).leases
    lease = leases.read(table)
    if not lease.run:
        raise Refused("no run is at work", where=f"table {table}", hint=f"dynamodt history --table {table}")
    if lease.owner and command != "unlock":
        raise Refused(
            f"run {lease.run} of table {lease.owner} writes to it, and listens there",
            where=f"table {table}",
            hint=f"dynamodt {command} --table {lease.owner}",
        )
    if command == "throttle":
        _throttle(leases, lease, limits)
    else:
        _COMMANDS[command](leases, lease)
    return lease


def _throttle(leases: LeaseRows, lease: Lease, limits: Units) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, **{name: value for name, value in limits._asdict().items() if value})


def _pause(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, paused=True)


def _resume(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, paused=False)


def _abort(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, stop=ABORT)


def _unlock(leases: LeaseRows, lease: Lease) -> None:
    """Take the lease, so that a holder who is not dead after all is fenced, and let it go."""
    taken = Lease(table=lease.table, token=lease.token + 1, beat=time.time())
    if not leases.take(taken, over=lease):
        raise Refused(
            f"the holder has just given a sign of life: {holder(lease)}",
            where=f"table {lease.table}",
            hint=f"it is alive: dynamodt abort --table {lease.table} ends it between two requests",
        )


def _check_alive(lease: Lease) -> None:
    if is_gone(lease):
        raise Refused(
            f"the run's process is gone: {holder(lease)}",
            where=f"table {lease.table}",
            hint="there is nobody to hear it; the next `up` or `down` takes over and goes on from there",
        )


_COMMANDS: dict[str, Callable[[LeaseRows, Lease], None]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "unlock": _unlock,
}
