"""Detects hosts that do not respond, at the first call to each or after earlier responses.

Both are reported while the call is still retried, so that a waiting command shows the reason.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore.exceptions import ConnectionError, HTTPClientError, ReadTimeoutError, SSLError

if TYPE_CHECKING:
    import botocore.session

FIRST_TRIES = 3  # tries of a call to a host that has never responded to this process, or that is silent
MENTION_SECONDS = 10.0
_listeners: list[Callable[[str], None]] = []


@contextmanager
def report_slow_hosts(notify: Callable[[str], None]) -> Iterator[None]:
    """Calls `notify`, from any thread, about each host whose response takes longer than 10 s, or that is lost."""
    _listeners.append(notify)
    try:
        yield
    finally:
        _listeners.remove(notify)


class FirstAnswers:
    """Watches the calls of a session's clients to hosts that have not responded yet: an endpoint that is unreachable or
    silent is reported within seconds, while botocore's retries take minutes. Later calls are retried in full, unless
    three responses in a row time out. `why` gives the reason of an error."""

    def __init__(self, why: Callable[[ConnectionError | HTTPClientError], str]) -> None:
        self._why = why
        self._answered: set[str] = set()
        self._timers: dict[int, threading.Timer] = {}  # of the call of each thread

    def watch(self, made: botocore.session.Session) -> None:
        """Watches all clients that the session makes from now on."""
        made.register("before-send", self._sent)
        made.register("needs-retry", self._tried)
        made.register("after-call-error", self._failed)

    def _sent(self, request: Any, **_: Any) -> None:
        url = _host(request.url)
        if url in self._answered or threading.get_ident() in self._timers:
            return
        timer = threading.Timer(MENTION_SECONDS, _mention, [url])
        timer.daemon = True
        self._timers[threading.get_ident()] = timer
        timer.start()

    def _tried(self, response: Any, attempts: int, caught_exception: Any, request_dict: Any, **_: Any) -> None:
        url = _host(request_dict["url"])
        if response is not None:
            self._answered.add(url)
            self._failed()
            outages.answered(url)
            return
        answered = url in self._answered
        if answered and isinstance(caught_exception, _LOST):
            outages.failed(url, self._why(caught_exception))
        if _is_final(caught_exception, attempts, first=not answered):
            raise caught_exception

    def _failed(self, **_: Any) -> None:
        timer = self._timers.pop(threading.get_ident(), None)
        if timer is not None:
            timer.cancel()


def _is_final(error: BaseException, attempts: int, first: bool) -> bool:
    """Whether a failed call is not tried again: neither a certificate nor a silent server changes at once."""
    if isinstance(error, ReadTimeoutError):
        return first or attempts >= FIRST_TRIES
    return first and isinstance(error, _LOST) and (attempts >= FIRST_TRIES or isinstance(error, SSLError))


_LOST = (ConnectionError, HTTPClientError)
_LONGEST_PAUSE = 10.0  # seconds: shorter than the thirty that a lease lasts
LASTING_SECONDS = 60.0
_MOST_TRIES = 24  # of a call that is lost repeatedly, while its host answers others


_BUSY = (500, 502, 503, 504)
_BUSY_TRIES = 12  # about a minute, together with botocore's own pauses


def retried_longer(
    response: Any, operation: Any, attempts: int, caught_exception: Any, request_dict: Any, **_: Any
) -> float | None:
    """A handler of `needs-retry`, for clients whose calls may be executed twice: a lost connection is tried again until
    its host has been lost for a minute, and a busy S3, which adapts to a higher rate only gradually, for about a
    minute. botocore's own tries end within a second or some seconds, and would end a run. `FirstAnswers` gives up a
    host that has never responded, or is silent."""
    lost = _is_lost(caught_exception, attempts, request_dict)
    of_s3 = response is not None and operation.service_model.service_name == "s3"
    if not lost and not (of_s3 and response[0].status_code in _BUSY and attempts < _BUSY_TRIES):
        return None
    time.sleep(random.uniform(0.0, min(_LONGEST_PAUSE, 2.0 ** (attempts - 2))))
    return 0.0  # seconds for which botocore sleeps


def _is_lost(error: Any, attempts: int, request: Any) -> bool:
    if not isinstance(error, _LOST) or isinstance(error, ReadTimeoutError | SSLError):
        return False
    return attempts < _MOST_TRIES and outages.lasted(_host(request["url"])) < LASTING_SECONDS


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _mention(url: str) -> None:
    _tell(f"no response from {url} for {MENTION_SECONDS:.0f} s: still waiting")


def _tell(text: str) -> None:
    for notify in list(_listeners):
        notify(text)


# ---------------------------------------------------------------- a host that has answered before


LOST_SECONDS = 2.0


class Outages:
    """Reports each host (by scheme, host and port) that stops responding, and that it responds again. A connection that
    is lost once is not reported, since the next try finds another."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._mentioned: set[str] = set()
        self._lock = threading.Lock()

    def failed(self, url: str, what: str) -> None:
        """Records a try without a response. It is reported if the tries of the last seconds had none either."""
        now = self._clock()
        if now - self._since.setdefault(url, now) >= LOST_SECONDS and self._is_new(url):
            _tell(f"{what}: it is tried again for about a minute")

    def lasted(self, url: str) -> float:
        """The seconds since the first try without a response, with no response since; 0 if there is no such try."""
        now = self._clock()
        return now - self._since.get(url, now)

    def silent(self, url: str) -> None:
        """Records that no response has come within `MENTION_SECONDS`."""
        self._since.setdefault(url, self._clock())
        if self._is_new(url):
            _mention(url)

    def answered(self, url: str) -> None:
        """Records a response."""
        if url in self._since:
            with self._lock:
                self._since.pop(url, None)
                again = url in self._mentioned
                self._mentioned.discard(url)
            if again:
                _tell(f"{url} answers again")

    def _is_new(self, url: str) -> bool:
        with self._lock:
            new = url not in self._mentioned
            self._mentioned.add(url)
        return new


outages = Outages()  # of this process
