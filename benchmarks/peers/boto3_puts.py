"""(a) boto3 as its documentation shows: a paginated scan, and the changed items put by a batch_writer.

    boto3_puts.py ENDPOINT TABLE SHARE

Unguarded: what the application writes between the scan and the put is lost.
"""

from __future__ import annotations

import sys
from typing import Any

import boto3

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "local", "aws_secret_access_key": "local"}


def transform(item: dict[str, Any], share: int) -> dict[str, Any] | None:
    """The item's new shape; None: it needs no change."""
    if item["n"] % 100 >= share:
        return None
    first, _, last = item["name"].partition(" ")
    return {**item, "first_name": first, "last_name": last}


def main(endpoint: str, name: str, share: str) -> None:
    table = boto3.resource("dynamodb", endpoint_url=endpoint, **KEYS).Table(name)
    request: dict[str, Any] = {}
    with table.batch_writer() as batch:
        while True:
            page = table.scan(**request)
            for item in page["Items"]:
                changed = transform(item, int(share))
                if changed is not None:
                    batch.put_item(Item=changed)
            if "LastEvaluatedKey" not in page:
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


if __name__ == "__main__":
    main(*sys.argv[1:])
