"""Reads an export's files in a process of its own and prints what that took: `python -m tests.read_once FOLDER`.

FOLDER is a bucket's content. Prints the number of items, and the process's peak memory in bytes.
"""

from __future__ import annotations

import hashlib
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dynamodt.export.datafiles import DataReader
from dynamodt.export.objects import Head
from dynamodt.model.pages import Claim
from dynamodt.model.runs import ExportSource, Job, Script
from dynamodt.model.tables import Connection, KeyAttribute, Stage, StorageSpec, TableSpec
from dynamodt.pipeline.process import reduce_collections
from dynamodt.pipeline.read import Images, export_pages, files_of, images_of

ARN = "arn:aws:dynamodb:local:0:table/things"
EXPORT = "AWSDynamoDB/01700000000000-00000001"
PIECE = 2 * 1024 * 1024  # of an object; those of S3 are larger
THINGS = TableSpec("things", (KeyAttribute("id", "N"),))


@dataclass(frozen=True)
class FolderObjects:
    """A bucket in a folder, read in pieces as S3's objects are."""

    root: Path

    def head(self, key: str) -> Head | None:
        path = self.root / key
        if not path.exists():
            return None
        with path.open("rb") as file:
            return Head(path.stat().st_size, hashlib.file_digest(file, "md5").hexdigest())

    def read(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.exists() else None

    def pieces(self, key: str, head: Head) -> Iterator[bytes]:
        with (self.root / key).open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def folders(self, prefix: str) -> Iterator[str]:
        return iter(sorted(path.name for path in (self.root / prefix).iterdir() if path.is_dir()))

    def write(self, key: str, data: bytes) -> str:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def place(self, key: str) -> str:
        return str(self.root / key)


def read(root: Path) -> int:
    """The number of items, read as a worker reads them."""
    reduce_collections()
    objects, source = FolderObjects(root), ExportSource("bucket", EXPORT, ARN)
    stage = Stage("test", Connection("local"), StorageSpec(str(root)))
    files = files_of(objects, source)
    job = Job("run", stage, THINGS, Script("things", 1, "x", "x", "", ""), "up", len(files), source=source)

    def images(claim: Claim, cursor: int) -> Images:
        return images_of(job, DataReader(objects, THINGS, size=job.page_items), files[claim.split], cursor)

    claims = (Claim(split, 1) for split in range(len(files)))
    with ThreadPoolExecutor(job.read_ahead) as executor:
        return sum(len(page.images) for page in export_pages(job, claims, images, executor))


def peak() -> int:
    """The process's peak memory in bytes. On Linux, getrusage includes the memory of the parent process."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(read(Path(sys.argv[1])), peak())
