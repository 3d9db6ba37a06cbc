"""How the executors start Python: a PROCESS environment, whose command is a small script that Spark hands out."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from dynamodt.stages.spark.context import local_cores

BOOT = "dynamodt_harness"
_SCRIPT = """#!/bin/sh
"{python}" -m dynamodt.stages.spark.harness "$@" &
harness=$!
trap 'kill $harness; exit 0' TERM INT HUP
wait $harness
code=$?
{mourn}
exit $code
"""

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


def _command(context: Any) -> str:
    """The script's place: an executor has it in the folder that it works in, the driver's own in one of Spark's."""
    from pyspark import SparkFiles

    in_driver = context.master.startswith("local") and not context.master.startswith("local-cluster")
    context.addFile(str(_script("" if in_driver else _FOLLOW)))
    return SparkFiles.get(BOOT) if in_driver else f"./{BOOT}"


def _script(mourn: str) -> Path:
    """The same place and content each time in this process: Spark refuses another file of the same name."""
    folder = Path(tempfile.gettempdir()) / f"dynamodt-{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / BOOT
    path.write_text(_SCRIPT.format(python=sys.executable, mourn=mourn), encoding="utf-8")
    path.chmod(0o755)
    return path
