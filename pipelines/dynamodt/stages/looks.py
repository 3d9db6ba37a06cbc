"""Looks at a row of the state table: never older than half a second, and sent ahead where the table is far away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from dynamodt.errors import ServiceError

LOOK_SECONDS = 0.5
_AT_ONCE = 0.001  # seconds: an answer that took no longer had come already
_FORGETTING = 0.9

Seen = TypeVar("Seen")
Answer = Callable[[], Seen]  # waits for the answer to a look
Begin = Callable[[], Answer[Seen]]  # sends one


class Looks(Generic[Seen]):
    """What one row shows, by a look that was sent half a second ago at most.

    The next look is sent ahead by as long as an answer takes, half of the time at most: a lane 300 ms away from the
    table would do little but wait for looks, and one that is near asks twice a second, as before. An answer that has
    been lying here for longer than that, since the process was suspended, counts for nothing. Not for several threads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: Seen | None = None
        self._seen_at = float("-inf")
        self._took = 0.0
        self._sent: tuple[float, Answer[Seen]] | None = None
        self._idle: Answer[Seen] | None = None  # about what nobody asks any more

    def current(self, begin: Begin[Seen]) -> Seen | None:
        """What the row shows; None where `saw` stands for a look. Raises what a look raises."""
        if self._sent is None and self._age() >= LOOK_SECONDS - min(self._took, LOOK_SECONDS / 2):
            self._send(begin)
        now = self._clock()  # once: between two readings a look may have grown too old
        if self._sent is not None and now - self._seen_at >= LOOK_SECONDS:
            self._hear()
        if now - self._seen_at >= LOOK_SECONDS:
            self._send(begin)
            self._hear()
        return self._seen

    def saw(self, at: float) -> None:
        """Something else that was sent at this moment shows as much."""
        self.afresh()
        self._seen_at = at

    def afresh(self) -> None:
        """From now on it is about another row: nothing has been seen of it."""
        if self._sent is not None:
            self._idle, self._sent = self._sent[1], None
        self._seen, self._seen_at = None, float("-inf")

    def _age(self) -> float:
        return self._clock() - self._seen_at

    def _send(self, begin: Begin[Seen]) -> None:
        if self._idle is not None:
            with suppress(ServiceError):
                self._idle()  # its connection serves again
            self._idle = None
        now = self._clock()  # before it is sent: what it shows is at least this fresh
        self._sent = now, begin()

    def _hear(self) -> None:
        """Take the answer to what was sent."""
        assert self._sent is not None
        (sent_at, answer), self._sent = self._sent, None
        asked_at = self._clock()
        self._seen, self._seen_at = answer(), sent_at
        heard_at = self._clock()
        waited = heard_at - asked_at > _AT_ONCE
        self._took = heard_at - sent_at if waited else self._took * _FORGETTING
