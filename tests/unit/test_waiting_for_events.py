"""The waits of the tests (`tests/waiting.py`)."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests import waiting


def test_what_is_awaited_is_returned_as_soon_as_it_is_true() -> None:
    answers = iter([0, 0, 7])
    assert waiting.until(lambda: next(answers), "a number") == 7


def test_what_never_comes_is_named_and_so_is_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HANG_SECONDS", 0.0)
    with pytest.raises(AssertionError, match=r"an item in the table; last seen: \[\]"):
        waiting.until(lambda: list[int](), "an item in the table")


def test_nobody_waits_for_a_process_that_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait(waiting.HANG_SECONDS)
    with pytest.raises(AssertionError, match="ended with 3 before its first line"):
        waiting.until(lambda: False, "its first line", process)


def test_a_thread_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HANG_SECONDS", 0.01)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with pytest.raises(AssertionError, match="the run ends"):
        waiting.join(thread, "the run ends")
    ended.set()
    thread.join()
