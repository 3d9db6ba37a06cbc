"""How closely a run keeps to its budget: write units per second as the endpoint reports them.

    .venv/bin/python benchmarks/governor.py [BUDGET ...]

For each budget (50, 500 and 2,000 WCU/s) a table large enough for twenty seconds is migrated on ministack. Printed are
the units of the first ten seconds against what the budget allows for them, the busiest ten seconds of the run, and
what the run reached on the average after the first ten.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "pipelines")]

from benchmarks.endpoints import Endpoint, fill, ministack
from dynamodt import api as operations
from dynamodt.dynamodb.batch import BatchAnswer, Coming, Writes
from dynamodt.model.tables import Stage, StorageSpec
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State

SECONDS = 20
WINDOW = 10.0
SCRIPT = "sequence = 1\n\n\ndef transform_up(item):\n    return {**item, 'changed': 1}\n"

Spent = list[tuple[float, float]]  # seconds since the first write, units


class Silent:
    """An Observer that shows nothing."""

    def run_started(self, *args: object) -> None: ...
    def progressed(self, *args: object) -> None: ...
    def run_ended(self, *args: object) -> None: ...
    def notify(self, text: str) -> None: ...


def metered() -> Spent:
    """Records the units of every batch from now on, as the endpoint reports them."""
    spent: Spent = []
    send = Writes.batch

    def batch(self: Writes, statements: Any) -> Coming:
        coming = send(self, statements)

        def answered() -> BatchAnswer:
            answer = coming()
            spent.append((time.monotonic(), answer.wcu or 0.0))
            return answer

        return answered

    Writes.batch = batch  # type: ignore[method-assign]
    return spent


def migrate(endpoint: Endpoint, table: str, budget: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "transforms" / table).mkdir(parents=True)
        (folder / "transforms" / table / "v1_change.py").write_text(SCRIPT)
        stage = Stage("local", endpoint.connection, StorageSpec(str(folder / "storage")), "state", local=True)
        State(stage.connection, stage.state_table).ensure()
        (report,) = operations.up(stage, folder, [table], None, RunOptions(max_wcu=budget), Silent())
        if report.error is not None:
            raise report.error


def within(spent: Spent, start: float, seconds: float = WINDOW) -> float:
    return sum(units for at, units in spent if start <= at < start + seconds)


def figures(budget: float, spent: Spent) -> dict[str, float]:
    begin, end = spent[0][0], spent[-1][0]
    full = [within(spent, at) for at, _ in spent if at + WINDOW <= end]
    later = end - begin - WINDOW
    return {
        "budget": budget,
        "first_10_s": within(spent, begin) / (budget * WINDOW),
        "busiest_10_s": max(full, default=0.0) / (budget * WINDOW),
        "average_after_10_s": within(spent, begin + WINDOW, later) / (budget * later) if later > 0 else 0.0,
        "seconds": end - begin,
    }


def main() -> None:
    budgets = [float(word) for word in sys.argv[1:]] or [50.0, 500.0, 2000.0]
    spent = metered()
    with tempfile.TemporaryDirectory() as name, ministack(Path(name)) as endpoint:
        for budget in budgets:
            table = f"budget{budget:g}"
            fill(endpoint, table, int(budget * SECONDS))
            spent.clear()
            migrate(endpoint, table, budget)
            print(json.dumps({key: round(value, 3) for key, value in figures(budget, spent).items()}), flush=True)


if __name__ == "__main__":
    main()
