"""Beam's own options, as a runner is handed them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, WorkerOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner

from dynamodt.pipeline.migrate import execute
from tests.pipeline.conftest import Bench


class Seeing(FnApiRunner):
    """Beam's in-process runner, which keeps the options that it was given."""

    options: PipelineOptions

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        self.options = options
        return super().run_pipeline(pipeline, options)


class Unused(PipelineRunner):
    """Keeps the options, and runs nothing."""

    options: PipelineOptions

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        self.options = options
        raise NotImplementedError


def test_beam_options_reach_the_runner_and_override_those_of_dynamodt(bench: Bench) -> None:
    job, runner = bench.job("def transform_up(item):\n    return item\n"), Seeing()
    bench.state.lease(job)
    execute(job, bench.resources, runner, ("--max_cache_memory_usage_mb=7", "--direct_num_workers", "1"))
    assert runner.options.view_as(WorkerOptions).max_cache_memory_usage_mb == 7
    assert runner.options.view_as(DirectOptions).direct_num_workers == 1


def test_the_number_of_processes_is_the_requested_one_and_not_that_of_split_groups(bench: Bench) -> None:
    job, runner = replace(bench.job("def transform_up(item):\n    return item\n"), split_groups=3), Unused()
    for words, at_once in ((), 3), (("--direct_running_mode=multi_processing",), os.cpu_count()):
        with pytest.raises(NotImplementedError):
            execute(job, bench.resources, runner, words)
        assert runner.options.view_as(DirectOptions).direct_num_workers == at_once
