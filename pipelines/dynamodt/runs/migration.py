"""A table's way to another version: what stands in it, before anything is started, and what is told of it at the end,
wherever it has run.

`retry RUN`: what stands in the way of replaying a run's dead letters (guarantee G2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynamodt.errors import DynamodtError, Refused
from dynamodt.model.items import Direction
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import AppliedVersion, RunRecord
from dynamodt.model.tables import Stage
from dynamodt.runs.history import goal, report_of
from dynamodt.runs.options import GLUE, Observer, RunOptions
from dynamodt.runs.plan import TablePlan, plan_table, unprepared
from dynamodt.runs.preflight import note_other_key, refuse_restored, refuse_unsafe
from dynamodt.runs.recreated import check_not_recreated
from dynamodt.runs.resume import accepted, check_not_undoing, check_nothing_half_done
from dynamodt.runs.totals import totals_of
from dynamodt.script.versions import is_reversible
from dynamodt.state.phases import PARTLY_UNDONE, phases, unfinished
from dynamodt.state.state import State


@dataclass
class TableMigration:
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

    def plan(
        self,
        stage: Stage,
        folder: Path,
        to: int | None,
        options: RunOptions,
        observer: Observer,
    ) -> None:
        """Plan the way to version `to`, and check it. Raises what prevents it, before anything is started."""
        state, table = State(stage.connection, stage.state_table), self.table
        self.applied, runs = state.applied(table), state.runs(table)
        with_rows = options.runner != GLUE
        self.planned = planned = plan_table(stage, folder, table, self.direction, to, self.applied, runs, with_rows)
        check_not_undoing(run for run in runs if run.run not in planned.gone)
        refuse_restored(state, stage, planned, runs, self.applied)
        note_other_key(stage, planned, observer)
        if planned.steps:
            refuse_unsafe(stage, planned, options)
            _check_partly_restored(planned, runs, options)
        else:
            check_nothing_half_done(state, table, planned.gone)


def plan_migration(
    stage: Stage,
    folder: Path,
    table: str,
    direction: Direction,
    to: int | None,
    options: RunOptions,
    observer: Observer,
) -> TableMigration:
    """One table's plan to version `to`, or in `error` what prevents it: tables are independent of each other."""
    migration = TableMigration(table, direction)
    try:
        migration.plan(stage, folder, to, options, observer)
    except DynamodtError as error:
        migration.error = error
    return migration


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


def table_report(stage: Stage, move: TableMigration, reports: Sequence[RunReport] = ()) -> TableReport:
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


def _refused(stage: Stage, move: TableMigration) -> tuple[RunReport, ...]:
    """The run that the error refuses to go on with, as far as it has come."""
    if not isinstance(move.error, Refused) or not move.error.run:
        return ()
    state = State(stage.connection, stage.state_table)
    record = state.run(move.table, move.error.run)
    if record is None:
        return ()
    totals = totals_of(state, phases(record))
    report = report_of(replace(record, counts=totals.counts, consumed=totals.units))
    return (replace(report, status="refused", error=str(move.error)),)


def check_retriable(stage: Stage, state: State, record: RunRecord) -> None:
    """Raises Refused for a run that is over, that has no dead letters, or whose table is another one by now. Whether it
    is the unfinished one of its table is seen when the table is held."""
    where = f"table {record.table}"
    begins = f"a new run begins with: dynamodt {record.direction} --table {record.table}"
    if not unfinished(record.status):
        raise Refused(
            f"run {record.run} has ended ({record.status}): nothing of it is left to retry", where=where, run=record.run
        )
    if record.status == PARTLY_UNDONE:
        hint = f"restore what its journal lacks, then: dynamodt undo {record.run}"
        raise Refused(f"run {record.run} is undone in part", where=where, hint=hint, run=record.run)
    if record.status == "undoing":
        hint = f"finish it first: dynamodt undo {record.run}"
        raise Refused(f"run {record.run} is half undone", where=where, hint=hint, run=record.run)
    check_not_recreated(stage, record, hint=begins)
    if totals_of(state, phases(record)).counts.dead <= 0:
        command = f"dynamodt {record.direction} --table {record.table} --to {goal(record)}"
        hint = f"to go on with it: {command}"
        raise Refused(f"run {record.run} has no dead letters", where=where, hint=hint, run=record.run)
