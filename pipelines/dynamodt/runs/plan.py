"""What a command is to do, worked out and checked whole before anything is started.

Tables that were deleted and created again, under the name that their runs know (restored from a backup, say).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dynamodt.dynamodb import table
from dynamodt.dynamodb import table as tables
from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.dynamodb.dynamo_data_transform import STATE, TOOL, record_key, says_something_stands
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.items import Direction
from dynamodt.model.runs import (
    INSERTED_ROWS,
    AppliedVersion,
    DeadLetterSource,
    ExportSource,
    Job,
    PreparedRef,
    RowsSource,
    RunRecord,
    ScanSource,
    Script,
)
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.options import RunOptions
from dynamodt.runs.runner import check_script
from dynamodt.script.names import check_no_state_table
from dynamodt.script.rows import checked_rows
from dynamodt.script.versions import plan, read_versions
from dynamodt.state import prepared
from dynamodt.state.phases import half_rolled_back, retry_run, unfinished
from dynamodt.state.started_with import ITEMS, TABLE, TARGET, started_with
from dynamodt.state.state import State
from dynamodt.state.storage import open_storage


def younger(spec: TableSpec, runs: Sequence[RunRecord]) -> RunRecord | None:
    """The last of a table's runs, where the table is another one by now; None where it is not known to be one."""
    known = [run for run in runs if run.began.get(TABLE)]
    last = known[-1] if known and spec.identity else None
    return last if last is not None and last.began[TABLE] != spec.identity else None


def younger_reported(spec: TableSpec, last: RunRecord) -> str:
    """That in a sentence."""
    created = f", created {spec.created}" if spec.created else ""
    return (
        f"the table is younger than its last run: it was deleted and created again (restored?){created}, after run "
        f"{last.run} ({last.direction} of version {last.version}, {last.status})"
    )


def runs_on_gone_tables(stage: Stage, spec: TableSpec, runs: Sequence[RunRecord]) -> frozenset[str]:
    """The runs whose writes are gone: the table that they wrote to was deleted since. `spec` is the one they read."""
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


def check_not_recreated(stage: Stage, record: RunRecord, hint: str = "") -> None:
    """Raises Refused where the table that a run has written to is another one by now: the run's journal tells nothing
    of its items. `hint` is what to do now instead of an undo."""
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
        or "its journal tells nothing of the items that are here now. To say which versions stand in them: "
        f"dynamodt stamp --table {record.table} --to N",
        run=record.run,
    )


_SEGMENT_BYTES = 64 * 1024 * 1024
_SEGMENTS_PER_WORKER = 4
_SEGMENTS_PER_GROUP = 4
_SEGMENTS_IN_TURN = 64  # by all workers together: they share 40,000 WCU/s, an account's default for a table
_SEGMENT_ITEMS = 2_500  # of a small table
_MOST_FOR_ITEMS = 64
_GROUPS_PER_WORKER = 4
_AHEAD = 2  # pages of each lane, where several share a process, its memory and each other's waiting
_FEW_WORKERS = 8
_PAGE_ITEMS = 500  # of a few workers, each of which writes more in a second than one partition takes
_WORKERS_PER_BOARD = 50
_MAX_SEGMENTS = 10_000
_FRESH = timedelta(seconds=60)


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
        _check_adopted(stage, spec)
    steps = tuple(_step(stage, spec, script, direction, with_rows) for script in scripts)
    steps = tuple(replace(step, applied_by=_run_of(step.script, applied)) for step in steps)
    return TablePlan(
        spec, direction, steps, max(applied, default=0), files, needs_consistent_read(applied.values()), gone
    )


def _run_of(script: Script, applied: Mapping[int, AppliedVersion]) -> str:
    version = applied.get(script.sequence)
    return version.run if version is not None else ""


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
        return table.describe(stage.connection, name)
    except ServiceError as error:
        if stage.embedded and name not in stage.tables and error.what == NO_TABLE:
            hint = f'name it and its key in dynamodt.toml, under [stages.local.tables]: {name} = {{ id = "S" }}'
            raise ServiceError("the embedded stage has no such table", where=error.where, hint=hint) from error
        raise


def _check_active(spec: TableSpec) -> None:
    if spec.status not in ("ACTIVE", "UPDATING"):
        raise Refused(f"the table is {spec.status}", where=f"table {spec.name}", hint="wait until it is ACTIVE")


def _check_adopted(stage: Stage, spec: TableSpec) -> None:
    """A table whose versions ran elsewhere must not be taken through them again. Raises Refused."""
    key = record_key(spec)
    runs = State(stage.connection, stage.state_table).runs(spec.name)
    if key is None or any(run.status != "adopted" for run in runs):
        return
    if says_something_stands(table.get_attributes(stage.connection, spec.name, key, (STATE,))):
        raise Refused(
            f"the table holds a record of {TOOL}, by which some versions have run already",
            where=f"table {spec.name}",
            hint=f"take its history over first: dynamodt adopt --table {spec.name}",
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
    spec = table.describe(stage.connection, script.target_table)
    _check_active(spec)
    return spec


def moves_items(script: Script, direction: Direction) -> bool:
    """Whether the version has a function for the items that are there, in this direction."""
    return script.has_up if direction == "up" else script.has_down


def jobs(
    stage: Stage,
    planned: TablePlan,
    step: Step,
    options: RunOptions,
    record: RunRecord,
    token: int,
    export: ExportSource | None = None,
) -> list[Job]:
    """The one or two passes of a version. Going up, the items that are there come first and the version's own rows
    last; going down, the other way round: so a version never transforms its own rows."""
    scan = Job(
        run=record.run,
        stage=stage,
        table=planned.table,
        script=step.script,
        direction=planned.direction,
        splits=record.splits,
        target=step.target,
        prepared=step.prepared,
        consistent=planned.needs_consistent_read,
        dry_run=options.dry_run,
        max_errors=options.max_errors,
        attempt=token,
        journal=record.journal,
    )
    rows = RowsSource(record.began.get(ITEMS, ""), step.applied_by)
    own = replace(scan, run=record.run + INSERTED_ROWS, splits=1, source=rows)
    scan = replace(scan, source=export or ScanSource())
    phases = [scan] if moves_items(step.script, planned.direction) else []
    if step.script.has_items:
        phases = [*phases, own] if planned.direction == "up" else [own, *phases]
    return phases


def retry_job(like: Job, number: int, dead_letters: tuple[str, ...], confirmed: bool = False) -> Job:
    """A pass over dead letters of another pass. It goes to its end, however many of them die again. `confirmed`: a
    person has found their items written."""
    run = retry_run(like.run, number)
    source = DeadLetterSource(dead_letters, like.origin, confirmed)
    return replace(like, run=run, splits=1, source=source, max_errors=sys.maxsize)


def segments(spec: TableSpec, workers: int = 1) -> int:
    """Segments of about 64 MB: small enough to spread a lane over partitions, large enough to be worth a row each. A
    small table has smaller ones: enough that no worker is idle, and that a lane has several."""
    least = max(_SEGMENTS_PER_WORKER * workers, min(_MOST_FOR_ITEMS, spec.item_count // _SEGMENT_ITEMS))
    return min(_MAX_SEGMENTS, max(least, spec.size_bytes // _SEGMENT_BYTES))


def fitted(job: Job, workers: int) -> Job:
    """The job for so many workers. Several lanes for each of them: in one process they are at work at once, so that
    one computes while others wait for answers; elsewhere no worker is idle while another is at its last ones. But of
    several units, so that a lane meets several partitions in turn; and as many for each of a few workers."""
    if workers > 1:
        job = replace(job, in_turn=max(job.in_turn, _SEGMENTS_IN_TURN // workers))
    split_groups = min(_GROUPS_PER_WORKER * workers, max(workers, job.splits // _segments_per_group(workers)))
    if workers <= _FEW_WORKERS:
        split_groups -= split_groups % workers
        if not (job.inserts_rows or job.replays):  # whose pages are their places, too
            job = replace(job, page_items=min(_PAGE_ITEMS, job.page_items))
    if workers == 1 and split_groups > 1:
        job = replace(job, read_ahead=_AHEAD)
    return replace(job, split_groups=split_groups, shards=lease_replicas(workers))


def _segments_per_group(workers: int) -> int:
    """One of few workers has a large part of what the table takes, and must spread it over more partitions than one of
    many. A single one has several lanes at work at once."""
    return _SEGMENTS_PER_GROUP if workers == 1 else max(_SEGMENTS_PER_GROUP, _SEGMENTS_IN_TURN // workers)


def lease_replicas(workers: int) -> int:
    """How many rows tell so many workers what to do: one for every fifty of them."""
    return 1 + (workers - 1) // _WORKERS_PER_BOARD


def needs_consistent_read(applied: Iterable[AppliedVersion]) -> bool:
    """Whether a version was applied in the last minute: an eventually consistent scan might miss its newest rows."""
    since = _fresh_since()
    return any(version.when >= since for version in applied)


def just_ran(runs: Iterable[RunRecord]) -> bool:
    """`just_written`, by any run that came through: also one that took a version back, or was taken back itself."""
    since = _fresh_since()
    return any(run.undone >= since or (run.status == "succeeded" and run.ended >= since) for run in runs)


def _fresh_since() -> str:
    return (datetime.now(UTC) - _FRESH).isoformat(timespec="seconds")


def new_run() -> str:
    """A run's id: it sorts by time (to the microsecond: small runs take less than one second), no two are alike."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
