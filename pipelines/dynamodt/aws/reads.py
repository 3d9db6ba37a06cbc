"""The reads of the data plane: scan pages, and items by key. Retried here, since reading twice harms nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from dynamodt.aws.batch import MAX_KEYS, Caller
from dynamodt.aws.failures import service_error
from dynamodt.aws.retried import Answered, Retried
from dynamodt.aws.wire import Refusal
from dynamodt.core.diff import key_of
from dynamodt.core.keys import key_text
from dynamodt.core.rate import Backoff
from dynamodt.model import Image, TableSpec


class ScanPage(NamedTuple):
    """One answer to Scan; `cursor` is where the next one starts, None at the segment's end."""

    images: list[Image]
    cursor: Image | None
    rcu: float
    throttles: int = 0  # refusals for its rate before it was given


class Flow(Protocol):
    """A budget: waits for a request's turn, and is told what it cost. `stages.governor` has the real one."""

    @property
    def limited(self) -> bool: ...

    def enter(self, estimate: float) -> float: ...

    def leave(self, taken: float, estimate: float, units: float) -> None: ...

    def throttled(self, times: int = 1) -> None: ...


class Free:
    """No budget: everything passes at once."""

    limited = False

    def enter(self, estimate: float) -> float:
        return 0.0

    def leave(self, taken: float, estimate: float, units: float) -> None:
        pass

    def throttled(self, times: int = 1) -> None:
        pass


class Reads:
    """Reads of one table, with back-off on throttles, resets and 5xx until `backoff` is exhausted (ServiceError).

    `units` says how many read units so many items of the table take, by estimate. `rcu` adds up what the reads by key
    have cost; a scan page carries its own cost.
    """

    def __init__(
        self,
        wire: Caller,
        table: TableSpec,
        *,
        flow: Flow = Free(),
        units: Callable[[int], float] = float,
        backoff: Backoff = Backoff(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._where = f"table {table.name}"
        self._flow = flow
        self._units = units
        self._calls = Retried(wire, self._where, backoff=backoff, sleep=sleep, throttled=flow.throttled)
        self.rcu = 0.0

    def scan(self, segment: int, total: int, cursor: Image | None, limit: int, consistent: bool) -> ScanPage:
        """The next page of a segment: at most `limit` items and 1 MB."""
        body: dict[str, Any] = {
            "TableName": self._table.name,
            "Segment": segment,
            "TotalSegments": total,
            "Limit": limit,
            "ConsistentRead": consistent,
            "ReturnConsumedCapacity": "TOTAL",
        }
        if cursor is not None:
            body["ExclusiveStartKey"] = cursor
        taken = self._flow.enter(self._units(limit))
        answer, throttles = self._call("Scan", body)
        rcu = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
        self._flow.leave(taken, self._units(len(answer["Items"])), rcu)
        return ScanPage(answer["Items"], answer.get("LastEvaluatedKey"), rcu, throttles)

    def items(self, keys: Sequence[Image]) -> dict[str, Image]:
        """The current items of these keys, strongly consistent, by `key_text`; an absent item is left out."""
        found: dict[str, Image] = {}
        for start in range(0, len(keys), MAX_KEYS):
            left, attempt = list(keys[start : start + MAX_KEYS]), 1
            while left:
                images, unprocessed = self._some(left)
                found.update((key_text(key_of(self._table, image)), image) for image in images)
                if unprocessed:  # the answer's 16 MB are full, or the table is throttled
                    attempt = 1 if len(unprocessed) < len(left) else attempt
                    attempt = self._calls.wait(attempt, "BatchGetItem leaves keys unprocessed")
                left = unprocessed
        return found

    def _some(self, keys: list[Image]) -> tuple[list[Image], list[Image]]:
        """What one request gives of these items, and the keys that it leaves."""
        name = self._table.name
        wanted = {name: {"Keys": keys, "ConsistentRead": True}}
        estimate = max(1.0, 2.0 * self._units(len(keys)))  # consistent, where scans mostly are not
        taken = self._flow.enter(estimate)
        answer, _ = self._call("BatchGetItem", {"RequestItems": wanted, "ReturnConsumedCapacity": "TOTAL"})
        rcu = sum(consumed.get("CapacityUnits", 0.0) for consumed in answer.get("ConsumedCapacity", ()))
        self._flow.leave(taken, 0.0, rcu)
        self.rcu += rcu
        return answer["Responses"].get(name, []), answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])

    def _call(self, operation: str, body: dict[str, Any]) -> Answered:
        """One read. Raises ServiceError when the service refuses it or stays out of reach."""
        try:
            return self._calls.call(operation, body)
        except Refusal as refusal:
            raise service_error(operation, self._where, refusal.code, refusal.message) from refusal
