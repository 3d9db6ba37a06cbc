"""The calls on one row of the state table, by botocore as commands make them and by the wire as workers do: alike."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodt.errors import ServiceError
from dynamodt.rate import Backoff
from dynamodt.state import rows
from dynamodt.state.rows import ConditionFailed, Rows
from dynamodt.state.state import QuickRows, State
from tests.service.bench import Bench
from tests.service.proxy import Proxy

KEY = ("RUN#1#7", "SPLIT")


@pytest.fixture(params=[Rows, QuickRows])
def kind(request: pytest.FixtureRequest) -> type[Rows]:
    found: type[Rows] = request.param
    return found


@pytest.fixture
def table(bench: Bench) -> str:
    State(bench.stage.connection, bench.stage.state_table).ensure()
    return bench.stage.state_table


def test_a_row_is_written_and_read(bench: Bench, table: str, kind: type[Rows]) -> None:
    made = kind(bench.stage.connection, table)
    assert made.get(KEY) is None
    made.put(KEY, {"fencing_token": 1, "cursor": "é"})
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1, "cursor": "é"}
    row = made.update(KEY, {"fencing_token": 2, "done": True}, "fencing_token = :fencing_token", fencing_token=1)
    assert (
        row == made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": Decimal(2), "cursor": "é", "done": True}
    )
    assert made.update(("new", "row"), {"n": 1}) == {"pk": "new", "sk": "row", "n": 1}


def test_a_row_that_is_not_as_required_stays_as_it_is(bench: Bench, table: str, kind: type[Rows]) -> None:
    made = kind(bench.stage.connection, table)
    made.put(KEY, {"fencing_token": 2})
    with pytest.raises(ConditionFailed):
        made.update(KEY, {"fencing_token": 3}, "fencing_token = :fencing_token", fencing_token=1)
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 2}


def test_a_table_that_is_not_there(bench: Bench, table: str, kind: type[Rows]) -> None:
    made = kind(bench.stage.connection, "nowhere")
    with pytest.raises(ServiceError, match="does not exist") as caught:
        made.update(KEY, {"fencing_token": 1})
    assert caught.value.where == "state table nowhere"


@pytest.mark.parametrize("fault", ["throttled", "exceeded", "500", "503", "reset", "lost", "truncated", "cut"])
def test_a_worker_s_call_is_sent_again_until_it_is_answered(
    bench: Bench, table: str, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "delay", lambda self, attempt, random: 0.002)
    made = QuickRows(replace(bench.stage.connection, endpoint_url=proxy.url), table)
    made.put(KEY, {"fencing_token": 1})
    proxy.faults["UpdateItem"] += [fault, fault]
    assert made.update(KEY, {"page": 2}, "fencing_token = :fencing_token", fencing_token=1)["page"] == 2
    proxy.faults["GetItem"] += [fault]
    assert made.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1, "page": 2}


def test_a_worker_gives_up_in_the_end(bench: Bench, table: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "delay", lambda self, attempt, random: 0.0)
    proxy.always["GetItem"] = "throttled"
    with pytest.raises(ServiceError, match="gave up after 12 tries"):
        QuickRows(replace(bench.stage.connection, endpoint_url=proxy.url), table).get(KEY)


def test_workers_share_one_wire_in_a_process(bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "client", None)  # none is made: a service's model takes long to read
    one, other = (QuickRows(bench.stage.connection, table) for _ in range(2))
    one.put(KEY, {"fencing_token": 1})
    assert other.get(KEY) == {"pk": KEY[0], "sk": KEY[1], "fencing_token": 1}
    assert one._calls._wire is other._calls._wire


def test_a_transaction_that_meets_a_sign_of_life_is_tried_again(
    bench: Bench, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No emulator cancels one for that: the refusals are DynamoDB's words, the rest is real."""
    made = Rows(bench.stage.connection, table)
    transact, tokens, waits = made.dynamodb.transact_write_items, [], []
    refusals = ["[TransactionConflict, None]"] * 2

    def refusing(**request: Any) -> Any:
        tokens.append(request["ClientRequestToken"])
        if refusals:
            error = {"Code": "TransactionCanceledException", "Message": f"reasons {refusals.pop()}"}
            raise ClientError({"Error": error}, "TransactWriteItems")
        return transact(**request)

    monkeypatch.setattr(made.dynamodb, "transact_write_items", refusing)
    monkeypatch.setattr(rows, "time", SimpleNamespace(sleep=waits.append))
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
