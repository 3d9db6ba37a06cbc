"""The emulators' own evaluation of the conditions on the state table's rows: a write that is carried out twice, or
late, changes nothing."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from dynamodt.errors import Fenced, Refused
from dynamodt.model.pages import Counts, Intent, Totals, Units
from dynamodt.model.runs import Lease, Script
from dynamodt.model.tables import Item
from dynamodt.runs.history import first_record, version_applied_by
from dynamodt.state.lease_rows import Grant, LeaseRows, Report
from dynamodt.state.row_codec import ConditionFailed, RowKey
from dynamodt.state.state import Rows, State
from tests.service.bench import Bench


class AnswersLost:
    """The answer to each first request is lost; the request is repeated, and the second answer arrives."""

    sent: list[list[dict[str, Any]]]

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        with suppress(ConditionFailed):
            super().update(key, row, condition, **values)  # type: ignore[misc]
        written: Item = super().update(key, row, condition, **values)  # type: ignore[misc]
        return written

    def transact(self, actions: list[dict[str, Any]]) -> None:
        """Repeats a transaction after the service has forgotten its token."""
        self.sent = [*getattr(self, "sent", []), deepcopy(actions)]
        with suppress(ConditionFailed):
            super().transact(actions)  # type: ignore[misc]
        super().transact(actions)  # type: ignore[misc]


class LostRows(AnswersLost, Rows):
    pass


@pytest.fixture
def state(bench: Bench) -> State:
    made = State(bench.stage.connection, bench.stage.state_table)
    made.ensure()
    made.rows = LostRows(bench.stage.connection, bench.stage.state_table)
    made.leases = LeaseRows(made.rows)
    return made


def test_late_writes_do_not_change_the_rows_of_a_run_and_its_lease(state: State) -> None:
    table, run = f"things-{uuid4().hex[:8]}", uuid4().hex
    leases, units, workers = state.leases, state.splits(run), state.workers(run, 1)
    assert leases.take(Lease(table, 1, run, lease_replicas=2), over=leases.read(table))
    leases.set(table, 1, paused=True)
    leases.set(table, 1, paused=False, wcu=12.5)
    leases.beat(table, 1, 5.0)
    seen = leases.read(table, 1)
    assert (seen.token, seen.paused, seen.wcu, seen.beats) == (1, False, 12.5, 1)
    claim = units.claim(0, 1)
    units.intend(claim, Intent(("part",), None, False, Counts(), 0.0, 1))
    units.checkpoint(claim, 1, 5, Totals(Counts(read=5, changed=5)))
    found = units.read(0)
    assert found is not None and (found.fencing_token, found.page, found.intent) == (1, 1, None)
    units.claim(0, 2)
    with pytest.raises(Fenced):
        units.checkpoint(claim, 2, 10, Totals())
    assert workers.report("w", Report(1, 0, Units())) is None
    workers.grant("w", Grant(1, Units(1.0, 2.0)))
    assert workers.report("w", Report(2, 1, Units())) == Grant(1, Units(1.0, 2.0))
    leases.release(table, 1)
    assert leases.take(Lease(table, 2, "next"), over=leases.read(table))
    with pytest.raises(Fenced):
        leases.release(table, 1)
    assert (leases.read(table).run, leases.read(table, 1).run) == ("next", "next")


def test_a_late_write_does_not_restore_a_former_table_of_a_name(bench: Bench, state: State) -> None:
    rows, stage = state.rows, bench.stage
    sent: list[tuple[Any, ...]] = []

    def update(key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        sent.append((key, row, condition, values))
        return LostRows.update(rows, key, row, condition, **values)

    state.rows.update = update  # type: ignore[method-assign]
    for real in ("things-1", "things-2", "things-3", "things-2"):
        state.record_name(stage, "things", real)
        for key, row, condition, values in sent[:-1]:
            with suppress(ConditionFailed):
                Rows.update(rows, key, row, condition, **values)
        assert state.real_name(stage, "things") == real
    assert len(sent) == 4
    assert state.names(stage)["things"] == ("things-1", "things-3", "things-2")


def test_a_late_write_does_not_replace_a_newer_record_of_a_run(state: State) -> None:
    table = f"things-{uuid4().hex[:8]}"
    record = first_record(Script(table, 1, "change", "v1_change.py", "", ""), "up", uuid4().hex, 4)
    assert state.leases.take(Lease(table, 1, record.run), over=state.leases.read(table))
    begun = state.record(record, 1)
    ended = replace(begun, status="succeeded", ended="now", counts=Counts(read=2, changed=2), seconds=1.5)
    ended = state.record(ended, 1, applied=version_applied_by(ended))
    assert state.run(table, record.run) == ended and state.applied(table)[1].run == record.run
    for late in state.rows.sent:  # type: ignore[attr-defined]
        with pytest.raises(ConditionFailed):
            Rows.transact(state.rows, late)
    assert state.run(table, record.run) == ended
    with pytest.raises(Refused, match="recorded by another run"):
        state.record(begun, 1)
    state.record(replace(ended, status="undone"), 1, reverted=True)
    assert state.applied(table) == {}
