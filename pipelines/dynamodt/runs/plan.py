"""One table's plan: the versions to run, each with all that its run needs, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dynamodt.dynamodb import table as tables
from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.dynamodb.dynamo_data_transform import STATE, TOOL, has_applied_versions, record_key
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.items import Direction
from dynamodt.model.runs import (
    AppliedVersion,
    PreparedRef,
    RunRecord,
    Script,
)
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.pipeline.process import muted_beam
from dynamodt.runs.jobs import moves_items, needs_consistent_read
from dynamodt.runs.recreated import runs_on_gone_tables
from dynamodt.script.functions import check
from dynamodt.script.names import check_no_state_table
from dynamodt.script.rows import checked_rows
from dynamodt.script.versions import plan, read_versions
from dynamodt.state import prepared
from dynamodt.state.phases import half_rolled_back
from dynamodt.state.started_with import started_with
from dynamodt.state.storage import open_storage


@dataclass(frozen=True, slots=True)
class Step:
    """One version to run, with all that its run needs but the run itself."""

    script: Script
    prepared: PreparedRef | None
    target: TableSpec | None
    began: Mapping[str, str] = field(default_factory=dict)  # what a run of it starts with
    applied_by: str = ""  # on the way down: the run by which the version stands


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table's way to the version asked for."""

    table: TableSpec
    direction: Direction
    steps: tuple[Step, ...]
    at: int  # the version that the table stands at
    scripts: tuple[Script, ...]  # all versions that there is a file for
    needs_consistent_read: bool = False  # by a version before: read with strong consistency
    gone: frozenset[str] = frozenset()  # runs that wrote to a table that was deleted since

    @property
    def latest(self) -> int:
        return len(self.scripts)


def plan_table(
    stage: Stage,
    folder: Path,
    name: str,
    direction: Direction,
    to: int | None,
    applied: Mapping[int, AppliedVersion],
    runs: Sequence[RunRecord] = (),
    with_rows: bool = True,
) -> TablePlan:
    """The steps of one table. `with_rows`: the rows of `items()` are looked at; what they are made of may be elsewhere.

    Raises whatever stands in the way, before anything is started: ScriptError for a file, Refused for the order, an
    irreversible step or missing prepared data, ServiceError for a table that is not there.
    """
    files = read_versions(folder / "transforms", name)
    spec = usable_table(stage, name)
    gone = runs_on_gone_tables(stage, spec, runs)
    scripts = plan(files, applied, direction, to, half_rolled_back(run for run in runs if run.run not in gone))
    if direction == "up" and scripts and not applied:
        _check_adopted(stage, spec, runs)
    steps = tuple(_step(stage, spec, script, direction, with_rows) for script in scripts)
    steps = tuple(replace(step, applied_by=_run_of(step.script, applied)) for step in steps)
    return TablePlan(
        spec, direction, steps, max(applied, default=0), files, needs_consistent_read(applied.values()), gone
    )


def _run_of(script: Script, applied: Mapping[int, AppliedVersion]) -> str:
    version = applied.get(script.sequence)
    return version.run if version is not None else ""


def check_script(script: Script) -> None:
    """Execute a version file once and check its functions; Beam's warnings of an import stay off the screen. Raises
    ScriptError."""
    with muted_beam():
        check(script)


def unprepared(stage: Stage, scripts: Sequence[Script], at: int) -> int:
    """The first version above `at` that needs prepared data which is not there; 0: none."""
    for script in scripts:
        if script.sequence > at and script.has_prepare and script.has_up:
            try:
                prepared.find(open_storage(stage.connection, stage.storage), script)
            except Refused:
                return script.sequence
    return 0


def usable_table(stage: Stage, name: str) -> TableSpec:
    """The table as it is. Raises ServiceError where there is none, Refused where it is not ready, or dynamodt's."""
    check_no_state_table(stage, name)
    spec = _describe(stage, name)
    _check_active(spec)
    return spec


def _describe(stage: Stage, name: str) -> TableSpec:
    try:
        return tables.describe(stage.connection, name)
    except ServiceError as error:
        if stage.embedded and name not in stage.tables and error.what == NO_TABLE:
            hint = f'name it and its key in dynamodt.toml, under [stages.local.tables]: {name} = {{ id = "S" }}'
            raise ServiceError("the embedded stage has no such table", where=error.where, hint=hint) from error
        raise


def _check_active(spec: TableSpec) -> None:
    if spec.status not in ("ACTIVE", "UPDATING"):
        raise Refused(f"the table is {spec.status}", where=f"table {spec.name}", hint="wait until it is ACTIVE")


def _check_adopted(stage: Stage, spec: TableSpec, runs: Sequence[RunRecord]) -> None:
    """A table whose versions ran elsewhere must not be taken through them again. Raises Refused."""
    key = record_key(spec)
    if key is None or any(run.status != "adopted" for run in runs):
        return
    if has_applied_versions(tables.get_attributes(stage.connection, spec.name, key, (STATE,))):
        raise Refused(
            f"the table holds a record of {TOOL}, by which some versions have run already",
            where=f"table {spec.name}",
            hint=f"take its history over first: dynamodt import-history --table {spec.name}",
        )


def _step(stage: Stage, table: TableSpec, script: Script, direction: Direction, with_rows: bool) -> Step:
    if script.target_table and direction == "down":
        raise Refused(
            f"version {script.sequence} wrote to {script.target_table}: `down` cannot take that back",
            where=script.path,
            hint="delete the target table when nothing reads it any more; "
            "or dynamodt undo RUN deletes what its run (see dynamodt history) has inserted, where that is unchanged",
        )
    check_script(script)  # executes the file once: its faults show before the first page is read
    ref = None
    if script.has_prepare and moves_items(script, direction):
        ref = prepared.find(open_storage(stage.connection, stage.storage), script)
    target = _target(stage, script)
    rows = "" if not script.has_items else checked_rows(script, target or table) if with_rows else None
    return Step(script, ref, target, started_with(table, script, stage.storage.url, ref, target, rows))


def _target(stage: Stage, script: Script) -> TableSpec | None:
    if script.target_table is None:
        return None
    check_no_state_table(stage, script.target_table, script.path)
    spec = tables.describe(stage.connection, script.target_table)
    _check_active(spec)
    return spec
