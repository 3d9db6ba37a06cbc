"""Runs of other processes, followed through the state table.

A look reads a lease, a record, and the rows of the splits that are not done yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from dynamodt.model.reports import RunReport
from dynamodt.model.runs import Lease, RunProgress, RunRecord
from dynamodt.runs.history import report_of
from dynamodt.runs.liveness import Watch, holder
from dynamodt.runs.options import Watcher
from dynamodt.runs.totals import RunTotals
from dynamodt.state.runs import AT_WORK

if TYPE_CHECKING:
    from dynamodt.state.state import State

LOOK_SECONDS = 1.0
TICK_SECONDS = 0.25
LINGER_SECONDS = 3.0  # between two tables of one `up` no lease is held
_ROWS_PER_SECOND = 500  # a run with more splits is looked at less often
_GONE = "its process is gone, or sent no heartbeat for too long"

Clock = Callable[[], float]
Sleep = Callable[[float], None]
CountItems = Callable[[str], int]  # DynamoDB's own count of a table


class TableWatch:
    """Polls one table, and reports the runs that begin, progress and end to its watcher.

    `before` are runs to ignore, with their attempts; a later attempt is reported. Its default is the runs that have
    ended when the first live run is seen.
    """

    def __init__(
        self,
        state: State,
        table: str,
        count_items: CountItems,
        watcher: Watcher,
        clock: Clock = time.time,
        before: Mapping[str, int] | None = None,
        lives: Watch | None = None,
    ) -> None:
        self._state = state
        self._lives = lives or Watch()
        self._table = table
        self._count_items = count_items
        self._watcher = watcher
        self._clock = clock
        self._held = ""  # the run that held the lease at the last look
        self._gone = ""  # a run whose process was gone at the first look
        self._shown: RunRecord | None = None
        self._before = before
        self._totals = RunTotals(state)
        self.ended: dict[str, RunReport] = {}

    @property
    def at_work(self) -> bool:
        """Whether a run was active at the last look."""
        return bool(self._held)

    @property
    def rows(self) -> int:
        """Split rows that the last look has read."""
        return self._totals.rows if self._shown else 0

    def look(self) -> bool:
        """Look once; returns whether a run is active."""
        lease, life = self._lives.look(self._state.leases, self._table)
        alive = not life.is_over and not lease.owner
        held = lease.run if alive else ""
        if not held and self._before is None:
            self._note_gone(lease.run, holder(lease))
            return False
        if held != self._held:
            self.settle(held)
        if held:
            self._show(lease)
        return alive

    def _note_gone(self, run: str, process: str) -> None:
        """Report once that the process of a run is gone."""
        if run != self._gone:
            self._gone = run
            self._watcher.notify(f"{self._table}: left by {process}, which is gone; the same command continues it")

    def settle(self, held: str = "") -> None:
        """Report the runs that have ended since the lease's holder changed, also those that no look has seen."""
        self._held = held
        records = [record for record in self._state.runs(self._table) if record.run != held]
        if self._before is None:
            self._before = {record.run: record.attempts for record in records}
        for record in records:
            shown = self._shown is not None and record.run == self._shown.run
            if shown or (record.attempts > self._before.get(record.run, 0) and record.run not in self.ended):
                self._end(record)

    def _show(self, lease: Lease) -> None:
        record = self._state.run(self._table, lease.run)
        if record is None or record.status not in AT_WORK:
            if record is not None and self._shown is not None and self._shown.run == record.run:
                self._end(record)
            return
        if self._shown is None or self._shown.run != record.run:
            self._begin(record, lease)
        totals = self._totals.look(record)
        self._watcher.progressed(self._table, RunProgress.under(lease, totals, record.planned or record.splits))

    def _begin(self, record: RunRecord, lease: Lease) -> None:
        self.ended.pop(record.run, None)  # it failed, and continues now
        self._shown, self._totals = record, RunTotals(self._state)
        since = record.started if record.attempts == 1 else lease.since
        elapsed = max(0.0, self._clock() - datetime.fromisoformat(since).timestamp())
        items = self._count_items(self._table)
        self._watcher.run_found(record, items, elapsed)

    def _end(self, record: RunRecord) -> None:
        if record.status in AT_WORK:  # its end is not recorded
            totals = self._totals if self._shown is not None else RunTotals(self._state)
            reached = totals.look(record)
            report = replace(
                report_of(record), status="gone", counts=reached.counts, consumed=reached.units, error=_GONE
            )
        else:
            report = report_of(record)
        self._shown = None
        self.ended[record.run] = report
        self._watcher.run_ended(report)


def follow(
    state: State,
    tables: Sequence[str],
    count_items: CountItems,
    watcher: Watcher,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
) -> list[RunReport]:
    """Follow the tables' runs until none is active; returns the runs that have ended since, by table. A run without a
    live process and without a recorded end is "gone"."""
    watches = [TableWatch(state, table, count_items, watcher, lives=Watch(clock)) for table in tables]
    busy_at = clock() if _look(watches) else None
    while busy_at is not None:
        _wait(watches, partial(_tick, watcher, sleep), clock)
        if _look(watches):
            busy_at = clock()
        elif len(watches) == 1 or clock() - busy_at >= LINGER_SECONDS:
            busy_at = None
    return [report for watch in watches for report in watch.ended.values()]


def _look(watches: Sequence[TableWatch]) -> bool:
    at_work = [watch.look() for watch in watches]  # a list: every table is looked at
    return any(at_work)


def _wait(watches: Sequence[TableWatch], tick: Callable[[], None], clock: Clock) -> None:
    until = clock() + max(LOOK_SECONDS, sum(watch.rows for watch in watches) / _ROWS_PER_SECOND)
    while clock() < until:
        tick()


def _tick(watcher: Watcher, sleep: Sleep) -> None:
    sleep(TICK_SECONDS)
    watcher.tick()
