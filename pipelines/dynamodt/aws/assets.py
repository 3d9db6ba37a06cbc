"""What a job in AWS needs of this machine, kept in the stage's storage under the hash of its content.

An asset that is there is the one that is meant, and is not sent again; none is ever replaced, so that a job that runs
keeps what it was started with.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dynamodt.aws.storage import Storage, open_storage
from dynamodt.model import Stage

PREFIX = "assets/"


class Assets:
    """The assets of a stage. Both `put` raise ServiceError when its storage cannot be used."""

    def __init__(self, stage: Stage, storage: Storage | None = None) -> None:
        self._storage = storage or open_storage(stage.connection, stage.storage)

    def put(self, name: str, content: bytes) -> str:
        """Store the content, unless it is there, and return its URL: `.../assets/SHA256/NAME`."""
        asset = _asset(name, content)
        if not self._has(asset):
            self._storage.write(asset, content)
        return self._storage.place(asset)

    def put_file(self, path: Path) -> str:
        """The same of a file under its own name, in parts where it is large."""
        asset = _asset(path.name, path)
        if not self._has(asset):
            self._storage.upload(asset, path)
        return self._storage.place(asset)

    def place(self, name: str, content: bytes | Path) -> str:
        """The URL that `put` or `put_file` would return; nothing is sent, and nothing asked."""
        return self._storage.place(_asset(name, content))

    def _has(self, asset: str) -> bool:
        return asset in self._storage.names(asset)


def _asset(name: str, content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return f"{PREFIX}{hashlib.sha256(content).hexdigest()}/{name}"
    with content.open("rb") as file:
        return f"{PREFIX}{hashlib.file_digest(file, 'sha256').hexdigest()}/{name}"
