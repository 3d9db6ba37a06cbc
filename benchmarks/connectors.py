"""The CPU of reading and writing a table by `dynamodt.io` in Beam's in-process runner, by boto3, and by dynamodb_pyio.

    .venv/bin/python benchmarks/connectors.py [ITEMS [WAY ...]]

A server of its own process answers with pages that are prepared, of items of about 500 bytes, and takes all writes.
Microseconds of CPU (user and system) an item, of the reading or writing process alone, without what the same process
takes for no items. Each way writes the same items, which it makes first. The median of three. dynamodb_pyio is measured
where `make bench` has installed it.
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


def written(operation: str, body: dict[str, Any]) -> bytes:
    """The response to writes, all of which are done."""
    if operation == "BatchExecuteStatement":
        done = [{"TableName": "things"}] * len(body["Statements"])
        return json.dumps({"Responses": done, "ConsumedCapacity": [{"CapacityUnits": float(len(done))}]}).encode()
    return b'{"UnprocessedItems": {}, "ConsumedCapacity": [{"TableName": "things", "CapacityUnits": 25.0}]}'


def serve(items: int) -> None:
    """Answers until its input is closed; prints the port."""
    prepared = answers(items)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet an answer

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            operation = self.headers["X-Amz-Target"].partition(".")[2]
            data = prepared["table"] if operation == "DescribeTable" else written(operation, body)
            if operation == "Scan":
                data = prepared[body.get("ExclusiveStartKey", {"id": {"S": "0"}})["id"]["S"]]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


def numbers(most: int) -> list[int]:
    return list(range(most))


def item(number: int) -> dict[str, Any]:
    place = {"city": "Bern", "zip": "3000", "lines": ["a" * 40, "b" * 40]}
    more = {"tags": {"a", "b", "c"}, "note": "y" * 120, "flag": True}
    return {"id": f"user-{number:08d}", "n": number, "name": "x" * 60, "address": place, **more}


def by_boto3(url: str, items: int) -> None:
    import boto3

    client = boto3.client("dynamodb", region_name=REGION, endpoint_url=url)
    for page in client.get_paginator("scan").paginate(TableName="things"):
        for _ in page["Items"]:
            pass


def by_batch_writer(url: str, items: int) -> None:
    import boto3

    table = boto3.resource("dynamodb", region_name=REGION, endpoint_url=url).Table("things")
    with table.batch_writer() as batch:
        for number in range(items):
            batch.put_item(Item=item(number))


def by_floor(url: str, items: int) -> None:
    """BatchWriteItem of prepared images on one kept connection, unsigned and without a retry."""
    import orjson
    import urllib3

    pool = urllib3.PoolManager(headers={"X-Amz-Target": "DynamoDB_20120810.BatchWriteItem"})
    for start in range(0, items, 25):
        puts = [{"PutRequest": {"Item": image(number)}} for number in range(start, min(items, start + 25))]
        orjson.loads(pool.request("POST", url, body=orjson.dumps({"RequestItems": {"things": puts}})).data)


def by_pyio(url: str, items: int) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from dynamodb_pyio.io import WriteToDynamoDB

    words = [f"--endpoint_url={url}", f"--region_name={REGION}"]
    options = PipelineOptions([*words, "--aws_access_key_id=x", "--aws_secret_access_key=x"])
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        made = pipeline | beam.Create([items]) | beam.FlatMap(numbers) | beam.Map(item)
        made | beam.BatchElements(min_batch_size=25, max_batch_size=1000) | WriteToDynamoDB("things")


def reading(raw: bool) -> Callable[[str, int], None]:
    def read(url: str, items: int) -> None:
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        from dynamodt.io import ReadFromDynamoDB

        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            reader = ReadFromDynamoDB("things", segments=1, raw=raw, region=REGION, endpoint_url=url)
            pipeline | reader | beam.Map(lambda item: None)

    return read


def writing(mode: Any, guard: Any = "item") -> Callable[[str, int], None]:
    def write(url: str, items: int) -> None:
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        from dynamodt.io import WriteToDynamoDB

        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            made = pipeline | beam.Create([items]) | beam.FlatMap(numbers) | beam.Map(item)
            if mode == "patch":
                made = made | beam.Map(lambda old: (old, {**old, "n": old["n"] + 1}))
            made | WriteToDynamoDB("things", mode=mode, guard=guard, region=REGION, endpoint_url=url)

    return write


def making(url: str, items: int) -> None:
    """What the connectors' pipelines take to make their elements, which is no part of writing them."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | beam.Create([items]) | beam.FlatMap(numbers) | beam.Map(item) | beam.Map(lambda made: None)


WAYS: dict[str, Callable[[str, int], None]] = {
    "read: boto3's paginator": by_boto3,
    "read: dicts": reading(raw=False),
    "read: images": reading(raw=True),
    "write: elements alone": making,
    "write: floor": by_floor,
    "write: put": writing("put"),
    "write: put_if_absent": writing("put_if_absent"),
    "write: patch, guard item": writing("patch"),
    "write: patch, guard changed": writing("patch", "changed"),
    "write: patch, no guard": writing("patch", None),
    "write: delete": writing("delete"),
    "write: boto3's batch_writer": by_batch_writer,
    "write: dynamodb_pyio": by_pyio,
}
_BENCH = ROOT / ".venv" / "bench" / "bin" / "python"


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(way: str, url: str, items: int) -> None:
    """In a process of its own: prints the seconds."""
    before = seconds()
    WAYS[way](url, items)
    print(seconds() - before)


def taken(way: str, url: str, items: int) -> float:
    """The median of the seconds of CPU."""
    python = str(_BENCH) if way.endswith("pyio") else sys.executable
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": REGION, "PATH": "/usr/bin"}
    command = [python, __file__, "measure", way, url, str(items)]
    runs = [subprocess.run(command, env=keys, check=True, capture_output=True, text=True) for _ in range(TIMES)]
    return statistics.median(float(run.stdout.split()[-1]) for run in runs)


def main(items: int, *only: str) -> None:
    server = subprocess.Popen([sys.executable, __file__, "serve", str(items)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        for way in only or WAYS:
            if way.endswith("pyio") and not _BENCH.exists():
                print(f"{way:28} not installed: make bench installs it")
                continue
            start = 0.0 if way.startswith("read") else taken(way, url, 1)
            print(f"{way:28} {1e6 * (taken(way, url, items) - start) / items:5.1f} µs of CPU an item", flush=True)
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000, *sys.argv[2:])
