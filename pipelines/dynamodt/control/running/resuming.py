"""Where a table's runs go on: the lease, and the run that an earlier process left unfinished (guarantees G3, G4)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dynamodt.aws.state import State
from dynamodt.control.planner import Step, TablePlan, boards, just_ran, new_run, segments
from dynamodt.control.requests import Observer, RunOptions
from dynamodt.control.running.budget import budget
from dynamodt.control.running.exporting import SCAN, check_source
from dynamodt.control.running.history import first_record, next_record
from dynamodt.control.running.lease import at_work, held, is_alive, new_lease
from dynamodt.control.running.lease import check_free as check_not_held
from dynamodt.control.running.session import ABORT, Session, aborted
from dynamodt.control.running.steps import run_step
from dynamodt.core.lifecycle import unfinished
from dynamodt.core.passes import passes
from dynamodt.errors import Refused
from dynamodt.model import Lease, RunRecord, TableSpec


@contextmanager
def holding(
    state: State, planned: TablePlan, options: RunOptions, observer: Observer
) -> Iterator[tuple[int, RunRecord]]:
    """Holds the table for the plan's steps: the lease's token, and the record of the first run, new or gone on with.

    Raises Refused when another run is at work, or when one of another version (or direction) was left half done.
    """
    step = planned.steps[0]
    if options.dry_run:
        _note_half_done(state, planned.table.name, observer)
        record = _fresh(planned, step, options)
        yield rehearsing(state, record.run, options.workers), record
        return
    table = planned.table.name
    before = _gone_on_with(state, left_unfinished(state, table, step, planned), options)
    run = before.run if before else new_run()
    with held(state.leases, table, run, observer.note, boards(options.workers)) as lease:
        left = left_unfinished(state, table, step, planned)  # as it is now that nobody else can move it
        left = _gone_on_with(state, left, options)
        _check_only(options.only, left)
        if left is not None:
            record = _continued(left, step, options, observer)
        else:  # what was to go on may have been undone meanwhile: its units say that they are done
            record = _fresh(planned, step, options, "" if before else run)
        if record.run != run:
            state.leases.tell(table, lease.token, run=record.run)
        yield lease.token, record


def check_free(state: State, planned: TablePlan, options: RunOptions) -> None:
    """Raises what `holding` would refuse, as far as it can be told without holding the table: for a run that is going
    to hold it elsewhere, a while from now. A dry run is refused nothing."""
    if options.dry_run:
        return
    table, step = planned.table.name, planned.steps[0]
    check_not_held(state.leases, table)
    left = _gone_on_with(state, left_unfinished(state, table, step, planned), options)
    _check_only(options.only, left)
    if left is not None:
        _check_continued(left, step, options)


def rehearsing(state: State, run: str, workers: int) -> int:
    """A dry run's own lease, which nobody contends for; returns its token, which is always the first."""
    mine = new_lease(f"dry-run/{run}", 1, run, time.time(), boards(workers))
    state.leases.take(mine, over=Lease(mine.table, 0))
    return mine.token


def _continued(left: RunRecord, step: Step, options: RunOptions, observer: Observer) -> RunRecord:
    _check_continued(left, step, options)
    observer.note(f"run {left.run} was left {left.status}: it goes on from its checkpoints")
    return next_record(left, step.script)


def _check_continued(left: RunRecord, step: Step, options: RunOptions) -> None:
    """Raises Refused for another word on the journal than the run began with: half a journal undoes half a run."""
    journal = left.journal or not step.script.idempotent
    if options.journal not in (None, journal):
        began = "with" if journal else "without"
        raise Refused(
            f"run {left.run} began {began} a journal, and goes on as it began",
            where=f"table {left.table}",
            hint=f"leave out --{'no-' if journal else ''}journal",
        )
    check_source(left, options.source, options.export)


def _gone_on_with(state: State, left: RunRecord | None, options: RunOptions) -> RunRecord | None:
    """The run that was left, unless another export is asked for, and it has failed on its own without a write."""
    if left is None or left.status != "failed" or not (left.units and left.exports):
        return left
    other = options.export not in ("", left.exports[0])
    return None if other and not has_written(state, left) else left


def _fresh(planned: TablePlan, step: Step, options: RunOptions, run: str = "") -> RunRecord:
    source = options.source or step.script.source
    units = segments(planned.table, options.workers) if source == SCAN else 0  # of an export, when it is there
    return first_record(step.script, planned.direction, run or new_run(), units, bool(options.journal), source)


def left_unfinished(state: State, table: str, step: Step, planned: TablePlan) -> RunRecord | None:
    """The run of this very step that an earlier process has left unfinished. Raises Refused when one of another
    version, or of the other direction, has written something and was left half done.

    One that has written nothing holds nobody up, so others may have run since: then what it has found done is not."""
    wanted = (step.script.sequence, planned.direction)
    found = None
    records = state.runs(table)
    check_not_undoing(records)
    for record in (record for record in records if unfinished(record.status)):
        if (record.version, record.direction) == wanted:
            found = record if record is records[-1] or has_written(state, record) else None
        elif has_written(state, record):
            raise _half_done(state, record)
    return found


def _note_half_done(state: State, table: str, observer: Observer) -> None:
    for record in state.runs(table):
        if unfinished(record.status) and has_written(state, record):
            observer.note(f"run {record.run} is half done: the rehearsal tries its items anew, as they are now")


def check_nothing_half_done(state: State, table: str) -> None:
    """Raises Refused when a run has written something and is unfinished: left so, or still at work."""
    records = state.runs(table)
    check_not_undoing(records)
    for record in records:
        if unfinished(record.status) and has_written(state, record):
            raise _half_done(state, record)


def check_not_undoing(records: Sequence[RunRecord]) -> None:
    """Raises Refused while a run of the table is half undone: neither its version nor the one before is true then."""
    for record in records:
        if record.status == "undoing":
            raise Refused(
                f"run {record.run} ({record.direction} of version {record.version}, {record.name}) is half undone",
                where=f"table {record.table}",
                hint=f"finish it first: dynamodt undo {record.run}",
            )


def _check_only(run: str, left: RunRecord | None) -> None:
    if run and (left is None or left.run != run):
        raise not_unfinished(run)


def not_unfinished(run: str) -> Refused:
    """The refusal to go on with a run that is over, or that another one has come after."""
    return Refused(f"run {run} is not the unfinished one of its table", hint="dynamodt history shows which is")


def _half_done(state: State, left: RunRecord) -> Refused:
    lease = state.leases.read(left.table)
    if lease.run == left.run and is_alive(lease, time.time()):
        return at_work(lease)
    return Refused(
        f"{left.direction} of version {left.version} ({left.name}) was left half done: run {left.run}, {left.status}",
        where=f"table {left.table}",
        hint=f"finish it first: dynamodt {left.direction} --table {left.table} --to {goal(left)} "
        f"(or take back what it has done: dynamodt undo {left.run})",
    )


def goal(record: RunRecord) -> int:
    """The version that the table is at when the run has succeeded."""
    return record.version if record.direction == "up" else record.version - 1


def has_written(state: State, record: RunRecord) -> bool:
    """Whether a run may have changed an item: a run that failed before is as if it had never been."""
    claims = (claim for each in passes(record) for claim in state.units(each.run).all(each.units))
    return any(claim.counts.changed or claim.intent or any(era.parts for era in claim.eras) for claim in claims)


def run_steps(session: Session, planned: TablePlan, record: RunRecord) -> None:
    """Run the steps one after the other, the first under the given record. Raises what ends one of them, Aborted also
    for a word that came between two."""
    tell_budget(session, record.run, planned.table, planned.steps[0].target)
    planned = replace(planned, just_written=planned.just_written or just_ran(session.state.runs(planned.table.name)))
    for number, step in enumerate(planned.steps):
        if number:
            planned = replace(planned, just_written=True)
            record = _fresh(planned, step, session.options)
            if session.options.dry_run:
                rehearsing(session.state, record.run, session.options.workers)
                tell_budget(session, record.run, planned.table, planned.steps[0].target)
            else:
                if session.state.leases.read(planned.table.name).stop == ABORT:
                    raise aborted(record.run)
                session.state.leases.tell(planned.table.name, session.token, run=record.run)
        run_step(session, planned, step, record)


def tell_budget(session: Session, run: str, table: TableSpec, target: TableSpec | None) -> None:
    """The limits that a command begins with; a person may change them while it runs."""
    limits = budget(session.stage, table, target or table, session.options)
    if any(limits):
        lease = f"dry-run/{run}" if session.options.dry_run else table.name
        session.state.leases.tell(lease, session.token, **limits._asdict())
