"""Checks before a run starts: the script fits the table and the options, and the table can be restored. Also notices of
what a dry run has not tried."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from dynamodt.dynamodb.table import describe_briefly, has_point_in_time_recovery, turn_on_recovery
from dynamodt.errors import Refused, RunFailed, ServiceError, UsageError
from dynamodt.model.reports import TableReport, counted
from dynamodt.model.runs import AppliedVersion, Job, JournalSource, RunRecord, Script
from dynamodt.model.tables import Connection, Stage, TableSpec, is_elsewhere, name_in_requests
from dynamodt.runs.cost import check_exports_priced, check_priced, requests_export
from dynamodt.runs.jobs import EXPORT, SCAN, WINDOWS, moves_items
from dynamodt.runs.options import GLUE, Observer, RunOptions
from dynamodt.script.apply import NO_INSERTION
from dynamodt.script.versions import changed_files
from dynamodt.state.runs import WRITERS, declared_key, unfinished

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.runs.exports import SourceExport
    from dynamodt.runs.plan import Step, TablePlan


def refuse_unsafe(stage: Stage, planned: TablePlan, options: RunOptions) -> None:
    """Raises Refused for a script that has another key or a stamp in a key attribute, needs its journal, cannot read an
    export, or needs a transaction on a table without transactions; for a global table that is written in other regions,
    and for a table of a protected stage without point-in-time recovery."""
    for step in planned.steps:
        check_step(planned, step, options)
    targets = [step.target for step in planned.steps if step.target]
    check_exports_priced(stage, planned, options)
    check_tables(stage, [planned.table, *targets], options)


def check_tables(stage: Stage, tables: Sequence[TableSpec], options: RunOptions) -> None:
    """Raises Refused for a written table whose prices, replicas or recovery do not allow the run."""
    check_priced(stage, tables, options)
    check_writers(stage, tables, options)
    check_recovery(stage, [table.name for table in tables], options)


def check_alarms(project: Project) -> None:
    """Raises UsageError for an alarm that does not exist: it would pause the run without an end. One that cannot be
    read pauses the run as long as that lasts. A deployed job checks by itself, as its own role."""
    options = project.options
    if options.alarms and options.runner != GLUE and (missing := project.missing_alarms):
        raise UsageError(
            f"there is no alarm {', '.join(missing)}, and the run would pause for it",
            where=f"region {project.stage.connection.region}",
            hint="correct --pause-on-alarm; of a composite alarm, the caller needs cloudwatch:DescribeAlarms on *",
        )


def check_step(planned: TablePlan, step: Step, options: RunOptions) -> None:
    """Raises Refused if a version's file shows that it does not fit the table and the options."""
    _check_key(planned, step)
    _check_stamp(planned, step)
    _check_transactions(planned, step)
    _check_journal(step, options)
    if moves_items(step.script, planned.direction) and (options.source or step.script.source) == EXPORT:
        _check_source(planned, step, options)


def check_writers(stage: Stage, tables: Sequence[TableSpec], options: RunOptions) -> None:
    """Raises Refused for a global table whose replicas merge writes by their time (guarantee G1). A run evaluates its
    conditions on this region's replica, and would replace a write of another region that is not replicated yet."""
    for table in tables:
        if table.merges_writes and not (options.dry_run or one_region_writes(stage, options)):
            regions, here = ", ".join(table.replicas), stage.connection.of_table(table.name).region
            raise Refused(
                f"it is a global table, with replicas in {regions}: of two writes to an item the later one replaces "
                "the other, and a write made there within the replication's delay would be lost",
                where=f"table {table.name}",
                hint=f"if the application writes in {here} only until the run has ended: "
                "--single-region-writers, or single_region_writers = true for the stage in dynamodt.toml",
            )


WRITERS_SECONDS = 60.0


@dataclass(eq=False)
class WritersWatch:
    """Ends a run whose table becomes a global table in the course of it, as `check_writers` refuses one at the start
    (guarantee G1). `read` returns the tables that the run reads and writes."""

    check: Callable[[Sequence[TableSpec]], None]
    read: Callable[[], Sequence[TableSpec]]
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._due = self.clock()

    def tick(self) -> None:
        """Read the tables if a minute has passed. If they cannot be read, the run continues. Raises RunFailed once."""
        if self.clock() < self._due:
            return
        tables: Sequence[TableSpec] = ()
        with suppress(ServiceError):
            tables = self.read()
        self._due = self.clock() + WRITERS_SECONDS
        try:
            self.check(tables)
        except Refused as error:
            self._due = inf
            raise RunFailed(error.what, where=error.where, hint=error.hint) from error


def watch_writers(stage: Stage, job: Job, options: RunOptions) -> WritersWatch | None:
    """The watch over the replicas of a job's tables; None where the run's start would refuse none."""
    if stage.local or options.dry_run or one_region_writes(stage, options):
        return None
    of_undo = isinstance(job.source, JournalSource)
    names = dict.fromkeys((*(() if of_undo else (job.table.name,)), job.written_table.name))

    def read() -> list[TableSpec]:
        return [describe_briefly(stage.connection, name) for name in names]

    return WritersWatch(partial(check_writers, stage, options=options), read)


def one_region_writes(stage: Stage, options: RunOptions) -> bool:
    """Whether the caller or the stage states that all writers are in this region."""
    return options.single_region_writers or stage.single_region_writers


def with_writers(stage: Stage, planned: TablePlan, options: RunOptions) -> TablePlan:
    """The plan; if a table requires that all writers are in this region, its runs record that this was stated."""

    def recorded(step: Step) -> Step:
        tables = (planned.table, *([step.target] if step.target else []))
        depends = one_region_writes(stage, options) and any(table.merges_writes for table in tables)
        here = stage.connection.of_table(planned.table.name).region
        return replace(step, began={**step.began, WRITERS: here}) if depends else step

    return replace(planned, steps=tuple(map(recorded, planned.steps)))


def check_recovery(stage: Stage, tables: Sequence[str], options: RunOptions) -> None:
    """Raises Refused for a table of a protected stage without point-in-time recovery."""
    if stage.protected and not options.dry_run and not options.allow_no_pitr:
        for table in dict.fromkeys(tables):
            _check_recovery(stage.connection.of_table(table), name_in_requests(table))


def check_exportable(stage: Stage, planned: TablePlan, runs: Sequence[RunRecord], options: RunOptions) -> None:
    """Raises Refused if a new run would request an export, a full or an incremental one, and the storage is a folder,
    or point-in-time recovery is off. A run that is continued may have its exports, and a retry needs none."""
    moving = (step.script for step in planned.steps if moves_items(step.script, planned.direction))
    reads_export = any((options.source or one.source) == EXPORT for one in moving)
    catches_up = reads_export and (options.catch_up or WINDOWS) == WINDOWS and not options.dry_run
    continued = planned.reopens is not None or any(run.exports for run in runs if unfinished(run.status))
    if continued or not (catches_up or requests_export(planned, options)):
        return
    if not stage.storage.in_s3 and not any(unfinished(run.status) for run in runs):
        hint = 'give the stage a `storage = "s3://bucket/prefix"` that its endpoint can export to; or --source scan'
        raise Refused("an export is written to S3, and this storage is a folder", where=stage.storage.url, hint=hint)
    if stage.local:
        return
    table = planned.table.name
    with suppress(ServiceError):  # the request shows it
        if not has_point_in_time_recovery(stage.connection, table):
            on = turn_on_recovery(stage.connection, table)
            what, hint = "an export needs point-in-time recovery, which is off", f"turn it on: {on}; or --source scan"
            raise Refused(what, where=f"table {table}", hint=hint)


def note_other_key(stage: Stage, planned: TablePlan, observer: Observer) -> None:
    """Notify if dynamodt.toml gives a table of the embedded stage another key than the table has."""
    table, wanted = planned.table, stage.tables.get(planned.table.name)
    if wanted and wanted != table.key:
        observer.notify(
            f"table {table.name} has the key {declared_key(table.key)}, and dynamodt.toml {declared_key(wanted)}: "
            "a table is created once and then left as it is (`dynamodt local reset` deletes all of them, "
            "with their items)"
        )


def note_changed_files(planned: TablePlan, applied: Mapping[int, AppliedVersion], observer: Observer) -> None:
    """Notify of files that applied versions use and that have changed since. The versions stay as they were applied."""
    versions: dict[str, list[int]] = {}
    for script in planned.scripts:
        record = applied.get(script.sequence)
        for name in changed_files(record.files, script.file_checksums) if record is not None else ():
            versions.setdefault(name, []).append(script.sequence)
    for name, numbers in versions.items():
        several = len(numbers) > 1
        which = f"versions {', '.join(map(str, numbers))}" if several else f"version {numbers[0]}"
        observer.notify(
            f"transforms/{name} has changed since {which} of {planned.table.name} {'were' if several else 'was'} "
            "applied: what is applied stays as it is, and `down` uses the file as it is now"
        )


def note_other_prepared(planned: TablePlan, runs: Sequence[RunRecord], observer: Observer) -> None:
    """Notify of a `down` whose prepared data has other rows than that of the run of `up`."""
    known = {run.run: run.began.get("prepared", "") for run in runs}
    for step in planned.steps if planned.direction == "down" else ():
        was, now = known.get(step.applied_by, ""), step.began.get("prepared", "")
        if was and now and was != now:
            observer.notify(
                f"the prepared data of version {step.script.sequence} of {planned.table.name} has other rows than when "
                "the version was applied: `down` uses the present ones"
            )


def note_rows_of_former_table(planned: TablePlan, observer: Observer) -> None:
    """Notify of a `down` that leaves the rows of `items()`, since its run inserted them into a deleted table."""
    for step in planned.steps if planned.direction == "down" else ():
        if step.script.has_items and step.applied_by in planned.former_runs:
            observer.notify(
                f"`down` of version {step.script.sequence} leaves the rows of items() in {planned.table.name}: run "
                f"{step.applied_by} inserted its rows into a former table of this name. If the present table was "
                "restored from a backup that has them, delete them by hand"
            )


def first_use_reported(project: Project, planned: TablePlan, quiet: bool = False) -> tuple[str, ...]:
    """A notice of the versions that will be applied to existing items, if the state table knows no table of the stage
    yet: it may be a new one in place of another, in which they were applied. A local stage has none."""
    stage, table, numbers = project.stage, planned.table, [step.script.sequence for step in planned.steps]
    if stage.local or not numbers or not table.item_count or project.state.names(stage):
        return ()
    which = f"version{'s' * (len(numbers) > 1)} {' to '.join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))}"
    said = (
        f"table {table.name}: the state table {stage.state_table} has no record of any table, and {which} will be "
        f"applied to {counted(table.item_count, 'item')} (a count of the last six hours); if a version was applied "
        "before, with another state table, record it first, by `stamp` (the same holds for other tables of the stage)"
    )
    if not quiet:
        project.observer.notify(said)
    return (said,)


def _check_key(planned: TablePlan, step: Step) -> None:
    script, table = step.script, planned.table
    if script.key and script.key != table.key:
        raise Refused(
            f"the script was written for the key {declared_key(script.key)}, "
            f"and table {table.name} has {declared_key(table.key)}",
            where=script.path,
            hint="check the stage and the folder's name, which is the table's; or correct KEY in the script",
        )


def _check_stamp(planned: TablePlan, step: Step) -> None:
    """Raises Refused for a stamp in a key attribute, which would move the item, or in a key attribute of an index."""
    stamp = step.script.stamp
    for table in filter(None, (planned.table, step.target)):
        names = {"key": table.key_names, "key of an index": [key.name for key in table.index_keys]}
        if kind := next((kind for kind, found in names.items() if stamp in found), ""):
            raise Refused(
                f"STAMP names {json.dumps(stamp, ensure_ascii=False)}, which is a {kind} of table {table.name}",
                where=step.script.path,
                hint='name an attribute that nothing else uses: STAMP = "_dynamodt"',
            )


def _check_transactions(planned: TablePlan, step: Step) -> None:
    """Raises Refused for insertions that the plan shows, since each is a transaction. A move, or several results, can
    only be detected when the item is transformed, and is then a dead letter."""
    script, tables = step.script, [table for table in (planned.table, step.target) if table is not None]
    named = "TARGET_TABLE" if script.target_table else "items()" if script.has_items else ""
    lacking = next((table for table in tables if table.lacks_transactions), None)
    if named and planned.direction == "up" and lacking:
        raise Refused(
            f"{named} inserts items, each in a transaction with a row of the state table, and DynamoDB supports none "
            f"on {lacking.lacks_transactions}: {lacking.name}",
            where=script.path,
            hint=NO_INSERTION[lacking.strong],
        )


def _check_source(planned: TablePlan, step: Step, options: RunOptions) -> None:
    """Raises Refused for an export that cannot be used: the table is in another account or region, or the script does
    not allow it."""
    if is_elsewhere(planned.table.name):
        what = "the table is in another account or region than the stage, whose bucket and key an export would use"
        hint = "use --source scan; or a stage of that account and region"
        raise Refused(what, where=f"table {planned.table.name}", hint=hint)
    check_export(step.script, options.catch_up)


def _check_journal(step: Step, options: RunOptions) -> None:
    if options.journal is False and not step.script.idempotent:
        raise Refused(
            f"version {step.script.sequence} needs its journal, which tells a continued run which items are done",
            where=step.script.path,
            hint="leave out --no-journal; or set IDEMPOTENT = True, if a second application harms nothing",
        )


def _check_recovery(connection: Connection, table: str) -> None:
    where = f"table {table}"
    try:
        if has_point_in_time_recovery(connection, table):
            return
    except ServiceError as error:
        raise Refused(
            f"the stage is protected, and whether point-in-time recovery is on cannot be read: {error.what}",
            where=where,
            hint="the caller needs dynamodb:DescribeContinuousBackups on the table, or --allow-no-pitr",
        ) from error
    raise Refused(
        "the stage is protected, and point-in-time recovery is off",
        where=where,
        hint=f"turn it on: {turn_on_recovery(connection, table)} (or pass --allow-no-pitr)",
    )


def check_export(script: Script, catch_up: str) -> None:
    """Raises Refused for a script that cannot read an export, whose images are older than the table's items."""
    if script.guard == "changed" and not script.idempotent:
        raise Refused(
            'GUARD = "changed" cannot be used with an export: what the script has read of an item may be hours old, '
            "and the guard does not compare it",
            where=script.path,
            hint="leave out GUARD, or read the table itself (--source scan), or set IDEMPOTENT = True, if a second "
            "application harms nothing",
        )
    _check_catch_up(script, catch_up)


def check_moment(found: SourceExport, script: Script, catch_up: str) -> None:
    """Raises Refused for an export of a moment within a second: the first incremental export would begin before this
    moment, and show items of the export as created."""
    moment = found.until
    if moment is None or not moment.microsecond or script.idempotent or (catch_up or WINDOWS) != WINDOWS:
        return
    raise Refused(
        f"the export shows the table at {moment:%H:%M:%S.%f} UTC, and an incremental export starts at a whole second: "
        "items created in between would be transformed twice",
        where=f"s3://{found.source.bucket}/{found.source.folder}",
        hint="let a new one be requested (--export new), or request it with an ExportTime of whole seconds; or do "
        "without incremental exports: --catch-up none",
    )


def _check_catch_up(script: Script, catch_up: str) -> None:
    """Raises Refused for a final scan that could not detect transformed items."""
    if catch_up == SCAN and not (script.idempotent or script.stamp):
        raise Refused(
            "a final scan would transform items twice: the script is not IDEMPOTENT, and has no STAMP",
            where=script.path,
            hint="catch up by incremental exports (--catch-up windows), or set STAMP or IDEMPOTENT in the script",
        )


# ---------------------------------------------------------------- after a dry run


def with_untried_notices(project: Project, reports: Sequence[TableReport]) -> list[TableReport]:
    """The reports of a dry run, with a notice for each table that was tried without the insertions of an earlier
    table's version, since the dry run of that version has not succeeded. Notifies the observer, too."""
    lacking: dict[str, list[tuple[str, int]]] = {}  # by receiving table, the tables and versions that insert
    found: list[TableReport] = []
    for report in reports:
        wrong = {run.version for run in report.versions if run.status != "dry-run"}
        scripts = project.versions(report.table) if wrong else ()
        said = tuple(_untried(report, *each) for each in lacking.get(report.table, ()) if report.versions)
        for sentence in said:
            project.observer.notify(f"warning: {sentence}")
        found.append(replace(report, notices=(*report.notices, *said)))
        for one in scripts:
            if one.target_table and one.sequence in wrong:
                lacking.setdefault(one.target_table, []).append((report.table, one.sequence))
    return found


def _untried(report: TableReport, source: str, version: int) -> str:
    numbers = [run.version for run in report.versions]
    tried = f"version{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} of table {report.table}"
    return (
        f"{tried} met none of the items that version {version} of table {source} inserts into it: that version's dry "
        f"run has not succeeded; correct it, then try both tables again"
    )
