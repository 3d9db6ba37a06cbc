"""A table read or written by `dynamodt.io` in Beam's in-process runner, by boto3, and by dynamodb_pyio.

    connectors.py ENDPOINT TABLE COUNT WAY

Reading reads all items of the table. Each way of writing makes COUNT items, which "elements alone" makes and forgets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

REGION = "us-east-1"
FIRST = 1_000_000
ROOT = Path(__file__).resolve().parents[2]


def numbers(most: int) -> list[int]:
    return list(range(most))


def item(number: int) -> dict[str, Any]:
    """That of `benchmarks.table`, as boto3 has it."""
    digits = str(FIRST + number)
    return {
        "id": f"user-{digits}",
        "n": FIRST + number,
        "name": f"First{digits} Last{digits}",
        "email": f"first{digits}.last{digits}@example.com",
        "country": "AT",
        "bio": "lorem ipsum " * 23,
        "tags": {"a", "b", "c"},
        "address": {"street": "Example Street", "number": 7, "city": "Example"},
        "active": True,
        "score": 12,
    }


def paginating(url: str, name: str, count: int) -> None:
    import boto3

    client = boto3.client("dynamodb", region_name=REGION, endpoint_url=url)
    for page in client.get_paginator("scan").paginate(TableName=name):
        for _ in page["Items"]:
            pass


def scanning(url: str, name: str, count: int) -> None:
    """Signed HTTP on a kept connection and orjson: the scan of `floor.py`."""
    from floor import Service, scan

    for _ in scan(Service(url), name):
        pass


def batch_writer(url: str, name: str, count: int) -> None:
    import boto3

    table = boto3.resource("dynamodb", region_name=REGION, endpoint_url=url).Table(name)
    with table.batch_writer() as batch:
        for number in range(count):
            batch.put_item(Item=item(number))


def putting(url: str, name: str, count: int) -> None:
    """BatchWriteItem by the `Service` of `floor.py`, one request after the other."""
    from boto3.dynamodb.types import TypeSerializer
    from floor import Service

    service, image = Service(url), TypeSerializer().serialize(item(0))["M"]
    for start in range(0, count, 25):
        puts = [_put(image, str(FIRST + number)) for number in range(start, min(count, start + 25))]
        service.call("BatchWriteItem", {"RequestItems": {name: puts}})


def _put(image: dict[str, Any], digits: str) -> dict[str, Any]:
    own = {"id": {"S": f"user-{digits}"}, "n": {"N": digits}, "name": {"S": f"First{digits} Last{digits}"}}
    return {"PutRequest": {"Item": {**image, **own}}}


def pyio(url: str, name: str, count: int) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from dynamodb_pyio.io import WriteToDynamoDB

    words = [f"--endpoint_url={url}", f"--region_name={REGION}"]
    options = PipelineOptions([*words, "--aws_access_key_id=local", "--aws_secret_access_key=local"])
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        made = pipeline | beam.Create([count]) | beam.FlatMap(numbers) | beam.Map(item)
        made | beam.BatchElements(min_batch_size=25, max_batch_size=1000) | WriteToDynamoDB(name)


def reading(raw: bool) -> Callable[[str, str, int], None]:
    def read(url: str, name: str, count: int) -> None:
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        from dynamodt.io import ReadFromDynamoDB

        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            reader = ReadFromDynamoDB(name, segments=1, raw=raw, region=REGION, endpoint_url=url)
            pipeline | reader | beam.Map(lambda item: None)

    return read


def writing(**how: Any) -> Callable[[str, str, int], None]:
    def write(url: str, name: str, count: int) -> None:
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        from dynamodt.io import WriteToDynamoDB

        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            made = pipeline | beam.Create([count]) | beam.FlatMap(numbers) | beam.Map(item)
            if how["mode"] == "patch":
                made = made | beam.Map(lambda old: (old, {**old, "n": old["n"] + 1}))
            made | WriteToDynamoDB(name, region=REGION, endpoint_url=url, **how)

    return write


def making(url: str, name: str, count: int) -> None:
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | beam.Create([count]) | beam.FlatMap(numbers) | beam.Map(item) | beam.Map(lambda made: None)


READING: dict[str, Callable[[str, str, int], None]] = {
    "read: dicts": reading(raw=False),
    "read: images": reading(raw=True),
    "read: floor": scanning,
    "read: boto3, paginator": paginating,
}
WRITING: dict[str, Callable[[str, str, int], None]] = {
    "write: put": writing(mode="put"),
    "write: put_if_absent": writing(mode="put_if_absent"),
    "write: patch, guard item": writing(mode="patch"),
    "write: patch, guard changed": writing(mode="patch", guard="changed"),
    "write: patch, no guard": writing(mode="patch", guard=None),
    "write: delete": writing(mode="delete"),
    "write: elements alone": making,
    "write: floor": putting,
    "write: boto3, batch_writer": batch_writer,
    "write: dynamodb_pyio": pyio,
}


if __name__ == "__main__":
    sys.path.append(str(ROOT / "pipelines"))
    endpoint, table, count, way = sys.argv[1:]
    {**READING, **WRITING}[way](endpoint, table, int(count))
