"""HTTP/1.1 exchanges with one endpoint over kept connections: one send each.

urllib3, which does the same for any URL, took three times the client's CPU (docs/adr/016).
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from typing import NamedTuple, NoReturn
from urllib.parse import urlsplit

from urllib3.util import wait_for_read

from dynamodt.aws.response import read_response

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
BROKEN = (OSError, HTTPException)  # what an exchange raises once something may have been sent


class Unreachable(Exception):
    """There is no connection: nothing was sent."""


class Response(NamedTuple):
    status: int
    data: bytes | bytearray


class Exchanges:
    """POSTs to one URL; safe to share between threads. Up to `kept` connections stay open between requests."""

    def __init__(self, url: str, kept: int, ca_bundle: str | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._begin = f"POST {parts.path or '/'} HTTP/1.1\r\n"
        self._tls = ssl.create_default_context(cafile=ca_bundle) if parts.scheme == "https" else None
        self._idle: deque[socket.socket] = deque(maxlen=kept)  # the longest unused one is dropped, and so closed

    def begin(self, headers: dict[str, str], body: bytes) -> Callable[[], Response]:
        """Send a request; the function that it returns waits for the answer. That raises Unreachable, or one of BROKEN:
        then the request may have been carried out."""
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
            status, data, kept = read_response(connection)
        finally:
            if kept:
                self._idle.append(connection)
            else:
                connection.close()
        return Response(status, data)

    def close(self) -> None:
        """Close the kept connections."""
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
            kept.close()  # the other end has hung up: what can be read before anything was asked is the end
        return self._connect()

    def _connect(self) -> socket.socket:
        try:
            made = socket.create_connection((self._host, self._port), CONNECT_SECONDS)
            if self._tls is not None:
                made = self._tls.wrap_socket(made, server_hostname=self._host)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.settimeout(READ_SECONDS)
        except OSError as error:
            raise Unreachable(str(error)) from error
        return made


def _failed(error: Exception) -> NoReturn:
    raise error
