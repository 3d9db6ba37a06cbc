"""Makes the Beam runner by its name, and checks Beam's own options (after `--` on the command line) before a run."""

from __future__ import annotations

import argparse
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import grpc
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, PortableOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    ControlFuture,
    SubprocessSdkWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.utils.sentinel import Sentinel

from dynamodt.errors import RunFailed, UsageError
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
    return Engine(InProcess(), 1)


# A signal that ends the command reaches its worker processes, too, from a terminal or as a group's: they await their
# requests, and end with the run.
_COMMAND = b"trap '' INT TERM; exec "


class InProcess(FnApiRunner):
    """Beam's in-process runner, made directly: `DirectRunner` would first look for a runner to download. Its processes,
    if any, execute `pipeline.worker`. `on_loss` is called, by another thread, with the error of a lost process."""

    on_loss: Callable[[RunFailed], None] = staticmethod(lambda error: None)

    def run_via_runner_api(self, pipeline: Any, options: Any) -> Any:
        for environment in pipeline.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.urn = f"dynamodt:worker_process:{id(self)}"
                environment.payload = _COMMAND + environment.payload.replace(
                    worker.MODULE.encode(), worker.__name__.encode()
                )
                WorkerHandler.register_environment(environment.urn, bytes)(partial(_WorkerProcess, self.on_loss))
        return super().run_via_runner_api(pipeline, options)


class _WorkerProcess(SubprocessSdkWorkerHandler):
    """A worker process. If it ends before the pipeline, the pipeline fails: Beam itself would wait for its answers for
    ever."""

    def __init__(self, on_loss: Callable[[RunFailed], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._on_loss = on_loss
        self._error: RunFailed | None = None
        self._closing = False
        self._answers: list[ControlFuture] = []  # awaited ones
        self._send = self.control_conn.push
        self.control_conn.push = self._push
        for stream, name in ((self.control_conn, "set_input"), (self.data_conn, "set_inputs")):
            setattr(stream, name, partial(_set_input, getattr(stream, name)))

    def start_worker(self) -> None:
        self.worker = SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(name="run_worker", target=self._await_end)
        self.worker_thread.start()

    def _await_end(self) -> None:
        code = 0
        try:
            self.worker.run()
        except RuntimeError as error:  # Beam has no other place for the exit code
            code = int(str(error).rpartition(" ")[2])
        if not self._closing:
            self._error = _lost(code)
            self._on_loss(self._error)
            for answer in self._answers:
                self._fail(answer)

    def _fail(self, answer: ControlFuture) -> None:
        """Answers a request with the error. An exception (`abort`) would not end a bundle that waits for elements."""
        answer.set(beam_fn_api_pb2.InstructionResponse(instruction_id=answer.instruction_id, error=str(self._error)))

    def stop_worker(self) -> None:
        """Waits for the process. One that connects only later, after the loss of another, ends at once."""
        if not self._closing:
            self.control_conn.push(Sentinel.sentinel)
        super().stop_worker()

    def _push(self, request: Any) -> ControlFuture | None:
        """Passes a request on. The process may be gone before it receives one."""
        answer = self._send(request)
        if answer is None:
            self._closing = True
            return None
        self._answers = [*(one for one in self._answers if not one.is_done()), answer]
        if self._error is not None:
            self._fail(answer)
        return answer


def _set_input(set_input: Callable[[Iterator[Any]], None], messages: Iterator[Any]) -> None:
    """Gives Beam the messages of a process, which end where the process is lost: Beam's thread would print that."""

    def until_lost() -> Iterator[Any]:
        with suppress(grpc.RpcError):
            yield from messages

    set_input(until_lost())


def _lost(code: int) -> RunFailed:
    """The error of a process that has ended with this exit code, negative for a signal, before the pipeline."""
    end = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = "see whether the memory was exhausted; the same command continues from the last checkpoint"
    return RunFailed(f"a worker process {end}", hint=hint)


def _spark(runner: str, spark_master: str, notify: Callable[[str], None]) -> Engine:
    from dynamodt.pipeline.spark_context import spark_context, workers
    from dynamodt.pipeline.spark_runner import SparkRunner, check_beam

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
