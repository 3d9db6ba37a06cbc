"""The metered cost of a command's runs, and refusals where it cannot be metered."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dynamodt.errors import CostReached, Refused
from dynamodt.model.pages import JournalCount, Totals, Units
from dynamodt.model.runs import Job, RunRecord, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs.context import RunContext, run_phases
from dynamodt.runs.cost import (
    GB,
    PRICES,
    Spending,
    check_export_spending,
    check_exports_priced,
    check_priced,
    cost_in_usd,
    known_prices,
    note_export,
    usd,
)
from dynamodt.runs.options import RunOptions
from dynamodt.runs.plan import Step, TablePlan

pytestmark = pytest.mark.unit

TABLE = TableSpec("things", (KeyAttribute("id", "S"),), size_bytes=3 * GB)
STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/p"))
SCRIPT = Script("things", 1, "more", "v1_more.py", "", "", has_up=True)
JOB = Job("r1", STAGE, TABLE, SCRIPT, "up", splits=2)
TOTALS = Totals(units=Units(rcu=8e6, wcu=4e6), journal=JournalCount(parts=2000))
CAPPED = RunOptions(max_usd=5.0)


def test_units_and_requests_are_metered() -> None:
    assert cost_in_usd(TOTALS, PRICES["us-east-1"]) == pytest.approx(4 * 0.625 + 8 * 0.125 + 2 * 0.005)
    assert cost_in_usd(TOTALS, PRICES["us-east-1"], in_s3=False) == pytest.approx(4 * 0.625 + 8 * 0.125)
    assert cost_in_usd(Totals(), PRICES["us-east-1"]) == 0


def test_all_runs_of_a_command_count_each_with_its_last_amount() -> None:
    spending = Spending()
    for run, amount in (("a", 1.0), ("a", 2.0), ("b", 1.5)):
        spending.record(run, amount)
    spending.check(3.6, "b")
    with pytest.raises(CostReached, match=r"the limit of \$3.50 is reached: \$3.50 so far") as caught:
        spending.check(3.5, "b")
    assert caught.value.where == "run b"


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0.00"), (0.00042, "$0.00042"), (1234.5, "$1,234.50"), (0.01, "$0.01")]
)
def test_amounts_as_text(amount: float, text: str) -> None:
    assert usd(amount) == text


def spent_by(spending: Spending, options: RunOptions) -> RunContext:
    return cast(RunContext, SimpleNamespace(spending=spending, options=options, stage=STAGE))


def test_a_requested_export_counts() -> None:
    record = RunRecord("things", "r1", 1, "more", "up", "", "running", "", exports=("e",), requested=("e",))
    for given, options, cost in (
        (record, CAPPED, 0.3),
        (replace(record, requested=()), CAPPED, 0),
        (record, RunOptions(), 0),
    ):
        spending = Spending()
        note_export(spent_by(spending, options), TABLE, given)
        assert spending.total == pytest.approx(cost)


@pytest.mark.parametrize(
    ("stage", "table", "why"),
    [
        (replace(STAGE, local=True), TABLE, "an emulator, which has no prices"),
        (replace(STAGE, connection=Connection("us-east-1", "http://127.0.0.1:1")), TABLE, "an emulator"),
        (STAGE, replace(TABLE, provisioned=True), "things has provisioned capacity"),
        (replace(STAGE, connection=Connection("xx-moon-1")), TABLE, "no prices for the region xx-moon-1"),
        (STAGE, replace(TABLE, replicas=("eu-west-1", "xx-moon-1")), "no prices for the region xx-moon-1"),
        (STAGE, replace(TABLE, infrequent_access=True), "things has the table class Standard-IA"),
    ],
)
def test_without_a_price_a_limit_is_refused(stage: Stage, table: TableSpec, why: str) -> None:
    check_priced(stage, [table], RunOptions())
    with pytest.raises(Refused, match=why):
        check_priced(stage, [table], CAPPED)


def test_a_write_to_a_global_table_is_charged_in_each_region() -> None:
    prices = known_prices(STAGE, [TABLE, replace(TABLE, replicas=("eu-west-1", "us-east-2"))])
    assert prices.write == pytest.approx(0.625 + 0.705 + 0.625) and prices.read == 0.125


def test_an_export_needs_a_price_and_costs_less_than_the_limit() -> None:
    planned = TablePlan(TABLE, "up", (Step(SCRIPT, None, None),), 0, (SCRIPT,))
    export = replace(CAPPED, source="export")
    check_exports_priced(STAGE, planned, export)  # 0.30 $
    with pytest.raises(Refused, match=r"the export alone costs \$0.30, and --max-usd is \$0.30"):
        check_exports_priced(STAGE, planned, replace(export, max_usd=0.3))
    ireland = replace(STAGE, connection=Connection("eu-west-1"))
    with pytest.raises(Refused, match="the price of an export in eu-west-1 is not known"):
        check_exports_priced(ireland, planned, export)
    for options in (CAPPED, replace(export, export="s3://bucket/there"), replace(export, max_usd=0.0)):
        check_exports_priced(ireland, planned, options)


def test_an_export_that_would_reach_the_limit_of_the_command_is_not_requested() -> None:
    spending, record = Spending(), RunRecord("things", "r1", 1, "more", "up", "", "running", "")
    check_export_spending(spent_by(spending, CAPPED), TABLE, record)
    spending.record("before", 4.8)
    with pytest.raises(CostReached, match=r"\$5.00 is reached: \$4.80 so far, and the export costs \$0.30") as caught:
        check_export_spending(spent_by(spending, CAPPED), TABLE, record)
    assert caught.value.higher == pytest.approx(10.2)
    for given, options in (
        (replace(record, exports=("e",)), CAPPED),
        (record, replace(CAPPED, export="s3://bucket/there")),
        (record, RunOptions()),
    ):
        check_export_spending(spent_by(spending, options), TABLE, given)


class Phases:
    """A run of one job, which costs more than its limit; `complete`: its last pages have completed it."""

    def __init__(self, complete: bool) -> None:
        self.totals, self._complete = TOTALS, complete
        self.ended = False

    def complete(self, job: Job) -> bool:
        return self.ended and self._complete

    def begins(self, job: Job) -> None: ...

    def splits(self, job: Job) -> Any: ...

    def progressed(self, job: Job, totals: Totals) -> None: ...

    def ticks(self, *_: object) -> list[Any]:
        return []

    def run(
        self, job: Job, state: object, options: object, on_progress: object, ticks: list[Any], splits: object
    ) -> None:
        self.ended = True
        for tick in ticks:
            tick()


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_completed_by_its_last_pages_is_not_stopped_by_the_limit(complete: bool) -> None:
    phases = Phases(complete)
    lease = SimpleNamespace(stop="")
    state = SimpleNamespace(leases=SimpleNamespace(read=lambda table: lease))
    options, spending = replace(CAPPED, max_usd=1.0), Spending()
    context: Any = SimpleNamespace(
        runner=phases, options=options, spending=spending, state=state, stage=STAGE, accepted=SimpleNamespace(items=0)
    )
    with nullcontext() if complete else pytest.raises(CostReached):
        run_phases(context, [JOB], phases)  # type: ignore[arg-type]
    assert spending.total == pytest.approx(3.51)
