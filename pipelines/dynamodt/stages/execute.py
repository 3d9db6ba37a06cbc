"""Hands the pipeline to a Beam runner, and waits for its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from dynamodt.aws.resources import Resources
from dynamodt.model import Job
from dynamodt.stages.migrate import migrate
from dynamodt.stages.undo import undo


def execute(job: Job, resources: Resources, runner: str, beam_args: Sequence[str] = ()) -> None:
    """Run a job to its end, with `beam_args` as Beam's own options.

    Raises what the runner raises: a worker's own error is in the run's control row.
    """
    with beam.Pipeline(runner=_RUNNERS[runner](), options=PipelineOptions(list(beam_args))) as pipeline:
        (undo if job.undoes else migrate)(pipeline, job, resources)


def _in_process() -> Any:
    """Beam's in-process runner by its own name: `DirectRunner` would look for one to download first."""
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()


_RUNNERS: dict[str, Callable[[], Any]] = {"direct": _in_process}
