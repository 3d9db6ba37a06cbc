"""Whether a table could be brought back to a moment before a run: its point-in-time recovery."""

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
