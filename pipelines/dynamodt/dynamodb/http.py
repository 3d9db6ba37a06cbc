"""Signed HTTP/1.1 requests to one endpoint over persistent connections.

urllib3, which supports any URL, takes three times the CPU (docs/adr/016).

A usual response of DynamoDB has a status, a few headers and a body of known length, and the connection stays open. It
is parsed here. Any other response is parsed by `http.client`, which takes more CPU for the headers alone than the
request's signature takes.

A signature is AWS Signature Version 4 of a POST with headers (AWS, "Create a signed AWS API request"). It equals that
of botocore's `SigV4Auth`, as a test verifies, at a fifth of the CPU: the signing key is kept for its day.
"""

from __future__ import annotations

import io
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from hmac import digest
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, ClassVar, NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from urllib3.util import wait_for_read

from dynamodt.dynamodb.network import READ_SECONDS, Connector, Route, Unreachable, shown_url
from dynamodt.dynamodb.unresponsive import MENTION_SECONDS, outages

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

_RECEIVED = 64 * 1024  # bytes at once; a longer head is left to http.client
_SIMPLE = re.compile(rb"HTTP/1\.1 ([245]\d\d) [^\r\n]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,10}) *(?=\r\n)", re.IGNORECASE)
_NOT_SIMPLE = re.compile(rb"\r\n(?:transfer-encoding|connection:(?! *keep-alive *\r))", re.IGNORECASE)
_NO_BODY = (b"204", b"205")


class Read(NamedTuple):
    """A whole response; `kept`: the connection may be used again."""

    status: int
    data: bytes | bytearray
    kept: bool


def read_response(connection: socket.socket, late: Callable[[], None] = lambda: None) -> Read:
    """The response to a POST. Raises OSError or `http.client.HTTPException` when it is missing or truncated; calls
    `late` if it has not begun after `MENTION_SECONDS`."""
    received, end = _received(connection, late)
    head = received[: end + 2]
    status, lengths = _SIMPLE.match(head), _LENGTH.findall(head)
    if status is None or len(lengths) != 1 or status[1] in _NO_BODY or _NOT_SIMPLE.search(head):
        return _by_library(received, connection)
    body, length = received[end + 4 :], int(lengths[0])
    if len(body) > length:  # bytes beyond the response belong to no request
        return Read(int(status[1]), body[:length], False)
    return Read(int(status[1]), body if len(body) == length else _rest(connection, body, length), True)


def _received(connection: socket.socket, late: Callable[[], None]) -> tuple[bytes, int]:
    """The first bytes, at least up to the end of the head, and the position of that end (-2: the stream ended before
    it)."""
    connection.settimeout(MENTION_SECONDS)
    try:
        received = connection.recv(_RECEIVED)
    except TimeoutError:
        late()
        connection.settimeout(READ_SECONDS - MENTION_SECONDS)
        received = connection.recv(_RECEIVED)
    connection.settimeout(READ_SECONDS)
    while received and (end := received.find(b"\r\n\r\n")) < 0 and len(received) < _RECEIVED:
        more = connection.recv(_RECEIVED)
        if not more:
            return received, -2
        received += more
    return received, end if received and end >= 0 else -2


def _rest(connection: socket.socket, begun: bytes, length: int) -> bytearray:
    """The whole body, of which `begun` are the first bytes."""
    body, size = bytearray(length), len(begun)
    body[:size] = begun
    view = memoryview(body)
    while size < length:
        got = connection.recv_into(view[size:])
        if not got:
            raise IncompleteRead(bytes(body[:size]), length - size)
        size += got
    return body


class _Replayed(io.RawIOBase):
    """A connection for `http.client`, of which some bytes were already received."""

    def __init__(self, received: bytes, connection: socket.socket) -> None:
        self._received = received
        self._connection = connection

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._received:
            return self._connection.recv_into(buffer)
        some = self._received[: len(buffer)]
        buffer[: len(some)] = some
        self._received = self._received[len(some) :]
        return len(some)


def _by_library(received: bytes, connection: socket.socket) -> Read:
    """The response, if it does not have DynamoDB's usual form: chunked, without a length, informational, or a
    proxy's."""
    with HTTPResponse(_Replayed(received, connection), method="POST") as response:  # type: ignore[arg-type]
        response.begin()
        data = response.read()
        return Read(response.status, data, not response.will_close)


_SLOW_SECONDS = 1.0
BROKEN = (OSError, HTTPException)  # raised by an exchange whose request may have been sent


class Response(NamedTuple):
    status: int
    data: bytes | bytearray


class Exchanges:
    """POSTs to one URL; safe to share between threads. Up to `kept` connections stay open between requests. `connected`
    is true once this process has made a connection to the URL, also by another instance.

    A connection that the service has closed is detected before it is used (it is readable without a request), so that
    it does not make the next write one of unknown outcome. Connecting takes up to 5 seconds, a response up to 30.
    """

    _reached: ClassVar[set[str]] = set()  # URLs

    def __init__(self, route: Route, kept: int) -> None:
        self._url = route.url
        self._place = shown_url(route.url)
        self._connector = Connector(route)
        self._begin = f"POST {self._connector.target} HTTP/1.1\r\n{self._connector.headers}"
        self._idle: deque[socket.socket] = deque(maxlen=kept)  # the longest unused one is dropped, and so closed
        self._failed: Unreachable | None = None
        self._failed_until = 0.0

    @property
    def connected(self) -> bool:
        return self._url in self._reached

    @property
    def lost_seconds(self) -> float:
        """The seconds without a response of the host; 0 if it has responded."""
        return outages.lasted(self._place)

    def begin(self, headers: dict[str, str], body: bytes) -> Callable[[], Response]:
        """Sends a request; the function that it returns waits for the response. It raises Unreachable (nothing was
        sent) or one of BROKEN (the request may have been executed)."""
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        head = f"{self._begin}{lines}Content-Length: {len(body)}\r\n\r\n"
        try:
            connection = self._connection()
        except Unreachable as error:
            return partial(_failed, error)
        try:
            connection.sendall(head.encode("latin-1") + body)
        except OSError as error:
            connection.close()
            return partial(_failed, error)
        return partial(self._response, connection)

    def _response(self, connection: socket.socket) -> Response:
        kept = False
        try:
            status, data, kept = read_response(connection, self._late)
        except BROKEN as error:
            if not isinstance(error, TimeoutError):  # which `late` has mentioned
                outages.failed(self._place, f"{self._place} sent an incomplete response: {error}")
            raise
        finally:
            if kept:
                self._idle.append(connection)
            else:
                connection.close()
        outages.answered(self._place)
        return Response(status, data)

    def _late(self) -> None:
        outages.silent(self._place)

    def close(self) -> None:
        """Closes the persistent connections."""
        while self._idle:
            self._idle.pop().close()

    def _connection(self) -> socket.socket:
        """A kept connection, the last used one first, or a new one."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not wait_for_read(kept, timeout=0.0):
                return kept
            kept.close()  # readable before a request: the other end has closed it
        return self._connect()

    def _connect(self) -> socket.socket:
        """A new connection. A time-out also applies to the requests of the next second: those of one page would
        otherwise wait for it one after the other."""
        begun = time.monotonic()
        if self._failed is not None and begun < self._failed_until:
            raise self._failed
        try:
            made = self._connector.connect()
        except Unreachable as error:
            if self.connected:
                outages.failed(self._place, str(error))
            ended = time.monotonic()
            slow = ended - begun >= _SLOW_SECONDS
            self._failed, self._failed_until = error, ended + _SLOW_SECONDS if slow else 0.0
            raise
        made.settimeout(READ_SECONDS)
        self._failed = None
        self._reached.add(self._url)
        return made


def _failed(error: Exception) -> NoReturn:
    raise error


ALGORITHM = "AWS4-HMAC-SHA256"


class _Kept(NamedTuple):
    """A signing key, and its secret and date."""

    secret_key: str
    date: str
    key: bytes


def _now() -> datetime:
    return datetime.now(UTC)


class Signer:
    """Signs requests to one URL of a service in a region; safe to share between threads."""

    def __init__(self, url: str, service: str, region: str, now: Callable[[], datetime] = _now) -> None:
        parts = urlsplit(url)
        default = {"https": 443, "http": 80}.get(parts.scheme)
        port = f":{parts.port}" if parts.port and parts.port != default else ""
        self.host = f"{parts.hostname}{port}"
        self._path = quote(parts.path or "/", safe="/~")
        self._scope = f"{region}/{service}/aws4_request"
        self._parts = (region, service, "aws4_request")
        self._now = now
        self._kept = _Kept("", "", b"")

    def signed(self, headers: dict[str, str], body: bytes, secret: ReadOnlyCredentials) -> dict[str, str]:
        """The headers, all signed, with Host, X-Amz-Date, the session's token and Authorization added."""
        moment = self._now().strftime("%Y%m%dT%H%M%SZ")
        headers = {**headers, "Host": self.host, "X-Amz-Date": moment}
        if secret.token:
            headers["X-Amz-Security-Token"] = secret.token
        lower = sorted([(name.lower(), value) for name, value in headers.items()])
        names = ";".join([name for name, _ in lower])
        lines = "".join([f"{name}:{value}\n" for name, value in lower])
        request = f"POST\n{self._path}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{moment[:8]}/{self._scope}"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = digest(self._key(secret.secret_key, moment[:8]), text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={secret.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _key(self, secret_key: str, date: str) -> bytes:
        """The signing key: HMAC-SHA256 over the date, the region, the service and "aws4_request", one after the other.
        It is valid for a day; a thread with another date or secret makes a new one."""
        kept = self._kept
        if kept.secret_key == secret_key and kept.date == date:
            return kept.key
        key = f"AWS4{secret_key}".encode()
        for part in (date, *self._parts):
            key = digest(key, part.encode(), "sha256")
        self._kept = _Kept(secret_key, date, key)
        return key
