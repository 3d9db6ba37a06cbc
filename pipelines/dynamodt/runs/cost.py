"""The consumers of a run's writes, the estimated cost of a run for a dry run's report, and the `--max-usd` limit.

Prices are AWS's, in US dollars, for the common regions; other regions have none. They come from the AWS Price List
(shown on https://aws.amazon.com/dynamodb/pricing/on-demand/ and https://aws.amazon.com/s3/pricing/): the offers
AmazonDynamoDB (`WriteRequestUnits`, `ReadRequestUnits`, `ExportDataSize-Bytes`, `IncrementalExportDataSize-Bytes`) and
AmazonS3 (`Requests-Tier1`, `Requests-Tier2`) of
https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/OFFER/current/REGION/index.json, from copies of these files.
`as_of` is the day for which DynamoDB's unit prices are known; S3's were unchanged between September 2024 and September
2026. The price of an export is None if no copy has it. The prices of S3's storage (`TimedStorage-ByteHrs`) and of Glue
(`ETL-DPU-Hour`, `ETL-Flex-DPU-Hour`) are from the offers' pages; FLEX is None if no page was available.

Each write to a global table is charged in every region with a replica, at the price of a write there (AWS's Developer
Guide, "Understanding Amazon DynamoDB billing for global tables"). The table class Standard-IA has other prices, which
are not known here.

Not included: provisioned and reserved capacity, free tiers, savings plans and credits, data transfer, KMS,
point-in-time recovery, taxes; writes that are repeated after a conflict, incremental exports, the state table (a few
rows per page, one per insertion), and the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from dynamodt.dynamodb.table import Consumers, consumers
from dynamodt.errors import CostReached, Refused
from dynamodt.export.objects import PIECE
from dynamodt.model.pages import Totals
from dynamodt.model.reports import Cost, RunReport, counted
from dynamodt.model.runs import ExportSource, Job, RunRecord
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.jobs import EXPORT, NEW, moves_items

if TYPE_CHECKING:
    from dynamodt.runs.context import Project, RunContext
    from dynamodt.runs.options import RunOptions
    from dynamodt.runs.plan import TablePlan
    from dynamodt.state.state import State


MILLION = 1_000_000
THOUSAND = 1_000
GB = 1 << 30
_CENT = 0.01


class Prices(NamedTuple):
    """One region's prices: standard table class, on demand."""

    as_of: str
    write: float  # a million write request units
    read: float  # a million read request units
    put: float  # a thousand PUT requests to S3 Standard
    get: float  # a thousand GET requests
    full_export: float | None = None  # a GB of the table
    incremental_export: float | None = None  # a GB of the changes
    stored: float | None = None  # a GB in S3 Standard, a month
    dpu: float | None = None  # a DPU hour of Glue's Spark jobs
    flex_dpu: float | None = None  # the same, of FLEX


PRICES = {
    "us-east-1": Prices("2026-05-13", 0.625, 0.125, 0.005, 0.0004, 0.10, stored=0.023, dpu=0.44, flex_dpu=0.29),
    "us-east-2": Prices("2026-09-11", 0.625, 0.125, 0.005, 0.0004, 0.10, 0.10, stored=0.023, dpu=0.44),
    "us-west-2": Prices("2026-10-04", 0.625, 0.125, 0.005, 0.0004, stored=0.023, dpu=0.44),
    "eu-west-1": Prices("2026-09-11", 0.705, 0.1415, 0.005, 0.0004, stored=0.023, dpu=0.44),
    "eu-central-1": Prices("2026-09-11", 0.7625, 0.1525, 0.0054, 0.00043, stored=0.0245, dpu=0.44),
    "ap-southeast-2": Prices("2026-08-13", 0.71, 0.1425, 0.0055, 0.00044, stored=0.025, dpu=0.44),
}


INDEX_WRITES = 2
"""The most writes that one write to the table causes in one secondary index.

None, where no attribute of the index changes; one, where one does, or the item is inserted or deleted; two, where the
index's key changes: the old entry is deleted, a new one put (AWS's Developer Guide,
GSI.ThroughputConsiderations.Writes). An entry is at most as large as its item, and so is the cost of its write.
"""


class Work(NamedTuple):
    """The consumption of a run. `wcu` is that of the table without its indexes; exports count the bytes that AWS
    bills."""

    wcu: float = 0.0
    rcu: float = 0.0
    indexes: int = 0
    puts: int = 0
    gets: int = 0
    full_bytes: int = 0
    incremental_bytes: int = 0


def cost_of(work: Work, prices: Prices | None) -> Cost:
    """The cost of the work. `usd` is None without prices (the region is unknown, or the capacity is provisioned and
    billed by the hour), and if the price of an export is unknown in the region."""
    most = work.wcu * (1 + INDEX_WRITES * work.indexes)
    others = None if prices is None else _without_writes(work, prices)
    cost = Cost(work.wcu, most, work.rcu, work.puts, work.gets, work.full_bytes + work.incremental_bytes)
    if prices is None or others is None:
        return cost
    low, high = (others + wcu * prices.write / MILLION for wcu in (work.wcu, most))
    return cost._replace(usd=(low, high), as_of=prices.as_of)


def amount_of(work: Work, prices: Prices) -> float | None:
    """The cost of the work in US dollars; its `wcu` are all of its writes. None if the region has no price of an
    export."""
    others = _without_writes(work, prices)
    return None if others is None else others + work.wcu * prices.write / MILLION


def usd(amount: float) -> str:
    """An amount in the form `$12.30`; less than a cent with two significant digits."""
    return f"${amount:,.2f}" if amount >= _CENT or not amount else f"${amount:.2g}"


def _without_writes(work: Work, prices: Prices) -> float | None:
    exports = ((work.full_bytes, prices.full_export), (work.incremental_bytes, prices.incremental_export))
    if any(size and price is None for size, price in exports):
        return None
    return (
        work.rcu * prices.read / MILLION
        + (work.puts * prices.put + work.gets * prices.get) / THOUSAND
        + sum(size * (price or 0.0) / GB for size, price in exports)
    )


_AWS = ".amazonaws.com"


def with_expected_cost(
    report: RunReport, state: State, phases: Sequence[Job], totals: Totals, new_export: bool = False
) -> RunReport:
    """The report of a successful dry run with the cost of the real run; any other report unchanged.

    The real run would read the same items and write the previewed changes; with `new_export` it would request an
    export.
    """
    if report.status != "dry-run":
        return report
    work = Work(
        wcu=totals.units.wcu,
        rcu=totals.units.rcu,
        indexes=phases[0].written_table.indexes,
        puts=_journal_puts(state, phases, totals.counts.changed),
    )
    for job in phases:
        if isinstance(job.source, ExportSource):
            work = work._replace(gets=_gets(job), full_bytes=job.table.size_bytes if new_export else 0)
    prices = prices_of(phases[0].stage, (phases[0].table, phases[0].written_table))
    return replace(report, cost=cost_of(work, prices if isinstance(prices, Prices) else None))


def _gets(job: Job) -> int:
    """The maximum number of GETs of an export's files, in pieces: each file holds a part of the table, compressed."""
    return job.splits * -(-max(1, job.table.size_bytes // (job.splits or 1)) // PIECE)


def prices_of(stage: Stage, tables: Sequence[TableSpec]) -> Prices | str:
    """The prices of a run that reads the first of these tables and writes to the last, or the reason why there are
    none."""
    if not _is_aws(stage):
        return "the stage is an emulator, which has no prices"
    provisioned = [table.name for table in tables if table.provisioned]
    if provisioned:
        return f"{provisioned[0]} has provisioned capacity, which is billed by the hour whatever a run consumes"
    infrequent = [table.name for table in tables if table.infrequent_access]
    if infrequent:
        return f"{infrequent[0]} has the table class Standard-IA, whose prices are not known"
    regions = [stage.connection.of_table(table.name).region for table in tables]
    written = [regions[-1], *tables[-1].replicas]
    unknown = [region for region in (*regions, *written) if region not in PRICES]
    if unknown:
        return f"there are no prices for the region {unknown[0]}"
    return PRICES[regions[0]]._replace(write=sum(PRICES[region].write for region in written))


def _journal_puts(state: State, phases: Sequence[Job], changed: int) -> int:
    """The PUTs of the journal: one per page with a change, so at most one per change."""
    if not phases[0].stage.storage.in_s3:
        return 0
    journaled = [job for job in phases if replace(job, dry_run=False).journals]
    return min(changed, sum(c.page for job in journaled for c in state.splits(job.run).all(job.splits)))


def _is_aws(stage: Stage) -> bool:
    """Whether the stage is billed: its endpoint is AWS's, not an emulator's."""
    endpoint = stage.connection.endpoint()
    return not stage.local and (endpoint is None or (urlsplit(endpoint).hostname or "").endswith(_AWS))


# ---------------------------------------------------------------- a limit in US dollars


def check_priced(stage: Stage, tables: Sequence[TableSpec], options: RunOptions) -> None:
    """Raises Refused if a limit in US dollars is set and the cost cannot be metered."""
    if options.max_usd:
        known_prices(stage, tables)


def check_exports_priced(stage: Stage, planned: TablePlan, options: RunOptions) -> None:
    """Raises Refused if a run of the plan requests an export without a known price, or one that costs too much."""
    if not options.max_usd or not requests_export(planned, options):
        return
    table, price = planned.table, known_prices(stage, [planned.table]).full_export
    if price is None:
        raise _unpriced(f"the price of an export in {stage.connection.region} is not known", table.name)
    if (cost := table.size_bytes * price / GB) >= options.max_usd:
        raise Refused(
            f"the export alone costs {usd(cost)}, and --max-usd is {usd(options.max_usd)}",
            where=f"table {table.name}",
            hint="raise --max-usd, or read the table itself: --source scan",
        )


def requests_export(planned: TablePlan, options: RunOptions) -> bool:
    """Whether new runs of the plan request an export."""
    moving = [step.script for step in planned.steps if moves_items(step.script, planned.direction)]
    return options.export in ("", NEW) and any((options.source or one.source) == EXPORT for one in moving)


def known_prices(stage: Stage, tables: Sequence[TableSpec]) -> Prices:
    """The prices of `prices_of`. Raises Refused if there are none."""
    prices = prices_of(stage, tables)
    if isinstance(prices, Prices):
        return prices
    raise _unpriced(prices, tables[0].name)


def _unpriced(why: str, table: str) -> Refused:
    return Refused(
        f"--max-usd cannot be applied: {why}",
        where=f"table {table}",
        hint="leave --max-usd out; --max-wcu and --max-rcu limit the rate",
    )


# ---------------------------------------------------------------- consumers of the writes


def consumers_reported(project: Project, planned: TablePlan, runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """Notify of the consumers of each new version's writes, with their estimated number; returns the sentences. A local
    stage has none."""
    begun = {(run.version, run.direction) for run in runs}
    first = [step for step in planned.steps if (step.script.sequence, planned.direction) not in begun]
    if project.stage.local or not first:
        return ()
    tables = {table.name: table for table in (step.target or planned.table for step in first)}
    found = {name: consumers(project.stage.connection, table) for name, table in tables.items()}
    said = []
    for step in first:
        table = step.target or planned.table
        said.append(_consumers_of(table, found[table.name], step.script.sequence, planned.table.item_count))
    said = list(filter(None, said))
    for line in said:
        project.observer.notify(line)
    return tuple(said)


def _consumers_of(table: TableSpec, found: Consumers, version: int, items: int) -> str:
    """The consumers of a version's writes, as a sentence; empty if there are none."""
    stream = [f"a record of its stream{_functions(found.functions)}"] if table.stream else []
    kinesis = [f"a record of the Kinesis stream {name}" for name in found.kinesis]
    replicas = [f"a write in {', '.join(table.replicas)}"] if table.replicas else []
    receives = " and ".join([*stream, *kinesis, *replicas])
    many = f"up to {counted(items, 'item')} (a count of the last six hours)" if items else "items"
    ttl = f"items expire by {found.ttl} (TTL); one that expires during the run counts as vanished" if found.ttl else ""
    each = f"version {version} writes {many}, and each write is {receives}; a move is two writes" if receives else ""
    said = "; ".join(filter(None, (each, ttl, found.unknown)))
    return f"table {table.name}: {said}" if said else ""


def _functions(names: Sequence[str]) -> str:
    return f" (functions: {', '.join(names)})" if names else ""


# ---------------------------------------------------------------- --max-usd


class Spending:
    """The cost so far of the runs of one command, in US dollars, each over all of its attempts.

    It meters the units that the checkpoints count (including those of the table's indexes), the journal's PUT requests,
    and a full export that the run has requested.
    """

    def __init__(self) -> None:
        self._by_run: dict[str, float] = {}

    @property
    def total(self) -> float:
        return sum(self._by_run.values())

    def record(self, run: str, amount: float) -> None:
        """Set the cost so far of a run, or of a part of it that is counted separately."""
        self._by_run[run] = amount

    def check(self, limit: float, run: str, export: float = 0.0) -> None:
        """Raises CostReached when all runs together have reached the limit, or would with an `export` of this cost."""
        total = self.total + export
        if total >= limit:
            more = f", and the export costs {usd(export)}" if export else ""
            what = f"the limit of {usd(limit)} is reached: {usd(self.total)} so far{more}"
            reached = CostReached(f"{what}; a higher --max-usd continues the run", where=f"run {run}")
            reached.higher = round(2 * total, 2 if total >= 1 else 6)
            raise reached


class Meter:
    """Meters one run during its phases `jobs`; `totals` are the run's. Without a limit it does nothing."""

    def __init__(
        self, spending: Spending, options: RunOptions, jobs: Sequence[Job], totals: Callable[[], Totals]
    ) -> None:
        self._spending = spending
        self._limit = options.max_usd if jobs else 0.0
        self._totals = totals
        if self._limit:
            self._job = jobs[0]
            self._prices = known_prices(self._job.stage, (self._job.table, self._job.written_table))

    def record(self) -> None:
        """Count what the run has consumed so far."""
        if self._limit:
            usd = cost_in_usd(self._totals(), self._prices, self._job.stage.storage.in_s3)
            self._spending.record(self._job.base_run, usd)

    def tick(self) -> None:
        """As `record`. Raises CostReached at the limit."""
        self.record()
        if self._limit:
            self._spending.check(self._limit, self._job.base_run)


def cost_in_usd(totals: Totals, prices: Prices, in_s3: bool = True) -> float:
    """The cost of a run's totals, in US dollars."""
    work = Work(totals.units.wcu, totals.units.rcu, puts=totals.journal.parts if in_s3 else 0)
    return amount_of(work, prices) or 0.0


def check_export_spending(context: RunContext, table: TableSpec, record: RunRecord) -> None:
    """Raises CostReached before an export is requested with which the command would reach its limit."""
    options = context.options
    if options.max_usd and not record.exports and options.export in ("", NEW):
        context.spending.check(options.max_usd, record.run, _export_in_usd(context.stage, table))


def note_export(context: RunContext, table: TableSpec, record: RunRecord) -> None:
    """Count the full export that a run has requested."""
    if context.options.max_usd and record.exports and record.exports[0] in record.requested:
        context.spending.record(f"{record.run}/export", _export_in_usd(context.stage, table))


def _export_in_usd(stage: Stage, table: TableSpec) -> float:
    return table.size_bytes * (known_prices(stage, [table]).full_export or 0.0) / GB
