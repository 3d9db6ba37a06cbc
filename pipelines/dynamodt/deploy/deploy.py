"""`dynamodt deploy`: the stage's stack brought to infra/template.yaml, with the transformations as they are here.

The bucket is in the stack, and the jobs' scripts are in the bucket: where there is none yet, the stack is made without
jobs first, then the parts are uploaded, then the jobs are added. Every step finds what an earlier attempt has left.

AWS's limits that a deployment would meet half way: looked at before CloudFormation is asked for anything.

The parameters of infra/template.yaml, but for those that say where the jobs' parts are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynamodt.config.settings import FILE_NAME, DeploySettings, StageSettings, place, read_settings
from dynamodt.deploy.deployed import (
    DeployedResources,
    Drift,
    bucket_of,
    check_history,
    check_key,
    check_ours,
    check_tables,
    find,
    found_tables,
    gone_resources,
    stack_of,
    told,
)
from dynamodt.deploy.glue_runs import refuse_jobs_at_work
from dynamodt.deploy.packages import Assets, Parts, parts, places, template, uploaded
from dynamodt.deploy.stacks import (
    UNMADE,
    ChangeSet,
    ResourceChange,
    Stack,
    StackState,
    at_rest,
    ended,
    failure,
    known_events,
    refuse_broken,
    removed,
)
from dynamodt.dynamodb.clients import STAGE_TAG
from dynamodt.dynamodb.table import TablePlace
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import Stage
from dynamodt.runs.options import Observer

RULE_NAME = 64  # EventBridge's, for a rule
ROLE_POLICIES = 10_240  # IAM's, for all inline policies of a role together, without white space
PARAMETER = 4_096  # CloudFormation's, for the value of a parameter
EVENT_PATTERN = 4_096  # EventBridge's, for a rule
MANAGED_POLICIES = 10  # IAM's, for a role, unless a quota was raised

_FAILED = "dynamodt-{}-run-failed"  # the longest name that each stage has
_UPDATED = "dynamodt-{}-application-updated"
_PATTERN = 230  # characters of the pattern about the application's stacks, without their ids
_SPLIT = "split the project in two, each with a stage of its own and some of the tables"

# What the job's role comes to beside the names in it; tests/unit/test_deploy_limits.py compares it with the template.
_POLICIES = 2_150
_OF_A_TABLE = len('"",') * 2 + len("/export/*")


def check_limits(stage: Stage, settings: DeploySettings, tables: Mapping[str, TablePlace]) -> None:
    """Raises UsageError where a rule's name or the role's policies would be too long, naming what is."""
    _check_names(stage, settings)
    if len(settings.policy_arns) > MANAGED_POLICIES:
        hint = f"a role takes {MANAGED_POLICIES} of them: put their statements into fewer policies"
        where = place("stages", stage.name, "deploy", "policy_arns")
        raise UsageError(f"{len(settings.policy_arns)} policies are too many", where=where, hint=hint)
    size = policies_size(stage, tables)
    if size > ROLE_POLICIES:
        what = f"{len(tables)} tables make the policies of the jobs' role {size:,} characters long, and IAM takes "
        raise UsageError(f"{what}{ROLE_POLICIES:,}", where=f"stage {stage.name}", hint=_SPLIT)


def _check_names(stage: Stage, settings: DeploySettings) -> None:
    for pattern in (_FAILED, *([_UPDATED] if settings.application_stacks else ())):
        rule = pattern.format(stage.name)
        if len(rule) > RULE_NAME:
            most = RULE_NAME - len(pattern.format(""))
            what = f"the rule {rule} would have {len(rule)} characters, and EventBridge takes {RULE_NAME}"
            hint = f"shorten the stage's name to {most} characters in {FILE_NAME}"
            raise UsageError(what, where=place("stages", stage.name), hint=hint)


def policies_size(stage: Stage, tables: Mapping[str, TablePlace]) -> int:
    """About how many characters the inline policies of the jobs' role have; rather too many than too few."""
    bucket = bucket_of(stage)
    keys = {table.key_arn for table in tables.values() if table.key_arn}
    named = 2 * (len(bucket.name) + len(bucket.prefix) + len(stage.name)) + len(stage.state_table)
    of_tables = sum(2 * len(table.arn) + _OF_A_TABLE for table in tables.values())
    return _POLICIES + named + of_tables + sum(len(key) + len('"",') for key in keys)


def check_parameters(stage: Stage, given: Mapping[str, str]) -> None:
    """Raises UsageError for a value that CloudFormation takes no more, naming the parameter."""
    for name, value in given.items():
        longest = EVENT_PATTERN - _PATTERN if name == "ApplicationStackIds" else PARAMETER
        if len(value) > longest:
            what = f"{_SOURCES.get(name, name)} come to {len(value):,} characters, and the stack takes {longest:,}"
            hint = _SPLIT if name.startswith("Table") else f"name fewer of them in {FILE_NAME}"
            raise UsageError(what, where=f"stage {stage.name}, parameter {name}", hint=hint)


_SOURCES = {
    "TableArns": "the ARNs of the tables",
    "TableKeyArns": "the ARNs of the keys of the tables",
    "PolicyArns": "the policies",
    "ApplicationStackIds": "the ids of the application's stacks",
}


def deploy_settings_of(stage: Stage, folder: Path) -> DeploySettings:
    """The stage's `[stages.NAME.deploy]`."""
    return read_settings(folder / FILE_NAME).get(stage.name, StageSettings()).deploy


def parameters(stage: Stage, folder: Path, found: DeployedResources) -> dict[str, str]:
    """What dynamodt.toml and the account say. Raises UsageError for a stack of the application that is not there, and
    for a value that is longer than a parameter."""
    settings = deploy_settings_of(stage, folder)
    bucket = bucket_of(stage)
    given = {
        "Stage": stage.name,
        "Bucket": bucket.name,
        "Prefix": bucket.prefix,
        "MakeBucket": _word(found.owns_bucket),
        "StateTable": stage.state_table,
        "MakeStateTable": _word(found.owns_state_table),
        "KmsKey": found.key,
        **_tables(found.tables),
        **_of_jobs(settings),
        "AlarmEmail": settings.alarm_email,
        "Schedule": settings.schedule,
    }
    check_parameters(stage, given)  # before CloudFormation is asked about the application's stacks
    given["ApplicationStackIds"] = ",".join(_stack_ids(stage, settings))
    check_parameters(stage, given)
    return given


def _tables(tables: Mapping[str, TablePlace]) -> dict[str, str]:
    keys = {table.key_arn for table in tables.values() if table.key_arn}
    return {"TableArns": ",".join(table.arn for table in tables.values()), "TableKeyArns": ",".join(sorted(keys))}


def _of_jobs(settings: DeploySettings) -> dict[str, str]:
    return {
        "PolicyArns": ",".join(settings.policy_arns),
        "GlueVersion": settings.glue_version,
        "WorkerType": settings.worker_type,
        "Workers": str(settings.workers),
        "TimeoutMinutes": str(settings.timeout_minutes),
        "ExecutionClass": "FLEX" if settings.flex else "STANDARD",
        "MaxConcurrentRuns": str(settings.max_concurrent_runs),
        "LogDays": str(settings.log_days),
        "RunDays": str(settings.run_days),
    }


def _stack_ids(stage: Stage, settings: DeploySettings) -> Iterable[str]:
    """An event names a stack by its id alone, and a rule compares whole ids: they are looked up here."""
    for name in settings.application_stacks:
        state = Stack(stage.connection, name).state()
        if state is None:
            where = place("stages", stage.name, "deploy", "application_stacks")
            raise UsageError(f"there is no stack {name}", where=where, hint="deploy it first, or correct its name")
        yield state.id


def _word(flag: bool) -> str:
    return "true" if flag else "false"


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
    stage: Stage,
    folder: Path,
    stack: Stack,
    found: DeployedResources,
    given: Mapping[str, str],
    note: Callable[[str], None],
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
