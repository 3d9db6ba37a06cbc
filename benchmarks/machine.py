"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dynamodt.local.install import release_of

_PACKAGES = ("apache-beam", "boto3", "botocore", "orjson")


def described() -> dict[str, Any]:
    """The processor, the load that was there already, and the versions."""
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[1], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES} | {"ministack": release_of().partition("-")[0]},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
