"""Hands the pipeline to a Beam runner, and waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dynamodt.aws.resources import Resources
from dynamodt.errors import UsageError
from dynamodt.model import Job
from dynamodt.stages.migrate import migrate
from dynamodt.stages.options import check_job_endpoint, check_words, own_processes
from dynamodt.stages.signals import end_lanes
from dynamodt.stages.undo import undo

OWN_RUNNERS = ("direct", "spark", "glue")
_WORKERS_OF_OTHERS = 16  # nobody can tell: enough lanes for a few machines


@dataclass(frozen=True, slots=True)
class Engine:
    """A Beam runner, ready: `workers` is how many processes may move items at once."""

    runner: Any
    workers: int


def engine(
    runner: str,
    spark_master: str = "",
    note: Callable[[str], None] = lambda text: None,
    beam_args: Sequence[str] = (),
) -> Engine:
    """Make a runner ready, which may start a Spark: `note` is told what takes long.

    Raises UsageError for a name that neither we nor Beam know, and as `spark_context` does.
    """
    make = {"direct": _in_process, "spark": _spark}.get(runner, _of_beam)
    made = make(runner, spark_master, note)
    return replace(made, workers=own_processes(beam_args)) if runner == "direct" else made


def check_runner(runner: str, beam_args: Sequence[str]) -> None:
    """Look at a runner's name and Beam's options, and start nothing.

    Raises UsageError for a name that neither we nor Beam know, for options that Beam does not take, and for a portable
    runner without a job server.
    """
    own = runner in OWN_RUNNERS
    made = None if own else _of_beam(runner, "", lambda text: None).runner
    check_words(beam_args, all_known=own)
    check_job_endpoint(made, beam_args)


def execute(job: Job, resources: Resources, runner: Any, beam_args: Sequence[str] = ()) -> None:
    """Run a job to its end, with `beam_args` as Beam's own options.

    Raises what the runner raises: a worker's own error is in the run's control row. No lane of this process is at work
    any more when it returns, or raises.
    """
    options = PipelineOptions([_at_once(job, beam_args), *beam_args])
    try:
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            (undo if job.undoes else migrate)(pipeline, job, resources)
    except BaseException:
        end_lanes(job)  # Beam does not wait for the others when one has failed
        raise


def _at_once(job: Job, beam_args: Sequence[str]) -> str:
    """Beam's in-process runner gives each lane a thread: while one waits for an answer, another has the processor.
    Where it has processes, each takes one lane after the other; other runners have no use for it."""
    processes = own_processes(beam_args)
    return f"--direct_num_workers={processes if processes > 1 else min(job.lanes, job.units)}"


def _in_process(runner: str, spark_master: str, note: Callable[[str], None]) -> Engine:
    """Beam's in-process runner by its own name: `DirectRunner` would look for one to download first."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return Engine(FnApiRunner(), 1)


def _spark(runner: str, spark_master: str, note: Callable[[str], None]) -> Engine:
    from dynamodt.stages.spark.context import spark_context, workers
    from dynamodt.stages.spark.runner import SparkRunner

    context = spark_context(spark_master, note)
    return Engine(SparkRunner(context), workers(context))


def _of_beam(runner: str, spark_master: str, note: Callable[[str], None]) -> Engine:
    from apache_beam.options.pipeline_options import StandardOptions
    from apache_beam.runners.runner import create_runner

    try:
        return Engine(create_runner(runner), _WORKERS_OF_OTHERS)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        known = ", ".join((*OWN_RUNNERS, *(name.rpartition(".")[2] for name in StandardOptions.ALL_KNOWN_RUNNERS)))
        raise UsageError(f"there is no runner {runner!r}", where="--runner", hint=f"use one of: {known}") from error
