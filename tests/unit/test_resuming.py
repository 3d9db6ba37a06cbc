"""When a run that was left half done stands in the way of another."""

from __future__ import annotations

import pytest

from dynamodt.control.running.resuming import has_written
from dynamodt.model import Counts, RunRecord, Totals
from tests.fakes import FakeState

RECORD = RunRecord("users", "01RUN", 2, "b", "up", "", "failed", "2025-06-01T10:00:00Z", units=4, retries=1)


@pytest.mark.parametrize("run", ["01RUN", "01RUN/items", "01RUN/retry1", "01RUN/items/retry1"])
def test_whatever_pass_has_changed_an_item_counts(run: str) -> None:
    state = FakeState()
    units = state.units(run)
    assert not has_written(state, RECORD)  # type: ignore[arg-type]
    units.checkpoint(units.claim(0, 1), 1, None, Totals(Counts(5, 0, 4, dead=1)))
    assert not has_written(state, RECORD)  # type: ignore[arg-type]
    units.checkpoint(units.claim(0, 1), 2, None, Totals(Counts(5, 1, 4)))
    assert has_written(state, RECORD)  # type: ignore[arg-type]
