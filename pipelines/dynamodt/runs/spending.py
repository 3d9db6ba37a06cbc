"""`--max-usd` during a run: what the runs of a command have cost, and the stop when that reaches the limit.

Metered are the units that the checkpoints count (those of the table's indexes included), the journal's PUT requests,
and a full export that the run has requested, over all attempts of a run. `runs.cost` lists what no price covers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dynamodt.errors import CostReached
from dynamodt.model.pages import Totals
from dynamodt.runs.cost import GB, MILLION, THOUSAND, Prices, known_prices, usd

if TYPE_CHECKING:
    from dynamodt.model.runs import Job, RunRecord
    from dynamodt.model.tables import Stage, TableSpec
    from dynamodt.runs.options import RunOptions


class Spending:
    """What the runs of one command have cost so far, in US dollars, each over all of its attempts."""

    def __init__(self) -> None:
        self._by_run: dict[str, float] = {}

    @property
    def total(self) -> float:
        return sum(self._by_run.values())

    def note(self, run: str, amount: float) -> None:
        """What a run, or a part of it that is counted apart, has cost so far."""
        self._by_run[run] = amount

    def check(self, limit: float, run: str) -> None:
        """Raises CostReached when all runs together have reached the limit."""
        if self.total >= limit:
            what = f"the limit of {usd(limit)} is reached: {usd(self.total)} so far"
            reached = CostReached(f"{what}; a higher --max-usd continues the run", where=f"run {run}")
            reached.higher = round(2 * self.total, 2 if self.total >= 1 else 6)
            raise reached


class Meter:
    """Meters one run while its phases `jobs` are run; `totals` are the run's. Without a limit it does nothing."""

    def __init__(
        self, spending: Spending, options: RunOptions, jobs: Sequence[Job], totals: Callable[[], Totals]
    ) -> None:
        self._spending = spending
        self._limit = options.max_usd if jobs else 0.0
        self._totals = totals
        if self._limit:
            self._job = jobs[0]
            self._prices = known_prices(self._job.stage, (self._job.table, self._job.target or self._job.table))

    def note(self) -> None:
        """Count what the run has consumed so far."""
        if self._limit:
            in_s3 = self._job.stage.storage.url.startswith("s3://")
            self._spending.note(self._job.base_run, metered(self._totals(), self._prices, in_s3))

    def tick(self) -> None:
        """The same, and raises CostReached at the limit."""
        self.note()
        if self._limit:
            self._spending.check(self._limit, self._job.base_run)


def metered(totals: Totals, prices: Prices, in_s3: bool = True) -> float:
    """The cost of what a run has counted, in US dollars."""
    units = totals.units.wcu * prices.write / MILLION + totals.units.rcu * prices.read / MILLION
    return units + (totals.journal.parts * prices.put / THOUSAND if in_s3 else 0.0)


def note_export(spending: Spending, options: RunOptions, stage: Stage, table: TableSpec, record: RunRecord) -> None:
    """Count the full export that a run has requested."""
    if options.max_usd and record.exports and record.exports[0] in record.requested:
        price = known_prices(stage, [table]).full_export or 0.0
        spending.note(f"{record.run}/export", table.size_bytes * price / GB)
