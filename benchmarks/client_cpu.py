"""Client CPU per migrated item: a whole run in this process, the endpoint a process of its own.

    .venv/bin/python benchmarks/client_cpu.py [ITEMS] [SHARE_CHANGED]

Starts ministack on a free port, fills a table with items of about 450 bytes, and migrates it with the in-process
runner. Prints microseconds of CPU (user and system) per item, less what the same run costs on an empty table
(imports, Beam's start-up), the seconds that it took, and the counts.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "pipelines")]

from dynamodt.aws.state import State
from dynamodt.control.requests import RunOptions
from dynamodt.model import Stage, StorageSpec
from tests.emulators import Endpoint, ministack

SCRIPT = """
sequence = 1


def transform_up(item):
    if item["n"] % 100 >= {share}:
        return item
    first, _, last = item["name"].partition(" ")
    return {{**item, "first_name": first, "last_name": last}}
"""


class Silent:
    """An Observer that shows nothing."""

    def run_started(self, *args: object) -> None: ...
    def progressed(self, *args: object) -> None: ...
    def run_ended(self, *args: object) -> None: ...
    def note(self, text: str) -> None: ...


def item(number: int) -> dict[str, dict[str, object]]:
    """About 450 bytes, ten attributes, a map and a set among them."""
    return {
        "id": {"S": f"user-{number:07d}"},
        "n": {"N": str(number)},
        "name": {"S": f"First{number} Last{number}"},
        "email": {"S": f"first{number}.last{number}@example.com"},
        "country": {"S": "AT"},
        "bio": {"S": "lorem ipsum " * 18},
        "tags": {"SS": ["a", "b", "c"]},
        "address": {"M": {"street": {"S": "Example Street"}, "number": {"N": "7"}, "city": {"S": "Example"}}},
        "active": {"BOOL": True},
        "score": {"N": "12.5"},
    }


def fill(endpoint: Endpoint, table: str, count: int) -> None:
    endpoint.client.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for start in range(0, count, 25):
        puts = [{"PutRequest": {"Item": item(n)}} for n in range(start, min(start + 25, count))]
        endpoint.client.batch_write_item(RequestItems={table: puts})


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def migrate(endpoint: Endpoint, table: str, share: int) -> tuple[float, float, object]:
    from dynamodt.control import operations

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "transforms" / table).mkdir(parents=True)
        (folder / "transforms" / table / "v1_split.py").write_text(SCRIPT.format(share=share))
        stage = Stage("local", endpoint.connection, StorageSpec(str(folder / "storage")), "state", local=True)
        State(stage.connection, stage.state_table).ensure()
        before, began = cpu(), time.monotonic()
        (report,) = operations.up(stage, folder, [table], None, RunOptions(), Silent())
        if report.error is not None:
            raise report.error
        return cpu() - before, time.monotonic() - began, report.versions[0].counts


def main() -> None:
    items = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    share = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    with tempfile.TemporaryDirectory() as name, ministack(Path(name)) as endpoint:
        fill(endpoint, "warm", 0)
        fill(endpoint, "empty", 0)
        fill(endpoint, "full", items)
        migrate(endpoint, "warm", share)  # imports
        base, _, _ = migrate(endpoint, "empty", share)
        spent, seconds, counts = migrate(endpoint, "full", share)
    figures = {
        "items": items,
        "share_changed": share,
        "cpu_us_per_item": round((spent - base) / items * 1e6, 1),
        "seconds": round(seconds, 2),
        "counts": counts._asdict(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
