"""The two endpoints, each in a separate process: ministack, and the canned one, which forwards to ministack."""

from __future__ import annotations

import json
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import ITEM_BYTES, item, template
from dynamodt.local import emulator, install
from dynamodt.model.tables import Connection

SOURCE = Path(__file__).with_name("endpoint") / "canned.c"
_BATCH = 25


@dataclass(frozen=True)
class Endpoint:
    """An endpoint for DynamoDB's API. `canned`: it counts requests."""

    url: str
    canned: bool = False

    @property
    def connection(self) -> Connection:
        return Connection(region="us-east-1", endpoint_url=self.url, access_key="local", secret_key="local")

    @property
    def client(self) -> Any:
        from dynamodt.dynamodb.clients import client

        return client(self.connection, "dynamodb")

    def stats(self) -> dict[str, float]:
        """The requests to the canned endpoint since the last call; resets its partitions."""
        with urllib.request.urlopen(f"{self.url}/_canned/stats") as answer:
            found: dict[str, float] = json.load(answer)
        return found


@contextmanager
def ministack(folder: Path) -> Iterator[Endpoint]:
    """The embedded emulator with its data under the folder, killed at the end."""
    lock = emulator.take(folder)
    assert lock is not None, f"an emulator runs in {folder} already"
    with lock:
        process = emulator.spawn(install.environment(folder, print), folder, 0, "benchmark", lock)
    try:
        record = emulator.wait_until_ready(process, "benchmark", folder)
        yield Endpoint(emulator.url(record.port))
    finally:
        process.kill()
        process.wait(5)


@dataclass(frozen=True)
class Canner:
    """The compiled canned endpoint. Its tables are `items`, by name; other requests are forwarded to `upstream`."""

    program: Path
    template: Path
    upstream: Endpoint

    @contextmanager
    def open(
        self, items: Mapping[str, int], *, latency: float = 0.0, partitions: int = 0, wcu: int = 1000
    ) -> Iterator[Endpoint]:
        """Run it. `latency` in seconds; each of `partitions` (0: no limits) takes `wcu` units a second."""
        words = ["--template", str(self.template), "--latency-us", str(latency * 1e6)]
        words += ["--upstream", self.upstream.url.rpartition(":")[2]]
        words += ["--partitions", str(partitions), "--wcu", str(wcu)]
        words += [word for name, count in items.items() for word in ("--table", f"{name}:{count}:{ITEM_BYTES}")]
        process = subprocess.Popen([str(self.program), *words], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield Endpoint(f"http://127.0.0.1:{int(process.stdout.readline())}", canned=True)
        finally:
            process.kill()
            process.wait()


@contextmanager
def canner(upstream: Endpoint, made_from: str = "") -> Iterator[Canner]:
    """The canned endpoint, compiled by `cc` into a folder of its own. `made_from`: the template of other items than
    those of `table`; their keys must be as theirs."""
    with tempfile.TemporaryDirectory() as name:
        program, text = Path(name, "canned"), Path(name, "item.json")
        subprocess.run(["cc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
        text.write_text(made_from or template(), encoding="utf-8")
        yield Canner(program, text, upstream)


def fill(endpoint: Endpoint, table: str, count: int) -> None:
    """Creates a table of `count` items on an endpoint that stores them."""
    client = endpoint.client
    client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for start in range(0, count, _BATCH):
        puts = [{"PutRequest": {"Item": item(n)}} for n in range(start, min(start + _BATCH, count))]
        client.batch_write_item(RequestItems={table: puts})
