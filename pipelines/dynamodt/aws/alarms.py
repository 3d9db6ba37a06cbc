"""The states of CloudWatch alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.parsers import ResponseParserError

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained
from dynamodt.errors import ServiceError

if TYPE_CHECKING:
    from dynamodt.model import Connection

_ATTEMPTS = 2  # an alarm that cannot be read is to be known soon: the workers go on meanwhile
_SECONDS = 5.0


def alarm_states(connection: Connection, names: Sequence[str]) -> dict[str, str]:
    """The state (OK, ALARM or INSUFFICIENT_DATA) of each metric or composite alarm of these names that there is.

    Raises ServiceError when they cannot be read, within half a minute. It needs cloudwatch:DescribeAlarms, which for
    composite alarms must be granted on `*`.
    """
    cloudwatch = client(connection, "cloudwatch", attempts=_ATTEMPTS, seconds=_SECONDS)
    where = f"region {connection.region}"
    pages = cloudwatch.get_paginator("describe_alarms").paginate(
        AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    with explained("DescribeAlarms", where):
        try:
            found = [alarm for page in pages for alarm in page["MetricAlarms"] + page["CompositeAlarms"]]
        except (ResponseParserError, KeyError) as error:  # an endpoint that is no CloudWatch
            raise ServiceError(f"the endpoint does not answer as CloudWatch: {error}", where=where) from error
    return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}
