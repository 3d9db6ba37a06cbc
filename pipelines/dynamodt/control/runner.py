"""Runs a job's pipeline and follows it: the one edge from the control plane into the stages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from dynamodt.aws.resources import AwsResources
from dynamodt.aws.state import State
from dynamodt.control.requests import RunOptions
from dynamodt.control.unit_totals import UnitTotals
from dynamodt.errors import Fenced, RunFailed, ServiceError, UsageError
from dynamodt.model import Job, Totals

RUNNERS = ("direct",)
_LOOK_SECONDS = 0.5

OnProgress = Callable[[Totals], None]
Tick = Callable[[], None]


def run(job: Job, state: State, options: RunOptions, on_progress: OnProgress, ticks: Sequence[Tick] = ()) -> Totals:
    """Run a job to its end, telling `on_progress` several times a second where it stands, and calling each of `ticks`,
    for the first time before anything is read; returns where it ended.

    Raises the error that ended it (ScriptError, ServiceError, ... or RunFailed for one without a name). Ctrl-C lets
    every worker finish its page, then goes on as KeyboardInterrupt.
    """
    units = UnitTotals(state.units(job.run), job.units)
    _tick(ticks)
    pipeline = _Background(job, options)
    try:
        while not pipeline.ended.wait(_LOOK_SECONDS):
            _tick(ticks)
            on_progress(units.look())
    except BaseException:  # Ctrl-C, a signal, or the state table out of reach: leave no worker behind
        _stop(state, job)
        _wait_for_end(pipeline, ticks)
        on_progress(units.whole())
        raise
    totals = units.whole()
    on_progress(totals)
    _raise_failure(state, job, pipeline.error)
    return totals


def _tick(ticks: Sequence[Tick]) -> None:
    for tick in ticks:
        tick()


def _wait_for_end(pipeline: _Background, ticks: Sequence[Tick]) -> None:
    """The pages in flight end by themselves; a worker among them may yet wait for its part of the budget."""
    while not pipeline.ended.wait(_LOOK_SECONDS):
        with suppress(Fenced, ServiceError):
            _tick(ticks)


def _stop(state: State, job: Job) -> None:
    from dynamodt.stages import signals

    signals.stop(state.leases, job, "interrupted")


def _raise_failure(state: State, job: Job, error: BaseException | None) -> None:
    from dynamodt.stages import signals

    named = signals.reported(state.leases.read(job.lease), job)
    if named is not None:
        raise named from error
    if error is not None:
        raise RunFailed(
            f"the pipeline failed: {type(error).__name__}: {error}",
            where=f"run {job.run}",
            hint="DYNAMODT_DEBUG=1 shows the traceback",
        ) from error


class _Background(threading.Thread):
    """The pipeline, in a thread of its own: Beam's in-process runner does not return before the end.

    `ended` says that it has; a thread whose `join` was interrupted claims it too early (CPython 3.11, `threading`).
    """

    def __init__(self, job: Job, options: RunOptions) -> None:
        super().__init__(name=f"run-{job.run}", daemon=True)
        self._job = job
        self._runner = checked(options.runner)
        self._beam_args = options.beam_args
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        from dynamodt.stages.quiet import quiet_beam

        try:
            with quiet_beam():
                from dynamodt.stages.execute import execute

                execute(self._job, AwsResources(self._job.stage), self._runner, self._beam_args)
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()


def checked(runner: str) -> str:
    """The runner's name. Raises UsageError for one that is not known."""
    if runner not in RUNNERS:
        known = ", ".join(RUNNERS)
        raise UsageError(f"there is no runner {runner!r}", where="--runner", hint=f"use one of: {known}")
    return runner
