"""(e) Beam with dynamodb_pyio (PyPI) as the sink: a parallel scan by boto3, the changed items put in batches.

    beam_pyio.py ENDPOINT TABLE SHARE

In-process runner. Unguarded, as (a): the library puts whole items.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import boto3
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from boto3_puts import KEYS, transform
from dynamodb_pyio.io import WriteToDynamoDB

SEGMENTS = 8


def items(segment: int, endpoint: str, name: str) -> Iterator[dict[str, Any]]:
    table = boto3.resource("dynamodb", endpoint_url=endpoint, **KEYS).Table(name)
    request: dict[str, Any] = {"Segment": segment, "TotalSegments": SEGMENTS}
    while True:
        page = table.scan(**request)
        yield from page["Items"]
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def changed(item: dict[str, Any], share: int) -> list[dict[str, Any]]:
    result = transform(item, share)
    return [] if result is None else [result]


def main(endpoint: str, name: str, share: str) -> None:
    options = PipelineOptions(
        [
            f"--endpoint_url={endpoint}",
            "--region_name=us-east-1",
            "--aws_access_key_id=local",
            "--aws_secret_access_key=local",
        ]
    )
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        (
            pipeline
            | beam.Create(range(SEGMENTS))
            | beam.Reshuffle()
            | beam.FlatMap(items, endpoint, name)
            | beam.FlatMap(changed, int(share))
            | beam.BatchElements(min_batch_size=25, max_batch_size=1000)
            | WriteToDynamoDB(name)
        )


if __name__ == "__main__":
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    main(*sys.argv[1:])
