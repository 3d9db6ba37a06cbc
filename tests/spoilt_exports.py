"""Alters an export's files, with or without adapting the manifests and checksums."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from dynamodt.export.objects import S3Objects
from dynamodt.export.request import FILES, SUMMARY, ExportFolder


def listed(objects: S3Objects, folder: ExportFolder) -> list[dict[str, Any]]:
    """The lines of manifest-files.json."""
    return [orjson.loads(line) for line in (objects.read(folder.file(f"{FILES}.json")) or b"").splitlines()]


def largest(objects: S3Objects, folder: ExportFolder) -> str:
    """The key of the data file with the most items."""
    return str(max(listed(objects, folder), key=lambda entry: int(entry["itemCount"]))["dataFileS3Key"])


def rewrite(objects: S3Objects, folder: ExportFolder, key: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a data file, and everything in the manifests that depends on them."""
    found = gzip.decompress(objects.read(key) or b"").splitlines()
    lines = change(found)
    data = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    told = {"itemCount": len(lines), "md5Checksum": md5(data), "etag": objects.write(key, data)}
    entries = [entry | told if entry["dataFileS3Key"] == key else entry for entry in listed(objects, folder)]
    write_manifest(objects, folder, FILES, b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
    summary = orjson.loads(objects.read(folder.file(f"{SUMMARY}.json")) or b"{}")
    summary["itemCount"] += len(lines) - len(found)
    write_manifest(objects, folder, SUMMARY, orjson.dumps(summary))


def write_manifest(objects: S3Objects, folder: ExportFolder, name: str, data: bytes) -> None:
    """A manifest with its checksum."""
    objects.write(folder.file(f"{name}.json"), data)
    objects.write(folder.file(f"{name}.md5"), md5(data).encode())


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()
