"""The cost of following a run's progress, for any number of splits."""

from __future__ import annotations

from dynamodt.model.pages import Counts, Totals
from dynamodt.state.split_rows import ROWS, SplitRows, SplitTotals
from tests.fakes import FakeRows

UNITS = 10_000


class SplitTable:
    """A state table in memory, and the splits of a run in it."""

    def __init__(self) -> None:
        self.rows = FakeRows()
        self.units = SplitRows(self.rows, "run")  # type: ignore[arg-type]

    def move(self, split: int, read: int, done: bool = False) -> None:
        claim = self.units.claim(split, 1)
        self.units.checkpoint(claim, claim.page + 1, None, Totals(Counts(read, read), done=int(done)))


def test_a_poll_of_many_splits_reads_a_few_of_them() -> None:
    table = SplitTable()
    totals = SplitTotals(table.units, UNITS)
    totals.poll()
    assert table.rows.asked == UNITS, "an earlier attempt may have come far: the first look misses nothing"
    for _ in range(20):
        before = table.rows.asked
        totals.poll()
        assert table.rows.asked - before == ROWS


def test_after_one_round_of_polls_every_split_was_read() -> None:
    table = SplitTable()
    totals = SplitTotals(table.units, UNITS)
    totals.poll()
    for split in (0, 1, 4_999, 9_999):
        table.move(split, 10)
    seen = [totals.poll().counts.read for _ in range(UNITS // ROWS)]
    assert seen == sorted(seen) and seen[-1] == 40


def test_progress_of_a_split_is_counted_once() -> None:
    table = SplitTable()
    totals = SplitTotals(table.units, 3)
    for read in (10, 20, 30):
        table.move(1, read)
        assert totals.poll().counts.read == read
    table.move(1, 35, done=True)
    assert totals.poll() == totals.poll() == totals.whole() == table.units.totals(3)


def test_a_completed_split_is_not_read_again() -> None:
    table = SplitTable()
    totals = SplitTotals(table.units, 4)
    for split in range(3):
        table.move(split, 1, done=True)
    totals.poll()
    before = table.rows.asked
    assert totals.poll().done == 3 and table.rows.asked - before == 1


def test_the_final_totals_are_exact() -> None:
    table = SplitTable()
    totals = SplitTotals(table.units, UNITS)
    totals.poll()
    for split in range(0, UNITS, 7):
        table.move(split, 2, done=True)
    assert totals.whole() == table.units.totals(UNITS)
    before = table.rows.asked
    totals.poll()
    assert table.rows.asked - before <= ROWS


def test_a_phase_without_splits_has_totals_of_zero() -> None:
    assert SplitTotals(SplitTable().units, 0).poll() == Totals()
