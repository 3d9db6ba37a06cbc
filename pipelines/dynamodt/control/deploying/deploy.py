"""`dynamodt deploy`: the stage's stack brought to infra/template.yaml, with the transformations as they are here.

The bucket is in the stack, and the jobs' scripts are in the bucket: where there is none yet, the stack is made without
jobs first, then the parts are uploaded, then the jobs are added. Every step finds what an earlier attempt has left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamodt.aws.assets import Assets
from dynamodt.aws.stacks import UNMADE, ChangeSet, ResourceChange, Stack, StackState
from dynamodt.aws.tags import STAGE_TAG
from dynamodt.control.deploying.deployed import Found, find, stack_of
from dynamodt.control.deploying.packaging import Parts, parts, places, template, uploaded
from dynamodt.control.deploying.parameters import parameters
from dynamodt.control.deploying.stack_watch import at_rest, ended, failure, known_events, refuse_broken, removed
from dynamodt.control.requests import Observer
from dynamodt.errors import Refused
from dynamodt.model import Stage

_FAILED_AT_FIRST = ("ROLLBACK_COMPLETE", "CREATE_FAILED")
NO_PARTS = {"Package": "", "Jar": "", "MigrateScript": "", "PrepareScript": "", "Project": ""}


@dataclass(frozen=True, slots=True)
class Deployment:
    """What `deploy` has made of a stack: created, updated, unchanged, or dry-run; each change to a resource once."""

    stack: str
    status: str
    changes: tuple[ResourceChange, ...]
    outputs: Mapping[str, str]


def deploy(
    stage: Stage, folder: Path, observer: Observer, dry_run: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Deployment:
    """Create or update the stage's stack. A dry run uploads nothing, and shows what would be changed.

    Raises UsageError for a stage or settings that cannot be deployed, Refused where the stack belongs to another
    project or a person must look at it first, RunFailed with the events that failed, ServiceError.
    """
    stack = stack_of(stage, sleep)
    state = _found_state(stack, observer.note, sleep, dry_run)
    found = find(stage, folder, stack, state)
    made = parts(folder, stage, observer.note)
    changer = _Changer(stage, folder, stack, found, observer, sleep)
    if dry_run:
        return changer.rehearsed(made)
    first = () if found.bucket_exists else changer.applied(NO_PARTS)
    observer.note("uploading what the jobs are made of")
    changes = _once((*first, *changer.applied(uploaded(made, Assets(stage)))))
    status = "unchanged" if not changes else "created" if found.state is None else "updated"
    return Deployment(stack.name, status, changes, changer.outputs)


def _once(changes: Sequence[ResourceChange]) -> tuple[ResourceChange, ...]:
    """Each resource with the first that was done to it: what was made just now, and is then filled in, is made."""
    told: dict[str, ResourceChange] = {}
    for change in changes:
        told.setdefault(change.resource, change)
    return tuple(told.values())


class _Changer:
    """Change sets of one stack, one after another."""

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        stack: Stack,
        found: Found,
        observer: Observer,
        sleep: Callable[[float], None],
    ) -> None:
        self._stage = stage
        self._stack = stack
        self._state = found.state
        self._parameters = parameters(stage, folder, found)
        self._tags = {STAGE_TAG: stage.name}
        self._observer = observer
        self._sleep = sleep

    @property
    def outputs(self) -> Mapping[str, str]:
        return self._state.outputs if self._state else {}

    def rehearsed(self, made: Parts) -> Deployment:
        """What `applied` would change, the parts taken for uploaded."""
        change_set = self._proposed(places(made, Assets(self._stage)))
        if change_set is not None:
            self._stack.discard(change_set)
        return Deployment(self._stack.name, "dry-run", change_set.changes if change_set else (), self.outputs)

    def applied(self, urls: Mapping[str, str]) -> tuple[ResourceChange, ...]:
        """Bring the stack to these parts, and say what was changed. Raises RunFailed when it ends otherwise."""
        change_set = self._proposed(urls)
        if change_set is None:
            return ()
        before = self._stack.state()
        known = known_events(self._stack, before)
        self._stack.execute(change_set)
        assert before is not None  # a change set has a stack, if an empty one
        state, events = ended(self._stack, before.id, known, self._observer.note, self._sleep)
        if state.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise failure(self._stack, state, events)
        self._state = state
        return change_set.changes

    def _proposed(self, urls: Mapping[str, str]) -> ChangeSet | None:
        exists = self._state is not None
        return self._stack.propose(template(), {**self._parameters, **urls}, self._tags, exists)


def _found_state(
    stack: Stack, note: Callable[[str], None], sleep: Callable[[float], None], dry_run: bool
) -> StackState | None:
    """The stack when nothing is at work on it; None where there is none, or nothing of it.

    One whose creation has failed holds nothing, and stands in the way of another attempt: it is removed.
    """
    state = at_rest(stack, note, sleep)
    if state is None or state.status == UNMADE:
        return None
    refuse_broken(stack, state)
    if state.status not in _FAILED_AT_FIRST:
        return state
    if dry_run:
        hint = "without --dry-run, the remains of that attempt are removed first"
        raise Refused(f"the stack is {state.status}: its creation has failed", where=stack.where, hint=hint)
    note(f"{stack.name} is {state.status}: removing what an attempt that failed has left")
    removed(stack, state, note, sleep)
    return None
