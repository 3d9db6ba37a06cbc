"""For each file of tests a clone, or an empty folder beside the installed package, with an embedded stage each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import wheel
from tests.e2e.project import Project, clone


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = clone(tmp_path_factory.mktemp("newcomer") / "dynamodt")
    try:
        yield found
    finally:
        found.sh("dynamodt local reset")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel.build(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def base(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A folder with nothing but a `.venv` that has the wheel and what it requires without an extra."""
    found = Project(tmp_path_factory.mktemp("base"))
    wheel.install_base_into(found.folder / ".venv", built)
    try:
        yield found
    finally:
        found.sh("dynamodt local stop")


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A folder with nothing but a `.venv` that has the wheel."""
    found = Project(tmp_path_factory.mktemp("service"))
    wheel.install_into(found.folder / ".venv", built)
    try:
        yield found
    finally:
        found.sh("dynamodt local stop")
