"""The reads of the data plane: scan pages, and items by key. Retried here, since reading twice harms nobody."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dynamodt.aws.batch import MAX_KEYS, Caller
from dynamodt.aws.failures import service_error
from dynamodt.aws.wire import InDoubt, Refusal, Throttled
from dynamodt.core.codec import normal
from dynamodt.core.diff import key_of
from dynamodt.core.rate import Backoff
from dynamodt.errors import ServiceError
from dynamodt.model import Image, TableSpec


class ScanPage(NamedTuple):
    """One answer to Scan; `cursor` is where the next one starts, None at the segment's end."""

    images: list[Image]
    cursor: Image | None
    rcu: float
    throttles: int = 0  # refusals for its rate before it was given


class Reads:
    """Reads of one table, with back-off on throttles, resets and 5xx until `backoff` is exhausted (ServiceError)."""

    def __init__(
        self,
        wire: Caller,
        table: TableSpec,
        *,
        backoff: Backoff = Backoff(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wire = wire
        self._table = table
        self._backoff = backoff
        self._sleep = sleep

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
        answer = self.call("Scan", body)
        rcu = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
        return ScanPage(answer["Items"], answer.get("LastEvaluatedKey"), rcu)

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
                    attempt = self._wait(attempt, "BatchGetItem leaves keys unprocessed")
                left = unprocessed
        return found

    def _some(self, keys: list[Image]) -> tuple[list[Image], list[Image]]:
        """What one request gives of these items, and the keys that it leaves."""
        name = self._table.name
        answer = self.call("BatchGetItem", {"RequestItems": {name: {"Keys": keys, "ConsistentRead": True}}})
        return answer["Responses"].get(name, []), answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """One read, retried. Raises ServiceError when the service refuses it or stays out of reach."""
        attempt = 1
        while True:
            try:
                return self._wire.call(operation, body)
            except Refusal as refusal:
                where = f"table {self._table.name}"
                raise service_error(operation, where, refusal.code, refusal.message) from refusal
            except (Throttled, InDoubt) as error:
                attempt = self._wait(attempt, str(error))

    def _wait(self, attempt: int, why: str) -> int:
        if self._backoff.exhausted(attempt):
            raise ServiceError(
                f"gave up after {attempt} tries: {why}",
                where=f"table {self._table.name}",
                hint="the table is out of reach or throttled: raise its capacity or run again later",
            )
        self._sleep(self._backoff.delay(attempt, random.random))
        return attempt + 1


def key_text(key: Image) -> str:
    """A key as a string that can index a dict: `{"id": {"N": "1.0"}}` and `{"id": {"N": "1"}}` are one key."""
    parts = ((name, kind, raw) for name in sorted(key) for kind, raw in key[name].items())
    return repr([(name, kind, str(normal(raw)) if kind == "N" else raw) for name, kind, raw in parts])
