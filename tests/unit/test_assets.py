"""Assets are stored under the hash of their content, and sent once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dynamodt.deploy.packages import Assets
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.state.storage import FolderStorage


class Counting(FolderStorage):
    """A folder that counts what is sent to it."""

    sent = 0

    def write(self, name: str, data: bytes) -> None:
        self.sent += 1
        super().write(name, data)

    def upload(self, name: str, path: Path) -> None:
        self.sent += 1
        super().upload(name, path)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "storage")


@pytest.fixture
def assets(tmp_path: Path, storage: Counting) -> Assets:
    return Assets(Stage("dev", Connection("r"), StorageSpec(str(tmp_path / "storage"))), storage)


def test_the_place_of_an_asset_contains_its_hash(assets: Assets, storage: Counting) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    assert assets.put("project.zip", b"content") == storage.place(f"assets/{digest}/project.zip")
    assert storage.read(f"assets/{digest}/project.zip") == b"content"


def test_an_asset_is_sent_once(assets: Assets, storage: Counting, tmp_path: Path) -> None:
    file = tmp_path / "a.jar"
    file.write_bytes(b"content")
    assert assets.put("a.jar", b"content") == assets.put("a.jar", b"content") == assets.put(file.name, file)
    assert storage.sent == 1
    assert assets.put("a.jar", b"other") != assets.put("b.jar", b"other")
    file.write_bytes(b"third")
    assets.put(file.name, file)
    assert storage.sent == 4


def test_a_similar_name_is_not_the_asset(assets: Assets, storage: Counting) -> None:
    assets.put("project.zip", b"x")
    assets.put("project", b"x")
    assert storage.sent == 2
