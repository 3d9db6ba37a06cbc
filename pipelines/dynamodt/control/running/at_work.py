"""Which runs are at work on a stage's tables."""

from __future__ import annotations

from dynamodt.aws.state import State
from dynamodt.aws.table import list_tables
from dynamodt.control.running.lease import is_alive
from dynamodt.model import Lease, Stage


def runs_at_work(stage: Stage) -> list[Lease]:
    """The leases that a live run holds; none where the stage has no state table yet. Raises ServiceError."""
    tables = list_tables(stage.connection)
    if stage.state_table not in tables:
        return []
    leases = State(stage.connection, stage.state_table).leases
    answers = [leases.begin_read(name) for name in tables if name != stage.state_table]
    return [lease for lease in (answer() for answer in answers) if is_alive(lease)]
