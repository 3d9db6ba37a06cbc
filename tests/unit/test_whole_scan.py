"""A scan of a whole table by one thread, with several requests in flight, a budget, and an early end."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from dynamodt.dynamodb.reads import IN_FLIGHT, WholeScan, projected
from dynamodt.dynamodb.wire import Refusal, Throttled
from dynamodt.errors import ServiceError, UsageError
from dynamodt.pipeline.rate_limit import RampedQueue

pytestmark = pytest.mark.unit

PAGES = 3


class Table:
    """Each segment has three pages of two items. Counts the requests, and those in flight."""

    def __init__(self, fail: Callable[[int], None] = lambda number: None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answered = 0
        self.most = 0
        self.fail = fail

    def begin(self, operation: str, body: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        assert operation == "Scan"
        self.requests.append(body)
        self.most = max(self.most, len(self.requests) - self.answered)
        number = len(self.requests)
        return lambda: self.answer(number, body)

    def answer(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        self.answered += 1
        self.fail(number)
        page = int(body.get("ExclusiveStartKey", {"n": {"N": "0"}})["n"]["N"])
        items = [{"id": {"S": f"{body['Segment']}-{page}-{one}"}} for one in range(2)]
        last = {"LastEvaluatedKey": {"n": {"N": str(page + 1)}}} if page + 1 < PAGES else {}
        return {"Items": items, "ScannedCount": 2, "ConsumedCapacity": {"CapacityUnits": 1.0}, **last}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def scan(table: Any, segments: int, limiter: RampedQueue | None = None, clock: Clock | None = None) -> WholeScan:
    clock = clock or Clock()
    limiter = limiter or RampedQueue(inf, inf, clock, clock.sleep)
    return WholeScan(table, {"TableName": "users"}, segments, "table users", limiter, 0.5, clock.sleep)


@pytest.mark.parametrize("segments", [1, IN_FLIGHT, 3 * IN_FLIGHT])
def test_each_item_is_read_once_with_few_pages_in_memory(segments: int) -> None:
    table = Table()
    items = [image["id"]["S"] for image in scan(table, segments).items()]
    assert sorted(items) == sorted(f"{s}-{p}-{one}" for s in range(segments) for p in range(PAGES) for one in range(2))
    assert table.most == min(segments, IN_FLIGHT) and len(table.requests) == segments * PAGES


@pytest.mark.parametrize("end", ["close", "forget", "raise"])
def test_an_early_end_sends_nothing_more_and_leaves_no_thread(end: str) -> None:
    table, threads = Table(), set(threading.enumerate())
    items = scan(table, 40).items()
    next(items)
    sent = len(table.requests)
    if end == "close":
        items.close()
    elif end == "forget":
        del items
        gc.collect()
    else:
        with pytest.raises(ValueError, match="mine"):
            items.throw(ValueError("mine"))
    assert (len(table.requests), table.answered) == (sent, sent)
    assert set(threading.enumerate()) <= threads  # those of other tests may end meanwhile


def test_requests_in_flight_at_an_early_end_are_not_retried() -> None:
    def fail(number: int) -> None:
        if number > 1:
            raise Throttled("slow down")

    table = Table(fail)
    items = scan(table, 40).items()
    next(items)
    items.close()
    assert len(table.requests) == IN_FLIGHT == table.answered


def test_a_throttle_is_retried_and_a_refusal_raised() -> None:
    table = Table(lambda number: (_ for _ in ()).throw(Throttled("slow down")) if number == 1 else None)
    assert len(list(scan(table, 1).items())) == 2 * PAGES
    refused = Table(lambda number: (_ for _ in ()).throw(Refusal("AccessDeniedException", "no", {})))
    with pytest.raises(ServiceError, match=r"table users: Scan was refused: AccessDeniedException") as caught:
        list(scan(refused, 1).items())
    assert "grant" in caught.value.hint


def test_a_scan_keeps_to_its_budget_with_pages_as_large_as_it_allows() -> None:
    clock, table = Clock(), Table()
    limiter = RampedQueue(2.0, 0.5, clock, clock.sleep)
    assert len(list(scan(table, 4, limiter, clock).items())) == 8 * PAGES
    assert clock.now >= 4 * PAGES / 2.0  # units, at 2 a second
    assert {body["Limit"] for body in table.requests} <= set(range(1, 5))


def test_the_rate_grows_while_it_is_used_and_falls_on_a_throttle() -> None:
    clock = Clock()
    limiter = RampedQueue(1000.0, 10.0, clock, clock.sleep)

    def use(seconds: float) -> float:
        end, used = clock.now + seconds, 0.0
        while clock.now < end:
            limiter.leave(limiter.enter(5.0), 5.0, 5.0)
            used += 5.0
        return used / seconds

    before, after = use(1.0), (use(30.0), use(5.0))[1]
    assert before <= 10.0 < 50.0 < after <= 1000.0
    limiter.throttled()
    use(2.0)
    assert use(2.0) < after


def test_a_projection_takes_paths_and_names_what_is_none() -> None:
    found = projected(["id", "address.city", "tags[0]", "address.zip"], "here")
    assert found["ProjectionExpression"] == "#0, #1.#2, #3[0], #1.#4"
    assert found["ExpressionAttributeNames"] == {"#0": "id", "#1": "address", "#2": "city", "#3": "tags", "#4": "zip"}
    for path in ("", "a..b", "a[x]", "[0]", 7):
        with pytest.raises(UsageError, match="here: projection has") as caught:
            projected([path], "here")  # type: ignore[list-item]
        assert repr(path) in caught.value.what
    for wrong in ("id", []):
        with pytest.raises(UsageError, match="here: projection is") as caught:
            projected(wrong, "here")
        assert repr(wrong) in caught.value.what and "address.city" in caught.value.hint
