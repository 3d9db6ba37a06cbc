"""`.dynamodt`: what is kept in a project's folder, for its owner alone, and git never sees.

Where prepared data, dead letters and samples are kept: an S3 prefix, encrypted, or a folder on the local stage.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from dynamodt.dynamodb.clients import client, explained, file_explained
from dynamodt.errors import Refused, ServiceError, UsageError

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection, StorageSpec


def make_work_folder(work: Path) -> None:
    """Make the folder, for the owner alone and with its `.gitignore`: data of tables is in it.

    Raises UsageError when it cannot be made.
    """
    ignore = work / ".gitignore"
    try:
        with for_the_owner_alone():
            work.mkdir(parents=True, exist_ok=True)
            if work.stat().st_mode & 0o077:  # of an earlier release
                work.chmod(0o700)
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        hint = "run dynamodt in a folder that you may write to, with space left on its disk"
        raise UsageError(f"the folder cannot be made: {error.strerror}", where=str(work), hint=hint) from error


@contextmanager
def for_the_owner_alone() -> Iterator[None]:
    """Files that are made within, and by a process that is started within, are 0600, and folders 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


_PROBE_BYTES = 1 << 16


class Storage(Protocol):
    """Named objects under one root. Names are relative, with `/` between their parts.

    Every method raises ServiceError when the place does not exist or may not be used.
    """

    def write(self, name: str, data: bytes) -> None:
        """Store an object whole, replacing an older one."""

    def upload(self, name: str, path: Path) -> None:
        """Store a file's content, in parts where it is large."""

    def read(self, name: str) -> bytes | None:
        """An object's content, or None when there is none of that name."""

    def download(self, name: str, path: Path) -> bool:
        """Copy an object into a file; False when there is none of that name."""

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with a prefix, in order."""

    def place(self, name: str) -> str:
        """Where an object is, as a person would look for it."""

    def check(self) -> None:
        """Raises Refused where it is known now that nothing can be written."""


def open_storage(connection: Connection, spec: StorageSpec) -> Storage:
    """The stage's storage: `s3://bucket/prefix`, or a folder."""
    if not spec.url.startswith("s3://"):
        return FolderStorage(Path(spec.url))
    bucket, _, prefix = spec.url.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError("the storage names no bucket", where=spec.url, hint="write s3://bucket/prefix")
    return S3Storage(client(connection, "s3"), bucket, prefix.strip("/"), spec.kms_key)


class S3Storage:
    """Objects in S3, encrypted with the stage's key (SSE-KMS), or as the bucket does by default where it names none:
    with a key of the deployment's, or S3's own (AES256), which S3 has used for every object since 2023."""

    def __init__(self, s3: Any, bucket: str, prefix: str, kms_key: str | None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}

    def write(self, name: str, data: bytes) -> None:
        with explained("PutObject", self.place(name)):
            self._s3.put_object(Bucket=self._bucket, Key=self._root + name, Body=data, **self._encryption)

    def upload(self, name: str, path: Path) -> None:
        with explained("PutObject", self.place(name)), path.open("rb") as file:
            # upload_file would hide the service's error in one of its own
            self._s3.upload_fileobj(file, self._bucket, self._root + name, ExtraArgs=self._encryption)

    def read(self, name: str) -> bytes | None:
        with explained("GetObject", self.place(name)):
            try:
                return bytes(self._s3.get_object(Bucket=self._bucket, Key=self._root + name)["Body"].read())
            except self._s3.exceptions.NoSuchKey:
                return None

    def download(self, name: str, path: Path) -> bool:
        from botocore.exceptions import ClientError

        with explained("GetObject", self.place(name)):
            try:
                self._s3.download_file(self._bucket, self._root + name, str(path))
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in ("404", "NoSuchKey"):
                    raise
                return False
        return True

    def names(self, prefix: str) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2")
        with explained("ListObjectsV2", self.place(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(self._root)

    def place(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._root}{name}"

    def check(self) -> None:
        """What an object may cost, and whether it may be written, only a write can tell."""


class FolderStorage:
    """Files under a folder of this machine, readable by its owner alone, each replaced as a whole. What is written is
    on the disk when `write` returns, and so is its name: a run's journal outlives the machine's power.

    A file that is being written has a name of its own, which `names` leaves out.
    """

    _UNFINISHED = ".unfinished-"

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, name: str, data: bytes) -> None:
        with self._replacing(name) as file:
            file.write(data)

    def upload(self, name: str, path: Path) -> None:
        with path.open("rb") as source, self._replacing(name) as file:
            shutil.copyfileobj(source, file)

    def read(self, name: str) -> bytes | None:
        path = self._root / name
        with file_explained("read", path):
            return path.read_bytes() if path.is_file() else None

    def download(self, name: str, path: Path) -> bool:
        source = self._root / name
        with file_explained("read", source):
            if not source.is_file():
                return False
            shutil.copyfile(source, path)
        return True

    def names(self, prefix: str) -> Iterator[str]:
        top = self._root / prefix.rpartition("/")[0]
        with file_explained("read", top):
            found = [str(path.relative_to(self._root)) for path in self._files(top)]
        return iter(sorted(name for name in found if name.startswith(prefix)))

    def place(self, name: str) -> str:
        return str(self._root / name)

    def check(self) -> None:
        """By a file that is written and deleted again: on a full disk, or in a folder that is read-only, it fails."""
        try:
            with file_explained("written", self._root):
                self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
                with tempfile.NamedTemporaryFile(dir=self._root, prefix=self._UNFINISHED) as probe:
                    probe.write(bytes(_PROBE_BYTES))
                    probe.flush()
                    os.fsync(probe.fileno())
        except ServiceError as error:
            raise Refused(error.what, where=error.where, hint=error.hint) from error

    def _files(self, top: Path) -> Iterator[Path]:
        """Every finished file under a folder; a folder within that cannot be read is an error, not an empty one."""
        if not top.is_dir():
            return
        for folder, _, files in os.walk(top, onerror=_raised):
            yield from (Path(folder, name) for name in files if not name.startswith(self._UNFINISHED))

    @contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        with file_explained("written", path):
            _make_folder(path.parent)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=self._UNFINISHED)  # made with mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            _sync_folder(path.parent)


def _raised(error: OSError) -> None:
    raise error


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, each of which is on the disk then."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in reversed(missing):
        _sync_folder(folder.parent)


def _sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk, where the system can open a folder (Windows cannot)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
