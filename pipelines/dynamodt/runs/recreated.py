"""Tables that were deleted and created again under the same name, such as one restored from a backup.

Runs record the identity of the tables that they write to. Where it differs now, a run's checkpoints and its journal do
not apply to the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamodt.dynamodb import table as tables
from dynamodt.dynamodb.clients import NO_TABLE
from dynamodt.errors import Refused, ServiceError
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.state.phases import unfinished
from dynamodt.state.started_with import TABLE, TARGET


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
