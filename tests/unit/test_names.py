"""Names that determine the treatment of data: a run's id in an item, a folder's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamodt.errors import UsageError
from dynamodt.runs.jobs import new_run
from dynamodt.script.names import is_run_id, looks_like_version_file, version_files


def test_the_id_of_a_new_run_is_recognized() -> None:
    assert all(is_run_id(new_run()) for _ in range(20))


@pytest.mark.parametrize(
    "value", ["", "Ann", None, 7, b"20260102T030405.678901Z-0a1b2c", "20260102T030405.678901Z-adopted-v000001"]
)
def test_other_texts_are_no_run_ids(value: object) -> None:
    assert not is_run_id(value) and not is_run_id(f"{new_run()}\n")


@pytest.mark.parametrize(
    ("name", "expected"), [("v1_a.py", True), ("2-b.py", True), ("lookup.py", False), ("v1.txt", False)]
)
def test_a_misspelt_version_file_is_recognized(name: str, expected: bool) -> None:
    assert looks_like_version_file(name) is expected


def test_the_folder_with_a_similar_name_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    with pytest.raises(UsageError, match="there is no folder") as error:
        version_files(tmp_path, "usres")
    assert error.value.hint.startswith("Did you mean users? ")
    with pytest.raises(UsageError) as error:
        version_files(tmp_path, "orders")
    assert "mean" not in error.value.hint
