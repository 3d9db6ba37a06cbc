"""An HTTP server in front of an endpoint, with the faults of a network and of a busy service on demand.

`proxy.faults["Scan"] += ["500", "", "reset"]`: the first Scan is answered with a 500, the second goes through, the
third's connection is reset before it has reached the endpoint. `proxy.odds` and `proxy.dice` (seeded) have any request
meet any fault; `injected` counts what was done.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3

from dynamodt.model.tables import Connection
from tests.emulators import Endpoint
from tests.waiting import HANG_SECONDS

_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"
_REFUSALS = {
    "throttled": (400, "ThrottlingException"),
    "exceeded": (400, "ProvisionedThroughputExceededException"),
    "denied": (400, "AccessDeniedException"),
    "gone": (400, "ResourceNotFoundException"),
    "expired": (400, "ExpiredTokenException"),
    "500": (500, "InternalServerError"),
}
_ANYWHERE = ("throttled", "exceeded", "500", "503", "reset", "lost", "truncated")
_ON_THE_WIRE = {  # boto3's calls tell a cut answer by its CRC32, which no emulator sends
    "Scan": (*_ANYWHERE, "cut"),
    "BatchExecuteStatement": (*_ANYWHERE, "cut", "partial"),
}
_PARTIAL = ("ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError")

Answer = tuple[int, bytes]


_TABLES = re.compile(rb'"TableName": ?"([^"]+)"')


@dataclass
class Proxy:
    """`calls` counts the requests of each operation, `connections` those that were opened. Requests that
    name the table `spared` have no faults; where `only` is set, requests that do not name it have none."""

    endpoint: Endpoint
    url: str = ""
    spared: str = ""
    only: str = ""
    faults: defaultdict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, str] = field(default_factory=dict)  # an operation's fault for good
    calls: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    silent: set[int] = field(default_factory=set)  # the client's ports of the requests that get no answer
    odds: float = 0.0
    dice: random.Random = field(default_factory=random.Random)
    injected: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(maxsize=16, retries=False))

    @property
    def connection(self) -> Connection:
        return replace(self.endpoint.connection, endpoint_url=self.url)

    def _is_spared(self, body: bytes) -> bool:
        """A transaction that names another table, too, is about that one."""
        others = set(_TABLES.findall(body)) - {self.spared.encode()}
        return bool(self.spared) and self.spared.encode() in body and not others

    def fault(self, operation: str, body: bytes) -> str:
        if self._is_spared(body) or self.only.encode() not in body:
            return ""
        with self.lock:
            self.calls[operation] += 1
            fault = self._next(operation)
            self.injected[fault] += 1
        return fault

    def _next(self, operation: str) -> str:
        queued = self.faults[operation]
        if queued:
            return queued.popleft()
        if self.dice.random() < self.odds:
            return self.dice.choice(_ON_THE_WIRE.get(operation, _ANYWHERE))
        return self.always.get(operation, "")

    def forward(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        response = self.pool.request(method, self.endpoint.url + path, body=body, headers=headers)
        return response.status, response.data


@contextmanager
def proxy_before(endpoint: Endpoint) -> Iterator[Proxy]:
    """A proxy on a free loopback port, in threads of this process."""
    proxy = Proxy(endpoint)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, proxy))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        proxy.pool.clear()


class _Handler(BaseHTTPRequestHandler):
    """A method for each fault: it is given the request's body, and `forward`, which carries a request out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, proxy: Proxy, *arguments: Any) -> None:
        self.proxy = proxy
        super().__init__(*arguments)

    def setup(self) -> None:
        super().setup()
        self.proxy.connections += 1

    def do_GET(self) -> None:
        self._send(*self.proxy.forward("GET", self.path, b"", {}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        fault = self.proxy.fault(operation, body)
        headers = {name: value for name, value in self.headers.items() if name not in ("Host", "Content-Length")}

        def forward(data: bytes = body) -> Answer:
            return self.proxy.forward("POST", self.path, data, headers)

        getattr(self, f"_{fault.replace('-', '_')}", self._refuse)(fault, body, forward)

    # -------------------------------------------------------- faults

    def _(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        self._send(*forward())

    def _refuse(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        status, code = _REFUSALS[fault]
        self._send(status, json.dumps({"__type": _NAMESPACE + code, "message": "injected"}).encode())

    def _503(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        self._send(503, b"<html>no JSON at all</html>")

    def _reset(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """The connection is reset before the request has reached the endpoint."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RD)
        self.close_connection = True

    def _lost(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """The request is carried out, and its answer is lost."""
        forward()
        self._reset(fault, body, forward)

    def _truncated(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        status, data = forward()
        self._send(status, data, upto=len(data) // 2)
        self.close_connection = True

    def _cut(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """Half of the JSON, as if it were all."""
        status, data = forward()
        self._send(status, data[: len(data) // 2])

    def _slow(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """The request is carried out, and the answer does not come until the client has given up."""
        forward()
        self.close_connection = True
        self.proxy.silent.add(self.client_address[1])
        self.connection.settimeout(HANG_SECONDS)
        with suppress(OSError):
            self.connection.recv(1)

    def _partial(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """Every second statement is refused, for one reason after the other; the rest is carried out."""
        request = json.loads(body)
        statements = request["Statements"]
        status, data = forward(json.dumps({**request, "Statements": statements[::2]}).encode())
        answer = json.loads(data)
        done = iter(answer["Responses"])
        answer["Responses"] = [_refused(i) if i % 2 else next(done) for i in range(len(statements))]
        self._send(status, json.dumps(answer).encode())

    def _stuck(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """No key is answered."""
        self._send(200, json.dumps({"Responses": {}, "UnprocessedKeys": json.loads(body)["RequestItems"]}).encode())

    def _unprocessed(self, fault: str, body: bytes, forward: Callable[..., Answer]) -> None:
        """The first third of the keys is answered, the rest is left for another request."""
        request = json.loads(body)
        ((table, wanted),) = request["RequestItems"].items()
        third = max(1, len(wanted["Keys"]) // 3)
        first, rest = ({table: {**wanted, "Keys": keys}} for keys in (wanted["Keys"][:third], wanted["Keys"][third:]))
        status, data = forward(json.dumps({**request, "RequestItems": first}).encode())
        left = rest if rest[table]["Keys"] else {}
        self._send(status, json.dumps({**json.loads(data), "UnprocessedKeys": left}).encode())

    # -------------------------------------------------------- answers

    def _send(self, status: int, data: bytes, upto: int | None = None) -> None:
        head = f"HTTP/1.1 {status} injected\r\nContent-Type: application/x-amz-json-1.0\r\n"
        try:
            self.wfile.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:upto])
        except OSError:
            self.close_connection = True  # the client has given up

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _refused(index: int) -> dict[str, Any]:
    return {"Error": {"Code": _PARTIAL[index // 2 % len(_PARTIAL)], "Message": "injected"}}
