"""Where a table's runs go on: the lease, and the run that an earlier process left unfinished (guarantees G3, G4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dynamodt.aws.state import State
from dynamodt.control.budget import budget
from dynamodt.control.history import first_record, next_record
from dynamodt.control.lease import held, new_lease
from dynamodt.control.planner import Step, TablePlan, new_run, segments
from dynamodt.control.requests import Observer, RunOptions
from dynamodt.control.steps import Session, run_step
from dynamodt.core.lifecycle import unfinished
from dynamodt.core.passes import passes
from dynamodt.errors import Refused
from dynamodt.model import Lease, RunRecord


@contextmanager
def holding(
    state: State, planned: TablePlan, options: RunOptions, observer: Observer
) -> Iterator[tuple[int, RunRecord]]:
    """Holds the table for the plan's steps: the lease's token, and the record of the first run, new or gone on with.

    Raises Refused when another run is at work, or when one of another version (or direction) was left half done.
    """
    step = planned.steps[0]
    if options.dry_run:
        record = _fresh(planned, step, options)
        yield _take_own(state, record), record
        return
    table = planned.table.name
    left = left_unfinished(state, table, step, planned)
    with held(state.leases, table, left.run if left else new_run(), observer.note) as lease:
        left = left_unfinished(state, table, step, planned)  # as it is now that nobody else can move it
        if left is None:
            yield lease.token, _fresh(planned, step, options, lease.run)
        else:
            yield lease.token, _continued(left, step, options, observer)


def _take_own(state: State, record: RunRecord) -> int:
    """A dry run's own lease, which nobody contends for; returns its token, which is always the first."""
    mine = new_lease(f"dry-run/{record.run}", 1, record.run, time.time())
    state.leases.take(mine, over=Lease(mine.table, 0))
    return mine.token


def _continued(left: RunRecord, step: Step, options: RunOptions, observer: Observer) -> RunRecord:
    """Raises Refused for another word on the journal than the run began with: half a journal undoes half a run."""
    journal = left.journal or not step.script.idempotent
    if options.journal not in (None, journal):
        began = "with" if journal else "without"
        raise Refused(
            f"run {left.run} began {began} a journal, and goes on as it began",
            where=f"table {left.table}",
            hint=f"leave out --{'no-' if journal else ''}journal",
        )
    observer.note(f"run {left.run} was left {left.status}: it goes on from its checkpoints")
    return next_record(left, step.script)


def _fresh(planned: TablePlan, step: Step, options: RunOptions, run: str = "") -> RunRecord:
    units = segments(planned.table)
    return first_record(step.script, planned.direction, run or new_run(), units, bool(options.journal))


def left_unfinished(state: State, table: str, step: Step, planned: TablePlan) -> RunRecord | None:
    """The run of this very step that an earlier process has left unfinished. Raises Refused when one of another
    version, or of the other direction, has written something and was left half done."""
    wanted = (step.script.sequence, planned.direction)
    found = None
    for record in (record for record in state.runs(table) if unfinished(record.status)):
        if (record.version, record.direction) == wanted:
            found = record
        elif has_written(state, record):
            raise _half_done(record)
    return found


def check_nothing_half_done(state: State, table: str) -> None:
    """Raises Refused when a run that an earlier process left unfinished has written something."""
    for record in state.runs(table):
        if unfinished(record.status) and has_written(state, record):
            raise _half_done(record)


def _half_done(left: RunRecord) -> Refused:
    return Refused(
        f"{left.direction} of version {left.version} ({left.name}) was left half done: run {left.run}, {left.status}",
        where=f"table {left.table}",
        hint=f"finish it first: dynamodt {left.direction} --table {left.table} --to "
        f"{left.version if left.direction == 'up' else left.version - 1}",
    )


def has_written(state: State, record: RunRecord) -> bool:
    """Whether a run may have changed an item: a run that failed before is as if it had never been."""
    claims = (claim for each in passes(record) for claim in state.units(each.run).all(each.units))
    return any(claim.counts.changed or claim.intent is not None for claim in claims)


def run_steps(session: Session, planned: TablePlan, record: RunRecord) -> None:
    """Run the steps one after the other, the first under the given record. Raises what ends one of them."""
    _tell_budget(session, planned, record)
    for number, step in enumerate(planned.steps):
        if number:
            record = _fresh(planned, step, session.options)
            if session.options.dry_run:
                _take_own(session.state, record)
                _tell_budget(session, planned, record)
            else:
                session.state.leases.tell(planned.table.name, session.token, run=record.run, stop="", error=None)
        run_step(session, planned, step, record)


def _tell_budget(session: Session, planned: TablePlan, record: RunRecord) -> None:
    """The limits that the steps begin with; a person may change them while they run."""
    target = planned.steps[0].target or planned.table
    limits = budget(session.stage, planned.table, target, session.options)
    if any(limits):
        lease = f"dry-run/{record.run}" if session.options.dry_run else planned.table.name
        session.state.leases.tell(lease, session.token, **limits._asdict())
