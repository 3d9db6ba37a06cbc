"""(b) As (a), by eight threads, each with a segment of the scan and a batch_writer of its own.

boto3_threads.py ENDPOINT TABLE SHARE
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from boto3_puts import KEYS, transform

THREADS = 8


def migrate(endpoint: str, name: str, share: int, segment: int) -> None:
    session = boto3.session.Session(**KEYS)  # a resource is not to be shared by threads
    table = session.resource("dynamodb", endpoint_url=endpoint).Table(name)
    request: dict[str, Any] = {"Segment": segment, "TotalSegments": THREADS}
    with table.batch_writer() as batch:
        while True:
            page = table.scan(**request)
            for item in page["Items"]:
                changed = transform(item, share)
                if changed is not None:
                    batch.put_item(Item=changed)
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def main(endpoint: str, name: str, share: str) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        for done in [threads.submit(migrate, endpoint, name, int(share), segment) for segment in range(THREADS)]:
            done.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
