"""The waits of the tests (`tests/waiting.py`)."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests import waiting


def test_a_wait_returns_the_first_true_result() -> None:
    answers = iter([0, 0, 7])
    assert waiting.until(lambda: next(answers), "a number") == 7


def test_a_failed_wait_names_the_event_and_the_last_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HANG_SECONDS", 0.0)
    with pytest.raises(AssertionError, match=r"an item in the table; last seen: \[\]"):
        waiting.until(lambda: list[int](), "an item in the table")


def test_a_wait_fails_at_once_if_its_process_has_ended() -> None:
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait(waiting.HANG_SECONDS)
    with pytest.raises(AssertionError, match="ended with 3 before its first line"):
        waiting.until(lambda: False, "its first line", process)


def test_a_hanging_thread_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "HANG_SECONDS", 0.01)
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    with pytest.raises(AssertionError, match="the run ends"):
        waiting.join(thread, "the run ends")
    ended.set()
    thread.join()
