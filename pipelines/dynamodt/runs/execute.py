"""One table's run, in order::

    plan        `migration`: the versions to run, with every check before anything starts (`preflight`)
    lock        `lock`: the leases of the plan's tables; under them, which run continues (`resume`)
    phases      `jobs` makes them, `exports` finds the export to read, `dead_letters` adds replays; `context` runs them
    catching up `exports`: the phases after that of an export
    end         `recording`: every run that was begun is recorded, and reported

An error is raised where it occurs, and `migrate` collects it in the table's report, so that other tables are
independent of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dynamodt.errors import Busy, DynamodtError
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import ABORT, Fence, Job, RunRecord
from dynamodt.model.tables import Direction
from dynamodt.runs.budget import limit_budget
from dynamodt.runs.context import Follower, Project, RunContext, Runner, aborted, is_governed, run_phases
from dynamodt.runs.cost import Spending, check_export_spending, note_export, requests_export
from dynamodt.runs.dead_letters import (
    SkippedDeadLetters,
    check_replayable,
    retry_jobs,
    skipped_dead_letters,
    with_accepted_dead_letters,
)
from dynamodt.runs.exports import CatchingUp, SourceExport, export_already_read, source_export
from dynamodt.runs.history import RunRecorder
from dynamodt.runs.jobs import (
    EXPORT,
    NONE,
    begun_catch_up_phases,
    jobs,
    lease_replicas,
    moves_items,
    new_run,
    with_earlier_phases,
    without_earlier_phases,
)
from dynamodt.runs.lock import attempt_in_turn, hold_leases, take_rehearsal_lease
from dynamodt.runs.migration import TableMigration, check_command, not_exported, plans_if_any_refused, table_report
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.plan import Step, TablePlan
from dynamodt.runs.preflight import check_export, check_moment
from dynamodt.runs.recording import (
    check_under_lease,
    record_start,
    record_to_run,
    recorded_end,
    recorded_error,
    run_recorder,
)
from dynamodt.runs.resume import as_continued, fresh_record, unfinished_run


def migrate_up(project: Project, tables: Sequence[str], to: int | None, runner: Runner) -> list[TableReport]:
    """Bring the tables of one command up to version `to`, one after the other. If one is refused, none is started; a
    dry run then tries all that it can without the cost of an export."""
    held: dict[str, TableMigration] = {}
    if len(tables) > 1 and project.options.dry_run:
        held = not_exported(project, tables, to)
    elif len(tables) > 1:
        held = {plan.table: plan for plan in plans_if_any_refused(project, tables, to)}
    spending, rehearsed, reports = Spending(), list[Job](), list[TableReport]()
    try:
        for table in tables:
            if table in held:
                reports.append(table_report(project, held[table]))
            else:
                reports.append(migrate(project, table, "up", to, runner, spending, rehearsed))
    except (KeyboardInterrupt, SystemExit):
        _keep(project, [TableReport(table, "up", held_back=True) for table in tables[len(reports) + 1 :]])
        raise
    return reports


def _keep(project: Project, reports: Sequence[TableReport]) -> None:
    """Keep these reports for the result of a command that is stopped."""
    if isinstance(project.observer, ProgressRecorder):
        project.observer.tables += reports


def migrate(
    project: Project,
    table: str,
    direction: Direction,
    to: int | None,
    runner: Runner,
    spending: Spending,
    rehearsed: list[Job] | None = None,
) -> TableReport:
    """Bring one table to version `to` (None: `up` to the latest, `down` by one). A DynamodtError is in the report.
    `spending`: the cost of the command's runs on all tables; `rehearsed`: the phases of the command's dry runs, to
    which those of this table are added."""
    reports: list[RunReport] = []
    migration = TableMigration(table, direction)

    def attempt() -> None:
        nonlocal migration
        migration = TableMigration(table, direction)
        migration.plan(project, to)
        if migration.planned is not None and migration.has_steps:
            if project.options.dry_run and requests_export(migration.planned, project.options):
                check_command(project, table, direction, to)
            context = replace(RunContext.opened(project, runner), keep=reports.append, spending=spending)
            _run(context if rehearsed is None else replace(context, rehearsed=rehearsed), migration)
            migration.check_prepared()

    try:
        attempt_in_turn(project, table, attempt)
    except DynamodtError as error:
        migration.error = error
        migration.compare(project.state)
    report = table_report(project, migration, reports)
    _keep(project, [report])
    return report


def _run(context: RunContext, migration: TableMigration) -> None:
    planned = migration.planned
    assert planned is not None
    with _locked(context, planned) as (context, record):
        if context.state.applied(migration.table) != migration.applied:  # changed before the lease was taken
            raise Busy(f"{migration.table} has changed since it was planned", hint="run the same command again")
        if migration.begins and not context.options.dry_run:
            context.state.record_name(context.stage, context.stage.names.logical(migration.table), migration.table)
        _run_steps(context, planned, record)


# ---------------------------------------------------------------- lock


@contextmanager
def _locked(context: RunContext, planned: TablePlan) -> Iterator[tuple[RunContext, RunRecord]]:
    """Holds the leases of the plan's tables. Yields the context with its token, and the first run's record.

    Raises Busy while another run is active, Refused if a run of another version or direction is unfinished.
    """
    if context.options.dry_run:
        context = context.ready()
        record = as_continued(context, planned, fresh_record(planned, planned.steps[0], context.options))
        yield _dry_run_context(context, record.run), record
        return
    before = unfinished_run(context, planned)
    run = before.run if before else new_run()
    leases, table, notify = context.state.leases, planned.table.name, context.observer.notify
    with hold_leases(leases, table, planned.targets, run, notify, planned.goal) as (lease, fences):
        context = replace(context, token=lease.token, fences=fences)
        check_under_lease(context, planned, before)
        context = context.ready(table)
        record = record_to_run(context, planned, "" if before else run)
        if record.run != run:
            _name_run(context, table, record.run)
        yield context, record


def _dry_run_context(context: RunContext, run: str) -> RunContext:
    """The context under the lease of a dry run, which excludes no other run."""
    replicas = lease_replicas(context.options.workers)
    return replace(context, token=take_rehearsal_lease(context.state.leases, run, replicas))


def _name_run(context: RunContext, table: str, run: str) -> None:
    held: Iterable[Fence] = ((table, context.token), *context.fences)
    for name, token in held:
        context.state.leases.set(name, token, run=run)


# ---------------------------------------------------------------- phases


def _run_steps(context: RunContext, planned: TablePlan, record: RunRecord) -> None:
    """Run the steps in order, the first with the given record. Raises the error that ends a step, and Aborted if the
    run is aborted between two steps."""
    state, options, table = context.state, context.options, planned.table.name
    consistent = planned.needs_consistent_read or context.token > planned.lease_token + 1  # held since the plan
    for step in planned.steps:
        if step is not planned.steps[0]:
            consistent, record = True, fresh_record(planned, step, options)
            if options.dry_run:
                context = _dry_run_context(context, record.run)
            elif state.leases.read(table).stop == ABORT:
                raise aborted(record.run)
            else:
                _name_run(context, table, record.run)
        lease = f"dry-run/{record.run}" if options.dry_run else table
        limit_budget(context, lease, planned.table, step.target or planned.table)
        _run_step(context, replace(planned, needs_consistent_read=consistent), step, record)


def _run_step(context: RunContext, planned: TablePlan, step: Step, record: RunRecord) -> None:
    """Run one version, or continue its run. Raises the error that ended it, after recording the end."""
    step, recorder = step.of_run(record), run_recorder(context, planned, record)
    with recorded_error(context, recorder):
        context = with_accepted_dead_letters(context, recorder)
        skipped = skipped_dead_letters(context, recorder.record)  # may refuse: before an export is requested
        found = _source(context, planned, step, recorder)
        note_export(context, planned.table, recorder.record)
        main, again = _phases(context, planned, step, recorder, found, skipped)
        main = with_earlier_phases(main, context.rehearsed) if context.options.dry_run else main
        phases = [*again, *main]
        record_start(context, recorder, main, again)
    follower = Follower(context.state, phases, context.observer, begins=recorder.phase_begins)
    with recorded_end(context, recorder, phases, follower, _uncovered(context, found)):
        run_phases(context, phases, follower)
        if found is not None and not record.tolerated and all(map(follower.complete, phases)):
            export = next(job for job in main if job.export is not None)
            CatchingUp(context, recorder, found, export, phases, follower).run()
    context.rehearsed.extend(without_earlier_phases(main) if context.options.dry_run else ())


def _phases(
    context: RunContext,
    planned: TablePlan,
    step: Step,
    recorder: RunRecorder,
    found: SourceExport | None,
    skipped: SkippedDeadLetters,
) -> tuple[list[Job], list[Job]]:
    """The version's own phases, and those that replay the dead letters of earlier attempts."""
    source, record = found.source if found else None, recorder.record
    main = jobs(context, planned, step, record, source)
    main = [replace(skipped.of(job), governed=is_governed(context, job), fences=context.fences) for job in main]
    later = begun_catch_up_phases(record, main)
    again = retry_jobs(context, [*main, *later]) if record.attempts > 1 else []
    if context.options.only and not (context.options.accept or context.options.accept_all):
        check_replayable(context, main, again, retried=bool(record.retries))
    return [*main, *later] if record.tolerated else main, again


def _source(context: RunContext, planned: TablePlan, step: Step, recorder: RunRecorder) -> SourceExport | None:
    """The export that the step reads, if any."""
    if recorder.record.source != EXPORT or not moves_items(step.script, planned.direction):
        return None
    check_export(step.script, context.options.catch_up)
    if recorder.record.tolerated:  # all of it was read
        return export_already_read(recorder.record)
    recorder.begin()
    check_export_spending(context, planned.table, recorder.record)
    found = source_export(context, planned.table, recorder)
    if not (context.stage.local or context.options.dry_run):  # the stand-in's exports start at any moment
        check_moment(found, step.script, context.options.catch_up)
    return found


def _uncovered(context: RunContext, found: SourceExport | None) -> str:
    if found is None or found.until is None or context.options.catch_up != NONE:
        return ""
    return found.until.isoformat(timespec="seconds")
