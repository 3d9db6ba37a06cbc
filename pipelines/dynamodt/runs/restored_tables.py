"""Detects a table that was restored from a moment within a run, by that run's journal, and a restored state table, by
the storage: in both cases items would be transformed twice. Also detects rows of `items()` that a `down` would leave,
and counts the items that a run has transformed so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import orjson

from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.wire import shared_wire
from dynamodt.errors import Hint, Refused, RunFailed, suggest
from dynamodt.model.reports import counted
from dynamodt.model.runs import INSERTED_ROWS, AppliedVersion, RunRecord
from dynamodt.model.tables import Change, Check, Image, Journaled, Stage, TableSpec
from dynamodt.pipeline.own_writes import InsertedItems
from dynamodt.pipeline.restoration import restoration
from dynamodt.runs.history import claims_of_run, has_written, refusal_for
from dynamodt.runs.plan import Step, TablePlan, last_run_before_recreation, recreated_sentence
from dynamodt.script.apply import item_rows, row_image, table_of_rows
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of, parts_of
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import (
    JOURNAL,
    Claims,
    begun_key,
    expected_journal,
    is_committed,
    is_note,
    is_unknown,
    object_key,
    part_of,
)
from dynamodt.state.runs import ITEMS, declared_key, phases, transformed, unfinished
from dynamodt.state.split_rows import totals_of

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.state.state import State
    from dynamodt.state.storage import Storage


def refuse_restored(
    project: Project, planned: TablePlan, runs: Sequence[RunRecord], applied: Mapping[int, AppliedVersion]
) -> None:
    """Raises Refused for a table that was created since its last run, if its applied versions are unknown, or if it was
    or may have been restored from a moment within a run: some items would be transformed twice."""
    last = last_run_before_recreation(planned.table, runs)
    if last is None:
        return
    if applied:
        raise _unknown(planned, last, max(applied))
    versions = {step.script.sequence for step in planned.steps if not step.script.idempotent}
    for run in runs:
        if run.run not in planned.former_runs or run.target or run.version not in versions:
            continue
        if run.began.get("key") not in (None, declared_key(planned.table.key)):
            continue  # a backup has the key of its table
        if run.journal:
            _check_not_within(project, planned, run)
        elif has_written(project.state, run):
            raise _without_journal(run)


def _unknown(planned: TablePlan, last: RunRecord, at: int) -> Refused:
    name, versions = planned.table.name, "version 1 is" if at == 1 else f"versions 1 to {at} are"
    return Refused(
        f"{recreated_sentence(planned.table, last)}; whether {versions} applied in it is not known",
        where=f"table {name}",
        hint="look at its items, " + _record_what_is_seen(name),
    )


def _check_not_within(project: Project, planned: TablePlan, run: RunRecord) -> None:
    """Raises Refused if an item is as the run has written it, or if the journal is incomplete. The first page of each
    split suffices: a table restored from a moment within the run has the earliest writes."""
    storage = project.storage
    for prefix, claims in _journals(project.state, run):
        first, missing = _first_parts(storage.names(prefix), claims)
        if missing:
            raise _journal_missing(run, missing, storage.place(prefix))
        for change in changes_still_written(project, planned.table, first):
            raise _within(run, change.key)


def _first_parts(names: Iterable[str], claims: Claims) -> tuple[list[str], int]:
    """The journal's parts of each split's first page, and the number of counted parts that are missing."""
    first: list[str] = []
    pages: dict[int, int] = {}
    missing = sum(expected_journal(claim).parts for claim in claims.values())
    for name in (name for name in names if not is_note(name)):
        part, claim = part_of(name), claims.get(part_of(name).split)
        if claim is not None:
            missing -= is_committed(name, claim)
            if pages.setdefault(part.split, part.page) == part.page:
                first.append(name)
    return first, missing


def _without_journal(run: RunRecord) -> Refused:
    what = (
        f"IDEMPOTENT was True when run {run.run} of version {run.version} began, and is False now: it has written "
        "and keeps no journal, and the table was deleted and created again since; if it was restored from a moment "
        "within the run, some of its items would be transformed twice"
    )
    return refusal_for(run, what, "set IDEMPOTENT = True, and run the same command again; " + _or_from_before(run))


def _journal_missing(run: RunRecord, missing: int, place: str) -> Refused:
    parts = counted(missing, "part")
    return Refused(
        f"{parts} of the journal of run {run.run} of version {run.version} cannot be found, and the table was deleted "
        "and created again since; if it was restored from a moment within the run, some of its items would be "
        "transformed twice",
        where=place,
        hint="restore the journal, and run the same command again; " + _or_from_before(run),
        run=run.run,
    )


def _or_from_before(run: RunRecord) -> Hint:
    before = f"or, if the table is as it was before {run.started} (restore it from then, if not): "
    return before + _record_and_repeat(run)


def _record_what_is_seen(table: str) -> Hint:
    stamped = suggest("stamp", table=table, to="N")
    return "record which versions are applied, " + stamped + " (0: none), and run the same command again"


def _record_and_repeat(run: RunRecord) -> Hint:
    return suggest("stamp", table=run.table, to=run.version - 1) + ", and the same command again"


def _within(run: RunRecord, key: Image) -> Refused:
    shown = ", ".join(f"{attribute} = {next(iter(value.values()))}" for attribute, value in key.items())
    what = (
        f"the table was restored from a moment within run {run.run} of version {run.version}: the item {shown} is as "
        "that run has left it, and would be transformed twice"
    )
    hint = f"restore it from before {run.started}; or, if the item was written so by the application: "
    return refusal_for(run, what, hint + _record_and_repeat(run))


# ---------------------------------------------------------------- a state table that was restored


_OLDER = "the state table is older than the storage (restored from a backup?)"


def check_begun(project: Project, table: TableSpec) -> None:
    """Raises Refused if the storage shows that a run has begun on this table, and the state table does not: it was
    restored from an earlier moment, or is another state table, and lacks that run's rows. The embedded stage is not
    checked: after a kill, its emulator has both tables from one moment."""
    if why := older_state_notice(project, table):
        raise _older(table.name, why)


def check_state(project: Project, table: TableSpec, runs: Iterable[RunRecord]) -> None:
    """Raises Refused if the state table is older than the storage, by the last run or by one that is unfinished."""
    check_begun(project, table)
    for run in (run for run in runs if unfinished(run.status)):
        check_rows(project, run)


def older_state_notice(project: Project, table: TableSpec) -> str:
    """The sentence that the state table is older than the last run of a table; empty if it is not."""
    run = "" if project.stage.embedded else unknown_run(project.state, project.storage, table)
    return f"{_OLDER}: run {run} has begun on this table since, which the state table does not show" if run else ""


def note_begun(storage: Storage, table: TableSpec, record: RunRecord) -> None:
    """Store, before this run writes an item, that it is the last run of the table, with the token of its lease. A dry
    run is not recorded."""
    if record.token:
        begun = {"run": record.run, "token": record.token}
        storage.write(begun_key(table.name, table.identity), orjson.dumps(begun))


def unknown_run(state: State, storage: Storage, table: TableSpec) -> str:
    """The last run that has begun on the table, if the state table has no record of it under that lease or a later one;
    otherwise empty, also if that run was on an earlier table of this name. The lease's own token proves nothing: a
    command that is refused raises it, too. Raises RunFailed if the object that names the run is damaged."""
    name = begun_key(table.name, table.identity)
    stored = storage.read(name) if table.identity else None
    if stored is None:
        return ""
    try:
        last = orjson.loads(stored)
        run, token = str(last["run"]), int(last["token"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(table.name, storage.place(name)) from error
    record = state.run(table.name, run)
    return "" if record is not None and record.token >= token else run


def _unreadable(table: str, place: str) -> RunFailed:
    return RunFailed(
        f"the object that names the last run that has begun on {table} is damaged",
        where=place,
        hint="run the same command again; if that ends the same, delete the object, provided that the state table has "
        "all runs (" + suggest("runs", table=table) + ")",
    )


def check_rows(project: Project, record: RunRecord) -> None:
    """Raises Refused if the journal of a run has pages that are later than its rows."""
    if lacks_rows(project, record):
        why = f"{_OLDER}: the journal of run {record.run} has pages after those that the state table shows"
        raise _older(record.table, why, record.run)


def lacks_rows(project: Project, record: RunRecord) -> bool:
    """Whether the journal of a run has pages that are later than its rows, so that its table may have their writes."""
    if project.stage.embedded:
        return False
    journals = _journals(project.state, record)
    return any(is_unknown(name, claims) for prefix, claims in journals for name in project.storage.names(prefix))


def _journals(state: State, run: RunRecord) -> Iterator[tuple[str, Claims]]:
    """The prefix of the journal of each phase, and the rows of its splits."""
    for each in phases(run):
        yield object_key(run.table, each.run, JOURNAL), state.splits(each.run).by_split(each.splits)


def _older(table: str, why: str, run: str = "") -> Refused:
    return Refused(
        f"{why}; items would be transformed twice",
        where=f"table {table}",
        hint="use the state table that has recorded it; or look at the items, " + _record_what_is_seen(table),
        run=run,
    )


# ---------------------------------------------------------------- rows that a way down would leave


def refuse_other_rows(project: Project, planned: TablePlan, runs: Sequence[RunRecord]) -> None:
    """Raises Refused for a `down` whose `items()` no longer gives all rows that the run of `up` has inserted: only the
    given rows would be deleted. The order of the rows is irrelevant."""
    known = {run.run: run for run in runs}
    for step in planned.steps if planned.direction == "down" else ():
        up = known.get(planned.rows_of(step))
        if up is not None and up.began.get(ITEMS, "") != step.began.get(ITEMS, up.began.get(ITEMS, "")):
            inserted = totals_of(project.state, [one for one in phases(up) if INSERTED_ROWS in one.run]).counts.changed
            left = inserted - _rows_given(project.stage, planned.table, step, up)
            if left > 0:
                raise _other_rows(step, up, left)


def _rows_given(stage: Stage, table: TableSpec, step: Step, up: RunRecord) -> int:
    """The number of the rows of `items()` now that the run has inserted."""
    wire = shared_wire(stage.connection.of_table(table.name))
    inserted = InsertedItems(wire, InsertedRows(stage.state_table, up.run), table.name)
    rows = (row_image(step.script, table_of_rows(table, "down"), row) for row in item_rows(step.script))
    keys = (key_of(table, row) for row in rows)
    return sum(len(inserted.rows_at(some)) for some in iter(lambda: list(islice(keys, 1000)), []))


def _other_rows(step: Step, up: RunRecord, left: int) -> Refused:
    undo = "; or undo that run by its journal: " + suggest("undo", up.run) if up.journal else ""
    rows = counted(left, "row")
    return Refused(
        f"items() does not give {rows} that run {up.run} (up of version {up.version}) has inserted: `down` would leave "
        f"{'it' if left == 1 else 'them'} in the table",
        where=step.script.path,
        hint="restore what items() reads, so that it gives the same rows as then" + undo,
        run=up.run,
    )


# ---------------------------------------------------------------- the writes of a run so far


def items_transformed(project: Project, table: TableSpec, record: RunRecord) -> int:
    """The number of items that a run has transformed so far, in `table`. In a page with an intent but no checkpoint,
    these are the items in the state that the intent gives; the others will be transformed again."""
    done = 0
    for claim in claims_of_run(project.state, record):
        done += transformed(claim.counts)
        if claim.intent is not None:
            intended = changes_still_written(project, table, claim.intent.parts)
            done += sum(claim.intent.counts[1:]) - claim.intent.counts.dead + sum(1 for _ in intended)
    return done


def changes_still_written(project: Project, table: TableSpec, parts: Sequence[str]) -> Iterator[Change]:
    """The changes of these parts whose items are still as written, the last one of each key; `table` is the written
    table. Deletions are not included. Raises RunFailed for a missing part."""
    journal = Journal(project.storage, table, "")
    reads = Reads(shared_wire(project.stage.connection.of_table(table.name)), table)
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
