"""The record of a run at its begin and at its end, and its report.

The record at the begin is that of the unfinished run that continues, or a new one (`resume` decides).

A run has succeeded if it has read every split, its counts balance, its tables are those that it began with, and no dead
letter is left except those that a person has accepted (`retry --accept`) or tolerates (`--max-errors`). The end of
every run that was begun is recorded; only for a run that another process has taken over (Fenced), that process records
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from dynamodt.errors import (
    Aborted,
    CostReached,
    DeadLetters,
    DynamodtError,
    Fenced,
    Hint,
    RunFailed,
    ServiceError,
    suggest,
)
from dynamodt.model.pages import Totals, Units
from dynamodt.model.reports import RunReport, counted
from dynamodt.model.runs import Job, RunRecord
from dynamodt.pipeline.process import signal_name
from dynamodt.runs.context import Follower, RunContext
from dynamodt.runs.cost import with_expected_cost
from dynamodt.runs.dead_letters import count_dead, first_dead_letter, gather_dead_letters, retry_number, samples
from dynamodt.runs.history import RunRecorder, doubts_hint, next_record, unrecorded_notice
from dynamodt.runs.jobs import NEW
from dynamodt.runs.plan import TablePlan, recreated_during_run
from dynamodt.runs.provenance import provenance_of_continued_run
from dynamodt.runs.restored_tables import check_begun, check_rows, items_transformed, note_begun
from dynamodt.runs.resume import (
    changed_facts,
    check_continued,
    check_only,
    check_options,
    edited_sentence,
    fresh_record,
    not_restored,
    unfinished_run,
)
from dynamodt.state.object_keys import DEAD_LETTERS_FILE, keep_text, key_of_job
from dynamodt.state.runs import ITEMS, differences, next_status, unfinished, updated_facts


def check_under_lease(context: RunContext, planned: TablePlan, left: RunRecord | None) -> None:
    """Raises the refusals that need no runner, before Spark is started; `left` is the run that would continue."""
    check_begun(context, planned.table)
    check_options(left, context.options)


def record_to_run(context: RunContext, planned: TablePlan, run: str) -> RunRecord:
    """The record of the plan's first run, continued or new; this is decided again under the lease.

    `run` is the id of a new run; if it is empty, one is made.
    """
    state, options = context.state, context.options
    left = unfinished_run(context, planned)
    check_only(options.only, left)
    if left is not None:
        return _continued(context, planned, left)
    records = (one for one in state.runs(planned.table.name) if one.run not in planned.former_runs)
    step = planned.steps[0]
    accepts = not_restored(records, [one.script for one in planned.steps], options)
    record = replace(fresh_record(planned, step, options, run), accepts=accepts)
    _end_replaced(context, planned)
    return record


def _continued(context: RunContext, planned: TablePlan, left: RunRecord) -> RunRecord:
    """The record of a continued run. Raises Refused if the options differ from those at its start."""
    step, observer, state = planned.steps[0], context.observer, context.state
    check_continued(left, context.options)
    check_rows(context, left)
    again = "its dead letters are replayed" if planned.reopens else "it continues from its checkpoints"
    observer.notify(f"run {left.run} {'has' if planned.reopens else 'is unfinished,'} {left.status}: {again}")
    for one in changed_facts(state, left, step):
        observer.notify(f"{step.script.path}: {one.sentence}: {one.effect}")
    done = 0
    if step.script.content != left.content:
        done = items_transformed(context, step.target or planned.table, left)
        observer.notify(edited_sentence(left, step.script, done))
    rows = {ITEMS: step.began[ITEMS]} if ITEMS in step.began else {}
    began = {**step.began, **left.began, **rows, **updated_facts(step.began)}
    return next_record(left, step.script, done, began, provenance_of_continued_run(context.options))


def _end_replaced(context: RunContext, planned: TablePlan) -> None:
    """End all unfinished runs, which the new run replaces: they are of its version and direction, or have written
    nothing, or their table was deleted."""
    state, script = context.state, planned.steps[0].script
    for record in (record for record in state.runs(planned.table.name) if unfinished(record.status)):
        if record.run in planned.former_runs:
            if record.version == script.sequence:
                what = f"the table that run {record.run} wrote to is gone: its checkpoints are not used"
                context.observer.notify(what)
        elif (record.version, record.direction) == (script.sequence, planned.direction):
            changed = "; ".join(one.sentence for one in differences(record.began, planned.steps[0].began))
            why = f"a new run begins: {changed}" if changed else "a new run begins in its place"
            context.observer.notify(f"run {record.run} is unfinished, {record.status}: {why}")
        state.record(replace(record, status=next_status(record.status, "replace")), context.token)


# ---------------------------------------------------------------- the start


def run_recorder(context: RunContext, planned: TablePlan, record: RunRecord) -> RunRecorder:
    """The recorder of a run of the plan, under the context's leases."""
    dry_run = context.options.dry_run
    recorder = RunRecorder(context.state, planned.table, record, context.token, dry_run, context.fences)
    recorder.reopen(planned.reopens)
    return recorder


def record_start(context: RunContext, recorder: RunRecorder, main: list[Job], again: list[Job]) -> None:
    """Records and reports that the run begins: its own phases are `main`, those that replay dead letters `again`."""
    record, (table, script) = recorder.record, (main[0].table, main[0].script)
    later = 0 if record.tolerated else sum(record.incremental_exports) + record.final_scan
    recorder.record = replace(
        record,
        retries=max([record.retries, *map(retry_number, again)]),
        planned=sum(job.splits for job in (*again, *main)) + later,
        text="" if context.options.dry_run else keep_text(context.storage, script),
    )
    recorder.begin()
    context.observer.run_started(recorder.record, table.item_count)


# ---------------------------------------------------------------- the end


@contextmanager
def recorded_error(context: RunContext, recorder: RunRecorder) -> Iterator[None]:
    """Records and reports an error before the first phase as the run's end, if the record of its begin is written: a
    run without an end would look like one whose process has died."""
    try:
        yield
    except Fenced:
        raise
    except (DynamodtError, KeyboardInterrupt, SystemExit) as error:
        if recorder.begun:
            before = recorder.record
            record_end(context, recorder, error, Totals(before.counts, before.consumed), before.dead_letters)
            context.keep(recorder.report())
        raise


@contextmanager
def recorded_end(
    context: RunContext, recorder: RunRecorder, phases: list[Job], follower: Follower, uncovered: str
) -> Iterator[None]:
    """Notes in the storage that the run has begun, and records and reports the end of the phases; then raises the error
    that ended them, or the reason why they did not succeed."""
    error: BaseException | None = None
    try:
        note_begun(context.storage, phases[0].table, recorder.record)
        yield
    except Fenced:
        raise
    except (DynamodtError, KeyboardInterrupt, SystemExit) as raised:
        error = raised
    error = _end(context, recorder, phases, follower, uncovered, error)
    if error is not None:
        raise error


def _end(
    context: RunContext,
    recorder: RunRecorder,
    phases: list[Job],
    follower: Follower,
    uncovered: str,
    error: BaseException | None,
) -> BaseException | None:
    """Records and reports the end; returns the error that ended the run, or the reason why it has not succeeded."""
    totals, whole_pages, run = follower.totals, error is None, phases[0].base_run
    dead_letters_at = context.storage.place(key_of_job(phases[0], DEAD_LETTERS_FILE))
    dead_letters = b""
    try:
        dead_letters = gather_dead_letters(context, phases) if totals.counts.dead else b""
    except ServiceError as failed:  # ends the run, too
        error = error or failed
    if error is None:
        doubtful, unreadable = count_dead(dead_letters, "doubt"), count_dead(dead_letters, "read")
        accepted = totals.counts.dead - dead_letters.count(b"\n") if context.options.dry_run else context.accepted.items
        left = LeftDeadLetters(dead_letters_at, doubtful, unreadable, accepted, context.options.max_errors)
        error = completion_error(totals, sum(job.splits for job in phases), f"run {run}", left, run)
        error = error or recreated_during_run(context, recorder.record)
    kept_at = dead_letters_at if dead_letters or (totals.counts.dead and not context.options.dry_run) else ""
    error = record_end(context, recorder, error, totals, kept_at, whole_pages, follower.budget)
    report = replace(
        recorder.report(samples(context, phases)),
        first_dead_letter=first_dead_letter(dead_letters, phases[0].script.path),
        uncovered=uncovered,
    )
    report = _with_cost(context, report, phases, follower.totals_of_a_run)
    context.observer.run_ended(report)
    context.keep(report)
    return error


def record_end(
    context: RunContext,
    recorder: RunRecorder,
    error: BaseException | None,
    totals: Totals,
    dead_letters: str = "",
    whole_pages: bool = False,
    budget: Units = Units(),
) -> BaseException | None:
    """Records the end; returns the error that ended the run. If the state table is unreachable, the run stays
    unfinished and is reported as far as it is known; a ServiceError is then returned only if nothing else ended the
    run. Raises Fenced."""
    try:
        recorder.record = replace(recorder.record, higher_usd=error.higher if isinstance(error, CostReached) else 0.0)
        recorder.end(_status(error), totals.counts, totals.units, _text(error), dead_letters, whole_pages, budget)
    except ServiceError as failed:
        error = error or failed
        recorder.record = replace(recorder.record, status=_status(error), error=_text(error))
        context.observer.notify(unrecorded_notice(f"run {recorder.record.run}", failed))
    return error


def _with_cost(context: RunContext, report: RunReport, phases: list[Job], totals: Totals) -> RunReport:
    try:
        return with_expected_cost(report, context.state, phases, totals, context.options.export in ("", NEW))
    except ServiceError as error:
        context.observer.notify(f"what a run costs cannot be shown: {error}")
        return report


def _status(error: BaseException | None) -> str:
    if error is None:
        return next_status("running", "succeed")
    failed = isinstance(error, DynamodtError) and not isinstance(error, Aborted)
    stopped = "pause" if isinstance(error, CostReached) else "stop"
    return next_status("running", "fail" if failed else stopped)


def _text(error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {signal_name(error)}"
    return "" if error is None else str(error) or type(error).__name__


# ---------------------------------------------------------------- whether it has succeeded

_MEND = (
    "each line names the key and the error; fix the script or the data, then run the same command again: "
    "it continues from there, and replays them first"
)


class LeftDeadLetters(NamedTuple):
    """The outstanding dead letters of a run: the location of their file, and the numbers of those in doubt, of
    unreadable lines, of accepted ones, and of those that are tolerated."""

    where: str
    doubtful: int = 0
    unreadable: int = 0
    accepted: int = 0
    tolerated: int = 0


def completion_error(
    totals: Totals, splits: int, where: str, dead_letters: LeftDeadLetters, run: str = "RUN"
) -> DynamodtError | None:
    """The error of a run that has ended without success, or None. A dead letter in doubt is never tolerated: a person
    must look at its item (ADR 003), and may then accept it."""
    dead = totals.counts.dead - dead_letters.accepted
    if dead > dead_letters.tolerated or dead_letters.doubtful:
        items = counted(dead, "item")
        hint = _hint(dead, dead_letters.doubtful, dead_letters.unreadable, run)
        return DeadLetters(f"{items} could not be transformed or written", where=dead_letters.where, hint=hint)
    if totals.done < splits:
        return RunFailed(f"only {totals.done} of {splits} splits were read", where=where, hint="run it again")
    if not totals.counts.balanced:
        return RunFailed(f"the balance does not hold: {totals.counts}", where=where, hint="please report this as a bug")
    return None


def unreadable_hint(unreadable: int, run: str) -> Hint:
    """The hint to resolve unreadable lines of an export."""
    lines = "1 is a line" if unreadable == 1 else f"{unreadable:,} are lines"
    return (
        f'{lines} of the export\'s files (step "read") that no run with this export can read: '
        + suggest("undo", run)
        + ", and run the version with another export, or with --source scan"
    )


def _hint(dead: int, doubtful: int, unreadable: int, run: str) -> str:
    hints = (
        _MEND if dead > doubtful + unreadable else "",
        doubts_hint(doubtful, run) if doubtful else "",
        unreadable_hint(unreadable, run) if unreadable else "",
        "to accept them as they are: " + suggest("retry", run, accept_all=True, reason="TEXT"),
    )
    hint, *others = filter(None, hints)
    for other in others:
        hint += "; " + other
    return hint
