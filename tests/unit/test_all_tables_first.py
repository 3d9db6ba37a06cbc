"""Which errors of one table keep the others of the command from starting."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.errors import Busy, DynamodtError, Refused, ScriptError, ServiceError, UsageError
from dynamodt.model.reports import RunReport, TableReport
from dynamodt.model.runs import Lease
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.runs import migration
from dynamodt.runs.context import Project
from dynamodt.runs.migration import TableMigration, hold_back
from dynamodt.runs.preflight import with_untried_notices

pytestmark = pytest.mark.unit

STAGE = Stage("local", Connection("us-east-1"), StorageSpec("here"), local=True)


@pytest.mark.parametrize(
    ("error", "held", "stops"),
    [
        (None, False, False),
        (ScriptError("x"), False, True),
        (ScriptError("x"), True, True),  # whatever runs, the file is wrong
        (UsageError("x"), False, True),
        (Refused("x"), False, True),
        (Refused("x"), True, False),  # it may end with the run that is at work
        (Busy("x"), False, False),
        (ServiceError("x"), False, False),
    ],
)
def test_what_the_same_command_would_meet_again_holds_the_others_back(
    monkeypatch: pytest.MonkeyPatch, error: DynamodtError | None, held: bool, stops: bool
) -> None:
    monkeypatch.setattr(migration, "is_held", lambda leases, table: held and table == "wrong")
    state: Any = SimpleNamespace(leases=Lease("", 0))
    planned: Any = SimpleNamespace(steps=["a version"])
    ready, nothing = TableMigration("ready", "up", planned=planned), TableMigration("nothing", "up")
    wrong = TableMigration("wrong", "up", error=error)
    assert hold_back(state, [ready, nothing, wrong]) == stops
    assert (ready.held_back, nothing.held_back, wrong.held_back) == (stops, False, False)


def test_a_dry_run_names_what_a_table_before_would_have_inserted(tmp_path: Path) -> None:
    for table, number, target in (
        ("aaa", 1, ""),
        ("aaa", 2, "ccc"),
        ("bbb", 1, "ccc"),
        ("ccc", 1, ""),
        ("ddd", 1, "aaa"),
    ):
        path = tmp_path / "transforms" / table / f"v{number}_x.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f"sequence = {number}\n" + (f"TARGET_TABLE = {target!r}\n" if target else "")
        path.write_text(head + "def transform_up(item): return item\n")
    pending = {"aaa": [2], "bbb": [1], "ccc": [1], "ddd": [1], "eee": []}
    reports = [
        TableReport(name, "up", tuple(RunReport(name, "up", one, "x", "r", "dry-run") for one in each))
        for name, each in pending.items()
    ]
    told: list[str] = []
    project = Project(STAGE, tmp_path, observer=SimpleNamespace(notify=told.append))  # type: ignore[arg-type]
    found = with_untried_notices(project, reports)
    said = {report.table: report.notices for report in found}
    assert [table for table, notices in said.items() if notices] == ["bbb", "ccc"]
    assert "version 2 of table aaa inserts into table ccc" in said["bbb"][0] and "try table ccc again" in said["ccc"][0]
    assert told == [f"warning: {sentence}" for sentence in (*said["bbb"], *said["ccc"])]
    none = with_untried_notices(project, reports[2:])
    assert [report.notices for report in none] == [(), (), ()]
