"""What is kept of a page until its unit's next one: nothing but where it stands."""

from __future__ import annotations

import weakref
from typing import Any

from dynamodt.model import Claim, Counts, Cursor, Page, Totals, Units, WrittenPage
from dynamodt.stages.progress import Recorder
from tests.fakes import FakeState


class Images(list[Any]):
    """A list that a weak reference can point at."""


class Checkpoints:
    def __init__(self) -> None:
        self.made: list[tuple[int, int, Cursor | None, int]] = []

    def checkpoint(self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals) -> None:
        self.made.append((claim.unit, page, cursor, totals.counts.read))


def written(unit: int, number: int, images: Images, **more: Any) -> WrittenPage:
    page = Page(Claim(unit, 1), number, images, cursor={"id": {"S": str(number)}}, **more)
    return WrittenPage(page, Counts(read=len(images), unchanged=len(images)), Units(), [], [])


def test_the_images_of_a_page_are_let_go_before_its_row_is_written() -> None:
    rows, job = Checkpoints(), type("Job", (), {"max_errors": 0})()
    recorder = Recorder(job, rows, FakeState().leases, None, clock=lambda: 0.5)  # type: ignore[arg-type]
    held = []
    for unit in range(16):
        images = Images([{"id": {"S": "a"}}])
        held.append(weakref.ref(images))
        recorder.add(written(unit, 1, images))
        del images
    assert not any(reference() for reference in held)
    assert rows.made == []
    recorder.flush()
    assert rows.made == [(unit, 1, {"id": {"S": "1"}}, 1) for unit in range(16)]
