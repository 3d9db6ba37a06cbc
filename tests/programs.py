"""Programs of this project as processes of their own, forked from one server for all tests of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests import ROOT
from tests.forks import Forks
from tests.waiting import HANG_SECONDS

# What a command that runs a version has imported when it ends.
COMMANDS = (
    "dynamodt.cli.app",
    "dynamodt.cli.commands",
    "dynamodt.cli.progress",
    "dynamodt.pipeline.engine",
    "dynamodt.pipeline.migrate",
    "dynamodt.pipeline.undo",
    "apache_beam.runners.portability.fn_api_runner",
    "boto3.s3.transfer",
)
_PATH = os.pathsep.join(map(str, (ROOT, ROOT / "pipelines")))


@cache
def _forks() -> Forks:
    return Forks(
        sys.executable,
        (*COMMANDS, "tests.migrate_once", "tests.service.writer"),
        ROOT,
        {**os.environ, "PYTHONPATH": _PATH},
    )


def popen(words: list[str], **options: Any) -> subprocess.Popen[Any]:
    """As `subprocess.Popen`; programs of this interpreter are forked."""
    return (_forks().popen if words[0] == sys.executable else subprocess.Popen)(words, **options)


def start(module: str, *words: object, folder: Path = ROOT, **options: Any) -> subprocess.Popen[str]:
    """`python -m MODULE WORDS` in that folder, with pipes for its output. `options` are those of `Forks.popen`; `env`
    has what is to be added to this process's environment."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": _PATH, **options.pop("env", {})}
    command = [sys.executable, "-m", module, *map(str, words)]
    return popen(command, cwd=folder, env=environment, **pipes | options)


def run(module: str, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """As `start`; returns at the end, with any exit code."""
    with start(module, *words, **options) as process:
        out, err = process.communicate(timeout=HANG_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
