"""One request's verdicts: the meaning of each answer of the service for each write."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.dynamodb import batch, wire
from dynamodt.dynamodb.batch import Verdict, Writes
from dynamodt.dynamodb.wire import Call, InDoubt, Refusal, Statement, Throttled
from dynamodt.errors import ServiceError
from tests.fakes import begun

CLASSES = {
    "conflict": ("ConditionalCheckFailed", "ConditionalCheckFailedException", "DuplicateItem",
                 "ReplicatedWriteConflict", "ReplicatedWriteConflictException"),
    "throttled": (
        "ProvisionedThroughputExceeded", "ProvisionedThroughputExceededException", "ThrottlingException",
        "ThrottlingError", "Throttling", "RequestLimitExceeded",
    ),
    "contended": ("TransactionConflict", "TransactionConflictException", "TransactionInProgressException"),
    "doubt": ("InternalServerError", "InternalServerException", "InternalFailure", "ServiceUnavailable"),
    "rejected": (
        "ValidationError", "ValidationException", "ItemCollectionSizeLimitExceeded",
        "ItemCollectionSizeLimitExceededException",
    ),
}  # fmt: skip
CODES = [(code, outcome) for outcome, codes in CLASSES.items() for code in codes]
FATAL = [
    "AccessDenied",
    "AccessDeniedException",
    "ResourceNotFound",
    "ResourceNotFoundException",
    "UnheardOf",
    "HTTP403",
]


class Service:
    """Answers by a function of the request, and keeps what it was sent."""

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []

    def call(self, operation: str, body: dict[str, Any] | bytes) -> dict[str, Any]:
        self.bodies.append(orjson.loads(body if isinstance(body, bytes) else orjson.dumps(body)))
        return self.answer(self.bodies[-1])

    def begin(self, operation: str, body: dict[str, Any] | bytes) -> Callable[[], dict[str, Any]]:
        return begun(self.call, operation, body)

    def sent(self) -> list[list[str]]:
        return [[statement["Statement"] for statement in body["Statements"]] for body in self.bodies]


def raising(error: Exception) -> Service:
    def answer(_body: dict[str, Any]) -> dict[str, Any]:
        raise error

    return Service(answer)


def saying(**answer: Any) -> Service:
    return Service(lambda _body: answer)


def all_well(body: dict[str, Any]) -> dict[str, Any]:
    return {"Responses": [{}] * len(body["Statements"]), "ConsumedCapacity": [{"CapacityUnits": 2.0}]}


def even_ones(body: dict[str, Any]) -> dict[str, Any]:
    """Refuses every other statement, by its number."""
    odd = [int(statement["Statement"].split()[1]) % 2 for statement in body["Statements"]]
    return {**all_well(body), "Responses": [{"Error": {"Code": "DuplicateItem"}} if one else {} for one in odd]}


def statements(count: int, *sizes: int) -> list[Statement]:
    padding = sizes or (0,) * count
    return [Statement(f"statement {number}", [{"S": "x" * size}]) for number, size in enumerate(padding)]


def refused_statement(code: str, **more: Any) -> Verdict:
    service = saying(Responses=[{"Error": {"Code": code, "Message": "why", **more}}])
    return Writes(service, "things").batch(statements(1))().verdicts[0]


CALL = Call("UpdateItem", {"TableName": "things"})


# ---------------------------------------------------------------- the classifier


def test_every_known_error_code_is_in_the_table_of_these_tests() -> None:
    known = batch._CONFLICTS | batch._INVALID | batch._FULL | wire._THROTTLES | wire._CONTENTIONS | wire._DOUBTS
    assert known == {code for code, _ in CODES}
    assert len(known) == len(CODES)


@pytest.mark.parametrize(("code", "outcome"), CODES)
def test_a_statement_s_error_by_its_code(code: str, outcome: str) -> None:
    verdict = refused_statement(code)
    assert verdict.outcome == outcome and "why" in verdict.message and verdict.image is None


@pytest.mark.parametrize(("code", "outcome"), CODES)
def test_a_request_s_refusal_by_its_code(code: str, outcome: str) -> None:
    answer = Writes(raising(Refusal(code, "why", {})), "things").single(CALL)()
    assert [verdict.outcome for verdict in answer.verdicts] == [outcome]


@pytest.mark.parametrize("code", FATAL)
def test_an_error_that_no_retry_resolves_stops_the_run(code: str) -> None:
    for attempt in (
        lambda: refused_statement(code),
        lambda: Writes(raising(Refusal(code, "why", {})), "things").single(CALL)(),
        lambda: Writes(raising(Refusal(code, "why", {})), "things").batch(statements(3))(),
    ):
        with pytest.raises(ServiceError) as caught:
            attempt()
        assert caught.value.where == "table things"


@pytest.mark.parametrize(("code", "hint"), [("AccessDenied", "grant"), ("ResourceNotFound", "create the table")])
def test_the_short_code_of_a_statement_has_the_hint_of_the_long_one(code: str, hint: str) -> None:
    for full in (code, code + "Exception"):
        with pytest.raises(ServiceError) as caught:
            refused_statement(full)
        assert hint in caught.value.hint


def test_a_conflict_returns_the_current_item() -> None:
    image = {"id": {"S": "a"}}
    assert refused_statement("ConditionalCheckFailed", Item=image) == Verdict("conflict", image, "why")
    assert refused_statement("ConditionalCheckFailed", Item={}).image is None  # the form of some endpoints for: none
    alone = Writes(raising(Refusal("ConditionalCheckFailedException", "why", {"Item": image})), "things").single(CALL)()
    assert alone.verdicts == [Verdict("conflict", image, "why")]


@pytest.mark.parametrize(("error", "outcome"), [(Throttled("slow"), "throttled"), (InDoubt("reset"), "doubt")])
def test_an_unanswered_request_gives_one_verdict_for_each_write(error: Exception, outcome: str) -> None:
    writes = Writes(raising(error), "things")
    assert writes.batch(statements(7))() == ([Verdict(outcome, None, str(error))] * 7, 0.0, True)  # type: ignore[arg-type]
    assert writes.single(CALL)() == ([Verdict(outcome, None, str(error))], 0.0, False)  # type: ignore[arg-type]


def test_the_faulty_statement_of_a_refused_batch_is_found_by_smaller_batches() -> None:
    writes = Writes(raising(Refusal("ItemCollectionSizeLimitExceededException", "full", {})), "things")
    answer = writes.batch(statements(3))()
    assert [verdict.outcome for verdict in answer.verdicts] == ["doubt"] * 3 and answer.whole
    (verdict,) = writes.batch(statements(1))().verdicts
    assert verdict.outcome == "rejected"


FULL = "ItemCollectionSizeLimitExceeded"


def test_a_write_to_a_full_item_collection_has_its_code_and_a_next_step() -> None:
    """The service's message, "Collection size exceeded.", names neither the limit nor the index."""
    one = saying(Responses=[{"Error": {"Code": FULL, "Message": "exceeded"}}])
    (of_statement,) = Writes(one, "things").batch(statements(1))().verdicts
    (of_call,) = Writes(raising(Refusal(f"{FULL}Exception", "exceeded", {})), "things").single(CALL)().verdicts
    for verdict in (of_statement, of_call, cancelled("None", FULL)):
        assert verdict.message.startswith(FULL) and "10 GB" in verdict.hint
    assert cancelled("None", "ValidationError").hint == ""


def test_verdicts_keep_the_order_of_their_statements() -> None:
    errors = [None, "ConditionalCheckFailed", None, "ThrottlingError", "InternalServerError", "ValidationError"]
    service = saying(Responses=[{"Error": {"Code": code}} if code else {"TableName": "things"} for code in errors])
    outcomes = [verdict.outcome for verdict in Writes(service, "things").batch(statements(6))().verdicts]
    assert outcomes == ["done", "conflict", "done", "throttled", "doubt", "rejected"]


# ---------------------------------------------------------------- transactions


def cancelled(*codes: str) -> Verdict:
    reasons = [{"Code": code, "Message": f"{code}: why"} if code != "None" else {"Code": "None"} for code in codes]
    refusal = Refusal("TransactionCanceledException", "look at the reasons", {"CancellationReasons": reasons})
    return Writes(raising(refusal), "things").single(Call("TransactWriteItems", {}))().verdicts[0]


@pytest.mark.parametrize(
    ("codes", "outcome"),
    [
        (("ConditionalCheckFailed", "None"), "conflict"),
        (("None", "DuplicateItem"), "conflict"),
        (("None", "TransactionConflict"), "contended"),
        (("ProvisionedThroughputExceeded", "None"), "throttled"),
        (("ConditionalCheckFailed", "ThrottlingError"), "throttled"),  # a conflict only where nothing else is amiss
        (("ConditionalCheckFailed", "ValidationError"), "rejected"),
        (("ThrottlingError", "ValidationError"), "rejected"),
        (("ConditionalCheckFailed", "InternalServerError"), "doubt"),
        (("ItemCollectionSizeLimitExceeded", "None"), "rejected"),
        ((), "conflict"),
    ],
    ids=str,
)
def test_a_cancelled_transaction_by_its_reasons(codes: tuple[str, ...], outcome: str) -> None:
    assert cancelled(*codes).outcome == outcome


def test_a_rejected_transaction_has_the_message_of_its_reason() -> None:
    assert cancelled("None", "ValidationError").message == "ValidationError: why"


def test_a_cancellation_for_lack_of_permission_stops_the_run() -> None:
    with pytest.raises(ServiceError, match="AccessDenied"):
        cancelled("None", "AccessDenied")


def test_a_transaction_is_sent_again_under_the_same_token() -> None:
    service = raising(InDoubt("reset"))
    writes = Writes(service, "things")
    one, other = Call("TransactWriteItems", {"TransactItems": []}), Call("TransactWriteItems", {"TransactItems": []})
    for call in (one, one, other):
        writes.single(call)()
    tokens = [body["ClientRequestToken"] for body in service.bodies]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(0 < len(token) <= 36 for token in tokens)
    writes.single(CALL)()
    assert "ClientRequestToken" not in service.bodies[-1]


# ---------------------------------------------------------------- what does not fit into one request


@given(st.lists(st.integers(0, 60), min_size=1, max_size=25))
def test_too_large_a_batch_is_split_and_nothing_is_sent_twice(sizes: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "MAX_REQUEST_BYTES", 400)
        service = Service(even_ones)
        answer = Writes(service, "things").batch(statements(0, *sizes))()
    assert answer.verdicts == [Verdict("conflict" if number % 2 else "done") for number in range(len(sizes))]
    assert [text for texts in service.sent() for text in texts] == [s.text for s in statements(0, *sizes)]
    assert all(len(orjson.dumps(body)) <= 400 or len(body["Statements"]) == 1 for body in service.bodies)
    assert answer.wcu == 2.0 * len(service.bodies)


def answered_or_not(*failures: Exception | None) -> tuple[Writes, list[int]]:
    """A service whose requests fail in turn, when they are sent (ServiceError) or when they are answered; and the
    numbers of the requests that were awaited."""
    numbers, awaited = iter(range(9)), list[int]()

    def begin(operation: str, body: bytes) -> Callable[[], dict[str, Any]]:
        number = next(numbers)
        failure = failures[number]
        if isinstance(failure, ServiceError):
            raise failure

        def answer() -> dict[str, Any]:
            awaited.append(number)
            if failure is not None:
                raise failure
            return {"Responses": [{}]}

        return answer

    return Writes(SimpleNamespace(begin=begin), "things"), awaited  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failures", "awaited"),
    [
        ((Refusal("AccessDenied", "no", {}), None), [0, 1]),
        ((Refusal("AccessDenied", "no", {}), Refusal("AccessDenied", "no", {})), [0, 1]),
        ((None, ServiceError("the credentials could not be renewed")), [0]),
    ],
)
def test_both_halves_of_a_divided_batch_are_awaited(
    failures: tuple[Exception | None, ...], awaited: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is left must have no request in flight: an undo could overtake it."""
    monkeypatch.setattr(batch, "MAX_REQUEST_BYTES", 10)
    writes, found = answered_or_not(*failures)
    with pytest.raises(ServiceError):
        writes.batch(statements(0, 0, 0))()
    assert found == awaited


@pytest.mark.parametrize("code", sorted(batch._WHOLE))
def test_a_failure_of_a_whole_batch_leaves_each_statement_in_doubt(code: str) -> None:
    """The others may have been carried out. They are sent again in smaller batches, until the faulty one is alone."""
    service = raising(Refusal(code, "one of them", {}))
    answer = Writes(service, "things").batch(statements(3))()
    assert [verdict.outcome for verdict in answer.verdicts] == ["doubt"] * 3 and answer.whole
    assert len(service.bodies) == 1


def test_a_statement_that_is_refused_alone_is_rejected() -> None:
    writes = Writes(raising(Refusal("ValidationException", "too wide", {})), "things")
    assert writes.batch(statements(1))().verdicts == [Verdict("rejected", None, "too wide")]


# ---------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("consumed", "wcu"),
    [(None, None), ([], 0.0), ([{"CapacityUnits": 2.0}, {"CapacityUnits": 1.5}], 3.5), ({"CapacityUnits": 4.0}, 4.0),
     ([{"TableName": "x"}], 0.0)],
    ids=str,
)  # fmt: skip
def test_units_are_those_that_the_service_reports(consumed: Any, wcu: float | None) -> None:
    said = {} if consumed is None else {"ConsumedCapacity": consumed}
    assert Writes(saying(Responses=[{}], **said), "things").batch(statements(1))().wcu == wcu
    assert Writes(saying(**said), "things").single(CALL)().wcu == wcu


def test_a_batch_requests_the_current_items_and_the_units() -> None:
    service = Service(all_well)
    Writes(service, "things").batch([Statement("s", [{"N": "1"}])])()
    entry = {"Statement": "s", "Parameters": [{"N": "1"}], "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    assert service.bodies == [{"Statements": [entry], "ReturnConsumedCapacity": "INDEXES"}]
