"""The work of the main process before and while a pipeline runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from dynamodt.errors import CostReached, Fenced, RunFailed
from dynamodt.model.pages import Counts, Totals
from dynamodt.model.runs import Job
from dynamodt.runs import runner
from dynamodt.runs.context import Follower
from dynamodt.runs.options import RunOptions
from dynamodt.state.split_rows import ROWS
from tests.pipeline.conftest import Bench
from tests.waiting import HANG_SECONDS

TOUCH = "def transform_up(item):\n    return item\n"


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order; the pipeline lives for two turns."""
    seen: list[str] = []

    class Pipeline:
        error = None

        def __init__(self, job: Job, options: RunOptions) -> None:
            seen.append("pipeline")

            self.ended = self

        def wait(self, timeout: float) -> bool:
            if seen.count("turn") == 2:
                return True
            seen.append("turn")
            return False

    monkeypatch.setattr(runner, "_Background", Pipeline)
    return seen


def run(bench: Bench, tick: Callable[[], None]) -> None:
    job = bench.job(TOUCH)
    bench.state.lease(job)
    runner.run(job, bench.state, RunOptions(), lambda totals: None, [tick])  # type: ignore[arg-type]


def test_ticks_come_before_the_pipeline_and_at_each_turn(bench: Bench, events: list[str]) -> None:
    run(bench, lambda: events.append("tick"))
    assert events == ["tick", "pipeline", "turn", "tick", "turn", "tick"]


def test_no_pipeline_starts_if_the_first_tick_fails(bench: Bench, events: list[str]) -> None:
    def fenced() -> None:
        raise Fenced("another process holds the lease by now")

    with pytest.raises(Fenced):
        run(bench, fenced)
    assert events == []


def two_dead(bench: Bench, job: Job) -> None:
    units = bench.state.splits(job.run)
    units.checkpoint(units.claim(0, 1), 1, None, Totals(Counts(read=2, dead=2)))


def said_to_stop(bench: Bench, job: Job, tick: Callable[[], None]) -> str:
    bench.state.lease(job)
    runner.run(job, bench.state, RunOptions(), lambda totals: None, [tick])  # type: ignore[arg-type]
    return bench.state.leases.read(job.lease).stop


def test_new_dead_letters_stop_the_workers(bench: Bench, events: list[str]) -> None:
    job = bench.job(TOUCH)
    said = said_to_stop(bench, job, lambda: two_dead(bench, job) if events == ["pipeline", "turn"] else None)
    assert said == "max-errors"


@pytest.mark.usefixtures("events")
def test_dead_letters_of_an_earlier_attempt_do_not_stop_the_workers(bench: Bench) -> None:
    job = bench.job(TOUCH)
    two_dead(bench, job)
    assert said_to_stop(bench, job, lambda: None) == ""


@pytest.mark.usefixtures("events")
def test_the_rows_of_a_large_phase_are_read_once_before_it_begins(bench: Bench) -> None:
    job = bench.job(TOUCH, splits=1000)
    bench.state.lease(job)
    follower = Follower(bench.state, [job], None)  # type: ignore[arg-type]
    asked: list[int] = []
    ticks = [lambda: asked.append(bench.state.rows.asked)]
    runner.run(job, bench.state, RunOptions(), lambda totals: None, ticks, follower.splits(job))  # type: ignore[arg-type]
    assert 1000 <= asked[0] <= 1000 + ROWS


def test_an_interrupted_run_waits_for_its_workers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the waiting thread is interrupted, Thread.join reports a running thread as ended (CPython 3.11)."""
    done: list[str] = []
    begun, looked, interrupted, awaited = (threading.Event() for _ in range(4))

    def look() -> None:
        """The second one is that of a run that waits for its pipeline, one after the interrupt that of a run that still
        does."""
        (awaited if interrupted.is_set() else looked if begun.is_set() else begun).set()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def a_page(pipeline: runner._Background) -> None:
        looked.wait(HANG_SECONDS)
        os.kill(os.getpid(), signal.SIGALRM)
        awaited.wait(HANG_SECONDS)
        done.append("page")
        pipeline.ended.set()

    monkeypatch.setattr(runner._Background, "run", a_page)
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(bench, look)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert done == ["page"]


@pytest.mark.parametrize("ended_by", [CostReached, RunFailed])
def test_a_run_that_a_tick_ends_waits_for_its_workers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, ended_by: type[RunFailed]
) -> None:
    """A cost that has reached its limit is found again at each tick. The others go on: workers need their budget."""
    done: list[str] = []
    begun, allocated = threading.Event(), threading.Semaphore(0)

    def limit() -> None:
        if begun.is_set():
            raise ended_by("reached")

    def allocate() -> None:
        if begun.is_set():
            allocated.release()

    def a_page(pipeline: runner._Background) -> None:
        begun.set()
        if all(allocated.acquire(timeout=HANG_SECONDS) for _ in range(3)):  # the first may precede the error
            done.append("page")
        pipeline.ended.set()

    monkeypatch.setattr(runner._Background, "run", a_page)
    job = bench.job(TOUCH)
    bench.state.lease(job)
    with pytest.raises(ended_by):
        runner.run(job, bench.state, RunOptions(), lambda totals: None, [limit, allocate])  # type: ignore[arg-type]
    assert done == ["page"]
