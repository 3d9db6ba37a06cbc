"""The unit and pipeline tests on each Python that is supported and found here: `make test-pythons`.

`locked` has the versions of requirements/yaml.lock, those of base.lock and what the extra `yaml` needs. They are not in
.venv: Beam imports pandas where it is installed, 0.2 s in each process. `lowest` has those of beam-lowest.lock, with
the lowest Beam that pyproject.toml allows. (That lock is of Python 3.11 and 3.12: with 3.13 this Beam requires others.)
A Python is found on the PATH, or where pyenv keeps it. A missing one is skipped, and the end of the output lists each.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["locked", "lowest"]

LOCKED = ["3.11", "3.12", "3.13"]
LOWEST = ["3.11", "3.12"]
TESTS = ("tests/unit", "transforms", "tests/pipeline")

_PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
_FOLDERS = (sorted(_PYENV.glob(f"versions/{version}.*/bin"), reverse=True) for version in LOCKED)
_FOUND = [str(folder) for folders in _FOLDERS for folder in folders]
os.environ["PATH"] = os.pathsep.join([*_FOUND, os.environ["PATH"]])  # before pyenv's shims, which are for one version


@nox.session(python=LOCKED)
def locked(session: nox.Session) -> None:
    """With the versions that are tested together."""
    _test(session, "yaml.lock")


@nox.session(python=LOWEST)
def lowest(session: nox.Session) -> None:
    """With the lowest Beam."""
    _test(session, "beam-lowest.lock")


def _test(session: nox.Session, lock: str) -> None:
    session.install("--no-deps", "--require-hashes", "--requirement", f"requirements/{lock}")
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")
    words = ["-m", "pytest", "-m", "not chaos", "-q", "-n", os.environ.get("WORKERS", "4"), "--dist", "loadfile"]
    session.run("python", *words, "--no-loadscope-reorder", *TESTS, *session.posargs, env={"PYTHONHASHSEED": "0"})
