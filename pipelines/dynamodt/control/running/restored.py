"""What stands in the way where a table is another one than at its last run: it was restored, or made anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dynamodt.aws.state import State
from dynamodt.aws.storage import open_storage
from dynamodt.control.planner import TablePlan
from dynamodt.control.running.as_written import as_written
from dynamodt.control.running.resuming import has_written
from dynamodt.control.running.tables_gone import told_younger, younger
from dynamodt.core.counted import Claims, counts, due
from dynamodt.core.passes import passes
from dynamodt.core.places import is_note, journal_of_run, part_of
from dynamodt.errors import Refused
from dynamodt.model import AppliedVersion, Image, RunRecord, Stage


def refuse_restored(
    stage: Stage, planned: TablePlan, runs: Sequence[RunRecord], applied: Mapping[int, AppliedVersion]
) -> None:
    """Raises Refused for a table that was created since its last run, where it is not known which versions stand in it,
    or where it was restored, or may have been, from a moment within a run: some of its items would be transformed
    twice."""
    last = younger(planned.table, runs)
    if last is None:
        return
    if applied:
        raise _unknown(planned, last, max(applied))
    versions = {step.script.sequence for step in planned.steps if not step.script.idempotent}
    state = State(stage.connection, stage.state_table)
    for run in runs:
        if run.run not in planned.gone or run.target or run.version not in versions:
            continue
        if run.journal:
            _check_not_within(stage, state, planned, run)
        elif has_written(state, run):
            raise _without_journal(planned, run)


def _unknown(planned: TablePlan, last: RunRecord, at: int) -> Refused:
    name, versions = planned.table.name, "version 1 stands" if at == 1 else f"versions 1 to {at} stand"
    return Refused(
        f"{told_younger(planned.table, last)}; whether {versions} in it is not known",
        where=f"table {name}",
        hint="look at its items, say which versions stand in them, "
        f"dynamodt stamp --table {name} --to N (0: none), and type the same command again",
    )


def _check_not_within(stage: Stage, state: State, planned: TablePlan, run: RunRecord) -> None:
    """Raises Refused where an item is as the run has left it, or where the journal cannot tell. What it has written
    first, of each unit, is looked at: whatever was written later, that was there already."""
    storage = open_storage(stage.connection, stage.storage)
    for each in passes(run):
        claims = {claim.unit: claim for claim in state.units(each.run).all(each.units)}
        prefix = journal_of_run(planned.table.name, each.run)
        first, missing = _first_parts(storage.names(prefix), claims)
        if missing:
            raise _journal_missing(planned, run, missing, storage.place(prefix))
        for change in as_written(stage, planned.table, first):
            raise _within(planned, run, change.key)


def _first_parts(names: Iterable[str], claims: Claims) -> tuple[list[str], int]:
    """The parts of each unit's first page in the journal, and how many parts that the units' rows count are missing."""
    first: list[str] = []
    pages: dict[int, int] = {}
    missing = sum(due(claim).parts for claim in claims.values())
    for name in (name for name in names if not is_note(name)):
        part, claim = part_of(name), claims.get(part_of(name).unit)
        if claim is not None:
            missing -= counts(name, claim)
            if pages.setdefault(part.unit, part.page) == part.page:
                first.append(name)
    return first, missing


def _without_journal(planned: TablePlan, run: RunRecord) -> Refused:
    return Refused(
        f"IDEMPOTENT was True when run {run.run} of version {run.version} began, and is False now: it has written "
        "and keeps no journal, and the table was deleted and created again since; if it was restored from a moment "
        "within the run, some of its items would be transformed twice",
        where=f"table {planned.table.name}",
        hint=f"set IDEMPOTENT = True again, and type the same command; {_or_from_before(planned, run)}",
        run=run.run,
    )


def _journal_missing(planned: TablePlan, run: RunRecord, missing: int, place: str) -> Refused:
    parts = "1 part" if missing == 1 else f"{missing:,} parts"
    return Refused(
        f"{parts} of the journal of run {run.run} of version {run.version} cannot be found, and the table was deleted "
        "and created again since; if it was restored from a moment within the run, some of its items would be "
        "transformed twice",
        where=place,
        hint=f"put the journal back, and type the same command; {_or_from_before(planned, run)}",
        run=run.run,
    )


def _or_from_before(planned: TablePlan, run: RunRecord) -> str:
    return (
        f"or, if the table is as it was before {run.started} (restore it from then, if not): "
        f"dynamodt stamp --table {planned.table.name} --to {run.version - 1}, and the same command again"
    )


def _within(planned: TablePlan, run: RunRecord, key: Image) -> Refused:
    name = planned.table.name
    shown = ", ".join(f"{attribute} = {next(iter(value.values()))}" for attribute, value in key.items())
    return Refused(
        f"the table was restored from a moment within run {run.run} of version {run.version}: the item {shown} is as "
        "that run has left it, and would be transformed twice",
        where=f"table {name}",
        hint=f"restore it from before {run.started}; or, if the item was written so by the application: "
        f"dynamodt stamp --table {name} --to {run.version - 1}, and the same command again",
        run=run.run,
    )
