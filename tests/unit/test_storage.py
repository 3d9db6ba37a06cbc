"""A folder as storage: private, whole files only, and names as S3 would list them."""

from __future__ import annotations

import errno
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import boto3
import pytest
from boto3.exceptions import RetriesExceededError
from botocore.exceptions import FlexibleChecksumError
from botocore.httpchecksum import Crc32Checksum, StreamingChecksumBody
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from s3transfer.exceptions import S3DownloadFailedError

from dynamodt.errors import Refused, ServiceError, UsageError
from dynamodt.model.tables import Connection, StorageSpec
from dynamodt.state.storage import FolderStorage, S3Storage, open_storage

NAMES = ["prepared/users/v1.json", "prepared/users/v1.parquet", "prepared/users2/v1.json", "runs/a/dead/1", "top"]
HERE = Connection("us-east-1", "http://127.0.0.1:9", access_key="test", secret_key="test")


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "storage")


def filled(storage: FolderStorage) -> FolderStorage:
    for name in NAMES:
        storage.write(name, name.encode())
    return storage


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


@given(data=st.binary(max_size=1000))
def test_a_written_export_is_read_unchanged(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("storage")
    storage = FolderStorage(folder / "storage")
    storage.write("a/b/c", b"older")
    storage.write("a/b/c", data)
    assert storage.read("a/b/c") == data
    assert storage.download("a/b/c", folder / "copy") and (folder / "copy").read_bytes() == data
    storage.upload("d", folder / "copy")
    assert storage.read("d") == data
    assert storage.place("a/b/c") == str(folder / "storage/a/b/c")


def test_a_file_is_on_the_disk_before_it_has_its_name(storage: FolderStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, and the folders that were made for it, are on the disk before the write returns."""
    acts: list[str] = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        acts.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def replaced(source: str, target: Path) -> None:
        acts.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    storage.write("a/b", b"data")
    assert acts == ["folder", "folder", "file", "name", "folder"]
    acts.clear()
    storage.write("a/c", b"data")
    assert acts == ["file", "name", "folder"]


def test_a_missing_file_of_a_folder_is_read_as_none(storage: FolderStorage, tmp_path: Path) -> None:
    filled(storage)
    for name in ("nothing", "prepared", "prepared/users/v1"):  # a folder is no object
        assert storage.read(name) is None
        assert not storage.download(name, tmp_path / "copy") and not (tmp_path / "copy").exists()


def test_files_are_their_owner_s_alone(storage: FolderStorage, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.write_bytes(b"x")
    open_to_all.chmod(0o666)
    storage.upload("a/uploaded", open_to_all)
    storage.write("a/written", b"x")
    Path(storage.place("a/written")).chmod(0o644)
    storage.write("a/written", b"y")
    assert {mode(storage.place(name)) for name in storage.names("")} == {0o600}
    assert mode(Path(storage.place("a"))) == 0o700


@pytest.mark.parametrize(
    "prefix",
    ["", "prepared/", "prepared", "prepared/users", "prepared/users/", "prepared/users/v1.p", "runs/", "t", "x"],
)
def test_names_are_those_with_the_prefix_in_order(storage: FolderStorage, prefix: str) -> None:
    assert list(filled(storage).names(prefix)) == [name for name in NAMES if name.startswith(prefix)]


def test_an_empty_storage_has_no_names(storage: FolderStorage, tmp_path: Path) -> None:
    (tmp_path / "beside").write_bytes(b"not ours")
    assert [*storage.names(""), *storage.names("prepared/"), *storage.names("prepared/users/v")] == []


def test_a_file_is_replaced_completely_or_not_at_all(storage: FolderStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write("a/b", b"older")

    def full(*args: Any) -> None:
        assert list(storage.names("")) == ["a/b"]  # a file that is being written has no name yet
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ServiceError, match="No space left") as caught:
        storage.write("a/b", b"newer")
    assert caught.value.where == storage.place("a/b") and "free some space" in caught.value.hint
    assert storage.read("a/b") == b"older"
    assert [path.name for path in Path(storage.place("a")).iterdir()] == ["b"]  # and nothing is left behind


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "DYNAMODT_STORAGE"),
        (errno.EACCES, "DYNAMODT_STORAGE"),
        (errno.EIO, "check the disk"),
        (errno.ESTALE, "check the folder"),
    ],
)
def test_a_failing_folder_raises_service_errors(
    storage: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hint: str
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    filled(storage)
    opened = Path.open

    def open_elsewhere(path: Path, *args: Any, **options: Any) -> Any:
        return fail() if path.is_relative_to(tmp_path / "storage") else opened(path, *args, **options)

    for name in ("os.replace", "os.walk", "pathlib.Path.read_bytes"):
        monkeypatch.setattr(name, fail)
    monkeypatch.setattr("pathlib.Path.open", open_elsewhere)
    (tmp_path / "file").touch()
    for attempt in (
        lambda: storage.write("top", b"x"),
        lambda: storage.upload("top", tmp_path / "file"),
        lambda: storage.read("top"),
        lambda: storage.download("top", tmp_path / "copy"),
        lambda: list(storage.names("")),
    ):
        with pytest.raises(ServiceError, match=os.strerror(number)) as caught:
            attempt()
        assert str(tmp_path / "storage") in caught.value.where and hint in caught.value.hint


def test_a_file_that_cannot_be_read_to_its_end_is_an_error_of_the_storage(
    storage: FolderStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has its own place: only an error of the file itself concerns the storage."""

    class Torn(BytesIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    filled(storage)
    opened, torn = Path.open, Path(storage.place("top"))
    monkeypatch.setattr(Path, "open", lambda path, *of: Torn() if path == torn else opened(path, *of))
    with pytest.raises(ServiceError, match="Input/output error") as caught:
        storage.download("top", tmp_path / "copy")
    assert caught.value.where == storage.place("top") and "check the disk" in caught.value.hint


def test_the_check_leaves_a_writable_folder_unchanged(storage: FolderStorage) -> None:
    storage.check()
    filled(storage).check()
    assert [*storage.names("")] == NAMES
    assert not [path for path in Path(storage.place("")).rglob("*") if path.name.startswith(".")]


def test_a_folder_that_cannot_be_written_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Refused, match="cannot be written") as caught:
            FolderStorage(root).check()
        assert caught.value.where == str(root) and "a file is where a folder should be" in caught.value.hint

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Refused, match="No space left"):
        FolderStorage(tmp_path / "storage").check()
    assert list((tmp_path / "storage").iterdir()) == []


# ---------------------------------------------------------------- which one


def test_a_storage_is_a_folder_or_a_bucket(tmp_path: Path) -> None:
    assert isinstance(open_storage(HERE, StorageSpec(str(tmp_path))), FolderStorage)
    assert open_storage(HERE, StorageSpec("s3://bucket")).place("a/b") == "s3://bucket/a/b"
    assert open_storage(HERE, StorageSpec("s3://bucket/pre/fix/")).place("a/b") == "s3://bucket/pre/fix/a/b"


def test_a_bucket_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="names no bucket") as caught:
        open_storage(HERE, StorageSpec("s3:///prefix"))
    assert caught.value.where == "s3:///prefix" and "s3://bucket/prefix" in caught.value.hint


# ---------------------------------------------------------------- S3, as far as it needs no S3


@pytest.fixture
def s3() -> Any:
    return boto3.client("s3", region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


@pytest.mark.parametrize(
    ("key", "encryption"),
    [
        (None, {}),  # as the bucket does by default: a header would put S3's key in the place of the bucket's own
        ("alias/ours", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/ours"}),
    ],
)
def test_every_object_is_encrypted(s3: Any, key: str | None, encryption: dict[str, str]) -> None:
    with Stubber(s3) as stub:
        stub.add_response("put_object", {"ETag": "e"}, {"Bucket": "b", "Key": "p/a", "Body": b"x", **encryption})
        S3Storage(s3, "b", "p", key).write("a", b"x")
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("NoSuchBucket", "create the bucket"),
        ("AccessDenied", "grant the action"),
        ("SlowDown", "S3 is busy"),
        ("KMS.DisabledException", "enable the KMS key"),
    ],
)
def test_an_unusable_bucket_is_an_error_with_a_hint(s3: Any, code: str, hint: str) -> None:
    storage = S3Storage(s3, "b", "", None)
    with Stubber(s3) as stub:
        for operation in ("put_object", "get_object"):
            stub.add_client_error(operation, code, "no")
        for attempt in (lambda: storage.write("a", b"x"), lambda: storage.read("a")):
            with pytest.raises(ServiceError) as caught:
                attempt()
            assert hint in caught.value.hint and caught.value.where == "s3://b/a"


def test_an_object_that_cannot_be_read_completely_is_named_with_a_hint(s3: Any, tmp_path: Path) -> None:
    storage = S3Storage(s3, "b", "", None)
    errors = (
        RetriesExceededError(FlexibleChecksumError(error_msg="another checksum")),
        S3DownloadFailedError("the object is another one than at the first part"),
    )
    for error, what in zip(errors, ("another checksum", "another one"), strict=True):
        s3.download_file = Mock(side_effect=error)
        with pytest.raises(ServiceError, match=rf"s3://b/a: .*{what}") as caught:
            storage.download("a", tmp_path / "a")
        assert "damaged" in caught.value.hint
    with Stubber(s3) as stub:
        for _ in range(3):
            stub.add_response("get_object", content(StreamingChecksumBody(BytesIO(b"x"), 1, Crc32Checksum(), "AAA=")))
        with pytest.raises(ServiceError, match="s3://b/a: GetObject returned other content") as caught:
            storage.read("a")
    assert "damaged" in caught.value.hint


def content(body: Any) -> dict[str, Any]:
    return {"Body": body, "ETag": "e"}


@pytest.mark.parametrize("broken", [1, 2])
def test_an_object_whose_response_ends_early_is_read_again(s3: Any, broken: int) -> None:
    with Stubber(s3) as stub:
        for _ in range(broken):
            stub.add_response("get_object", content(StreamingBody(BytesIO(b"con"), 7)))
        stub.add_response("get_object", content(StreamingBody(BytesIO(b"content"), 7)))
        assert S3Storage(s3, "b", "", None).read("a") == b"content"


def test_responses_that_all_end_early_are_an_error_of_the_network(s3: Any) -> None:
    with Stubber(s3) as stub:
        for _ in range(3):
            stub.add_response("get_object", content(StreamingBody(BytesIO(b"con"), 7)))
        with pytest.raises(ServiceError, match=r"s3://b/a: GetObject failed: .*incomplete response") as caught:
            S3Storage(s3, "b", "", None).read("a")
    assert "check the network" in caught.value.hint


def test_a_response_of_another_server_is_an_error(s3: Any) -> None:
    """botocore reads a login page as an empty response."""
    storage = S3Storage(s3, "b", "", None)
    page = {"Body": StreamingBody(BytesIO(b"<html/>"), 7)}
    for operation, answer, attempt in (
        ("put_object", {}, lambda: storage.write("a", b"x")),
        ("get_object", page, lambda: storage.read("a")),
        ("list_objects_v2", {}, lambda: list(storage.names("a"))),
    ):
        with Stubber(s3) as stub:
            stub.add_response(operation, answer)
            with pytest.raises(ServiceError, match="s3://b/a: ") as caught:
                attempt()
        assert "not the service's own" in caught.value.hint


def test_a_missing_object_is_read_as_none(s3: Any) -> None:
    with Stubber(s3) as stub:
        stub.add_client_error("get_object", "NoSuchKey", "no")
        assert S3Storage(s3, "b", "", None).read("a") is None


def test_names_are_relative_to_the_prefix(s3: Any) -> None:
    pages = [["p/runs/1", "p/runs/2"], ["p/runs/3"]]
    with Stubber(s3) as stub:
        for number, page in enumerate(pages):
            more = {"IsTruncated": True, "NextContinuationToken": "t"} if number == 0 else {"IsTruncated": False}
            asked = {"Bucket": "b", "Prefix": "p/runs/", **({"ContinuationToken": "t"} if number else {})}
            stub.add_response("list_objects_v2", {"Contents": [{"Key": key} for key in page], **more}, asked)
        assert list(S3Storage(s3, "b", "p", None).names("runs/")) == ["runs/1", "runs/2", "runs/3"]
