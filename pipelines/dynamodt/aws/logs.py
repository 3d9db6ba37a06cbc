"""The end of a log in CloudWatch Logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection

_ATTEMPTS = 2  # who waits for it has an error to hear of
_SECONDS = 10.0


def tail(connection: Connection, group: str, job_run: str, lines: int) -> list[str]:
    """The last lines that a job's driver has printed; none when there is no log yet.

    Raises ServiceError when it cannot be read. It needs logs:DescribeLogStreams and logs:GetLogEvents on the group.
    """
    logs = client(connection, "logs", attempts=_ATTEMPTS, seconds=_SECONDS)
    with explained("GetLogEvents", f"log group {group}"):
        try:
            streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=job_run)["logStreams"]
            names = [stream["logStreamName"] for stream in streams]
            if not names:
                return []
            answer = logs.get_log_events(logGroupName=group, logStreamName=_driver(names), limit=lines)
        except logs.exceptions.ResourceNotFoundException:
            return []
    text = "\n".join(event["message"].rstrip("\n") for event in answer["events"])
    return text.splitlines()[-lines:]


def _driver(names: list[str]) -> str:
    """Executors have streams of their own, with more behind the run's id."""
    return next((name for name in names if name.endswith("driver")), min(names, key=len))
