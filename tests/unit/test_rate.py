"""How long to wait, and how much to send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.core.rate import Backoff, smaller

backoffs = st.builds(
    Backoff,
    base=st.floats(0.001, 5, allow_nan=False),
    cap=st.floats(0.01, 60, allow_nan=False),
    attempts=st.integers(1, 100),
)
attempts = st.integers(1, 10_000)  # far more than 2.0 ** attempt could hold
dice = st.floats(0, 1, exclude_max=True)


@given(backoffs, attempts, dice)
def test_a_delay_lies_between_nothing_and_the_cap(backoff: Backoff, attempt: int, thrown: float) -> None:
    assert 0 <= backoff.delay(attempt, lambda: thrown) <= backoff.cap


@given(backoffs, attempts)
def test_the_longest_delay_doubles_until_the_cap(backoff: Backoff, attempt: int) -> None:
    now, then = (backoff.delay(number, lambda: 1.0) for number in (attempt, attempt + 1))
    assert then == min(backoff.cap, 2 * now)


@given(backoffs)
def test_the_first_delay_is_the_base(backoff: Backoff) -> None:
    assert backoff.delay(1, lambda: 1.0) == min(backoff.base, backoff.cap)


@given(backoffs, attempts, dice)
def test_jitter_takes_the_whole_range_evenly(backoff: Backoff, attempt: int, thrown: float) -> None:
    assert backoff.delay(attempt, lambda: thrown) == backoff.delay(attempt, lambda: 1.0) * thrown


@given(backoffs)
def test_there_are_exactly_so_many_tries(backoff: Backoff) -> None:
    tries = next(number for number in range(1, 1000) if backoff.exhausted(number))
    assert tries == backoff.attempts
    assert all(backoff.exhausted(tries + more) for more in range(5))


def test_the_default_gives_a_table_time_to_split_a_partition() -> None:
    backoff = Backoff()
    longest = [backoff.delay(attempt, lambda: 1.0) for attempt in range(1, backoff.attempts)]
    assert longest[:4] == [0.05, 0.1, 0.2, 0.4]
    assert 60 < sum(longest) < 300


@pytest.mark.parametrize(("throttled", "size"), [(0, 25), (1, 12), (2, 6), (3, 3), (4, 1), (5, 1), (500, 1)])
def test_batches_get_smaller(throttled: int, size: int) -> None:
    assert smaller(25, throttled) == size


@given(st.integers(1, 1000), st.integers(0, 100))
def test_a_batch_never_grows_and_never_vanishes(size: int, throttled: int) -> None:
    assert 1 <= smaller(size, throttled + 1) <= smaller(size, throttled) <= size
