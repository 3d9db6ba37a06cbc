"""A table's way to another version: what stands in it, before anything is started, and what is told of it at the end,
wherever it has run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynamodt.aws.state import State
from dynamodt.control.planner import TablePlan, plan_table, unprepared
from dynamodt.control.requests import GLUE, Observer, RunOptions
from dynamodt.control.running.history import report_of
from dynamodt.control.running.precautions import note_other_key, refuse_unsafe
from dynamodt.control.running.restored import refuse_restored
from dynamodt.control.running.resuming import accepted, check_not_undoing, check_nothing_half_done
from dynamodt.core.lifecycle import unfinished
from dynamodt.core.passes import passes
from dynamodt.core.versions import is_reversible
from dynamodt.errors import DynamodtError, Refused
from dynamodt.model import AppliedVersion, Direction, RunRecord, RunReport, Stage, TableReport, Totals


@dataclass
class Move:
    """One table's way, as it was planned; `error` is what stands in it, or what has ended it."""

    table: str
    direction: Direction
    applied: Mapping[int, AppliedVersion] = field(default_factory=dict)
    planned: TablePlan | None = None
    error: DynamodtError | None = None

    @property
    def at(self) -> int:
        """The version that the table stood at when it was planned."""
        return max(self.applied, default=0)

    @property
    def has_steps(self) -> bool:
        """Whether there is anything to run."""
        return self.error is None and self.planned is not None and bool(self.planned.steps)


def plan_move(
    stage: Stage,
    folder: Path,
    table: str,
    direction: Direction,
    to: int | None,
    options: RunOptions,
    observer: Observer,
) -> Move:
    """One table's way to version `to`. It raises nothing of ours: tables are independent of each other's failures."""
    move = Move(table, direction)
    try:
        state = State(stage.connection, stage.state_table)
        move.applied = state.applied(table)
        runs = state.runs(table)
        with_rows = options.runner != GLUE
        move.planned = plan_table(stage, folder, table, direction, to, move.applied, runs, with_rows)
        check_not_undoing(run for run in runs if run.run not in move.planned.gone)
        refuse_restored(stage, move.planned, runs, move.applied)
        note_other_key(stage, move.planned, observer)
        if move.planned.steps:
            refuse_unsafe(stage, move.planned, options)
            _check_partly_restored(move.planned, runs, options)
        else:
            check_nothing_half_done(state, table, move.planned.gone)
    except DynamodtError as error:
        move.error = error
    return move


def _check_partly_restored(planned: TablePlan, runs: Sequence[RunRecord], options: RunOptions) -> None:
    """Raises Refused where items that were restored in part would be transformed by a run that begins now."""
    step = planned.steps[0]
    here = [run for run in runs if run.run not in planned.gone]
    begun = any(
        unfinished(run.status) and (run.version, run.direction) == (step.script.sequence, planned.direction)
        for run in here
    )
    if not begun:
        accepted(here, options)


def table_report(stage: Stage, move: Move, reports: Sequence[RunReport] = ()) -> TableReport:
    """What has become of a table, by what its runs came to, or of the run that it was refused to go on with."""
    reports = reports or _refused(stage, move)
    if move.planned is None:
        return TableReport(move.table, move.direction, tuple(reports), move.at, move.error)
    at = move.at
    for report in reports:
        if report.status == "succeeded":
            at = report.version if move.direction == "up" else report.version - 1
    scripts = move.planned.scripts
    missing = 0 if move.error else unprepared(stage, scripts, at)
    reversible = all(is_reversible(script) for script in scripts if script.sequence == at)
    return TableReport(
        move.table, move.direction, tuple(reports), at, move.error, move.planned.latest, missing, reversible
    )


def _refused(stage: Stage, move: Move) -> tuple[RunReport, ...]:
    """The run that the error refuses to go on with, as far as it has come."""
    if not isinstance(move.error, Refused) or not move.error.run:
        return ()
    state = State(stage.connection, stage.state_table)
    record = state.run(move.table, move.error.run)
    if record is None:
        return ()
    totals = Totals()
    for each in passes(record):
        totals = totals.plus(state.units(each.run).totals(each.units))
    report = report_of(replace(record, counts=totals.counts, consumed=totals.units))
    return (replace(report, status="refused", error=str(move.error)),)
