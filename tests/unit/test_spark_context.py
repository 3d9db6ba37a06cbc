"""The choice and the start of a Spark."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import Refused
from dynamodt.pipeline import spark_context as context
from dynamodt.pipeline import worker


class Conf(dict[str, str]):
    pass


class Context:
    """The part of a SparkContext that is read; its JVM has no class."""

    def __init__(self, master: str = "yarn", parallelism: int = 2, **conf: str) -> None:
        self.master = master
        self.defaultParallelism = parallelism
        self._conf = Conf({name.replace("_", "."): value for name, value in conf.items()})

    def getConf(self) -> Conf:
        return self._conf


@pytest.mark.parametrize(
    ("master", "cores"),
    [("local", 1), ("local[3]", 3), ("local[3,4]", 3), ("local-cluster[2,3,1024]", 6), ("yarn", 0), ("local[x]", 0)],
)
def test_the_cores_of_a_local_master(master: str, cores: int) -> None:
    assert context.local_cores(master) == cores


def test_speculation_is_off_and_every_core_has_tasks() -> None:
    settings = context.settings("local-cluster[2,2,1024]", Path("/x.jar"))
    assert settings["spark.speculation"] == "false"
    assert settings["spark.default.parallelism"] == "16"
    assert settings["spark.driver.host"] == "127.0.0.1"
    assert "spark.driver.host" not in context.settings("spark://elsewhere:7077", Path("/x.jar"))


@pytest.mark.parametrize(
    ("given", "workers", "each"),
    [
        (Context("local-cluster[2,3,1024]"), 6, 3),
        (Context(parallelism=8, spark_executor_cores="4"), 8, 4),
        (Context(parallelism=8, spark_executor_cores="4", spark_dynamicAllocation_maxExecutors="10"), 40, 4),
        (Context(parallelism=8, spark_executor_cores="4", spark_executor_instances="3"), 12, 4),
    ],
)
def test_the_number_of_harnesses(given: Any, workers: int, each: int) -> None:
    assert context.workers(given) == workers
    assert context.executor_cores(given) == each


def test_an_existing_spark_with_speculation_is_refused() -> None:
    with pytest.raises(Refused, match="speculation"):
        context.check(Context(spark_speculation="true"))


def test_an_existing_spark_without_the_jar_is_refused() -> None:
    with pytest.raises(Refused, match="Beam's runner") as refused:
        context.check(Context())
    assert "--extra-jars" in refused.value.hint


def test_a_missing_pyspark_is_reported_with_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['pyspark'] = None\n"
        "from dynamodt.pipeline.spark_context import spark_context\n"
        "try: spark_context('', print)\n"
        "except Exception as error: print(type(error).__name__, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UsageError ") and "-m pip install" in done.stdout and "[spark]" in done.stdout


def test_a_harness_parses_its_arguments_and_ignores_unknown_ones() -> None:
    given = worker.parsed(["--id=1-1", "--provision_endpoint=localhost:1", "--of_a_later_version=x"])
    assert given.id == "1-1" and given.provision_endpoint == "localhost:1" and given.control_endpoint == ""


JAVA = """Job aborted due to stage failure: Task 3 in stage 0.0 failed 4 times
java.lang.RuntimeException: the harness is gone
\tat org.apache.beam.Fn.process(Fn.java:12)
\t... 20 more

Driver stacktrace:"""


@pytest.mark.parametrize(
    "text, line",
    [
        ("Traceback:\n  File x\nKeyError: 'name'\n", "KeyError: 'name'"),
        (JAVA, "java.lang.RuntimeException: the harness is gone"),
        ("", ""),
    ],
)
def test_the_last_informative_line_of_a_traceback_is_reported(text: str, line: str) -> None:
    assert context.last_line(text) == line


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_a_jvm_whose_start_is_interrupted_is_ended(interrupt: type[BaseException]) -> None:
    java_gateway = pytest.importorskip("pyspark.java_gateway")
    before = java_gateway.Popen
    with pytest.raises(interrupt), context._ended_when_interrupted():
        jvm = java_gateway.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        raise interrupt
    assert jvm.returncode == -signal.SIGKILL
    assert java_gateway.Popen is before
    jvm.stdin.close()
