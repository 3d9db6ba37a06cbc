"""A forked program behaves as one that was started: streams, exit code, signals, folder and environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import Forks

SAYS = "import json, os, sys; print(json.dumps([sys.argv, os.getcwd(), os.environ['A'], 'colorsys' in sys.modules]))"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks(sys.executable, ("colorsys",), Path.cwd(), dict(os.environ))
    yield made
    made.close()


def test_a_forked_program_has_its_words_folder_environment_and_imports(forks: Forks, tmp_path: Path) -> None:
    done = forks.run([sys.executable, "-c", SAYS, "x"], cwd=tmp_path, env={"A": "b"})
    assert (done.returncode, done.stdout, done.stderr) == (0, f'[["-c", "x"], "{tmp_path}", "b", true]\n', "")


@pytest.mark.parametrize(
    ("code", "ended", "err"),
    [("raise SystemExit(3)", 3, ""), ("raise SystemExit('no')", 1, "no\n"), ("1 / 0", 1, "ZeroDivisionError")],
)
def test_a_forked_program_has_its_exit_code(forks: Forks, code: str, ended: int, err: str) -> None:
    done = forks.run([sys.executable, "-c", code])
    assert done.returncode == ended and err in done.stderr


def test_a_module_is_run_with_its_threads_and_its_stdin(forks: Forks, tmp_path: Path) -> None:
    code = "import sys, threading\nthreading.Thread(target=lambda: print(sys.stdin.read(), __name__)).start()\n"
    (tmp_path / "said.py").write_text(code)
    pipe = subprocess.PIPE
    process = forks.popen([sys.executable, "-m", "said"], cwd=tmp_path, stdin=pipe, stdout=pipe, text=True)
    assert process.communicate("hello")[0] == "hello __main__\n"


def test_a_forked_program_receives_signals_and_two_run_at_once(forks: Forks) -> None:
    words = [sys.executable, "-c", "print('on', flush=True); input()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    one, other = (forks.popen(words, start_new_session=True, **pipes) for _ in range(2))
    for process in (one, other):
        assert process.stdout is not None and process.stdout.readline() == "on\n"
    assert one.poll() is None and os.getsid(one.pid) == one.pid
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(timeout=0)
    one.kill()
    os.killpg(other.pid, signal.SIGINT)
    assert (one.wait(), other.wait()) == (-signal.SIGKILL, -signal.SIGINT)
    for process in (one, other):
        process.communicate()
