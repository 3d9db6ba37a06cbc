"""Pages that wait, beside pages that continue."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from dynamodt.model.pages import Claim, Counts, Page, Units, WrittenPage
from dynamodt.pipeline.request_pipeline import MOST, PageScheduler, Wait


class SplitGroup:
    """A split group's clock and its events: (when, split, what)."""

    def __init__(self) -> None:
        self.now = self.paused_until = 0.0
        self.told: list[tuple[float, int, str]] = []
        self.scheduler = PageScheduler(lambda: self.now, self._sleep, self._heed)

    def _heed(self) -> None:
        self.now = max(self.now, self.paused_until)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def write(self, split: int, *idle: float, number: int = 1) -> list[int]:
        """A page that waits this number of times; returns the splits whose pages are complete."""
        page = Page(Claim(split, 1), number, [])
        return self._units(self.scheduler.write(split, partial(_Task, self, page, idle)))

    def finish(self) -> list[int]:
        return self._units(self.scheduler.finish())

    def _units(self, pages: Iterator[WrittenPage]) -> list[int]:
        return [written.page.claim.split for written in pages]


class _Task:
    """A page that waits this number of times."""

    def __init__(self, group: SplitGroup, page: Page, waits: tuple[float, ...]) -> None:
        self._group, self._page, self._waits = group, page, waits
        self._step = 0

    def step(self) -> Wait | WrittenPage:
        what = "goes on" if self._step else f"begins page {self._page.number}"
        self._group.told.append((self._group.now, self._page.claim.split, what))
        self._step += 1
        if self._step <= len(self._waits):
            return Wait(self._waits[self._step - 1])
        return WrittenPage(self._page, Counts(), Units(), [], [])


@pytest.fixture
def split_group() -> SplitGroup:
    return SplitGroup()


def test_a_page_that_need_not_wait_is_completed_at_once(split_group: SplitGroup) -> None:
    assert split_group.write(1) == [1] and split_group.finish() == []


def test_other_pages_continue_while_a_page_waits(split_group: SplitGroup) -> None:
    assert split_group.write(1, 5.0) == []
    assert split_group.write(2) == [2] and split_group.write(3) == [3]
    assert split_group.now == 0.0
    assert split_group.finish() == [1] and split_group.now == 5.0


def test_a_page_that_has_waited_continues_before_a_new_page_begins(split_group: SplitGroup) -> None:
    split_group.write(1, 5.0, 1.0)
    split_group.now = 5.5
    assert split_group.write(2) == [2]
    assert split_group.told == [(0.0, 1, "begins page 1"), (5.5, 1, "goes on"), (5.5, 2, "begins page 1")]
    assert split_group.finish() == [1] and split_group.now == 6.5


def test_the_next_page_of_a_split_begins_after_the_one_before(split_group: SplitGroup) -> None:
    """A split's row has the intent of one page, and is checkpointed page by page."""
    split_group.write(1, 5.0, 5.0)
    assert split_group.write(1, number=2) == [1, 1]
    assert split_group.told == [
        (0.0, 1, "begins page 1"), (5.0, 1, "goes on"), (10.0, 1, "goes on"), (10.0, 1, "begins page 2")
    ]  # fmt: skip


def test_the_number_of_waiting_pages_is_bounded(split_group: SplitGroup) -> None:
    for split in range(MOST):
        assert split_group.write(split, 5.0 + split) == []
    assert split_group.write(MOST, 1.0) == [0] and split_group.now == 5.0


def test_waiting_pages_continue_in_the_order_of_their_wait_times(split_group: SplitGroup) -> None:
    split_group.write(1, 5.0)
    split_group.write(2, 1.0, 1.0)
    split_group.write(3, 3.0)
    assert split_group.finish() == [2, 3, 1] and split_group.now == 5.0


def test_no_page_continues_while_the_run_is_paused(split_group: SplitGroup) -> None:
    split_group.write(1, 5.0)
    split_group.paused_until = 60.0
    assert split_group.finish() == [1]
    assert split_group.told[-1] == (60.0, 1, "goes on")


def test_a_control_command_takes_effect_during_a_long_wait() -> None:
    """A control command ends the split group while its pages wait, and they are not continued."""
    naps: list[float] = []

    def wait_or_stop() -> None:
        if len(naps) == 3:
            raise Stopped

    scheduler = PageScheduler(lambda: 0.0, naps.append, wait_or_stop)
    split_group = SplitGroup()
    assert list(scheduler.write(1, partial(_Task, split_group, Page(Claim(1, 1), 1, []), (20.0,)))) == []
    with pytest.raises(Stopped):
        list(scheduler.finish())
    assert max(naps) < 1.0 and len(split_group.told) == 1


class Stopped(Exception):
    """A stop that ends the split group."""
