"""Every command as a function: the Python interface, which the command line calls.

A table is named by its folder, or by its real name on the stage; an empty `names` means every table that has a folder
in `folder`/transforms. Reports have real names, which `stage.names` translates. Functions raise DynamodtError (see
`errors`); those of several tables collect each table's error in its report instead. They print nothing themselves, and
may be called in any thread; `check` limits the time of the author's calls in the main thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from heapq import merge
from pathlib import Path

from dynamodt.checks.check import CheckOptions, check_tables
from dynamodt.config import scaffold
from dynamodt.config.names import logical_names, named_in, with_names
from dynamodt.config.scaffold import declare as declare_tables
from dynamodt.config.scaffold import keys_here, parse_key, service_keys
from dynamodt.config.settings import Key
from dynamodt.config.stage import LOCAL, check_expected, load_stage
from dynamodt.deploy import on_glue
from dynamodt.doctor import doctor as examining
from dynamodt.doctor.deployment import DEPLOYED
from dynamodt.doctor.doctor import Examination
from dynamodt.dynamodb import table as tables_of_stage
from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.errors import DynamodtError, ScriptError, ServiceError, UsageError, suggest
from dynamodt.local import stage as local
from dynamodt.model.pages import Units
from dynamodt.model.reports import RunReport, TableCheck, TableReport, TableStatus, TakeOver, UndoReport
from dynamodt.model.runs import Lease, PreparedRef, RunRecord, RunState
from dynamodt.model.tables import Direction, Stage, TableSpec
from dynamodt.runs import baseline, validation
from dynamodt.runs import control as running
from dynamodt.runs import forecast as forecasting
from dynamodt.runs import plan as planning
from dynamodt.runs import prepare as preparing
from dynamodt.runs import runner as engine
from dynamodt.runs import show as showing
from dynamodt.runs import undo as undoing
from dynamodt.runs.context import Project
from dynamodt.runs.control import find_run, run_states, version_states, with_younger
from dynamodt.runs.cost import Spending
from dynamodt.runs.execute import migrate, migrate_up
from dynamodt.runs.forecast import Obstacle, TableForecast
from dynamodt.runs.history import goal
from dynamodt.runs.lock import attempt_in_turn
from dynamodt.runs.migration import TableMigration, plan_migration, table_report, warn_of_tolerated, with_refusals
from dynamodt.runs.options import GLUE, SAMPLE, Command, Observer, RunOptions
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.runs.preflight import with_untried_notices
from dynamodt.runs.provenance import with_caller
from dynamodt.runs.restored_tables import older_state_notice
from dynamodt.runs.resume import cannot_continue
from dynamodt.runs.retries import check_retriable, rehearse_retry
from dynamodt.runs.show import RunDetails
from dynamodt.runs.undo_checks import refusal_of, undoable
from dynamodt.runs.validation import Validation
from dynamodt.script.versions import statuses
from dynamodt.state.state import State


def open_stage(name: str, folder: Path, observer: Observer, tables: Sequence[str] = ()) -> Stage:
    """The stage, ready for use, with the real names of `tables` (default: all that have a folder). The embedded stage
    is started and seeded; a local one, and a service's without configuration, get their state table.

    Raises UsageError for a stage that is not configured and for a table's name that cannot be found, Refused for one
    that is not where the application was deployed, ServiceError for one that cannot be reached.
    """
    stage = load_stage(name, folder)
    check_expected(stage)
    if stage.embedded and not local.status(folder).running:
        observer.notify("starting the local stage")
    stage = with_names(local.open_stage(stage, folder, observer.notify), folder, tables)
    if stage.local:
        local.keep_out_of_git(stage, folder)
    if stage.makes_state_table:
        State(stage.connection, stage.state_table).ensure()
    return stage


def up(
    stage: Stage, folder: Path, names: Sequence[str], to: int | None, options: RunOptions, observer: Observer
) -> list[TableReport]:
    """Migrate tables up to version `to` (default: the latest). All are checked before the first is started: if one is
    refused, no table is migrated. Once started, they are independent of each other's errors; those of a dry run always
    are, except that no export is requested if one is refused."""
    project = Project(stage, folder, with_caller(options, folder), observer)
    chosen = project.tables(names)
    if options.runner == GLUE:
        return _on_glue(project, Command("up", tables=tuple(names), to=to, options=options), chosen)
    found = migrate_up(project, chosen, to, engine)
    if not options.dry_run:
        return warn_of_tolerated(found, observer)
    return with_refusals(project, with_untried_notices(project, found), to)


def down(
    stage: Stage, folder: Path, names: Sequence[str], to: int | None, options: RunOptions, observer: Observer
) -> list[TableReport]:
    """Roll these tables back to version `to` (default: by one; 0: to before the first); without names, none."""
    project = Project(stage, folder, with_caller(options, folder), observer)
    chosen = project.tables(names) if names else ()
    if options.runner == GLUE:
        return _on_glue(project, Command("down", tables=tuple(names), to=to, options=options), chosen)
    found = [migrate(project, name, "down", to, engine, Spending()) for name in chosen]
    return with_refusals(project, found, to) if options.dry_run else warn_of_tolerated(found, observer)


def undo(
    stage: Stage, folder: Path, names: Sequence[str], run: str, options: RunOptions, observer: Observer
) -> UndoReport:
    """Undo a run of these tables by its journal; see `runs.undo.undo`."""
    project = Project(stage, folder, options, observer)
    if options.runner == GLUE:
        record = undoable(project, project.tables(names), run)
        found = on_glue.undo(project, record)
        return replace(found, refusal=refusal_of(project, record)) if options.dry_run else found
    return undoing.undo(replace(project, options=with_caller(options, folder)), project.tables(names), run, engine)


def retry(
    stage: Stage, folder: Path, names: Sequence[str], run: str, options: RunOptions, observer: Observer
) -> list[TableReport]:
    """Continue an unfinished run of these tables, its dead letters first, or replay the dead letters of a run that has
    succeeded. Dead letters that the options accept are not replayed. Raises UsageError for a run that does not exist,
    and for a key without a dead letter, Refused where nothing is left to retry."""
    if (options.accept or options.accept_all) and not options.reason:
        raise UsageError("what is accepted needs a reason", where="--accept", hint="add it: --reason TEXT")
    project = Project(stage, folder, with_caller(options, folder), observer)
    record = find_run(project, project.tables(names), run)
    attempt_in_turn(
        project, record.table, lambda: check_retriable(project, find_run(project, [record.table], record.run))
    )
    project = replace(project, options=replace(project.options, only=record.run))
    if options.dry_run:
        return with_refusals(project, [rehearse_retry(project, record)], goal(record))
    if options.runner == GLUE:
        request = Command("retry", tables=(record.table,), run=record.run, options=replace(options, only=record.run))
        return _in_job(project, request, [plan_migration(project, record.table, record.direction, goal(record))])
    report = migrate(project, record.table, record.direction, goal(record), engine, Spending())
    if report.error is None and not report.versions:
        raise cannot_continue(record.run)
    return warn_of_tolerated([report], observer)


def history(stage: Stage, folder: Path, names: Sequence[str]) -> dict[str, list[RunRecord]]:
    """All runs of the tables, each table's in the order of their leases, the oldest first."""
    project = Project(stage, folder)
    return {name: project.state.runs(name) for name in project.tables(names)}


def show(stage: Stage, folder: Path, names: Sequence[str], run: str) -> RunDetails:
    """One run of these tables; see `runs.show.details`."""
    project = Project(stage, folder)
    return showing.details(project, project.tables(names), run)


def keys_to_accept(stage: Stage, folder: Path, names: Sequence[str], run: str) -> Iterator[str]:
    """The keys of a run's dead letters, as `retry` accepts them; see `runs.show.keys_of`."""
    project = Project(stage, folder)
    return showing.keys_of(project, project.tables(names), run)


def younger(stage: Stage, name: str, runs: Sequence[RunRecord], observer: Observer | None = None) -> str:
    """A sentence that a table was recreated since its last run; empty if not, or if the table cannot be described,
    which the observer is notified of."""
    try:
        spec = tables_of_stage.describe(stage.connection, name) if any(run.began for run in runs) else None
    except ServiceError as error:
        if observer is not None and error.what != NO_TABLE:
            observer.notify(f"whether the table was created again since its last run is not known: {error}")
        return ""
    return _recreated(spec, runs) if spec else ""


def _recreated(spec: TableSpec, runs: Sequence[RunRecord]) -> str:
    last = planning.last_run_before_recreation(spec, runs)
    return planning.recreated_sentence(spec, last) if last else ""


def status(stage: Stage, folder: Path, names: Sequence[str]) -> list[TableStatus]:
    """The states of the tables' versions: applied, pending, running, unfinished, edited or missing."""
    project = Project(stage, folder)
    found = [_status(project, name) for name in project.tables(names)]
    others = [] if names else running.without_files(project, [one.table for one in found])
    return found + [_compared(project, one, project.state.runs(one.table)) for one in others]


def _compared(project: Project, found: TableStatus, runs: Sequence[RunRecord]) -> TableStatus:
    """The status, with sentences that the table was recreated, or that the state table lacks its last run; with the
    error where the table or the storage cannot be read. Without either for a table that does not exist."""
    try:
        spec = tables_of_stage.describe(project.stage.connection, found.table)
        found = with_younger(found, _recreated(spec, runs))
        return replace(found, older_state=older_state_notice(project, spec))
    except DynamodtError as error:
        return found if error.what == NO_TABLE else replace(found, unread=error)


def forecast(
    stage: Stage, folder: Path, names: Sequence[str], to: int | None, options: RunOptions, sample: int = SAMPLE
) -> list[TableForecast]:
    """The estimated reads, writes, duration and cost of the tables' pending versions up to `to`, by a random sample of
    that many items, and the obstacles; nothing is written. An error of one table is in its forecast."""
    project = Project(stage, folder, options)
    found = [forecasting.forecast(project, name, to, sample) for name in project.tables(names)]
    lacking = on_glue.lacking_job(project) if options.runner == GLUE else None
    refused = (Obstacle("refused", str(lacking), lacking.hint, stops=True),) if lacking is not None else ()
    return [replace(one, obstacles=(*refused, *one.obstacles)) if one.versions else one for one in found]


def validate(folder: Path, names: Sequence[str] = ()) -> Validation:
    """Check the version files of tables, without a stage; see `runs.validation.validate`."""
    return validation.validate(folder, names)


def stamp(
    stage: Stage, folder: Path, name: str, to: int, observer: Observer, options: RunOptions = RunOptions()
) -> TakeOver:
    """Record that versions 1 to `to` of a table are applied, with the options' user and reason; see `runs.baseline`."""
    return baseline.stamp(Project(stage, folder, with_caller(options, folder), observer), stage.names.real(name), to)


def repair(stage: Stage, folder: Path, name: str, to: int | None, observer: Observer, options: RunOptions) -> TakeOver:
    """Accept the edits of a table's applied versions, with the options' user and reason; see `runs.baseline`."""
    return baseline.repair(Project(stage, folder, with_caller(options, folder), observer), stage.names.real(name), to)


def import_history(
    stage: Stage, folder: Path, name: str, observer: Observer, options: RunOptions = RunOptions()
) -> TakeOver:
    """Import a table's record of dynamo-data-transform, with the options' user and reason; see `runs.baseline`."""
    return baseline.import_history(
        Project(stage, folder, with_caller(options, folder), observer), stage.names.real(name)
    )


def control_run(stage: Stage, name: str, command: str, limits: Units = Units()) -> Lease:
    """`pause`, `resume`, `abort`, `unlock` or `throttle` the run that holds a table; see `runs.control.control_run`."""
    return running.control_run(stage, stage.names.real(name), command, limits)


def runs(stage: Stage, folder: Path, names: Sequence[str]) -> list[RunState]:
    """The runs of the tables with their present status, the newest first: those of one table in the reverse order of
    their leases, those of several tables by their ids."""
    project = Project(stage, folder)
    found = [run_states(project.state, name) for name in project.tables(names)]
    return list(merge(*found, key=lambda one: one.record.run, reverse=True))


def follow(stage: Stage, folder: Path, names: Sequence[str], watcher: ProgressRecorder) -> list[RunReport]:
    """Follow the active runs of the tables until they end; see `runs.control.follow_runs`."""
    project = Project(stage, folder)

    def count_items(name: str) -> int:
        return tables_of_stage.describe(stage.connection, name).item_count

    return running.follow_runs(project.state, project.tables(names), count_items, watcher)


def prepare(
    stage: Stage, folder: Path, name: str, version: int, observer: Observer, options: RunOptions = RunOptions()
) -> PreparedRef:
    """Run a version's `prepare` and store its rows, here or in the deployed job. A dry run only counts them. Of the
    options, the runner, the dry run and the limits of reads apply."""
    project, table = Project(stage, folder, options, observer), stage.names.real(name)
    script = next((one for one in project.versions(table) if one.sequence == version), None)
    if script is None:
        raise UsageError(f"there is no version {version} of {name}", hint=suggest("status", table=name))
    if not script.has_prepare:
        raise UsageError("the version has no prepare function", where=script.path, hint="it needs no prepared data")
    if options.runner == GLUE:
        stage = with_names(stage, folder, (table, *named_in(script, folder)))
        planning.check_script(script)  # before a job is started
        return on_glue.prepare(replace(project, stage=stage), script)
    return preparing.prepare(project, script)


def unprepared(stage: Stage, folder: Path, name: str, at: int) -> int:
    """The first version of a table above `at` whose prepared data is missing; 0: none."""
    project = Project(stage, folder)
    return planning.unprepared(project, project.versions(stage.names.real(name)), at)


def check(
    stage: Stage,
    folder: Path,
    names: Sequence[str],
    options: CheckOptions,
    observer: Observer,
    reading: RunOptions = RunOptions(),
) -> list[TableCheck]:
    """Try versions of tables on samples of their items; see `checks.check`. Of `reading`, the limits of reads apply."""
    project = Project(stage, folder, reading, observer)
    return check_tables(project, project.tables(names), options)


def declare(
    stage: str, folder: Path, names: Sequence[str], key: str = "", dry_run: bool = False
) -> tuple[dict[str, Key], Path | None]:
    """Give tables of the embedded stage their keys, in `dynamodt.toml`: `key` (as `pk:S,sk:N`) of one table, or without
    it those of the Serverless service in `folder`. Returns the keys, and the file if it was written; see
    `config.scaffold`."""
    if key and stage != LOCAL:
        hint = "leave it out: `init` takes the key of the stage's own table"
        raise UsageError("--key is for the stage `local`, which creates its tables", hint=hint)
    if key and len(names) > 1:
        raise UsageError("--key is of one table", hint=suggest("init", table=names[0], key="id:S"))
    if key:
        keys = {(names or ("users",))[0]: parse_key(key)}
    else:
        keys = {table: one for table, one in service_keys(folder).items() if not names or table in names}
    writes = stage == LOCAL and (key or load_stage(stage, folder).embedded)
    return keys, declare_tables(folder, keys, dry_run) if writes else None


def init(
    stage: Stage, folder: Path, names: Sequence[str], dry_run: bool = False, keys: Mapping[str, Key] = {}
) -> list[Path]:
    """Create a folder and a template for each table (default: all of the stage except dynamodt's own); returns the
    files. `keys` are those of tables that do not exist yet."""
    found = names or list(logical_names(stage, folder))
    if not found:
        hint = "name one, with its key: " + suggest("init", table="users", key="id:S")
        raise UsageError("the stage has no table yet", where=f"stage {stage.name}", hint=hint)
    known = {**keys, **{name: key for name in found if (key := _key_of(stage, name))}}
    return scaffold.init(folder / "transforms", found, known, dry_run=dry_run)


def without_table(stage: Stage, names: Sequence[str]) -> list[str]:
    """The names without an existing table, or with one that cannot be described."""
    return [name for name in names if not _key_of(stage, name)]


def _key_of(stage: Stage, name: str) -> Key:
    try:
        return tables_of_stage.describe(stage.connection, stage.names.real(name)).key
    except ServiceError:
        return ()


def doctor(
    name: str, folder: Path, names: Sequence[str], observer: Observer, *, full: bool = False, glue: bool = False
) -> Examination:
    """Examine the stage of this name; see `doctor.doctor.doctor`. `glue`: in its deployed job, too, and with `full` the
    assumptions of its deployment."""
    in_job, more = (on_glue.examine_in_job, DEPLOYED) if glue else (None, ())
    return examining.doctor(name, folder, names, observer, full=full, in_job=in_job, more=more)


def create(folder: Path, name: str, title: str, dry_run: bool = False) -> list[Path]:
    """Create the next version of a table, and its test, from the template; returns the files."""
    return scaffold.create(folder / "transforms", name, title, keys_here(folder).get(name, ()), dry_run=dry_run)


def _status(project: Project, name: str) -> TableStatus:
    """The status of one table; a fault of its folder is in `error`."""
    applied = project.state.applied(name)
    found, runs = TableStatus(name, max(applied, default=0), ()), running.runs_and_lease(project.state, name)
    try:
        versions = statuses(project.versions(name), applied)
        found = replace(found, versions=version_states(project.state, versions, runs, applied))
    except ScriptError as error:
        found = replace(found, error=error)
    return _compared(project, found, runs.records)


def _on_glue(project: Project, request: Command, tables: Sequence[str]) -> list[TableReport]:
    """Migrates the tables in the deployed job. The job gets the tables as they were typed, so that the same command
    finds its run again."""
    direction: Direction = "up" if request.command == "up" else "down"
    on_glue.wait_for_others(project, tables, request)
    return _in_job(project, request, [plan_migration(project, name, direction, request.to) for name in tables])


def _in_job(project: Project, request: Command, plans: Sequence[TableMigration]) -> list[TableReport]:
    reports = on_glue.migrate(project, plans, request)
    found = [table_report(project, plan, reports.get(plan.table, ())) for plan in plans]
    if not request.options.dry_run:
        return warn_of_tolerated(found, project.observer)
    return with_refusals(project, with_untried_notices(project, found), request.to)
