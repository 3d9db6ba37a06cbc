"""Responses of any server, in any pieces: each is read as `http.client` reads it, or refused as it refuses it."""

from __future__ import annotations

import io
from collections import deque
from http.client import HTTPException, HTTPResponse, IncompleteRead, LineTooLong
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamodt.dynamodb import http
from dynamodt.dynamodb.http import Read, read_response

BODY = b'{"Items":[]}'
SIMPLE = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + BODY,
    b"HTTP/1.1 400 Bad Request\r\nServer: Server\r\nConnection: keep-alive\r\ncontent-length:12\r\n\r\n" + BODY,
    b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\nx-amz-crc32: 1\r\n\r\n" + b"x" * 200_000,
]
OTHERS = [
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"Ite\r\n7\r\nms":[]}\r\n0\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 12\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\n\r\n" + BODY,  # up to the end
    b"HTTP/1.0 200 OK\r\nContent-Length: 12\r\n\r\n" + BODY,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + BODY,
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 12\n\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nContent-Length: 12\r\n\r\n" + BODY,
]
BROKEN = [
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"I",
    b"no HTTP at all\r\n\r\n",
]  # fmt: skip


class Pieces:
    """A connection on which these pieces arrive, followed by the end of the stream."""

    def __init__(self, *pieces: bytes) -> None:
        self._left = deque(piece for piece in pieces if piece)

    def settimeout(self, seconds: float) -> None: ...

    def recv(self, size: int) -> bytes:
        if not self._left:
            return b""
        piece = self._left.popleft()
        if len(piece) > size:
            self._left.appendleft(piece[size:])
        return piece[:size]

    def recv_into(self, buffer: memoryview) -> int:
        got = self.recv(len(buffer))
        buffer[: len(got)] = got
        return len(got)

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(b"".join(self._left))


def by_library(answer: bytes) -> Read | type[Exception]:
    try:
        with HTTPResponse(Pieces(answer), method="POST") as found:  # type: ignore[arg-type]
            found.begin()
            data = found.read()
            return Read(found.status, data, not found.will_close)
    except (OSError, HTTPException) as error:
        return type(error)


def by_us(*pieces: bytes) -> Read | type[Exception]:
    try:
        return read_response(Pieces(*pieces))  # type: ignore[arg-type]
    except (OSError, HTTPException) as error:
        return type(error)


@settings(max_examples=150)
@given(st.sampled_from(SIMPLE + OTHERS + BROKEN), st.lists(st.integers(0, 120), max_size=4))
def test_any_answer_in_any_pieces(answer: bytes, cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(answer)]
    pieces = [answer[one:other] for one, other in pairwise(marks)]
    assert by_us(*pieces) == by_library(answer)


@pytest.mark.parametrize("answer", SIMPLE, ids=lambda answer: answer[:40].decode())
def test_simple_responses_are_read_without_the_library(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_by_library", None)
    assert isinstance(by_us(answer[:30], answer[30:]), Read)


def test_unrequested_bytes_end_the_connection() -> None:
    assert by_us(SIMPLE[0] + b"HTTP/1.1 200 OK\r\n") == Read(200, BODY, False)


def test_an_incomplete_body_is_an_error_with_the_missing_size() -> None:
    with pytest.raises(IncompleteRead) as caught:
        read_response(Pieces(SIMPLE[3][:-1]))  # type: ignore[arg-type]
    assert (len(caught.value.partial), caught.value.expected) == (199_999, 1)


def test_an_endless_head_is_an_error() -> None:
    answer = b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000
    assert by_us(answer) is by_library(answer) is LineTooLong
