"""The fixture `dynamodt_table`: a new table of an emulator for each test, and the versions of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from dynamodt.errors import DynamodtError, UsageError
from dynamodt.local import stage as local
from dynamodt.testing.embedded import Emulator


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    found = Emulator(tmp_path, tmp_path / "data")
    yield found
    found.stop()


def version(folder: Path, number: int, text: str) -> None:
    path = folder / "transforms" / "users" / f"v{number}_change.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"sequence = {number}\n" + dedent(text))


def test_each_table_of_the_fixture_has_its_own_name_and_history(emulator: Emulator, tmp_path: Path) -> None:
    assert not (tmp_path / "data").exists()  # nothing is started before a table is asked for
    version(tmp_path, 1, "def transform_up(i): return {**i, 'v': i['b']}\ndef transform_down(i): i.pop('v'); return i")
    version(tmp_path, 2, "def prepare(context): yield 'k', 1\ndef transform_up(i, p): return {**i, 'k': p['k']}")
    version(tmp_path, 3, "TARGET_TABLE = 'people'\ndef transform_up(i): return {'name': i['id']}")
    version(tmp_path, 4, "def transform_up(i): return 1 / 0")
    (tmp_path / "dynamodt.toml").write_text('[stages.local.tables]\npeople = { name = "S" }\n')
    with pytest.raises(UsageError, match="the key of table users is not known"):
        emulator.table("users")
    users, other = emulator.table("users", {"id": "S"}), emulator.table("users", {"id": "S"})
    users.put({"id": "2", "b": b"\x00"}, {"id": "1", "b": b"\x01"})
    users.up(to=1)
    assert users.items() == [{"id": "1", "b": b"\x01", "v": b"\x01"}, {"id": "2", "b": b"\x00", "v": b"\x00"}]
    assert [report.version for report in users.down()] == [1]
    users.prepare(2)
    assert [report.version for report in users.up(to=3)] == [1, 2, 3]
    assert users.items("people") == [{"name": "1"}, {"name": "2"}]
    with pytest.raises(DynamodtError, match="2 items could not be transformed"):
        users.up()
    assert other.items() == [] and other.name != users.name
    assert {users.name, other.name} <= set(users.client.list_tables()["TableNames"])
    emulator.stop()
    assert not local.status(tmp_path / "data").running
