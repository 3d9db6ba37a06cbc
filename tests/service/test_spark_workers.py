"""The workers of a real Spark: how Python starts on them, the report if it does not start, and two workers at one split
group."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import RunFailed
from dynamodt.model.pages import Counts
from dynamodt.pipeline.spark_context import FOLDER, jar, spark_context
from dynamodt.pipeline.spark_runner import SparkRunner
from tests.emulators import check_spark
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.waiting import HOLD, until

TOUCH = "def transform_up(item):\n    return {**item, 'a': 1}\n"

pytestmark = [pytest.mark.slow, pytest.mark.endpoints("ministack")]


@pytest.fixture
def options(spark_master: str) -> dict[str, Any]:
    return {"runner": "spark", "spark_master": spark_master}


@pytest.mark.chaos
def test_stderr_of_python_is_reported_if_it_does_not_start_on_an_executor(
    bench: Bench, make_table: MakeTable, options: dict[str, Any]
) -> None:
    """The experiment is an option for the executors only; a number before it must reach them as a number."""
    wrong = ("--max_cache_memory_usage_mb=7", "--experiments=state_cache_size=many")
    error = bench.failed(make_table(id="N"), TOUCH, beam_args=wrong, **options).error
    assert isinstance(error, RunFailed)
    assert "(exit code 1): ValueError: invalid literal for int() with base 10: 'many'" in error.what
    assert str(FOLDER / "python.log") in error.hint


def test_executors_run_in_the_project_s_folder_without_speculation(options: dict[str, Any]) -> None:
    context = spark_context(options["spark_master"], print)
    assert context._jsc.sc().conf().get("spark.speculation") == "false"
    home = Path(context._jvm.java.lang.System.getenv("SPARK_HOME"))
    assert home.is_relative_to(FOLDER.absolute())
    assert {place.name for place in (home / "work" / context.applicationId).iterdir()} >= {"0", "1"}


def test_the_jar_does_not_contain_its_build_time() -> None:
    """Assets are named by their content: the entries of the jar have the fixed time of pom.xml."""
    check_spark()
    with zipfile.ZipFile(jar()) as archive:
        assert {entry.date_time[0] for entry in archive.infolist() if "dynamodt" in entry.filename} == {2026}
        assert max(entry.date_time for entry in archive.infolist()) <= (2026, 1, 1, 23, 59, 59)
        names = [
            entry.filename for entry in archive.infolist() if entry.filename.endswith("/beam-spark/pom.properties")
        ]
        assert [b"20" in archive.read(name) for name in names] == [False]


# ---------------------------------------------------------------- two at one split group

MEETING = """
FIRST, SECOND = Path("{folder}/first"), Path("{folder}/second")

def transform_up(item):
    if item["id"] == 7:
        meet()
    return {{**item, "n": item["n"] + 1}}

def meet():
    try:
        FIRST.touch(exist_ok=False)
    except FileExistsError:
        SECOND.touch()
    hold(SECOND)
"""


class Both:
    """Two results as one, which has failed when one of them has."""

    def __init__(self, *results: Any) -> None:
        self.results = results
        self.errors: list[RunFailed] = []

    def wait_until_finish(self) -> str:
        for result in self.results:
            try:
                result.wait_until_finish()
            except RunFailed as error:
                self.errors.append(error)
        if self.errors:
            raise self.errors[0]
        return "DONE"


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> list[Both]:
    """Every pipeline is run twice, until `pairs` has a pair: the second time when the first is at the item where they
    meet. Earlier, Beam might not find its metrics (a JVM has one `MetricsAccumulator`, for one pipeline at a time)."""
    made: list[Both] = []
    once = SparkRunner.run_pipeline

    def twice(runner: SparkRunner, *what: Any) -> Any:
        if made:
            return once(runner, *what)
        first = once(runner, *what)
        until((bench.folder / "first").exists, "the first one is at the item where they meet")
        made.append(Both(first, once(runner, *what)))
        return made[0]

    monkeypatch.setattr(SparkRunner, "run_pipeline", twice)
    return made


def test_two_tasks_of_one_split_group_write_each_item_once(
    bench: Bench, make_table: MakeTable, options: dict[str, Any], pairs: list[Both]
) -> None:
    """As with speculation, of which no real copy is possible here, since Spark starts one on another host only.
    Therefore the whole job is given to Spark twice: when a core is free, the second job's tasks run beside one of the
    first."""
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(200)))
    bench.script(table, HOLD + MEETING.format(folder=bench.folder))
    (report,) = bench.up(table, **options)
    assert pairs and (bench.folder / "second").exists(), f"no split group was in two hands: {report.error!r}"
    assert {item["n"] for item in bench.tables.items(table)} <= {0, 1}
    if report.error is not None:  # one of the two was refused four times
        assert "unit" in str(report.error), report.error
        (report,) = bench.up(table, **options)
    assert report.error is None and report.versions[0].counts == Counts(read=200, changed=200)
    assert {item["n"] for item in bench.tables.items(table)} == {1}
