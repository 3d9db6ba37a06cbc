"""Runs a job's pipeline and follows it. Only this module of the control plane starts the data plane."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from dynamodt.errors import CostReached, DynamodtError, Fenced, RunFailed, ServiceError, require
from dynamodt.model.pages import Totals
from dynamodt.model.runs import ERROR, MAX_USD, Job
from dynamodt.pipeline import author_output
from dynamodt.runs.budget import Allocator, watch_capacity, watching
from dynamodt.runs.options import GLUE, RunOptions
from dynamodt.runs.preflight import watch_writers
from dynamodt.state.split_rows import SplitTotals
from dynamodt.state.storage import with_owner

if TYPE_CHECKING:
    from dynamodt.runs.context import RunContext
    from dynamodt.state.state import State

RUNNERS = ("direct", "spark")  # besides Beam's own
_BEAM = "apache_beam"
_LOOK_SECONDS = 0.5
_GRANTERS = 10  # as many connections as botocore keeps for a client

OnProgress = Callable[[Totals], None]
Tick = Callable[[], None]
Notify = Callable[[str], None]


def run(
    job: Job,
    state: State,
    options: RunOptions,
    on_progress: OnProgress,
    ticks: Sequence[Tick] = (),
    splits: SplitTotals | None = None,
) -> Totals:
    """Run a job to its end; returns its totals. `on_progress` receives the totals several times a second, and each of
    `ticks` is called as often, first before anything is read. `splits` are the totals that were already read.

    Raises the error that ended it (ScriptError, ServiceError, ... RunFailed for an unknown one). After Ctrl-C, each
    worker awaits its requests, and KeyboardInterrupt is raised. After a tick's CostReached, each worker completes its
    pages.
    """
    splits = splits or SplitTotals(state.splits(job.run), job.splits)
    before = splits.poll().counts.dead  # of earlier attempts; their replays count in phases of their own
    _tick(ticks)
    pipeline, stopped = _Background(job, options), False
    try:
        while not pipeline.ended.wait(_LOOK_SECONDS):
            _tick(ticks)
            totals = splits.poll()
            if totals.counts.dead - before > job.max_errors and not stopped:
                _stop(state, job, "max-errors")  # a worker counts only its own dead letters
                stopped = True
            on_progress(totals)
    except BaseException as error:  # Ctrl-C, a signal, or an unreachable state table: no worker may continue
        with suppress(Fenced, ServiceError):  # the workers of this process stop first
            _stop(state, job, MAX_USD if isinstance(error, CostReached) else "interrupted")
        _wait_for_end(pipeline, ticks)
        with suppress(ServiceError):
            on_progress(splits.whole())
        raise
    totals = splits.whole()
    on_progress(totals)
    _raise_failure(state, job, pipeline.error)
    return totals


def ticks(context: RunContext, job: Job) -> list[Tick]:
    """The periodic tasks of a run: they allocate its budget, and watch the tables' capacity and replicas, and the
    alarms."""
    workers = context.state.workers(job.base_run, job.attempt, job.shards)
    executor = ThreadPoolExecutor(_GRANTERS, thread_name_prefix="grant") if job.shards > 1 else None
    allocator = Allocator(job, context.state.leases, workers, executor=executor)
    slow = partial(report_slow, allocator, set(), context.observer.notify)
    watches = (watch_capacity(context, job), watch_writers(context.stage, job, context.options))
    followed = [watch.tick for watch in watches if watch is not None]
    return [
        allocator.tick,
        slow,
        *followed,
        *watching(context.options.alarms, job, context.state, context.observer.notify),
    ]


def report_slow(allocator: Allocator, reported: set[str], notify: Notify) -> None:
    """Report once for reads and for writes that throttles have slowed the run down: its progress names the limit."""
    for ramp, kind, unit in zip(allocator.ramps or (), ("reads", "writes"), ("RCU/s", "WCU/s"), strict=False):
        if ramp.slowed and kind not in reported:
            reported.add(kind)
            notify(f"{kind} are throttled: the run slows down to {ramp.rate:,.0f} {unit} until they pass again")


def _tick(ticks: Sequence[Tick]) -> None:
    for tick in ticks:
        tick()


def _wait_for_end(pipeline: _Background, ticks: Sequence[Tick]) -> None:
    """Wait for the pipeline's end. Each worker ends between two requests, or, while it waits for its budget, at its
    next poll. An error of a tick does not end the wait, nor the other ticks: the cost's limit is reached at each one,
    and workers that complete their pages need their budget."""
    while not pipeline.ended.wait(_LOOK_SECONDS):
        for tick in ticks:
            with suppress(DynamodtError):
                tick()


def _stop(state: State, job: Job, why: str = "interrupted") -> None:
    from dynamodt.pipeline import signals

    signals.stop(state.leases, job, why)


def _raise_failure(state: State, job: Job, error: BaseException | None) -> None:
    from dynamodt.pipeline import signals

    named = signals.lost_lease_error(state.leases, job) or signals.reported_error(state.leases.read(job.lease), job)
    if named is not None:
        raise named from error
    if error is None:
        return
    _stop(state, job, ERROR)  # workers of other processes must end, too
    if isinstance(error, DynamodtError):
        raise error
    raise RunFailed(
        f"the pipeline failed: {type(error).__name__}: {error}",
        where=f"run {job.run}",
        hint="DYNAMODT_DEBUG=1 shows the traceback",
    ) from error


class _Background(threading.Thread):
    """The pipeline in a thread of its own, since Beam's in-process runner returns only at the end.

    `ended` is set at the end: `is_alive` is wrong after an interrupted `join` (CPython 3.11, `threading`).
    """

    def __init__(self, job: Job, options: RunOptions) -> None:
        super().__init__(name=f"run-{job.run}", daemon=True)
        self._job = job
        self._options = options
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        from dynamodt.pipeline.process import bypass_proxy_for_beam, mute_beam

        bypass_proxy_for_beam()
        options = self._options
        try:
            with mute_beam():
                from dynamodt.pipeline.engine import engine
                from dynamodt.pipeline.migrate import Resources, execute

                runner = engine(options.runner, options.spark_master).runner
                job = replace(self._job, stage=with_owner(self._job.stage))
                remote = options.runner != "direct" or bool(options.beam_args)
                resources = Resources(job.stage, job.table.name, author_output.origin(remote))
                execute(job, resources, runner, options.beam_args)
        except BaseException as error:
            self.error = error
        finally:
            author_output.end()
            self.ended.set()


def check_runner(options: RunOptions, runs: bool = True) -> None:
    """Check the runner's name and Beam's options, before anything is started. If the command `runs` a pipeline, Beam
    must be installed, unless the deployed job runs it. Raises UsageError for an unknown runner, a runner without its
    job server, and options that Beam does not accept."""
    plain = options.runner in (*RUNNERS, GLUE) and not options.beam_args
    if options.runner != GLUE and (runs or not plain):
        _require_beam(options)
    if plain or (options.runner == GLUE and find_spec(_BEAM) is None):  # the job checks them itself
        return
    from dynamodt.pipeline.process import mute_beam

    with mute_beam():
        from dynamodt.pipeline.engine import check_runner

        check_runner(options.runner, options.beam_args)


def _require_beam(options: RunOptions) -> None:
    require(_BEAM, "beam", f"--runner {options.runner}", " (`--runner glue` runs without it)")


def ready(options: RunOptions, notify: Notify) -> RunOptions:
    """Prepare the runner, which may take a while and is reported to `notify`; returns the options with `workers` set.

    Raises UsageError for software that is missing on this machine, Refused or RunFailed for an unusable Spark.
    """
    _require_beam(options)
    if options.runner == "direct" and not options.beam_args:
        return options
    return replace(options, workers=_engine(options, notify).workers)


def _engine(options: RunOptions, notify: Notify = lambda text: None) -> Any:
    from dynamodt.pipeline.process import bypass_proxy_for_beam, mute_beam

    bypass_proxy_for_beam()
    with mute_beam():
        from dynamodt.pipeline.engine import engine

        return engine(options.runner, options.spark_master, notify, options.beam_args)
