"""The obstacles to a table's pending versions, and the consumers of their writes, for `plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.dynamodb.table import consumers, has_point_in_time_recovery
from dynamodt.errors import DynamodtError, Hint, ServiceError, as_hint, suggest
from dynamodt.model.tables import Stage, TableSpec, name_in_requests
from dynamodt.runs.liveness import holder, is_alive
from dynamodt.runs.plan import TablePlan
from dynamodt.runs.resume import check_unfinished
from dynamodt.state.runs import phases, unfinished
from dynamodt.state.split_rows import totals_of

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.runs.forecast import VersionForecast


class Obstacle(NamedTuple):
    """An obstacle. `stops`: `up` would be refused, or its run would fail; otherwise it is a note."""

    kind: str  # refused, prepared, dead letters, lease, unfinished, recovery, stream, kinesis, replicas, ttl
    text: str
    hint: Hint = Hint()
    stops: bool = False


def obstacles_of(
    project: Project, planned: TablePlan, error: DynamodtError | None, versions: Sequence[VersionForecast]
) -> tuple[Obstacle, ...]:
    """All obstacles, first those that stop `up`. `error` is the refusal of the plan, if any."""
    found = list(_of_versions(planned, versions))
    if error is None or error.what not in {obstacle.text for obstacle in found}:
        found = [*_refusals(project, planned, error), *found]
    if planned.steps:
        found += _of_the_table(project, planned, versions)
    unique = {obstacle.text: obstacle for obstacle in found}
    return tuple(sorted(unique.values(), key=lambda obstacle: not obstacle.stops))


def _refusals(project: Project, planned: TablePlan, error: DynamodtError | None) -> Iterator[Obstacle]:
    if error is None and planned.steps:
        try:
            check_unfinished(project, planned)
        except DynamodtError as refused:
            error = refused
    if error is not None:
        yield Obstacle("refused", str(error), error.hint, stops=True)


def _of_versions(planned: TablePlan, versions: Sequence[VersionForecast]) -> Iterator[Obstacle]:
    table = planned.table.name
    for step, version in zip(planned.steps, versions, strict=False):
        script = step.script
        if script.has_prepare and script.has_up and step.prepared is None:
            hint = suggest("prepare", table=table, version=script.sequence)
            yield Obstacle("prepared", f"version {script.sequence} needs prepared data, and has none", hint, stops=True)
        elif version.unknown and not version.unknown.startswith("follows"):
            yield Obstacle("refused", f"version {script.sequence}: {version.unknown}", stops=True)
        if version.estimate is not None and version.estimate.dead:
            estimate, kind = version.estimate, version.estimate.error.partition(":")[0]
            of_sample = f"{estimate.dead:,} of {estimate.sample_items:,} sampled items"
            what = f"version {script.sequence}: {of_sample} would become dead letters ({kind})"
            yield Obstacle("dead letters", what, suggest("up", table=table, dry_run=True) + " names them", stops=True)


def _of_the_table(project: Project, planned: TablePlan, versions: Sequence[VersionForecast]) -> Iterator[Obstacle]:
    state, name = project.state, planned.table.name
    lease = state.leases.read(name)
    if lease.run and is_alive(lease):
        yield Obstacle(
            "lease", f"another run is in progress: {holder(lease)}", suggest("status", follow=True), stops=True
        )
    for record in state.runs(name):
        if unfinished(record.status) and record.run not in planned.former_runs:
            done = totals_of(state, phases(record)).counts
            what = f"run {record.run} ({record.direction} of version {record.version}) is {record.status}, with "
            what += f"{done.read:,} items read and {done.changed:,} changed: the estimate is for all items"
            yield Obstacle("unfinished", what, as_hint("`up` of the same version continues it"))
    targets = [step.target for step in planned.steps if step.target]
    for table in {table.name: table for table in (planned.table, *targets)}.values():
        yield from _of_a_written_table(project.stage, table, _writes(planned, versions, table.name))


def _writes(planned: TablePlan, versions: Sequence[VersionForecast], table: str) -> str:
    """The approximate number of items that all versions write to a table, in words."""
    names = [(step.target or planned.table).name for step in planned.steps]
    found = [one.estimate for one, name in zip(versions, names, strict=False) if name == table]
    if None in found:
        return "each write"
    low, high = (sum(getattr(one.records, bound) for one in found if one is not None) for bound in ("low", "high"))
    return f"each of about {low:,.0f} writes" if low == high else f"each of about {low:,.0f} to {high:,.0f} writes"


def _of_a_written_table(stage: Stage, table: TableSpec, writes: str) -> Iterator[Obstacle]:
    where = f"table {table.name}"
    if not stage.local:
        yield from _missing_recovery(stage, table)
    if table.stream:
        yield Obstacle("stream", f"{where}: {writes} is a record of its stream")
    if table.replicas:
        yield Obstacle("replicas", f"{where}: {writes} is replicated to {', '.join(table.replicas)}")
    if stage.local:
        return
    found = consumers(stage.connection.of_table(table.name), table)
    if found.functions:
        yield Obstacle("stream", f"{where}: its stream triggers {', '.join(found.functions)}")
    for name in found.kinesis:
        yield Obstacle("kinesis", f"{where}: {writes} is a record of the Kinesis stream {name}")
    if found.ttl:
        what = f"items expire by {found.ttl}; one that expires during the run counts as vanished"
        yield Obstacle("ttl", f"{where}: {what}")


def _missing_recovery(stage: Stage, table: TableSpec) -> Iterator[Obstacle]:
    """The obstacle of point-in-time recovery that is off. A protected stage refuses `up` for it, as `_refusals`
    lists."""
    try:
        on = has_point_in_time_recovery(stage.connection.of_table(table.name), name_in_requests(table.name))
    except ServiceError as error:
        what = f"whether point-in-time recovery is on cannot be read: {error.what}"
        yield Obstacle("recovery", f"table {table.name}: {what}")
        return
    if not on:
        yield Obstacle("recovery", f"table {table.name}: point-in-time recovery is off: it cannot be restored")
