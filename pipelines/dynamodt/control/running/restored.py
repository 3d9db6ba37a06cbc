"""What stands in the way where a table is another one than at its last run: it was restored, or made anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from dynamodt.aws.storage import open_storage
from dynamodt.control.planner import TablePlan
from dynamodt.control.running.as_written import as_written
from dynamodt.control.running.tables_gone import told_younger, younger
from dynamodt.core.passes import passes
from dynamodt.core.places import is_note, journal_of_run, part_of
from dynamodt.errors import Refused
from dynamodt.model import AppliedVersion, Image, RunRecord, Stage


def refuse_restored(
    stage: Stage, planned: TablePlan, runs: Sequence[RunRecord], applied: Mapping[int, AppliedVersion]
) -> None:
    """Raises Refused for a table that was created since its last run, where it is not known which versions stand in it,
    or where it was restored from a moment within a run: some of its items would be transformed twice."""
    last = younger(planned.table, runs)
    if last is None:
        return
    if applied:
        raise _unknown(planned, last, max(applied))
    versions = {step.script.sequence for step in planned.steps if not step.script.idempotent}
    for run in runs:
        if run.run in planned.gone and run.journal and not run.target and run.version in versions:
            _check_not_within(stage, planned, run)


def _unknown(planned: TablePlan, last: RunRecord, at: int) -> Refused:
    name, versions = planned.table.name, "version 1 stands" if at == 1 else f"versions 1 to {at} stand"
    return Refused(
        f"{told_younger(planned.table, last)}; whether {versions} in it is not known",
        where=f"table {name}",
        hint="look at its items, say which versions stand in them, "
        f"dynamodt stamp --table {name} --to N (0: none), and type the same command again",
    )


def _check_not_within(stage: Stage, planned: TablePlan, run: RunRecord) -> None:
    """Raises Refused where an item is as the run has left it. What it has written first, of each unit, is looked at:
    whatever was written later, that was there already."""
    storage = open_storage(stage.connection, stage.storage)
    for each in passes(run):
        first = list(_first_parts(storage.names(journal_of_run(planned.table.name, each.run))))
        for change in as_written(stage, planned.table, first):
            raise _within(planned, run, change.key)


def _first_parts(names: Iterable[str]) -> Iterator[str]:
    """The parts of each unit's first page in the journal."""
    parts = (name for name in names if not is_note(name))
    for _, of_unit in groupby(parts, key=lambda name: part_of(name).unit):
        for _, of_page in groupby(of_unit, key=lambda name: part_of(name).page):
            yield from of_page
            break


def _within(planned: TablePlan, run: RunRecord, key: Image) -> Refused:
    name = planned.table.name
    shown = ", ".join(f"{attribute} = {next(iter(value.values()))}" for attribute, value in key.items())
    return Refused(
        f"the table was restored from a moment within run {run.run} of version {run.version}: the item {shown} is as "
        "that run has left it, and would be transformed twice",
        where=f"table {name}",
        hint=f"restore it from before {run.started}; or, if the item was written so by the application: "
        f"dynamodt stamp --table {name} --to {run.version - 1}, and the same command again",
    )
