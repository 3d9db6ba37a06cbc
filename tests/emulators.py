"""The two endpoints that the tests run against, each a process of its own on a free loopback port."""

from __future__ import annotations

import fcntl
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.request import Request, urlopen

import pytest
from _pytest.mark import ParameterSet

from dynamodt.local import emulator, install
from dynamodt.model.tables import Connection
from dynamodt.pipeline.spark_context import missing_for_jar
from tests.waiting import HANG_SECONDS, until

# For what depends on the control plane more than on the service: the second emulator belongs to make test-chaos.
dynamodb_local_in_chaos = pytest.mark.endpoints("ministack", chaos=("dynamodb-local",))


def in_chaos(*arguments: Any) -> list[ParameterSet]:
    """Arguments of a parametrized test that only `make test-chaos` uses: the others show the same in every build."""
    return [pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.chaos) for one in arguments]


DYNAMODB_LOCAL_JARS = Path(__file__).parent / "service" / "dynamodb-local" / "libs"


@dataclass(frozen=True)
class Endpoint:
    """An endpoint with DynamoDB's API: `name` is "ministack" or "dynamodb-local"."""

    name: str
    url: str

    @property
    def connection(self) -> Connection:
        return Connection(region="us-east-1", endpoint_url=self.url, access_key="local", secret_key="local")

    @property
    def client(self) -> Any:
        """A boto3 client for DynamoDB (one for all tests; it is thread-safe)."""
        from dynamodt.dynamodb.clients import client

        return client(self.connection, "dynamodb")


@contextmanager
def ministack(folder: Path) -> Iterator[Endpoint]:
    """A ministack that keeps its state in memory, killed at the end."""
    with _served(folder, ["-m", "ministack"]) as endpoint:
        yield endpoint


@contextmanager
def deployable_ministack(folder: Path) -> Iterator[Endpoint]:
    """A ministack of its own whose CloudFormation takes infra/template.yaml, killed at the end."""
    with _served(folder, [str(Path(__file__).with_name("ministack_deployable.py"))]) as endpoint:
        yield endpoint


@contextmanager
def _served(folder: Path, arguments: list[str]) -> Iterator[Endpoint]:
    port = free_port()
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    with (folder / emulator.LOG_NAME).open("wb") as log:
        child = subprocess.Popen(
            [str(install.environment(folder, print).python), *arguments],
            cwd=folder,
            env=emulator.variables(folder)
            | {"GATEWAY_PORT": str(port), "PORT": str(port), "PERSIST_STATE": "0", "S3_PERSIST": "0"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        said = _wait_for(child, port)
        assert not said, f"ministack {said}: {(folder / emulator.LOG_NAME).read_text(errors='replace')}"
        yield Endpoint("ministack", emulator.url(port))
    finally:
        child.kill()
        child.wait(HANG_SECONDS)


def empty(endpoint: Endpoint) -> None:
    """Deletes all that this ministack has."""
    with urlopen(Request(f"{endpoint.url}/_ministack/reset", method="POST"), timeout=HANG_SECONDS) as answer:
        assert answer.status == 200


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind((emulator.HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def dynamodb_local(folder: Path) -> Iterator[Endpoint]:
    """A DynamoDB Local in memory, one for all processes that name this folder: the first one starts it, and the last
    one to leave kills it. Skips the test, with the reason, where it cannot be run."""
    _check_dynamodb_local()
    with _sharing(folder) as users:
        if not users:
            process, port = _started_java(folder / "dynamodb-local.log")
            users.update(pid=process.pid, port=port, count=0)
        users["count"] += 1
        port = users["port"]
    try:
        yield Endpoint("dynamodb-local", emulator.url(port))
    finally:
        with _sharing(folder) as users:
            users["count"] -= 1
            if not users["count"]:
                os.kill(users["pid"], signal.SIGKILL)
                users.clear()


@contextmanager
def _sharing(folder: Path) -> Iterator[dict[str, int]]:
    """The pid and the port of the shared process, and the number of its users; empty if it does not run."""
    with (folder / "dynamodb-local.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        users: dict[str, int] = json.loads(file.read() or "{}")
        yield users
        file.truncate(0)
        file.write(json.dumps(users))


def _started_java(log: Path, tries: int = 3) -> tuple[subprocess.Popen[bytes], int]:
    """On a port that was free: until Java binds it, seconds later, a connection of another test may have taken it."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            _java_command(port),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends the tests first, and they end it
        )
    said = _wait_for(process, port)
    if said:
        process.kill()
        process.wait()
        told = log.read_text(errors="replace")
        if tries > 1 and "BindException" in told:
            return _started_java(log, tries - 1)
        last = "\n".join(told.splitlines()[-5:])
        unavailable(f"DynamoDB Local {said}: {last}")
    return process, port


def dynamodb_local_missing() -> str:
    """The reason why DynamoDB Local cannot run here; empty if it can."""
    if shutil.which("java") is None:
        return "DynamoDB Local needs Java 17 or newer, and java is not installed"
    if not (DYNAMODB_LOCAL_JARS / ".complete").exists():
        return "the jars of DynamoDB Local are missing: `make dynamodb-local` gets them (with Maven)"
    return ""


def _check_dynamodb_local() -> None:
    reason = dynamodb_local_missing()
    if reason:
        unavailable(reason)


def unavailable(reason: str) -> NoReturn:
    """Skip the test with the reason; under CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (a failure, because CI=true)", pytrace=False)
    pytest.skip(reason)


def _java_command(port: int) -> list[str]:
    jars = DYNAMODB_LOCAL_JARS
    main = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
    options = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)]
    return ["java", "-Xmx1g", f"-Djava.library.path={jars}", "-cp", f"{jars}/*", main, *options]


def _wait_for(process: subprocess.Popen[bytes], port: int) -> str:
    """Empty once it answers; otherwise the reason why it does not."""
    try:
        until(lambda: answers(port), "it answers", process)
    except AssertionError as error:
        return f"did not start: {error}"
    return ""


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection(emulator.HOST, port, timeout=HANG_SECONDS)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def spark_missing() -> str:
    """The reason why a local Spark cannot run here; empty if it can."""
    if importlib.util.find_spec("pyspark") is None:
        return "pyspark is not installed: `make test` does it"
    return missing_for_jar()


def check_spark() -> None:
    """Skips the test, with the reason, where no Spark can be run."""
    reason = spark_missing()
    if reason:
        unavailable(reason)
