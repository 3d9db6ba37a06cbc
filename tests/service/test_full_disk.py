"""Disks that are really full: a file system in memory, in a mount namespace of one process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT
from tests.emulators import Endpoint, in_chaos
from tests.waiting import HANG_SECONDS

_WAYS = (["unshare", "--map-root-user", "--mount"], ["unshare", "--mount"])  # the second one for root


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """How a process gets a mount namespace. A kernel or a container may forbid it; that fails no build."""
    if shutil.which("unshare") is None:
        pytest.skip("a full disk needs `unshare` (util-linux, on Linux), which is not installed")
    for way in _WAYS:
        tried = subprocess.run([*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True)
        if tried.returncode == 0:
            return way
    pytest.skip(f"a full disk needs a mount namespace, which is refused here: {tried.stderr.strip()}")


def seen(namespace: list[str], case: str, folder: Path, url: str = "") -> dict[str, Any]:
    command = [*namespace, sys.executable, "-m", "tests.service.full_disk", case, str(folder), url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", ["journal", *in_chaos("dead")])
def test_a_run_on_a_full_disk_is_recorded_and_continues_once_there_is_space(
    namespace: list[str], ministack: Endpoint, tmp_path: Path, case: str
) -> None:
    found = seen(namespace, case, tmp_path, ministack.url)
    assert "No space left" in found["error"]["what"] and "free some space" in found["error"]["hint"]
    assert f"{tmp_path}/storage/runs/" in found["error"]["where"] and f"/{case}/" in found["error"]["where"]
    status, recorded = found["record"]
    assert status == "failed" and "No space left" in recorded and found["same run"]
    done = "dead" if case == "dead" else "changed"
    assert found["counts"]["read"] == found["counts"][done] == 400
    assert found["n"] == ([0] if case == "dead" else [1])


def test_the_embedded_stage_refuses_writes_on_a_full_disk(namespace: list[str], tmp_path: Path) -> None:
    """The emulator itself would keep an object in memory, and lose it at its end."""
    found = seen(namespace, "embedded", tmp_path)
    (error,) = found["errors"]
    assert error["where"] == "s3://dynamodt-local/dynamodt/runs/a" and "free some space" in error["hint"]
    assert str(tmp_path / ".dynamodt" / "local" / "emulator.log") in error["what"]
    assert found["kept over a stop"]


def test_a_work_folder_on_a_full_disk_is_reported(namespace: list[str], tmp_path: Path) -> None:
    found = seen(namespace, "work", tmp_path)
    assert len(found["errors"]) == 2 and found["ignored"] == "*\n"
    for error in found["errors"]:
        assert "No space left" in error["what"] and str(tmp_path / "project" / ".dynamodt") in error["where"]
        assert "space" in error["hint"]


def test_a_full_folder_of_temporary_files_is_reported_by_prepare_and_by_a_worker(
    namespace: list[str], tmp_path: Path
) -> None:
    found = seen(namespace, "temporary", tmp_path)
    assert len(found["errors"]) == 2 and found["rows"] == 5000 and found["left"] == []
    for error in found["errors"]:
        assert error["where"].startswith(f"{tmp_path}/temporary/") and "No space left" in error["what"]
        assert "TMPDIR" in error["hint"]
