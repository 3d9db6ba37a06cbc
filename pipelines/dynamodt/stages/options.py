"""Beam's own options, which follow `--` on the command line: looked at before anything starts."""

from __future__ import annotations

import argparse
import io
import os
import socket
from collections.abc import Sequence
from contextlib import closing, redirect_stderr

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions
from apache_beam.runners.portability.portable_runner import PortableRunner

from dynamodt.errors import UsageError

_WHERE = "behind --"
_HERE = "embed"  # a job endpoint within this process
_SECONDS = 5.0


def own_processes(words: Sequence[str]) -> int:
    """How many processes of its own Beam's in-process runner is to work in: as many as a person says, or one for each
    core; 1 where it works in this one."""
    options = PipelineOptions(["--direct_num_workers=0", *words]).view_as(DirectOptions)
    if options.direct_running_mode != "multi_processing":
        return 1
    return max(1, int(options.direct_num_workers) or os.cpu_count() or 1)


def check_words(words: Sequence[str], all_known: bool) -> None:
    """Raises UsageError for a value that is none of its option's, and, where `all_known`, for a word that Beam does not
    know: it would pass it over without a sound. A job server may have options of its own."""
    parsers: list[argparse.ArgumentParser] = []
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            PipelineOptions(list(words)).get_all_options(add_extra_args_fn=parsers.append)
    except SystemExit as error:  # argparse has said why
        told = said.getvalue().strip().rpartition("\n")[2].partition("error: ")[2]
        raise UsageError(f"Beam does not take this: {told}", where=_WHERE, hint=_hint()) from error
    unknown = parsers[0].parse_known_args(list(words))[1]
    if unknown and all_known:
        raise UsageError(f"Beam has no option {unknown[0]!r}", where=_WHERE, hint=_hint())


def _hint() -> str:
    return "Beam's options are in its documentation, under PipelineOptions; dynamodt's own go before the --"


def check_job_endpoint(runner: object, words: Sequence[str]) -> None:
    """Raises UsageError for a portable runner that is not told its job server, or at whose place nobody listens."""
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
        hint = "start the job server, or name another place: HOST:PORT"
        raise UsageError(f"no job server answers at {endpoint}: {error}", where="--job_endpoint", hint=hint) from error
