"""A stack that is at work: told event by event, and what is said of one that did not come to a good end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from dynamodt.aws.stacks import GONE, Stack, StackEvent, StackState
from dynamodt.errors import Refused, RunFailed

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
