"""What is done while a pipeline runs, and before it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynamodt.control import runner
from dynamodt.control.requests import RunOptions
from dynamodt.errors import Fenced
from dynamodt.model import Job
from tests.pipeline.conftest import Bench

TOUCH = "def transform_up(item):\n    return item\n"


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order; the pipeline lives for two turns."""
    seen: list[str] = []

    class Pipeline:
        error = None

        def __init__(self, job: Job, options: RunOptions) -> None:
            seen.append("pipeline")

        def is_alive(self) -> bool:
            return seen.count("turn") < 2

        def join(self, timeout: float | None = None) -> None:
            seen.append("turn")

    monkeypatch.setattr(runner, "_Background", Pipeline)
    return seen


def run(bench: Bench, tick: Callable[[], None]) -> None:
    job = bench.job(TOUCH)
    bench.state.lease(job)
    runner.run(job, bench.state, RunOptions(), lambda totals: None, [tick])  # type: ignore[arg-type]


def test_ticks_come_before_the_pipeline_and_at_each_turn(bench: Bench, events: list[str]) -> None:
    run(bench, lambda: events.append("tick"))
    assert events == ["tick", "pipeline", "tick", "turn", "tick", "turn"]


def test_a_tick_that_fails_at_once_starts_nothing(bench: Bench, events: list[str]) -> None:
    def fenced() -> None:
        raise Fenced("another process holds the lease by now")

    with pytest.raises(Fenced):
        run(bench, fenced)
    assert events == []
