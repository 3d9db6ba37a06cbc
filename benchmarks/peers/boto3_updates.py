"""(c) boto3 with a condition: a paginated scan, and an update_item for each changed item.

    boto3_updates.py ENDPOINT TABLE SHARE

Guarded by the one attribute that the change was made from. What fails its condition is passed over.
"""

from __future__ import annotations

import sys
from typing import Any

import boto3
from boto3.dynamodb.conditions import Attr
from boto3_puts import KEYS, transform


def main(endpoint: str, name: str, share: str) -> None:
    table = boto3.resource("dynamodb", endpoint_url=endpoint, **KEYS).Table(name)
    request: dict[str, Any] = {}
    while True:
        page = table.scan(**request)
        for item in page["Items"]:
            changed = transform(item, int(share))
            if changed is not None:
                update(table, item, changed)
        if "LastEvaluatedKey" not in page:
            return
        request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def update(table: Any, item: dict[str, Any], changed: dict[str, Any]) -> None:
    try:
        table.update_item(
            Key={"id": item["id"]},
            UpdateExpression="SET first_name = :first, last_name = :last",
            ConditionExpression=Attr("name").eq(item["name"]),
            ExpressionAttributeValues={":first": changed["first_name"], ":last": changed["last_name"]},
        )
    except table.meta.client.exceptions.ConditionalCheckFailedException:
        print(f"changed meanwhile: {item['id']}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
