"""One table's plan: the versions to run, each with the inputs of its run, checked before anything starts.

Runs record the identity of their tables. If it differs now (the table was deleted, and created again or restored from a
backup), a run's checkpoints and journal do not apply to the table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dynamodt.dynamodb import table as tables
from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.dynamodb.dynamo_data_transform import STATE, TOOL, read_record, record_key
from dynamodt.errors import DynamodtError, Hint, Refused, RunFailed, ServiceError, suggest
from dynamodt.model.runs import PreparedRef, RunRecord, Script
from dynamodt.model.tables import Direction, Stage, TableSpec
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.process import mute_beam
from dynamodt.runs.jobs import moves_items
from dynamodt.runs.options import GLUE
from dynamodt.script.apply import check_rows, table_of_rows
from dynamodt.script.functions import check
from dynamodt.script.names import check_no_state_table
from dynamodt.script.versions import Applied, plan
from dynamodt.state.runs import (
    REPLACED,
    TABLE,
    TAKEN_OVER,
    TARGET,
    facts_at_start,
    or_undo,
    unfinished,
    versions_with_unfinished_down,
    with_initial_settings,
)

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.runs.resume import Reopened


@dataclass(frozen=True, slots=True)
class Step:
    """One version to run, with the inputs of its run."""

    script: Script
    prepared: PreparedRef | None
    target: TableSpec | None
    began: Mapping[str, str] = field(default_factory=dict)  # the facts at the start of its run
    applied_by: str = ""  # of `down`: the run that has applied the version

    def of_run(self, record: RunRecord) -> Step:
        """The step with the settings that its run began with."""
        return replace(self, script=with_initial_settings(self.script, record.began))


@dataclass(frozen=True, slots=True)
class TablePlan:
    """The steps that bring one table to a version."""

    table: TableSpec
    direction: Direction
    steps: tuple[Step, ...]
    at: int  # the table's version
    scripts: tuple[Script, ...]  # all versions that have a file
    needs_consistent_read: bool = False  # after a recent write
    lease_token: int = 0  # of the last command that has held the table
    former_runs: frozenset[str] = frozenset()  # runs on a table of this name that was deleted since
    unprepared: Refused | None = None  # why a dry run ends after the last step
    reopens: Reopened | None = None  # the run that `retry` continues, if it has succeeded with dead letters

    @property
    def latest(self) -> int:
        return len(self.scripts)

    @property
    def targets(self) -> list[str]:
        """The other tables that the steps write to."""
        return sorted({step.target.name for step in self.steps if step.target})

    def rows_of(self, step: Step) -> str:
        """The run whose inserted rows a `down` deletes. Empty: it is unknown, or inserted them into a former table of
        this name. Equal rows are then those of the application."""
        return "" if step.applied_by in self.former_runs else step.applied_by

    @property
    def goal(self) -> str:
        """The version that the last run applies, in the form of `Lease.goal`; empty for `down`."""
        script = self.steps[-1].script if self.steps and self.direction == "up" else None
        return f"{script.sequence} {script.content}" if script else ""


def plan_table(
    project: Project, name: str, direction: Direction, to: int | None, applied: Applied, runs: Sequence[RunRecord] = ()
) -> TablePlan:
    """The steps of one table. The rows of `items()` are read, too, except for a deployed job, whose data may be
    elsewhere. A dry run is planned up to the first version without prepared data.

    Raises ScriptError for a file, Refused for the order, an irreversible step or missing prepared data, ServiceError
    for a missing table.
    """
    stage, files = project.stage, project.versions(name)
    spec = usable_table(stage, name)
    gone = runs_on_gone_tables(stage, spec, runs)
    here = [run for run in runs if run.run not in gone]
    try:
        scripts = plan(files, applied, direction, to, versions_with_unfinished_down(here))
    except Refused as error:
        raise _not_repaired_yet(error, here) from error
    if scripts:
        _check_imported(stage, spec, runs, applied)
    steps, unprepared = _steps(project, spec, scripts, direction)
    by = {number: version.run for number, version in applied.items()}
    steps = tuple(replace(step, applied_by=by.get(step.script.sequence, "")) for step in steps)
    return TablePlan(spec, direction, steps, max(applied, default=0), files, former_runs=gone, unprepared=unprepared)


def _not_repaired_yet(error: Refused, runs: Sequence[RunRecord]) -> DynamodtError:
    """The refusal of an edit. While a run is unfinished, the hint is to finish it, since `repair` would be refused."""
    left = next((run for run in runs if unfinished(run.status)), None)
    if left is None or not any(part[:1] == ("repair",) for part in error.hint.parts if isinstance(part, tuple)):
        return error
    what = f"revert the edit: run {left.run} (version {left.version}, {left.status}) must end first"
    return error.hinted(what + or_undo(left))


def pending_steps(project: Project, name: str, to: int | None, applied: Applied) -> TablePlan:
    """The plan of `up` according to the files alone, for a table that is refused: missing prepared data is None. Raises
    ScriptError for a file, ServiceError for a missing table."""
    files = project.versions(name)
    pending = [one for one in files if one.sequence not in applied and (to is None or one.sequence <= to)]
    found = {one.sequence: project.prepared_if_usable(one) for one in pending if one.has_prepare and one.has_up}
    steps = tuple(Step(one, found.get(one.sequence), usable_target(project.stage, one)) for one in pending)
    return TablePlan(usable_table(project.stage, name), "up", steps, max(applied, default=0), files)


def _steps(
    project: Project, spec: TableSpec, scripts: Sequence[Script], direction: Direction
) -> tuple[tuple[Step, ...], Refused | None]:
    """The steps of the scripts. A dry run has the steps before the first version without usable prepared data, and the
    refusal of that version. A run that lacks prepared data is refused, and so is a dry run that lacks that of its first
    version."""
    steps: list[Step] = []
    for script in scripts:
        _check_step(script, direction)
        try:
            uses = script.has_prepare and moves_items(script, direction)
            ref = project.prepared(script, spec) if uses else None
        except Refused as error:
            if not (project.options.dry_run and steps):
                raise
            return tuple(steps), error
        steps.append(_step(project, spec, script, direction, ref))
    return tuple(steps), None


def check_script(script: Script) -> None:
    """Execute a version file once and check its functions, without showing Beam's warnings at import. Raises
    ScriptError."""
    with mute_beam(), labelled(script):
        check(script)


def unprepared(project: Project, scripts: Sequence[Script], at: int) -> int:
    """The first version above `at` whose prepared data is missing; 0: none."""
    needed = (one for one in scripts if one.sequence > at and one.has_prepare and one.has_up)
    return next((one.sequence for one in needed if project.prepared_if_usable(one) is None), 0)


def usable_table(stage: Stage, name: str) -> TableSpec:
    """The table's description. Raises ServiceError for a missing table, Refused for a table that is not active, and for
    a state table."""
    check_no_state_table(stage, name)
    return _usable(stage, _describe(stage, name))


def check_usable(spec: TableSpec) -> None:
    """Raises Refused, with the next step, for a table whose state allows no reads and writes."""
    if spec.status not in tables.USABLE:
        hint = tables.STATE_HINTS.get(spec.status, "wait until it is ACTIVE")
        raise Refused(f"the table is {spec.status}", where=f"table {spec.name}", hint=hint)


def _usable(stage: Stage, spec: TableSpec) -> TableSpec:
    """The description, with the replicas of a legacy global table. Raises Refused for a table that is not active."""
    check_usable(spec)
    return spec if stage.local else tables.with_legacy_replicas(stage.connection, spec)


def _describe(stage: Stage, name: str, target_of: str = "") -> TableSpec:
    """The description of a table, or of the TARGET_TABLE of a file."""
    try:
        return tables.describe(stage.connection, name)
    except ServiceError as error:
        if stage.embedded and name not in stage.tables and error.what == NO_TABLE:
            table = stage.names.logical(name)
            hint = "name its key, by which the stage creates it: " + suggest("init", table=table, key="id:S")
            if target_of:  # it needs no folder
                toml = f'[stages.local.tables] {table} = {{ id = "S" }}'
                hint = Hint(f"declare its key in dynamodt.toml, by which the stage creates it: {toml}")
            where = f"{target_of}: TARGET_TABLE, {error.where}" if target_of else error.where
            raise ServiceError("the embedded stage has no such table", where=where, hint=hint) from error
        raise


def _check_imported(stage: Stage, spec: TableSpec, runs: Sequence[RunRecord], applied: Applied) -> None:
    """Raises Refused for a table whose versions another tool has applied, or rolled back, since its history was
    imported, if it was; a later `stamp` states what is applied in spite of that record."""
    key, statuses = record_key(spec), {run.status for run in runs}
    if key is None or "stamped" in statuses:
        return
    image = tables.get_attributes(stage.connection, spec.name, key, (STATE,))
    there = set(read_record(image, spec.name).versions) if image is not None and STATE in image else set[int]()
    if image is None or there == applied.keys():
        return
    if statuses <= TAKEN_OVER:
        raise _not_imported(spec, there, applied)
    if elsewhere := there - applied.keys() - {run.version for run in runs}:
        what = f"by the record of {TOOL}, version {max(elsewhere)} has run, and no run here has applied it"
        hint = "look at the items, and record which versions are applied: " + suggest("stamp", table=spec.name, to="N")
        raise Refused(what, where=f"table {spec.name}", hint=hint)


def _not_imported(spec: TableSpec, there: Collection[int], applied: Applied) -> Refused:
    hint = "import its history first: " + suggest("import-history", table=spec.name)
    if back := applied.keys() - there:
        what = f"{TOOL} has rolled back version {max(back)} since its history was imported"
        hint = "record which versions are applied: " + suggest("stamp", table=spec.name, to=max(there, default=0))
    elif applied:
        what = f"{TOOL} has run version {max(there)} since its history was imported"
    else:
        what = f"the table holds a record of {TOOL}, by which some versions have run already"
    return Refused(what, where=f"table {spec.name}", hint=hint)


def _check_step(script: Script, direction: Direction) -> None:
    """Executes the file once, so that its faults show before the first page is read. Raises ScriptError, Refused."""
    if script.target_table and direction == "down":
        raise Refused(
            f"version {script.sequence} wrote to {script.target_table}: `down` cannot revert that",
            where=script.path,
            hint="delete the target table when nothing reads it any more; or "
            + suggest("undo", "RUN")
            + " deletes what its run (see "
            + suggest("history")
            + ") has inserted, where that is unchanged",
        )
    check_script(script)


def _step(project: Project, table: TableSpec, script: Script, direction: Direction, ref: PreparedRef | None) -> Step:
    target = usable_target(project.stage, script)
    of_rows = table_of_rows(target or table, direction)
    with labelled(script):
        is_here = project.options.runner != GLUE
        rows = "" if not script.has_items else check_rows(script, of_rows) if is_here else None
    return Step(script, ref, target, facts_at_start(table, script, project.stage.storage.url, ref, target, rows))


def usable_target(stage: Stage, script: Script) -> TableSpec | None:
    """The description of the script's other table, if it has one. Raises as `usable_table`."""
    if script.target_table is None:
        return None
    check_no_state_table(stage, script.target_table, script.path)
    return _usable(stage, _describe(stage, script.target_table, script.path))


# ---------------------------------------------------------------- tables that were deleted and created again


def last_run_before_recreation(spec: TableSpec, runs: Sequence[RunRecord]) -> RunRecord | None:
    """The last of a table's runs, if the table was recreated since; None if it was not, or if this is unknown."""
    known = [run for run in runs if run.began.get(TABLE) and run.status not in REPLACED] if spec.identity else []
    last = known[-1] if known else None
    return last if last is not None and last.began[TABLE] != spec.identity else None


def recreated_sentence(spec: TableSpec, last: RunRecord) -> str:
    """The sentence about a table that is younger than its `last` run."""
    created = f", created {spec.created}" if spec.created else ""
    return (
        f"the table was created after its last run: it was deleted and created again (restored?){created}, after run "
        f"{last.run} ({last.direction} of version {last.version}, {last.status})"
    )


def runs_on_gone_tables(stage: Stage, spec: TableSpec, runs: Sequence[RunRecord]) -> frozenset[str]:
    """The runs whose written table was deleted since, with their writes. `spec` is the table that they read."""
    identities = {spec.name: spec.identity}
    return frozenset(run.run for run in runs if _is_gone(stage, run, identities))


def _is_gone(stage: Stage, run: RunRecord, identities: dict[str, str]) -> bool:
    name, then = (run.target, run.began.get(TARGET)) if run.target else (run.table, run.began.get(TABLE))
    if not then or (run.target and not unfinished(run.status)):
        return False
    if name not in identities:
        identities[name] = _identity(stage, name)
    return bool(identities[name]) and identities[name] != then


def _identity(stage: Stage, name: str) -> str:
    try:
        return tables.describe(stage.connection, name).identity
    except ServiceError as error:
        if error.what == NO_TABLE:
            return "no table"
        raise


def recreated_during_run(project: Project, record: RunRecord) -> RunFailed | None:
    """The error of a run at whose end one of its tables is not the one that it began with; None if they are, or if
    they cannot be described, which is notified."""
    for name, then in ((record.table, TABLE), (record.target, TARGET)):
        try:
            if record.began.get(then) and _identity(project.stage, name) not in ("", record.began[then]):
                what = "the table was deleted during the run, and another one has its name, or none"
                hint = "restore it from before the run; or look at its items, and record which versions are applied: "
                return RunFailed(what, where=f"table {name}", hint=hint + suggest("stamp", table=record.table, to="N"))
        except ServiceError as error:
            project.observer.notify(f"whether the table was deleted during the run is not known: {error}")
    return None


def check_not_recreated(stage: Stage, record: RunRecord, hint: str = "") -> None:
    """Raises Refused if the table to which a run has written was recreated: its journal does not apply to the items.
    `hint` is an alternative to an undo."""
    name, then = (record.target, TARGET) if record.target else (record.table, TABLE)
    if not record.began.get(then):
        return
    spec = tables.describe(stage.connection, name)
    if spec.identity in ("", record.began[then]):
        return
    raise Refused(
        f"run {record.run} wrote to another table of this name: {name} was deleted and created again since"
        + (f", {spec.created}" if spec.created else ""),
        where=f"table {name}",
        hint=hint
        or "its journal does not apply to the present items. To record which versions are applied: "
        + suggest("stamp", table=record.table, to="N"),
        run=record.run,
    )
