"""`state.journal`: an object is exactly what was written under its name, or it is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import zstandard

from dynamodt.errors import RunFailed
from dynamodt.model.tables import TableSpec
from dynamodt.state.journal import Journal, Unsealed, checked, sealed
from dynamodt.state.storage import FolderStorage

NAME, CONTENT = "runs/users/RUN/journal/000000-00000001-0001-0000.json.zst", b'{"Keys": {}}\n' * 50
DATA = sealed(NAME, CONTENT, 50)


def test_a_complete_object_is_read() -> None:
    found = checked(NAME, DATA)
    assert (found.content(), found.records) == (CONTENT, 50)


def test_other_tools_read_the_content_alone() -> None:
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(DATA), read_across_frames=True)
    assert reader.read() == CONTENT
    assert zstandard.ZstdDecompressor().decompressobj().decompress(DATA) == CONTENT


@pytest.mark.parametrize("size", [0, 1, 7, len(DATA) // 2, *range(len(DATA) - 20, len(DATA))])
def test_a_truncated_object_is_refused(size: int) -> None:
    with pytest.raises(Unsealed, match="truncated"):
        checked(NAME, DATA[:size])


@pytest.mark.parametrize("at", range(len(DATA)))
def test_an_altered_object_is_refused(at: int) -> None:
    with pytest.raises(Unsealed):
        checked(NAME, DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :])


@pytest.mark.parametrize("other", ["runs/users/OTHER/", "runs/users/RUN/incremental1/"])
def test_an_object_of_another_run_or_phase_is_refused(other: str) -> None:
    with pytest.raises(Unsealed, match="foreign: it was written as runs/users/RUN/journal/"):
        checked(NAME.replace("runs/users/RUN/", other), DATA)


def test_a_missing_part_is_an_error_with_both_ways_out(tmp_path: Path) -> None:
    run = "20260131T120000.000000Z-0a1b2c"
    journal = Journal(FolderStorage(tmp_path), TableSpec("users", (("id", "S"),)), f"runs/users/{run}/journal/")
    with pytest.raises(RunFailed, match="a part of the journal is missing") as caught:
        journal.intended(f"runs/users/{run}/journal/000000-00000001-0001-0000.json.zst")
    assert "restore the object" in caught.value.hint
    assert f"dynamodt undo --partial {run}" in caught.value.hint
