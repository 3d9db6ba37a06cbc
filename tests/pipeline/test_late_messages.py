"""Rows of the state table are ordered: a write that is carried out twice, or long after it was sent, changes nothing,
and a write whose answer was lost is recognized as successful (ADR 025)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from dynamodt.errors import Fenced
from dynamodt.model.pages import Counts, Intent, Totals, Units
from dynamodt.model.runs import Lease
from dynamodt.model.tables import Item
from dynamodt.state.lease_rows import Grant, LeaseRows, Report
from dynamodt.state.row_codec import ConditionFailed, RowKey
from tests.fakes import FakeRows, FakeState
from tests.pipeline.conftest import Bench

DOUBLE = """
def transform_up(item):
    return item if item["id"] % 10 > 5 else {**item, "n": item["n"] * 2}
"""


class Network(FakeRows):
    """Repeats every write after each later one. With `answers_lost`, the sender gets the answer to its second request.
    `meanwhile` is called once between the two."""

    def __init__(self, answers_lost: bool = False) -> None:
        super().__init__()
        self.answers_lost = answers_lost
        self.meanwhile: Callable[[], None] = lambda: None
        self.sent: list[tuple[RowKey, Item, str, dict[str, Any]]] = []

    def update(self, key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        self.sent.append((key, dict(row), condition, values))
        written = super().update(key, row, condition, **values)
        self._carry_out_again()
        act, self.meanwhile = self.meanwhile, lambda: None
        act()
        return super().update(key, row, condition, **values) if self.answers_lost else written

    def _carry_out_again(self) -> None:
        before = deepcopy(self.rows)
        for key, row, condition, values in self.sent:
            with suppress(ConditionFailed):
                super().update(key, row, condition, **values)
            assert self.rows == before, f"{row} was carried out again"


def behind(network: Network, state: FakeState | None = None) -> FakeState:
    state = state or FakeState()
    state.rows, state.leases = network, LeaseRows(network)  # type: ignore[arg-type]
    return state


@pytest.fixture(params=[False, True], ids=["late", "answers-lost"])
def network(request: pytest.FixtureRequest) -> Network:
    return Network(answers_lost=request.param)


def taken(state: FakeState, token: int, run: str) -> bool:
    return state.leases.take(Lease("things", token, run, lease_replicas=3), over=state.leases.read("things"))


def test_late_messages_do_not_change_a_lease(network: Network) -> None:
    state = behind(network)
    leases = state.leases
    assert taken(state, 1, "ours")
    leases.set("things", 1, paused=True)
    leases.set("things", 1, paused=False)
    leases.beat("things", 1, 5.0)
    leases.set("things", 1, wcu=100.0)
    leases.set("things", 1, wcu=50.0)
    leases.beat("things", 1, 10.0)
    leases.set("things", 1, pause_reason="the alarm x is in ALARM")
    leases.set("things", 1, pause_reason="", stop="abort")
    assert [leases.read("things", replica)[:3] for replica in range(3)] == [("things", 1, "ours")] * 3
    seen = leases.read("things", 2)
    assert (seen.paused, seen.wcu, seen.pause_reason, seen.stop, seen.beats) == (False, 50.0, "", "abort", 2)
    leases.release("things", 1)
    assert taken(state, 2, "theirs")
    for late in (leases.release, lambda table, token: leases.set(table, token, paused=True)):
        with pytest.raises(Fenced):
            late("things", 1)
    now = leases.read("things", 1)
    assert (now.token, now.run, now.stop, now.wcu) == (2, "theirs", "", 0.0)


def test_a_pause_whose_answer_was_lost_is_not_repeated_after_a_resume() -> None:
    network = Network(answers_lost=True)
    state = behind(network)
    assert taken(state, 1, "ours")
    network.meanwhile = lambda: state.leases.set("things", 1, paused=False)
    state.leases.set("things", 1, paused=True)
    assert not any(state.leases.read("things", replica).paused for replica in range(3))


def test_two_simultaneous_control_commands_both_take_effect() -> None:
    """A reader of the row before another's write reads it again."""
    state = FakeState()
    assert taken(state, 1, "ours")
    update = state.rows.update

    def then_another(key: RowKey, row: Item, condition: str = "", **values: Any) -> Item:
        state.rows.update = update  # type: ignore[method-assign]
        state.leases.set("things", 1, wcu=7.0)
        state.leases.beat("things", 1, 5.0)
        return update(key, row, condition, **values)

    state.rows.update = then_another  # type: ignore[method-assign]
    state.leases.set("things", 1, paused=True)
    seen = state.leases.read("things", 2)
    assert (seen.paused, seen.wcu, seen.beats) == (True, 7.0, 1)


def test_a_lease_can_be_taken_despite_a_control_command_but_not_after_a_heartbeat() -> None:
    state = FakeState()
    assert taken(state, 1, "ours")
    seen = state.leases.read("things")
    state.leases.set("things", 1, paused=True)
    mine = Lease("things", 2, "theirs")
    state.leases.beat("things", 1, 5.0)
    assert not state.leases.take(mine, over=seen)
    seen = state.leases.read("things")
    state.leases.set("things", 1, paused=False)
    assert state.leases.take(mine, over=seen)


def intent(page: int, *parts: str) -> Intent:
    return Intent(parts, None, False, Counts(), 0.0, page, Totals())


def read(number: int, done: bool = False) -> Totals:
    return Totals(Counts(read=number, unchanged=number), done=int(done))


def test_late_messages_do_not_change_a_split(network: Network) -> None:
    units = behind(network).splits("run")
    claim = units.claim(0, 1)
    assert claim.fencing_token == 1
    units.intend(claim, intent(1, "a"))
    units.intend(claim, intent(1, "a", "b"))
    units.checkpoint(claim, 1, 5, read(5))
    units.intend(claim, intent(3, "c"))
    units.checkpoint(claim, 2, 10, read(10), intended=False)  # of a page without writes, and late
    found = units.read(0)
    assert found is not None and (found.page, found.intent and found.intent.parts) == (2, ("c",))
    successor = units.claim(0, 2)
    assert (successor.fencing_token, successor.page, successor.totals) == (2, 2, read(10))
    for late in (lambda: units.intend(claim, intent(3, "c", "d")), lambda: units.checkpoint(claim, 3, None, read(15))):
        with pytest.raises(Fenced):
            late()
    units.intend(successor, intent(3, "c", "e"))
    units.checkpoint(successor, 3, None, read(15, done=True))
    ended = units.read(0)
    assert ended is not None and ended.done and ended.totals == read(15, done=True) and ended.intent is None


def test_late_messages_do_not_change_a_worker_s_row(network: Network) -> None:
    workers = behind(network).workers("run", 1)
    assert workers.report("w", Report(1, 0, Units())) is None
    for number in (1, 2, 3):
        grant = Grant(number, Units(number, 10.0 * number))
        workers.grant("w", grant)
        assert workers.report("w", Report(number + 1, number, Units(wcu=number))) == grant
    (row,) = workers.all()
    assert (row.report, row.grant) == (Report(4, 3, Units(wcu=3.0)), Grant(3, Units(3.0, 30.0)))


def test_an_overtaken_grant_does_not_replace_a_later_one() -> None:
    workers = FakeState().workers("run", 1)
    workers.report("w", Report(1, 0, Units()))
    workers.grant("w", Grant(2, Units(wcu=5.0)))
    workers.grant("w", Grant(1, Units(wcu=50.0)))
    assert workers.report("w", Report(2, 2, Units())) == Grant(2, Units(wcu=5.0))


@pytest.mark.parametrize("dies_after", [None, 2, 5])
def test_a_whole_run_with_late_messages(bench: Bench, network: Network, dies_after: int | None) -> None:
    behind(network, bench.state)
    bench.dynamodb.page = 2
    bench.dynamodb.put(*({"id": number, "n": 1} for number in range(40)))
    job = bench.job(DOUBLE, page_items=2)
    if dies_after is not None:
        bench.die_after(job, dies_after)
        job = replace(job, attempt=2)
    counts = bench.execute(job)
    assert (counts.read, counts.dead) == (40, 0)
    assert {item["n"] for item in bench.items() if item["id"] % 10 <= 5} == {2}
    assert {item["n"] for item in bench.items() if item["id"] % 10 > 5} == {1}
