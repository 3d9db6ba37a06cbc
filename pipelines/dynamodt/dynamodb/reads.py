"""Reads of one table: scan pages, items by key, and whole tables or indexes, with retries."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, NamedTuple, Protocol

from dynamodt.dynamodb.clients import service_error
from dynamodt.dynamodb.wire import THROTTLED, Refusal, RetriedResponse, RetryingWire, Wire
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model.tables import Image, TableSpec, name_in_requests
from dynamodt.rate import REQUEST_SECONDS, Backoff
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of

MAX_KEYS = 100  # of one BatchGetItem
_FULL_ANSWER = 3_900.0  # units of its 16 MB, strongly consistent, without an item of 400 KB that did not fit
_PATHS = 'name attributes, or paths within them: projection=["id", "address.city", "tags[0]"]'
_PIECE = re.compile(r"([^.\[\]]+)((?:\[\d+\])*)")


_SEGMENT_BYTES = 64 * 1024 * 1024
_SEGMENTS_PER_WORKER = 4
_SEGMENT_ITEMS = 2_500  # in a small table
_MOST_FOR_ITEMS = 64
_MAX_SEGMENTS = 10_000


def segments(spec: TableSpec, workers: int = 1) -> int:
    """The number of segments of a table. A segment has about 64 MB, which spreads a split group over partitions, at the
    cost of one row each. A small table has smaller segments, so that each worker and each split group has several."""
    least = max(_SEGMENTS_PER_WORKER * workers, min(_MOST_FOR_ITEMS, spec.item_count // _SEGMENT_ITEMS))
    return min(_MAX_SEGMENTS, max(least, spec.size_bytes // _SEGMENT_BYTES))


IN_FLIGHT = 8  # pages of a whole scan in flight, of at most 1 MB each
_LIMITED_SECONDS = 1.0  # of the budget, for a page without a limit of its own
_MOST_ITEMS = 1000  # of such a page
_PAGE_UNITS = 128.0  # of 1 MB, eventually consistent; more, by the last item, is charged afterwards


class ScanPage(NamedTuple):
    """One response to Scan. `cursor` is the start of the next one; None at the segment's end. `evaluated` counts the
    items before a filter."""

    images: list[Image]
    cursor: Image | None
    rcu: float
    throttles: int = 0  # before the response
    evaluated: int = 0


class FoundItems(NamedTuple):
    """Items by `key_text`, and the read units of reading them."""

    items: dict[str, Image]
    rcu: float


class RateLimitedQueue(Protocol):
    """A budget: delays a request until its turn, and records its cost; implemented in `pipeline.rate_limit`."""

    @property
    def limited(self) -> bool: ...

    def within(self, seconds: float, estimate: float) -> float: ...

    def enter(self, estimate: float, most: float = inf) -> float: ...

    def leave(self, taken: float, estimate: float, units: float) -> None: ...

    def throttled(self, times: int = 1) -> None: ...


class UnlimitedQueue:
    """No budget: every request passes at once."""

    limited = False

    def within(self, seconds: float, estimate: float) -> float:
        return inf

    def enter(self, estimate: float, most: float = inf) -> float:
        return 0.0

    def leave(self, taken: float, estimate: float, units: float) -> None:
        pass

    def throttled(self, times: int = 1) -> None:
        pass


class Scans:
    """Pages of the segments of a table or index, with the parameters `body` of its Scan, and with retries.

    `units` estimates the read units of a number of items; `where` is the place in errors.
    """

    def __init__(
        self,
        wire: Wire,
        body: dict[str, Any],
        where: str,
        rate_queue: RateLimitedQueue,
        units: Callable[[int], float],
        *,
        backoff: Backoff = Backoff(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._body = {**body, "ReturnConsumedCapacity": "TOTAL"}
        self._where = where
        self._rate_queue = rate_queue
        self._units = units
        self._sleep = sleep
        self._closing = False
        self._most_units = _PAGE_UNITS * (2 if body.get("ConsistentRead") else 1)
        self._calls = RetryingWire(wire, where, backoff=backoff, sleep=self._rest, throttled=rate_queue.throttled)

    def begin(self, segment: int, total: int, cursor: Image | None, limit: int | None = None) -> Callable[[], ScanPage]:
        """Requests a page once the budget allows it: at most `limit` items (None: as many as the budget covers in a
        second) and 1 MB. The function that it returns waits for the page. Raises ServiceError."""
        body = {**self._body, "Segment": segment, "TotalSegments": total}
        limit = limit or self.page_items()
        if limit is not None:
            body["Limit"] = limit
        if cursor is not None:
            body["ExclusiveStartKey"] = cursor
        taken = self._rate_queue.enter(self._units(limit or 0), self._most_units)
        return partial(self._page, taken, self._calls.begin("Scan", body))

    def page_items(self) -> int | None:
        """The number of items that the budget covers in a second, at most 1,000; None without a budget."""
        if not self._rate_queue.limited:
            return None
        return max(1, int(min(_MOST_ITEMS, self._rate_queue.within(_LIMITED_SECONDS, self._units(1)))))

    def close(self, sent: Iterable[Callable[[], ScanPage]]) -> None:
        """Awaits the requests that were sent, without sending any again."""
        self._closing = True
        for answered in sent:
            with suppress(Exception):
                answered()

    def _page(self, taken: float, answered: Callable[[], RetriedResponse]) -> ScanPage:
        try:
            answer, throttles = answered()
        except Refusal as refusal:
            raise service_error("Scan", self._where, refusal.code, refusal.message) from refusal
        rcu = answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0)
        images = answer["Items"]
        evaluated = answer.get("ScannedCount", len(images))
        self._rate_queue.leave(taken, self._units(evaluated), rcu)
        return ScanPage(images, answer.get("LastEvaluatedKey"), rcu, throttles, evaluated)

    def _rest(self, seconds: float) -> None:
        if self._closing:
            raise ServiceError("the scan is closed", where=self._where)
        self._sleep(seconds)


class Reads:
    """Reads of one table, with the retries of `RetryingWire`. Raises ServiceError.

    `units` estimates the read units of a number of items.
    """

    def __init__(
        self,
        wire: Wire,
        table: TableSpec,
        *,
        rate_queue: RateLimitedQueue = UnlimitedQueue(),
        units: Callable[[int], float] = float,
        backoff: Backoff = Backoff(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._where = f"table {table.name}"
        self._rate_queue = rate_queue
        self._units = units
        self._calls = RetryingWire(wire, self._where, backoff=backoff, sleep=sleep, throttled=rate_queue.throttled)
        body = {"TableName": name_in_requests(table.name)}
        self._scans = [
            Scans(wire, {**body, "ConsistentRead": c}, self._where, rate_queue, units, backoff=backoff, sleep=sleep)
            for c in (False, True)
        ]

    def scan(self, segment: int, total: int, cursor: Image | None, limit: int, consistent: bool) -> ScanPage:
        """The next page of a segment: at most `limit` items and 1 MB."""
        return self._scans[consistent].begin(segment, total, cursor, limit)()

    def items(self, keys: Sequence[Image]) -> FoundItems:
        """The current items of these keys, strongly consistent, without absent ones."""
        found: dict[str, Image] = {}
        total, start = 0.0, 0
        while start < len(keys):
            left, attempt = list(keys[start : start + self._most_keys()]), 1
            start += len(left)
            while left:
                images, unprocessed, rcu = self._some(left)
                total += rcu
                found.update((key_text(key_of(self._table, image)), image) for image in images)
                if unprocessed:
                    if rcu < _FULL_ANSWER:
                        self._rate_queue.throttled()
                    attempt = 1 if len(unprocessed) < len(left) else attempt
                    attempt = self._calls.wait(attempt, "BatchGetItem leaves keys unprocessed", THROTTLED)
                left = unprocessed
        return FoundItems(found, total)

    def _most_keys(self) -> int:
        """The most keys of one request: as many as the rate covers in a few seconds."""
        return max(1, int(min(MAX_KEYS, self._rate_queue.within(REQUEST_SECONDS, 2.0 * self._units(1)))))

    def _some(self, keys: list[Image]) -> tuple[list[Image], list[Image], float]:
        """The items that one request returns, the keys that it leaves unprocessed, and its cost."""
        name = name_in_requests(self._table.name)
        wanted = {name: {"Keys": keys, "ConsistentRead": True}}
        estimate = max(1.0, 2.0 * self._units(len(keys)))  # strongly consistent reads cost twice
        taken = self._rate_queue.enter(estimate)
        answer, _ = self._call("BatchGetItem", {"RequestItems": wanted, "ReturnConsumedCapacity": "TOTAL"})
        rcu = sum(consumed.get("CapacityUnits", 0.0) for consumed in answer.get("ConsumedCapacity", ()))
        self._rate_queue.leave(taken, 0.0, rcu)
        unprocessed = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
        return answer["Responses"].get(name, []), unprocessed, rcu

    def _call(self, operation: str, body: dict[str, Any]) -> RetriedResponse:
        """One read. Raises ServiceError when the service refuses it or all tries fail."""
        try:
            return self._calls.call(operation, body)
        except Refusal as refusal:
            raise service_error(operation, self._where, refusal.code, refusal.message) from refusal


class WholeScan:
    """All items of a table or index, by the parameters `body` of its Scan.

    IN_FLIGHT segments are read at once by one thread, with at most one page of each in memory. `item_units` are the
    read units of an item; `where` is the place in errors. Raises ServiceError from the iteration.
    """

    def __init__(
        self,
        wire: Wire,
        body: dict[str, Any],
        segments: int,
        where: str,
        rate_queue: RateLimitedQueue = UnlimitedQueue(),
        item_units: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._segments = segments
        self._scans = Scans(wire, body, where, rate_queue, lambda items: items * item_units, sleep=sleep)

    def items(self) -> Generator[Image, None, None]:
        """The items, in any order. Closing the iterator awaits the requests in flight and sends no more."""
        due: deque[tuple[int, Image | None]] = deque((number, None) for number in range(self._segments))
        sent: deque[tuple[int, Callable[[], ScanPage]]] = deque()
        try:
            while due or sent:
                while due and len(sent) < IN_FLIGHT:
                    segment, cursor = due.popleft()
                    sent.append((segment, self._scans.begin(segment, self._segments, cursor)))
                segment, answered = sent.popleft()
                page = answered()
                if page.cursor is not None:
                    due.appendleft((segment, page.cursor))
                yield from page.images
        finally:
            self._scans.close(answered for _, answered in sent)


def projected(names: Sequence[str], where: str) -> dict[str, Any]:
    """The parameters of a request for these attributes, or paths within them: `address.city`, `tags[0]`.

    Raises UsageError for a text that is not such a path, and for anything but a list of at least one: a single text
    would be read letter by letter, and DynamoDB refuses an empty expression.
    """
    if isinstance(names, str) or not names:
        raise UsageError(f"projection is {names!r}, and must be a list of attributes", where=where, hint=_PATHS)
    placeholders: dict[str, str] = {}
    paths = [_placed(path, placeholders, where) for path in names]
    return {
        "ProjectionExpression": ", ".join(paths),
        "ExpressionAttributeNames": {place: name for name, place in placeholders.items()},
    }


def _placed(path: str, placeholders: dict[str, str], where: str) -> str:
    pieces = [_PIECE.fullmatch(piece) for piece in path.split(".")] if isinstance(path, str) else [None]
    if None in pieces:
        raise UsageError(f"projection has {path!r}, which is not the path of an attribute", where=where, hint=_PATHS)
    found = [(piece[1], piece[2]) for piece in pieces if piece is not None]
    return ".".join(placeholders.setdefault(name, f"#{len(placeholders)}") + places for name, places in found)
