"""The files of a release: `make dist` builds and checks them, and they install into fresh environments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.waiting import HANG_SECONDS

pytestmark = pytest.mark.chaos  # a minute, and a package index
_LOADED = "const P = require('serverless-dynamodt'); console.log(typeof P)"


def run(*words: str | Path, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=folder, capture_output=True, text=True, check=False, timeout=HANG_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("make", "dist", f"DIST={folder}")
    return folder


def test_a_fresh_environment_has_the_commands_without_beam(dist: Path, tmp_path: Path) -> None:
    (wheel,), (sources,) = dist.glob("dynamodt-*.whl"), dist.glob("dynamodt-*.tar.gz")
    run(sys.executable, "-m", "venv", tmp_path / "venv")
    (tmp_path / "transforms" / "users").mkdir(parents=True)
    installing = (tmp_path / "venv" / "bin" / "pip", "install", "--quiet", "--no-compile")
    for words in ((wheel,), ("--force-reinstall", "--no-deps", sources)):
        run(*installing, *words)
        listed = run(installing[0], "list", "--format=freeze")
        assert not {"apache-beam", "pyarrow", "ministack"} & {line.partition("==")[0] for line in listed.splitlines()}
        assert run(installing[0], "check")
        for command in (("--version",), ("runs", "--help"), ("local", "status")):
            assert run(tmp_path / "venv" / "bin" / "dynamodt", *command, folder=tmp_path)


def test_the_packed_plugin_loads(dist: Path, tmp_path: Path) -> None:
    (package,) = dist.glob("serverless-dynamodt-*.tgz")
    run("npm", "install", "--no-audit", "--no-fund", "--prefix", tmp_path, package)
    assert run("node", "-e", _LOADED, folder=tmp_path).strip() == "function"
