"""Where a table's runs go on: the lease, and the run that an earlier process left unfinished (guarantees G3, G4)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from dynamodt.errors import Refused
from dynamodt.model.pages import Claim
from dynamodt.model.runs import ABORT, INSERTED_ROWS, Fence, Lease, RunRecord, Script
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.budget import budget
from dynamodt.runs.dead_letters import has_lost_dead_letters, lost_dead_letters
from dynamodt.runs.execute import run_step
from dynamodt.runs.exports import SCAN, check_source
from dynamodt.runs.history import first_record, next_record
from dynamodt.runs.journal_check import as_written
from dynamodt.runs.liveness import observed_life
from dynamodt.runs.lock import at_work, new_lease
from dynamodt.runs.lock import check_not_leased as check_not_held
from dynamodt.runs.lock import held_all as held
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.plan import Step, TablePlan, just_ran, lease_replicas, new_run, segments
from dynamodt.runs.session import Session, aborted
from dynamodt.state.object_keys import left_of
from dynamodt.state.phases import PARTLY_UNDONE, after, phases, unfinished
from dynamodt.state.started_with import ITEMS, Difference, changed_within, differences, may_be_repeated, transformed
from dynamodt.state.state import State
from dynamodt.state.storage import Storage, open_storage


@contextmanager
def holding(
    state: State, stage: Stage, planned: TablePlan, options: RunOptions, observer: Observer
) -> Iterator[tuple[int, tuple[Fence, ...], RunRecord]]:
    """Holds the table for the plan's steps, and those that they write to: the lease's token, the others, and the record
    of the first run, new or gone on with.

    Raises Refused when another run is at work, or when one of another version (or direction) was left half done.
    """
    step, storage = planned.steps[0], open_storage(stage.connection, stage.storage)
    if options.dry_run:
        _note_half_done(state, planned, observer)
        record = _fresh(planned, step, options)
        yield rehearsing(state, record.run, options.workers), (), record
        return
    table = planned.table.name
    before = _gone_on_with(state, storage, left_unfinished(state, planned, step), step, options)
    run = before.run if before else new_run()
    workers = lease_replicas(options.workers)
    with held(state.leases, table, targets(planned), run, observer.note, workers) as (lease, fences):
        left = left_unfinished(state, planned, step)  # as it is now that nobody else can move it
        found = _gone_on_with(state, storage, left, step, options)
        _check_only(options.only, found)
        if found is not None:
            record = _continued(state, stage, planned, found, options, observer)
        else:  # what was to go on may have been undone meanwhile: its units say that they are done
            records = (one for one in state.runs(table) if one.run not in planned.gone)
            record = replace(_fresh(planned, step, options, "" if before else run), accepts=accepted(records, options))
            _replace(state, planned, left, step, lease.token, observer)
        if record.run != run:
            _tell_run(state, ((table, lease.token), *fences), record.run)
        yield lease.token, fences, record


def targets(planned: TablePlan) -> list[str]:
    """The other tables that the plan's steps write to."""
    return sorted({step.target.name for step in planned.steps if step.target})


def _tell_run(state: State, held: Iterable[Fence], run: str) -> None:
    for table, token in held:
        state.leases.tell(table, token, run=run)


def check_free(state: State, stage: Stage, planned: TablePlan, options: RunOptions) -> None:
    """Raises what `holding` would refuse, as far as it can be told without holding the table: for a run that is going
    to hold it elsewhere, a while from now. A dry run is refused nothing."""
    if options.dry_run:
        return
    step, storage = planned.steps[0], open_storage(stage.connection, stage.storage)
    for table in (planned.table.name, *targets(planned)):
        check_not_held(state.leases, table)
    left = _gone_on_with(state, storage, left_unfinished(state, planned, step), step, options)
    _check_only(options.only, left)
    if left is not None:
        _check_continued(left, options)


def rehearsing(state: State, run: str, workers: int) -> int:
    """A dry run's own lease, which nobody contends for; returns its token, which is always the first."""
    mine = new_lease(f"dry-run/{run}", 1, run, time.time(), lease_replicas(workers))
    state.leases.take(mine, over=Lease(mine.table, 0))
    return mine.token


def _continued(
    state: State, stage: Stage, planned: TablePlan, left: RunRecord, options: RunOptions, observer: Observer
) -> RunRecord:
    step = planned.steps[0]
    _check_continued(left, options)
    observer.note(f"run {left.run} was left {left.status}: it goes on from its checkpoints")
    for one in _differences(state, left, step):
        observer.note(f"{step.script.path}: {one.told}: {one.effect}")
    done = 0
    if step.script.checksum != left.checksum:
        done = _transformed(state, stage, step.target or planned.table, left)
        observer.note(_edited(left, step.script, done))
    rows = {ITEMS: step.began[ITEMS]} if ITEMS in step.began else {}
    began = {**step.began, **left.began, **rows, **changed_within(step.began)}
    return next_record(left, step.script, done, began)


def _edited(left: RunRecord, script: Script, done: int) -> str:
    items = "1 item was" if done == 1 else f"{done:,} items were"
    return (
        f"{script.path} was edited since: {items} transformed by texts before it and are not transformed again; the "
        f"rest is, by this one ({script.checksum[:12]}, before {left.checksum[:12]}); dynamodt history keeps all"
    )


def _transformed(state: State, stage: Stage, table: TableSpec, record: RunRecord) -> int:
    """How many items the run's script has brought through so far, to `table`. Of a page that was announced, those that
    are as it was to write them: the others are transformed afresh."""
    done = 0
    for claim in _claims(state, record):
        done += transformed(claim.counts)
        if claim.intent is not None:
            intended = as_written(stage, table, claim.intent.parts)
            done += sum(claim.intent.counts[1:]) - claim.intent.counts.dead + sum(1 for _ in intended)
    return done


def _replace(
    state: State, planned: TablePlan, left: RunRecord | None, step: Step, token: int, observer: Observer
) -> None:
    """End the runs that a new one begins in the place of: one of the same step, and those whose table is gone."""
    if left is not None:
        told = [one.told for one in differences(left.began, step.began)]
        why = "a new run begins: " + "; ".join(told) if told else "a new run begins in its place"
        observer.note(f"run {left.run} was left {left.status}: {why}")
    for record in state.runs(planned.table.name):
        is_gone = record.run in planned.gone and unfinished(record.status)
        if is_gone and record.version == step.script.sequence:
            observer.note(f"the table that run {record.run} wrote to is gone: none of its checkpoints is used")
        if is_gone or (left is not None and record.run == left.run):
            state.record(replace(record, status=after(record.status, "replace")), token)


def _begun_otherwise(left: RunRecord, found: tuple[Difference, ...], path: str) -> Refused:
    """The refusal, with every difference: by halves, the run would come to something that no script says."""
    back = "put back what was changed, and type the same command again: it goes on"
    if left.journal:
        out = f"or take back what it has done, dynamodt undo {left.run}, and type the command again: it begins anew"
    else:
        out = "or restore the table from before the run (it keeps no journal): a restored table is begun anew"
    return Refused(
        f"run {left.run} ({left.direction} of version {left.version}, {left.name}), {left.status}, has written, and "
        "began with something else: " + "; ".join(one.told for one in found if not one.effect),
        where=f"table {left.table}, {path}",
        hint=f"{back}; {out}",
        run=left.run,
    )


def _check_continued(left: RunRecord, options: RunOptions) -> None:
    """Raises Refused for another word on the journal than the run began with: half a journal undoes half a run."""
    if options.journal not in (None, left.journal):
        began = "with" if left.journal else "without"
        raise Refused(
            f"run {left.run} began {began} a journal, and goes on as it began",
            where=f"table {left.table}",
            hint=f"leave out --{'no-' if left.journal else ''}journal",
            run=left.run,
        )
    check_source(left, options.source, options.export)


def _gone_on_with(
    state: State, storage: Storage, left: RunRecord | None, step: Step, options: RunOptions
) -> RunRecord | None:
    """The run that was left, or None where a new one is to begin: the first has written nothing, and another export is
    asked for or what it began with has changed; or an idempotent script is applied afresh to all items.

    Raises Refused where it has written, and what it began with has changed.
    """
    if left is None:
        return None
    found = _differences(state, left, step)
    if not has_written(state, left):
        anew = found or _asks_for_another_export(left, options) or has_lost_dead_letters(state, storage, left)
        return None if anew else left
    if not all(one.effect for one in found):
        if left.journal or not step.script.idempotent or not may_be_repeated(found):
            raise _begun_otherwise(left, found, step.script.path)
        return None
    if has_lost_dead_letters(state, storage, left):
        if left.journal or options.only:
            raise lost_dead_letters(left, storage, goal(left))
        return None
    return left


def _asks_for_another_export(left: RunRecord, options: RunOptions) -> bool:
    begun = left.status == "failed" and left.splits and left.exports
    return bool(begun) and options.export not in ("", left.exports[0])


def _differences(state: State, left: RunRecord, step: Step) -> tuple[Difference, ...]:
    """What the run has begun with and is otherwise now. Rows of `items()` that it has not begun to write are free."""
    found = differences(left.began, step.began)
    if any(state.splits(left.run + INSERTED_ROWS).all(1)):
        return found
    return tuple(one for one in found if one.name != ITEMS)


def _fresh(planned: TablePlan, step: Step, options: RunOptions, run: str = "") -> RunRecord:
    source = options.source or step.script.source
    units = segments(planned.table, options.workers) if source == SCAN else 0  # of an export, when it is there
    run, journal = run or new_run(), bool(options.journal)
    return first_record(step.script, planned.direction, run, units, journal, source, step.began)


def left_unfinished(state: State, planned: TablePlan, step: Step) -> RunRecord | None:
    """The run of this very step that an earlier process has left unfinished. Raises Refused when one of another
    version, or of the other direction, has written something and was left half done.

    One that has written nothing holds nobody up, so others may have run since: then what it has found done is not."""
    wanted = (step.script.sequence, planned.direction)
    found = None
    records = [record for record in state.runs(planned.table.name) if record.run not in planned.gone]
    check_not_undoing(records)
    for record in (record for record in records if unfinished(record.status)):
        if (record.version, record.direction) == wanted:
            found = record if record is records[-1] or has_written(state, record) else None
        elif has_written(state, record):
            raise _half_done(state, record)
    return found


def _note_half_done(state: State, planned: TablePlan, observer: Observer) -> None:
    for record in state.runs(planned.table.name):
        if record.run not in planned.gone and unfinished(record.status) and has_written(state, record):
            observer.note(f"run {record.run} is half done: the rehearsal tries its items anew, as they are now")


def check_nothing_half_done(state: State, table: str, gone: Collection[str] = ()) -> None:
    """Raises Refused when a run has written something and is unfinished: left so, or still at work. Those that are
    `gone` wrote to another table."""
    records = [record for record in state.runs(table) if record.run not in gone]
    check_not_undoing(records)
    for record in records:
        if unfinished(record.status) and has_written(state, record):
            raise _half_done(state, record)


def check_not_undoing(records: Iterable[RunRecord]) -> None:
    """Raises Refused while a run of the table is half undone: neither its version nor the one before is true then."""
    for record in records:
        if record.status == "undoing":
            raise Refused(
                f"run {record.run} ({record.direction} of version {record.version}, {record.name}) is half undone",
                where=f"table {record.table}",
                hint=f"finish it first: dynamodt undo {record.run}",
                run=record.run,
            )
        if record.status == PARTLY_UNDONE:
            raise Refused(
                f"run {record.run} ({record.direction} of version {record.version}, {record.name}) is undone in part: "
                "parts of its journal are missing",
                where=f"table {record.table}",
                hint=f"restore them, then: dynamodt undo {record.run}; or mend the items by hand, and say which "
                f"versions stand: dynamodt stamp --table {record.table} --to N",
                run=record.run,
            )


def accepted(records: Iterable[RunRecord], options: RunOptions) -> tuple[str, ...]:
    """The undone runs that have left items restored in part, which a run that begins now would transform again. Raises
    Refused for them unless that is asked for, or a run since has begun so."""
    records = list(records)
    before = {run for record in records for run in record.accepts}
    left = [one for one in records if one.status == "undone" and one.partly_restored and one.run not in before]
    if left and not options.accept_partly_restored:
        raise _partly_restored(left[-1])
    return tuple(record.run for record in left)


def _partly_restored(undone: RunRecord) -> Refused:
    number = undone.partly_restored
    items = "1 item" if number == 1 else f"{number:,} items"
    return Refused(
        f"the undo of run {undone.run} has restored {items} of version {undone.version} in part: some attributes are "
        "as before the run, others as they were written since; transformed again they may hold the version twice",
        where="/".join(filter(None, [undone.began.get("storage"), left_of(undone.table, undone.run)])),
        hint='the file names them (lines with "restored"): mend them, then type the same command with '
        "--accept-partly-restored; or type it with that at once, if the script leaves what it has transformed alone",
        run=undone.run,
    )


def _check_only(run: str, left: RunRecord | None) -> None:
    if run and (left is None or left.run != run):
        raise not_unfinished(run)


def not_unfinished(run: str) -> Refused:
    """The refusal to go on with a run that is over, or that another one has come after."""
    return Refused(f"run {run} is not the unfinished one of its table", hint="dynamodt history shows which is")


def _half_done(state: State, left: RunRecord) -> Refused:
    lease = state.leases.read(left.table)
    if lease.run == left.run:
        lease, life = observed_life(state.leases, left.table)
        if lease.run == left.run and not life.is_over:
            return at_work(lease)
    return Refused(
        f"{left.direction} of version {left.version} ({left.name}) was left half done: run {left.run}, {left.status}",
        where=f"table {left.table}",
        hint=f"finish it first: dynamodt {left.direction} --table {left.table} --to {goal(left)} "
        f"(or take back what it has done: dynamodt undo {left.run})",
        run=left.run,
    )


def goal(record: RunRecord) -> int:
    """The version that the table is at when the run has succeeded."""
    return record.version if record.direction == "up" else record.version - 1


def has_written(state: State, record: RunRecord) -> bool:
    """Whether a run may have changed an item: a run that failed before is as if it had never been. Without a journal
    nothing announces a page: one that was begun may be written, unless the attempt has ended with whole pages."""
    silent = not record.journal and not record.whole_pages
    return any(_may_have_written(claim, silent) for claim in _claims(state, record))


def _may_have_written(claim: Claim, silent: bool) -> bool:
    intended = claim.intent is not None or any(period.parts for period in claim.periods)
    return bool(claim.counts.changed) or intended or (silent and not claim.done)


def _claims(state: State, record: RunRecord) -> Iterator[Claim]:
    return (claim for each in phases(record) for claim in state.splits(each.run).all(each.splits))


def run_steps(session: Session, planned: TablePlan, record: RunRecord) -> None:
    """Run the steps one after the other, the first under the given record. Raises what ends one of them, Aborted also
    for a word that came between two."""
    tell_budget(session, record.run, planned.table, planned.steps[0].target)
    planned = replace(
        planned, needs_consistent_read=planned.needs_consistent_read or just_ran(session.state.runs(planned.table.name))
    )
    for number, step in enumerate(planned.steps):
        if number:
            planned = replace(planned, needs_consistent_read=True)
            record = _fresh(planned, step, session.options)
            if session.options.dry_run:
                rehearsing(session.state, record.run, session.options.workers)
                tell_budget(session, record.run, planned.table, planned.steps[0].target)
            else:
                if session.state.leases.read(planned.table.name).stop == ABORT:
                    raise aborted(record.run)
                _tell_run(session.state, ((planned.table.name, session.token), *session.fences), record.run)
        run_step(session, planned, step, record)


def tell_budget(session: Session, run: str, table: TableSpec, target: TableSpec | None) -> None:
    """The limits that a command begins with; a person may change them while it runs."""
    limits = budget(session.stage, table, target or table, session.options)
    if any(limits):
        lease = f"dry-run/{run}" if session.options.dry_run else table.name
        session.state.leases.tell(lease, session.token, **limits._asdict())
