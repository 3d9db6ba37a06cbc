"""What a table could be brought back from: its point-in-time recovery, or a backup of one that is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection


def has_point_in_time_recovery(connection: Connection, table: str) -> bool:
    """Whether it is on. Raises ServiceError when that cannot be read: it needs dynamodb:DescribeContinuousBackups."""
    with explained("DescribeContinuousBackups", f"table {table}"):
        answer = client(connection, "dynamodb").describe_continuous_backups(TableName=table)
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


def latest_backup(connection: Connection, table: str) -> str:
    """The ARN of the newest backup of a table, which may be gone: DynamoDB makes one of a table that is deleted with
    point-in-time recovery on, and keeps it for 35 days. Empty when there is none. Raises ServiceError."""
    pages = client(connection, "dynamodb").get_paginator("list_backups").paginate(TableName=table, BackupType="ALL")
    with explained("ListBackups", f"table {table}"):
        found = [one for page in pages for one in page["BackupSummaries"] if one["BackupStatus"] == "AVAILABLE"]
    found.sort(key=lambda one: one["BackupCreationDateTime"])
    return str(found[-1]["BackupArn"]) if found else ""
