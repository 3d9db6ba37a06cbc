"""The progress of a run: share, speed and remaining time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.model.pages import Contention, Counts, Totals, Units
from dynamodt.model.runs import RunProgress
from dynamodt.runs.pace import ActiveRun, Pace, Share, Speed, elapsed, figures, fit_parts, remaining, share, share_of


def at(read: int, planned: int = 0, **more: object) -> RunProgress:
    return RunProgress(Totals(Counts(read, read), Units(read / 10, float(read))), planned, **more)  # type: ignore[arg-type]


def seen(pace: Pace, expected: int, *points: tuple[float, int]) -> Pace:
    for now, read in points:
        pace.observed(now, at(read), share_of(at(read), expected))
    return pace


# ---------------------------------------------------------------- how far


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((500, 1000, 1, 16), Share(500, 1000)),
        ((1001, 1000, 3, 16), Share(3, 16)),
        ((500, 0, 3, 16), Share(3, 16)),
        ((500, 0, 0, 0), Share(0, None)),
        ((1000, 1000, 13, 16), Share(1000, 1003)),
        ((500, 1000, 16, 16), Share(16, 16)),
    ],
)
def test_completed_splits_replace_a_wrong_item_count(arguments: tuple[int, ...], expected: Share) -> None:
    assert share(*arguments) == expected


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10_000), st.integers(1, 10_000))
def test_the_share_is_100_percent_only_when_all_splits_are_complete(
    read: int, expected: int, done: int, planned: int
) -> None:
    percent = share(read, expected, min(done, planned), planned).percent
    assert percent is not None and 0 <= percent <= 100
    assert (percent == 100) is (done >= planned)


# ---------------------------------------------------------------- how fast


def test_work_before_the_first_poll_does_not_count_as_speed() -> None:
    pace = seen(Pace(), 0, (0.0, 1_000_000))
    assert pace.speed() is None
    assert seen(pace, 0, (2.0, 1_000_300)).speed() == Speed(150.0, 150.0, pytest.approx(15.0))


def test_the_speed_is_that_of_the_last_seconds() -> None:
    slow = [(float(second), second) for second in range(60)]
    fast = [(60.0 + second, 60 + 100 * second) for second in range(1, 20)]
    speed = seen(Pace(), 0, *slow, *fast).speed()
    assert speed is not None and speed.items == pytest.approx(100.0)


def test_quick_polls_are_merged_without_losing_progress() -> None:
    pace = seen(Pace(), 1000, *((tick / 10, tick) for tick in range(1001)))
    speed = pace.speed()
    assert speed is not None and speed.items == pytest.approx(10.0)
    assert len(pace._samples) < 300


def test_a_pause_does_not_lower_the_speed() -> None:
    pace = seen(Pace(), 0, (0.0, 0), (10.0, 1000))
    for second in range(11, 60):
        pace.observed(float(second), at(1000, idle="paused"), Share(0, None))
    assert pace.speed() is None
    speed = seen(pace, 0, (61.0, 1200)).speed()
    assert speed is not None and speed.items == pytest.approx(100.0)


# ---------------------------------------------------------------- how long


def test_a_steady_run_has_a_forecast() -> None:
    points = [(float(second), 100 * second) for second in range(21)]
    assert seen(Pace(), 10_000, *points).seconds_left() == pytest.approx(80.0)
    assert seen(Pace(), 10_000, *points[:9]).seconds_left() is None  # too early
    assert seen(Pace(), 0, *points).seconds_left() is None  # of no known total


def test_a_run_with_irregular_speed_has_no_forecast() -> None:
    stands = [(float(second), 100) for second in range(15)]
    assert seen(Pace(), 10_000, *stands).seconds_left() is None
    assert seen(Pace(), 10_000, *stands, (15.0, 900), (16.0, 1800)).seconds_left() is None


@given(st.lists(st.integers(0, 500), min_size=1, max_size=200), st.integers(0, 50_000))
def test_a_forecast_is_never_negative(steps: list[int], expected: int) -> None:
    pace, read = Pace(), 0
    for second, step in enumerate(steps):
        read += step
        pace.observed(float(second), at(read, 4), share_of(at(read, 4), expected))
    left = pace.seconds_left()
    assert left is None or left >= 0


# ---------------------------------------------------------------- in words


def test_figures_of_zero_are_not_shown() -> None:
    assert figures(at(1234), Speed(100.0, 100.0, 0.0)) == ["1,234 items", "100 items/s", "100 WCU/s"]
    budgeted = at(1234, wcu=500.0, rcu=50.0)
    assert figures(budgeted, Speed(1.0, 0.0, 0.0))[2:] == ["0 of 500 WCU/s", "0 of 50 RCU/s"]
    slow = at(3, wcu=0.5, rcu=0.01)
    assert figures(slow, Speed(0.4, 0.31, 0.0))[1:] == ["0.4 items/s", "0.3 of 0.5 WCU/s", "0 of 0.01 RCU/s"]
    met = Totals(Counts(10, 8, dead=2), contention=Contention(1, 1200))
    assert figures(RunProgress(met, 0), None) == ["10 items", "2 dead letters", "1 conflict", "1,200 throttles"]


@given(st.lists(st.text("abc ", min_size=1, max_size=30), min_size=1), st.integers(30, 120))
def test_parts_that_do_not_fit_are_left_out_completely(parts: list[str], width: int) -> None:
    text = fit_parts(parts, width)
    assert len(text) <= width
    assert any(text == ", ".join(parts[:count]) for count in range(1, len(parts) + 1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "5 s left"),
        (47, "45 s left"),
        (89, "90 s left"),
        (90, "2 min left"),
        (5400, "1.5 h left"),
        (1e6, "277.8 h left"),
    ],
)
def test_a_forecast_is_rounded(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


def test_elapsed_time_as_text() -> None:
    assert [elapsed(seconds) for seconds in (-1, 65.9, 3600 * 12)] == ["0:00:00", "0:01:05", "12:00:00"]


def test_a_dry_run_has_no_write_rate() -> None:
    speed, run = Speed(items=10.0, wcu=10.0, rcu=5.0), at(100, wcu=60.0, rcu=20.0)
    assert figures(run, speed)[2:] == ["10 of 60 WCU/s", "5 of 20 RCU/s"]
    assert figures(run._replace(rehearsal=True), speed)[2:] == ["5 of 20 RCU/s"]


def test_a_run_without_a_complete_page_shows_its_budget() -> None:
    assert figures(at(0, wcu=60.0, rcu=20.0), Speed()) == [
        "no page is complete yet, at up to 60 WCU/s, 20 RCU/s",
        "0 items",
    ]
    assert figures(at(0, wcu=60.0, rcu=20.0, rehearsal=True), None) == [
        "no page is complete yet, at up to 20 RCU/s",
        "0 items",
    ]
    for begun in (at(0), at(0, wcu=60.0, idle="paused"), at(1, wcu=60.0)):
        assert figures(begun, None) == [f"{begun.totals.counts.read} item{'s' * (not begun.totals.counts.read)}"]


def test_a_continued_run_shows_its_budget_until_it_records_more() -> None:
    run = ActiveRun("users", 2, "split", "up", 3000, 0.0)
    for now in (0.0, 1.0):
        run.observed(now, at(720, wcu=60.0))
        assert run.figures == ["no page is complete yet, at up to 60 WCU/s", "720 items"]
    run.observed(2.0, at(960, wcu=60.0))
    assert run.figures[:2] == ["960 items", "120 items/s"]
    found = ActiveRun("users", 2, "split", "up", 3000, 0.0, found=True)
    found.observed(0.0, at(720, wcu=60.0))
    assert found.figures == ["720 items"]
