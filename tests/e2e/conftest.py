"""A clone for each file of tests, with an embedded stage of its own that is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.project import Project, clone


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    found = clone(tmp_path_factory.mktemp("newcomer") / "dynamodt")
    try:
        yield found
    finally:
        found.sh("dynamodt local reset")
