"""A stack that is at work: told event by event, and what is said of one that did not come to a good end.

A CloudFormation stack: what it is, what a change set would make of it, and what happens to it meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import RunFailed

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from collections.abc import Iterable

from dynamodt.errors import Refused

UNMADE = "REVIEW_IN_PROGRESS"  # a change set was made for it, and never carried out
GONE = "DELETE_COMPLETE"
_POLL_SECONDS = 2.0
_NOT_MADE = (GONE, "CREATE_FAILED", "CREATE_IN_PROGRESS", "DELETE_SKIPPED")  # it has the name, and not the thing
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack as it is: CloudFormation's own status, and the parameters and outputs of its last deployment."""

    id: str
    status: str
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def moving(self) -> bool:
        """Whether CloudFormation is at work on it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != UNMADE


class StackEvent(NamedTuple):
    """Something that has happened to one resource, or to the stack itself."""

    resource: str  # its name in the template
    type: str
    status: str
    reason: str

    @property
    def of_stack(self) -> bool:
        """A nested stack is a resource like any other; this template has none."""
        return self.type == "AWS::CloudFormation::Stack"

    @property
    def in_progress(self) -> bool:
        return self.status.endswith("_IN_PROGRESS")


class ResourceChange(NamedTuple):
    """What a change set would do to a resource: Add, Modify, Remove ..., and whether a new one takes its place."""

    action: str
    resource: str
    type: str
    replacement: bool


class ChangeSet(NamedTuple):
    """A change that can be carried out."""

    id: str
    changes: tuple[ResourceChange, ...]


class Stack:
    """One stack by its name. Every method raises ServiceError when CloudFormation refuses or cannot be reached."""

    def __init__(self, connection: Connection, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._cloudformation = client(connection, "cloudformation")
        self._sleep = sleep
        self.name = name
        self.where = f"stack {name}"

    def state(self, stack_id: str = "") -> StackState | None:
        """The stack; None when there is none. By its id it is found even after it was deleted."""
        from botocore.exceptions import ClientError

        with explained("DescribeStacks", self.where):
            try:
                found = self._cloudformation.describe_stacks(StackName=stack_id or self.name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return _state(found)

    def resources(self) -> dict[str, str]:
        """The resources that exist: their names in the template, and their own."""
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in self._resources()}

    def kinds(self) -> dict[str, str]:
        """The types of the resources that exist, by their names in the template."""
        return {one["LogicalResourceId"]: one["ResourceType"] for one in self._resources()}

    def _resources(self) -> list[dict[str, Any]]:
        with explained("DescribeStackResources", self.where):
            found = self._cloudformation.describe_stack_resources(StackName=self.name)["StackResources"]
        return [one for one in found if one["ResourceStatus"] not in _NOT_MADE]

    def change_sets(self) -> list[str]:
        """The names of the change sets that were made for it."""
        pages = self._cloudformation.get_paginator("list_change_sets")
        with explained("ListChangeSets", self.where):
            return [one["ChangeSetName"] for page in pages.paginate(StackName=self.name) for one in page["Summaries"]]

    def propose(
        self, template: str, parameters: Mapping[str, str], tags: Mapping[str, str], exists: bool
    ) -> ChangeSet | None:
        """A change set that brings the stack to the template and its parameters; None when nothing would change.

        Raises RunFailed with CloudFormation's reason when it makes none.
        """
        with explained("CreateChangeSet", self.where):
            made = self._cloudformation.create_change_set(
                StackName=self.name,
                ChangeSetName=f"dynamodt-{time.time_ns()}",
                ChangeSetType="UPDATE" if exists else "CREATE",
                TemplateBody=template,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                Capabilities=["CAPABILITY_IAM"],
            )
        answer = self._made(made["Id"])
        if answer["Status"] == "FAILED":
            self._drop(made["Id"])
            reason = answer.get("StatusReason", "")
            if any(words in reason for words in _NO_CHANGE):
                return None
            raise RunFailed(f"CloudFormation makes no change set: {reason}", where=self.where)
        return ChangeSet(made["Id"], self._changes(made["Id"]))

    def execute(self, change_set: ChangeSet) -> None:
        """Start carrying a change set out."""
        with explained("ExecuteChangeSet", self.where):
            self._cloudformation.execute_change_set(ChangeSetName=change_set.id, StackName=self.name)

    def discard(self, change_set: ChangeSet) -> None:
        """Forget a change set, and the empty stack that was there for it alone."""
        self._drop(change_set.id)
        state = self.state()
        if state is not None and state.status == UNMADE and not self.change_sets():  # another may be about to make it
            self.delete()

    def delete(self) -> None:
        """Start deleting the stack."""
        with explained("DeleteStack", self.where):
            self._cloudformation.delete_stack(StackName=self.name)

    def events(self, stack_id: str, known: set[str]) -> list[StackEvent]:
        """What has happened since, the oldest first. `known` are the ids of what was told already; it is added to."""
        found: list[dict[str, Any]] = []
        with explained("DescribeStackEvents", self.where):
            for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
                fresh = [event for event in page["StackEvents"] if event["EventId"] not in known]
                if not fresh:  # the newest come first: all else is known, too
                    break
                found += fresh
        known.update(event["EventId"] for event in found)
        return [_event(event) for event in sorted(found, key=lambda event: event["Timestamp"])]

    def _made(self, change_set: str) -> dict[str, Any]:
        """The description of a change set, once it is complete or has failed."""
        while True:
            with explained("DescribeChangeSet", self.where):
                answer: dict[str, Any] = self._cloudformation.describe_change_set(
                    ChangeSetName=change_set, StackName=self.name
                )
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return answer
            self._sleep(_POLL_SECONDS)

    def _changes(self, change_set: str) -> tuple[ResourceChange, ...]:
        pages = self._cloudformation.get_paginator("describe_change_set")
        with explained("DescribeChangeSet", self.where):
            found = [
                change["ResourceChange"]
                for page in pages.paginate(ChangeSetName=change_set, StackName=self.name)
                for change in page["Changes"]
            ]
        return tuple(
            ResourceChange(
                one["Action"], one["LogicalResourceId"], one["ResourceType"], one.get("Replacement") == "True"
            )
            for one in found
        )

    def _drop(self, change_set: str) -> None:
        with explained("DeleteChangeSet", self.where):
            self._cloudformation.delete_change_set(ChangeSetName=change_set, StackName=self.name)


def all_stacks(connection: Connection) -> dict[str, StackState]:
    """Every stack of the account and region that is there, by its name. Raises ServiceError."""
    pages = client(connection, "cloudformation").get_paginator("describe_stacks")
    with explained("DescribeStacks", f"region {connection.region}"):
        return {one["StackName"]: _state(one) for page in pages.paginate() for one in page["Stacks"]}


def _event(found: dict[str, Any]) -> StackEvent:
    return StackEvent(
        found["LogicalResourceId"],
        found["ResourceType"],
        found["ResourceStatus"],
        found.get("ResourceStatusReason", ""),
    )


def _state(found: dict[str, Any]) -> StackState:
    return StackState(
        id=found["StackId"],
        status=found["StackStatus"],
        reason=found.get("StackStatusReason", ""),
        parameters={one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", ())},
        outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())},
    )


POLL_SECONDS = 2.0
_AFTER_ROLLBACK = "what was there before is there still; remove the cause, and run the same command again"
_CANCELLED = ("Resource creation cancelled", "Resource update cancelled")
_BROKEN = {
    "UPDATE_ROLLBACK_FAILED": (
        "its last update failed, and could not be taken back",
        "remove the cause (its events name it), then: aws cloudformation continue-update-rollback --stack-name {name}",
    ),
    "ROLLBACK_FAILED": (
        "it could not be created, and what was made of it could not be removed",
        "remove the cause (its events name it), then: aws cloudformation delete-stack --stack-name {name}",
    ),
    "DELETE_FAILED": (
        "it could not be deleted",
        "remove what its events name, then: aws cloudformation delete-stack --stack-name {name}",
    ),
}


def known_events(stack: Stack, state: StackState | None) -> set[str]:
    """The ids of what has happened so far, so that only what comes is told."""
    known: set[str] = set()
    if state is not None:
        stack.events(state.id, known)
    return known


def ended(
    stack: Stack,
    stack_id: str,
    known: set[str],
    note: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    *,
    begun: bool = True,
) -> tuple[StackState, list[StackEvent]]:
    """The stack once nothing works on it any more, and what has happened meanwhile, each end of something told.

    Where something was `begun` just now, the stack's own last event is waited for: its status may lag behind.
    """
    seen: list[StackEvent] = []
    while True:
        state = stack.state(stack_id) or StackState(stack_id, GONE)
        fresh = stack.events(stack_id, known)
        seen += fresh
        for event in fresh:
            if event.of_stack or not event.in_progress:
                note(told(event))
        if not state.moving and (not begun or state.status == GONE or any(map(_is_last, seen))):
            return state, seen
        sleep(POLL_SECONDS)


def at_rest(
    stack: Stack, note: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> StackState | None:
    """The stack when nothing is at work on it, which is awaited; None when there is none."""
    state = stack.state()
    if state is None or not state.moving:
        return state
    note(f"{stack.name} is {state.status}: waiting until that has ended")
    state, _ = ended(stack, state.id, known_events(stack, state), note, sleep, begun=False)
    return None if state.status == GONE else state


def removed(stack: Stack, state: StackState, note: Callable[[str], None], sleep: Callable[[float], None]) -> None:
    """Delete a stack, and return when it is gone. Raises RunFailed with what could not be deleted, and why."""
    known = known_events(stack, state)
    stack.delete()
    after, events = ended(stack, state.id, known, note, sleep)
    if after.status != GONE:
        raise failure(stack, after, events)


def told(event: StackEvent) -> str:
    """An event as a line."""
    reason = f": {event.reason}" if event.reason and event.status.endswith("_FAILED") else ""
    return f"{event.resource}  {event.type}  {event.status}{reason}"


def _is_last(event: StackEvent) -> bool:
    return event.of_stack and not event.in_progress


def failure(stack: Stack, state: StackState, events: Iterable[StackEvent]) -> RunFailed:
    """The error of a stack that ended badly: what failed in it, and why, in CloudFormation's words."""
    failed = [event for event in events if event.status.endswith("_FAILED") and not event.of_stack]
    causes = [event for event in failed if event.reason and not event.reason.startswith(_CANCELLED)]
    lines = [f"{event.resource} ({event.type}): {event.reason}" for event in causes or failed]
    what = "\n  ".join([f"the stack ended as {state.status}", *(lines or filter(None, [state.reason]))])
    return RunFailed(what, where=stack.where, hint=_broken_hint(stack, state.status) or _AFTER_ROLLBACK)


def refuse_broken(stack: Stack, state: StackState) -> None:
    """Raises Refused for a stack that CloudFormation changes no more before a person has looked at it."""
    if state.status in _BROKEN:
        what = f"the stack is {state.status}: {_BROKEN[state.status][0]}"
        raise Refused(what, where=stack.where, hint=_broken_hint(stack, state.status))


def _broken_hint(stack: Stack, status: str) -> str:
    return _BROKEN[status][1].format(name=stack.name) if status in _BROKEN else ""
