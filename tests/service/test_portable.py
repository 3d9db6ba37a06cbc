"""Any other runner of Beam: a job server of Beam's own, which knows of dynamodt only what the pipeline says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamodt.errors import ScriptError
from dynamodt.model.pages import Counts
from tests.service.bench import Bench
from tests.service.conftest import MakeTable
from tests.waiting import until

pytestmark = pytest.mark.endpoints("ministack")  # what is sent is the same


SERVER = "apache_beam.runners.portability.local_job_service_main"


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The options of a run on a job server, whose workers are this very process."""
    folder = tmp_path_factory.mktemp("job-server")
    port = folder / "port"
    words = ["--port", "0", "--port_file", str(port), "--staging_dir", str(folder / "staging")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", SERVER, *words], cwd=folder, stdout=log, stderr=log)
    try:
        place = f"localhost:{_written(port, process, folder / 'log')}"
        yield {
            "runner": "PortableRunner",
            "beam_args": (f"--job_endpoint={place}", "--environment_type=LOOPBACK"),
        }
    finally:
        process.kill()
        process.wait()


def _written(port: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    return int(until(lambda: port.exists() and port.read_text().strip(), f"its port is in {port} (see {log})", process))


def test_a_version_goes_up_and_down_again(bench: Bench, make_table: MakeTable, portable: dict[str, Any]) -> None:
    table = make_table(id="N")
    bench.tables.put(table, *({"id": number, "n": 0} for number in range(200)))
    bench.script(
        table,
        """
        def transform_up(item):
            return {**item, "n": 1}

        def transform_down(item):
            return {**item, "n": 0}
        """,
    )
    (report,) = bench.up(table, **portable)
    assert report.error is None and report.versions[0].counts == Counts(read=200, changed=200)
    assert {item["n"] for item in bench.tables.items(table)} == {1}
    (report,) = bench.down(table, **portable)
    assert report.error is None
    assert {item["n"] for item in bench.tables.items(table)} == {0}


def test_a_script_s_fault_comes_out_by_its_own_type(
    bench: Bench, make_table: MakeTable, portable: dict[str, Any]
) -> None:
    report = bench.failed(make_table(id="N"), "def items():\n    yield {'no': 'key'}\n", **portable)
    assert isinstance(report.error, ScriptError) and "items()" in report.error.where
