"""The package as pip installs it: a wheel of this tree, in an environment that has its dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from dynamodt.local import install
from tests import ROOT

_SOURCES = ("setup.py", "pyproject.toml", "LICENSE", "README.md", "infra", "glue_jobs", "pipelines", "requirements")


def build(source: Path) -> Path:
    """The wheel, built in this folder from what would be in a source distribution."""
    for name in _SOURCES:
        place = ROOT / name
        _copy_tree(place, source / name) if place.is_dir() else shutil.copy(place, source)
    words = [
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(source / "built"),
    ]
    _pip(*words, str(source))
    return next((source / "built").glob("*.whl"))


def install_into(environment: Path, wheel: Path) -> None:
    """A new environment with the wheel. Its dependencies are those of the environment that runs the tests, and so is
    the emulator: to install them anew takes minutes, and tests pip."""
    venv.create(environment, symlinks=True)
    _pip("--python", str(environment), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    packages = next(environment.glob("lib/*/site-packages"))
    (packages / "zz_dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # after its own
    emulators = install.environment(environment, print).folder.parent
    (environment / emulators.name).symlink_to(emulators)


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info"))


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
