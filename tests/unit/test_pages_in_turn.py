"""The pages of a split group: the number of splits that it has begun and of pages that it holds, and their order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dynamodt.model.pages import Claim, Counts, Intent, Page
from dynamodt.model.tables import Cursor
from dynamodt.pipeline.ownership import pages_in_turn


class SplitGroup:
    """Splits with this number of pages each, and their progress."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths
        self.claimed: list[int] = []
        self.flying = self.most = 0

    def claims(self) -> Iterator[Claim]:
        for split in range(len(self.lengths)):
            self.claimed.append(split)
            yield Claim(split, 1)

    def fetch(self, claim: Claim, number: int, cursor: Cursor | None) -> PendingPage:
        assert cursor == (number - 1 or None)
        self.flying += 1
        self.most = max(self.most, self.flying)
        return PendingPage(self, Page(claim, number, [], cursor=number, last=number == self.lengths[claim.split]))

    def pages(self, ahead: int, units: int) -> Iterator[str]:
        for page in pages_in_turn(self.claims(), self.fetch, ahead, units):
            yield f"{page.claim.split}.{page.number}"


class PendingPage:
    def __init__(self, split_group: SplitGroup, page: Page) -> None:
        self._lane = split_group
        self._page = page

    def result(self) -> Page:
        self._lane.flying -= 1
        return self._page


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_splits_are_taken_in_turn_with_any_number_of_pages_in_flight(ahead: int) -> None:
    """The writes are spread over as many partitions as there are splits in turn, since one partition alone would be
    throttled."""
    pages = list(SplitGroup(3, 3, 3, 3).pages(ahead, 4))
    assert pages == ["0.1", "1.1", "2.1", "3.1", "0.2", "1.2", "2.2", "3.2", "0.3", "1.3", "2.3", "3.3"]


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_the_number_of_pages_in_flight_is_bounded(ahead: int) -> None:
    split_group = SplitGroup(*[2] * 9)
    assert len(list(split_group.pages(ahead, 8))) == 18
    assert split_group.most == ahead


def test_a_split_is_claimed_in_its_turn() -> None:
    split_group = SplitGroup(2, 1, 2, 1)
    pages = split_group.pages(1, 2)
    assert [next(pages), split_group.claimed] == ["0.1", [0, 1]]
    assert [next(pages), split_group.claimed] == ["1.1", [0, 1, 2]]  # which has ended, and made way
    assert [*pages] == ["2.1", "0.2", "3.1", "2.2"]


def test_a_split_begins_with_the_page_that_its_previous_owner_left() -> None:
    intent = Intent(("part",), 7, False, Counts(), 0.5, 7)
    claims = iter([Claim(0, 2, page=4, cursor=4, intent=intent)])
    split_group = SplitGroup(8)
    first, second = pages_in_turn(claims, split_group.fetch, 1, 1)
    assert (first.number, first.recovers, second.number, second.recovers) == (7, True, 8, False)
