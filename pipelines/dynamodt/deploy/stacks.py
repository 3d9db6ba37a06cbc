"""A CloudFormation stack: its state, its change sets, and its events until an operation has ended.

Every method of `Stack` raises ServiceError when CloudFormation refuses a call or cannot be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from dynamodt.dynamodb.clients import client, explained
from dynamodt.errors import Refused, RunFailed

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection

Notify = Callable[[str], None]
Sleep = Callable[[float], None]

UNMADE = "REVIEW_IN_PROGRESS"  # the stack has a change set that was never executed, and no resource
OWN_CHANGE_SET = "dynamodt-"  # the prefix of the names of dynamodt's change sets
GONE = "DELETE_COMPLETE"
_BEING_DELETED = "DELETE_IN_PROGRESS"
POLL_SECONDS = 2.0
_NOT_MADE = (GONE, "CREATE_FAILED", "CREATE_IN_PROGRESS", "DELETE_SKIPPED")  # a resource that does not exist
_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")
_AFTER_ROLLBACK = "the previous resources are unchanged; fix the cause, and run the same command again"
_CANCELLED = ("Resource creation cancelled", "Resource update cancelled")
_FIX = "fix the cause (see its events), then: "
_BROKEN = {  # what has happened, the hint, and the command of CloudFormation in it
    "UPDATE_ROLLBACK_FAILED": ("its last update failed and could not be rolled back", _FIX, "continue-update-rollback"),
    "ROLLBACK_FAILED": ("its creation failed and could not be rolled back", _FIX, "delete-stack"),
    "DELETE_FAILED": ("it could not be deleted", "remove what its events name, then: ", "delete-stack"),
}


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack's status as CloudFormation names it, and the parameters and outputs of its last deployment."""

    id: str
    status: str
    reason: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def moving(self) -> bool:
        """Whether an operation is in progress."""
        return self.status.endswith("_IN_PROGRESS") and self.status != UNMADE


class StackEvent(NamedTuple):
    """An event of one resource, or of the stack itself."""

    resource: str  # the logical id
    type: str
    status: str
    reason: str

    @property
    def of_stack(self) -> bool:
        """Whether it is the stack's own event; the template has no nested stack."""
        return self.type == "AWS::CloudFormation::Stack"

    @property
    def in_progress(self) -> bool:
        return self.status.endswith("_IN_PROGRESS")

    def __str__(self) -> str:
        reason = f": {self.reason}" if self.reason and self.status.endswith("_FAILED") else ""
        return f"{self.resource}  {self.type}  {self.status}{reason}"


class ResourceChange(NamedTuple):
    """The change of a resource in a change set: Add, Modify, Remove ..., and whether the resource is replaced."""

    action: str
    resource: str
    type: str
    replacement: bool


class ChangeSet(NamedTuple):
    """A change set that can be executed."""

    id: str
    changes: tuple[ResourceChange, ...]


class Stack:
    """One stack, by its name."""

    def __init__(self, connection: Connection, name: str, sleep: Sleep = time.sleep) -> None:
        self._cloudformation = client(connection, "cloudformation")
        self._sleep = sleep
        self.name = name
        self.where = f"stack {name}"
        self._connection = connection

    def aws_command(self, operation: str, *options: str) -> str:
        """A command of the AWS CLI for the stack."""
        return self._connection.aws_command(f"cloudformation {operation}", "--stack-name", self.name, *options)

    def state(self, stack_id: str = "") -> StackState | None:
        """The stack; None if it does not exist. By its id it is found even after its deletion."""
        with explained("DescribeStacks", self.where):
            try:
                found = self._cloudformation.describe_stacks(StackName=stack_id or self.name)["Stacks"][0]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
        return _state(found)

    def resources(self) -> dict[str, str]:
        """The physical ids of the resources that exist, by their logical ids."""
        return {one["LogicalResourceId"]: one.get("PhysicalResourceId", "") for one in self._resources()}

    def kinds(self) -> dict[str, str]:
        """The types of the resources that exist, by their logical ids."""
        return {one["LogicalResourceId"]: one["ResourceType"] for one in self._resources()}

    def _resources(self) -> list[dict[str, Any]]:
        with explained("DescribeStackResources", self.where):
            found = self._cloudformation.describe_stack_resources(StackName=self.name)["StackResources"]
        return [one for one in found if one["ResourceStatus"] not in _NOT_MADE]

    def change_sets(self) -> list[str]:
        """The names of its change sets."""
        pages = self._cloudformation.get_paginator("list_change_sets")
        with explained("ListChangeSets", self.where):
            return [one["ChangeSetName"] for page in pages.paginate(StackName=self.name) for one in page["Summaries"]]

    def propose(
        self, template: str, parameters: Mapping[str, str], tags: Mapping[str, str], exists: bool
    ) -> ChangeSet | None:
        """Creates a change set from the template and its parameters; None if nothing would change.

        Raises RunFailed with CloudFormation's reason if the change set cannot be created.
        """
        with explained("CreateChangeSet", self.where):
            made = self._cloudformation.create_change_set(
                StackName=self.name,
                ChangeSetName=f"{OWN_CHANGE_SET}{time.time_ns()}",
                ChangeSetType="UPDATE" if exists else "CREATE",
                TemplateBody=template,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                Capabilities=["CAPABILITY_IAM"],
            )
        answer = self._completed(made["Id"])
        if answer["Status"] == "FAILED":
            self._drop(made["Id"])
            reason = answer.get("StatusReason", "")
            if any(words in reason for words in _NO_CHANGE):
                return None
            raise RunFailed(f"CloudFormation could not create the change set: {reason}", where=self.where)
        return ChangeSet(made["Id"], self._changes(made["Id"]))

    def execute(self, change_set: ChangeSet) -> None:
        """Starts to execute a change set."""
        with explained("ExecuteChangeSet", self.where):
            self._cloudformation.execute_change_set(ChangeSetName=change_set.id, StackName=self.name)

    def discard(self, change_set: ChangeSet) -> None:
        """Deletes a change set, and the empty stack that was created for it."""
        self._drop(change_set.id)
        state = self.state()
        if state is not None and state.status == UNMADE and not self.change_sets():  # another one may be executed yet
            self.delete()

    def delete(self) -> None:
        """Starts to delete the stack."""
        with explained("DeleteStack", self.where):
            self._cloudformation.delete_stack(StackName=self.name)

    def events(self, stack_id: str, known: set[str]) -> list[StackEvent]:
        """The events whose ids are not in `known`, the oldest first; adds their ids to it."""
        found: list[dict[str, Any]] = []
        with explained("DescribeStackEvents", self.where):
            for page in self._cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
                fresh = [event for event in page["StackEvents"] if event["EventId"] not in known]
                if not fresh:  # pages come newest first: the rest is known
                    break
                found += fresh
        known.update(event["EventId"] for event in found)
        return [_event(event) for event in sorted(found, key=lambda event: event["Timestamp"])]

    def _completed(self, change_set: str) -> dict[str, Any]:
        """The description of a change set, once its creation is complete or has failed."""
        while True:
            with explained("DescribeChangeSet", self.where):
                answer: dict[str, Any] = self._cloudformation.describe_change_set(
                    ChangeSetName=change_set, StackName=self.name
                )
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return answer
            self._sleep(POLL_SECONDS)

    def _changes(self, change_set: str) -> tuple[ResourceChange, ...]:
        pages = self._cloudformation.get_paginator("describe_change_set")
        with explained("DescribeChangeSet", self.where):
            pages = list(pages.paginate(ChangeSetName=change_set, StackName=self.name))
        return tuple(_change(one["ResourceChange"]) for page in pages for one in page["Changes"])

    def _drop(self, change_set: str) -> None:
        with explained("DeleteChangeSet", self.where):
            self._cloudformation.delete_change_set(ChangeSetName=change_set, StackName=self.name)


def all_stacks(connection: Connection) -> dict[str, StackState]:
    """Every stack of the account and region, by its name. Raises ServiceError."""
    pages = client(connection, "cloudformation").get_paginator("describe_stacks")
    with explained("DescribeStacks", f"region {connection.region}"):
        return {one["StackName"]: _state(one) for page in pages.paginate() for one in page["Stacks"]}


def _change(found: dict[str, Any]) -> ResourceChange:
    replaced = found.get("Replacement") == "True"
    return ResourceChange(found["Action"], found["LogicalResourceId"], found["ResourceType"], replaced)


def _event(found: dict[str, Any]) -> StackEvent:
    reason = found.get("ResourceStatusReason", "")
    return StackEvent(found["LogicalResourceId"], found["ResourceType"], found["ResourceStatus"], reason)


def _state(found: dict[str, Any]) -> StackState:
    return StackState(
        id=found["StackId"],
        status=found["StackStatus"],
        reason=found.get("StackStatusReason", ""),
        parameters={one["ParameterKey"]: one["ParameterValue"] for one in found.get("Parameters", ())},
        outputs={one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", ())},
    )


# ---------------------------------------------------------------- until an operation has ended


def known_events(stack: Stack, state: StackState | None) -> set[str]:
    """The ids of all events so far."""
    known: set[str] = set()
    if state is not None:
        stack.events(state.id, known)
    return known


def wait_for_end(
    stack: Stack, stack_id: str, known: set[str], notify: Notify, sleep: Sleep = time.sleep, *, begun: bool = True
) -> tuple[StackState, list[StackEvent]]:
    """Waits until no operation is in progress; returns the stack and the new events, each of which is reported once the
    resource is complete or has failed.

    If the operation has only just `begun`, also waits for the stack's own last event, since its status may lag behind.
    """
    seen: list[StackEvent] = []
    while True:
        state = stack.state(stack_id) or StackState(stack_id, GONE)
        fresh = stack.events(stack_id, known)
        seen += fresh
        for event in fresh:
            if event.of_stack or not event.in_progress:
                notify(str(event))
        complete = any(event.of_stack and not event.in_progress for event in seen)
        if not state.moving and (not begun or state.status == GONE or complete):
            return state, seen
        sleep(POLL_SECONDS)


def wait_until_idle(
    stack: Stack, notify: Notify, sleep: Sleep = time.sleep, check: Callable[[StackState], None] = lambda state: None
) -> StackState | None:
    """The stack, once no operation is in progress; None if it does not exist. Before waiting, unless for a deletion,
    `check` is called, and its error raised. None after a deletion: the name is free."""
    state = stack.state()
    if state is None or not state.moving:
        return state
    if state.status != _BEING_DELETED:
        check(state)
    notify(f"{stack.name} is {state.status}: waiting until that has ended")
    state, _ = wait_for_end(stack, state.id, known_events(stack, state), notify, sleep, begun=False)
    return None if state.status == GONE else state


def remove_stack(stack: Stack, state: StackState, notify: Notify, sleep: Sleep) -> None:
    """Deletes a stack, and returns when it is gone. Raises RunFailed with each resource that could not be deleted."""
    known = known_events(stack, state)
    stack.delete()
    after, events = wait_for_end(stack, state.id, known, notify, sleep)
    if after.status != GONE:
        raise failure(stack, after, events)


def failure(stack: Stack, state: StackState, events: Iterable[StackEvent]) -> RunFailed:
    """The error of an operation that failed: the failed resources, with CloudFormation's reasons."""
    failed = [event for event in events if event.status.endswith("_FAILED") and not event.of_stack]
    causes = [event for event in failed if event.reason and not event.reason.startswith(_CANCELLED)]
    lines = [f"{event.resource} ({event.type}): {event.reason}" for event in causes or failed]
    what = "\n  ".join([f"the stack ended as {state.status}", *(lines or filter(None, [state.reason]))])
    return RunFailed(what, where=stack.where, hint=_broken_hint(stack, state.status) or _AFTER_ROLLBACK)


def refuse_broken(stack: Stack, state: StackState) -> None:
    """Raises Refused for a stack that CloudFormation cannot change until it is repaired by hand."""
    if state.status in _BROKEN:
        what = f"the stack is {state.status}: {_BROKEN[state.status][0]}"
        raise Refused(what, where=stack.where, hint=_broken_hint(stack, state.status))


def _broken_hint(stack: Stack, status: str) -> str:
    _, hint, operation = _BROKEN.get(status, ("", "", ""))
    return hint + stack.aws_command(operation) if operation else ""
