"""docs/permissions.md names exactly the actions that the commands need, beside those of a run (`test_policy`)."""

from __future__ import annotations

import re
import time

import pytest

from dynamodt import api as operations
from dynamodt.checks.check import CheckOptions
from dynamodt.errors import Refused
from dynamodt.model.pages import Units
from dynamodt.model.runs import Lease
from dynamodt.runs.lock import new_lease
from dynamodt.runs.options import RunOptions
from dynamodt.state.state import State
from tests import ROOT
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.recorded_calls import STATEMENTS, Grant, Recording, bench, recording

__all__ = ["bench", "recording"]  # fixtures

pytestmark = pytest.mark.endpoints("ministack")

OF_STORAGE = {"s3:ListBucket": "names", "kms:Decrypt": "key", "kms:GenerateDataKey": "key"}
FAILING = (
    'def transform_up(item):\n    if "kind" in item:\n        raise ValueError("x")\n    return {**item, "n": 2}\n'
)


def documented() -> list[set[Grant]]:
    """The grants of each row of the first table of the page."""
    rows = (ROOT / "docs" / "permissions.md").read_text().split("| --- | --- | --- | --- |\n")[1].split("\n\n")[0]
    return [_grants_of_row(*row.strip("| ").split(" | ")[1:]) for row in rows.replace("| |", "| - |").splitlines()]


def _grants_of_row(tables: str, state: str, storage: str) -> set[Grant]:
    found = {(f"dynamodb:{action}", "tables") for action in NAMED.findall(tables)}
    found |= {(f"dynamodb:{action}", "state") for action in NAMED.findall(state)}
    return found | {(action, OF_STORAGE.get(action, "objects")) for action in NAMED.findall(storage)}


NAMED = re.compile(r"`([^`]+)`")


def test_the_page_of_permissions_names_exactly_the_calls_of_commands(
    bench: Bench, recording: Recording, make_table: MakeTable
) -> None:
    stage, folder = bench.stage, bench.folder
    with recording.paused():
        table, other = make_table(id="S"), make_table(id="S")
        bench.tables.put(table, {"id": "a"}, {"id": "dead", "kind": "dead"})
        bench.tables.put(other, {"id": "dead", "kind": "dead"})
        bench.script(table, FAILING)
        (report,) = bench.up(table, max_errors=1, allow_no_pitr=True)
        bench.script(table, FAILING, 2)
        bench.script(other, FAILING)
    reading, planning, controlling, recorded, _ = documented()

    operations.status(stage, folder, [])
    assert operations.younger(stage, table, operations.history(stage, folder, [])[table], bench.recorder) == ""
    operations.runs(stage, folder, [])
    run = report.versions[0].run
    assert operations.show(stage, folder, [], run).groups and list(operations.keys_to_accept(stage, folder, [], run))
    assert recording.taken() == reading

    assert not any(one.error for one in operations.forecast(stage, folder, [], None, RunOptions()))
    assert operations.check(stage, folder, [], CheckOptions(), bench.recorder)
    assert recording.taken() == planning

    leases = State(stage.connection, stage.state_table).leases
    with recording.paused():
        leases.take(new_lease(other, 1, "run", time.time())._replace(host="elsewhere"), over=Lease(other, 0))
    for command in ("pause", "resume", "throttle", "abort", "unlock"):
        operations.control_run(stage, other, command, Units(1, 1))
    with pytest.raises(Refused, match="no run is in progress"):
        operations.control_run(stage, other, "pause")
    assert recording.taken() == controlling

    options = RunOptions(reason="x")
    with recording.paused():
        assert bench.up(other, allow_no_pitr=True)[0].error is not None  # unfinished, and without a write
    for version in (1, 0):
        operations.stamp(stage, folder, other, version, bench.recorder, options)
    bench.script(table, FAILING.replace("2", "3"))
    operations.repair(stage, folder, table, None, bench.recorder, options)
    with pytest.raises(Refused):
        operations.import_history(stage, folder, other, bench.recorder, options)
    assert recording.taken() == recorded


def test_the_page_of_permissions_names_the_statements_of_a_run() -> None:
    last = (ROOT / "docs" / "permissions.md").read_text().split("| `up`,")[1].splitlines()[0]
    assert {*NAMED.findall(last), "DescribeAlarms", "WriteLogs"} >= STATEMENTS.keys()
