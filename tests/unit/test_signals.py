"""The answers of a poller are as recent as promised, for a table at any distance, with few requests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dynamodt.errors import ServiceError
from dynamodt.model.runs import MAX_USD, Job, Lease, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.signals import MAX_ERRORS, POLL_SECONDS, Interrupted, Poller, Signal


class Far:
    """A row that shows the time at which it was requested, after `latency` seconds."""

    def __init__(self, latency: float) -> None:
        self.now = 1000.0
        self.latency = latency
        self.sent = 0
        self.awaited = 0
        self.waited = 0.0

    def clock(self) -> float:
        return self.now

    def begin(self) -> Callable[[], float]:
        self.sent += 1
        sent_at = self.now

        def answer() -> float:
            self.awaited += 1
            wait = max(0.0, sent_at + self.latency - self.now)
            self.waited += wait
            self.now += wait
            return sent_at

        return answer


def looked(far: Far, poller: Poller[float]) -> float:
    seen = poller.current(far.begin)
    assert seen is not None
    return seen


def due_soon() -> tuple[Far, Poller[float]]:
    """A first read has finished, so that the next call sends a request ahead."""
    far = Far(0.2)
    poller: Poller[float] = Poller(far.clock)
    looked(far, poller)
    far.now += 0.15
    return far, poller


# Waiting for each read would take 20 times the latency, and more for reads that fall due meanwhile.
@pytest.mark.parametrize(
    ("latency", "sent", "waited"), [(0.0, 20, 0.0), (0.005, 21, 0.11), (0.1, 26, 0.3), (0.2, 35, 0.6), (0.3, 50, 5.1)]
)
def test_ten_seconds_of_polling_take_few_requests_and_little_waiting(latency: float, sent: int, waited: float) -> None:
    far = Far(latency)
    poller: Poller[float] = Poller(far.clock)
    for _ in range(1000):
        far.now += 0.01
        looked(far, poller)
    assert far.sent <= sent
    assert far.waited <= waited


class Busy(Far):
    """As `Far`, on a machine where any amount of time passes before each reading of the clock."""

    def __init__(self, latency: float, pauses: list[float]) -> None:
        super().__init__(latency)
        self._pauses = cycle(pauses)

    def clock(self) -> float:
        self.now += next(self._pauses)
        return self.now


@given(st.floats(0.0, 2.0), st.lists(st.sampled_from([0.0, 0.0, 0.01, 0.2, 0.3, 0.6, 9.0]), min_size=1, max_size=30))
@example(0.0, [0.0, 0.2])
def test_on_a_busy_machine_an_answer_is_at_most_half_a_second_older_than_the_call(
    latency: float, pauses: list[float]
) -> None:
    far = Busy(latency, pauses)
    poller: Poller[float] = Poller(far.clock)
    for _ in range(40):
        asked_at = far.now
        assert looked(far, poller) >= asked_at - POLL_SECONDS


@given(st.floats(0.0, 0.24), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=60))
def test_an_answer_is_never_older_than_half_a_second(latency: float, steps: list[float]) -> None:
    far = Far(latency)
    poller: Poller[float] = Poller(far.clock)
    for step in steps:
        far.now += step
        asked_at = far.now
        assert looked(far, poller) >= asked_at - POLL_SECONDS


def test_an_answer_from_before_a_suspension_is_discarded() -> None:
    far, poller = due_soon()
    looked(far, poller)
    assert far.sent == 2 and far.awaited == 1  # the next is on its way
    far.now += 600.0
    assert looked(far, poller) >= far.now - 0.2 - 1e-6


def test_a_read_slower_than_its_validity_is_sent_once() -> None:
    far = Far(2.0)
    poller: Poller[float] = Poller(far.clock)
    looked(far, poller)
    assert far.sent == 1


def test_a_row_observed_by_another_request_is_used() -> None:
    far = Far(0.0)
    poller: Poller[float] = Poller(far.clock)
    poller.observed(far.now)
    far.now += 0.4
    assert poller.current(far.begin) is None and far.sent == 0
    far.now += 0.1
    assert looked(far, poller) == far.now


def test_an_answer_about_another_row_is_received_and_ignored() -> None:
    far, poller = due_soon()
    looked(far, poller)
    poller.reset()
    assert looked(far, poller) >= far.now - 0.2 - 1e-6
    assert far.sent == far.awaited == 3


def test_an_error_of_an_unused_read_is_ignored() -> None:
    far, poller = due_soon()

    def failing() -> float:
        raise ServiceError("out of reach")

    poller.current(lambda: failing)
    poller.reset()
    assert looked(far, poller) <= far.now


def test_an_error_of_a_used_read_is_raised() -> None:
    far = Far(0.0)
    poller: Poller[float] = Poller(far.clock)

    def failing() -> float:
        raise ServiceError("out of reach")

    with pytest.raises(ServiceError):
        poller.current(lambda: failing)
    assert looked(far, poller) == far.now


# ---------------------------------------------------------------- a run that stops


class OneLease:
    def __init__(self, stop: str) -> None:
        self._lease = Lease("things", 1, "r1", stop=stop)

    def begin_read(self, table: str, replica: int = 0) -> Any:
        return lambda: self._lease


@pytest.mark.parametrize(("stop", "leaves"), [(MAX_ERRORS, False), (MAX_USD, False), ("interrupted", True)])
def test_dead_letters_and_the_cost_stop_a_run_at_the_end_of_a_page(stop: str, leaves: bool) -> None:
    table = TableSpec("things", (KeyAttribute("id", "S"),))
    stage = Stage("test", Connection("us-east-1"), StorageSpec("/nowhere"))
    script = Script("things", 1, "more", "v1_more.py", "", "")
    job = Job(f"r-{stop}", stage, table, script, "up", splits=1)
    signal = Signal(OneLease(stop), job)  # type: ignore[arg-type]
    with pytest.raises(Interrupted) if leaves else nullcontext():
        signal.wait_or_stop()
    assert signal.stopping()
