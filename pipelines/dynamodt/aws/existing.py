"""Whether a resource of a stack is still there: CloudFormation does not look, and it may have been deleted by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dynamodt.aws.clients import client
from dynamodt.aws.failures import explained

if TYPE_CHECKING:
    from dynamodt.model import Connection

_GONE = {"EntityNotFoundException", "NoSuchEntity", "ResourceNotFoundException", "NotFound", "NotFoundException"}
_HIDDEN = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
Ask = Callable[
    [Any, str], object
]  # a client, and a resource's own name: falsy, or one of these errors, where it is gone

_ASKED: dict[str, tuple[str, Ask]] = {
    "AWS::Glue::Job": ("glue", lambda glue, name: glue.get_job(JobName=name)),
    "AWS::Glue::Trigger": ("glue", lambda glue, name: glue.get_trigger(Name=name)),
    "AWS::Glue::Workflow": ("glue", lambda glue, name: glue.get_workflow(Name=name)),
    "AWS::IAM::Role": ("iam", lambda iam, name: iam.get_role(RoleName=name)),
    "AWS::SNS::Topic": ("sns", lambda sns, arn: sns.get_topic_attributes(TopicArn=arn)),
    "AWS::Events::Rule": ("events", lambda events, name: events.describe_rule(Name=name.rpartition("/")[2])),
    "AWS::CloudWatch::Alarm": (
        "cloudwatch",
        lambda watch, name: watch.describe_alarms(AlarmNames=[name])["MetricAlarms"],
    ),
    "AWS::Logs::LogGroup": ("logs", lambda logs, name: _log_groups(logs, name)),
}


def is_gone(connection: Connection, kind: str, name: str) -> bool:
    """Whether a resource of this CloudFormation type is there no more. One that may not be looked at, or of a type that
    is not known here, counts as there. Raises ServiceError."""
    from botocore.exceptions import ClientError

    if kind not in _ASKED or not name:
        return False
    service, ask = _ASKED[kind]
    with explained(f"the look at {kind}", name):
        try:
            return not ask(client(connection, service), name)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _HIDDEN:
                return False
            if code not in _GONE:
                raise
            return True


def _log_groups(logs: Any, name: str) -> list[Any]:
    found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return [group for group in found if group["logGroupName"] == name]
