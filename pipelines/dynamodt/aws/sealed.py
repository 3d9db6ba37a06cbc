"""Objects that know their end: compressed content, and after it a seal.

The seal names the object, counts its records and holds a digest over all of it, so that a missing end, a changed byte
and an object that was copied from elsewhere are each recognized. It is a skippable frame of zstd (RFC 8878, 3.1.2):
every other reader of zstd passes over it and reads the content alone.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct, error
from typing import Any, NamedTuple

import orjson
import zstandard

_LEVEL = 1  # a page is written on the hot path; higher levels cost more time than they save space
_FRAME = Struct("<II")  # magic number and size of a skippable frame
_MAGIC = 0x184D2A5D
_END = Struct("<I4s")  # size of the seal, and who has written it: at the very end, where it is found
_OURS = b"ddt1"
_DIGEST = 16


class Unsealed(ValueError):
    """An object is not what was written under its name: its text says why."""


class Sealed(NamedTuple):
    """An object that is whole: its compressed content, and how many records that has."""

    compressed: bytes
    records: int

    def content(self) -> bytes:
        """Raises Unsealed for content that does not unpack, which only a fault of our own can have written."""
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(self.compressed)
        except zstandard.ZstdError as failure:
            raise Unsealed(str(failure)) from failure


def sealed(name: str, content: bytes, records: int) -> bytes:
    """The bytes of an object."""
    compressed = zstandard.ZstdCompressor(_LEVEL, write_checksum=True).compress(content)
    seal = orjson.dumps({"object": name, "records": records, "digest": _digest(name, compressed, records)})
    end = _END.pack(len(seal), _OURS)
    return b"".join([compressed, _FRAME.pack(_MAGIC, len(seal) + len(end)), seal, end])


def checked(name: str, data: bytes) -> Sealed:
    """An object that was read under a name. Raises Unsealed when it is truncated, damaged or another one."""
    compressed, seal = _split(data)
    try:
        written, records, digest = str(seal["object"]), int(seal["records"]), str(seal["digest"])
    except (KeyError, TypeError, ValueError) as failure:
        raise Unsealed("damaged: its seal is no seal") from failure
    if digest != _digest(written, compressed, records):
        raise Unsealed("damaged: its digest is another one")
    if written != name:
        raise Unsealed(f"foreign: it was written as {written}")
    return Sealed(compressed, records)


def _split(data: bytes) -> tuple[bytes, Any]:
    """The compressed content and the seal. Raises Unsealed when the end is missing."""
    try:
        size, ours = _END.unpack(data[-_END.size :])
        at = len(data) - _END.size - size
        magic, length = _FRAME.unpack(data[at - _FRAME.size : at])
        if ours != _OURS or magic != _MAGIC or length != size + _END.size:
            raise Unsealed("truncated: it has no end")
        seal = orjson.loads(data[at : at + size])
    except (error, orjson.JSONDecodeError) as failure:
        raise Unsealed("truncated: it has no end") from failure
    return data[: at - _FRAME.size], seal


def _digest(name: str, compressed: bytes, records: int) -> str:
    digest = blake2b(compressed, digest_size=_DIGEST)
    digest.update(f"\n{name}\n{records}".encode())
    return digest.hexdigest()
