"""The storage of a stage's files: journals, prepared data, dead letters and samples.

`Storage` is an encrypted S3 prefix, or a folder on the local stage. `.dynamodt` is the work folder of a project, which
only its owner can read and git ignores.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from dynamodt.dynamodb.clients import account_id, bucket_owner, client, explained
from dynamodt.dynamodb.network import Tolerated, content_of, own
from dynamodt.errors import Refused, ServiceError, UsageError, file_explained

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection, Stage, StorageSpec


def make_work_folder(work: Path) -> None:
    """Creates the folder, which holds data of tables, with access for its owner only and a `.gitignore`.

    Raises UsageError when it cannot be created.
    """
    ignore = work / ".gitignore"
    try:
        with for_the_owner_alone():
            work.mkdir(parents=True, exist_ok=True)
            if work.stat().st_mode & 0o077:  # created by an earlier release
                work.chmod(0o700)
            if not ignore.exists() or not ignore.stat().st_size:  # a full disk has left it empty
                ignore.write_text("*\n", encoding="utf-8")
    except OSError as error:
        hint = "run dynamodt in a writable folder, with space on its disk"
        raise UsageError(f"the folder cannot be created: {error.strerror}", where=str(work), hint=hint) from error


@contextmanager
def for_the_owner_alone() -> Iterator[None]:
    """Files that this process and its child processes create within the context have mode 0600, folders 0700."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def user_cache() -> Path:
    """The user's cache folder, outside the installed package, which may be read-only and is removed with its
    environment. Raises RuntimeError for a user without a home folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "dynamodt"


_PROBE_BYTES = 1 << 16
_PART_BYTES = 1 << 20


class Storage(Protocol):
    """Named objects under one root. Names are relative, with `/` between their parts.

    Every method raises ServiceError when the bucket or folder is missing or access to it is denied.
    """

    def write(self, name: str, data: bytes) -> str | None:
        """Stores an object and replaces an older one. Returns its ETag in S3."""

    def upload(self, name: str, path: Path) -> None:
        """Stores a file's content, in parts when it is large."""

    def read(self, name: str) -> bytes | None:
        """An object's content; None when it does not exist."""

    def download(self, name: str, path: Path) -> bool:
        """Copies an object into a file; False when it does not exist."""

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with a prefix, in order."""

    def place(self, name: str) -> str:
        """An object's URL or path, for messages."""

    def check(self) -> None:
        """Raises Refused when a write is known to fail."""


def open_storage(connection: Connection, spec: StorageSpec) -> Storage:
    """The stage's storage: `s3://bucket/prefix`, or a folder. Raises UsageError for a URL without a bucket."""
    if not spec.in_s3:
        return FolderStorage(Path(spec.url))
    if not spec.bucket:
        raise UsageError("the storage names no bucket", where=spec.url, hint="write s3://bucket/prefix")
    return S3Storage(client(connection, "s3", owner=spec.owner), spec.bucket, spec.prefix, spec.kms_key)


def with_owner(stage: Stage) -> Stage:
    """The stage with the account that owns its bucket, so that its workers and jobs send no request to STS, which their
    network may not reach. Unchanged for a folder or a custom endpoint. Raises ServiceError."""
    spec = stage.storage
    if spec.owner or stage.connection.endpoint("S3") or not spec.in_s3:
        return stage
    return replace(stage, storage=replace(spec, owner=bucket_owner(stage.connection)))


def is_owned_by(connection: Connection, bucket: str, account: str) -> bool:
    """Whether a bucket belongs to an account; false also where HeadBucket is refused to the caller."""
    with explained("HeadBucket", f"bucket {bucket}"), Tolerated(403):
        client(connection, "s3", owner=account).head_bucket(Bucket=bucket)
        return True
    return False


def owner_of(stage: Stage, bucket: str) -> str:
    """The account that owns a bucket named by its URL. Empty if another account owns it, or if this cannot be
    determined without s3:ListBucket; it is read all the same, since the user has named it. Raises ServiceError."""
    if bucket == stage.storage.bucket:
        return with_owner(stage).storage.owner or ""
    if stage.connection.endpoint("S3"):
        return ""
    account = account_id(stage.connection)
    return account if is_owned_by(stage.connection, bucket, account) else ""


class S3Storage:
    """Objects in S3, encrypted with the stage's key (SSE-KMS). Without one, the bucket's default applies: the
    deployment's key, or S3's own encryption (AES256), the default of every bucket since 2023."""

    def __init__(self, s3: Any, bucket: str, prefix: str, kms_key: str | None) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._root = f"{prefix}/" if prefix else ""
        self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}

    def write(self, name: str, data: bytes) -> str:
        key = self._root + name
        with explained("PutObject", self.place(name)):
            answer = own(self._s3.put_object(Bucket=self._bucket, Key=key, Body=data, **self._encryption), "ETag")
        return str(answer["ETag"]).strip('"')

    def upload(self, name: str, path: Path) -> None:
        with explained("PutObject", self.place(name)), path.open("rb") as file:
            # upload_file would wrap the service's error in its own
            self._s3.upload_fileobj(file, self._bucket, self._root + name, ExtraArgs=self._encryption)

    def read(self, name: str) -> bytes | None:
        with explained("GetObject", self.place(name)), Tolerated("NoSuchKey"):
            return content_of(partial(self._s3.get_object, Bucket=self._bucket, Key=self._root + name))
        return None

    def download(self, name: str, path: Path) -> bool:
        with explained("GetObject", self.place(name)), Tolerated("404", "NoSuchKey"):
            self._s3.download_file(self._bucket, self._root + name, str(path))
            return True
        return False

    def names(self, prefix: str) -> Iterator[str]:
        pages = self._s3.get_paginator("list_objects_v2")
        with explained("ListObjectsV2", self.place(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._root + prefix):
                for entry in own(page, "IsTruncated").get("Contents", ()):
                    yield entry["Key"].removeprefix(self._root)

    def place(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._root}{name}"

    def check(self) -> None:
        """Does nothing: only a real write shows whether it is allowed."""


class FolderStorage:
    """Files under a local folder, readable by their owner only, each replaced as a whole. When `write` returns, the
    file and its name are on the disk: a run's journal survives a power failure.

    A file that is being written has a temporary name, which `names` leaves out.
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
            found = source.open("rb")
        with found, path.open("wb") as copy:
            for part in _read_in_parts(found, source):
                copy.write(part)  # an error concerns the copy, whose path the caller reports
        return True

    def names(self, prefix: str) -> Iterator[str]:
        top = self._root / prefix.rpartition("/")[0]
        with file_explained("read", top):
            found = [str(path.relative_to(self._root)) for path in self._files(top)]
        return iter(sorted(name for name in found if name.startswith(prefix)))

    def place(self, name: str) -> str:
        return str(self._root / name)

    def check(self) -> None:
        """Writes and deletes a file, which fails on a full disk or in a read-only folder."""
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
        """Every finished file under a folder. Raises OSError if a subfolder cannot be read."""
        if not top.is_dir():
            return
        for folder, _, files in os.walk(top, onerror=_raised):
            yield from (Path(folder, name) for name in files if not name.startswith(self._UNFINISHED))

    @contextmanager
    def _replacing(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        with file_explained("written", path):
            _make_folder(path.parent)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=self._UNFINISHED)  # with mode 0600
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            to_disk(path.parent)


def _read_in_parts(file: BinaryIO, path: Path) -> Iterator[bytes]:
    while True:
        with file_explained("read", path):
            part = file.read(_PART_BYTES)
        if not part:
            return
        yield part


def _raised(error: OSError) -> None:
    raise error


def _make_folder(path: Path) -> None:
    """Creates a folder and its parents, and brings their names to the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    for folder in reversed(missing):
        to_disk(folder.parent)


def to_disk(path: Path) -> None:
    """Brings a file, or a folder's names, to the disk; Windows has no call for it."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
