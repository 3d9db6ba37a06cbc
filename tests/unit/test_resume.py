"""The cases in which an unfinished run prevents another one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dynamodt.model.pages import Counts, JournalCount, Totals
from dynamodt.model.runs import RunRecord
from dynamodt.runs.history import has_written
from tests.fakes import FakeState

WHEN = "2025-06-01T10:00:00Z"
RECORD = RunRecord("users", "01RUN", 2, "b", "up", "", "failed", WHEN, splits=4, retries=1, journal=True)


@pytest.mark.parametrize("run", ["01RUN", "01RUN/items", "01RUN/retry1", "01RUN/items/retry1"])
def test_a_changed_item_in_any_phase_counts_as_written(run: str) -> None:
    state = FakeState()
    units = state.splits(run)
    assert not has_written(state, RECORD)  # type: ignore[arg-type]
    units.checkpoint(units.claim(0, 1), 1, None, Totals(Counts(5, 0, 4, dead=1)))
    assert not has_written(state, RECORD)  # type: ignore[arg-type]
    units.checkpoint(units.claim(0, 1), 2, None, Totals(Counts(5, 1, 4)))
    assert has_written(state, RECORD)  # type: ignore[arg-type]


def test_a_dead_letter_beside_a_change_that_was_sent_counts_as_written() -> None:
    """The write may have no answer, and the item may have the change."""
    state = FakeState()
    units, sent = state.splits("01RUN"), JournalCount(1, 1, 0)
    units.checkpoint(units.claim(0, 1), 1, None, Totals(Counts(1, superseded=1), journal=sent))
    assert not has_written(state, RECORD)  # type: ignore[arg-type]
    units.checkpoint(units.claim(0, 1), 2, None, Totals(Counts(2, superseded=1, dead=1), journal=sent))
    assert has_written(state, RECORD)  # type: ignore[arg-type]


@pytest.mark.parametrize("whole_pages", [True, False])
def test_without_a_journal_a_page_that_was_begun_may_be_written(whole_pages: bool) -> None:
    """No intent shows it. Only an attempt that ended by itself leaves no page partly written."""
    state, record = FakeState(), replace(RECORD, journal=False, whole_pages=whole_pages)
    units = state.splits("01RUN")
    assert not has_written(state, record)  # type: ignore[arg-type]
    claim = units.claim(0, 1)
    assert has_written(state, record) != whole_pages  # type: ignore[arg-type]
    units.checkpoint(claim, 1, None, Totals(Counts(5, 0, 5), done=1))
    assert not has_written(state, record)  # type: ignore[arg-type]
