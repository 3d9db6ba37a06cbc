"""The figures of a plan: units as time and money, unknown figures, the limits of the estimate, and the output."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dynamodt.cli.plan_report import plan_document, print_plan, print_plan_markdown
from dynamodt.cli.request import Request
from dynamodt.config.settings import DeploySettings
from dynamodt.errors import ServiceError, suggest
from dynamodt.model.tables import Connection, Image, Index, KeyAttribute, Stage, StorageSpec, TableNames, TableSpec
from dynamodt.runs.context import Project
from dynamodt.runs.cost import GB, PRICES
from dynamodt.runs.estimate import Span, Stratum, TableSample
from dynamodt.runs.forecast import Obstacle, Rate, TableForecast, VersionForecast, _Forecasting, exceeded
from dynamodt.runs.options import RunOptions
from dynamodt.runs.plan import Step, TablePlan
from tests.unit.estimated import HALF, images, read

pytestmark = pytest.mark.unit

STAGE = Stage("prod", Connection("us-east-1"), StorageSpec("s3://bucket/p"))
TABLE = TableSpec(
    "things",
    (KeyAttribute("id", "S"),),
    item_count=10_000_000,
    size_bytes=2 * GB,
    projections=(Index("by_half", ("half",), ()),),
)
PRICE = PRICES["us-east-1"]
BOUNDED = RunOptions(max_wcu=1000.0, max_rcu=500.0)
ITEMS = 10_000_000.0
PAD = {"S": "x" * 180}


def padded(number: int) -> tuple[Image, ...]:
    return tuple({**image, "pad": PAD} for image in images(number))


def version(folder: Path, text: str = HALF, **changes: Any) -> VersionForecast:
    script = read(folder, text)
    planned = TablePlan(changes.pop("table", TABLE), "up", (Step(script, None, None),), 0, (script,))
    project = Project(STAGE, folder, changes.pop("options", BOUNDED))
    asked: dict[str, Any] = {"prices": PRICE, "glue": None, **changes}
    (found,) = _Forecasting(project, planned, **asked).versions(Stratum(padded(100), ITEMS, False), False, 10)
    return found


def test_units_are_converted_to_time_and_money(tmp_path: Path) -> None:
    found = version(tmp_path)
    assert found.estimate is not None and found.seconds is not None and found.usd is not None
    assert found.estimate.wcu.likely == pytest.approx(
        10_000_000
    )  # of the table, and as many of the index: it enters it
    assert found.seconds.likely == pytest.approx(10_000_000 / 1000)
    sized = found.estimate.bytes / 4096 / 2
    assert sized < found.rcu < sized * 1.05
    written = found.estimate.wcu.likely * 0.625 / 1e6 + found.rcu * 0.125 / 1e6
    journal = found.puts.likely * 0.005 / 1e3 + found.estimate.journal_bytes.likely / GB * 0.023
    assert found.usd.likely == pytest.approx(written + journal, rel=1e-3)
    assert found.usd.low < found.usd.likely < found.usd.high
    assert found.puts.likely == pytest.approx(ITEMS / 500 + 64)  # a page each


def test_an_item_that_is_deleted_is_read_twice(tmp_path: Path) -> None:
    """The second read is strongly consistent: one unit for an item of 0.2 KB, forty times the units of its scan."""
    deletion = "from dynamodt import Delete\ndef transform_up(item):\n    return Delete()\n"
    assert version(tmp_path, deletion).rcu == pytest.approx(version(tmp_path).rcu + ITEMS)


def test_reading_an_export_takes_no_read_units_and_costs_the_export(tmp_path: Path) -> None:
    found = version(tmp_path, options=replace(BOUNDED, source="export"))
    assert (found.rcu, found.export_bytes) == (0.0, 2 * GB)
    assert found.usd is not None and found.usd.likely > version(tmp_path).usd.likely - 1 + 0.2  # type: ignore[union-attr]
    assert version(tmp_path, options=replace(BOUNDED, source="export"), prices=PRICES["eu-west-1"]).usd is None


def test_an_idempotent_version_keeps_no_journal_unless_it_is_asked_for(tmp_path: Path) -> None:
    text = f"IDEMPOTENT = True\n{HALF}"
    without = version(tmp_path, text)
    assert without.estimate is not None and without.estimate.journal_bytes == Span() and without.puts == Span()
    kept = version(tmp_path, text, options=replace(BOUNDED, journal=True))
    assert kept.puts.likely > 0


def test_glue_costs_its_workers_for_the_time(tmp_path: Path) -> None:
    settings = DeploySettings(worker_type="G.2X", workers=5)
    plain, glue = version(tmp_path), version(tmp_path, glue=settings)
    assert plain.usd is not None and glue.usd is not None and glue.seconds is not None
    hours = glue.seconds.times(1 / 3600)
    assert glue.usd.high - plain.usd.high == pytest.approx(5 * 2 * 0.44 * hours.high)
    assert glue.usd.low - plain.usd.low == pytest.approx(2 * 2 * 0.44 * hours.low)  # the fewest workers of a job
    assert version(tmp_path, glue=replace(settings, flex=True), prices=PRICES["eu-west-1"]).usd is None


def test_the_rate_is_the_budget_s_with_its_reason(tmp_path: Path) -> None:
    def rate(table: TableSpec = TABLE, stage: Stage = STAGE, **options: Any) -> Rate:
        project = Project(stage, tmp_path, RunOptions(**options))
        return _Forecasting(project, TablePlan(table, "up", (), 0, ()), None, None).rate(table)

    assert rate(max_wcu=7.0)[:2] == (2000.0, 7.0) and "writes: 7 a second, by --max-wcu" in rate(max_wcu=7.0).why
    provisioned = replace(TABLE, read_units=100, write_units=40, provisioned=True)
    assert rate(provisioned)[:2] == (50.0, 20.0) and "50 % of provisioned 40" in rate(provisioned).why
    by_index = replace(provisioned, limiting_index="by-email")
    assert "50 % of provisioned 40 of index by-email" in rate(by_index).why
    assert "index" not in rate(by_index, max_wcu=30.0).why
    most = replace(TABLE, write_units=40)
    assert (
        rate(most, share=10.0)[:2] == (2000.0, 4.0)
        and "10 % of the on-demand maximum of 40" in rate(most, share=10.0).why
    )
    assert rate()[:2] == (2000.0, 1000.0) and "no limit" in rate().why
    local = replace(STAGE, local=True)
    assert rate(stage=local)[:2] == (0.0, 0.0) and "is not known" in rate(stage=local).why
    half = rate(stage=local, max_wcu=7.0).why  # why the time is not known, where the version reads the table
    assert half == "reads: no budget on a local stage without --max-rcu; writes: 7 a second, by --max-wcu"


def test_without_prepared_data_a_version_and_those_after_it_have_no_estimate(tmp_path: Path) -> None:
    scripts = [read(tmp_path, HALF), read(tmp_path, f"def prepare(context): ...\n{HALF}", 2), read(tmp_path, HALF, 3)]
    steps = tuple(Step(script, None, None) for script in scripts)
    planned = TablePlan(TABLE, "up", steps, 0, tuple(scripts))
    run = _Forecasting(Project(STAGE, tmp_path, BOUNDED), planned, PRICE, None)
    first, second, third = run.versions(Stratum(images(10), 10.0, True), False, 10)
    assert first.estimate is not None and second.estimate is None is third.estimate
    assert "prepared data" in second.unknown and "version 2" in third.unknown
    found = table(versions=(first, second, third))
    assert found.usd is None is found.seconds and found.unknown.startswith("version 2 of things: it needs prepared")


def test_a_version_whose_run_would_be_stopped_has_no_estimate(tmp_path: Path) -> None:
    found = version(tmp_path, 'def transform_up(item):\n    return {**item, "id": "b" + item["id"]}\n')
    assert found.estimate is None and "would be stopped" in found.unknown and found.usd is None


# ---------------------------------------------------------------- the limits, and what is shown


def table(**changes: Any) -> TableForecast:
    found = TableForecast(
        "things",
        1,
        2,
        1000,
        "counted now",
        TableSample(images(10), False, 5.0),
        as_of=PRICE.as_of,
        rate=Rate(1, 1, "why"),
    )
    return replace(found, **changes)


def priced(seconds: Span | None, usd: Span | None) -> TableForecast:
    return table(versions=(VersionForecast(2, "more", seconds=seconds, usd=usd),))


def test_the_upper_estimates_of_all_tables_are_compared() -> None:
    two = [priced(Span(1, 1800, 3600), Span(1, 2, 3)), priced(Span(1, 1800, 3600), Span(1, 2, 3))]
    assert exceeded(two, 6.0, 2.0) == [] == exceeded(two, 0.0, 0.0)
    cost, hours = exceeded(two, 5.99, 1.99)
    assert cost.exit_code == 3 and "would cost up to $6.00, and --max-usd is $5.99" in cost.what
    assert "would take up to 2.00 h, and --max-hours is 1.99 h" in hours.what
    assert exceeded(two, 0.0, 0.001)[0].what.endswith("--max-hours is 0.001 h")


def test_a_limit_on_an_unknown_estimate_is_refused() -> None:
    emulated = replace(priced(None, None), priceless="the stage is an emulator", rate=Rate(0, 0, "no budget"))
    cost, hours = exceeded([emulated], 1.0, 1.0)
    assert "cannot be estimated: the stage is an emulator" in cost.what and cost.exit_code == 3
    assert "cannot be estimated: no budget" in hours.what


def shown(write: Any, *found: TableForecast, request: Request = Request("plan", stage="prod")) -> str:
    stream = StringIO()
    write(Console(file=stream, width=200), request, found, TableNames())
    return stream.getvalue()


def test_text_markdown_and_json_have_the_same_figures(tmp_path: Path) -> None:
    way_out = Obstacle("prepared", "version 2 needs | data", suggest("prepare", table="things", version=2), stops=True)
    told = Obstacle("stream", "table things: each write is a record of its stream")
    found = table(versions=(version(tmp_path),), obstacles=(way_out, told))
    text = shown(print_plan, found)
    assert "things at version 1 of 2, 1 version pending" in text
    assert "changes      50 % (40.4 % to 59.6 %) of the items: 5,000,000 (" in text
    assert "index by_half 5,000,000 (" in text and "on demand at AWS's prices of" in text
    assert "stops it  version 2 needs | data\n    dynamodt prepare --stage prod --table things --version 2" in text
    assert "note  table things: each write" in text
    markdown = shown(print_plan_markdown, found)
    assert (
        "| v1 change | 50 % (40.4 % to 59.6 %) of the items" in markdown
        and "- **stops it**: version 2 needs \\| data" in markdown
    )
    (document,) = json.loads(json.dumps(plan_document([found])))["tables"]
    assert document["versions"][0]["share"] == {"low": 0.40383, "likely": 0.5, "high": 0.59617}
    assert document["versions"][0]["wcu"]["indexes"]["by_half"]["likely"] == 5_000_000
    assert document["usd"]["as_of"] == PRICE.as_of
    assert [one["stops"] for one in document["obstacles"]] == [True, False]


def test_the_suggested_dry_run_has_the_plan_s_options_except_the_cost_limit(tmp_path: Path) -> None:
    limits = RunOptions(max_wcu=60.0, max_rcu=7.0, max_usd=5.0, source="export")
    text = shown(print_plan, table(versions=(version(tmp_path),)), request=Request("plan", to=1, options=limits))
    assert "dynamodt up --table things --to 1 --max-wcu 60 --max-rcu 7 --source export --dry-run" in text


def test_several_tables_are_summed_and_an_error_belongs_to_its_table() -> None:
    two = [priced(Span(60, 60, 60), Span(1, 2, 3)), priced(Span(60, 60, 60), Span(1, 2, 3))]
    assert "together  2 min, $4.00 ($2.00 to $6.00)" in shown(print_plan, *two)
    wrong = TableForecast("others", error=ServiceError("the table does not exist", where="table others"))
    assert plan_document([wrong])["tables"][0]["error"]["exit_code"] == 1
    assert "**error**: table others: the table does not exist" in shown(print_plan_markdown, wrong)
