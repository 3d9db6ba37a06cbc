"""dynamodt without Beam and pyarrow, as `pip install dynamodt` without an extra has it: neither is installed here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.emulators import Endpoint, in_chaos
from tests.service.bench import Tables
from tests.service.glue_bench import Client, glue_client, make_deployed

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
ADD = "def transform_up(item):\n    return {**item, 'n': item['n'] + 1}\n"
PREPARED = "def prepare(context):\n    yield 1, 2\ndef transform_up(item, prepared):\n    return item\n"


@pytest.fixture(scope="module")
def deployed(base: Project, ministack: Endpoint) -> Iterator[Client]:
    """The stage dev of the folder: a table with forty items, whose `n` is 0, and the deployed jobs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        with glue_client(ministack, base.folder) as found:
            make_deployed(found)
            Tables(found.dynamodb).put(found.table, *({"id": n, "n": 0} for n in range(40)))
            yield found


@pytest.mark.parametrize("module", ["apache_beam", "pyarrow", "numpy", "grpc", "pyspark", "ministack", "pytest"])
def test_the_base_installation_has_no_heavy_package(base: Project, module: str) -> None:
    assert base.sh(f"python -c 'import {module}'").returncode == 1


@pytest.mark.chaos
def test_the_base_installation_starts_follows_and_controls_a_job(base: Project, deployed: Client) -> None:
    deployed.script(ADD)
    done = base.sh("dynamodt up --stage dev --runner glue", **KEYS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [int(item["n"]) for item in deployed.items()] == [1] * 40
    for words in ("status", "history", "runs", "plan", "doctor", f"check --table {deployed.table}"):
        done = base.sh(f"dynamodt {words} --stage dev", **KEYS)
        assert done.returncode == 0, done.stdout + done.stderr
    for words in ("pause", "resume", "abort", "throttle --wcu 10"):  # without an active run
        done = base.sh(f"dynamodt {words} --table {deployed.table} --stage dev", **KEYS)
        assert done.returncode in (0, 3) and "installed" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "words", ["up", "prepare --version 2", *in_chaos("up --dry-run", "up --runner spark", "undo 01RUN")]
)
def test_a_command_that_needs_beam_is_refused_with_the_command_that_installs_it(
    base: Project, deployed: Client, built: Path, words: str
) -> None:
    """Before anything is started: the line installs this same wheel, with the extra."""
    deployed.script(ADD)
    deployed.script(PREPARED, 2)
    done = base.sh(f"dynamodt {words} --table {deployed.table} --stage dev", **KEYS)
    assert done.returncode == 2, done.stdout + done.stderr
    missing = "pyarrow" if words.startswith("prepare") else "apache-beam"
    assert f"{missing} is not installed" in done.stderr
    assert f"python -m pip install 'dynamodt[beam] @ {built.as_uri()}'" in " ".join(done.stderr.split())
