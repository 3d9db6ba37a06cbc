"""The runs of a table as they stand now: what is recorded of them, seen together with the table's lease."""

from __future__ import annotations

import time

from dynamodt.aws.state import State
from dynamodt.control.running.life import SILENT_SECONDS, is_alive, settled
from dynamodt.core.passes import passes
from dynamodt.core.standing import AT_WORK, standing, with_runs
from dynamodt.model import Counts, Lease, RunRecord, RunState, VersionStatus


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
        return not settled(state.leases, lease.table)[1].is_over
    return is_alive(lease)


def _run_state(state: State, record: RunRecord, lease: Lease, alive: bool) -> RunState:
    status = standing(record, lease, alive)
    if record.status not in AT_WORK:
        return RunState(record, status, record.counts)
    counts = Counts()
    for each in passes(record):
        counts = counts.plus(state.units(each.run).totals(each.units).counts)
    return RunState(record, status, counts, None if status == "gone" else lease)
