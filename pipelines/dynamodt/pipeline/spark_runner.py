"""SparkRunner: Beam's own Spark runner, called in the driver's JVM on an existing SparkContext.

There is no job server: the pipeline is passed as a protocol buffer, by py4j. The executors start Python in a PROCESS
environment, whose command is a small script that Spark distributes. Only this module uses a private method of Beam,
`PortableRunner._optimize_pipeline`, and so requires one version of Beam: that of the extra `spark`, of the jobs
(`requirements/job.lock`), and of the jar (`infra/beam-spark/pom.xml`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from dynamodt.errors import RunFailed, UsageError, installing
from dynamodt.pipeline.spark_context import PYTHON_LOG, executor_cores, java_class, last_line, local_cores, log_hint

BEAM = "2.77.0"
BOOT = "dynamodt_harness"
_SCRIPT = """#!/bin/sh
(: >>{log}) 2>/dev/null && exec 2>>{log}
{python} -m dynamodt.pipeline.worker "$@" &
harness=$!
trap 'kill $harness; exit 0' TERM INT HUP
wait $harness
code=$?
{follow}
exit $code
"""

# Beam discards the output of a harness.
_EXECUTOR_S_OWN = "/proc/$PPID/fd/2"

# Beam keeps the connection to a harness that has died, and every task on it fails, four times within a moment. Spark
# tolerates the loss of an executor, but not a broken one. So if a signal ended the harness, other than the executor's
# own SIGTERM, the executor is killed, too.
_FOLLOW = "[ $code -gt 128 ] && [ $code -ne 143 ] && kill -9 $PPID"


def check_beam(version: str = beam.__version__) -> None:
    """Raises UsageError for any version of Beam but the one whose private API is used here."""
    if version != BEAM:
        what = f"Beam {version} is installed, and its Spark runner works with {BEAM} alone"
        raise UsageError(what, where="--runner spark", hint=installing("spark"))


def process_environment(context: Any) -> Any:
    """Beam's description of the harness. On this machine, it has the import path of this process; elsewhere, the
    package is installed on every node."""
    from apache_beam.transforms import environments

    path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    return environments.ProcessEnvironment(
        _command(context),
        env={"PYTHONPATH": path} if local_cores(context.master) else {},
        capabilities=environments.python_sdk_capabilities(),
        artifacts=(),
    )


def python_log(context: Any) -> Path | None:
    """The file with the output of the harnesses, if they run on this machine."""
    return PYTHON_LOG.absolute() if local_cores(context.master) else None


def _command(context: Any) -> str:
    """The path of the script: in the working folder of an executor, or in one of Spark's for the driver's own."""
    from pyspark import SparkFiles

    in_driver = context.master.startswith("local") and not context.master.startswith("local-cluster")
    script = written(_folder(), python_log(context), "" if in_driver else _FOLLOW)
    context.addFile(str(script))
    return SparkFiles.get(BOOT) if in_driver else f"./{BOOT}"


def written(folder: Path, log: Path | None, follow: str = _FOLLOW) -> Path:
    """Write the script to a folder. Without a log, its output goes to that of the executor."""
    path = folder / BOOT
    to = shlex.quote(str(log)) if log else _EXECUTOR_S_OWN
    path.write_text(_SCRIPT.format(python=shlex.quote(sys.executable), log=to, follow=follow), encoding="utf-8")
    path.chmod(0o755)
    return path


@cache
def _folder() -> Path:
    """The folder of the script, always the same in this process, since Spark refuses another file of the same name."""
    return Path(_kept().name)


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dynamodt-")  # removed with the process


JOB = "dynamodt"
_NO_ARTIFACTS = "__no_artifacts_staged__"
_KEPT_MILLIS = 3_600_000  # for which an idle harness is kept; Beam's default hardly lasts a task
_WHERE = "--runner spark"
_DIED = re.compile(r"Process died with exit code (?P<code>\d+)")
_TAIL = 10_000  # characters
_OPTIONS_CLASS = "org.apache.beam.runners.spark.SparkPipelineOptions"


class SparkRunner(PipelineRunner):
    """Runs a pipeline on a SparkContext, which it does not stop."""

    def __init__(self, context: Any) -> None:
        super().__init__()
        self._context = context

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> PipelineResult:
        """Hand the pipeline over; returns at once."""
        proto = pipeline.to_runner_api(default_environment=process_environment(self._context))
        proto = PortableRunner._optimize_pipeline(proto, options)
        self._keep_harnesses(options)
        call = _java_call(self._context, proto.SerializeToString(), _as_json(options))
        return _Result(call, python_log(self._context))

    def _keep_harnesses(self, options: PipelineOptions) -> None:
        portable = options.view_as(PortableOptions)
        portable.environment_cache_millis = portable.environment_cache_millis or _KEPT_MILLIS
        if portable.sdk_worker_parallelism in (None, 1):
            portable.sdk_worker_parallelism = executor_cores(self._context)


def _as_json(options: PipelineOptions) -> str:
    """The options that differ from their defaults, by their names in Java."""
    own = ("runner", "pipeline_type_check", "direct_num_workers")
    given = options.get_all_options(drop_default=True).items()
    return json.dumps(
        {f"beam:option:{name}:v1": value for name, value in given if value is not None and name not in own}
    )


def _java_call(context: Any, pipeline: bytes, options: str) -> Callable[[], str]:
    """Prepare the call of Java's SparkPipelineRunner. The returned function makes it, and returns the final state."""
    java_beam = context._jvm.org.apache.beam
    translation = java_beam.sdk.util.construction.PipelineOptionsTranslation
    java_beam.sdk.io.FileSystems.setDefaultPipelineOptions(java_beam.sdk.options.PipelineOptionsFactory.create())
    java = getattr(translation.fromJson(options), "as")(java_class(context, _OPTIONS_CLASS))
    # the same for all pipelines of a command: they share the harnesses, which got their options at the start
    invocation = f"{JOB}-{context.applicationId}-{hashlib.sha256(options.encode()).hexdigest()[:8]}"
    java.setRunner(None)
    java.setUsesProvidedSparkContext(True)
    java.setAppName(invocation)
    java.setJobName(JOB)
    java_beam.runners.spark.translation.SparkContextFactory.setProvidedSparkContext(context._jsc)
    java_beam.runners.spark.metrics.MetricsAccumulator.clear()
    proto = getattr(java_beam.model.pipeline.v1, "RunnerApi$Pipeline").parseFrom(pipeline)
    create = java_beam.runners.fnexecution.provisioning.JobInfo.create
    info = create(invocation, JOB, _NO_ARTIFACTS, translation.toProto(java))
    return lambda: str(java_beam.runners.spark.SparkPipelineRunner(java).run(proto, info).getState().toString())


class _Result(PipelineResult):
    """A pipeline that runs in a thread: Java's runner does not return before the end."""

    def __init__(self, call: Callable[[], str], python_log: Path | None) -> None:
        super().__init__(PipelineState.RUNNING)
        self._call = call
        self._log = python_log
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._go, name="spark-job", daemon=True).start()

    def _go(self) -> None:
        try:
            self._state = self._call()
        except BaseException as error:
            self._error = error
            self._state = PipelineState.FAILED
        finally:
            self._ended.set()

    @property
    def state(self) -> str:
        return str(self._state)

    def wait_until_finish(self, duration: int | None = None) -> str:
        """Wait for the end, for `duration` milliseconds at most. Raises RunFailed when the pipeline has failed."""
        self._ended.wait(duration / 1000 if duration else None)
        if self._error is not None:
            raise failed(self._error, self._log) from self._error
        return self.state


def failed(error: BaseException, python_log: Path | None = None) -> RunFailed:
    """The error of Java's runner. If a harness did not start, Java has only the exit code; the reason is Python's last
    line."""
    text = cause(error)
    died = _DIED.search(text)
    if died is None:
        return RunFailed(f"the pipeline failed on Spark: {text}", where=_WHERE, hint=log_hint())
    reason = last_line(python_log.read_text(errors="replace")[-_TAIL:]) if python_log and python_log.is_file() else ""
    what = f"Python did not start on an executor of Spark (exit code {died['code']})"
    hint = f"its whole output: {python_log}" if reason else "the executor's own log has the output of Python (stderr)"
    return RunFailed(f"{what}: {reason}" if reason else what, where=_WHERE, hint=hint)


def cause(error: BaseException) -> str:
    """The reason of an error in one line: the last line of the last cause in Java's chain."""
    java = getattr(error, "java_exception", None)
    if java is None:
        return last_line(str(error))
    while (deeper := java.getCause()) is not None:
        java = deeper
    return last_line(str(java.getMessage() or java.toString()))
