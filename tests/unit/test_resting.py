"""Pages that rest, beside those that go on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynamodt.model import Claim, Counts, Page, Units, WrittenPage
from dynamodt.stages.resting import MOST, Resting, Writing


class Lane:
    """A lane's time, and what happened in it: (when, unit, what)."""

    def __init__(self) -> None:
        self.now = self.paused_until = 0.0
        self.told: list[tuple[float, int, str]] = []
        self.resting = Resting(lambda: self.now, self._sleep, self._heed)

    def _heed(self) -> None:
        self.now = max(self.now, self.paused_until)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def write(self, unit: int, *rests: float, number: int = 1) -> list[int]:
        """A page that rests so often; returns the units of those that are through."""
        page = Page(Claim(unit, 1), number, [])
        return self._units(self.resting.write(page, self._writing(page, rests)))

    def finish(self) -> list[int]:
        return self._units(self.resting.finish())

    def _writing(self, page: Page, rests: tuple[float, ...]) -> Writing:
        self.told.append((self.now, page.claim.unit, f"begins page {page.number}"))
        for seconds in rests:
            yield seconds
            self.told.append((self.now, page.claim.unit, "goes on"))
        return WrittenPage(page, Counts(), Units(), [], [])

    def _units(self, pages: Iterator[WrittenPage]) -> list[int]:
        return [written.page.claim.unit for written in pages]


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_a_page_without_a_rest_is_through_at_once(lane: Lane) -> None:
    assert lane.write(1) == [1] and lane.finish() == []


def test_others_go_on_while_a_page_rests(lane: Lane) -> None:
    assert lane.write(1, 5.0) == []
    assert lane.write(2) == [2] and lane.write(3) == [3]
    assert lane.now == 0.0
    assert lane.finish() == [1] and lane.now == 5.0


def test_who_has_rested_goes_on_before_a_new_page_begins(lane: Lane) -> None:
    lane.write(1, 5.0, 1.0)
    lane.now = 5.5
    assert lane.write(2) == [2]
    assert lane.told == [(0.0, 1, "begins page 1"), (5.5, 1, "goes on"), (5.5, 2, "begins page 1")]
    assert lane.finish() == [1] and lane.now == 6.5


def test_a_unit_s_next_page_begins_after_the_one_before(lane: Lane) -> None:
    """Whose row announces one page, and is checkpointed page by page."""
    lane.write(1, 5.0, 5.0)
    assert lane.write(1, number=2) == [1, 1]
    assert lane.told == [
        (0.0, 1, "begins page 1"), (5.0, 1, "goes on"), (10.0, 1, "goes on"), (10.0, 1, "begins page 2")
    ]  # fmt: skip


def test_no_more_pages_rest_than_memory_is_meant_for(lane: Lane) -> None:
    for unit in range(MOST):
        assert lane.write(unit, 5.0 + unit) == []
    assert lane.write(MOST, 1.0) == [0] and lane.now == 5.0


def test_they_end_in_the_order_in_which_their_rests_do(lane: Lane) -> None:
    lane.write(1, 5.0)
    lane.write(2, 1.0, 1.0)
    lane.write(3, 3.0)
    assert lane.finish() == [2, 3, 1] and lane.now == 5.0


def test_no_page_goes_on_while_the_run_is_paused(lane: Lane) -> None:
    lane.write(1, 5.0)
    lane.paused_until = 60.0
    assert lane.finish() == [1]
    assert lane.told[-1] == (60.0, 1, "goes on")


def test_a_long_rest_is_not_in_the_way_of_a_word() -> None:
    """Whatever is said ends the lane while its pages rest, and they are not gone on with."""
    naps: list[float] = []

    def heed() -> None:
        if len(naps) == 3:
            raise Stopped

    resting = Resting(lambda: 0.0, naps.append, heed)
    page = Page(Claim(1, 1), 1, [])

    def writing() -> Writing:
        yield 20.0
        raise AssertionError("it goes on")

    assert list(resting.write(page, writing())) == []
    with pytest.raises(Stopped):
        list(resting.finish())
    assert max(naps) < 1.0


class Stopped(Exception):
    """A word that ends the lane."""
