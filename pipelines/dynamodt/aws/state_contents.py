"""Whose rows a state table holds, which only a look at all of its keys can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection

_PREFIX = "TABLE#"


def tables_in(connection: Connection, state_table: str) -> set[str]:
    """The tables that have rows of their own there: a version, a run or a lease; `dry-run/RUN` is a dry run's lease.

    It reads the whole table, strongly consistent. Raises ServiceError.
    """
    pages = (
        client(connection, "dynamodb")
        .get_paginator("scan")
        .paginate(
            TableName=state_table,
            ConsistentRead=True,
            ProjectionExpression="pk",
            FilterExpression="begins_with(pk, :prefix)",
            ExpressionAttributeValues={":prefix": {"S": _PREFIX}},
        )
    )
    with explained("Scan", f"state table {state_table}"):
        keys = {item["pk"]["S"] for page in pages for item in page["Items"]}
    return {key.removeprefix(_PREFIX).partition("#")[0] for key in keys}
