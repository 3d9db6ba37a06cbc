"""Errors of one table that prevent the start of the command's other tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dynamodt.errors import Busy, DynamodtError, Refused, ScriptError, ServiceError, UsageError
from dynamodt.model.runs import Lease
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.runs import migration
from dynamodt.runs.migration import TableMigration, hold_back_if_any_refused

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
        (Refused("x"), True, False),  # it may end with the run that is in progress
        (Busy("x"), False, False),
        (ServiceError("x"), False, False),
    ],
)
def test_an_error_that_the_repeated_command_would_meet_again_holds_the_other_tables_back(
    monkeypatch: pytest.MonkeyPatch, error: DynamodtError | None, held: bool, stops: bool
) -> None:
    monkeypatch.setattr(migration, "is_held", lambda leases, table: held and table == "wrong")
    state: Any = SimpleNamespace(leases=Lease("", 0))
    planned: Any = SimpleNamespace(steps=["a version"])
    ready, nothing = TableMigration("ready", "up", planned=planned), TableMigration("nothing", "up")
    wrong = TableMigration("wrong", "up", error=error)
    assert hold_back_if_any_refused(state, [ready, nothing, wrong]) == stops
    assert (ready.held_back, nothing.held_back, wrong.held_back) == (stops, False, False)
