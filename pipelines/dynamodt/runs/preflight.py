"""Checks before a run starts: the script fits the table and the options, and the table can be restored.

A table that was restored from a moment within a run is found by that run's journal: an item that is still as the run
wrote it would be transformed twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from shlex import join
from typing import TYPE_CHECKING

from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.table import has_point_in_time_recovery
from dynamodt.dynamodb.wire import shared_wire
from dynamodt.errors import Hint, Refused, ServiceError, suggest
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import (
    Change,
    Check,
    Connection,
    Image,
    Journaled,
    Stage,
    TableSpec,
    is_elsewhere,
    name_in_requests,
)
from dynamodt.pipeline.restoration import restoration
from dynamodt.runs.history import claims_of, has_written
from dynamodt.runs.jobs import EXPORT, SCAN, WINDOWS, moves_items
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.plan import younger, younger_reported
from dynamodt.script.apply import NO_INSERTION
from dynamodt.script.codec import key_text
from dynamodt.script.diff import parts_of
from dynamodt.script.versions import changed_files
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import JOURNAL, Claims, counts, due, is_note, object_key, part_of
from dynamodt.state.runs import WRITERS, declared_key, phases, transformed
from dynamodt.state.storage import open_storage

if TYPE_CHECKING:
    from dynamodt.runs.exports import SourceExport
    from dynamodt.runs.plan import Step, TablePlan
    from dynamodt.state.state import State


def refuse_unsafe(stage: Stage, planned: TablePlan, options: RunOptions) -> None:
    """Raises Refused for a script with another key, with a mark that would overwrite a key, that needs its journal,
    that cannot read an export or that needs a transaction where there is none; for a global table that other regions
    may write to, and for a table of a protected stage without point-in-time recovery."""
    for step in planned.steps:
        check_step(planned, step, options)
    targets = [step.target for step in planned.steps if step.target]
    check_writers(stage, [planned.table, *targets], options)
    check_recovery(stage, [table.name for table in (planned.table, *targets)], options)


def check_step(planned: TablePlan, step: Step, options: RunOptions) -> None:
    """Raises Refused for a version that does not fit the table and the options, as far as its file shows it."""
    _check_key(planned, step)
    _check_stamp(planned, step)
    _check_transactions(planned, step)
    _check_journal(step, options)
    if moves_items(step.script, planned.direction) and (options.source or step.script.source) == EXPORT:
        _check_source(planned, step, options)


def check_writers(stage: Stage, tables: Sequence[TableSpec], options: RunOptions) -> None:
    """Raises Refused for a global table whose replicas merge writes by their time (guarantee G1). A run evaluates its
    conditions on this region's replica; a write of another region that is not replicated yet would be replaced."""
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


def one_region_writes(stage: Stage, options: RunOptions) -> bool:
    """Whether the caller or the stage states that all writers are in this region."""
    return options.single_region_writers or stage.single_region_writers


def with_writers(stage: Stage, planned: TablePlan, options: RunOptions) -> TablePlan:
    """The plan whose runs record that statement, where a table depends on it."""

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


def note_other_key(stage: Stage, planned: TablePlan, observer: Observer) -> None:
    """Notify when dynamodt.toml gives a table of the embedded stage another key than it was created with."""
    table, wanted = planned.table, stage.tables.get(planned.table.name)
    if wanted and wanted != table.key:
        observer.notify(
            f"table {table.name} has the key {declared_key(table.key)}, and dynamodt.toml {declared_key(wanted)}: "
            "a table is created once and then left as it is (`dynamodt local reset` deletes all of them, "
            "with their items)"
        )


def note_changed_files(planned: TablePlan, applied: Mapping[int, AppliedVersion], observer: Observer) -> None:
    """Notify of files that applied versions use and that have changed since: the versions stay as they were applied."""
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
    """Raises Refused for a mark in a key attribute, which would move the item, or in one of an index."""
    stamp = step.script.stamp
    for table in filter(None, (planned.table, step.target)):
        kind = (
            "key"
            if stamp in table.key_names
            else "key of an index"
            if stamp in {k.name for k in table.index_keys}
            else ""
        )
        if kind:
            raise Refused(
                f"STAMP names {json.dumps(stamp, ensure_ascii=False)}, which is a {kind} of table {table.name}",
                where=step.script.path,
                hint='name an attribute that nothing else uses: STAMP = "_dynamodt"',
            )


def _check_transactions(planned: TablePlan, step: Step) -> None:
    """Raises Refused for insertions that the plan knows of, each of which is a transaction. A move or a fan-out shows
    with its item, and is a dead letter."""
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
    """Raises Refused for an export that cannot be used: of another account or region, or for the script."""
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
        hint=f"turn it on: {_turn_on(connection, table)} (or pass --allow-no-pitr)",
    )


def _turn_on(connection: Connection, table: str) -> str:
    words = ["aws", "dynamodb", "update-continuous-backups", "--table-name", table, "--region", connection.region]
    words += ["--point-in-time-recovery-specification", "PointInTimeRecoveryEnabled=true"]
    words += ["--profile", connection.profile] if connection.profile else []
    return join(words + (["--endpoint-url", url] if (url := connection.endpoint()) else []))


def refuse_restored(
    state: State, stage: Stage, planned: TablePlan, runs: Sequence[RunRecord], applied: Mapping[int, AppliedVersion]
) -> None:
    """Raises Refused for a table that was created since its last run, if its applied versions are not known, or if it
    was or may have been restored from a moment within a run: some items would be transformed twice."""
    last = younger(planned.table, runs)
    if last is None:
        return
    if applied:
        raise _unknown(planned, last, max(applied))
    versions = {step.script.sequence for step in planned.steps if not step.script.idempotent}
    for run in runs:
        if run.run not in planned.gone or run.target or run.version not in versions:
            continue
        if run.journal:
            _check_not_within(stage, state, planned, run)
        elif has_written(state, run):
            raise _without_journal(planned, run)


def _unknown(planned: TablePlan, last: RunRecord, at: int) -> Refused:
    name, versions = planned.table.name, "version 1 is" if at == 1 else f"versions 1 to {at} are"
    return Refused(
        f"{younger_reported(planned.table, last)}; whether {versions} applied in it is not known",
        where=f"table {name}",
        hint="look at its items, record which versions are applied, "
        + suggest("stamp", table=name, to="N")
        + " (0: none), and type the same command again",
    )


def _check_not_within(stage: Stage, state: State, planned: TablePlan, run: RunRecord) -> None:
    """Raises Refused where an item is as the run has written it, or where the journal is incomplete. The first page of
    each split is enough: a table restored from within the run has the earliest writes."""
    storage = open_storage(stage.connection, stage.storage)
    for each in phases(run):
        claims = {claim.split: claim for claim in state.splits(each.run).all(each.splits)}
        prefix = object_key(planned.table.name, each.run, JOURNAL)
        first, missing = _first_parts(storage.names(prefix), claims)
        if missing:
            raise _journal_missing(planned, run, missing, storage.place(prefix))
        for change in as_written(stage, planned.table, first):
            raise _within(planned, run, change.key)


def _first_parts(names: Iterable[str], claims: Claims) -> tuple[list[str], int]:
    """The journal's parts of each split's first page, and the number of parts that are counted and missing."""
    first: list[str] = []
    pages: dict[int, int] = {}
    missing = sum(due(claim).parts for claim in claims.values())
    for name in (name for name in names if not is_note(name)):
        part, claim = part_of(name), claims.get(part_of(name).split)
        if claim is not None:
            missing -= counts(name, claim)
            if pages.setdefault(part.split, part.page) == part.page:
                first.append(name)
    return first, missing


def _without_journal(planned: TablePlan, run: RunRecord) -> Refused:
    return Refused(
        f"IDEMPOTENT was True when run {run.run} of version {run.version} began, and is False now: it has written "
        "and keeps no journal, and the table was deleted and created again since; if it was restored from a moment "
        "within the run, some of its items would be transformed twice",
        where=f"table {planned.table.name}",
        hint="set IDEMPOTENT = True again, and type the same command; " + _or_from_before(planned, run),
        run=run.run,
    )


def _journal_missing(planned: TablePlan, run: RunRecord, missing: int, place: str) -> Refused:
    parts = "1 part" if missing == 1 else f"{missing:,} parts"
    return Refused(
        f"{parts} of the journal of run {run.run} of version {run.version} cannot be found, and the table was deleted "
        "and created again since; if it was restored from a moment within the run, some of its items would be "
        "transformed twice",
        where=place,
        hint="put the journal back, and type the same command; " + _or_from_before(planned, run),
        run=run.run,
    )


def _or_from_before(planned: TablePlan, run: RunRecord) -> Hint:
    before = f"or, if the table is as it was before {run.started} (restore it from then, if not): "
    return before + _record_and_repeat(planned, run)


def _record_and_repeat(planned: TablePlan, run: RunRecord) -> Hint:
    return suggest("stamp", table=planned.table.name, to=run.version - 1) + ", and the same command again"


def _within(planned: TablePlan, run: RunRecord, key: Image) -> Refused:
    shown = ", ".join(f"{attribute} = {next(iter(value.values()))}" for attribute, value in key.items())
    return Refused(
        f"the table was restored from a moment within run {run.run} of version {run.version}: the item {shown} is as "
        "that run has left it, and would be transformed twice",
        where=f"table {planned.table.name}",
        hint=f"restore it from before {run.started}; or, if the item was written so by the application: "
        + _record_and_repeat(planned, run),
        run=run.run,
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
    """Raises Refused for an export of a moment within a second: the first incremental export would begin before it, and
    show items of the export as created."""
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


# ---------------------------------------------------------------- what a run has written so far


def items_transformed(state: State, stage: Stage, table: TableSpec, record: RunRecord) -> int:
    """The number of items that a run has transformed so far, in `table`. Of a page with an intent and without a
    checkpoint, these are the items that are as the intent says; the others will be transformed again."""
    done = 0
    for claim in claims_of(state, record):
        done += transformed(claim.counts)
        if claim.intent is not None:
            intended = as_written(stage, table, claim.intent.parts)
            done += sum(claim.intent.counts[1:]) - claim.intent.counts.dead + sum(1 for _ in intended)
    return done


def as_written(stage: Stage, table: TableSpec, parts: Sequence[str]) -> Iterator[Change]:
    """The changes of these parts whose items are still as written, the last of each key; `table` is the one written to.
    Deleted items are not found. Raises RunFailed for a missing part."""
    journal = Journal(open_storage(stage.connection, stage.storage), table, "")
    reads = Reads(shared_wire(stage.connection.of_table(table.name)), table)
    for name in parts:
        changes = {key_text(change.key): change for change in journal.intended(name)}
        keys = {key_text(part.key): part.key for change in changes.values() for part in _written(change)}
        current = reads.items(list(keys.values())).items
        yield from (change for change in changes.values() if _bears(table, change, current))


def _bears(table: TableSpec, change: Change, current: dict[str, Image]) -> bool:
    there = ((part, current.get(key_text(part.key))) for part in _written(change))
    return any(image is not None and restoration(table, [part], image).change is not None for part, image in there)


def _written(change: Change) -> list[Journaled]:
    return [part for part in parts_of(change) if not isinstance(part, Check)]
