"""A stack that is changing or broken: waited for, reported, or refused with a hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from dynamodt.deploy import deploy, stacks
from dynamodt.deploy.stacks import (
    GONE,
    UNMADE,
    StackEvent,
    StackState,
    failure,
    refuse_broken,
    wait_for_end,
    wait_until_idle,
)
from dynamodt.errors import Refused
from dynamodt.model.tables import Connection, Stage, StorageSpec

STACK = "AWS::CloudFormation::Stack"
STAGE = Stage("prod", Connection("eu-west-1"), StorageSpec("s3://files/below"))
OURS = {"Stage": "prod", "Bucket": "files", "Prefix": "below/", "StateTable": "dynamodt-state"}


@dataclass
class FakeStack:
    """A stack with these states, one for each poll, and with the events of each state by then."""

    states: list[StackState | None]
    happened: list[list[StackEvent]] = field(default_factory=list)
    name: str = "dynamodt-prod"
    where: str = "stack dynamodt-prod"
    poller: int = 0
    deleted: int = 0

    def aws_command(self, operation: str) -> str:
        return STAGE.connection.aws_command(f"cloudformation {operation}", "--stack-name", self.name)

    def state(self, stack_id: str = "") -> StackState | None:
        found = self.states[min(self.poller, len(self.states) - 1)]
        self.poller += 1
        return found

    def events(self, stack_id: str, known: set[str]) -> list[StackEvent]:
        return self.happened.pop(0) if self.happened else []

    def change_sets(self) -> list[str]:
        return []

    def delete(self) -> None:
        self.deleted += 1


class Sleeper:
    def __init__(self) -> None:
        self.slept = 0

    def __call__(self, seconds: float) -> None:
        self.slept += 1
        assert self.slept < 20, "it waits for ever"


def at(status: str) -> StackState:
    return StackState("id", status)


def event(status: str, resource: str = "Storage", kind: str = "AWS::S3::Bucket", reason: str = "") -> StackEvent:
    return StackEvent(resource, kind, status, reason)


def of_stack(status: str) -> StackEvent:
    return event(status, "dynamodt-prod", STACK)


FAILED = at("ROLLBACK_COMPLETE")


def watch(states: Sequence[str], happened: list[list[StackEvent]]) -> tuple[str, list[str], int]:
    """The last status, the notified messages, and the number of sleeps."""
    notes: list[str] = []
    sleep = Sleeper()
    state, _ = wait_for_end(FakeStack([*map(at, states)], happened), "id", set(), notes.append, sleep)  # type: ignore[arg-type]
    return state.status, notes, sleep.slept


def test_the_end_of_each_resource_is_reported() -> None:
    states = ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    happened = [
        [of_stack("CREATE_IN_PROGRESS"), event("CREATE_IN_PROGRESS")],
        [event("CREATE_COMPLETE"), of_stack("CREATE_COMPLETE")],
    ]
    status, notes, slept = watch(states, happened)
    assert (status, slept) == ("CREATE_COMPLETE", 1)
    assert [note.split()[0] + " " + note.split()[2] for note in notes] == [
        "dynamodt-prod CREATE_IN_PROGRESS",
        "Storage CREATE_COMPLETE",
        "dynamodt-prod CREATE_COMPLETE",
    ]


def test_an_outdated_status_is_not_mistaken_for_the_end() -> None:
    """Right after a change set is executed, the stack may still have the status from before it."""
    states = ["UPDATE_COMPLETE", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]
    happened = [[], [of_stack("UPDATE_IN_PROGRESS")], [of_stack("UPDATE_COMPLETE")]]
    assert watch(states, happened)[2] == 2


def test_a_deleted_stack_needs_no_final_event() -> None:
    assert watch(["DELETE_IN_PROGRESS", GONE], [])[0] == GONE


def test_a_failure_lists_the_causes_and_not_their_consequences() -> None:
    events = [
        event("CREATE_FAILED", "JobRole", "AWS::IAM::Role", "not authorized to perform: iam:CreateRole"),
        event("CREATE_FAILED", "State", "AWS::DynamoDB::Table", "Resource creation cancelled"),
        of_stack("ROLLBACK_COMPLETE"),
    ]
    error = failure(FakeStack([]), at("ROLLBACK_COMPLETE"), events)  # type: ignore[arg-type]
    assert "JobRole (AWS::IAM::Role): not authorized to perform: iam:CreateRole" in error.what
    assert "State" not in error.what and error.exit_code == 1 and "same command" in error.hint


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED"])
def test_a_broken_stack_is_refused_with_a_hint(status: str) -> None:
    with pytest.raises(Refused, match=status) as caught:
        refuse_broken(FakeStack([]), at(status))  # type: ignore[arg-type]
    assert caught.value.hint.endswith(" --stack-name dynamodt-prod --region eu-west-1")


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"]
)
def test_a_stack_that_can_be_changed_is_accepted(status: str) -> None:
    refuse_broken(FakeStack([]), at(status))  # type: ignore[arg-type]


def test_a_change_begun_by_another_process_is_waited_for() -> None:
    notes: list[str] = []
    sleep = Sleeper()
    states = [at("UPDATE_IN_PROGRESS"), at("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"), at("UPDATE_COMPLETE")]
    found = wait_until_idle(FakeStack(states), notes.append, sleep)  # type: ignore[arg-type]
    assert found == at("UPDATE_COMPLETE") and "waiting until that has ended" in notes[0]


def test_a_refused_stack_is_waited_for_only_while_it_is_deleted() -> None:
    def refuse(state: StackState) -> None:
        raise Refused(state.status)

    sleep = Sleeper()
    with pytest.raises(Refused, match="UPDATE_IN_PROGRESS"):
        wait_until_idle(FakeStack([at("UPDATE_IN_PROGRESS")]), print, sleep, refuse)  # type: ignore[arg-type]
    assert sleep.slept == 0
    assert wait_until_idle(FakeStack([at("DELETE_IN_PROGRESS"), at(GONE)]), print, sleep, refuse) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [None, at(UNMADE), replace(FAILED, parameters=OURS)])
def test_a_missing_stack_is_created(state: StackState | None) -> None:
    assert deploy._live_stack(STAGE, FakeStack([]), state) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [{}, {**OURS, "Bucket": "anothers"}, {**OURS, "StateTable": "anothers"}])
@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "CREATE_COMPLETE", "DELETE_FAILED"])
def test_a_stack_without_proof_of_ownership_is_left_alone(status: str, parameters: dict[str, str]) -> None:
    stack = FakeStack([])
    with pytest.raises(Refused, match="the stack exists"):
        deploy._live_stack(STAGE, stack, StackState("id", status, parameters=parameters))  # type: ignore[arg-type]
    assert stack.deleted == 0


def test_the_remains_of_a_failed_creation_are_removed() -> None:
    stack, sleep = FakeStack([at("DELETE_IN_PROGRESS"), at(GONE)]), Sleeper()
    deploy._remove_failed(stack, FAILED, lambda _: None, sleep, False)  # type: ignore[arg-type]
    assert stack.deleted == 1


def test_a_failed_removal_names_the_obstacle() -> None:
    blocked = event("DELETE_FAILED", "Alarms", "AWS::SNS::Topic", "not authorized")
    stack = FakeStack([at("DELETE_FAILED")], [[], [blocked, of_stack("DELETE_FAILED")]])
    with pytest.raises(stacks.RunFailed, match="Alarms") as caught:
        stacks.remove_stack(stack, at("CREATE_COMPLETE"), lambda _: None, Sleeper())  # type: ignore[arg-type]
    assert "delete-stack" in caught.value.hint
