"""A process with a reused pid, or a dead one, is never mistaken for the process that was started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dynamodt.runs import liveness
from dynamodt.runs.liveness import Process
from tests.waiting import HANG_SECONDS


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def of(child: subprocess.Popen[bytes]) -> Process:
    found = Process.of(child.pid)
    assert found is not None
    return found


def test_a_running_process_is_alive(child: subprocess.Popen[bytes]) -> None:
    assert of(child).alive
    assert of(child) == of(child)


def test_another_process_with_the_same_pid_is_distinguished(child: subprocess.Popen[bytes]) -> None:
    stranger = replace(of(child), started="at another time")
    assert not stranger.alive
    stranger.kill()
    assert child.poll() is None


def test_a_killed_process_is_gone_although_it_was_not_reaped(child: subprocess.Popen[bytes]) -> None:
    ours = of(child)
    ours.kill()
    assert ours.wait(HANG_SECONDS)
    assert Process.of(child.pid) is None  # a zombie until it is reaped


def test_waiting_for_a_process_has_a_limit(child: subprocess.Popen[bytes]) -> None:
    assert not of(child).wait(0.0)


def test_an_unused_pid_is_no_process() -> None:
    assert Process.of(2**22 + 1) is None


def test_ps_gives_the_same_result_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_start_time", liveness._from_ps)
    assert Process(os.getpid(), liveness._from_ps(os.getpid())).alive
    assert Process.of(2**22 + 1) is None
