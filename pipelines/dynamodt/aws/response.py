"""One answer of an HTTP/1.1 connection.

What DynamoDB says is simple: a status, a handful of headers, a body of a known length, and the connection stays. That
is read here. Anything else that HTTP allows is left to `http.client`, whose headers alone, parsed as those of a mail,
take more CPU than the request's signature.
"""

from __future__ import annotations

import io
import re
import socket
from http.client import HTTPResponse, IncompleteRead
from typing import NamedTuple

_RECEIVED = 64 * 1024  # at once; and a head that is longer than that is not simple
_SIMPLE = re.compile(rb"HTTP/1\.1 ([245]\d\d) [^\r\n]*\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,10}) *(?=\r\n)", re.IGNORECASE)
_NOT_SIMPLE = re.compile(rb"\r\n(?:transfer-encoding|connection:(?! *keep-alive *\r))", re.IGNORECASE)
_NO_BODY = (b"204", b"205")


class Read(NamedTuple):
    """An answer, whole; `kept`: the connection may be used again."""

    status: int
    data: bytes | bytearray
    kept: bool


def read_response(connection: socket.socket) -> Read:
    """The answer to a POST. Raises OSError or `http.client.HTTPException` when it does not come, or not whole."""
    received, end = _received(connection)
    head = received[: end + 2]
    status, lengths = _SIMPLE.match(head), _LENGTH.findall(head)
    if status is None or len(lengths) != 1 or status[1] in _NO_BODY or _NOT_SIMPLE.search(head):
        return _by_library(received, connection)
    body, length = received[end + 4 :], int(lengths[0])
    if len(body) > length:  # more than was asked for: whatever it is, it belongs to no request
        return Read(int(status[1]), body[:length], False)
    return Read(int(status[1]), body if len(body) == length else _rest(connection, body, length), True)


def _received(connection: socket.socket) -> tuple[bytes, int]:
    """What comes first, up to the end of the head at least, and where that is (-2: nowhere, there is no more)."""
    received = connection.recv(_RECEIVED)
    while received and (end := received.find(b"\r\n\r\n")) < 0 and len(received) < _RECEIVED:
        more = connection.recv(_RECEIVED)
        if not more:
            return received, -2
        received += more
    return received, end if received and end >= 0 else -2


def _rest(connection: socket.socket, begun: bytes, length: int) -> bytearray:
    """A body of which the beginning is there."""
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
    """A connection of which something was received already, as `http.client` wants it."""

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
    with HTTPResponse(_Replayed(received, connection), method="POST") as response:  # type: ignore[arg-type]
        response.begin()
        data = response.read()
        return Read(response.status, data, not response.will_close)
