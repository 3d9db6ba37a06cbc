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
from dynamodt.control.deploying.at_work import refuse_jobs_at_work
from dynamodt.control.deploying.deployed import Found, check_ours, check_tables, find, found_tables, stack_of
from dynamodt.control.deploying.drift import Drift, check_history, check_key, gone_resources, told
from dynamodt.control.deploying.limits import check_limits
from dynamodt.control.deploying.packaging import Parts, parts, places, template, uploaded
from dynamodt.control.deploying.parameters import deploy_settings_of, parameters
from dynamodt.control.deploying.stack_watch import at_rest, ended, failure, known_events, refuse_broken, removed
from dynamodt.control.requests import Observer
from dynamodt.errors import Refused
from dynamodt.model import Stage

_FAILED_AT_FIRST = ("ROLLBACK_COMPLETE", "CREATE_FAILED")
_MADE = {"State": "MakeStateTable", "Storage": "MakeBucket"}  # the parameter that has each of them in the stack
_KINDS = {"State": "AWS::DynamoDB::Table", "Storage": "AWS::S3::Bucket"}
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

    What was deleted by hand is made anew (`drift`); nothing of another project's is touched. Raises UsageError for a
    stage or settings that cannot be deployed, Refused where the stack belongs to another project or a person must look
    at it first, RunFailed with the events that failed, ServiceError.
    """
    stack = stack_of(stage, sleep)
    tables = found_tables(stage, folder)
    check_limits(stage, deploy_settings_of(stage, folder), tables)
    state = at_rest(stack, observer.note, sleep)
    live = _live(stage, stack, state)
    found = find(stage, stack, live, tables)
    given = parameters(stage, folder, found)
    drift = _drift(stage, folder, stack, found, given, observer.note)
    made = parts(folder, stage, observer.note)
    if state is not None and state.status in _FAILED_AT_FIRST:
        _remove_failed(stack, state, observer.note, sleep, dry_run)
    changer = _Changer(stage, stack, live, given, observer, sleep)
    if dry_run:
        return changer.rehearsed(made, drift)
    changer.let_go(drift, found.own)
    first = () if found.bucket_exists else changer.applied(changer.parts_so_far(drift))
    observer.note("uploading what the jobs are made of")
    changes = _once((*first, *changer.applied(uploaded(made, Assets(stage)))))
    status = "unchanged" if not changes else "created" if found.state is None else "updated"
    return Deployment(stack.name, status, changes, changer.outputs)


def _live(stage: Stage, stack: Stack, state: StackState | None) -> StackState | None:
    """The stack where it holds something, which has proved to be this stage's; None where there is none, or nothing of
    it: a change set that was never carried out, or the remains of a creation that has failed."""
    if state is None or state.status == UNMADE:
        return None
    check_ours(stage, stack, state)
    refuse_broken(stack, state)
    return None if state.status in _FAILED_AT_FIRST else state


def _drift(
    stage: Stage, folder: Path, stack: Stack, found: Found, given: Mapping[str, str], note: Callable[[str], None]
) -> Drift:
    """What was deleted by hand, told before anything is changed. Raises Refused where a person must see to it first."""
    if found.state is None:
        return Drift()
    check_tables(stage, folder, stack, found.state, found.tables)
    key = found.key or found.own.get("Key", "")
    if key:
        check_key(stage, key, stack)
    drift = Drift(not found.state_table_exists, not found.bucket_exists, gone_resources(stage, stack, found.own))
    if drift.state_table:
        check_history(stage, bool(given["Schedule"] or given["ApplicationStackIds"]))
    for line in told(stage, stack, drift, given["Bucket"]):
        note(line)
    return drift


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
        stack: Stack,
        state: StackState | None,
        given: Mapping[str, str],
        observer: Observer,
        sleep: Callable[[float], None],
    ) -> None:
        self._stage = stage
        self._stack = stack
        self._state = state
        self._parameters = given
        self._tags = {STAGE_TAG: stage.name}
        self._observer = observer
        self._sleep = sleep

    @property
    def outputs(self) -> Mapping[str, str]:
        return self._state.outputs if self._state else {}

    def rehearsed(self, made: Parts, drift: Drift) -> Deployment:
        """What `applied` would change, the parts taken for uploaded, and what is gone made anew."""
        change_set = self._proposed(places(made, Assets(self._stage)))
        if change_set is not None:
            self._stack.discard(change_set)
        kinds = self._stack.kinds() if drift.resources else {}
        anew = [ResourceChange("Add", name, kinds.get(name, _KINDS.get(name, "")), False) for name in drift.resources]
        changes = _once((*anew, *(change_set.changes if change_set else ())))
        return Deployment(self._stack.name, "dry-run", changes, self.outputs)

    def parts_so_far(self, drift: Drift) -> Mapping[str, str]:
        """Those that the jobs have, so that none is removed; none where a job is to be made anew, or there is none."""
        given = self._state.parameters if self._state and not drift.jobs else {}
        return {name: given.get(name, "") for name in NO_PARTS}

    def let_go(self, drift: Drift, own: Mapping[str, str]) -> None:
        """Have the stack forget what is gone, so that the next change makes it anew. Raises Refused while a job is at
        work that would go, too, before it is made anew."""
        forgotten = {_MADE[name]: "false" for name in drift.resources if name in _MADE and name in own}
        if not forgotten and not drift.jobs:
            return
        if drift.jobs:
            refuse_jobs_at_work(self._stage, own)
        self.applied({**self.parts_so_far(drift), **forgotten})

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


def _remove_failed(
    stack: Stack, state: StackState, note: Callable[[str], None], sleep: Callable[[float], None], dry_run: bool
) -> None:
    """A stack whose creation has failed holds nothing, and stands in the way of another attempt."""
    if dry_run:
        hint = "without --dry-run, the remains of that attempt are removed first"
        raise Refused(f"the stack is {state.status}: its creation has failed", where=stack.where, hint=hint)
    note(f"{stack.name} is {state.status}: removing what an attempt that failed has left")
    removed(stack, state, note, sleep)
