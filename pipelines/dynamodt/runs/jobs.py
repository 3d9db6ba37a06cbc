"""A version's phases as jobs, and the division of each into segments, split groups and lease replicas."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dynamodt.errors import Hint, suggest
from dynamodt.model.runs import (
    EARLIER_PHASE,
    FINAL_SCAN,
    INSERTED_ROWS,
    DeadLetterSource,
    EarlierPhase,
    ExportSource,
    Job,
    Lease,
    RowsSource,
    RunRecord,
    ScanSource,
    Script,
)
from dynamodt.model.tables import Direction
from dynamodt.state.runs import ITEMS, incremental_run, or_undo, retry_run

if TYPE_CHECKING:
    from dynamodt.runs.context import RunContext
    from dynamodt.runs.exports import SourceExport
    from dynamodt.runs.plan import Step, TablePlan

SCAN, EXPORT = "scan", "export"  # sources of a version's items
NEW = "new"  # instead of an export's place: one is requested
WINDOWS, NONE = "windows", "none"  # ways to catch up after an export, besides a scan
_SEGMENTS_PER_GROUP = 4
_SEGMENTS_IN_TURN = 64  # over all workers: they share 40,000 WCU/s, an account's default for a table
_GROUPS_PER_WORKER = 4
_AHEAD = 2  # pages of each split group, if several share a process and its memory
_FEW_WORKERS = 8
_PAGE_ITEMS = 500  # for a few workers, each of which writes more in a second than one partition takes
_WORKERS_PER_REPLICA = 50
_FRESH_SECONDS = 60.0


def moves_items(script: Script, direction: Direction) -> bool:
    """Whether the version transforms existing items in this direction."""
    return script.has_up if direction == "up" else script.has_down


def jobs(
    context: RunContext, planned: TablePlan, step: Step, record: RunRecord, export: ExportSource | None = None
) -> list[Job]:
    """The one or two phases of a version. `up` transforms the existing items first and then inserts the version's own
    rows, `down` the reverse, so that a version never transforms its own rows."""
    options = context.options
    scan = Job(
        run=record.run,
        stage=context.stage,
        table=planned.table,
        script=step.script,
        direction=planned.direction,
        splits=record.splits,
        target=step.target,
        prepared=step.prepared,
        consistent=planned.needs_consistent_read,
        dry_run=options.dry_run,
        max_errors=options.max_errors + (record.accepted_items if options.dry_run else 0),
        attempt=context.token,
        journal=record.journal,
    )
    rows = RowsSource(record.began.get(ITEMS, ""), planned.rows_of(step))
    own = replace(scan, run=record.run + INSERTED_ROWS, splits=1, source=rows)
    scan = replace(scan, source=export or ScanSource())
    phases = [scan] if moves_items(step.script, planned.direction) else []
    if step.script.has_items:
        phases = [*phases, own] if planned.direction == "up" else [own, *phases]
    return phases


def with_earlier_phases(phases: Sequence[Job], before: Sequence[Job]) -> list[Job]:
    """The phases of a dry run, each with the phases before it, which it applies in memory. `before` are the phases of
    earlier versions and of earlier tables. Items that they bring to the table (rows of `items()`, items of another
    table) are read by phases of their own, after the table's."""
    found: list[Job] = []
    written = {one.written_table.name for one in before if one.target}  # insertions there are kept
    done = [before[number] for number in _leading_to(before, written | {phase.table.name for phase in phases})]
    for phase in phases:
        job = replace(phase, before=tuple(done))
        found += [job, *([] if job.inserts_rows else _arrivals(job))]
        done.append(phase)
    return found


def _leading_to(before: Sequence[Job], tables: set[str]) -> list[int]:
    """The indexes of the phases whose results reach one of the tables, directly or through other tables."""
    found: list[int] = []
    for number, job in reversed(list(enumerate(before))):
        if job.written_table.name in tables:
            tables = tables if job.inserts_rows else tables | {job.table.name}
            found.insert(0, number)
    return found


def _arrivals(job: Job) -> list[Job]:
    """The phases that read the items that the phases before the job bring to its table."""
    found: list[Job] = []
    tables = {job.table.name}
    for number in _leading_to(job.before, tables):
        one = job.before[number]
        adds = one.direction == "up" if one.inserts_rows else one.table.name not in tables
        if adds:
            run = f"{job.run}{EARLIER_PHASE}{len(found) + 1}"
            found.append(replace(job, run=run, splits=one.splits, source=EarlierPhase(number, job.origin)))
        tables = tables if one.inserts_rows else tables | {one.table.name}
    return found


def without_earlier_phases(phases: Iterable[Job]) -> list[Job]:
    """The phases from which `with_earlier_phases` made these."""
    return [replace(job, before=()) for job in phases if not isinstance(job.source, EarlierPhase)]


def retry_job(
    like: Job,
    number: int,
    dead_letters: tuple[str, ...],
    confirmed: bool = False,
    left_out: tuple[tuple[str, str], ...] = (),
) -> Job:
    """The phase that replays dead letters of another phase, without a limit of errors. `confirmed`: their items are
    already written and are only counted; `left_out` are the accepted ones."""
    run = retry_run(like.run, number)
    source = DeadLetterSource(dead_letters, like.origin, confirmed, left_out)
    return replace(like, run=run, splits=1, source=source, max_errors=sys.maxsize)


def final_scan_job(main: Job, record: RunRecord) -> Job:
    """The phase that scans the table after its export."""
    return replace(main, run=record.run + FINAL_SCAN, source=ScanSource(), splits=record.final_scan)


def incremental_job(main: Job, number: int, export: SourceExport) -> Job:
    """The phase of an incremental export. Without IDEMPOTENT it transforms only items that were created in its period:
    the others were in the full export, and are done."""
    source = replace(export.source, created_only=not main.script.idempotent)
    return replace(main, run=incremental_run(main.base_run, number), splits=export.files, source=source)


def or_without_period(record: RunRecord, script: Script) -> Hint:
    """The other ways to catch up, as the end of a hint: DynamoDB cannot export a period in which point-in-time recovery
    was off."""
    scanned = script.idempotent or script.stamp
    how, covers = (SCAN, "scans the table") if scanned else (NONE, "leaves the changes since the export as they are")
    again = suggest(record.direction, table=record.table, catch_up=how)
    return "; if recovery was off in between: " + again + f" {covers}" + or_undo(record)


def begun_catch_up_phases(record: RunRecord, main: list[Job]) -> list[Job]:
    """The phases after the export's that an earlier attempt has begun, whose dead letters are replayed."""
    like = next((job for job in main if job.export is not None), None)
    if like is None:
        return []
    incremental_exports = [
        replace(like, run=incremental_run(record.run, number), splits=units)
        for number, units in enumerate(record.incremental_exports, 1)
    ]
    return [*incremental_exports, *([final_scan_job(like, record)] if record.final_scan else [])]


def with_split_groups(job: Job, workers: int) -> Job:
    """The job with split groups for this number of workers.

    Each worker gets several groups: within a process, one group computes while others wait for responses; in a fleet,
    no worker is idle while another still has several. Each group has several splits, so that its writes reach several
    partitions. A few workers get equal numbers of groups.
    """
    if workers > 1:
        job = replace(job, in_turn=max(job.in_turn, _SEGMENTS_IN_TURN // workers))
    # each of a few workers writes a large part of the table's throughput, and spreads it over more partitions
    segments = _SEGMENTS_PER_GROUP if workers == 1 else max(_SEGMENTS_PER_GROUP, _SEGMENTS_IN_TURN // workers)
    split_groups = min(_GROUPS_PER_WORKER * workers, max(workers, job.splits // segments))
    if workers <= _FEW_WORKERS:
        split_groups -= split_groups % workers
        if not (job.inserts_rows or job.replays):  # their page numbers are also positions
            job = replace(job, page_items=min(_PAGE_ITEMS, job.page_items))
    if workers == 1 and split_groups > 1:
        job = replace(job, read_ahead=_AHEAD)
    return replace(job, split_groups=split_groups, shards=lease_replicas(workers))


def lease_replicas(workers: int) -> int:
    """The number of rows of a lease: one for every fifty workers."""
    return 1 + (workers - 1) // _WORKERS_PER_REPLICA


def was_held_recently(lease: Lease) -> bool:
    """Whether a command has held the lease's table in the last minute, so that an eventually consistent scan could miss
    its newest items. A run also holds the table into which it inserts."""
    return time.time() - lease.beat < _FRESH_SECONDS


def new_run() -> str:
    """A unique id for a run, which sorts by time, to the microsecond."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(3)}"
