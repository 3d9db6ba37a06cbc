"""The frequent calls over a real connection: the meaning of each kind of failure; nothing is lost, nothing done
twice."""

from __future__ import annotations

import os
import random
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from dynamodt.dynamodb import http
from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.dynamodb.table import describe
from dynamodt.dynamodb.wire import Call, InDoubt, Refusal, Throttled, Unsent, Wire
from dynamodt.errors import ServiceError
from dynamodt.model.pages import Counts
from dynamodt.model.tables import Change, Connection, Image, Item, Remove, TableSpec, Update
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.write_page import PageWriter
from dynamodt.rate import Backoff
from dynamodt.script.codec import decode, encode
from dynamodt.script.diff import change, insert, key_of
from tests.emulators import Endpoint, dynamodb_local_in_chaos
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.service.kills import SEEDS
from tests.service.proxy import Proxy

HARMLESS = ["throttled", "exceeded"]
DOUBTFUL = ["500", "503", "reset", "lost", "truncated", "cut", "slow"]
APPLIED = ["lost", "truncated", "cut", "slow"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    """The time-out of 30 s passes at once for a request without an answer, and for no other, and the back-off is short:
    their lengths have tests of their own."""
    received = http._received

    def awaited(connection: socket.socket, late: Callable[[], None]) -> tuple[bytes, int]:
        while not select.select([connection], [], [], 0.01)[0]:
            if connection.getsockname()[1] in proxy.silent:
                late()
                raise TimeoutError("timed out")
        return received(connection, late)

    monkeypatch.setattr(http, "_received", awaited)
    monkeypatch.setattr(Backoff, "delay", lambda self, attempt, random: 0.002)


@pytest.fixture
def wire(proxy: Proxy) -> Iterator[Wire]:
    made = Wire(proxy.connection, 2)
    yield made
    made.close()


def put(table: str, number: int) -> dict[str, Any]:
    return {"TableName": table, "Item": encode({"id": number})}


def numbered(count: int) -> list[Item]:
    return [{"id": number, "n": number + 1} for number in range(count)]


def doubled(items: list[Item]) -> list[Item]:
    return [{**item, "n": item["n"] * 2} for item in items]


# ---------------------------------------------------------------- one call


@dynamodb_local_in_chaos
@pytest.mark.parametrize("fault", HARMLESS)
def test_a_throttle_means_that_nothing_was_written(
    wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable, fault: str
) -> None:
    table = make_table(id="N")
    proxy.faults["PutItem"].append(fault)
    with pytest.raises(Throttled, match="injected"):
        wire.call("PutItem", put(table, 1))
    assert bench.tables.items(table) == []


@dynamodb_local_in_chaos
@pytest.mark.parametrize("fault", DOUBTFUL)
def test_an_incomplete_answer_is_in_doubt_and_the_next_call_works(
    wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable, fault: str
) -> None:
    table = make_table(id="N")
    wire.call("PutItem", put(table, 0))  # the connection is a kept one by now
    proxy.faults["PutItem"].append(fault)
    with pytest.raises(InDoubt, match="PutItem"):
        wire.call("PutItem", put(table, 1))
    there = [{"id": 1}] if fault in APPLIED else []
    assert bench.tables.items(table) == [{"id": 0}, *there]
    wire.call("PutItem", put(table, 2))
    assert bench.tables.items(table) == [{"id": 0}, *there, {"id": 2}]


def test_a_refusal_has_its_code_its_message_and_its_item(wire: Wire, bench: Bench, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1, "n": 1})
    with pytest.raises(Refusal) as caught:
        wire.call("PutItem", {"TableName": "no-such-table", "Item": encode({"id": 1})})
    assert caught.value.code == "ResourceNotFoundException" and caught.value.message
    with pytest.raises(Refusal) as caught:
        wire.call(
            "PutItem",
            {
                **put(table, 1),
                "ConditionExpression": "attribute_not_exists(id)",
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )
    assert caught.value.code == "ConditionalCheckFailedException"
    assert decode(caught.value.answer["Item"]) == {"id": 1, "n": 1}


def test_without_a_listener_nothing_was_sent() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    wire = Wire(Connection("us-east-1", f"http://127.0.0.1:{port}", access_key="local", secret_key="local"))
    with pytest.raises(Unsent, match="refuses connections"):
        wire.call("ListTables", {})


def test_connections_are_kept(wire: Wire, proxy: Proxy, make_table: MakeTable) -> None:
    table = make_table(id="N")
    for number in range(20):
        wire.call("PutItem", put(table, number))
    assert (proxy.calls["PutItem"], proxy.connections, wire.requests) == (20, 1, 20)


# ---------------------------------------------------------------- a batch of writes


def doubling(spec: TableSpec, item: Item) -> Change:
    patch = change(spec, encode(item), item, {**item, "n": item["n"] * 2})
    assert patch is not None
    return patch


def requests(spec: TableSpec, items: list[Item]) -> list[Any]:
    """The requests that double each item."""
    statements = Statements(spec)
    return [statements.write(doubling(spec, item)) for item in items]


BROKEN: dict[str, Image] = {
    "no number": {"n": {"N": "one"}},
    "an empty set": {"n": {"SS": []}},
    "an empty name": {"": {"S": "x"}},
    "no type": {"n": {"X": "1"}},
    "too large": {"n": {"S": "x" * 410 * 1024}},
    "too deep": {"n": reduce(lambda inner, _: {"L": [inner]}, range(32), {"S": "x"})},
    "too deep by far": {"n": reduce(lambda inner, _: {"L": [inner]}, range(60), {"S": "x"})},
    "an empty index key": {"g": {"S": ""}},
}


def page_writer(wire: Wire, spec: TableSpec) -> PageWriter:
    """A run's writer, with a script that leaves an item unchanged at the second call."""
    lookups = Lookups(quick(wire, spec))
    return PageWriter(Writes(wire, spec.name), lookups, Statements(spec), lambda image: None, 2)


@pytest.mark.parametrize("kind", BROKEN)
def test_one_invalid_statement_of_a_batch_does_not_affect_the_others(
    endpoint: Endpoint, wire: Wire, bench: Bench, indexed_table: str, kind: str
) -> None:
    """Each of the others is done exactly once, though DynamoDB Local refuses some batches after carrying out a part."""
    items = numbered(24)
    bench.tables.put(indexed_table, *items, {"id": 100})
    spec = describe(endpoint.connection, indexed_table)
    bad = Update(encode({"id": 100}), encode({"id": 100}), BROKEN[kind])
    good = [doubling(spec, item) for item in items]
    write_result = page_writer(wire, spec).write([*good[:11], bad, *good[11:]])
    if endpoint.name == "ministack":  # it takes nearly anything, and keeps it
        endpoint.client.delete_item(TableName=indexed_table, Key=encode({"id": 100}))
    else:
        assert write_result.counts == Counts(changed=24, dead=1)
        assert (
            write_result.dead[0].key == {"id": {"N": "100"}}
            and "DynamoDB rejects the write" in write_result.dead[0].error
        )
    left = [] if endpoint.name == "ministack" else [{"id": 100}]
    assert bench.tables.items(indexed_table) == [*doubled(items), *left]


def test_of_two_insertions_of_one_item_in_a_batch_the_second_is_superseded(
    endpoint: Endpoint, wire: Wire, bench: Bench, make_table: MakeTable
) -> None:
    """DynamoDB Local refuses such a batch as a whole, after it has carried out a part."""
    table = make_table(id="N")
    spec = describe(endpoint.connection, table)
    rows: list[Item] = [{"id": 1, "n": "first"}, {"id": 2, "n": 2}, {"id": 1, "n": "second"}]
    write_result = page_writer(wire, spec).write([insert(spec, row) for row in rows])
    assert write_result.counts == Counts(changed=2, superseded=1)
    assert bench.tables.items(table) == rows[:2]


def test_each_statement_has_its_own_verdict(
    endpoint: Endpoint, wire: Wire, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    spec = describe(endpoint.connection, table)
    items = numbered(4)
    there = [{"id": number, "n": 7} for number in (4, 6)]
    bench.tables.put(table, *items[:2], {**items[2], "n": "live"}, *there)  # 3 is deleted meanwhile
    statements = Statements(spec)
    inserts = [insert(spec, {"id": number, "own": True}) for number in (4, 5)]
    removal = Remove(key_of(spec, encode(there[1])), encode({**there[1], "n": 8}))
    answer = Writes(wire, table).batch([*requests(spec, items), *map(statements.write, [*inserts, removal])])()  # type: ignore[list-item]
    outcomes = [verdict.outcome for verdict in answer.verdicts]
    assert outcomes == ["done", "done", "conflict", "conflict", "conflict", "done", "conflict"]
    assert answer.verdicts[3].image is None
    left = [{"id": 2, "n": "live"}, there[0], {"id": 5, "own": True}, there[1]]
    assert bench.tables.items(table) == [*doubled(items[:2]), *left]


@pytest.mark.endpoints("dynamodb-local")  # ministack does not; the item is read then
def test_a_conflict_returns_the_current_item(
    endpoint: Endpoint, wire: Wire, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 0, "n": 5, "live": True})
    answer = Writes(wire, table).batch(requests(describe(endpoint.connection, table), numbered(1)))()
    assert answer.verdicts[0].image == encode({"id": 0, "n": 5, "live": True})


@dynamodb_local_in_chaos
@pytest.mark.parametrize("fault", [*HARMLESS, *DOUBTFUL])
def test_a_failed_batch_has_the_same_verdict_for_all_its_statements(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable, fault: str
) -> None:
    table = make_table(id="N")
    items = numbered(25)
    bench.tables.put(table, *items)
    proxy.faults["BatchExecuteStatement"].append(fault)
    answer = Writes(wire, table).batch(requests(describe(endpoint.connection, table), items))()
    expected = "throttled" if fault in HARMLESS else "doubt"
    assert [verdict.outcome for verdict in answer.verdicts] == [expected] * 25
    assert bench.tables.items(table) == (doubled(items) if fault in APPLIED else items)


def test_the_refused_statements_of_a_batch_have_their_own_verdicts(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    items = numbered(12)
    bench.tables.put(table, *items)
    proxy.faults["BatchExecuteStatement"].append("partial")
    answer = Writes(wire, table).batch(requests(describe(endpoint.connection, table), items))()
    assert [v.outcome for v in answer.verdicts] == ["done", "throttled", "done", "throttled", "done", "doubt"] * 2
    assert bench.tables.items(table) == [
        d if d["id"] % 2 == 0 else i for d, i in zip(doubled(items), items, strict=True)
    ]


def test_a_batch_that_is_too_large_is_divided(
    endpoint: Endpoint, proxy: Proxy, bench: Bench, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MENTION_SECONDS", 10.0)
    monkeypatch.setattr(http, "READ_SECONDS", 30.0)  # 7.5 MB take their time on a busy machine
    wire = Wire(proxy.connection, 2)
    table = make_table(id="N")
    items = [{**item, "large": "x" * 300_000} for item in numbered(25)]
    for item in items:
        bench.tables.put(table, item)
    answer = Writes(wire, table).batch(requests(describe(endpoint.connection, table), items))()
    assert [verdict.outcome for verdict in answer.verdicts] == ["done"] * 25
    assert proxy.calls["BatchExecuteStatement"] == 2  # 7.5 MB in halves of less than 4 MB each
    assert bench.tables.items(table) == doubled(items)


def test_units_are_those_that_the_service_reports(
    endpoint: Endpoint, wire: Wire, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    items = [{**item, "text": "x" * 2500} for item in numbered(4)]
    bench.tables.put(table, *items)
    spec = describe(endpoint.connection, table)
    answer = Writes(wire, table).batch(requests(spec, items))()
    assert answer.wcu == {"ministack": 4.0, "dynamodb-local": None}[endpoint.name]  # one unit each; no message
    page = Reads(wire, spec).scan(0, 1, None, 1000, True)
    assert page.rcu == {"ministack": 1.0, "dynamodb-local": 3.0}[endpoint.name]


@pytest.mark.parametrize("fault", ["denied", "expired", ""])
def test_an_error_that_no_retry_resolves_ends_the_run(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable, fault: str
) -> None:
    table = make_table(id="N") if fault else "no-such-table"
    spec = replace(describe(endpoint.connection, make_table(id="N")), name=table)
    proxy.always["BatchExecuteStatement"] = fault
    with pytest.raises(ServiceError) as caught:
        Writes(wire, table).batch(requests(spec, numbered(3)))()
    assert caught.value.where == f"table {table}" and caught.value.hint
    assert {"denied": "AccessDenied", "expired": "ExpiredToken", "": "does not exist"}[fault] in caught.value.what


def test_a_transaction_that_is_sent_again_is_done_once(
    wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, {"id": 1, "n": 1})
    update = {
        "TableName": table,
        "Key": {"id": {"N": "1"}},
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    call = Call("TransactWriteItems", {"TransactItems": [{"Update": update}]})
    proxy.faults["TransactWriteItems"].append("lost")
    writes = Writes(wire, table)
    assert [writes.single(call)().verdicts[0].outcome for _ in range(2)] == ["doubt", "done"]
    assert bench.tables.items(table) == [{"id": 1, "n": 2}]


# ---------------------------------------------------------------- reads


def quick(wire: Wire, spec: TableSpec, attempts: int = 6) -> Reads:
    return Reads(wire, spec, backoff=Backoff(base=0.001, attempts=attempts))


@pytest.mark.parametrize("consistent", [True, False])
def test_a_scan_with_faults_reads_every_item_once(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable, consistent: bool
) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *numbered(60))
    proxy.faults["Scan"].extend(["", *HARMLESS, "", "", *DOUBTFUL])
    reads = quick(wire, describe(endpoint.connection, table), attempts=20)
    found = []
    for segment in range(3):
        page = reads.scan(segment, 3, None, 7, consistent)
        while True:
            assert len(page.images) <= 7
            found += page.images
            if page.cursor is None:
                break
            page = reads.scan(segment, 3, page.cursor, 7, consistent)
    assert sorted(map(decode, found), key=lambda item: item["id"]) == numbered(60)
    assert not proxy.faults["Scan"]


def test_all_items_are_read_by_key(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, bench: Bench, make_table: MakeTable
) -> None:
    table = make_table(pk="S", sk="N")
    bench.tables.put(table, *({"pk": f"p{n % 3}", "sk": n, "n": n} for n in range(150)))
    proxy.faults["BatchGetItem"].extend(["unprocessed", "throttled", "unprocessed", "500", "unprocessed", "cut"])
    keys = [encode({"pk": f"p{n % 3}", "sk": n}) for n in range(160)]  # ten of them are not there
    found = quick(wire, describe(endpoint.connection, table)).items(keys)
    assert sorted(decode(image)["n"] for image in found.items.values()) == list(range(150))
    assert not proxy.faults["BatchGetItem"]


@dynamodb_local_in_chaos
@pytest.mark.parametrize("fault", ["throttled", "503", "reset", "stuck"])
def test_a_read_that_fails_at_every_try_is_reported(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, make_table: MakeTable, fault: str
) -> None:
    table = make_table(id="N")
    proxy.always["BatchGetItem"] = fault
    reads = quick(wire, describe(endpoint.connection, table), attempts=3)
    keys = [encode({"id": n}) for n in range(90)]
    with pytest.raises(ServiceError, match="gave up after 3 tries") as caught:
        reads.items(keys)
    assert caught.value.where == f"table {table}"


def test_a_read_that_is_refused_is_not_repeated(
    endpoint: Endpoint, wire: Wire, proxy: Proxy, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    proxy.always["Scan"] = "denied"
    with pytest.raises(ServiceError, match="AccessDenied") as caught:
        quick(wire, describe(endpoint.connection, table)).scan(0, 1, None, 10, False)
    assert proxy.calls["Scan"] == 1 and "grant" in caught.value.hint


# ---------------------------------------------------------------- whole runs over a bad line


DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2}\n'


LINES = {  # the faults of the requests, one after the other
    "throttled": ["throttled", "", "exceeded", "exceeded", "", "", "throttled"],
    "nothing done": ["500", "", "503", "reset", "reset", "", "500"],
    "answer lost": ["lost", "", "truncated", "cut", "lost", "", "lost"],
    "slow": ["slow", "", "slow"],
    "partial": ["partial", "", "partial", "lost", "partial"],
}


@dynamodb_local_in_chaos
@pytest.mark.parametrize("line", LINES)
def test_a_run_doubles_every_item_exactly_once(bad_line: Bench, proxy: Proxy, make_table: MakeTable, line: str) -> None:
    table = make_table(id="N")
    bad_line.tables.put(table, *numbered(80))
    proxy.faults["BatchExecuteStatement"].extend(LINES[line])
    assert bad_line.run(table, DOUBLE) == Counts(read=80, changed=80)
    assert bad_line.tables.items(table) == doubled(numbered(80))
    assert not proxy.faults["BatchExecuteStatement"]


@pytest.mark.parametrize("line", ["throttled", "nothing done", "answer lost"])
def test_single_writes_and_transactions_with_faults_are_done_exactly_once(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable, line: str
) -> None:
    table = make_table(id="N")
    bad_line.tables.put(table, *({"id": n, "n": n + 1, "#": 1} for n in range(6)), *({"id": n} for n in range(10, 14)))
    for operation, faults in {"UpdateItem": 4, "DeleteItem": 2, "TransactWriteItems": 4}.items():
        proxy.faults[operation].extend(LINES[line][:faults])  # a deletion in doubt is looked at, not sent again
    script = """
    from dynamodt import Delete
    IDEMPOTENT = True
    def transform_up(item):
        if item["id"] >= 1000:
            return item
        if item["id"] >= 10:
            return {**item, "id": item["id"] + 1000}
        if item["id"] < 2:
            return Delete()
        return {**item, "n": item["n"] * 2, "#": 2} if item["#"] == 1 else item
    """
    counts = bad_line.run(table, script)
    assert (counts.changed, counts.dead, counts.vanished, counts.superseded) == (10, 0, 0, 0)
    assert bad_line.tables.items(table) == [
        *({"id": n, "n": (n + 1) * 2, "#": 2} for n in range(2, 6)),
        *({"id": n + 1000} for n in range(10, 14)),
    ]
    assert not any(proxy.faults.values())


def test_a_run_with_faults_on_its_state_table_writes_each_item_once(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable
) -> None:
    """The lease, the claims, the intents, the checkpoints and the history are written, and the answers are lost."""
    table = make_table(id="N")
    bad_line.tables.put(table, *numbered(30))
    proxy.spared, proxy.only = "", bad_line.stage.state_table
    proxy.faults["UpdateItem"].extend(["lost", "", "lost", "500", "lost", "lost", "", "lost", "throttled", "lost"])
    proxy.faults["TransactWriteItems"].extend(["lost", "lost"])
    proxy.faults["BatchGetItem"].extend(["lost", "unprocessed"])
    assert bad_line.run(table, DOUBLE) == Counts(read=30, changed=30)
    assert bad_line.tables.items(table) == doubled(numbered(30))
    assert bad_line.applied(table) == [1] and [run.status for run in bad_line.history(table)] == ["succeeded"]
    assert not any(proxy.faults.values())


FAULTS = int(os.environ.get("DYNAMODT_FAULTS", "40"))  # `make test-chaos` injects many more


@dynamodb_local_in_chaos
@pytest.mark.scaled
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_with_random_faults_writes_each_item_once(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable, seed: int
) -> None:
    """Every seventh request has a fault, including those to the state table, until enough faults were injected."""
    table = make_table(id="N")
    items = list(numbered(1000))
    bad_line.tables.put(table, *items)
    proxy.spared, proxy.odds, proxy.dice = "", 0.15, random.Random(seed)
    expected, number = items, 0
    while sum(proxy.injected.values()) - proxy.injected[""] < FAULTS:
        number += 1
        bad_line.script(table, DOUBLE, number, f"double{number}")
        (report,) = bad_line.up(table)
        while report.error is not None:  # a call that fails six times in a row ends the run; it goes on
            assert isinstance(report.error, ServiceError), report.error
            (report,) = bad_line.up(table)
        proxy.odds = 0.0  # the test itself has a good line
        assert bad_line.history(table)[-1].counts == Counts(read=1000, changed=1000)
        proxy.odds = 0.15
        expected = doubled(expected)
    proxy.odds = 0.0
    assert bad_line.tables.items(table) == expected
    print(f"survived {sum(proxy.injected.values()) - proxy.injected['']} faults: {dict(proxy.injected)}")


def test_writes_that_fail_at_every_try_are_dead_letters(bad_line: Bench, proxy: Proxy, make_table: MakeTable) -> None:
    table = make_table(id="N")
    bad_line.tables.put(table, *numbered(5))
    proxy.always["BatchExecuteStatement"] = "throttled"
    report = bad_line.failed(table, DOUBLE, max_errors=5)
    assert report.versions[0].counts == Counts(read=5, dead=5)
    dead_letters = bad_line.dead_letters(report)
    assert sorted(int(dead_letter["key"]["id"]["N"]) for dead_letter in dead_letters) == list(range(5))
    assert all(
        dead_letter["step"] == "write" and "gave up after" in dead_letter["error"] for dead_letter in dead_letters
    )
    assert bad_line.tables.items(table) == numbered(5)


def test_a_run_whose_writes_all_fail_is_continued_later(bad_line: Bench, proxy: Proxy, make_table: MakeTable) -> None:
    """No item becomes a dead letter, with any `--max-errors`."""
    table = make_table(id="N")
    bad_line.tables.put(table, *numbered(50))
    proxy.faults["BatchExecuteStatement"].append("lost")
    proxy.always["BatchExecuteStatement"] = "500"
    report = bad_line.failed(table, DOUBLE, max_errors=50)
    assert isinstance(report.error, ServiceError) and "gave up after 12 tries" in report.error.what
    assert report.versions[0].counts.dead == 0
    proxy.always.clear()
    (report,) = bad_line.up(table)
    assert report.error is None and report.versions[0].counts == Counts(read=50, changed=50)
    assert bad_line.tables.items(table) == doubled(numbered(50))


def test_a_scan_that_fails_at_every_try_ends_the_run_with_its_reason(
    bad_line: Bench, proxy: Proxy, make_table: MakeTable
) -> None:
    table = make_table(id="N")
    bad_line.tables.put(table, *numbered(5))
    proxy.always["Scan"] = "503"
    report = bad_line.failed(table, DOUBLE)
    assert isinstance(report.error, ServiceError) and "gave up after" in report.error.what
    assert bad_line.tables.items(table) == numbered(5)
