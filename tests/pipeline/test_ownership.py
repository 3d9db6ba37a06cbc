"""A worker that was considered dead writes nothing when it wakes, and stops only itself."""

from __future__ import annotations

import pytest

from dynamodt.errors import Fenced
from dynamodt.model.pages import Counts, Intent, Page, Totals
from dynamodt.pipeline import signals
from dynamodt.pipeline.ownership import SplitOwnership
from dynamodt.pipeline.signals import POLL_SECONDS, context_of, report_errors
from dynamodt.state.split_rows import SplitRows
from tests.pipeline.conftest import Bench


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def rows(bench: Bench) -> SplitRows:
    return bench.state.splits("run")


def intent(page: int) -> Intent:
    return Intent(("part",), None, False, Counts(), 0.0, page, Totals())


def test_the_owner_of_a_split_may_write_it(rows: SplitRows) -> None:
    ownership, claim = SplitOwnership(rows, Clock()), rows.claim(0, 1)
    ownership.begin(Page(claim, 1, []))
    ownership.check_owner()
    ownership.intend(claim, intent(1))
    ownership.check_owner()


def test_a_split_claimed_by_another_worker_of_the_same_attempt_may_not_be_written(rows: SplitRows) -> None:
    clock = Clock()
    ownership, claim = SplitOwnership(rows, clock), rows.claim(0, 1)
    ownership.begin(Page(claim, 1, []))
    ownership.intend(claim, intent(1))
    rows.claim(0, 1)
    ownership.check_owner()  # it has looked just now, by its intent
    clock.now += POLL_SECONDS
    with pytest.raises(Fenced, match="split 0"):
        ownership.check_owner()


def test_a_recovered_page_checks_its_ownership_first(rows: SplitRows) -> None:
    ownership, claim = SplitOwnership(rows, Clock()), rows.claim(0, 1)
    rows.claim(0, 1)
    ownership.begin(Page(claim, 1, [], recovers=True))
    with pytest.raises(Fenced):
        ownership.check_owner()


@pytest.mark.parametrize(("token", "stopped"), [(1, False), (2, True)])
def test_a_process_stops_only_when_it_has_lost_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, token: int, stopped: bool
) -> None:
    monkeypatch.setattr(signals, "_contexts", {})
    job = bench.job("def transform_up(item):\n    return item\n")
    bench.state.lease(job)
    for _ in range(1, token):
        seen = bench.state.leases.read(job.lease)
        bench.state.leases.take(seen._replace(token=seen.token + 1), over=seen)
    with pytest.raises(Fenced), report_errors(bench.state.leases, job):
        raise Fenced("another worker has unit 0 by now")
    assert context_of(job).stopped is stopped
