"""Names that determine the treatment of data: a run's id in an item, a folder's files."""

from __future__ import annotations

import pytest

from dynamodt.runs.jobs import new_run
from dynamodt.script.names import is_run_id, looks_like_version_file


def test_a_new_runs_id_is_known_as_one() -> None:
    assert all(is_run_id(new_run()) for _ in range(20))


@pytest.mark.parametrize(
    "value", ["", "Ann", None, 7, b"20260102T030405.678901Z-0a1b2c", "20260102T030405.678901Z-adopted-v000001"]
)
def test_what_is_no_runs_id(value: object) -> None:
    assert not is_run_id(value) and not is_run_id(f"{new_run()}\n")


@pytest.mark.parametrize(
    ("name", "expected"), [("v1_a.py", True), ("2-b.py", True), ("lookup.py", False), ("v1.txt", False)]
)
def test_a_file_that_was_meant_to_be_a_version(name: str, expected: bool) -> None:
    assert looks_like_version_file(name) is expected
