"""Runs as other commands see and control them: found by id, listed with their status, paused, throttled or aborted.

A command writes to the table's lease; each worker applies it before its next request.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from dynamodt.dynamodb.table import list_tables
from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.pages import Units
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import ABORT, Lease, RunRecord, RunState
from dynamodt.model.tables import Stage
from dynamodt.runs.liveness import SILENT_SECONDS, holder, is_alive, is_gone, observed_life
from dynamodt.runs.totals import totals_of
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.runs import AT_WORK, phases, run_progress, with_runs
from dynamodt.state.state import State


def runs_at_work(stage: Stage) -> list[Lease]:
    """The leases of live runs; none where the stage has no state table. Raises ServiceError."""
    tables = list_tables(stage.connection)
    if stage.state_table not in tables:
        return []
    leases = State(stage.connection, stage.state_table).leases
    answers = [leases.begin_read(name) for name in tables if name != stage.state_table]
    return [lease for lease in (answer() for answer in answers) if is_alive(lease)]


_SHOWN = 3
_CHANGES: dict[str, dict[str, Any]] = {
    "pause": {"paused": True},
    "resume": {"paused": False},
    "abort": {"stop": ABORT},
}


def find_run(state: State, tables: Sequence[str], run: str) -> RunRecord:
    """The only run of these tables whose id begins with `run`. Raises UsageError for none, or several."""
    found = [record for table in tables for record in state.runs(table) if record.run.startswith(run)]
    exact = [record for record in found if record.run == run]
    if not found:
        raise UsageError(f"there is no run {run}", where=f"tables {', '.join(tables)}", hint=suggest("history"))
    if len(found) > 1 and not exact:
        some = [f"{record.run} ({record.table} v{record.version} {record.direction})" for record in found[:_SHOWN]]
        more = ", ..." if len(found) > _SHOWN else ""
        raise UsageError(f"{len(found)} runs begin with {run}: {', '.join(some)}{more}", hint="write more of the id")
    return (exact or found)[0]


def run_states(state: State, table: str) -> list[RunState]:
    """All runs of a table, the newest first. One without a recorded end is counted from its splits."""
    records, lease, alive = _seen(state, table)
    return [_run_state(state, record, lease, alive) for record in reversed(records)]


def version_states(state: State, table: str, versions: tuple[VersionStatus, ...]) -> tuple[VersionStatus, ...]:
    """The versions, each with its active or unfinished run."""
    records, lease, alive = _seen(state, table)
    return with_runs(versions, records, lease, alive)


def _seen(state: State, table: str) -> tuple[list[RunRecord], Lease, bool]:
    """The runs, the lease where one of them may hold it, and whether that run is alive. Both are read again where a run
    has ended between the two reads, which would look dead."""
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
    """Whether the holder is alive. One on another host with an old heartbeat is observed, since clocks may differ."""
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
    """`pause`, `resume`, `abort`, `unlock` or `throttle` (to `limits` in units per second; 0: unchanged) the run that
    holds a table; returns the lease as it was.

    Raises Refused when no run holds the table, Fenced when the run ends or is taken over at this moment.
    """
    leases = State(stage.connection, stage.state_table).leases
    lease = leases.read(table)
    if not lease.run:
        raise Refused("no run is at work", where=f"table {table}", hint=suggest("history", table=table))
    if lease.owner and command != "unlock":
        raise Refused(
            f"run {lease.run} of table {lease.owner} writes to it, and is controlled there",
            where=f"table {table}",
            hint=suggest(command, table=lease.owner),
        )
    if command == "unlock":
        _unlock(leases, lease)
        return lease
    _check_alive(lease)
    given = {name: value for name, value in limits._asdict().items() if value}
    leases.tell(table, lease.token, **(given if command == "throttle" else _CHANGES[command]))
    return lease


def _unlock(leases: LeaseRows, lease: Lease) -> None:
    """Take the lease and release it: a holder that is alive after all is fenced."""
    taken = Lease(table=lease.table, token=lease.token + 1, beat=time.time())
    if not leases.take(taken, over=lease):
        raise Refused(
            f"the holder has just sent a heartbeat: {holder(lease)}",
            where=f"table {lease.table}",
            hint="it is alive; to end it between two requests: " + suggest("abort", table=lease.table),
        )


def _check_alive(lease: Lease) -> None:
    if is_gone(lease):
        raise Refused(
            f"the run's process is gone: {holder(lease)}",
            where=f"table {lease.table}",
            hint="the next `up` or `down` takes the run over and continues it",
        )
