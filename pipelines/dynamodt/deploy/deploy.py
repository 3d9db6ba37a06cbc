"""`dynamodt deploy`: creates or updates the stage's stack, by infra/template.yaml, with this project in its jobs.

The jobs' scripts are in the bucket, and the bucket is in the stack. If the bucket does not exist, the stack is created
without jobs, the parts are uploaded, and the jobs are added. Each step accepts what an earlier attempt has completed.
AWS's limits are checked before CloudFormation is called (`check_limits`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dynamodt.config.settings import FILE_NAME, DeploySettings, deploy_settings_of, place
from dynamodt.deploy import resources, stacks
from dynamodt.deploy.glue_runs import refuse_active_jobs
from dynamodt.deploy.packages import Assets, Parts, parts, template, urls_of
from dynamodt.deploy.resources import DeployedResources, Drift
from dynamodt.deploy.stacks import ChangeSet, ResourceChange, Sleep, Stack, StackState
from dynamodt.dynamodb.clients import STAGE_TAG
from dynamodt.dynamodb.table import TablePlace
from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.tables import Stage
from dynamodt.runs.context import Project
from dynamodt.runs.options import Observer

RULE_NAME = 64  # EventBridge: characters of a rule's name
EVENT_PATTERN = 4_096  # EventBridge: characters of a rule's pattern
NO_PARTS = {"Package": "", "Jar": "", "MigrateScript": "", "PrepareScript": "", "Project": ""}

_FAILED = "dynamodt-{}-run-failed"  # the longest rule name of every stage
_UPDATED = "dynamodt-{}-application-updated"
_PATTERN = 230  # characters of the pattern for the application's stacks, without their ids
_SOURCES = {
    "Package": "the packages of the jobs",
    "TableKeyArns": "the ARNs of the keys of the tables",
    "PolicyArns": "the policies",
    "ApplicationStackIds": "the ids of the application's stacks",
}
_FAILED_AT_FIRST = ("ROLLBACK_COMPLETE", "CREATE_FAILED")
_MADE = {"State": "MakeStateTable", "Storage": "MakeBucket"}  # the parameter that adds each of them to the stack
_KINDS = {"State": "AWS::DynamoDB::Table", "Storage": "AWS::S3::Bucket"}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The outcome of `deploy`: created, updated, unchanged or dry-run, and one change for each resource."""

    stack: str
    status: str
    changes: tuple[ResourceChange, ...]
    outputs: Mapping[str, str]


def deploy(project: Project, state_only: bool = False) -> Deployment:
    """Creates or updates the stage's stack. A dry run uploads nothing, and returns the changes that would be made.
    `state_only`: the bucket, the state table and the key, for runs that need no job; a later deployment adds the rest.

    Recreates what was deleted by hand (`resources`). Raises UsageError for a stage or settings that cannot be deployed,
    Refused for a stack of another project, one that must be repaired first, or one with jobs if `state_only`; RunFailed
    with the events that failed, ServiceError.
    """
    stage, folder, observer, dry_run = project.stage, project.folder, project.observer, project.options.dry_run
    stack = resources.stack_of(stage)
    tables = {} if state_only else resources.found_tables(stage, folder)
    if not state_only:
        check_limits(stage, deploy_settings_of(stage.name, folder), tables)
    state = stacks.wait_until_idle(stack, observer.notify, check=partial(resources.check_ours, stage, stack))
    live = _live_stack(stage, stack, state)
    found = resources.find(stage, stack, live, tables)
    if state_only:
        _check_no_jobs(stack, found)
        if found.lasting_exists:  # CloudFormation takes no stack without a resource
            return Deployment(stack.name, "dry-run" if dry_run else "unchanged", (), {})
    given = parameters(stage, folder, found, state_only)
    drift = _drift(project, stack, found, given)
    made = {} if state_only else parts(folder, stage, observer.notify, deploy_settings_of(stage.name, folder))
    if state is not None and state.status in _FAILED_AT_FIRST:
        _remove_failed(stack, state, observer.notify, time.sleep, dry_run)
    _check_not_overtaken(stack, live)
    changer = _Changer(stage, stack, live, given, observer)
    if dry_run:
        return changer.rehearsed(made, drift)
    changer.let_go(drift, found.own)
    first = () if found.bucket_exists else changer.applied(changer.current_parts(drift))
    if not state_only:
        observer.notify("uploading the parts of the jobs")
    urls = NO_PARTS if state_only else urls_of(made, Assets(stage).put)
    changes = _one_change_each((*first, *changer.applied(urls)))
    status = "unchanged" if not changes else "created" if found.state is None else "updated"
    return Deployment(stack.name, status, changes, changer.outputs)


def _check_no_jobs(stack: Stack, found: DeployedResources) -> None:
    """Raises Refused for a stack with jobs, which a deployment of the state alone would remove."""
    if "JobRole" in found.own:
        what = "the stack has the jobs of the stage, which --state-only would remove"
        remove = "leave --state-only out; or remove the jobs first, and keep the data: " + suggest("destroy")
        hint = remove + ", then " + suggest("deploy", state_only=True)
        raise Refused(what, where=stack.where, hint=hint)


def _check_no_proposal(stack: Stack) -> None:
    """Raises Refused for an empty stack with a change set of another program: CloudFormation deletes all change sets of
    a stack once one of them is executed."""
    others = [name for name in stack.change_sets() if not name.startswith(stacks.OWN_CHANGE_SET)]
    if others:
        what = f"the stack is {stacks.UNMADE} and has a change set of another program: {', '.join(others)}"
        delete = stack.aws_command("delete-change-set", "--change-set-name", others[0])
        hint = f"rename this stage in {FILE_NAME}; or, if nothing needs the change set: {delete}"
        raise Refused(what, where=stack.where, hint=hint)


def _live_stack(stage: Stage, stack: Stack, state: StackState | None) -> StackState | None:
    """The stack, if it has resources and is this stage's; None for a change set that was never executed, and for the
    remains of a failed creation."""
    if state is None:
        return None
    if state.status == stacks.UNMADE:
        _check_no_proposal(stack)
        return None
    resources.check_ours(stage, stack, state)
    stacks.refuse_broken(stack, state)
    return None if state.status in _FAILED_AT_FIRST else state


def _drift(project: Project, stack: Stack, found: DeployedResources, given: Mapping[str, str]) -> Drift:
    """Reports the resources that were deleted by hand, before anything is changed. Raises Refused if it must be
    repaired by hand."""
    if found.state is None:
        return Drift()
    stage = project.stage
    resources.check_tables(stage, project.folder, stack, found.state, found.tables)
    key = found.key or found.own.get("Key", "")
    if key:
        resources.check_key(stage, key, stack)
    drift = Drift(
        not found.state_table_exists, not found.bucket_exists, resources.gone_resources(stage, stack, found.own)
    )
    if drift.state_table:
        resources.check_history(stage, bool(given["Schedule"] or given["ApplicationStackIds"]))
    for line in drift.lines(stage, stack, given["Bucket"]):
        project.observer.notify(line)
    return drift


def _check_not_overtaken(stack: Stack, before: StackState | None) -> None:
    """Raises Refused if the stack is not as it was `before` its resources were looked up: another deployment would be
    undone, and this one may name what the other has just created."""
    now = stack.state()
    now = None if now is None or now.status == stacks.UNMADE else now
    if now != before:
        hint = "nothing was changed; run the same command again, which waits for the other one"
        raise Refused("another deployment has changed the stack since this one began", where=stack.where, hint=hint)


def _one_change_each(changes: Sequence[ResourceChange]) -> tuple[ResourceChange, ...]:
    """The first change of each resource: one that is created and later modified counts as created."""
    first: dict[str, ResourceChange] = {}
    for change in changes:
        first.setdefault(change.resource, change)
    return tuple(first.values())


def _remove_failed(stack: Stack, state: StackState, notify: Callable[[str], None], sleep: Sleep, dry_run: bool) -> None:
    """CloudFormation cannot update a stack whose creation has failed; it has no resources, and is deleted first."""
    if dry_run:
        hint = "without --dry-run, the failed stack is deleted first"
        raise Refused(f"the stack is {state.status}: its creation has failed", where=stack.where, hint=hint)
    notify(f"{stack.name} is {state.status}: deleting the stack whose creation has failed")
    stacks.remove_stack(stack, state, notify, sleep)


@dataclass
class _Changer:
    """Executes change sets of one stack, one after another."""

    stage: Stage
    stack: Stack
    state: StackState | None
    parameters: Mapping[str, str]
    observer: Observer

    @property
    def outputs(self) -> Mapping[str, str]:
        return self.state.outputs if self.state else {}

    def rehearsed(self, made: Parts, drift: Drift) -> Deployment:
        """The changes that `applied` would make, with all parts uploaded and each missing resource recreated."""
        change_set = self._proposed({**NO_PARTS, **urls_of(made, Assets(self.stage).place)})
        if change_set is not None:
            self.stack.discard(change_set)
        kinds = self.stack.kinds() if drift.resources else {}
        anew = [ResourceChange("Add", name, kinds.get(name, _KINDS.get(name, "")), False) for name in drift.resources]
        changes = _one_change_each((*anew, *(change_set.changes if change_set else ())))
        return Deployment(self.stack.name, "dry-run", changes, self.outputs)

    def current_parts(self, drift: Drift) -> Mapping[str, str]:
        """The parts of the deployed jobs, so that none is removed; none if there is no job, or one is recreated."""
        given = self.state.parameters if self.state and not drift.jobs else {}
        return {name: given.get(name, "") for name in NO_PARTS}

    def let_go(self, drift: Drift, own: Mapping[str, str]) -> None:
        """Removes missing resources from the stack, so that the next change creates them. Raises Refused if that would
        also remove a running job."""
        forgotten = {_MADE[name]: "false" for name in drift.resources if name in _MADE and name in own}
        if not forgotten and not drift.jobs:
            return
        if drift.jobs:
            refuse_active_jobs(self.stage, own)
        self.applied({**self.current_parts(drift), **forgotten})

    def applied(self, urls: Mapping[str, str]) -> tuple[ResourceChange, ...]:
        """Updates the stack to these parts; returns the changes. Raises RunFailed if the update fails."""
        change_set = self._proposed(urls)
        if change_set is None:
            return ()
        before = self.stack.state()
        known = stacks.known_events(self.stack, before)
        self.stack.execute(change_set)
        assert before is not None  # a change set has a stack, even if an empty one
        state, events = stacks.wait_for_end(self.stack, before.id, known, self.observer.notify)
        if state.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise stacks.failure(self.stack, state, events)
        self.state = state
        return change_set.changes

    def _proposed(self, urls: Mapping[str, str]) -> ChangeSet | None:
        check_parameters(self.stage, urls)
        exists = self.state is not None
        return self.stack.propose(template(), {**self.parameters, **urls}, {STAGE_TAG: self.stage.name}, exists)


# ---------------------------------------------------------------- the parameters of the template, without NO_PARTS


def parameters(stage: Stage, folder: Path, found: DeployedResources, state_only: bool = False) -> dict[str, str]:
    """The parameters by dynamodt.toml and the account. Raises UsageError for a stack of the application that does not
    exist, and for a value that is longer than a parameter."""
    settings = deploy_settings_of(stage.name, folder)
    bucket = resources.bucket_of(stage)
    keys = sorted({table.key_arn for table in found.tables.values() if table.key_arn})
    given = {
        "Stage": stage.name,
        "Bucket": bucket.name,
        "Prefix": bucket.prefix,
        "MakeBucket": _word(found.owns_bucket),
        "MakeJobs": _word(not state_only),
        "StateTable": stage.state_table,
        "MakeStateTable": _word(found.owns_state_table),
        "KmsKey": found.key,
        **resources.grouped(stage, settings, found.tables, found.state.parameters if found.state else {}),
        "TableKeyArns": ",".join(keys),
        **_of_jobs(settings),
        "AlarmEmail": settings.alarm_email,
        "Schedule": "" if state_only else settings.schedule,
    }
    check_parameters(stage, given)  # before CloudFormation is asked for the application's stacks
    given["ApplicationStackIds"] = "" if state_only else ",".join(_stack_ids(stage, settings))
    check_parameters(stage, given)
    return given


def _of_jobs(settings: DeploySettings) -> dict[str, str]:
    return {
        "PolicyArns": ",".join(settings.policy_arns),
        "InstallerOption": "" if settings.packages == "index" else "--no-index",
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
    """The ids of the application's stacks: an event contains a stack's id, not its name."""
    for name in settings.application_stacks:
        state = Stack(stage.connection, name).state()
        if state is None:
            where = place("stages", stage.name, "deploy", "application_stacks")
            raise UsageError(f"there is no stack {name}", where=where, hint="deploy it first, or correct its name")
        yield state.id


def _word(flag: bool) -> str:
    return "true" if flag else "false"


# ---------------------------------------------------------------- AWS's limits


def check_limits(stage: Stage, settings: DeploySettings, tables: Mapping[str, TablePlace]) -> None:
    """Raises UsageError for a rule's name, a number of policies or policies of the role beyond a limit."""
    _check_names(stage, settings)
    if len(settings.policy_arns) > resources.MANAGED_POLICIES:
        hint = f"a role has at most {resources.MANAGED_POLICIES}: combine their statements into fewer policies"
        where = place("stages", stage.name, "deploy", "policy_arns")
        raise UsageError(f"{len(settings.policy_arns)} policies are too many", where=where, hint=hint)
    resources.grouped(stage, settings, tables, {})


def _check_names(stage: Stage, settings: DeploySettings) -> None:
    for pattern in (_FAILED, *([_UPDATED] if settings.application_stacks else ())):
        rule = pattern.format(stage.name)
        if len(rule) > RULE_NAME:
            most = RULE_NAME - len(pattern.format(""))
            what = f"the rule {rule} would have {len(rule)} characters, and EventBridge takes {RULE_NAME}"
            hint = f"shorten the stage's name to {most} characters in {FILE_NAME}"
            raise UsageError(what, where=place("stages", stage.name), hint=hint)


def check_parameters(stage: Stage, given: Mapping[str, str]) -> None:
    """Raises UsageError for a value that is longer than CloudFormation takes, naming the parameter."""
    for name, value in given.items():
        longest = EVENT_PATTERN - _PATTERN if name == "ApplicationStackIds" else resources.PARAMETER
        if len(value) > longest:
            what = f"{_SOURCES.get(name, name)} have {len(value):,} characters, and the stack takes {longest:,}"
            hint = resources.SPLIT if name.startswith("Table") else f"list fewer of them in {FILE_NAME}"
            raise UsageError(what, where=f"stage {stage.name}, parameter {name}", hint=hint)
