"""The embedded emulator's files are saved completely, and the loss of an unclean end is reported and not
overwritten."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from dynamodt.errors import ServiceError
from dynamodt.local import emulator

GOOD = json.dumps({"__ministack_format__": 2, "payload": {"tables": {}}})
FORMATS = {"": 2}
NO_JSON = GOOD + "\0"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def write(**files: str) -> object:
    def into(folder: Path) -> None:
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)

    return into


def files(data: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((data / "state").iterdir())}


def test_a_save_replaces_the_files_and_leaves_nothing_else(data: Path) -> None:
    (data / "state" / "kms.json").write_text("not of this save")
    for text in ("older", "newer"):
        emulator.save(data, ["dynamodb", "s3"], write(dynamodb=text, s3="same"))  # type: ignore[arg-type]
    assert files(data) == {"dynamodb.json": "newer", "kms.json": "not of this save", "s3.json": "same"}


def test_a_save_that_lacks_a_service_replaces_none(data: Path) -> None:
    emulator.save(data, ["dynamodb", "s3"], write(dynamodb="older", s3="older"))  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"s3\.json"):
        emulator.save(data, ["dynamodb", "s3"], write(dynamodb="newer"))  # type: ignore[arg-type]
    assert files(data) == {"dynamodb.json": "older", "s3.json": "older"}


def test_unsaved_changes_are_recorded_until_they_are_saved(data: Path) -> None:
    assert emulator.unsaved_since(data) == ""
    emulator.mark_unsaved(data, "2026-01-31T00:00:00+00:00")
    assert emulator.unsaved_since(data) == "2026-01-31T00:00:00+00:00"
    emulator.mark_saved(data)
    emulator.mark_saved(data)
    assert emulator.unsaved_since(data) == ""


def test_the_loss_of_an_unclean_end_is_reported_until_an_emulator_runs_again(data: Path) -> None:
    emulator.mark_unsaved(data, "2026-01-31T00:00:00+00:00")
    for _ in range(2):  # the first attempt to start one has failed
        (said,) = emulator.recover(data, False, FORMATS)
        assert "since 2026-01-31T00:00:00+00:00 may be lost" in said
    emulator.mark_recovered(data)
    (said,) = emulator.recover(data, False, FORMATS)
    assert "no change is lost" in said


def test_a_time_that_a_full_disk_did_not_store_is_the_file_s(data: Path) -> None:
    (data / "unsaved").touch()
    os.utime(data / "unsaved", (0, 0))
    assert emulator.unsaved_since(data) == "1970-01-01T00:00:00.000+00:00"


@pytest.mark.parametrize("make", [Path.mkdir, lambda file: file.symlink_to("nowhere")])
def test_a_folder_in_place_of_a_file_is_set_aside(data: Path, make: Callable[[Path], None]) -> None:
    make(data / "state" / "dynamodb.json")
    (said,) = emulator.recover(data, True, FORMATS)
    assert "are empty" in said and files(data) == {}


def test_a_file_that_may_not_be_read_stays_where_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "state" / "dynamodb.json").write_text(GOOD)
    denied = PermissionError(errno.EACCES, "Permission denied")
    with monkeypatch.context() as patched, pytest.raises(ServiceError, match="Permission denied") as caught:
        patched.setattr(Path, "read_bytes", Mock(side_effect=denied))
        emulator.recover(data, True, FORMATS)
    assert caught.value.where.endswith("dynamodb.json") and files(data) == {"dynamodb.json": GOOD}


def test_after_a_stop_no_loss_is_reported(tmp_path: Path) -> None:
    assert emulator.recover(tmp_path, True, FORMATS) == []
    (tmp_path / "state" / "dynamodb.json").write_text(GOOD)
    (tmp_path / "state" / ".saving-x").mkdir()  # a copy that was killed
    assert emulator.recover(tmp_path, True, FORMATS) == []
    assert files(tmp_path) == {"dynamodb.json": GOOD}


@pytest.mark.parametrize("text", ["", GOOD[: len(GOOD) // 2], "[]", "{}", "null", NO_JSON, "\xff"])
def test_a_damaged_file_is_set_aside_as_it_is(data: Path, text: str) -> None:
    file = data / "state" / "dynamodb.json"
    file.write_text(text, encoding="latin-1")
    (data / "state" / "s3.json").write_text(GOOD)
    (said,) = emulator.recover(data, True, FORMATS)
    (moved,) = (data / "damaged").iterdir()
    assert moved.read_text(encoding="latin-1") == text
    assert str(file) in said and str(moved) in said and "are empty" in said
    assert files(data) == {"s3.json": GOOD}


def test_a_file_of_a_later_emulator_is_refused_and_stays(data: Path) -> None:
    later = GOOD.replace("2", "99")
    (data / "state" / "dynamodb.json").write_text(later)
    with pytest.raises(ServiceError, match="later release") as caught:
        emulator.recover(data, True, FORMATS)
    assert caught.value.where.endswith("dynamodb.json") and "local reset" in caught.value.hint
    assert files(data) == {"dynamodb.json": later}


def test_text_that_only_the_standard_json_reads_is_not_damaged(data: Path) -> None:
    (data / "state" / "dynamodb.json").write_text(GOOD.replace("tables", "\\ud800"))
    assert emulator.recover(data, True, FORMATS) == []
