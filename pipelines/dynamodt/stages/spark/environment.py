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
exec "{python}" -m dynamodt.stages.spark.harness "$@"
"""


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

    context.addFile(str(_script()))
    in_driver = context.master.startswith("local") and not context.master.startswith("local-cluster")
    return SparkFiles.get(BOOT) if in_driver else f"./{BOOT}"


def _script() -> Path:
    """The same place and content each time in this process: Spark refuses another file of the same name."""
    folder = Path(tempfile.gettempdir()) / f"dynamodt-{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / BOOT
    path.write_text(_SCRIPT.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return path
