"""The pytest plugin of this package: `pytest --dynamodt`, and the fixture `dynamodt_table` (docs/testing.md).

pytest imports this module whenever it starts: it imports nothing else until one of the two is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dynamodt.testing.embedded import EmbeddedTable, Emulator


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dynamodt")
    group.addoption(
        "--dynamodt",
        action="store_true",
        help="also test each version of transforms/: one chain without gaps, and each loads; with a saved sample "
        "(`check --save`) up, down, idempotent as declared, key kept",
    )
    group.addoption("--dynamodt-folder", default="", help="the folder that holds transforms/ (default: this one)")


def _project(config: pytest.Config) -> Path:
    """The folder that holds `transforms/`."""
    given = config.getoption("--dynamodt-folder")
    places = (config.invocation_params.dir, config.rootpath)
    found = (place for place in places if (place / "transforms").is_dir())
    return config.invocation_params.dir / given if given else next(found, config.invocation_params.dir)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--dynamodt"):
        from dynamodt.testing.suite import collected

        found = list(collected(session, _project(config)))
        config.hook.pytest_collectreport(report=pytest.CollectReport("dynamodt", "passed", None, list(found)))
        items += found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--dynamodt"):
        from dynamodt.testing.suite import missing_samples

        for line in missing_samples(_project(config)):
            terminalreporter.write_line(f"dynamodt: {line}")


@pytest.fixture(scope="session")
def dynamodt_emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The embedded emulator of this session; it is started by the first table."""
    from dynamodt.testing.embedded import Emulator

    emulator = Emulator(_project(request.config), tmp_path_factory.mktemp("dynamodt"))
    yield emulator
    emulator.stop()


@pytest.fixture
def dynamodt_table(dynamodt_emulator: Emulator) -> Callable[..., EmbeddedTable]:
    """`dynamodt_table("users", key={"id": "S"})`: a new table of the emulator, for the versions of its folder."""
    return dynamodt_emulator.table
