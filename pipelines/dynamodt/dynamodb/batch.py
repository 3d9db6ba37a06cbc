"""Batches of writes, with a verdict for each write: conditional writes are PartiQL statements, others a BatchWriteItem.

Only this module interprets the error codes of writes. A verdict is one of: done, conflict (the condition failed, or
another region writes the item at this moment), throttled (without effect, for its rate), contended (without effect,
since a transaction of another client has the item), unsent (without effect, since there is no connection), doubt (the
write may have taken effect), rejected (the service does not accept it).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, NamedTuple

import orjson

from dynamodt.dynamodb.clients import service_error
from dynamodt.dynamodb.wire import (
    BatchWrite,
    Call,
    Contended,
    InDoubt,
    Refusal,
    Statement,
    Throttled,
    Unsent,
    Wire,
    is_contention,
    is_doubt,
    is_throttle,
)
from dynamodt.errors import ServiceError
from dynamodt.model.tables import Image, name_in_requests
from dynamodt.script.codec import key_text

MAX_REQUEST_BYTES = 4 * 1024 * 1024  # far below the service's 16 MB, and enough for ten of the largest items

Outcome = Literal["done", "conflict", "throttled", "contended", "unsent", "doubt", "rejected"]

_CONFLICTS = frozenset(
    {
        "ConditionalCheckFailed",
        "ConditionalCheckFailedException",
        "DuplicateItem",
        "ReplicatedWriteConflict",  # of a global table
        "ReplicatedWriteConflictException",
    }
)
_INVALID = frozenset({"ValidationError", "ValidationException"})  # the message has the reason
_FULL = frozenset({"ItemCollectionSizeLimitExceeded", "ItemCollectionSizeLimitExceededException"})
_FULL_HINT = (
    "the items of its partition key, with their entries in local indexes, have the 10 GB that DynamoDB keeps of one "
    "key in such a table: delete some of them, or move them to other keys, and replay the dead letter"
)
# Errors due to one write, reported for all: smaller batches isolate it. DynamoDB Local then has executed some writes.
_WHOLE = frozenset(
    {
        "ValidationException",
        "SerializationException",
        "RequestEntityTooLarge",
        "HTTP413",
        "ItemCollectionSizeLimitExceededException",
        "ReplicatedWriteConflictException",
    }
)


class Verdict(NamedTuple):
    """The outcome of one write. `image` is the current item, if a refusal returns it; `hint` is the next step if the
    outcome lasts."""

    outcome: Outcome
    image: Image | None = None
    message: str = ""
    hint: str = ""


DONE = Verdict("done")


class BatchAnswer(NamedTuple):
    """The verdicts of one request, in order, and its write units as the service reports them (None: not reported).
    `whole`: all verdicts are the request's own; smaller requests may have better ones."""

    verdicts: list[Verdict]
    wcu: float | None
    whole: bool = False


Coming = Callable[[], BatchAnswer]  # waits for the response to a request


class Writes:
    """Sends writes to one table. The functions that `batch` and `single` return wait for the response; they raise
    ServiceError for errors that no retry resolves (no permission, no table). Units of transactions on the table
    `uncounted` are not counted. `answered` is called with the number of writes of each request, and its seconds."""

    def __init__(
        self, wire: Wire, table: str, uncounted: str = "", answered: Callable[[int, float], None] | None = None
    ) -> None:
        self._answered = answered
        self._wire = wire
        self._name = name_in_requests(table)
        self.where = f"table {table}"
        self._uncounted = uncounted

    def batch(self, writes: Sequence[Statement] | Sequence[BatchWrite]) -> Coming:
        """Sends up to 25 writes of one kind in one request, or in several when they exceed 4 MB together."""
        operation, body = self._request(writes)
        payload = orjson.dumps(body)
        if len(payload) > MAX_REQUEST_BYTES and len(writes) > 1:
            return self._halves(writes)
        return self._timed(len(writes), partial(self._answers, operation, writes, self._wire.begin(operation, payload)))

    def _timed(self, writes: int, coming: Coming) -> Coming:
        if self._answered is None:
            return coming
        return partial(_timed, self._answered, writes, time.monotonic(), coming)

    def _request(self, writes: Sequence[Statement] | Sequence[BatchWrite]) -> tuple[str, dict[str, Any]]:
        if isinstance(writes[0], Statement):
            return "BatchExecuteStatement", _statements(writes)
        items = {self._name: [write[1] for write in writes]}
        return "BatchWriteItem", {"RequestItems": items, "ReturnConsumedCapacity": "INDEXES"}

    def _halves(self, writes: Sequence[Any]) -> Coming:
        """Sends two requests. If the second cannot be sent (credentials cannot be renewed), the first is still
        awaited."""
        middle = len(writes) // 2
        first = self.batch(writes[:middle])
        try:
            return partial(_together, first, self.batch(writes[middle:]))
        except ServiceError:
            with suppress(ServiceError):
                first()
            raise

    def _answers(self, operation: str, writes: Sequence[Any], answered: Callable[[], dict[str, Any]]) -> BatchAnswer:
        try:
            answer = answered()
        except Refusal as refusal:
            if refusal.code in _WHOLE and len(writes) > 1:
                return BatchAnswer([Verdict("doubt", None, str(refusal))] * len(writes), None, whole=True)
            return BatchAnswer([self._verdict_of_refusal(operation, refusal)] * len(writes), None)
        except (Throttled, Unsent, InDoubt) as error:
            whole = not isinstance(error, Unsent)
            return BatchAnswer([_verdict_without_answer(error)] * len(writes), 0.0, whole)
        units = _units(answer.get("ConsumedCapacity"))
        if operation == "BatchWriteItem":
            return BatchAnswer(_verdicts_of_items(writes, answer), units)
        failures = [response.get("Error") for response in answer["Responses"]]
        return BatchAnswer([DONE if one is None else self._failure(one) for one in failures], units)

    def single(self, call: Call) -> Coming:
        """Sends one UpdateItem, PutItem, DeleteItem or TransactWriteItems, the last with a token that makes it safe to
        retry."""
        if call.operation == "TransactWriteItems":
            call.body.setdefault("ClientRequestToken", uuid.uuid4().hex)
        return self._timed(1, partial(self._only_answer, call.operation, self._wire.begin(call.operation, call.body)))

    def _only_answer(self, operation: str, answered: Callable[[], dict[str, Any]]) -> BatchAnswer:
        try:
            answer = answered()
        except Refusal as refusal:
            return BatchAnswer([self._verdict_of_refusal(operation, refusal)], None)
        except (Throttled, Unsent, InDoubt) as error:
            return BatchAnswer([_verdict_without_answer(error)], 0.0)
        return BatchAnswer([DONE], _units(answer.get("ConsumedCapacity"), self._uncounted))

    def _failure(self, error: dict[str, Any]) -> Verdict:
        return self._verdict("BatchExecuteStatement", error["Code"], error.get("Message", ""), error.get("Item"))

    def _verdict_of_refusal(self, operation: str, refusal: Refusal) -> Verdict:
        if refusal.code == "TransactionCanceledException":
            return self._verdict_of_cancellation(refusal)
        return self._verdict(operation, refusal.code, refusal.message, refusal.answer.get("Item"))

    def _verdict_of_cancellation(self, refusal: Refusal) -> Verdict:
        reasons = [r for r in refusal.answer.get("CancellationReasons", ()) if r.get("Code", "None") != "None"]
        found_reasons = [(reason["Code"], reason.get("Message") or refusal.message) for reason in reasons]
        verdicts = [self._verdict("TransactWriteItems", code, message, None) for code, message in found_reasons]
        for outcome in ("rejected", "throttled", "contended", "doubt"):  # a conflict is final only without others
            found = [verdict for verdict in verdicts if verdict.outcome == outcome]
            if found:
                return found[0]
        return Verdict("conflict", None, refusal.message)

    def _verdict(self, operation: str, code: str, message: str, image: Image | None) -> Verdict:
        if code in _CONFLICTS:
            return Verdict("conflict", image or None, message)
        if is_contention(code):
            return Verdict("contended", None, f"{code}: {message}")
        if is_throttle(code):
            return Verdict("throttled", None, f"{code}: {message}")
        if is_doubt(code):
            return Verdict("doubt", None, f"{code}: {message}")
        if code in _FULL:
            return Verdict("rejected", None, f"{code}: {message}", _FULL_HINT)
        if code in _INVALID:
            return Verdict("rejected", None, message)
        raise service_error(operation, self.where, _long(code), message)


def _timed(answered: Callable[[int, float], None], writes: int, begun: float, coming: Coming) -> BatchAnswer:
    answer = coming()
    answered(writes, time.monotonic() - begun)
    return answer


def _together(first: Coming, second: Coming) -> BatchAnswer:
    try:
        one = first()
    finally:  # no request is left unanswered
        other = second()
    wcu = None if one.wcu is None or other.wcu is None else one.wcu + other.wcu
    return BatchAnswer(one.verdicts + other.verdicts, wcu, one.whole or other.whole)


def _statements(statements: Sequence[Any]) -> dict[str, Any]:
    entries = [
        {"Statement": text, "Parameters": parameters, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        for text, parameters in statements
    ]
    return {"Statements": entries, "ReturnConsumedCapacity": "INDEXES"}


def _verdicts_of_items(writes: Sequence[BatchWrite], answer: dict[str, Any]) -> list[Verdict]:
    """The verdicts of a BatchWriteItem. An unprocessed write was throttled, or exceeded the size of one answer: it had
    no effect."""
    left = [one for requests in answer.get("UnprocessedItems", {}).values() for one in requests]
    if not left:
        return [DONE] * len(writes)
    names = tuple(writes[0].key)
    images = (one["PutRequest"]["Item"] if "PutRequest" in one else one["DeleteRequest"]["Key"] for one in left)
    unprocessed = {key_text({name: image[name] for name in names}) for image in images}
    again = Verdict("throttled", None, "BatchWriteItem leaves writes unprocessed")
    return [again if key_text(write.key) in unprocessed else DONE for write in writes]


def _verdict_without_answer(error: Throttled | Unsent | InDoubt) -> Verdict:
    if isinstance(error, Contended):
        return Verdict("contended", None, str(error))
    if isinstance(error, Throttled):
        return Verdict("throttled", None, str(error))
    return Verdict("unsent" if isinstance(error, Unsent) else "doubt", None, str(error), error.hint)


def _long(code: str) -> str:
    """The code with the suffix of request errors, which statement errors lack."""
    return code if code.endswith("Exception") or not code.isalpha() else code + "Exception"


def _units(consumed: Any, uncounted: str = "") -> float | None:
    if consumed is None:
        return None
    entries = consumed if isinstance(consumed, list) else [consumed]
    included = (entry for entry in entries if not uncounted or entry.get("TableName") != uncounted)
    return float(sum(entry.get("CapacityUnits", 0.0) for entry in included))
