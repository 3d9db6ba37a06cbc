"""A stage's existing resources in AWS: its stack, the bucket, the state table and the key, and those deleted by hand.

CloudFormation does not check whether the resources of a stack still exist; this module does, before anything is
changed. `deploy` recreates a resource whose loss has destroyed nothing else: the bucket, the jobs and their triggers.
It recreates a state table only if DynamoDB has no backup of it, and refuses while anything would start by itself, until
the history is restored or stamped.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from dynamodt.config.names import tables_in_use
from dynamodt.config.settings import FILE_NAME, DeploySettings, place
from dynamodt.deploy.buckets import BucketFacts, bucket_facts, key_arn, key_facts
from dynamodt.deploy.stacks import Stack, StackState
from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.network import is_denied, refusal
from dynamodt.dynamodb.table import TablePlace, latest_backup, place_of
from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.tables import Connection, Stage, StorageSpec
from dynamodt.script.names import tables
from dynamodt.script.read import read_versions

INLINE_TABLES = "TableArns"  # the parameter with the tables of the role's inline policies
MORE_TABLES = tuple(f"MoreTables{number}" for number in range(1, 7))  # and of its managed policies, one for each
ROLE_POLICIES = 10_240  # IAM: characters of all inline policies of a role, without white space
MANAGED_POLICY = 6_144  # IAM: characters of a managed policy, without white space
MANAGED_POLICIES = 10  # IAM: managed policies of a role, by default
PARAMETER = 4_096  # CloudFormation: characters of a parameter's value
SPLIT = "split the project in two, each with its own stage and some of the tables"
_POLICIES = 2_650  # characters of the role's inline policies without names; see tests/unit/test_deploy_limits.py
_MORE_POLICY = 680  # likewise of a managed policy
_OF_A_TABLE = len('"",') * 2 + len("/*")
_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


# ---------------------------------------------------------------- the stack and its lasting resources


@dataclass(frozen=True, slots=True)
class DeployedResources:
    """The stack (None if it does not exist), and which of the lasting resources are its own.

    `key` is the ARN of a key from outside the stack; empty if the stack has a key of its own. `own` are the physical
    ids of the stack's resources, by their logical ids.
    """

    state: StackState | None
    bucket_exists: bool
    owns_bucket: bool
    owns_state_table: bool
    key: str
    tables: Mapping[str, TablePlace]
    own: Mapping[str, str] = field(default_factory=dict)
    state_table_exists: bool = False

    @property
    def lasting_exists(self) -> bool:
        """Whether the bucket, the state table and the key exist already, and there is no stack."""
        return self.state is None and self.bucket_exists and self.state_table_exists and bool(self.key)


class DeployedBucket(NamedTuple):
    """The bucket of the stage's storage, and the prefix of its objects (ending in a slash, or empty)."""

    name: str
    prefix: str


def stack_of(stage: Stage, sleep: Callable[[float], None] = time.sleep) -> Stack:
    """The stage's stack. Raises UsageError for a stage that cannot be deployed."""
    if stage.embedded:
        add = f"add a table [stages.NAME] to {FILE_NAME}, then: "
        what = "the embedded stage runs on this machine and cannot be deployed"
        raise UsageError(what, hint=add + suggest("deploy", stage="NAME"))
    check_storage(stage)
    if not _NAME.fullmatch(stage.name):
        hint = "a stack's name consists of letters, digits and hyphens: rename the stage"
        what = f"{stage.name!r} cannot be part of a stack's name"
        raise UsageError(what, where=place("stages", stage.name), hint=hint)
    name = f"dynamodt-{stage.name}"
    if stage.job_name != name:
        hint = f"remove the key: the deployed job is {name}"
        where = place("stages", stage.name, "glue_job")
        raise UsageError("names a job that `dynamodt deploy` does not create", where=where, hint=hint)
    return Stack(stage.connection, name, sleep)


def check_storage(stage: Stage) -> None:
    """Raises UsageError for a stage whose storage no job can reach."""
    if not stage.storage.in_s3:
        hint = 'a job in AWS needs storage in S3: storage = "s3://BUCKET/PREFIX"'
        raise UsageError("the storage is a folder", where=place("stages", stage.name, "storage"), hint=hint)


def bucket_of(stage: Stage) -> DeployedBucket:
    """The bucket and the prefix of the stage's storage."""
    return bucket_at(stage.storage)


def bucket_at(storage: StorageSpec) -> DeployedBucket:
    """The bucket and the prefix of a storage."""
    return DeployedBucket(storage.bucket, f"{storage.prefix}/" if storage.prefix else "")


def find(stage: Stage, stack: Stack, state: StackState | None, tables: Mapping[str, TablePlace]) -> DeployedResources:
    """Finds the stage's resources. Raises UsageError for a bucket of another account or region, Refused for a state
    table that is being deleted."""
    bucket = bucket_facts(stage.connection, bucket_of(stage).name)
    own = stack.resources() if state is not None else {}
    state_table = place_of(stage.connection, stage.state_table)
    if state_table is not None and state_table.status == "DELETING":
        hint = "wait for a minute or two, and run the same command again"
        raise Refused("the table is being deleted", where=f"state table {stage.state_table}", hint=hint)
    return DeployedResources(
        state=state,
        bucket_exists=bucket is not None,
        owns_bucket="Storage" in own or bucket is None,
        owns_state_table="State" in own or state_table is None,
        key=_key(stage, own, bucket, state),
        tables=tables,
        own=own,
        state_table_exists=state_table is not None,
    )


def _key(stage: Stage, own: Mapping[str, str], bucket: BucketFacts | None, state: StackState | None) -> str:
    """The key of dynamodt.toml, else the bucket's, else, if the bucket is gone, the stack's parameter; empty for the
    stack's own key."""
    named = stage.storage.kms_key
    if not named and "Key" not in own:
        given = state.parameters.get("KmsKey", "") if state is not None else ""
        named = bucket.kms_key if bucket is not None else given
    if not named:
        return ""
    arn = key_arn(stage.connection, named)
    ours = own.get("Key", "")
    return "" if ours and arn.endswith(f"/{ours}") else arn


def check_ours(stage: Stage, stack: Stack, state: StackState) -> None:
    """Raises Refused for a stack of another project, or of another program: the stack's name follows from the stage's
    name alone, and two projects in one account may use the same one."""
    bucket = bucket_of(stage)
    here = {"Stage": stage.name, "Bucket": bucket.name, "Prefix": bucket.prefix, "StateTable": stage.state_table}
    if not here.keys() <= state.parameters.keys():
        hint = f"rename this stage in {FILE_NAME}"
        raise Refused("the stack exists, but was not created by `dynamodt deploy`", where=stack.where, hint=hint)
    there = {key: state.parameters[key] for key in here}
    if there != here:
        storage = f"s3://{there['Bucket']}/{there['Prefix']} and the state table {there['StateTable']}"
        hint = f"if it is another project's, rename this stage; else correct storage and state_table in {FILE_NAME}"
        raise Refused(f"the stack exists, with the storage {storage}", where=stack.where, hint=hint)


# ---------------------------------------------------------------- the tables


def found_tables(stage: Stage, folder: Path) -> dict[str, TablePlace]:
    """Every table that the versions here read or write, without those of other accounts: a role there has the right to
    them. Raises UsageError for one that does not exist."""
    names = (name for name in named_tables(stage, folder) if name not in dict(stage.connection.table_roles))
    found = {name: place_of(stage.connection, name) for name in names}
    missing = [name for name, there in found.items() if there is None]
    if missing:
        hint = "deploy the application that creates it first, or check the region and the folder's name"
        shown = ", ".join(map(stage.names.shown, missing))
        raise UsageError(f"there is no table {shown}", where=f"stage {stage.name}", hint=hint)
    return {name: there for name, there in found.items() if there is not None}


def named_tables(stage: Stage, folder: Path) -> list[str]:
    """The tables that have a folder, and those that their versions write to. Raises UsageError if there is none."""
    names = tables(folder / "transforms", stage.names)
    if not names:
        raise UsageError("transforms/ holds no table", hint=suggest("init", table="TABLE"))
    scripts = (script for name in names for script in read_versions(folder / "transforms", name, stage.names))
    return sorted({*names, *(script.target_table for script in scripts if script.target_table)})


def tables_here(stage: Stage, folder: Path) -> set[str]:
    """The tables of `named_tables` for a removal, which ignores a version that cannot be read."""
    return set(map(stage.names.real, tables_in_use(folder)))


def check_tables(stage: Stage, folder: Path, stack: Stack, state: StackState, here: Collection[str]) -> None:
    """Raises Refused if the stack's jobs may use an existing table that this project does not have: it belongs to
    another project with the same stage, storage and state table, and a deployment here would take it away."""
    named = [state.parameters.get(name, "") for name in (INLINE_TABLES, *MORE_TABLES)]
    arns = filter(None, ",".join(named).split(","))
    lost = [name for arn in arns if arn not in here and (name := arn.rpartition("/")[2]) not in here]
    lost = [name for name in lost if place_of(stage.connection, name) is not None]
    if lost:
        what = f"it also serves the table {', '.join(lost)}, which the project in {folder.resolve()} does not have"
        hint = (
            "if another project has them, rename the stage of one of the two; else restore what named them here, the "
            f"folder in transforms/ or the name in {FILE_NAME}; or {stack.aws_command('delete-stack')} (the data "
            "stays), and deploy again"
        )
        raise Refused(f"{what} (its tables: {', '.join(sorted(here)) or 'none'})", where=stack.where, hint=hint)


# ---------------------------------------------------------------- which policy names a table
# A role's inline policies have at most 10,240 characters together, a managed policy 6,144, white space not counted
# ("IAM and AWS STS quotas"). The inline ones name as many tables as fit, managed ones the others. A table stays in the
# policy that names it: one that moved could be in none for a moment, in which a running job would be denied.


class _Group(NamedTuple):
    """The tables that one policy names, and the characters that it has for them."""

    arns: list[str]
    room: int

    def takes(self, arn: str) -> bool:
        """Whether one more table fits into the policy, and its ARN into the parameter."""
        arns = [*self.arns, arn]
        return sum(map(_size, arns)) <= self.room and len(",".join(arns)) <= PARAMETER


def grouped(
    stage: Stage, settings: DeploySettings, tables: Mapping[str, TablePlace], before: Mapping[str, str]
) -> dict[str, str]:
    """The parameters that name the tables. `before` are those of the deployed stack: a table that still fits stays in
    its policy.

    Raises UsageError for more tables than the role's policies can name.
    """
    arns = [table.arn for table in tables.values()]
    managed = MANAGED_POLICIES - len(settings.policy_arns)
    groups = {INLINE_TABLES: _Group([], ROLE_POLICIES - inline_size(stage, tables))}
    groups |= {name: _Group([], MANAGED_POLICY - _MORE_POLICY) for name in MORE_TABLES[:managed]}
    for name, group in groups.items():
        for arn in before.get(name, "").split(","):
            if arn in arns and group.takes(arn):
                arns.remove(arn)
                group.arns.append(arn)
    for arn in arns:
        group = next((one for one in groups.values() if one.takes(arn)), None) or _none_left(stage, settings, tables)
        group.arns.append(arn)
    inline = groups[INLINE_TABLES].arns
    if not inline:  # a policy names at least one table
        inline += [next(group.arns.pop() for group in groups.values() if group.arns)] if tables else []
    return {name: ",".join(groups[name].arns) if name in groups else "" for name in (INLINE_TABLES, *MORE_TABLES)}


def inline_size(stage: Stage, tables: Mapping[str, TablePlace]) -> int:
    """The size of the inline policies of the jobs' role without the tables, in characters; an upper bound."""
    bucket = bucket_of(stage)
    keys = {table.key_arn for table in tables.values() if table.key_arn}
    named = 2 * (len(bucket.name) + len(bucket.prefix) + len(stage.name)) + len(stage.state_table)
    return _POLICIES + named + sum(len(key) + len('"",') for key in keys)


def _size(arn: str) -> int:
    """The characters that a policy needs for a table."""
    return 2 * len(arn) + _OF_A_TABLE


def _none_left(stage: Stage, settings: DeploySettings, tables: Mapping[str, TablePlace]) -> _Group:
    given = f" beside {len(settings.policy_arns)} of policy_arns" if settings.policy_arns else ""
    what = (
        f"the policies of the jobs' role cannot name {len(tables)} tables: IAM takes {ROLE_POLICIES:,} characters of "
        f"its own policies, and {MANAGED_POLICY:,} of each of {MANAGED_POLICIES} managed ones{given}"
    )
    raise UsageError(what, where=f"stage {stage.name}", hint=SPLIT)


# ---------------------------------------------------------------- what was deleted by hand

OF_JOBS = ("MigrateJob", "PrepareJob", "OnSchedule", "AfterDeploy", "OnEvent", "ApplicationUpdated", "EventRole")
_GONE = {"EntityNotFoundException", "NoSuchEntity", "ResourceNotFoundException", "NotFound", "NotFoundException"}
_UNUSABLE = {"Disabled": ("enable-key",), "PendingDeletion": ("cancel-key-deletion", "enable-key")}

# By type: the service, and a call that is falsy, or raises an error of _GONE, if the resource is missing.
_LOOKUPS: dict[str, tuple[str, Callable[[Any, str], object]]] = {
    "AWS::Glue::Job": ("glue", lambda glue, name: glue.get_job(JobName=name)),
    "AWS::Glue::Trigger": ("glue", lambda glue, name: glue.get_trigger(Name=name)),
    "AWS::Glue::Workflow": ("glue", lambda glue, name: glue.get_workflow(Name=name)),
    "AWS::IAM::Role": ("iam", lambda iam, name: iam.get_role(RoleName=name)),
    "AWS::IAM::ManagedPolicy": ("iam", lambda iam, arn: iam.get_policy(PolicyArn=arn)),
    "AWS::SNS::Topic": ("sns", lambda sns, arn: sns.get_topic_attributes(TopicArn=arn)),
    "AWS::Events::Rule": ("events", lambda events, name: events.describe_rule(Name=name.rpartition("/")[2])),
    "AWS::CloudWatch::Alarm": ("cloudwatch", lambda cw, name: cw.describe_alarms(AlarmNames=[name])["MetricAlarms"]),
    "AWS::Logs::LogGroup": ("logs", lambda logs, name: _log_groups(logs, name)),
}


@dataclass(frozen=True, slots=True)
class Drift:
    """The missing resources: the state table, the bucket, and, by their logical ids, jobs and their triggers."""

    state_table: bool = False
    bucket: bool = False
    jobs: tuple[str, ...] = ()

    @property
    def resources(self) -> tuple[str, ...]:
        """All missing resources, by logical ids."""
        lasting = {"State": self.state_table, "Storage": self.bucket}
        return (*(name for name, gone in lasting.items() if gone), *self.jobs)

    def lines(self, stage: Stage, stack: Stack, bucket: str) -> list[str]:
        """A line for each resource that is gone and is recreated."""
        found = [f"{name} of {stack.name} was deleted by hand: recreating it" for name in self.jobs]
        if self.bucket:
            found.append(f"the bucket {bucket} was deleted by hand, with its journals and dead letters: recreating it")
        if self.state_table:
            stamp = suggest("stamp", stage=stage.name, table="TABLE", to="N")
            found.append(
                f"the state table {stage.state_table} was deleted by hand, with the history: recreating it, empty; "
                f"before the next `up`, record for each table which versions are applied: {stamp}"
            )
        return found


def gone_resources(stage: Stage, stack: Stack, own: Mapping[str, str]) -> tuple[str, ...]:
    """The jobs and their triggers that no longer exist. Raises Refused for any other resource that is gone."""
    kinds = stack.kinds()
    gone = [name for name, kind in kinds.items() if is_deleted(stage.connection, kind, own.get(name, ""))]
    others = [f"{name} ({kinds[name]} {own[name]})" for name in gone if name not in OF_JOBS]
    if others:
        hint = suggest("destroy") + " (the data stays), then " + suggest("deploy")
        raise Refused(f"deleted by hand: {', '.join(others)}", where=stack.where, hint=hint)
    return tuple(gone)


def is_deleted(connection: Connection, kind: str, name: str) -> bool:
    """Whether a resource of this CloudFormation type no longer exists. A resource that cannot be read, or of another
    type, counts as existing. Raises ServiceError."""
    if kind not in _LOOKUPS or not name:
        return False
    service, look_up = _LOOKUPS[kind]
    with explained(f"the lookup of {kind}", name):
        try:
            return not look_up(client(connection, service), name)
        except ClientError as error:
            gone = refusal(error).code in _GONE
            if not (gone or is_denied(error)):
                raise
            return gone


def _log_groups(logs: Any, name: str) -> list[Any]:
    found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return [group for group in found if group["logGroupName"] == name]


def check_key(stage: Stage, key: str, stack: Stack) -> None:
    """Raises Refused for a key that cannot encrypt."""
    found = key_facts(stage.connection, key)
    if found is None:
        hint = "what it has encrypted cannot be read; set another key for new data: kms_key, in dynamodt.toml"
        raise Refused(f"the key {key} is gone", where=stack.where, hint=hint)
    if found.state in _UNUSABLE:
        repair = (stage.connection.aws_command(f"kms {one}", "--key-id", found.arn) for one in _UNUSABLE[found.state])
        hint = f"{', then '.join(repair)}; then deploy again"
        raise Refused(f"the key {found.arn} is {found.state} and cannot encrypt", where=stack.where, hint=hint)


def check_history(stage: Stage, starts_by_itself: bool) -> None:
    """Raises Refused if a state table that is gone can be restored, or would be empty when versions start by
    themselves."""
    name, where = stage.state_table, f"state table {stage.state_table}"
    backup = latest_backup(stage.connection, name)
    if backup:
        options = ("--target-table-name", name, "--backup-arn", backup)
        restore = stage.connection.aws_command("dynamodb restore-table-from-backup", *options)
        hint = f"restore its backup: {restore}; once it is ACTIVE, deploy again"
        raise Refused("it was deleted by hand, with the history of applied versions", where=where, hint=hint)
    if starts_by_itself:
        what = "it was deleted by hand; with an empty history the next automatic start would apply all versions again"
        hint = (
            "remove schedule and application_stacks from dynamodt.toml, deploy, record the applied versions ("
            + suggest("stamp", table="TABLE", to="N")
            + "), add them again, and deploy again"
        )
        raise Refused(what, where=where, hint=hint)
