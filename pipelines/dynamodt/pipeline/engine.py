"""Makes the Beam runner by its name, and checks Beam's own options (after `--` on the command line) before a run."""

from __future__ import annotations

import argparse
import io
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions
from apache_beam.runners.portability.portable_runner import PortableRunner

from dynamodt.errors import UsageError
from dynamodt.pipeline import worker
from dynamodt.pipeline.process import redirected

_WHERE = "after --"
_HERE = "embed"  # a job endpoint within this process
_SECONDS = 5.0


def own_processes(words: Sequence[str]) -> int:
    """The number of processes that Beam's in-process runner starts: by the options, or one for each core; 1 if it works
    in this process."""
    return processes_of(PipelineOptions(["--direct_num_workers=0", *words]).view_as(DirectOptions))


def processes_of(options: DirectOptions) -> int:
    """The number of processes of Beam's in-process runner, by its options."""
    if options.direct_running_mode != "multi_processing":
        return 1
    return max(1, int(options.direct_num_workers) or os.cpu_count() or 1)


def check_beam_options(words: Sequence[str], all_known: bool) -> None:
    """Raises UsageError for an invalid value and, if `all_known`, for an option unknown to Beam, which Beam would
    silently ignore. A job server may have options of its own."""
    parsers: list[argparse.ArgumentParser] = []
    written = io.StringIO()
    try:
        with redirected(written):
            PipelineOptions(list(words)).get_all_options(add_extra_args_fn=parsers.append)
    except SystemExit as error:  # argparse has written the reason
        reason = written.getvalue().strip().rpartition("\n")[2].partition("error: ")[2]
        raise UsageError(f"Beam refuses an option: {reason}", where=_WHERE, hint=_hint()) from error
    unknown = parsers[0].parse_known_args(list(words))[1]
    if unknown and all_known:
        raise UsageError(f"Beam has no option {unknown[0]!r}", where=_WHERE, hint=_hint())


def _hint() -> str:
    return "Beam's options are in its documentation, under PipelineOptions; dynamodt's own go before the --"


def check_job_endpoint(runner: object, words: Sequence[str]) -> None:
    """Raises UsageError for a portable runner whose job server is not given, or does not listen."""
    if not isinstance(runner, PortableRunner):
        return
    endpoint = PipelineOptions(list(words)).view_as(PortableOptions).job_endpoint
    if endpoint and endpoint != _HERE:
        _check_listening(endpoint)
    elif not endpoint and type(runner) is PortableRunner:
        hint = "name it: --runner PortableRunner -- --job_endpoint=HOST:PORT --environment_type=..."
        raise UsageError("a portable runner needs a job server", where="--runner", hint=hint)


def _check_listening(endpoint: str) -> None:
    host, _, port = endpoint.rpartition(":")
    try:
        with closing(socket.create_connection((host.strip("[]"), int(port)), _SECONDS)):
            return
    except (OSError, ValueError) as error:
        hint = "start the job server, or give another address: HOST:PORT"
        raise UsageError(f"no job server answers at {endpoint}: {error}", where="--job_endpoint", hint=hint) from error


OWN_RUNNERS = ("direct", "spark", "glue")
_WORKERS_OF_OTHERS = 16  # not known: enough split groups for a few machines


@dataclass(frozen=True, slots=True)
class Engine:
    """A Beam runner; `workers` is the number of processes that may transform items at once."""

    runner: Any
    workers: int


def engine(
    runner: str,
    spark_master: str = "",
    notify: Callable[[str], None] = lambda text: None,
    beam_args: Sequence[str] = (),
) -> Engine:
    """Make a runner, which may start Spark. `notify` reports steps that take long.

    Raises UsageError for an unknown name, and as `spark_context`.
    """
    make = {"direct": _in_process, "spark": _spark}.get(runner, _of_beam)
    made = make(runner, spark_master, notify)
    return replace(made, workers=own_processes(beam_args)) if runner == "direct" else made


def check_runner(runner: str, beam_args: Sequence[str]) -> None:
    """Check a runner's name and Beam's options; nothing is started.

    Raises UsageError for an unknown name, for invalid options, and for a portable runner without a job server.
    """
    own = runner in OWN_RUNNERS
    made = None if own else _of_beam(runner, "", lambda text: None).runner
    check_beam_options(beam_args, all_known=own)
    check_job_endpoint(made, beam_args)


def _in_process(runner: str, spark_master: str, notify: Callable[[str], None]) -> Engine:
    """Beam's in-process runner, made directly: `DirectRunner` would first look for a runner to download. Its processes,
    if any, execute `pipeline.worker`."""
    from apache_beam.portability import python_urns
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    class InProcess(FnApiRunner):
        def run_via_runner_api(self, pipeline: Any, options: Any) -> Any:
            for environment in pipeline.components.environments.values():
                if environment.urn == python_urns.SUBPROCESS_SDK:
                    environment.payload = environment.payload.replace(worker.MODULE.encode(), worker.__name__.encode())
            return super().run_via_runner_api(pipeline, options)

    return Engine(InProcess(), 1)


def _spark(runner: str, spark_master: str, notify: Callable[[str], None]) -> Engine:
    from dynamodt.pipeline.spark.context import spark_context, workers
    from dynamodt.pipeline.spark.runner import SparkRunner, check_beam

    check_beam()
    context = spark_context(spark_master, notify)
    return Engine(SparkRunner(context), workers(context))


def _of_beam(runner: str, spark_master: str, notify: Callable[[str], None]) -> Engine:
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.runners.runner import create_runner

    try:
        return Engine(create_runner(runner), _WORKERS_OF_OTHERS)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        known = ", ".join((*OWN_RUNNERS, *(name.rpartition(".")[2] for name in StandardOptions.ALL_KNOWN_RUNNERS)))
        raise UsageError(f"there is no runner {runner!r}", where="--runner", hint=f"use one of: {known}") from error
