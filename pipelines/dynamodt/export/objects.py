"""A bucket that holds exports, and the lines of a compressed file in it, in bounded memory.

Small objects are read whole, large ones in pieces. zlib is the standard library's: on a file of 75 MB, 700,000 items,
it takes 1.4 µs of CPU an item, isal 0.9 and zlib-ng 1.1, of about 90 for the whole run; that is not worth a dependency.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.dynamodb.clients import explained
from dynamodt.dynamodb.network import Tolerated, content_of, own
from dynamodt.errors import RunFailed
from dynamodt.state.storage import S3Storage

if TYPE_CHECKING:
    from hashlib import _Hash


MAX_LINE = 16 << 20  # bytes: an item has at most 400 KB, so that its JSON, old and new, stays below
_GZIP = zlib.MAX_WBITS | 16
_INPUT = 1 << 18  # bytes given to zlib at a time, which copies the unconsumed rest
_STEP = 1 << 20  # bytes of output at a time


class Damaged(ValueError):
    """The bytes are not a whole gzip file, or not lines; the message has the reason."""


def unzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of a gzip file of one or several members; empty for a file of 0 bytes. Raises Damaged."""
    member = None
    for piece in _slices(pieces):
        while piece:
            member = member or zlib.decompressobj(_GZIP)
            yield _step(member, piece)
            piece = member.unused_data if member.eof else member.unconsumed_tail
            member = None if member.eof else member
    if member is not None:
        yield from _rest(member)


def lines(texts: Iterable[bytes], skip: int = 0) -> Iterator[bytes]:
    """The lines after the first `skip` (which are only counted), without their newlines. Raises Damaged."""
    tail = b""
    for text in texts:
        if skip:
            text, skip = _skipped(text, skip)
        ended = (tail + text).split(b"\n")
        tail = ended.pop()
        yield from ended
        if len(tail) > MAX_LINE:
            raise Damaged(f"a line is longer than {MAX_LINE:,} bytes, the limit for an item")
    if tail:
        yield tail


def _skipped(text: bytes, skip: int) -> tuple[bytes, int]:
    """A text without its first lines, and the number of lines still to be skipped."""
    ended = text.count(b"\n")
    if ended < skip:
        return b"", skip - ended
    return text.split(b"\n", skip)[skip], 0


def _slices(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), _INPUT):
            yield piece[start : start + _INPUT]


def _step(member: zlib._Decompress, piece: bytes) -> bytes:
    try:
        return member.decompress(piece, _STEP)
    except zlib.error as error:
        raise Damaged(f"it is not a gzip file, or damaged: {error}") from error


def _rest(member: zlib._Decompress) -> Iterator[bytes]:
    """The output that the last member still holds."""
    while text := _step(member, member.unconsumed_tail):
        yield text
    if not member.eof:
        raise Damaged("it is truncated: its gzip stream has no end")


PIECE = 8 << 20  # bytes of one request: no connection stays open while a page is written
_ABSENT = ("404", "NoSuchKey", "NotFound")


class Head(NamedTuple):
    """An object's size and ETag. `plain`: the ETag may be an MD5, without encryption by KMS or a customer's key."""

    size: int
    etag: str
    plain: bool = True


class S3Objects(S3Storage):
    """A bucket that holds exports."""

    def __init__(self, s3: Any, bucket: str, kms_key: str | None = None) -> None:
        super().__init__(s3, bucket, "", kms_key)

    def head(self, key: str) -> Head | None:
        """An object's size and ETag; None when it does not exist."""
        with explained("HeadObject", self.place(key)), Tolerated(*_ABSENT):
            answer = own(self._s3.head_object(Bucket=self._bucket, Key=key), "ETag")
            plain = "SSECustomerAlgorithm" not in answer and "kms" not in answer.get("ServerSideEncryption", "")
            return Head(answer["ContentLength"], answer["ETag"].strip('"'), plain)
        return None

    def pieces(self, key: str, head: Head) -> Iterator[bytes]:
        """The content of an object of `head`, in pieces of 8 MB. Raises RunFailed when it has changed since."""
        for start in range(0, head.size, PIECE):
            with explained("GetObject", self.place(key)):
                piece = self._piece(key, head.etag, start)
            yield piece

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders directly below a prefix that ends with a slash, in order."""
        pages = self._s3.get_paginator("list_objects_v2")
        with explained("ListObjectsV2", self.place(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/"):
                for entry in own(page, "IsTruncated").get("CommonPrefixes", ()):
                    yield entry["Prefix"].removeprefix(prefix).rstrip("/")

    def _piece(self, key: str, etag: str, start: int) -> bytes:
        """One range, read whole."""
        from botocore.exceptions import ClientError

        part = {"Range": f"bytes={start}-{start + PIECE - 1}", "IfMatch": etag}
        try:
            return content_of(partial(self._s3.get_object, Bucket=self._bucket, Key=key, **part))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in (*_ABSENT, "PreconditionFailed", "412"):
                raise
            what = "was deleted" if code in _ABSENT else "was replaced"
            hint = "leave an export's files alone while it is read; run again with a complete export"
            raise RunFailed(f"{what} while it was read", where=self.place(key), hint=hint) from error


def hash_pieces(pieces: Iterator[bytes], md5: _Hash) -> Iterator[bytes]:
    """The pieces, each added to the hash as it passes."""
    for piece in pieces:
        md5.update(piece)
        yield piece
