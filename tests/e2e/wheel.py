"""The package as pip installs it: a wheel of this tree, in an environment that has its dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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
    """A new environment with the wheel. Its dependencies, and the emulator, are those of the environment that runs the
    tests: installing them would take minutes, and test pip."""
    packages = _install(environment, wheel)
    (packages / "zz_dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")  # after its own


def install_base_into(environment: Path, wheel: Path) -> None:
    """A new environment with only the wheel and its requirements without an extra, which are links into the environment
    that runs the tests."""
    packages = _install(environment, wheel)
    for name in required("dynamodt", (packages,)):
        files = distribution(name).files or ()
        for entry in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            (packages / entry).symlink_to(Path(sysconfig.get_path("purelib")) / entry)


def required(name: str, path: Sequence[Path] = ()) -> set[str]:
    """The packages that a package requires without an extra, and all that these require."""
    found: set[str] = set()
    waiting = [*_requirements(next(iter(distributions(name=name, path=[*map(str, path), *sys.path]))))]
    while waiting:
        needed = waiting.pop()
        if needed not in found:
            found.add(needed)
            waiting += _requirements(distribution(needed))
    return found


def _requirements(of: Distribution) -> Iterator[str]:
    for requirement in map(Requirement, of.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _install(environment: Path, wheel: Path) -> Path:
    venv.create(environment, symlinks=True)
    _pip("--python", str(environment), "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    emulators = install.environment(environment, print).folder.parent
    (environment / emulators.name).symlink_to(emulators)
    return next(environment.glob("lib/*/site-packages"))


def _copy_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("node_modules", "__pycache__", "*.egg-info"))


def _pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words], check=True)
