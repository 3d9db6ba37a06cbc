"""Networks between a client and an endpoint: a proxy that counts requests, TLS with a private CA, and an endpoint with
one answer for every request. All are real servers on loopback ports, in threads of this process."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.waiting import HANG_SECONDS

CA = Path(__file__).parent / "tls" / "ca.pem"
_SERVER = Path(__file__).parent / "tls" / "localhost.pem"

Serve = Callable[[socket.socket], None]


@contextmanager
def listening(serve: Serve, secure: bool = False) -> Iterator[int]:
    """A server whose connections are given to `serve`, each in a thread; yields its port. `secure`: with TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_SERVER)

    def one(connection: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(HANG_SECONDS)
            if secure:
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
            serve(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=[listener.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`


def head_of(connection: socket.socket) -> bytes:
    """The bytes up to the end of a request's head, or to the end of the connection; the first ones, if they are none
    of HTTP."""
    head = connection.recv(65536)
    while head[:1].isalpha() and b"\r\n\r\n" not in head and (more := connection.recv(65536)):
        head += more
    return head


@dataclass
class Canned:
    """An endpoint that gives `status` and `answer` to everything, or nothing once it is `silent`. `requests` has the
    first line and the headers of each request, `bodies` the bodies."""

    status: int = 200
    answer: dict[str, object] | str = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    port: int = 0
    silent: bool = False

    def serve(self, connection: socket.socket) -> None:
        while (received := head_of(connection)).startswith(b"POST") or received.startswith(b"HEAD"):
            head, _, body = received.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head + b"\r\nContent-Length: 0")[1])  # type: ignore[index]
            while len(body) < length:
                body += connection.recv(65536)
            self.requests.append(head.decode("latin-1"))
            self.bodies.append(body)
            if self.silent:
                continue
            data = (self.answer if isinstance(self.answer, str) else json.dumps(self.answer)).encode()
            connection.sendall(b"HTTP/1.1 %d Some\r\nContent-Length: %d\r\n\r\n%s" % (self.status, len(data), data))
        if received:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@contextmanager
def canned(secure: bool = False, **settings: object) -> Iterator[Canned]:
    found = Canned(**settings)  # type: ignore[arg-type]
    with listening(found.serve, secure) as found.port:
        yield found


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


def _join(one: socket.socket, other: socket.socket) -> None:
    back = threading.Thread(target=_copy, args=[other, one], daemon=True)
    back.start()
    _copy(one, other)
    back.join()


@dataclass
class Front:
    """A server at `url`; `connections` counts the connections to it."""

    url: str = ""
    connections: int = 0


@contextmanager
def tls_before(url: str) -> Iterator[Front]:
    """An `https` URL, with a certificate of the private CA, whose requests go to an `http` one."""
    parts, front = urlsplit(url), Front()

    def serve(connection: socket.socket) -> None:
        front.connections += 1
        with socket.create_connection((parts.hostname, parts.port)) as behind:
            _join(connection, behind)

    with listening(serve, secure=True) as port:
        front.url = f"https://localhost:{port}"
        yield front


@dataclass
class HttpProxy:
    """`tunnels` has the target of each CONNECT, `forwarded` the URL of each request that was sent on. `user` is
    `NAME:PASSWORD` where it asks for that."""

    user: str = ""
    tunnels: list[str] = field(default_factory=list)
    forwarded: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def passed(self) -> int:
        return len(self.tunnels) + len(self.forwarded)

    def serve(self, connection: socket.socket) -> None:
        head = head_of(connection)
        if not head:
            return
        method, target, _ = head.decode("latin-1").split(" ", 2)
        expected = f"Proxy-Authorization: Basic {b64encode(self.user.encode()).decode()}\r\n".lower()
        if self.user and expected not in head.decode("latin-1").lower():
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT":
            self._tunnel(connection, target)
        else:
            self._forward(connection, head, target)

    def _tunnel(self, connection: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.tunnels.append(target)
        with socket.create_connection((host, int(port))) as behind:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _join(connection, behind)

    def _forward(self, connection: socket.socket, received: bytes, target: str) -> None:
        """Sends on each request of a connection; the first was received, with a part of its body at least."""
        parts = urlsplit(target)
        with socket.create_connection((parts.hostname, parts.port)) as behind:
            threading.Thread(target=_copy, args=[behind, connection], daemon=True).start()
            while received:
                lines = received.split(b"\r\n")
                if lines[0].startswith(b"POST http"):
                    self.forwarded.append(lines[0].split(b" ")[1].decode())
                behind.sendall(received.replace(f"{parts.scheme}://{parts.netloc}".encode(), b"", 1))
                received = connection.recv(65536)


@contextmanager
def proxy(secure: bool = False, user: str = "") -> Iterator[HttpProxy]:
    found = HttpProxy(user)
    with listening(found.serve, secure) as found.port:
        yield found
