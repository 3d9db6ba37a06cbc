"""One table's migration: its plan with all checks before anything starts, and its report at the end.

It is the same for a run of this process and of a deployed job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dynamodt.errors import Busy, DeadLetters, DynamodtError, Refused, ServiceError, UsageError, suggest
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import AppliedVersion, RunRecord
from dynamodt.model.tables import Direction
from dynamodt.runs import preflight
from dynamodt.runs.cost import consumers_reported, requests_export
from dynamodt.runs.history import report_of
from dynamodt.runs.jobs import was_held_recently
from dynamodt.runs.lock import is_held
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.plan import TablePlan, plan_table, unprepared
from dynamodt.runs.restored_tables import check_state, refuse_other_rows, refuse_restored
from dynamodt.runs.resume import (
    Reopened,
    check_free,
    check_none_unfinished,
    check_not_undoing,
    check_unfinished,
    find_reopened,
    not_restored,
    reopened_record,
    versions_before,
)
from dynamodt.script.versions import Applied, is_reversible, newer_versions
from dynamodt.state.runs import phases, unfinished
from dynamodt.state.split_rows import totals_of

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.state.state import State


@dataclass
class TableMigration:
    """One table's migration, as planned; `error` is the error that prevents it, or that has ended it."""

    table: str
    direction: Direction
    applied: Mapping[int, AppliedVersion] = field(default_factory=dict)
    planned: TablePlan | None = None
    begins: bool = False  # the table has no history yet
    error: DynamodtError | None = None
    notices: tuple[str, ...] = ()  # of consumers of the writes, and of versions of a newer release
    held_back: bool = False  # not started, since another table of the command is refused

    @property
    def at(self) -> int:
        """The table's version when it was planned."""
        return max(self.applied, default=0)

    @property
    def reopens(self) -> Reopened | None:
        """The succeeded run that is continued, if any."""
        return self.planned.reopens if self.planned is not None else None

    @property
    def has_steps(self) -> bool:
        """Whether there is anything to run."""
        return self.error is None and self.planned is not None and bool(self.planned.steps)

    def compare(self, state: State) -> None:
        """Set `covered` of a Busy error: whether the other run applies the whole plan, or has applied it since."""
        ours = self.planned.goal if self.planned is not None else ""
        if not isinstance(self.error, Busy) or not ours:
            return
        last, theirs = int(ours.partition(" ")[0]), self.error.goal
        self.error.covered = theirs == ours or int(theirs.partition(" ")[0] or 0) > last
        if not self.error.covered:
            with suppress(ServiceError):
                self.error.covered = last in state.applied(self.table)

    def plan(self, project: Project, to: int | None, quiet: bool = False) -> None:
        """Plan the steps to version `to`, and check them. Raises the error that prevents them, before anything is
        started. With `quiet`, nothing is notified, and the consumers of the writes are not looked up."""
        stage, state, options, table = project.stage, project.state, project.options, self.table
        self.applied, runs = state.applied(table), state.runs(table)
        reopens = find_reopened(state, table, options.only, self.applied)
        applied = versions_before(self.applied, reopens)
        runs = [reopened_record(reopens) if reopens and one.run == reopens.record.run else one for one in runs]
        planned = plan_table(project, table, self.direction, to, applied, runs)
        lease = state.leases.read(table)
        planned = replace(preflight.with_writers(stage, planned, options), reopens=reopens, lease_token=lease.token)
        self.planned = planned = replace(planned, needs_consistent_read=was_held_recently(lease))
        self.begins = not runs and not self.applied
        if self.begins:
            _refuse_renamed(project, table)
        check_not_undoing(run for run in runs if run.run not in planned.former_runs)
        if not options.dry_run:  # it reports what its command would be refused for beside its result
            self._check_state(project, [run for run in runs if run.run not in planned.former_runs], quiet)
        refuse_restored(project, planned, runs, applied)
        refuse_other_rows(project, planned, runs)
        if not quiet:
            preflight.note_other_key(stage, planned, project.observer)
            preflight.note_changed_files(planned, applied, project.observer)
            preflight.note_other_prepared(planned, runs, project.observer)
            preflight.note_rows_of_former_table(planned, project.observer)
        if self.direction == "up":
            self.notices = _newer_reported(project, planned, applied, quiet)
            self.notices += preflight.first_use_reported(project, planned, quiet) if self.begins else ()
        if planned.steps:
            preflight.check_alarms(project)
            preflight.refuse_unsafe(stage, planned, options)
            _check_restored(planned, runs, options)
            preflight.check_exportable(stage, planned, runs, options)
            self.notices += () if quiet else consumers_reported(project, planned, runs)
        else:
            check_none_unfinished(state, table, planned.scripts, planned.former_runs)

    def _check_state(self, project: Project, runs: Sequence[RunRecord], quiet: bool) -> None:
        """Raises Refused for a state table that is older than the storage. Where nothing is to be done, the storage
        need not be readable, which is notified."""
        assert self.planned is not None
        try:
            check_state(project, self.planned.table, runs)
        except ServiceError as error:
            if self.planned.steps:
                raise
            if not quiet:
                what = f"whether the state table of {self.table} is older than the storage is not known"
                project.observer.notify(f"{what}: {error}")

    def check_prepared(self) -> None:
        """Raises the refusal that shortened a dry run's plan: a real run would be refused as a whole."""
        if self.planned is not None and self.planned.unprepared is not None:
            raise self.planned.unprepared


def plan_migration(
    project: Project, table: str, direction: Direction, to: int | None, quiet: bool = False
) -> TableMigration:
    """One table's plan to version `to`; `error` is the error that prevents it."""
    migration = TableMigration(table, direction)
    try:
        migration.plan(project, to, quiet)
    except DynamodtError as error:
        migration.error = error
    return migration


def plans_if_any_refused(project: Project, names: Sequence[str], to: int | None) -> list[TableMigration]:
    """The plans of `up` for these tables, if one of them is refused: no table is then started. Empty if none is
    refused; each table is then planned again before its run."""
    plans = [plan_migration(project, name, "up", to, quiet=True) for name in names]
    refuse(project, plans, check_unfinished)
    return plans if hold_back_if_any_refused(project.state, plans) else []


def not_exported(project: Project, names: Sequence[str], to: int | None) -> dict[str, TableMigration]:
    """The tables whose dry run of `up` would request an export, which costs money, while the command is refused for
    another table, as `up` would then start none. Each has that error."""
    real = replace(project, options=replace(project.options, dry_run=False))
    plans = [plan_migration(real, name, "up", to, quiet=True) for name in names]
    refuse(real, plans, check_unfinished)
    refused = next((plan for plan in plans if _is_final(project.state, plan)), None)
    if refused is None:
        return {}
    found = [
        plan for plan in plans if plan.planned and plan.has_steps and requests_export(plan.planned, project.options)
    ]
    for plan in found:
        what = f"no export is requested, since the command is refused for table {refused.table}: {refused.error}"
        hint = "mend that first, or try this table alone: " + suggest("up", table=plan.table, dry_run=True)
        plan.error = Refused(what, where=f"table {plan.table}", hint=hint)
    return {plan.table: plan for plan in found}


def with_refusals(project: Project, reports: Sequence[TableReport], to: int | None) -> list[TableReport]:
    """The reports of a dry run, with the refusal that the real command would meet now, also where the dry run has found
    dead letters."""
    tried = [report for report in reports if report.error is None or isinstance(report.error, DeadLetters)]
    errors = {report.table: _refusal_of_command(project, report.table, report.direction, to) for report in tried}
    return [replace(report, refusal=errors.get(report.table)) for report in reports]


def check_command(project: Project, table: str, direction: Direction, to: int | None) -> None:
    """Raises the refusal of the command, before its dry run requests an export or starts a job, which costs money. A
    table that another run holds is tried: that refusal ends with the run, and is reported beside the result."""
    refusal = _refusal_of_command(project, table, direction, to)
    if refusal is not None and not isinstance(refusal, Busy):
        raise refusal


def check_before_job(to: int | None, project: Project, planned: TablePlan) -> None:
    """Raises the refusal that a command to version `to`, or the command of a dry run, would meet in a deployed job."""
    if project.options.dry_run:
        check_command(project, planned.table.name, planned.direction, to)
    else:
        check_free(project, planned)


def _refusal_of_command(project: Project, table: str, direction: Direction, to: int | None) -> Refused | None:
    """The refusal that the command of a dry run would meet now; if a call is denied or fails, it is not known, which is
    notified. With `wait_lock`, it waits for a table that is held, and its refusals may be over then."""
    real = replace(project, options=replace(project.options, dry_run=False))
    plan = plan_migration(real, table, direction, to, quiet=True)
    refuse(real, [plan], check_unfinished if project.options.wait_lock else check_free)
    error = plan.error if isinstance(plan.error, Refused) else None
    if isinstance(plan.error, ServiceError):
        project.observer.notify(f"whether the command would be refused is not known: {plan.error}")
    if error is None or not project.options.wait_lock:
        return error
    return None if isinstance(error, Busy) or is_held(project.state.leases, table) else error


def refuse(project: Project, plans: Sequence[TableMigration], check: Callable[[Project, TablePlan], object]) -> None:
    """Run the check for each plan with steps, and set its `error` if the check raises one."""
    for plan in plans:
        if plan.planned is not None and plan.has_steps:
            try:
                check(project, plan.planned)
            except DynamodtError as error:
                plan.error = error


def hold_back_if_any_refused(state: State, plans: Sequence[TableMigration]) -> bool:
    """Hold back the tables that could be started, if another one is refused; returns whether one is.

    Only errors that the same command would meet again count: an error of a script or of the command, or a refusal (exit
    codes 2 and 3). A table that another run holds, or a service that does not respond, holds no other table back."""
    found = any(_is_final(state, plan) for plan in plans)
    for plan in plans:
        plan.held_back = found and plan.has_steps
    return found


def _is_final(state: State, plan: TableMigration) -> bool:
    if isinstance(plan.error, UsageError):
        return True
    return (
        isinstance(plan.error, Refused)
        and not isinstance(plan.error, Busy)
        and not is_held(state.leases, plan.table)  # it may be refused only while that run is in progress
    )


def _refuse_renamed(project: Project, table: str) -> None:
    """Raises Refused for a table without a history, if its logical name referred to another table that has one: it may
    be a copy of that table (a restored backup), to which versions would be applied twice."""
    stage, state = project.stage, project.state
    logical = stage.names.logical(table)
    before = state.real_name(stage, logical)
    if before in ("", table):
        return
    at = max(state.applied(before), default=0)
    left = [run for run in state.runs(before) if unfinished(run.status)]
    if at or left:
        raise _renamed(table, logical, before, at, left)


def _renamed(table: str, logical: str, before: str, at: int, left: Sequence[RunRecord]) -> Refused:
    unended = f", with the unfinished run {left[-1].run}" if left else ""
    return Refused(
        f"the name {logical} meant the table {before} until now, at version {at}{unended}, and now means {table}, "
        "which has no history: which versions are applied to it is not known",
        where=f"table {table}",
        hint=f"to continue with {before}, restore its name in dynamodt.toml; else look at the items, record which "
        "versions are applied, " + suggest("stamp", table=table, to="N") + " (0: none), and run the same command again",
    )


def _newer_reported(project: Project, planned: TablePlan, applied: Applied, quiet: bool) -> tuple[str, ...]:
    """A notice of the versions that a newer release has applied, if any: an older release that is deployed again keeps
    them as they are. Raises Refused with `strict`."""
    newer = [f"v{record.version}_{record.name}" for record in newer_versions(planned.scripts, applied)]
    if not newer:
        return ()
    one = len(newer) == 1
    what = f"{', '.join(newer)} {'is' if one else 'are'} applied, and {'has' if one else 'have'} no file here"
    if project.options.strict:
        hint = "use the release that has the files; or leave out --strict: what is applied stays as it is"
        raise Refused(what, where=f"table {planned.table.name}", hint=hint)
    why = "it is of a newer release, and stays as it is" if one else "they are of a newer release, and stay as they are"
    said = f"table {planned.table.name}: {what}: {why}"
    if not quiet:
        project.observer.notify(said)
    return (said,)


def _check_restored(planned: TablePlan, runs: Sequence[RunRecord], options: RunOptions) -> None:
    """Raises Refused if a new run would transform items that an undo has not restored in full. The first step's run
    may continue."""
    step = planned.steps[0]
    here = [run for run in runs if run.run not in planned.former_runs]
    begun = any(
        unfinished(run.status) and (run.version, run.direction) == (step.script.sequence, planned.direction)
        for run in here
    )
    not_restored(here, [one.script for one in planned.steps[begun:]], options)


def table_report(project: Project, migration: TableMigration, reports: Sequence[RunReport] = ()) -> TableReport:
    """A table's report: of its runs, or of the run whose continuation was refused."""
    reports = reports or _refused(project.state, migration)
    if migration.planned is None:
        return TableReport(migration.table, migration.direction, tuple(reports), migration.at, migration.error)
    at = migration.planned.at if reports else migration.at
    for report in reports:
        if report.status == "succeeded":
            at = report.version if migration.direction == "up" else report.version - 1
    scripts = migration.planned.scripts
    missing = 0 if migration.error else unprepared(project, scripts, at)
    reversible = any(is_reversible(script) for script in scripts if script.sequence == at)
    return TableReport(
        migration.table,
        migration.direction,
        tuple(reports),
        at,
        migration.error,
        migration.planned.latest,
        missing,
        reversible,
        (*migration.notices, *tolerated_sentences(reports)),
        migration.held_back,
    )


def tolerated_sentences(reports: Sequence[RunReport]) -> tuple[str, ...]:
    """A sentence for each run that has succeeded with dead letters that are not accepted."""
    return tuple(
        f"run {run.run} (version {run.version}, {run.name}) has {run.outcome}, listed in {run.dead_letters}; "
        + _replayed(reports[number:])
        for number, run in enumerate(reports, 1)
        if run.tolerated
    )


def _replayed(later: Sequence[RunReport]) -> str:
    """Whether `retry` replays the dead letters of a run that these runs have followed."""
    followed = next((one for one in later if one.status == "succeeded" or one.counts.changed), None)
    if followed is None:
        return "until a later version has run, `retry` replays what is listed"
    return f"version {followed.version} has run since, so that `retry` replays them only once that is undone"


def _refused(state: State, migration: TableMigration) -> tuple[RunReport, ...]:
    """The unfinished run whose continuation the error refuses, with its counts so far."""
    if not isinstance(migration.error, Refused) or not migration.error.run:
        return ()
    record = state.run(migration.table, migration.error.run)
    if record is None or not unfinished(record.status):
        return ()
    totals = totals_of(state, phases(record))
    report = report_of(replace(record, counts=totals.counts, consumed=totals.units))
    return (replace(report, status="refused", error=str(migration.error)),)


def warn_of_tolerated(reports: list[TableReport], observer: Observer) -> list[TableReport]:
    """The reports unchanged, after a warning for each run that has succeeded with dead letters."""
    for report in reports:
        for sentence in tolerated_sentences(report.versions):
            observer.notify(f"warning: {sentence}")
    return reports
