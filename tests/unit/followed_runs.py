"""A state table in memory whose runs advance while they are followed, and a recorder of what is displayed."""

from __future__ import annotations

from collections.abc import Callable

from dynamodt.model.pages import Claim, Counts, Totals, Units
from dynamodt.model.runs import Lease, RunRecord
from dynamodt.runs.control import LOOK_SECONDS, follow_runs
from dynamodt.runs.pace import ProgressRecorder
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.row_codec import to_row
from dynamodt.state.state import State
from tests.fakes import FakeRows

RECORD = RunRecord("users", "01RUN", 2, "b", "up", "", "running", "2025-06-01T10:00:00Z", splits=4, planned=4)


class Stage:
    """A state table in memory, and runs that advance in it; `steps` happen during sleeps."""

    def __init__(self) -> None:
        self.rows = FakeRows()
        self.state = State.__new__(State)
        self.state.rows = self.rows  # type: ignore[assignment]
        self.state.leases = LeaseRows(self.rows)  # type: ignore[arg-type]
        self.steps: list[Callable[[], None]] = []
        self.now = 0.0

    def hold(self, record: RunRecord, beat: float = 1e12, table: str = "users") -> None:
        before = self.state.leases.read(table)
        lease = Lease(table, before.token + 1, record.run, "ada", "elsewhere", 17, beat=beat)
        assert self.state.leases.take(lease, over=before)

    def next_run(self, record: RunRecord) -> None:
        lease = self.state.leases.read(record.table)
        self.state.leases.set(record.table, lease.token, run=record.run)

    def release(self, table: str = "users") -> None:
        self.state.leases.release(table, self.state.leases.read(table).token)

    def write(self, record: RunRecord) -> None:
        self.rows.put((f"TABLE#{record.table}", f"RUN#{record.run}"), to_row(record))

    def split(self, run: str, number: int, read: int, done: bool = True) -> None:
        units = self.state.splits(run)
        claim: Claim = units.claim(number, 1)
        totals = Totals(Counts(read, read), Units(1.0, float(read)), int(done))
        units.checkpoint(claim, claim.page + 1, None, totals)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Each sleep between two polls performs one step."""
        self.now += seconds
        if self.now % LOOK_SECONDS == 0 and self.steps:
            self.steps.pop(0)()

    def follow(self, recorder: ProgressRecorder, *tables: str) -> list[tuple[str, int, str]]:
        found = follow_runs(self.state, tables, lambda table: 400, recorder, self.clock, self.sleep)
        return [(report.run, report.version, report.status) for report in found]


class Seen(ProgressRecorder):
    """Keeps the displayed output."""

    def __init__(self) -> None:
        super().__init__(watching=True)
        self.percents: list[tuple[str, int | None]] = []
        self.notes: list[str] = []

    def progressed(self, table, run_progress) -> None:  # type: ignore[no-untyped-def]
        super().progressed(table, run_progress)
        self.percents.append((self.running[table].run, self.running[table].share.percent))

    def notify(self, text: str) -> None:
        self.notes.append(text)
