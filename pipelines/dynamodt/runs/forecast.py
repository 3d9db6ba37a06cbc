"""`plan`: the estimated reads, writes, duration and cost of a table's pending versions, and the obstacles.

The plan is that of `up` (`runs.migration`). The share of changed items is that of a random sample, to which the
versions are applied in order, in memory (`runs.estimate`). Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from dynamodt.config.settings import DeploySettings, deploy_settings_of
from dynamodt.dynamodb.reads import segments
from dynamodt.dynamodb.table import Consumers, consumers, has_point_in_time_recovery
from dynamodt.errors import DynamodtError, Hint, Refused, ScriptError, ServiceError, suggest
from dynamodt.model.pages import Units
from dynamodt.model.runs import Script
from dynamodt.model.tables import Stage, TableSpec, limiting_table, name_in_requests
from dynamodt.runs.budget import ON_DEMAND, budget
from dynamodt.runs.context import Project
from dynamodt.runs.cost import GB, Prices, Work, amount_of, prices_of, usd
from dynamodt.runs.estimate import Chain, Span, Stratum, TableSample, VersionEstimate, read_sample, sum_if_known
from dynamodt.runs.history import continued_by, title_of
from dynamodt.runs.jobs import EXPORT, NEW
from dynamodt.runs.liveness import holder, is_alive
from dynamodt.runs.migration import plan_migration
from dynamodt.runs.options import GLUE
from dynamodt.runs.plan import Step, TablePlan, check_script, pending_steps
from dynamodt.runs.resume import check_unfinished
from dynamodt.state import prepared
from dynamodt.state.runs import phases, unfinished
from dynamodt.state.split_rows import totals_of

_PAGE_ITEMS = 500
_PAGE_BYTES = 1 << 20
_READ_BYTES = 4096
_ROUNDED = 0.25  # read units by which a page's size is rounded up, eventually consistent
_DPU = {"G.025X": 0.25, "G.1X": 1.0, "G.2X": 2.0, "G.4X": 4.0, "G.8X": 8.0, "R.1X": 1.0, "R.2X": 2.0, "R.4X": 4.0}
_LEAST_WORKERS = 2  # of a Glue job


class Obstacle(NamedTuple):
    """An obstacle. `stops`: `up` would be refused, or its run would fail; otherwise it is a note."""

    kind: str  # refused, prepared, dead letters, lease, unfinished, recovery, stream, kinesis, replicas, ttl
    text: str
    hint: Hint = Hint()
    stops: bool = False


class Rate(NamedTuple):
    """The units a second that a run may use; 0: not known. `why` gives the source of each."""

    rcu: float
    wcu: float
    why: str


@dataclass(frozen=True)
class VersionForecast:
    """One version: its estimate (None: `unknown` gives the reason), and its consumption, duration and cost. `seconds`
    is None without a known rate, `usd` without known prices."""

    version: int
    name: str
    estimate: VersionEstimate | None = None
    unknown: str = ""
    rcu: float = 0.0
    puts: Span = Span()
    export_bytes: int = 0
    seconds: Span | None = None
    usd: Span | None = None


@dataclass(frozen=True)
class TableForecast:
    """The pending versions of one table. `priceless` is the reason why there is no price; `error` is that of its files,
    or of the table."""

    table: str
    at: int = 0
    latest: int = 0
    items: int = 0
    counted: str = ""
    sample: TableSample = TableSample((), False)
    versions: tuple[VersionForecast, ...] = ()
    rate: Rate = Rate(0.0, 0.0, "")
    obstacles: tuple[Obstacle, ...] = ()
    as_of: str = ""  # of the prices
    priceless: str = ""
    error: DynamodtError | None = None

    @property
    def seconds(self) -> Span | None:
        return sum_if_known(version.seconds for version in self.versions)

    @property
    def usd(self) -> Span | None:
        return sum_if_known(version.usd for version in self.versions)

    @property
    def unknown(self) -> str:
        """The reason why a version has no estimate; empty if all have one."""
        found = (f"version {one.version} of {self.table}: {one.unknown}" for one in self.versions if one.unknown)
        return next(found, "")


def forecast(project: Project, name: str, to: int | None, sample: int) -> TableForecast:
    """The forecast of one table's pending versions up to `to`, from a sample of `sample` items."""
    try:
        return _forecast(project, name, to, sample)
    except DynamodtError as error:
        return TableForecast(name, error=error)


def _forecast(project: Project, name: str, to: int | None, number: int) -> TableForecast:
    stage, options = project.stage, replace(project.options, max_usd=0.0, dry_run=False)  # of the estimate alone
    project = replace(project, options=options)
    migration = plan_migration(project, name, "up", to, quiet=True)
    if migration.error is not None and not isinstance(migration.error, Refused):
        raise migration.error
    planned = migration.planned or pending_steps(project, name, to, migration.applied)
    table = planned.table
    sample = read_sample(project, table, number) if planned.steps else TableSample((), False)
    items = len(sample.images) if sample.whole else table.item_count
    prices = prices_of(stage, [table, *(step.target for step in planned.steps if step.target)])
    glue = deploy_settings_of(stage.name, project.folder) if options.runner == GLUE else None
    run = _Forecasting(project, planned, prices if isinstance(prices, Prices) else None, glue)
    versions = run.versions(Stratum(sample.images, float(items), sample.whole), planned.needs_consistent_read, number)
    return TableForecast(
        table=name,
        at=planned.at,
        latest=planned.latest,
        items=items,
        counted="counted now" if sample.whole else "DynamoDB's count, up to six hours old",
        sample=sample,
        versions=versions,
        rate=run.rate(table),
        obstacles=obstacles_of(project, planned, migration.error, versions),
        as_of=prices.as_of if isinstance(prices, Prices) else "",
        priceless="" if isinstance(prices, Prices) else prices,
    )


@dataclass(frozen=True)
class _Forecasting:
    """The settings that the versions of one plan share."""

    project: Project
    planned: TablePlan
    prices: Prices | None
    glue: DeploySettings | None

    def versions(self, sample: Stratum, consistent: bool, keep: int) -> tuple[VersionForecast, ...]:
        """The versions in their order, each applied to the sample as the previous version left it."""
        chain, found = Chain(self.planned.table, sample, keep), list[VersionForecast]()
        unknown = ""
        for step in self.planned.steps:
            script = step.script
            check_script(script)
            unknown, estimate = (unknown, None) if unknown else self._estimate(chain, step)
            if estimate is None:
                found.append(VersionForecast(script.sequence, script.name, unknown=unknown))
                first = f"follows version {script.sequence}, which has no estimate"
                unknown = unknown if unknown.startswith("follows") else first
            else:
                found.append(self._version(step, estimate, consistent))
            consistent = True
        return tuple(found)

    def _estimate(self, chain: Chain, step: Step) -> tuple[str, VersionEstimate | None]:
        script = step.script
        rows: Mapping[Any, Any] = MappingProxyType({})
        if script.has_prepare and script.has_up:
            if step.prepared is None:
                return "it needs prepared data, and has none", None
            rows = prepared.load(self.project.storage, script, step.prepared)
        try:
            return "", chain.apply(script, rows, step.target, self._exports(script), self._journals(script))
        except ScriptError as error:
            return f"its run would be stopped: {error}", None

    def _exports(self, script: Script) -> bool:
        return (self.project.options.source or script.source) == EXPORT

    def _journals(self, script: Script) -> bool:
        return bool(self.project.options.journal) or not script.idempotent

    def _version(self, step: Step, estimate: VersionEstimate, consistent: bool) -> VersionForecast:
        script, table = step.script, self.planned.table
        exports = self._exports(script) and script.has_up
        pages = estimate.items / _PAGE_ITEMS if estimate.items else 0.0
        pages = max(pages, estimate.bytes / _PAGE_BYTES) + segments(table)
        read_units = (estimate.bytes / _READ_BYTES / 2 + _ROUNDED * pages) * (2 if consistent else 1)
        rcu = (0.0 if exports or not script.has_up else read_units) + estimate.read_again.likely
        in_s3 = self.project.stage.storage.in_s3 and self._journals(script)
        puts = Span(*(min(pages, changed) for changed in estimate.changed)) if in_s3 else Span()
        requested = exports and self.project.options.export in ("", NEW)
        version = VersionForecast(
            script.sequence,
            script.name,
            estimate,
            rcu=rcu,
            puts=puts,
            export_bytes=table.size_bytes if requested else 0,
            seconds=self._seconds(step, rcu, estimate.wcu),
        )
        return replace(version, usd=self._usd(version))

    def rate(self, table: TableSpec, target: TableSpec | None = None) -> Rate:
        """The units a second of a run's budget, and their source."""
        written, options = target or table, self.project.options
        limits = budget(self.project.stage, table, written, options)
        if self.project.stage.local:
            return Rate(*limits, _why_locally(limits))
        reads = _why("--max-rcu", options.max_rcu, table.read_units, table.provisioned, options.share)
        limiting = limiting_table(table, written)
        writes = _why("--max-wcu", options.max_wcu, limiting.write_units, limiting.provisioned, options.share)
        if limiting.limiting_index and not options.max_wcu:
            writes += f" of index {limiting.limiting_index}"
        return Rate(limits.rcu or ON_DEMAND.rcu, limits.wcu or ON_DEMAND.wcu, f"reads: {reads}; writes: {writes}")

    def _seconds(self, step: Step, rcu: float, wcu: Span) -> Span | None:
        rate = self.rate(self.planned.table, step.target)
        if (rcu and not rate.rcu) or (wcu.high and not rate.wcu):
            return None
        reading = rcu / rate.rcu if rcu else 0.0
        return Span(*(max(reading, units / rate.wcu if units else 0.0) for units in wcu))

    def _usd(self, version: VersionForecast) -> Span | None:
        prices, estimate = self.prices, version.estimate
        if prices is None or estimate is None:
            return None
        amounts: list[float | None] = []
        for wcu, puts, stored, seconds in zip(
            estimate.wcu, version.puts, estimate.journal_bytes, version.seconds or Span(), strict=True
        ):
            work = Work(wcu=wcu, rcu=version.rcu, puts=round(puts), full_bytes=version.export_bytes)
            amounts += [self._amount(prices, work, stored, seconds, len(amounts))]
        return None if None in amounts else Span(*amounts)  # type: ignore[arg-type]

    def _amount(self, prices: Prices, work: Work, stored: float, seconds: float, bound: int) -> float | None:
        """The price of the work, including the first month of its journal, and of Glue's workers: the minimum number of
        a job for the lower bound, otherwise all of them."""
        amount = amount_of(work, prices)
        if amount is None or (stored and prices.stored is None):
            return None
        amount += stored / GB * (prices.stored or 0.0)
        if self.glue is None:
            return amount
        price = prices.flex_dpu if self.glue.flex else prices.dpu
        if price is None or self.glue.worker_type not in _DPU:
            return None
        workers = _LEAST_WORKERS if bound == 0 else self.glue.workers
        return amount + workers * _DPU[self.glue.worker_type] * price * max(60.0, seconds) / 3600


def _why_locally(limits: Units) -> str:
    if not any(limits):
        return "a local stage has no budget, and its speed is not known"
    sides = (("reads", "--max-rcu", limits.rcu), ("writes", "--max-wcu", limits.wcu))
    given, missing = "{}: {:,.0f} a second, by {}", "{0}: no budget on a local stage without {2}"
    return "; ".join((given if limit else missing).format(side, limit, option) for side, option, limit in sides)


def _why(option: str, given: float, capacity: float, provisioned: bool, share: float) -> str:
    if given:
        return f"{given:,.0f} a second, by {option}"
    if capacity:
        of_what = "provisioned" if provisioned else "the on-demand maximum of"
        return f"{capacity * share / 100:,.0f} a second, {share:g} % of {of_what} {capacity:,.0f}"
    return "no limit: the run's first rate, which it raises until the table throttles"


# ---------------------------------------------------------------- the obstacles


def obstacles_of(
    project: Project, planned: TablePlan, error: DynamodtError | None, versions: Sequence[VersionForecast]
) -> tuple[Obstacle, ...]:
    """All obstacles, first those that stop `up`. `error` is the refusal of the plan, if any."""
    if error is None and planned.steps:
        try:
            check_unfinished(project, planned)
        except DynamodtError as refused:
            error = refused
    found = list(_of_versions(planned, versions))
    if error is not None and error.what not in {obstacle.text for obstacle in found}:
        found.insert(0, Obstacle("refused", str(error), error.hint, stops=True))
    if planned.steps:
        found += _of_the_table(project, planned, versions)
    unique = {obstacle.text: obstacle for obstacle in found}
    return tuple(sorted(unique.values(), key=lambda obstacle: not obstacle.stops))


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
    state, targets = project.state, (step.target for step in planned.steps if step.target)
    written = {table.name: table for table in (planned.table, *targets)}
    for name in written:
        if is_alive(lease := state.leases.read(name)):
            what = f"another run is in progress on table {name}: {holder(lease)}"
            yield Obstacle("lease", what, suggest("status", follow=True), stops=True)
    for record in state.runs(planned.table.name):
        if unfinished(record.status) and record.run not in planned.former_runs:
            done = totals_of(state, phases(record)).counts
            so_far = f"{done.read:,} items read and {done.changed:,} changed: the estimate is for all items"
            what = f"{title_of(record)} is {record.status}, with {so_far}"
            yield Obstacle("unfinished", what, continued_by(record) + " continues it")
    for table in written.values():
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
    found = Consumers() if stage.local else consumers(stage.connection.of_table(table.name), table)
    if found.functions:
        yield Obstacle("stream", f"{where}: its stream triggers {', '.join(found.functions)}")
    for name in found.kinesis:
        yield Obstacle("kinesis", f"{where}: {writes} is a record of the Kinesis stream {name}")
    if found.ttl:
        what = f"items expire by {found.ttl}; one that expires during the run counts as vanished"
        yield Obstacle("ttl", f"{where}: {what}")
    if found.unknown:
        yield Obstacle("consumers", f"{where}: {found.unknown}")


def _missing_recovery(stage: Stage, table: TableSpec) -> Iterator[Obstacle]:
    """Point-in-time recovery that is off. A protected stage refuses `up` for it, which is an obstacle of its own."""
    try:
        on = has_point_in_time_recovery(stage.connection.of_table(table.name), name_in_requests(table.name))
    except ServiceError as error:
        what = f"whether point-in-time recovery is on cannot be read: {error.what}"
        yield Obstacle("recovery", f"table {table.name}: {what}")
        return
    if not on:
        yield Obstacle("recovery", f"table {table.name}: point-in-time recovery is off: it cannot be restored")


def exceeded(found: Sequence[TableForecast], max_usd: float, max_hours: float) -> list[Refused]:
    """The errors for limits that the upper estimate of all tables exceeds, or that cannot be checked. The tables run
    one after the other."""
    errors: list[Refused] = []
    if max_usd:
        total = sum_if_known(one.usd for one in found)
        why = next((one.unknown or one.priceless for one in found if one.usd is None), "")
        errors += _over("--max-usd", "cost", total, max_usd, usd, why or "a price is not known")
    if max_hours:
        seconds = sum_if_known(one.seconds for one in found)
        hours = seconds.times(1 / 3600) if seconds is not None else None
        why = next((one.unknown or one.rate.why for one in found if one.seconds is None), "")
        errors += _over("--max-hours", "take", hours, max_hours, _hours, why)
    return errors


def _hours(amount: float) -> str:
    return f"{amount:,.2f} h" if amount >= 0.1 else f"{amount:.2g} h"


def _over(option: str, verb: str, total: Span | None, limit: float, shown: Any, why: str) -> list[Refused]:
    if total is None:
        hint = "leave the option out, or correct the cause"
        return [Refused(f"whether {option} {shown(limit)} suffices cannot be estimated: {why}", hint=hint)]
    if total.high <= limit:
        return []
    what = f"the pending versions would {verb} up to {shown(total.high)}, and {option} is {shown(limit)}"
    return [Refused(what, hint="nothing was started; raise the limit, or choose --table and --to")]
