"""Every command as a function: the Python interface, which the command line calls.

A table is named by its folder, or by its real name on the stage; an empty `names` means every table that has a folder
in `folder`/transforms. Reports have real names, which `stage.names` translates. Functions raise DynamodtError (see
`errors`); those of several tables collect each table's error in its report instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from dynamodt.checks.check import CheckOptions, check_tables
from dynamodt.checks.findings import TableCheck
from dynamodt.config import scaffold
from dynamodt.config.declare import declare as declare_tables
from dynamodt.config.declare import keys_here, parse_key
from dynamodt.config.names import logical_names, named_in, with_names
from dynamodt.config.serverless import service_keys
from dynamodt.config.settings import Key
from dynamodt.config.stage import LOCAL, check_expected, load_stage
from dynamodt.deploy import on_glue
from dynamodt.doctor import doctor as examining
from dynamodt.doctor.deployment import DEPLOYED
from dynamodt.doctor.doctor import Examination
from dynamodt.dynamodb import table as tables_of_stage
from dynamodt.errors import ScriptError, ServiceError, UsageError, suggest
from dynamodt.local import stage as local
from dynamodt.model.pages import Units
from dynamodt.model.reports import RunReport, TableReport, TableStatus, TakeOver, UndoReport
from dynamodt.model.runs import Lease, PreparedRef, RunRecord, RunState
from dynamodt.model.tables import Direction, Stage
from dynamodt.runs import baseline, validation
from dynamodt.runs import control as running
from dynamodt.runs import forecast as forecasting
from dynamodt.runs import plan as planning
from dynamodt.runs import prepare as preparing
from dynamodt.runs import runner as engine
from dynamodt.runs import show as showing
from dynamodt.runs import undo as undoing
from dynamodt.runs.control import find_run, run_states, version_states, with_younger
from dynamodt.runs.cost import Spending
from dynamodt.runs.execute import migrate
from dynamodt.runs.forecast import TableForecast
from dynamodt.runs.history import goal
from dynamodt.runs.lock import in_turn
from dynamodt.runs.migration import (
    TableMigration,
    check_retriable,
    hold_back,
    plan_migration,
    refused_together,
    table_report,
    with_warnings,
)
from dynamodt.runs.options import GLUE, SAMPLE, Command, Observer, RunOptions
from dynamodt.runs.pace import ProgressRecorder, as_watcher
from dynamodt.runs.preflight import with_untried_notices
from dynamodt.runs.provenance import signed
from dynamodt.runs.resume import check_free, not_unfinished
from dynamodt.runs.retry_rehearsal import rehearse_retry
from dynamodt.runs.show import RunDetails
from dynamodt.runs.validation import Validation
from dynamodt.script.read import read_versions, tables
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
    refused, none is. Once started, they are independent of each other's errors; those of a dry run always are."""
    chosen = _chosen(stage, folder, names)
    if options.runner == GLUE:
        return _on_glue(stage, folder, Command("up", tables=tuple(names), to=to, options=options), chosen, observer)
    if len(chosen) > 1 and not options.dry_run and (plans := refused_together(stage, folder, chosen, to, options)):
        return [table_report(stage, plan) for plan in plans]
    options, spending = signed(options, folder), Spending()
    found = [migrate(stage, folder, name, "up", to, options, observer, engine, spending) for name in chosen]
    return with_untried_notices(stage, folder, found, observer) if options.dry_run else with_warnings(found, observer)


def down(
    stage: Stage, folder: Path, names: Sequence[str], to: int | None, options: RunOptions, observer: Observer
) -> list[TableReport]:
    """Roll tables back to version `to` (default: by one; 0: to before the first)."""
    chosen = [stage.names.real(name) for name in names]
    if options.runner == GLUE:
        return _on_glue(stage, folder, Command("down", tables=tuple(names), to=to, options=options), chosen, observer)
    options = signed(options, folder)
    return with_warnings(
        [migrate(stage, folder, name, "down", to, options, observer, engine) for name in chosen], observer
    )


def undo(
    stage: Stage, folder: Path, names: Sequence[str], run: str, options: RunOptions, observer: Observer
) -> UndoReport:
    """Undo a run of these tables by its journal; see `runs.undo.undo`."""
    chosen = _chosen(stage, folder, names)
    if options.runner == GLUE:
        record = undoing.undoable(stage, chosen, run, options, observer)
        return on_glue.undo(stage, folder, record, options, as_watcher(observer))
    return undoing.undo(stage, chosen, run, signed(options, folder), observer, engine)


def retry(
    stage: Stage, folder: Path, names: Sequence[str], run: str, options: RunOptions, observer: Observer
) -> list[TableReport]:
    """Continue an unfinished run of these tables, its dead letters first, or replay those of a run that has succeeded
    with some; what the options accept is not replayed. Raises UsageError for a run that does not exist, and for a key
    without a dead letter, Refused where nothing is left to retry."""
    if (options.accept or options.accept_all) and not options.reason:
        raise UsageError("what is accepted needs a reason", where="--accept", hint="add it: --reason TEXT")
    state = State(stage.connection, stage.state_table)
    record = find_run(state, _chosen(stage, folder, names), run, stage)

    def retriable() -> None:
        check_retriable(stage, state, find_run(state, [record.table], record.run), options)

    in_turn(state.leases, record.table, options, observer.notify, retriable)
    options = replace(options, only=record.run)
    if options.dry_run:
        return [rehearse_retry(stage, folder, record, options, observer)]
    if options.runner == GLUE:
        request = Command("retry", tables=(record.table,), run=record.run, options=options)
        move = plan_migration(stage, folder, record.table, record.direction, goal(record), options, observer)
        return _in_job(stage, folder, request, [move], observer)
    to, options = goal(record), signed(options, folder)
    report = migrate(stage, folder, record.table, record.direction, to, options, observer, engine)
    if report.error is None and not report.versions:
        raise not_unfinished(record.run)
    return with_warnings([report], observer)


def history(stage: Stage, folder: Path, names: Sequence[str]) -> dict[str, list[RunRecord]]:
    """All runs of the tables, the oldest first."""
    state = State(stage.connection, stage.state_table)
    return {name: state.runs(name) for name in _chosen(stage, folder, names)}


def show(stage: Stage, folder: Path, names: Sequence[str], run: str) -> RunDetails:
    """One run of these tables; see `runs.show.details`."""
    return showing.details(stage, _chosen(stage, folder, names), run)


def keys_to_accept(stage: Stage, folder: Path, names: Sequence[str], run: str) -> Iterator[str]:
    """The keys of a run's dead letters, as `retry` accepts them; see `runs.show.keys_of`."""
    return showing.keys_of(stage, _chosen(stage, folder, names), run)


def younger(stage: Stage, name: str, runs: Sequence[RunRecord]) -> str:
    """A sentence that a table was recreated since its last run; empty if not, or if the table cannot be described."""
    try:
        spec = tables_of_stage.describe(stage.connection, name) if any(run.began for run in runs) else None
    except ServiceError:
        return ""
    last = planning.younger(spec, runs) if spec else None
    return planning.younger_reported(spec, last) if spec and last else ""


def status(stage: Stage, folder: Path, names: Sequence[str]) -> list[TableStatus]:
    """Which versions of the tables are applied, pending, running, unfinished, edited or missing."""
    state = State(stage.connection, stage.state_table)
    found = [_status(stage, state, folder, name) for name in _chosen(stage, folder, names)]
    found += [] if names else running.without_files(state, stage, [one.table for one in found])
    return [with_younger(one, younger(stage, one.table, state.runs(one.table))) for one in found]


def forecast(
    stage: Stage, folder: Path, names: Sequence[str], to: int | None, options: RunOptions, sample: int = SAMPLE
) -> list[TableForecast]:
    """The estimated reads, writes, duration and cost of the tables' pending versions up to `to`, by a random sample of
    that many items, and the obstacles; nothing is written. An error of one table is in its forecast."""
    return [forecasting.forecast(stage, folder, name, to, options, sample) for name in _chosen(stage, folder, names)]


def validate(folder: Path, names: Sequence[str] = ()) -> Validation:
    """Check the version files of tables, without a stage; see `runs.validation.validate`."""
    return validation.validate(folder, names)


def stamp(
    stage: Stage, folder: Path, name: str, to: int, observer: Observer, options: RunOptions = RunOptions()
) -> TakeOver:
    """Record that versions 1 to `to` of a table are applied, with who and why of the options; see `runs.baseline`."""
    return baseline.stamp(stage, folder, stage.names.real(name), to, observer, signed(options, folder))


def repair(stage: Stage, folder: Path, name: str, to: int | None, observer: Observer, options: RunOptions) -> TakeOver:
    """Accept the edits of a table's applied versions, with who and why of the options; see `runs.baseline`."""
    return baseline.repair(stage, folder, stage.names.real(name), to, observer, signed(options, folder))


def import_history(
    stage: Stage, folder: Path, name: str, observer: Observer, options: RunOptions = RunOptions()
) -> TakeOver:
    """Import a table's record of dynamo-data-transform, with who and why of the options; see `runs.baseline`."""
    return baseline.import_history(stage, folder, stage.names.real(name), observer, signed(options, folder))


def control_run(stage: Stage, name: str, command: str, limits: Units = Units()) -> Lease:
    """`pause`, `resume`, `abort`, `unlock` or `throttle` the run that holds a table; see `runs.control.control_run`."""
    return running.control_run(stage, stage.names.real(name), command, limits)


def runs(stage: Stage, folder: Path, names: Sequence[str]) -> list[RunState]:
    """The runs of the tables with their present status, the newest first."""
    state = State(stage.connection, stage.state_table)
    found = [run for name in _chosen(stage, folder, names) for run in run_states(state, name)]
    return sorted(found, key=lambda one: one.record.run, reverse=True)


def follow(stage: Stage, folder: Path, names: Sequence[str], watcher: ProgressRecorder) -> list[RunReport]:
    """Follow the active runs of the tables until they end; see `runs.control.follow_runs`."""
    state = State(stage.connection, stage.state_table)

    def count_items(name: str) -> int:
        return tables_of_stage.describe(stage.connection, name).item_count

    return running.follow_runs(state, _chosen(stage, folder, names), count_items, watcher)


def prepare(
    stage: Stage, folder: Path, name: str, version: int, observer: Observer, options: RunOptions = RunOptions()
) -> PreparedRef:
    """Run a version's `prepare` and store its rows, here or in the deployed job. A dry run only counts them. Of the
    options, the runner, the dry run and the limits of reads apply."""
    table = stage.names.real(name)
    script = next((s for s in read_versions(folder / "transforms", table, stage.names) if s.sequence == version), None)
    if script is None:
        raise UsageError(f"there is no version {version} of {name}", hint=suggest("status", table=name))
    if not script.has_prepare:
        raise UsageError("the version has no prepare function", where=script.path, hint="it needs no prepared data")
    if options.runner == GLUE:
        stage = with_names(stage, folder, (table, *named_in(script, folder)))
        return on_glue.prepare(stage, folder, script, options, as_watcher(observer))
    return preparing.prepare(stage, folder, script, observer, options)


def unprepared(stage: Stage, folder: Path, name: str, at: int) -> int:
    """The first version of a table above `at` whose prepared data is missing; 0: none."""
    return planning.unprepared(stage, read_versions(folder / "transforms", stage.names.real(name), stage.names), at)


def check(
    stage: Stage,
    folder: Path,
    names: Sequence[str],
    options: CheckOptions,
    observer: Observer,
    reading: RunOptions = RunOptions(),
) -> list[TableCheck]:
    """Try versions of tables on samples of their items; see `checks.check`. Of `reading`, the limits of reads apply."""
    return check_tables(stage, folder, _chosen(stage, folder, names), options, reading, observer.notify)


def declare(
    stage: str, folder: Path, names: Sequence[str], key: str = "", dry_run: bool = False
) -> tuple[dict[str, Key], Path | None]:
    """Give tables of the embedded stage their keys, in `dynamodt.toml`: `key` (as `pk:S,sk:N`) of one table, or without
    it those of the Serverless service in `folder`. Returns the keys, and the file if it was written; see
    `config.declare`."""
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
    """Create a folder and a template for each table (default: all of the stage but our own); returns the files. `keys`
    are those of tables that do not exist yet."""
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
    """Examine the stage of this name; see `doctor.doctor.doctor`. `glue`: in its deployed job, too, and with `full`
    what its deployment relies on."""
    recorder = as_watcher(observer)
    in_job = partial(on_glue.examined, folder, recorder) if glue else None
    return examining.doctor(name, folder, names, recorder, full=full, in_job=in_job, more=DEPLOYED if glue else ())


def create(folder: Path, name: str, title: str, dry_run: bool = False) -> list[Path]:
    """Create the next version of a table, and its test, from the template; returns the files."""
    return scaffold.create(folder / "transforms", name, title, keys_here(folder).get(name, ()), dry_run=dry_run)


def _chosen(stage: Stage, folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The real names of these tables, or of all that have a folder. Raises UsageError if there is none."""
    if found := tuple(map(stage.names.real, names)) or tables(folder / "transforms", stage.names):
        return found
    hint = "name the table: --table TABLE; or begin with one: " + suggest("init", table="users")
    raise UsageError("transforms/ holds no table", hint=hint)


def _status(stage: Stage, state: State, folder: Path, name: str) -> TableStatus:
    """The status of one table; a fault of its folder is in `error`."""
    applied = state.applied(name)
    at = max(applied, default=0)
    try:
        versions = statuses(read_versions(folder / "transforms", name, stage.names), applied)
    except ScriptError as error:
        return TableStatus(name, at, (), error)
    return TableStatus(name, at, version_states(state, name, versions, applied))


def _on_glue(
    stage: Stage, folder: Path, request: Command, tables: Sequence[str], observer: Observer
) -> list[TableReport]:
    """Migrates the tables in the deployed job. It is given the tables as they were typed, so that the same command
    finds it again."""
    direction: Direction = "up" if request.command == "up" else "down"
    on_glue.wait_for_others(stage, folder, tables, request, as_watcher(observer))
    plans = [plan_migration(stage, folder, name, direction, request.to, request.options, observer) for name in tables]
    return _in_job(stage, folder, request, plans, observer)


def _in_job(
    stage: Stage, folder: Path, request: Command, plans: Sequence[TableMigration], observer: Observer
) -> list[TableReport]:
    reports = on_glue.migrate(stage, folder, plans, request, as_watcher(observer), check_free, hold_back)
    return with_warnings([table_report(stage, plan, reports.get(plan.table, ())) for plan in plans], observer)
