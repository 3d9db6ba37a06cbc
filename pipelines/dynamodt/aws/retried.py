"""Calls that may be carried out twice without harm, sent again until they are answered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from dynamodt.aws.batch import Caller
from dynamodt.aws.wire import InDoubt, Throttled
from dynamodt.core.rate import Backoff
from dynamodt.errors import ServiceError


class Answered(NamedTuple):
    """An answer, and how often the call was refused for its rate before."""

    answer: dict[str, Any]
    throttles: int


class Retried:
    """Calls of one table, with back-off on throttles, resets and 5xx until `backoff` is exhausted (ServiceError at
    `where`). The service's own refusal is raised as it is. `throttled` is told of each refusal for its rate."""

    def __init__(
        self,
        wire: Caller,
        where: str,
        *,
        backoff: Backoff = Backoff(),
        sleep: Callable[[float], None] = time.sleep,
        throttled: Callable[[], None] = lambda: None,
    ) -> None:
        self._wire = wire
        self._where = where
        self._backoff = backoff
        self._sleep = sleep
        self._throttled = throttled

    def call(self, operation: str, body: dict[str, Any]) -> Answered:
        """One call. Raises Refusal, or ServiceError when the service stays out of reach."""
        return self.begin(operation, body)()

    def begin(self, operation: str, body: dict[str, Any]) -> Callable[[], Answered]:
        """Send it; what it returns waits for the answer, and is to `call` what `Wire.begin` is to `Wire.call`."""
        return partial(self._answered, operation, body, self._wire.begin(operation, body))

    def _answered(self, operation: str, body: dict[str, Any], answer: Callable[[], dict[str, Any]]) -> Answered:
        attempt, throttles = 1, 0
        while True:
            try:
                return Answered(answer(), throttles)
            except Throttled as error:
                throttles += 1
                self._throttled()
                attempt = self.wait(attempt, str(error))
            except InDoubt as error:
                attempt = self.wait(attempt, str(error))
            answer = self._wire.begin(operation, body)

    def wait(self, attempt: int, why: str) -> int:
        """Wait after the failed try of this number; returns the next one's. Raises ServiceError after the last."""
        if self._backoff.exhausted(attempt):
            raise ServiceError(
                f"gave up after {attempt} tries: {why}",
                where=self._where,
                hint="the table is out of reach or throttled: raise its capacity or run again later",
            )
        self._sleep(self._backoff.delay(attempt, random.random))
        return attempt + 1
