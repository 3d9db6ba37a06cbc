"""The length of waits, and the size of requests."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.rate import Backoff, Ramp, TokenBucket, smaller_batch

backoffs = st.builds(
    Backoff,
    base=st.floats(0.001, 5, allow_nan=False),
    cap=st.floats(0.01, 60, allow_nan=False),
    attempts=st.integers(1, 100),
)
attempts = st.integers(1, 10_000)  # far more than 2.0 ** attempt could hold
dice = st.floats(0, 1, exclude_max=True)


@given(backoffs, attempts, dice)
def test_a_delay_is_between_0_and_the_cap(backoff: Backoff, attempt: int, thrown: float) -> None:
    assert 0 <= backoff.delay(attempt, lambda: thrown) <= backoff.cap


@given(backoffs, attempts)
def test_the_longest_delay_doubles_up_to_the_cap(backoff: Backoff, attempt: int) -> None:
    now, then = (backoff.delay(number, lambda: 1.0) for number in (attempt, attempt + 1))
    assert then == min(backoff.cap, 2 * now)


@given(backoffs)
def test_the_first_delay_is_the_base(backoff: Backoff) -> None:
    assert backoff.delay(1, lambda: 1.0) == min(backoff.base, backoff.cap)


@given(backoffs, attempts, dice)
def test_jitter_takes_the_whole_range_evenly(backoff: Backoff, attempt: int, thrown: float) -> None:
    assert backoff.delay(attempt, lambda: thrown) == backoff.delay(attempt, lambda: 1.0) * thrown


@given(backoffs)
def test_the_number_of_tries_is_exact(backoff: Backoff) -> None:
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
    assert smaller_batch(25, throttled) == size


@given(st.integers(1, 1000), st.integers(0, 100))
def test_a_smaller_batch_has_at_least_one_item(size: int, throttled: int) -> None:
    assert 1 <= smaller_batch(size, throttled + 1) <= smaller_batch(size, throttled) <= size


# ---------------------------------------------------------------- the bucket


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


rates = st.floats(0.5, 5_000)
costs = st.lists(st.tuples(st.floats(0.1, 500), st.floats(0, 3)), min_size=1, max_size=40)  # cost, pause before it


@given(rates, costs)
def test_at_no_time_more_units_pass_than_the_rate_allows(rate: float, costs: list[tuple[float, float]]) -> None:
    clock = Clock()
    bucket, passed = TokenBucket(rate, clock), 0.0
    for cost, pause in costs:
        clock.now += pause
        while wait := bucket.take(cost):
            clock.now += wait
        passed += cost
        assert passed <= rate * (clock.now - 100.0) * (1 + 1e-9) + 1e-6


@given(rates, st.floats(0, 500), st.floats(0.1, 500))
def test_units_charged_beyond_a_cost_delay_the_next(rate: float, more: float, cost: float) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    bucket.charge(more)
    assert bucket.take(cost) == pytest.approx((cost + more) / rate)


def test_an_idle_bucket_saves_no_more_than_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, clock, burst=0.25)
    clock.now += 60
    assert bucket.take(25.0) == 0.0
    assert bucket.take(1.0) == pytest.approx(0.01)


def test_nothing_passes_at_rate_0_and_everything_at_an_infinite_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(0.0, clock)
    clock.now += 60
    assert bucket.take(1.0) == inf
    bucket.change(inf)
    assert bucket.take(1e9) == 0.0
    bucket.change(10.0)
    assert bucket.take(5.0) == pytest.approx(0.5)  # earlier requests give neither credit nor debt


def test_a_lower_rate_reduces_saved_units_and_keeps_owed_ones() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, clock)
    clock.now += 3.0
    assert bucket.take(400.0) == pytest.approx(1.0)  # 300 are saved for it
    bucket.change(25.0)
    assert bucket.take(75.0) == 0.0
    assert bucket.take(25.0) == pytest.approx(1.0)
    bucket.charge(100.0)
    bucket.change(5.0)
    assert bucket.take(5.0) == pytest.approx(21.0)


# ---------------------------------------------------------------- the ramp

poller = st.lists(st.tuples(st.floats(0, 1.5), st.booleans(), st.floats(0.1, 3)), max_size=60)


@given(st.floats(1, 10_000), st.floats(1, 10_000), poller)
def test_a_ramp_stays_between_one_unit_and_its_limit(
    limit: float, start: float, poller: list[tuple[float, bool, float]]
) -> None:
    clock = Clock()
    ramp = Ramp(limit, start, clock)
    for share, throttled, seconds in poller:
        clock.now += seconds
        assert min(1.0, limit) <= ramp.poll(share * ramp.rate, throttled) <= limit


def test_a_ramp_doubles_in_five_seconds_while_it_is_used() -> None:
    clock = Clock()
    ramp = Ramp(inf, 100.0, clock)
    for _ in range(5):
        clock.now += 1.0
        ramp.poll(ramp.rate, False)
    assert ramp.rate == pytest.approx(200.0)


def test_a_ramp_that_is_not_used_does_not_grow() -> None:
    clock = Clock()
    ramp = Ramp(inf, 100.0, clock)
    clock.now += 60
    assert ramp.poll(40.0, False) == 100.0


def test_a_throttle_lowers_the_rate_below_the_usage_and_keeps_it_for_a_while() -> None:
    clock = Clock()
    ramp = Ramp(inf, 100.0, clock)
    clock.now += 1
    assert ramp.poll(80.0, True) == pytest.approx(56.0)
    clock.now += 1
    assert ramp.poll(56.0, True) == pytest.approx(56.0)  # the same event
    clock.now += 1
    assert ramp.poll(56.0, False) == pytest.approx(56.0)
    clock.now += 4
    assert ramp.poll(56.0, False) > 56.0


def test_one_throttle_does_not_stop_a_run_with_little_reported_usage() -> None:
    clock = Clock()
    ramp = Ramp(100.0, 100.0, clock)
    clock.now += 1
    assert ramp.poll(3.0, True) == pytest.approx(35.0)
    clock.now += 5  # it is too high still
    assert ramp.poll(3.0, True) == pytest.approx(12.25)


def test_an_infinite_rate_is_lowered_below_the_usage() -> None:
    clock = Clock()
    ramp = Ramp(inf, inf, clock)
    clock.now += 1
    assert ramp.poll(80.0, True) == pytest.approx(56.0)


def test_a_lower_limit_applies_at_once() -> None:
    ramp = Ramp(100.0, 100.0, Clock())
    ramp.limit(20.0)
    assert ramp.rate == 20.0


def test_a_slow_rate_with_uneven_usage_grows_too() -> None:
    clock = Clock()
    ramp = Ramp(50.0, 0.5, clock)
    for second in range(40):
        clock.now += 1.0
        ramp.poll(2.0 if second % 4 == 3 else 0.0, False)  # all that it may use, once in four seconds
    assert ramp.rate > 2.0


def test_a_ramp_at_most_doubles_after_any_idle_time() -> None:
    clock = Clock()
    ramp = Ramp(inf, 100.0, clock)
    for used in (0.0,) * 8 + (900.0,):  # of what is saved up, or when most of the workers have just arrived
        clock.now += 1.0
        ramp.poll(used, False)
    assert ramp.rate == 200.0


def test_a_ramp_with_a_higher_limit_starts_where_a_new_one_would() -> None:
    ramp = Ramp(2.0, 0.5, Clock())
    ramp.limit(1000.0)
    assert ramp.rate == 250.0
    ramp.limit(inf)
    assert ramp.rate == 250.0


@pytest.mark.parametrize("limit", [0.01, 0.5, 1.0, 2.5, 4.0, 1000.0])
@pytest.mark.parametrize("used", [0.0, 0.1, 5.0, 2000.0])
def test_a_throttle_never_raises_a_rate(limit: float, used: float) -> None:
    now = 0.0
    ramp = Ramp(limit, Ramp.first(limit), lambda: now)
    for _ in range(5):
        before = ramp.rate
        now += 10.0
        assert 0.0 < ramp.poll(used, throttled=True) <= before


@pytest.mark.parametrize(
    ("limit", "first"), [(0.5, 0.5), (60.0, 60.0), (100.0, 100.0), (200.0, 100.0), (1000.0, 250.0)]
)
def test_a_small_limit_is_used_from_the_start(limit: float, first: float) -> None:
    assert Ramp.first(limit) == first
    ramp = Ramp(limit / 4, limit / 8, lambda: 0.0)
    ramp.limit(limit)
    assert ramp.rate == max(first, limit / 8)


def test_a_ramp_is_slowed_once_throttles_have_cut_it_to_a_tenth() -> None:
    now = 0.0
    ramp = Ramp(800.0, 200.0, lambda: now)
    assert not ramp.slowed
    rates = []
    while not ramp.slowed:
        now += 5.0
        rates.append(ramp.poll(0.0, throttled=True))
    assert rates[-1] < 0.1 * rates[0] <= rates[-2]
    ramp.limit(10.0)  # a limit below the rate
    assert not ramp.slowed


def test_a_ramp_that_a_lower_limit_has_cut_is_not_slowed_by_the_end_of_the_limit() -> None:
    """Such as that of a table that changes to on-demand capacity."""
    ramp = Ramp(800.0, 800.0, lambda: 0.0)
    ramp.poll(800.0, throttled=False)
    ramp.limit(10.0)
    ramp.limit(inf)
    assert not ramp.slowed
