"""The CPU of reading a table by `dynamodt.io` in Beam's in-process runner, and by boto3's paginator.

    .venv/bin/python benchmarks/connectors.py [ITEMS]

A server of its own process answers with pages that are prepared, of items of about 500 bytes. Microseconds of CPU (user
and system) an item, of the reading process alone; the runner's own start is part of it. The median of three.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

PAGE, TIMES = 2000, 3
REGION = "us-east-1"


def image(number: int) -> dict[str, Any]:
    place = {"city": {"S": "Bern"}, "zip": {"S": "3000"}, "lines": {"L": [{"S": "a" * 40}, {"S": "b" * 40}]}}
    return {
        "id": {"S": f"user-{number:08d}"},
        "n": {"N": str(number)},
        "name": {"S": "x" * 60},
        "address": {"M": place},
        "tags": {"SS": ["a", "b", "c"]},
        "note": {"S": "y" * 120},
        "flag": {"BOOL": True},
    }


def answers(items: int) -> dict[str, bytes]:
    """The response to each cursor, and the table's description."""
    found = {}
    for start in range(0, items, PAGE):
        end = min(items, start + PAGE)
        page: dict[str, Any] = {"Items": [image(number) for number in range(start, end)]}
        page |= {"Count": end - start, "ScannedCount": end - start, "ConsumedCapacity": {"CapacityUnits": 64.0}}
        if end < items:
            page["LastEvaluatedKey"] = {"id": {"S": str(end)}}
        found[str(start)] = json.dumps(page).encode()
    table = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }
    return {**found, "table": json.dumps({"Table": table}).encode()}


def serve(items: int) -> None:
    """Answers until its input is closed; prints the port."""
    prepared = answers(items)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            start = body.get("ExclusiveStartKey", {"id": {"S": "0"}})["id"]["S"]
            data = prepared["table" if "Describe" in self.headers["X-Amz-Target"] else start]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def by_boto3(url: str) -> None:
    import boto3

    client = boto3.client("dynamodb", region_name=REGION, endpoint_url=url)
    for page in client.get_paginator("scan").paginate(TableName="things"):
        for _ in page["Items"]:
            pass


def by_connector(raw: bool) -> Callable[[str], None]:
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from dynamodt.io import ReadFromDynamoDB

    def read(url: str) -> None:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            reader = ReadFromDynamoDB("things", segments=1, raw=raw, region=REGION, endpoint_url=url)
            pipeline | reader | beam.Map(lambda item: None)

    return read


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(way: str, url: str, items: int) -> None:
    """In a process of its own: prints the microseconds an item."""
    read = by_boto3 if way == "boto3" else by_connector(way == "images")
    before = seconds()
    read(url)
    print(1e6 * (seconds() - before) / items)


def main(items: int) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "PATH": "/usr/bin:/bin"}
    again = [sys.executable, __file__]
    server = subprocess.Popen([*again, "serve", str(items)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        for way in ("boto3", "dicts", "images"):
            command = [*again, way, url, str(items)]
            runs = [subprocess.run(command, env=keys, check=True, capture_output=True, text=True) for _ in range(TIMES)]
            print(f"{way:8} {statistics.median(float(run.stdout.split()[-1]) for run in runs):5.1f} µs of CPU an item")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif len(sys.argv) == 4:
        measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
