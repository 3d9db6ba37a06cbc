"""A stdout or stderr that is closed, full or without a reader: an exit code, and a message if it can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynamodt.cli import console
from tests import ROOT
from tests.emulators import in_chaos

pytestmark = pytest.mark.slow

PROJECT = "transforms/users"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")

HELP = ["--help"]
VERSION = ["--version"]
CREATE = ["create", "--table", "users", "next"]
RESULT = [*CREATE, "--dry-run"]
JSON = [*RESULT, "--json"]
WRONG = ["nonsense"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / PROJECT
    folder.mkdir(parents=True)
    (folder / "v1_x.py").write_text("sequence = 1\n\n\ndef transform_up(item):\n    return item\n")
    return tmp_path


def run(project: Path, words: list[str], redirections: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "pipelines"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        ["sh", "-c", f'"$0" -m dynamodt "$@" {redirections}', sys.executable, *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_full
@pytest.mark.parametrize("words", [HELP, RESULT, *in_chaos(VERSION, JSON)])
@pytest.mark.parametrize(("redirection", "reason"), [(">/dev/full", "No space left"), (">&-", "closed")])
def test_a_result_that_cannot_be_written_is_a_failure(
    project: Path, words: list[str], redirection: str, reason: str
) -> None:
    done = run(project, words, redirection)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the result could not be written to stdout: ") and reason in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@needs_full
@pytest.mark.parametrize(
    "redirections", [">/dev/full", ">&-", "2>&-", *in_chaos(">&- 2>&-", "2>/dev/full", "<&- >&- 2>&-")]
)
def test_a_failed_command_keeps_its_exit_code(project: Path, redirections: str) -> None:
    done = run(project, WRONG, redirections)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@needs_full
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_result_is_printed_without_stderr(project: Path, redirection: str) -> None:
    done = run(project, JSON, redirection)
    assert done.returncode == 0
    assert json.loads(done.stdout)["files"]


def test_a_closed_stream_s_number_is_not_given_to_a_file(project: Path) -> None:
    """Otherwise the next file would get the number, and a result would be written into it."""
    done = run(project, CREATE, ">&- 2>&-")
    assert done.returncode == 1
    texts = [path.read_text() for path in sorted(project.rglob("*.py"))]
    assert len(texts) > 1 and not any("error: " in text or "next  " in text for text in texts)


def test_a_closed_pipe_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert console.print_results({"a": 1}, lambda console: None) is None
