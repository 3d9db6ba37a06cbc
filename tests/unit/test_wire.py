"""The outcomes of an HTTP exchange, each against a server that causes it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import orjson
import pytest

from dynamodt.dynamodb.wire import Contended, InDoubt, Refusal, Throttled, Unsent, Wire
from dynamodt.model.tables import Connection
from tests.waiting import HANG_SECONDS, join


def connection(port: int) -> Connection:
    return Connection("eu-central-1", f"http://127.0.0.1:{port}", access_key="test", secret_key="test")


@contextmanager
def server(answer: bytes) -> Iterator[tuple[Wire, list[bytes]]]:
    """Reads one request, sends `answer` and closes the connection."""
    awaited: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as stream:
            head = b"".join(iter(stream.readline, b"\r\n"))
            (length,) = re.findall(rb"(?i)content-length: (\d+)", head)
            awaited.append(head + b"\r\n" + stream.read(int(length)))
            client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(HANG_SECONDS)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        wire = Wire(connection(listener.getsockname()[1]))
        yield wire, awaited
        wire.close()
        join(thread, "the server has answered")


def response(status: int, body: bytes, length: int | None = None) -> bytes:
    return b"HTTP/1.1 %d Some\r\nContent-Length: %d\r\n\r\n%s" % (status, length or len(body), body)


def error(status: int, code: str) -> bytes:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "why", "Item": {"id": {"S": "a"}}}
    return response(status, orjson.dumps(body))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"", InDoubt),
        (response(200, b'{"Items": []}', length=500), InDoubt),
        (response(200, b'{"Items": ['), InDoubt),
        (error(400, "ThrottlingException"), Throttled),
        (error(400, "ProvisionedThroughputExceededException"), Throttled),
        (error(400, "RequestLimitExceeded"), Throttled),
        (error(400, "TransactionConflictException"), Contended),
        (error(400, "ExpiredTokenException"), Refusal),  # but for credentials that were renewed: test_network
        (response(429, b""), Throttled),
        (error(500, "InternalServerError"), InDoubt),
        (error(500, "ThrottlingException"), Throttled),
        (error(400, "InternalFailure"), InDoubt),
        (response(502, b"<html>bad gateway</html>"), InDoubt),
        (response(503, b"null"), InDoubt),
        (response(504, b"[]"), InDoubt),
        (error(400, "ThrottlingException")[:-20] + b" " * 20, InDoubt),  # a refusal that is not whole
        (error(400, "ValidationException"), Refusal),
        (error(400, "ConditionalCheckFailedException"), Refusal),
        (error(400, "AccessDeniedException"), Refusal),
        (response(413, b""), Refusal),
        (response(403, b"<html>who are you?</html>"), Refusal),
        (response(400, b'"text"'), Refusal),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value[:90].decode(),
)
def test_the_outcome_of_an_exchange(answer: bytes, expected: type[Exception]) -> None:
    with server(answer) as (wire, _), pytest.raises(expected):
        wire.call("Scan", {})


def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unsent, match="refuses connections"):
        Wire(connection(port)).call("UpdateItem", {})


def test_a_host_that_has_answered_this_process_is_not_given_up_by_a_new_wire() -> None:
    """The phases of a run have wires of their own: a connection that is lost where one begins is retried in full."""
    with server(response(200, b"{}")) as (wire, _):
        wire.call("Scan", {})
        later = Wire(replace(connection(1), endpoint_url=wire._url))
    with pytest.raises(Unsent) as caught:
        later.call("Scan", {})
    assert not caught.value.first


def test_a_refusal_has_its_code_its_message_and_the_whole_answer() -> None:
    with server(error(400, "ConditionalCheckFailedException")) as (wire, _), pytest.raises(Refusal) as caught:
        wire.call("UpdateItem", {})
    assert (caught.value.code, caught.value.message) == ("ConditionalCheckFailedException", "why")
    assert caught.value.answer["Item"] == {"id": {"S": "a"}}


def test_a_throttle_names_its_reasons() -> None:
    arn = "arn:aws:dynamodb:us-east-1:123456789012:table/things"
    reasons = [{"reason": "TableWriteKeyRangeThroughputExceeded", "resource": arn}, {"reason": "Unheard"}]
    body = {"__type": "x#ThrottlingException", "message": "why", "throttlingReasons": reasons}
    with server(response(400, orjson.dumps(body))) as (wire, _), pytest.raises(Throttled) as caught:
        wire.call("UpdateItem", {})
    assert str(caught.value).endswith(f"ThrottlingException: why ({reasons[0]['reason']} of {arn}, Unheard)")


def test_a_refusal_without_a_body_has_its_status_as_code() -> None:
    with server(response(413, b"")) as (wire, _), pytest.raises(Refusal) as caught:
        wire.call("UpdateItem", {})
    assert caught.value.code == "HTTP413"


@pytest.mark.parametrize("body", [{"TableName": "things"}, b'{"TableName":"things"}'], ids=["dict", "bytes"])
def test_a_request_is_signed_and_addressed(body: dict[str, str] | bytes) -> None:
    with server(response(200, b'{"Items":[]}')) as (wire, awaited):
        assert wire.call("Scan", body) == {"Items": []}
        assert wire.requests == 1
    head, _, sent = awaited[0].partition(b"\r\n\r\n")
    assert sent == b'{"TableName":"things"}'
    assert b"X-Amz-Target: DynamoDB_20120810.Scan\r\n" in head
    assert b"/eu-central-1/dynamodb/aws4_request" in head and b"Signature=" in head
