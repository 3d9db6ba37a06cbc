"""Shared by all tests: an environment without accounts, the emulators, and a marker by folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from dynamodt.pipeline import spark_context as context
from tests import beam_once, emulators, loaded_once
from tests.emulators import Endpoint
from tests.explorer import EXPLORED

_KINDS = ("unit", "pipeline", "service", "e2e")
# Those that take longest begin first, in this order: the last file to end bounds the run, and what is quick fills the
# gaps at the end.
_SLOW_FILES = (
    "test_spark",
    "test_protocol",
    "test_serverless",
    "test_removal",
    "test_export_source",
    "test_cli",
    "test_story",
    "test_undo",
    "test_started_with",
    "test_migrations",
    "test_local",
    "test_kill",
    "test_wire",
    "test_odd_items",
    "test_on_glue",
    "test_four_phases",
    "test_checked_scripts",
    "test_accepted",
    "test_deploy",
    "test_dry_run",
    "test_drift",
    "test_fleet",
    "test_rate_limit",
    "test_readme_commands",
    "test_refusals",
    "test_fuzz",
    "test_export_memory",
    "test_preflight",
    "test_follow",
)
_TOGETHER = {
    "/test_spark.py": "spark",  # it takes half a minute to start: once for these
    "/test_spark_workers.py": "spark",
    "/test_story.py": "wheel",  # built once
    "/test_installed.py": "wheel",
    "/test_base.py": "wheel",
}
_MINUTES = float(os.environ.get("DYNAMODT_MINUTES") or "inf")  # after so many no test begins
_BEGUN = time.monotonic()
_SHORT_LIVED_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # half the CPU, for machines that live a minute
_KEPT = ("AWS_CA_BUNDLE",)

_EXAMPLES = os.environ.get("DYNAMODT_EXAMPLES")  # of make test-chaos, which says the seed, too
settings.register_profile(
    "here", deadline=None, max_examples=int(_EXAMPLES or 20), suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("here"), derandomize=True)  # a build must be repeatable
settings.load_profile("ci" if os.environ.get("CI") == "true" and not _EXAMPLES else "here")


@pytest.fixture(scope="session", autouse=True)
def no_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test may reach an account of the user, neither by variables of the shell nor by files in the home folder. A
    pytest that a test starts does not add to the coverage."""
    nowhere = tmp_path_factory.mktemp("no-account")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("AWS_", "DYNAMODT_", "SLIPCOVER_")) and name not in _KEPT:
                patch.delenv(name)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("JAVA_TOOL_OPTIONS", _SHORT_LIVED_JAVA)
        patch.setattr(os, "fsync", lambda _: None)  # no test takes the machine's power away
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_libraries() -> None:
    beam_once.remember()
    loaded_once.remember()


@pytest.fixture(scope="session")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with emulators.ministack(tmp_path_factory.mktemp("ministack")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    base = tmp_path_factory.getbasetemp()
    with emulators.dynamodb_local(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def spark_master() -> Iterator[str]:
    """The master of a Spark with two executor processes, which is started by the first run and ends with the tests."""
    emulators.check_spark()
    yield "local-cluster[2,1,1024]"
    context.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (kind := _kind(item.path)) in _KINDS:
            item.add_marker(kind)
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("scaled")
    items.sort(key=lambda item: _turn(item.path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distributes tests by file, and keeps tests together that share a fixture which takes long to make."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((group for name, group in _TOGETHER.items() if file.endswith(name)), file)

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_runtest_setup() -> None:
    if time.monotonic() - _BEGUN > 60 * _MINUTES:
        pytest.skip(f"the {_MINUTES:g} minutes are over: `make test-chaos` without MINUTES does all of it")


@cache
def _kind(path: Path) -> str:
    here = Path(__file__).parent
    return path.relative_to(here).parts[0] if path.is_relative_to(here) else "unit"


@cache
def _turn(path: Path) -> tuple[int, bool]:
    ranks = (rank for rank, name in enumerate(_SLOW_FILES) if path.name.startswith(name))
    return next(ranks, len(_SLOW_FILES)), _kind(path) in ("unit", "pipeline")


def pytest_report_header() -> str:
    local, spark = emulators.dynamodb_local_missing(), emulators.spark_missing()
    return f"DynamoDB Local: {local or 'java and its jars are here'}; Spark: {spark or 'pyspark and java are here'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the numbers of the explored interleavings, also of workers: in all, and of each scene with `-rP`."""
    passed = (report for report in terminalreporter.getreports("passed") if report.when == "call")
    found = [value for report in passed for name, value in report.user_properties if name == EXPLORED]
    for scene, interleavings, states, ends in found if "P" in terminalreporter.reportchars else ():
        terminalreporter.write_line(f"{scene}: {interleavings:,} interleavings, {states:,} states, {ends:,} ends")
    if found:
        total = sum(interleavings for _, interleavings, _, _ in found)
        terminalreporter.write_line(f"explored: {total:,} interleavings of {len(found)} scenes")
