"""The assumptions of a deployment and a deployed job, as checks of `doctor --full --glue`: those about CloudFormation
on a stack of its own with one free resource, those about Glue on the runs of the stage's job."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from dynamodt.deploy.glue_runs import GlueJob
from dynamodt.deploy.stacks import GONE, UNMADE, Stack, StackState, known_events, wait_for_end
from dynamodt.doctor.suite import Assumption, Scratch, differs
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.network import refusal
from dynamodt.model.tables import Connection

_TEMPLATE = {
    "Resources": {"Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"}},
    "Outputs": {"Name": {"Value": {"Ref": "AWS::StackName"}}},
}


class _StackSeen(NamedTuple):
    """Observations of one stack, from its first change set to its deletion."""

    unmade: str  # the status before the first execution
    changes: tuple[str, ...]
    made: str
    output: str
    again: bool  # an equal template gives a change set with changes
    newest_first: bool
    gone: str  # the status by the stack's id after its deletion


@lru_cache(maxsize=1)
def _lived(connection: Connection, name: str) -> _StackSeen:
    """Creates the stack, and deletes it again, also after an error or an interrupt."""
    stack, text = Stack(connection, name), json.dumps(_TEMPLATE)
    try:
        first = stack.propose(text, {}, {}, exists=False)
        unmade = _state(stack)
        assert first is not None
        known = known_events(stack, unmade)
        stack.execute(first)
        made, _ = wait_for_end(stack, unmade.id, known, lambda event: None)
        again = stack.propose(text, {}, {}, exists=True)
        events = client(connection, "cloudformation").describe_stack_events(StackName=made.id)["StackEvents"]
        order = [event["Timestamp"] for event in events]
    finally:
        stack.delete()
    while (after := stack.state(unmade.id)) is not None and after.moving:
        time.sleep(1.0)
    changes = tuple(f"{one.action} {one.resource}" for one in first.changes)
    newest_first = order == sorted(order, reverse=True)
    gone = after.status if after else "no stack"
    return _StackSeen(
        unmade.status, changes, made.status, made.outputs.get("Name", ""), again is not None, newest_first, gone
    )


def _state(stack: Stack) -> StackState:
    return stack.state() or StackState("", GONE)


def _seen(found: Scratch) -> _StackSeen:
    return _lived(found.connection, found.table)


def _absent_stack(found: Scratch) -> str:
    try:
        client(found.connection, "cloudformation").describe_stacks(StackName=f"{found.table}-absent")
    except ClientError as error:
        return "" if "does not exist" in str(error) else str(error)
    return "an absent stack was described"


def _absent_job(found: Scratch) -> str:
    try:
        client(found.connection, "glue").get_job(JobName=f"{found.table}-absent")
    except ClientError as error:
        return differs("EntityNotFoundException", refusal(error).code)
    return "an absent job was found"


def _runs(found: Scratch) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = client(found.connection, "glue").get_job_runs(JobName=found.job)["JobRuns"]
    return runs


def _runs_newest_first(found: Scratch) -> str:
    started = [run["StartedOn"] for run in _runs(found)]
    return "" if started == sorted(started, reverse=True) else "another order"


def _arguments_of_a_run(found: Scratch) -> str:
    lacking = [run["Id"] for run in _runs(found)[:5] if "--command" not in run.get("Arguments", {})]
    return f"no arguments of {', '.join(lacking)}" if lacking else ""


def _log_of_a_run(found: Scratch) -> str:
    """The driver's log stream is named by the run's id; an executor's has a longer name."""
    ended_runs = [run["Id"] for run in _runs(found) if run["JobRunState"] == "SUCCEEDED"][:1]
    group, logs = GlueJob(found.connection, found.job).log_group(), client(found.connection, "logs")
    for run in ended_runs:
        try:
            streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=run)["logStreams"]
        except logs.exceptions.ResourceNotFoundException:
            return f"no log group {group}"
        if not streams:
            return f"no stream of the last run in {group}"
    return ""


_CFN = "docs.aws.amazon.com/AWSCloudFormation/latest/APIReference"
_GLUE = "docs.aws.amazon.com/glue/latest/webapi"
_LOGGING = "docs.aws.amazon.com/glue/latest/dg/monitor-continuous-logging.html"
_STACKS, _JOBS = "deploy/stacks.py", "deploy/glue_runs.py"
DEPLOYED: tuple[Assumption, ...] = (
    Assumption("absent-stack", _STACKS, f"{_CFN}/API_DescribeStacks.html", _absent_stack),
    Assumption("stack-before-its-first-change", _STACKS, f"{_CFN}/API_CreateChangeSet.html",
               lambda found: differs(UNMADE, _seen(found).unmade)),
    Assumption("change-set-lists-resources", _STACKS, f"{_CFN}/API_DescribeChangeSet.html",
               lambda found: differs(("Add Handle",), _seen(found).changes)),
    Assumption("stack-has-outputs", "config/names.py", f"{_CFN}/API_Output.html",
               lambda found: differs(("CREATE_COMPLETE", found.table), (_seen(found).made, _seen(found).output))),
    Assumption("change-set-without-changes", _STACKS, f"{_CFN}/API_DescribeChangeSet.html",
               lambda found: "an equal template has changes" if _seen(found).again else "",
               harmless="dynamodt reports an update that changes nothing"),
    Assumption("events-newest-first", _STACKS, f"{_CFN}/API_DescribeStackEvents.html",
               lambda found: "" if _seen(found).newest_first else "another order",
               harmless="dynamodt sorts the events that it reports by their times"),
    Assumption("deleted-stack-by-its-id", _STACKS, f"{_CFN}/API_DescribeStacks.html",
               lambda found: differs(GONE, _seen(found).gone)),
    Assumption("absent-job", _JOBS, f"{_GLUE}/API_GetJob.html", _absent_job),
    Assumption("job-runs-newest-first", _JOBS, f"{_GLUE}/API_GetJobRuns.html", _runs_newest_first, needs="glue"),
    Assumption("job-run-has-its-arguments", _JOBS, f"{_GLUE}/API_JobRun.html", _arguments_of_a_run, needs="glue"),
    Assumption("log-of-a-job-run", _JOBS, _LOGGING, _log_of_a_run, needs="glue",
               harmless="dynamodt shows the end of the log, and depends on nothing in it"),
)  # fmt: skip
