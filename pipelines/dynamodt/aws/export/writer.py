"""Writes an export's files in AWS's layout, with its checksums; the package's docstring says what they are."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable
from typing import Any, TypeAlias

import orjson

from dynamodt.aws.export.layout import FILES, STARTED, SUMMARY, ExportFolder
from dynamodt.aws.export.objects import Objects
from dynamodt.core.keys import key_text
from dynamodt.model import Image

Line: TypeAlias = tuple[Image, dict[str, Any]]  # what decides the file (a partition key), and the record
Summary: TypeAlias = dict[str, Any]

_GZIP = zlib.MAX_WBITS | 16


class ExportWriter:
    """The files of one export: `start`, then `write_data`, then `write_summary`. Whoever sees the summary, sees all."""

    def __init__(self, objects: Objects, folder: ExportFolder, *, files: int = 4) -> None:
        """`files`: of data, one for each "partition", empty where nothing falls into it, as AWS does."""
        self._objects = objects
        self._folder = folder
        self._files = files
        self._items = 0

    def start(self) -> None:
        self._objects.write(self._folder.file(STARTED), b"")

    def write_data(self, lines: Iterable[Line], *, shared: bool = False) -> None:
        """Writes the records, and the list of their files. `shared`: into the data folder of all incremental exports.
        Holds the compressed files in memory."""
        files = [_DataFile() for _ in range(self._files)]
        for partition, record in lines:
            files[zlib.crc32(key_text(partition).encode()) % self._files].add(record)
        listed = [self._write(number, file, shared) for number, file in enumerate(files)]
        self._items = sum(file.items for file in files)
        self._write_manifest(FILES, b"".join(orjson.dumps(entry) + b"\n" for entry in listed))

    def write_summary(self, summary: Summary) -> None:
        """Writes the summary, with what is known here added: the export is complete."""
        counted = {
            "manifestFilesS3Key": self._folder.file(f"{FILES}.json"),
            "billedSizeBytes": 0,
            "itemCount": self._items,
            "outputFormat": "DYNAMODB_JSON",
        }
        self._write_manifest(SUMMARY, orjson.dumps({**summary, **counted}))

    def _write(self, number: int, file: _DataFile, shared: bool) -> dict[str, Any]:
        data = file.close()
        key = self._data_key(number, shared)
        return {
            "itemCount": file.items,
            "md5Checksum": _md5(data),
            "etag": self._objects.write(key, data),
            "dataFileS3Key": key,
        }

    def _data_key(self, number: int, shared: bool) -> str:
        root = self._folder.key.rpartition("/")[0] if shared else self._folder.key
        name = hashlib.sha256(f"{self._folder.id} {number}".encode()).digest()[:16]
        return f"{root}/data/{base64.b32encode(name).decode().strip('=').lower()}.json.gz"

    def _write_manifest(self, name: str, data: bytes) -> None:
        self._objects.write(self._folder.file(f"{name}.md5"), _md5(data).encode())
        self._objects.write(self._folder.file(f"{name}.json"), data)


class _DataFile:
    def __init__(self) -> None:
        self.items = 0
        self._gzip = zlib.compressobj(wbits=_GZIP)
        self._parts: list[bytes] = []

    def add(self, record: dict[str, Any]) -> None:
        self.items += 1
        self._parts.append(self._gzip.compress(orjson.dumps(record) + b"\n"))

    def close(self) -> bytes:
        return b"".join([*self._parts, self._gzip.flush()])


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
