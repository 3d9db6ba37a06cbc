"""The end of a run: whether it has succeeded, its record, and its report.

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
from dynamodt.model.runs import Job
from dynamodt.pipeline.process import signal_name
from dynamodt.runs.context import Follower, RunContext
from dynamodt.runs.cost import with_expected_cost
from dynamodt.runs.dead_letters import count_dead, first_dead_letter, gather_dead_letters, samples
from dynamodt.runs.history import RunRecorder, doubts_hint, unrecorded_notice
from dynamodt.runs.jobs import NEW
from dynamodt.runs.plan import recreated_during_run
from dynamodt.state.object_keys import DEAD_LETTERS_FILE, key_of_job
from dynamodt.state.runs import next_status


@contextmanager
def recorded_end(
    context: RunContext, recorder: RunRecorder, phases: list[Job], follower: Follower, uncovered: str
) -> Iterator[None]:
    """Records and reports the end of the phases; then raises the error that ended them, or the reason why they did not
    succeed."""
    error: BaseException | None = None
    try:
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
        error = error or recreated_during_run(context.stage, recorder.record)
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
