"""A bucket in memory, with the interface of `export.objects.S3Objects`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dynamodt.export.objects import Head


@dataclass
class FakeObjects:
    """`piece`: bytes of one piece. `etags` and `secret` (encrypted with a key of KMS) override what a PUT gives."""

    content: dict[str, bytes] = field(default_factory=dict)
    piece: int = 100
    etags: dict[str, str] = field(default_factory=dict)
    secret: set[str] = field(default_factory=set)
    reads: list[str] = field(default_factory=list)

    @classmethod
    def of_folder(cls, root: Path) -> FakeObjects:
        paths = (path for path in root.rglob("*") if path.is_file())
        return cls({path.relative_to(root).as_posix(): path.read_bytes() for path in paths})

    def head(self, key: str) -> Head | None:
        data = self.content.get(key)
        if data is None:
            return None
        return Head(len(data), self.etags.get(key) or hashlib.md5(data).hexdigest(), key not in self.secret)

    def read(self, key: str) -> bytes | None:
        return self.content.get(key)

    def pieces(self, key: str, head: Head) -> Iterator[bytes]:
        self.reads.append(key)
        data = self.content[key]
        return (data[start : start + self.piece] for start in range(0, len(data), self.piece))

    def folders(self, prefix: str) -> Iterator[str]:
        below = (key.removeprefix(prefix) for key in self.content if key.startswith(prefix))
        return iter(sorted({name.partition("/")[0] for name in below if "/" in name}))

    def write(self, key: str, data: bytes) -> str:
        self.content[key] = data
        return hashlib.md5(data).hexdigest()

    def place(self, key: str) -> str:
        return f"s3://bucket/{key}"
