"""The calls on the rows of the state table."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dynamodt.dynamodb.table import STATE_HINTS
from dynamodt.dynamodb.wire import Refusal
from dynamodt.errors import ServiceError
from dynamodt.rate import Backoff
from dynamodt.state import state as state_module
from dynamodt.state.row_codec import ConditionFailed
from dynamodt.state.state import Rows, State
from tests.emulators import dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.proxy import Proxy

KEY = ("RUN#1#7", "SPLIT")


@pytest.fixture
def table(bench: Bench) -> str:
    State(bench.stage.connection, bench.stage.state_table).ensure()
    return bench.stage.state_table


def test_a_row_is_written_and_read(bench: Bench, table: str) -> None:
    made = Rows(bench.stage.connection, table)
    assert made.get(KEY) is None
    made.put(KEY, {"fencing_token": 1, "cursor": "é"})
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1, "cursor": "é"}
    row = made.update(KEY, {"fencing_token": 2, "done": True}, "fencing_token = :fencing_token", fencing_token=1)
    assert (
        row == made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": Decimal(2), "cursor": "é", "done": True}
    )
    assert made.update(("new", "row"), {"n": 1}) == {"pk": "new", "sk": "row", "n": 1}


def test_a_row_that_is_not_as_required_stays_as_it_is(bench: Bench, table: str) -> None:
    made = Rows(bench.stage.connection, table)
    made.put(KEY, {"fencing_token": 2})
    with pytest.raises(ConditionFailed):
        made.update(KEY, {"fencing_token": 3}, "fencing_token = :fencing_token", fencing_token=1)
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 2}


def test_a_missing_table_is_refused(bench: Bench, table: str) -> None:
    made = Rows(bench.stage.connection, "nowhere")
    with pytest.raises(ServiceError, match="does not exist") as caught:
        made.update(KEY, {"fencing_token": 1})
    assert caught.value.where == "state table nowhere"


@pytest.mark.parametrize("status", STATE_HINTS)
def test_a_table_in_a_state_without_requests_is_named_with_its_state(
    bench: Bench, table: str, proxy: Proxy, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB answers as if it were missing."""
    monkeypatch.setattr(state_module, "description", lambda connection, name: {"TableStatus": status})
    proxy.always["GetItem"] = "gone"
    with pytest.raises(ServiceError, match=f"the table is {status}") as caught:
        Rows(replace(bench.stage.connection, endpoint_url=proxy.url), table).get(KEY)
    assert (caught.value.where, caught.value.hint) == (f"state table {table}", STATE_HINTS[status])


def test_a_state_table_that_another_process_is_creating_is_awaited(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, awaited = State(bench.stage.connection, table), []
    monkeypatch.setattr(state_module, "create_table", lambda dynamodb, name, *_: awaited.append(name))
    state.ensure()
    assert not awaited
    made = state.rows.dynamodb.describe_table(TableName=table)
    made["Table"]["TableStatus"] = "CREATING"
    monkeypatch.setattr(state.rows.dynamodb, "describe_table", lambda **_: made)
    state.ensure()
    assert awaited == [table]


@dynamodb_local_in_chaos
@pytest.mark.parametrize("fault", ["throttled", "exceeded", "500", "503", "reset", "lost", "truncated", "cut"])
def test_a_call_without_an_answer_is_repeated(
    bench: Bench, table: str, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "delay", lambda self, attempt, random: 0.002)
    made = Rows(replace(bench.stage.connection, endpoint_url=proxy.url), table)
    made.put(KEY, {"fencing_token": 1})
    proxy.faults["UpdateItem"] += [fault, fault]
    assert made.update(KEY, {"page": 2}, "fencing_token = :fencing_token", fencing_token=1)["page"] == 2
    proxy.faults["GetItem"] += [fault]
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1, "page": 2}


def test_a_call_fails_after_its_last_try(
    bench: Bench, table: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "delay", lambda self, attempt, random: 0.0)
    proxy.always["GetItem"] = "throttled"
    with pytest.raises(ServiceError, match="gave up after 24 tries"):
        Rows(replace(bench.stage.connection, endpoint_url=proxy.url), table).get(KEY)


def test_one_wire_is_shared_in_a_process(bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "client", None)  # none is made: a service's model takes long to read
    one, other = (Rows(bench.stage.connection, table) for _ in range(2))
    one.put(KEY, {"fencing_token": 1})
    assert other.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1}
    assert one._calls.wire is other._calls.wire


def test_rows_of_several_pages_are_read(bench: Bench, table: str) -> None:
    """A page ends at 1 MB."""
    made, text = Rows(bench.stage.connection, table), "x" * 300_000
    for number in range(5):
        made.put(("TABLE#long", f"RUN#{number}"), {"text": text})
    assert [row["sk"] for row in made.query("TABLE#long", "RUN#")] == [f"RUN#{number}" for number in range(5)]


def test_a_transaction_in_conflict_with_a_heartbeat_is_repeated(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No emulator cancels a transaction for that reason: the refusals are captured messages of DynamoDB, the rest is
    real."""
    made = Rows(bench.stage.connection, table)
    wire, tokens, waits = made._calls.wire, list[str](), list[float]()
    begin, refusals = wire.begin, ["[TransactionConflict, None]"] * 2

    def refused() -> Any:
        raise Refusal("TransactionCanceledException", f"reasons {refusals.pop()}", {})

    def refusing(operation: str, request: dict[str, Any]) -> Any:
        tokens.extend([request["ClientRequestToken"]] if operation == "TransactWriteItems" else [])
        return refused if refusals else begin(operation, request)

    monkeypatch.setattr(wire, "begin", refusing)
    monkeypatch.setattr(made._calls, "sleep", waits.append)
    item = {"pk": {"S": "one"}, "sk": {"S": "row"}}
    made.transact([{"Put": {"TableName": table, "Item": item}}])
    assert made.get(("one", "row")) == {"pk": "one", "sk": "row"}
    assert len(tokens) == 3 and len(set(tokens)) == 1 and len(waits) == 2

    refusals[:] = ["[ConditionalCheckFailed, TransactionConflict]"]
    with pytest.raises(ConditionFailed):
        made.transact([{"Put": {"TableName": table, "Item": item}}])
    refusals[:] = ["[ValidationError, None]"]
    with pytest.raises(ServiceError):
        made.transact([{"Put": {"TableName": table, "Item": item}}])
    assert len(tokens) == 5
