"""How Python comes to work on the executors of a real Spark, and what is told when it does not."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import RunFailed
from dynamodt.stages.spark.context import spark_context
from dynamodt.stages.spark.home import FOLDER
from dynamodt.stages.spark.jar import jar
from tests.emulators import Endpoint, check_spark
from tests.service.bench import Bench

MakeTable = Callable[..., str]

TOUCH = "def transform_up(item):\n    return {**item, 'a': 1}\n"

pytestmark = pytest.mark.slow


@pytest.fixture
def endpoint(ministack: Endpoint) -> Endpoint:
    """One judge is enough here: what is sent is the same."""
    return ministack


@pytest.fixture
def options(spark_master: str) -> dict[str, Any]:
    return {"runner": "spark", "spark_master": spark_master}


def test_what_python_said_is_told_when_it_does_not_start(
    bench: Bench, make_table: MakeTable, options: dict[str, Any]
) -> None:
    """The experiment is looked at on the executors only; a number before it has to come through as one."""
    wrong = ("--max_cache_memory_usage_mb=7", "--experiments=state_cache_size=many")
    error = bench.failed(make_table(id="N"), TOUCH, beam_args=wrong, **options).error
    assert isinstance(error, RunFailed)
    assert "(exit code 1): ValueError: invalid literal for int() with base 10: 'many'" in error.what
    assert str(FOLDER / "python.log") in error.hint


def test_executors_work_in_the_project_s_folder_and_nobody_speculates(options: dict[str, Any]) -> None:
    context = spark_context(options["spark_master"], print)
    assert context._jsc.sc().conf().get("spark.speculation") == "false"
    home = Path(context._jvm.java.lang.System.getenv("SPARK_HOME"))
    assert home.is_relative_to(FOLDER.absolute())
    assert {place.name for place in (home / "work" / context.applicationId).iterdir()} >= {"0", "1"}


def test_the_jar_does_not_say_when_it_was_built() -> None:
    """What is deployed is named by its content: the build's own entries bear the time that pom.xml tells."""
    check_spark()
    with zipfile.ZipFile(jar()) as archive:
        assert {entry.date_time[0] for entry in archive.infolist() if "dynamodt" in entry.filename} == {2026}
        assert max(entry.date_time for entry in archive.infolist()) <= (2026, 1, 1, 23, 59, 59)
        names = [
            entry.filename for entry in archive.infolist() if entry.filename.endswith("/beam-spark/pom.properties")
        ]
        assert [b"20" in archive.read(name) for name in names] == [False]
