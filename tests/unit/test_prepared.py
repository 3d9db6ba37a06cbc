"""Prepared data: the rows that `prepare` yields are read unchanged, or a run is refused before it starts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamodt.errors import Refused, ScriptError
from dynamodt.model.runs import PreparedRef, Script
from dynamodt.state.prepared import find, load, save
from dynamodt.state.storage import FolderStorage
from tests import strategies

SCRIPT = Script("users", 3, "add_country", "transforms/users/v3_add_country.py", "", "c0ffee", has_prepare=True)
COMMAND = "dynamodt prepare --table users --version 3"
MANIFEST, DATA = "prepared/users/v3.json", "prepared/users/v3.parquet"


@pytest.fixture
def storage(tmp_path: Path) -> FolderStorage:
    return FolderStorage(tmp_path / "storage")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files in these tests: none may remain."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def saved(storage: FolderStorage, *rows: tuple[Any, Any]) -> PreparedRef:
    return save(storage, SCRIPT, rows, "2026-01-31T12:00:00+00:00")


def typed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    return frozenset if isinstance(value, set | frozenset) else type(value), value


def refused(storage: FolderStorage, ref: PreparedRef | None = None) -> Refused:
    with pytest.raises(Refused) as caught:
        load(storage, SCRIPT, ref) if ref else find(storage, SCRIPT)
    assert COMMAND in caught.value.hint
    assert "v3." in caught.value.where
    return caught.value


# ---------------------------------------------------------------- there and back


@settings(max_examples=30)
@given(rows=st.dictionaries(strategies.scalars, strategies.values, max_size=6))
def test_rows_of_every_type_come_back(rows: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    tempfile.tempdir, before = None, tempfile.tempdir
    try:
        storage = FolderStorage(tmp_path_factory.mktemp("storage"))
        back = load(storage, SCRIPT, save(storage, SCRIPT, rows.items(), "now"))
    finally:
        tempfile.tempdir = before
    assert back == rows
    assert {typed(key) for key in back} == {typed(key) for key in rows}
    assert all(typed(back[key]) == typed(rows[key]) for key in rows)


def test_rows_of_a_table_of_this_name_in_another_region_or_account_are_refused(storage: FolderStorage) -> None:
    """Stages may share a storage."""
    ref = save(storage, SCRIPT, [("rate", 2)], "now", "eu-west-1:111122223333")
    for known in ("eu-west-1:111122223333", "eu-west-1:", ":", ""):
        assert find(storage, SCRIPT, known) == ref
    for other in ("us-east-1:", "us-east-1:111122223333", "eu-west-1:444455556666"):
        with pytest.raises(Refused, match=f"in eu-west-1:111122223333, and the stage's table is in {other}") as caught:
            find(storage, SCRIPT, other)
        assert COMMAND in caught.value.hint
    save(storage, SCRIPT, [("rate", 2)], "now", "eu-west-1:")
    assert find(storage, SCRIPT, "eu-west-1:444455556666").place == "eu-west-1:"


def test_rows_of_a_deleted_table_of_this_name_are_refused_until_one_of_the_two_hints_is_followed(
    storage: FolderStorage,
) -> None:
    ref = save(storage, SCRIPT, [("rate", 2)], "now", "eu-west-1:111122223333:2026-01-01 00:00:01")
    for known in (ref.place, "eu-west-1:111122223333:", "eu-west-1:111122223333", "::", ""):
        assert find(storage, SCRIPT, known) == ref
    later = "eu-west-1:111122223333:2026-01-01 00:00:02"
    with pytest.raises(Refused, match="which was deleted and created again since") as caught:
        find(storage, SCRIPT, later)
    assert COMMAND in caught.value.hint and f"remove `place` from {storage.place(MANIFEST)}" in caught.value.hint
    manifest = orjson.loads(storage.read(MANIFEST) or b"")
    storage.write(MANIFEST, orjson.dumps({name: each for name, each in manifest.items() if name != "place"}))
    assert find(storage, SCRIPT, later) == replace(ref, place="")
    save(storage, SCRIPT, [("rate", 2)], "now", later)
    assert find(storage, SCRIPT, later).place == later


def test_saved_data_is_found(storage: FolderStorage) -> None:
    ref = saved(storage, ("AT", "Austria"), ("CH", {"names": ["Schweiz", "Suisse"]}))
    assert find(storage, SCRIPT) == ref
    assert (ref.rows, ref.script_checksum, ref.url) == (2, "c0ffee", storage.place(DATA))
    assert load(storage, SCRIPT, ref) == {"AT": "Austria", "CH": {"names": ["Schweiz", "Suisse"]}}


def test_prepared_data_may_have_no_rows(storage: FolderStorage) -> None:
    assert load(storage, SCRIPT, saved(storage)) == {}


def test_prepared_data_is_read_only(storage: FolderStorage) -> None:
    back: Any = load(storage, SCRIPT, saved(storage, ("a", 1)))
    with pytest.raises(TypeError):
        back["b"] = 2


def test_a_second_preparation_replaces_the_first(storage: FolderStorage) -> None:
    old, new = saved(storage, ("a", 1)), saved(storage, ("a", 2), ("b", 3))
    assert load(storage, SCRIPT, find(storage, SCRIPT)) == {"a": 2, "b": 3} and new.rows == 2
    assert "damaged" in refused(storage, old).what


def test_rows_are_streamed_in_groups(storage: FolderStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a row is requested, all rows before its group are on disk."""
    written = 0
    original = pq.ParquetWriter.write_table

    def counting(self: Any, table: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal written
        written += table.num_rows
        original(self, table, *args, **kwargs)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", counting)

    def rows() -> Iterator[tuple[Any, Any]]:
        for number in range(100_000):
            assert number - written <= 10_000
            yield number, "x"

    ref = save(storage, SCRIPT, rows(), "now")
    assert ref.rows == written == 100_000
    assert pq.ParquetFile(storage.place(DATA)).num_row_groups == 10


# ---------------------------------------------------------------- rows that cannot be kept


@pytest.mark.parametrize(
    ("rows", "what", "hint"),
    [
        ([("a", 1), ("b", 1), ("a", 2)], "the key 'a' twice", "once"),
        ([(1, "a"), (1.0, "b")], "float 1.0", "Decimal"),
        ([(1, "a"), (True, "b")], "the key True twice", "once"),  # equal in Python, so one of them would be lost
        ([("a", 1.5)], "value of 'a'", "Decimal"),
        ([("a", {"b": [set()]})], "value of 'a'.b[0]", ""),
        ([(("AT", 2024), "x")], "a tuple", "one value"),
        ([(frozenset({1}), "x")], "a frozenset", "one value"),
        ([(object(), "x")], "type object", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_that_cannot_be_stored_is_an_error_of_the_script(
    storage: FolderStorage, rows: list[tuple[Any, Any]], what: str, hint: str
) -> None:
    saved(storage, ("before", 1))
    with pytest.raises(ScriptError) as caught:
        saved(storage, *rows)
    assert what in caught.value.what and hint in caught.value.hint and caught.value.where == SCRIPT.path
    assert load(storage, SCRIPT, find(storage, SCRIPT)) == {"before": 1}


def test_a_number_in_another_notation_is_the_same_key(storage: FolderStorage) -> None:
    from decimal import Decimal

    with pytest.raises(ScriptError, match="twice"):
        saved(storage, (1, "a"), (Decimal("1.0"), "b"))


def test_an_error_of_the_script_keeps_the_earlier_data(storage: FolderStorage) -> None:
    saved(storage, ("before", 1))

    def rows() -> Iterator[tuple[Any, Any]]:
        yield "a", 1
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        save(storage, SCRIPT, rows(), "now")
    assert load(storage, SCRIPT, find(storage, SCRIPT)) == {"before": 1}


# ---------------------------------------------------------------- files that are not what they must be


def test_missing_prepared_data_is_refused(storage: FolderStorage) -> None:
    error = refused(storage)
    assert error.exit_code == 3 and "needs prepared data" in error.what


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_refused(storage: FolderStorage, keep: int) -> None:
    ref = saved(storage, *((number, "x") for number in range(100)))
    storage.write(DATA, (storage.read(DATA) or b"")[:keep])
    assert "checksum" in refused(storage, ref).what


def test_a_missing_file_is_refused(storage: FolderStorage) -> None:
    ref = saved(storage, ("a", 1))
    Path(storage.place(DATA)).unlink()
    assert "is missing" in refused(storage, ref).what


def test_another_number_of_rows_is_refused(storage: FolderStorage) -> None:
    ref = saved(storage, ("a", 1), ("b", 2))
    assert "2 rows instead of 3" in refused(storage, replace(ref, rows=3)).what


@pytest.mark.parametrize("other", [{"version": 2}, {"table": "orders"}], ids=str)
def test_a_foreign_manifest_is_refused(storage: FolderStorage, other: dict[str, Any]) -> None:
    saved(storage, ("a", 1))
    storage.write(MANIFEST, orjson.dumps({**orjson.loads(storage.read(MANIFEST) or b""), **other}))
    error = refused(storage)
    assert "belongs to version" in error.what
    assert all(str(value) in error.what for value in other.values())


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b"{}", b'{"table": "users", "version": 3}', b'"x"', b"\xff"]
)
def test_an_invalid_manifest_is_refused(storage: FolderStorage, text: bytes) -> None:
    storage.write(MANIFEST, text)
    assert "cannot be read" in refused(storage).what


def test_data_without_a_manifest_is_ignored(storage: FolderStorage) -> None:
    """The manifest is written last: a preparation that was interrupted leaves nothing that a run would use."""
    saved(storage, ("a", 1))
    Path(storage.place(MANIFEST)).unlink()
    assert "has none" in refused(storage).what
