"""A recorded page keeps only its position until the next page of its split."""

from __future__ import annotations

import weakref
from typing import Any

from dynamodt.model.pages import Claim, Counts, Intent, Page, Totals, Units, WrittenPage
from dynamodt.model.tables import Cursor
from dynamodt.pipeline.record import PageRecorder
from tests.fakes import FakeState


class Images(list[Any]):
    """A list that a weak reference can point at."""


class Checkpoints:
    def __init__(self) -> None:
        self.made: list[tuple[int, int, Cursor | None, int]] = []

    def checkpoint(self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, *, intended: bool) -> None:
        self.made.append((claim.split, page, cursor, totals.counts.read))


def written(split: int, number: int, images: Images, **more: Any) -> WrittenPage:
    page = Page(Claim(split, 1), number, images, cursor={"id": {"S": str(number)}}, **more)
    return WrittenPage(page, Counts(read=len(images), unchanged=len(images)), Units(), [], [])


def test_the_images_of_a_page_are_released_before_its_row_is_written() -> None:
    rows, job = Checkpoints(), type("Job", (), {"max_errors": 0})()
    recorder = PageRecorder(job, rows, FakeState().leases, None, clock=lambda: 0.5)  # type: ignore[arg-type]
    held = []
    for split in range(16):
        images = Images([{"id": {"S": "a"}}])
        held.append(weakref.ref(images))
        recorder.add(written(split, 1, images))
        del images
    assert not any(reference() for reference in held)
    assert rows.made == []
    recorder.flush()
    assert rows.made == [(split, 1, {"id": {"S": "1"}}, 1) for split in range(16)]


def test_a_late_checkpoint_keeps_the_intent_of_the_next_page() -> None:
    """Page 1 had nothing to record and is recorded a second later, when page 2 is being written."""
    job, state = type("Job", (), {"max_errors": 0})(), FakeState()
    units = state.splits("run")
    claim = units.claim(0, 1)
    recorder = PageRecorder(job, units, state.leases, None, clock=lambda: 0.5)  # type: ignore[arg-type]
    recorder.add(WrittenPage(Page(claim, 1, []), Counts(read=1, unchanged=1), Units(), [], []))
    units.intend(claim, Intent(("part",), None, False, Counts(), 0.0, 2, Totals()))
    recorder.flush()
    found = units.read(0)
    assert found is not None and found.page == 1 and found.intent is not None and found.intent.page == 2
    recorder.add(WrittenPage(Page(claim, 2, []), Counts(read=1, changed=1), Units(), [], [], intended=True))
    found = units.read(0)
    assert found is not None and found.page == 2 and found.intent is None


def test_a_checkpoint_removes_the_intent_of_its_page() -> None:
    units = FakeState().splits("run")
    units.intend(units.claim(0, 1), Intent(("part",), None, False, Counts(), 0.0, 1, Totals()))
    units.checkpoint(units.claim(0, 2), 1, None, Totals())
    claim = units.claim(0, 3)
    assert (claim.page, claim.intent) == (1, None)
    assert [period.parts for period in claim.periods if period.parts] == [("part",)]
