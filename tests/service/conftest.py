"""The endpoints of the service tests, and tables that live as long as one test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from dynamodt.dynamodb import reads
from tests import emulators
from tests.emulators import Endpoint
from tests.service.account import Account
from tests.service.bench import Bench, make_bench
from tests.service.proxy import Proxy, proxy_before
from tests.waiting import until

MakeTable = Callable[..., str]


@pytest.fixture(autouse=True)
def two_segments(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small table has two segments instead of four, except in chaos: each costs six requests of a run's fifty."""
    if not request.node.get_closest_marker("chaos"):
        monkeypatch.setattr(reads, "_SEGMENTS_PER_WORKER", 2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of `endpoint` run on each emulator, or on those that the marker `endpoints` names."""
    chosen = any("endpoint" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "endpoint" in metafunc.fixturenames and not chosen:
        marker = metafunc.definition.get_closest_marker("endpoints")
        names = marker.args if marker else ("ministack", "dynamodb-local")
        later = marker.kwargs.get("chaos", ()) if marker else ()
        both = (*names, *(pytest.param(name, marks=pytest.mark.chaos) for name in later))
        metafunc.parametrize("endpoint", both, indirect=True, scope="session")


@pytest.fixture(scope="session")
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    found: Endpoint = request.getfixturevalue(request.param.replace("-", "_"))
    return found


@pytest.fixture
def make_table(endpoint: Endpoint) -> Iterator[MakeTable]:
    """`make_table(id="N")` or `make_table(pk="S", sk="N")`: creates an on-demand table, partition key first, and
    returns its name. It is deleted after the test."""
    made: list[str] = []

    def make(**key: str) -> str:
        name = f"test_{uuid4().hex[:12]}"
        endpoint.client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": k, "KeyType": role} for k, role in zip(key, ("HASH", "RANGE"), strict=False)],
            AttributeDefinitions=[{"AttributeName": k, "AttributeType": kind} for k, kind in key.items()],
            BillingMode="PAY_PER_REQUEST",
        )
        made.append(name)
        endpoint.client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        return name

    yield make
    for name in made:
        endpoint.client.delete_table(TableName=name)


INDEX = {
    "IndexName": "index",
    "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
    "Projection": {"ProjectionType": "ALL"},
}


@pytest.fixture
def indexed_table(endpoint: Endpoint) -> Iterator[str]:
    """A table with a numeric key, and INDEX, whose key is the text `g`."""
    name = f"test_{uuid4().hex[:12]}"
    endpoint.client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": t} for n, t in (("id", "N"), ("g", "S"))],
        GlobalSecondaryIndexes=[INDEX],
        BillingMode="PAY_PER_REQUEST",
    )
    yield name
    endpoint.client.delete_table(TableName=name)


@pytest.fixture
def bench(endpoint: Endpoint, tmp_path: Path) -> Iterator[Bench]:
    """A project's folder and stage on the endpoint; its state table is deleted after the test."""
    made = make_bench(endpoint, tmp_path)
    yield made
    endpoint.client.delete_table(TableName=made.stage.state_table)


@pytest.fixture
def proxy(endpoint: Endpoint) -> Iterator[Proxy]:
    """A connection to the endpoint on which faults can be switched on."""
    with proxy_before(endpoint) as made:
        yield made


@pytest.fixture
def bad_line(bench: Bench, proxy: Proxy) -> Bench:
    """The bench whose stage is reached through `proxy`, which spares dynamodt's own table; the application's side has a
    line of its own."""
    proxy.spared = bench.stage.state_table
    return replace(bench, stage=replace(bench.stage, connection=proxy.connection))


@pytest.fixture(scope="session")
def deployable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with emulators.deployable_ministack(tmp_path_factory.mktemp("deployable")) as found:
        yield found


@pytest.fixture
def account(tmp_path: Path, deployable: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An account that is emptied after the test: a purge looks at every table and every bucket of its account."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setattr("dynamodt.deploy.stacks.POLL_SECONDS", 0.05)
    jar = tmp_path / "beam-spark.jar"  # not read here
    jar.write_bytes(b"jar")
    monkeypatch.setenv("DYNAMODT_SPARK_JAR", str(jar))
    found = Account(tmp_path / "project", deployable)
    found.folder.mkdir()
    found.make_table(found.table)
    found.script()
    found.configure()
    yield found
    emulators.empty(deployable)


_SERVER = "apache_beam.runners.portability.local_job_service_main"


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Beam's options for a job server of its own, whose workers are this very process."""
    folder = tmp_path_factory.mktemp("job-server")
    port = folder / "port"
    words = ["--port", "0", "--port_file", str(port), "--staging_dir", str(folder / "staging")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", _SERVER, *words], cwd=folder, stdout=log, stderr=log)
    try:
        told = f"its port is in {port} (see {folder / 'log'})"
        found = until(lambda: port.exists() and port.read_text().strip(), told, process)
        yield f"--job_endpoint=localhost:{int(found)}", "--environment_type=LOOPBACK"
    finally:
        process.kill()
        process.wait()
