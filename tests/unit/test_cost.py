"""A run's estimated cost: examples by hand, and the laws of a sum."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.export.objects import PIECE
from dynamodt.model.pages import Claim, Counts, Totals, Units
from dynamodt.model.reports import Cost, RunReport
from dynamodt.model.runs import ExportSource, Job, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.runs.cost import GB, PRICES, Work, cost_of, with_expected_cost

amounts = st.integers(0, 10**12)
works = st.builds(Work, amounts, amounts, st.integers(0, 25), *[amounts] * 4)
regions = st.sampled_from(sorted(PRICES))


@pytest.mark.parametrize(
    ("work", "region", "usd"),
    [
        (Work(wcu=2e6), "us-west-2", (1.25, 1.25)),
        (Work(wcu=2e6, indexes=1), "us-west-2", (1.25, 3.75)),  # 2 million, and 4 more in the index at most
        (Work(wcu=1e6, indexes=2), "eu-central-1", (0.7625, 3.8125)),
        (Work(rcu=4e6), "eu-west-1", (0.566, 0.566)),
        (Work(puts=2000, gets=10_000), "ap-southeast-2", (0.0154, 0.0154)),  # 0.0110 + 0.0044
        (Work(full_bytes=3 * GB, incremental_bytes=GB // 2), "us-east-2", (0.35, 0.35)),
        (Work(1e6, 1e6, 1, 1000, 1000, GB), "us-east-1", (0.8554, 2.1054)),  # 0.625 + 0.125 + 0.0054 + 0.1 (+ 1.25)
    ],
)
def test_costs_computed_by_hand(work: Work, region: str, usd: tuple[float, float]) -> None:
    cost = cost_of(work, PRICES[region])
    assert cost.usd == pytest.approx(usd)
    assert date.fromisoformat(cost.as_of)


def test_without_prices_a_cost_has_only_units() -> None:
    work = Work(wcu=100, rcu=10, indexes=3, puts=4, gets=5, full_bytes=7, incremental_bytes=8)
    units = Cost(100, 700, 10, 4, 5, 15)
    for region, on_demand in (("us-east-2", False), ("xx-moon-1", True), ("", True), ("eu-west-1", True)):
        assert (
            cost_of(work, PRICES.get(region) if on_demand else None) == units
        )  # in Ireland, it is the exports that have none
    assert cost_of(work._replace(full_bytes=0, incremental_bytes=0), PRICES["eu-west-1"]).usd is not None


@given(region=regions)
def test_a_run_without_work_costs_nothing(region: str) -> None:
    cost = cost_of(Work(), PRICES[region])
    assert cost == Cost(0, 0, 0, usd=(0, 0), as_of=PRICES[region].as_of)


@given(work=works, more=works)
def test_more_work_never_costs_less(work: Work, more: Work) -> None:
    sum_of = Work(*(a + b for a, b in zip(work, more, strict=True)))
    less, all_of_it = (cost_of(each, PRICES["us-east-2"]) for each in (work, sum_of))
    assert less.usd is not None and all_of_it.usd is not None
    assert less.usd[0] <= less.usd[1]
    assert all(a <= b for a, b in zip(less.usd, all_of_it.usd, strict=True))
    assert all(a <= b for a, b in zip(less[:6], all_of_it[:6], strict=True))


@given(work=works, region=regions)
def test_without_indexes_there_is_one_price(work: Work, region: str) -> None:
    cost = cost_of(work._replace(indexes=0, full_bytes=0, incremental_bytes=0), PRICES[region])
    assert cost.usd is not None and cost.usd[0] == cost.usd[1] and cost.wcu == cost.wcu_most


# ---------------------------------------------------------------- of a dry run

THINGS = TableSpec("things", (KeyAttribute("id", "S"),), indexes=1)
OTHERS = TableSpec("others", (KeyAttribute("id", "S"),), indexes=3)
STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/p"))
SCRIPT = Script("things", 2, "more", "v2_more.py", "", "0" * 64)
JOB = Job("r1", STAGE, THINGS, SCRIPT, "up", splits=2, dry_run=True)
REPORT = RunReport("things", "up", 2, "more", "r1", "dry-run")
TOTALS = Totals(Counts(read=5000, changed=4000, unchanged=1000), Units(rcu=50.0, wcu=4000.0))


class Pages:
    """A state with the number of pages of the splits of each phase."""

    def __init__(self, **pages: int) -> None:
        self._pages = pages

    def splits(self, run: str) -> Any:
        self._run = run
        return self

    def all(self, units: int) -> list[Claim]:
        return [Claim(split, 1, self._pages.get(self._run, 0)) for split in range(units)]


def cost(job: Job = JOB, totals: Totals = TOTALS, new_export: bool = False) -> Cost:
    found = with_expected_cost(REPORT, Pages(r1=3), [job], totals, new_export).cost  # type: ignore[arg-type]
    assert found is not None
    return found


def test_the_expected_cost_has_the_reads_and_the_previewed_writes() -> None:
    usd = (4000 * 0.625 + 50 * 0.125) / 1e6 + 6 * 0.005 / 1e3
    found = cost()
    assert found[:6] == (4000, 12_000, 50, 6, 0, 0)  # 2 units of 3 pages
    assert found.usd == pytest.approx((usd, usd + 8000 * 0.625 / 1e6))


def test_only_a_dry_run_that_has_succeeded_has_a_cost() -> None:
    for status in ("succeeded", "failed", "stopped"):
        report = replace(REPORT, status=status)
        assert with_expected_cost(report, Pages(), [JOB], TOTALS) is report  # type: ignore[arg-type]


def test_the_indexes_are_those_of_the_table_that_is_written() -> None:
    assert cost(replace(JOB, target=OTHERS)).wcu_most == 4000 * 7


def test_an_idempotent_script_has_no_journal_unless_it_is_asked_for() -> None:
    idempotent = replace(JOB, script=replace(SCRIPT, idempotent=True))
    assert cost(idempotent).puts == 0
    assert cost(replace(idempotent, journal=True)).puts == 6
    folder = replace(STAGE, storage=StorageSpec("/some/folder"))
    assert cost(replace(JOB, stage=folder)).puts == 0
    few = TOTALS._replace(counts=Counts(read=5000, changed=1, unchanged=4999))
    assert cost(totals=few).puts == 1


@pytest.mark.parametrize(
    ("job", "priced"),
    [
        (JOB, True),
        (replace(JOB, table=replace(THINGS, read_units=5, provisioned=True)), False),
        (replace(JOB, target=replace(OTHERS, write_units=5, provisioned=True)), False),
        (replace(JOB, stage=replace(STAGE, local=True)), False),
        (replace(JOB, stage=replace(STAGE, connection=Connection("us-east-1", "http://127.0.0.1:8000"))), False),
        (replace(JOB, stage=replace(STAGE, connection=Connection("us-east-1", "https://x.amazonaws.com"))), True),
        (replace(JOB, stage=replace(STAGE, connection=Connection("xx-moon-1"))), False),
    ],
    ids=["on demand", "provisioned", "target provisioned", "local", "emulator", "VPC endpoint", "unknown region"],
)
def test_only_a_stage_in_aws_has_prices(job: Job, priced: bool) -> None:
    assert (cost(job).usd is not None) == priced


def test_a_run_that_reads_an_export_may_request_one() -> None:
    export = ExportSource("bucket", "p/AWSDynamoDB/1", "arn")
    large = replace(THINGS, size_bytes=3 * PIECE + 9)
    job = replace(JOB, table=large, source=export)
    named, new = cost(job), cost(job, new_export=True)
    assert (named.gets, named.export_bytes, named.puts) == (4, 0, 6)  # 2 files, each of two pieces at most
    assert (new.gets, new.export_bytes) == (4, 3 * PIECE + 9)
    assert named.usd is not None and new.usd is not None
    assert new.usd[0] - named.usd[0] == pytest.approx((3 * PIECE + 9) / GB * 0.10)
    assert cost(replace(job, table=THINGS)).gets == 2  # an empty file is looked at, too
    assert cost(new_export=True).export_bytes == 0  # it scans
