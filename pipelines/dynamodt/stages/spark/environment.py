"""How the executors start Python: a PROCESS environment, whose command is a small script that Spark hands out."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from dynamodt.stages.spark.context import local_cores
from dynamodt.stages.spark.home import PYTHON_LOG

BOOT = "dynamodt_harness"
_SCRIPT = """#!/bin/sh
(: >>{log}) 2>/dev/null && exec 2>>{log}
{python} -m dynamodt.stages.spark.harness "$@" &
harness=$!
trap 'kill $harness; exit 0' TERM INT HUP
wait $harness
code=$?
{mourn}
exit $code
"""

# Beam throws away what a harness says.
_EXECUTOR_S_OWN = "/proc/$PPID/fd/2"

# Beam keeps the connection to a harness that has died, and fails each task that it gives it, four times in a moment.
# Spark knows how to do without an executor, but not how to do with a broken one: so the executor follows a harness that
# a signal has ended, but for the one that the executor itself sends.
_FOLLOW = "[ $code -gt 128 ] && [ $code -ne 143 ] && kill -9 $PPID"


def process_environment(context: Any) -> Any:
    """Beam's description of the harness. Elsewhere the package is installed on every node; here, on this machine, the
    harness finds what this process finds."""
    from apache_beam.transforms import environments

    path = os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))
    return environments.ProcessEnvironment(
        _command(context),
        env={"PYTHONPATH": path} if local_cores(context.master) else {},
        capabilities=environments.python_sdk_capabilities(),
        artifacts=(),
    )


def python_log(context: Any) -> Path | None:
    """Where it can be read what the harnesses have said: on this machine only."""
    return PYTHON_LOG.absolute() if local_cores(context.master) else None


def _command(context: Any) -> str:
    """The script's place: an executor has it in the folder that it works in, the driver's own in one of Spark's."""
    from pyspark import SparkFiles

    in_driver = context.master.startswith("local") and not context.master.startswith("local-cluster")
    script = written(_folder(), python_log(context), "" if in_driver else _FOLLOW)
    context.addFile(str(script))
    return SparkFiles.get(BOOT) if in_driver else f"./{BOOT}"


def written(folder: Path, log: Path | None, mourn: str = _FOLLOW) -> Path:
    """The script, in a folder. Without a log it writes to that of the executor."""
    path = folder / BOOT
    to = shlex.quote(str(log)) if log else _EXECUTOR_S_OWN
    path.write_text(_SCRIPT.format(python=shlex.quote(sys.executable), log=to, mourn=mourn), encoding="utf-8")
    path.chmod(0o755)
    return path


@cache
def _folder() -> Path:
    """The same place each time in this process: Spark refuses another file of the same name."""
    return Path(_kept().name)


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dynamodt-")  # goes with the process
