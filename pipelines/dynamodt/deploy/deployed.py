"""What is there of a stage's deployment already, in its stack or beside it.

Whether a resource of a stack is still there: CloudFormation does not look, and it may have been deleted by hand.

What of a deployed stage was deleted by hand: named before anything is changed, with the way to heal it.

`deploy` heals what loses nothing by that: a bucket, the jobs and what starts them. A state table is made anew where
DynamoDB has no backup of it; until its history is brought back or stamped, nothing may run by itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.config.settings import FILE_NAME, place
from dynamodt.deploy.buckets import BucketFacts, bucket_facts, key_arn
from dynamodt.deploy.stacks import Stack, StackState
from dynamodt.dynamodb.clients import client, explained
from dynamodt.dynamodb.table import TablePlace, place_of
from dynamodt.errors import Refused, UsageError
from dynamodt.model.tables import Stage
from dynamodt.script.versions import read_versions, tables

if TYPE_CHECKING:
    from dynamodt.model.tables import Connection
from dynamodt.deploy.buckets import key_facts
from dynamodt.dynamodb.table import latest_backup

_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class DeployedResources:
    """The stack (None: there is none), which of its three lasting resources are its own, and what lies beside it.

    `key` is the ARN of a key to use instead of one of the stack's own; empty for that one. `own` are the resources of
    the stack, by their names in the template.
    """

    state: StackState | None
    bucket_exists: bool
    owns_bucket: bool
    owns_state_table: bool
    key: str
    tables: Mapping[str, TablePlace]
    own: Mapping[str, str] = field(default_factory=dict)
    state_table_exists: bool = False


class DeployedBucket(NamedTuple):
    """The stage's storage as S3 has it: the bucket, and what names in it begin with (with a slash, or nothing)."""

    name: str
    prefix: str


def stack_of(stage: Stage, sleep: Callable[[float], None] = time.sleep) -> Stack:
    """The stage's stack. Raises UsageError for a stage that can have none."""
    if stage.embedded:
        hint = f"add a table [stages.NAME] to {FILE_NAME}, and name it: dynamodt deploy --stage NAME"
        raise UsageError("the embedded stage is on this machine, and cannot be deployed", hint=hint)
    if not stage.storage.url.startswith("s3://"):
        hint = 'a job in AWS reaches S3 alone: storage = "s3://BUCKET/PREFIX"'
        raise UsageError("the storage is a folder", where=place("stages", stage.name, "storage"), hint=hint)
    if not _NAME.fullmatch(stage.name):
        hint = "a stack's name holds letters, digits and hyphens: rename the stage"
        raise UsageError(f"{stage.name!r} makes no name for a stack", where=place("stages", stage.name), hint=hint)
    name = f"dynamodt-{stage.name}"
    if stage.job_name != name:
        hint = f"remove the key: the job that is deployed is {name}"
        raise UsageError("names a job that is not ours", where=place("stages", stage.name, "glue_job"), hint=hint)
    return Stack(stage.connection, name, sleep)


def bucket_of(stage: Stage) -> DeployedBucket:
    """The bucket and the prefix of the stage's storage."""
    return bucket_at(stage.storage.url)


def bucket_at(url: str) -> DeployedBucket:
    """The bucket and the prefix of `s3://BUCKET/PREFIX`; of any other text they name nothing that is there."""
    name, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return DeployedBucket(name, f"{prefix}/" if prefix else "")


def find(stage: Stage, stack: Stack, state: StackState | None, tables: Mapping[str, TablePlace]) -> DeployedResources:
    """All that is there. Raises UsageError for a bucket that is another's, Refused for a state table that goes."""
    bucket = bucket_facts(stage.connection, bucket_of(stage).name)
    own = stack.resources() if state is not None else {}
    state_table = place_of(stage.connection, stage.state_table)
    if state_table is not None and state_table.status == "DELETING":
        hint = "wait until it is gone, a minute or two, and run the same command again"
        raise Refused("it is being deleted", where=f"state table {stage.state_table}", hint=hint)
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


def check_ours(stage: Stage, stack: Stack, state: StackState) -> None:
    """A stack's name is made of the stage's alone: two projects in one account may mean the same one, and a stack of
    that name may be no stack of dynamodt's at all. Raises Refused."""
    bucket = bucket_of(stage)
    here = {"Stage": stage.name, "Bucket": bucket.name, "Prefix": bucket.prefix, "StateTable": stage.state_table}
    if not here.keys() <= state.parameters.keys():
        hint = f"rename this stage in {FILE_NAME}: that stack was not made by `dynamodt deploy`"
        raise Refused("the stack is there, and is not dynamodt's", where=stack.where, hint=hint)
    there = {key: state.parameters[key] for key in here}
    if there != here:
        told = f"s3://{there['Bucket']}/{there['Prefix']} and the state table {there['StateTable']}"
        hint = f"if that is another project's, rename this stage; else correct storage and state_table in {FILE_NAME}"
        raise Refused(f"the stack is there, with the storage {told}", where=stack.where, hint=hint)


def _key(stage: Stage, own: Mapping[str, str], bucket: BucketFacts | None, state: StackState | None) -> str:
    """The key that is there: what dynamodt.toml names, else what the bucket has that is not the stack's, else, where
    the bucket is gone, the one that the stack was given."""
    named = stage.storage.kms_key
    if not named and "Key" not in own:
        given = state.parameters.get("KmsKey", "") if state is not None else ""
        named = bucket.kms_key if bucket is not None else given
    if not named:
        return ""
    arn = key_arn(stage.connection, named)
    ours = own.get("Key", "")
    return "" if ours and arn.endswith(f"/{ours}") else arn


def found_tables(stage: Stage, folder: Path) -> dict[str, TablePlace]:
    """Every table that the versions here read or write. Raises UsageError for one that does not exist."""
    found = {name: place_of(stage.connection, name) for name in named_tables(folder)}
    missing = [name for name, there in found.items() if there is None]
    if missing:
        hint = "deploy the application that makes it first, or check the region and the folder's name"
        raise UsageError(f"there is no table {', '.join(missing)}", where=f"stage {stage.name}", hint=hint)
    return {name: there for name, there in found.items() if there is not None}


def named_tables(folder: Path) -> list[str]:
    """The tables that have a folder, and those that their versions write to. Raises UsageError when there is none."""
    transforms = folder / "transforms"
    names = tables(transforms)
    if not names:
        raise UsageError("transforms/ holds no table", hint="dynamodt init --table TABLE")
    scripts = (script for name in names for script in read_versions(transforms, name))
    return sorted({*names, *(script.target_table for script in scripts if script.target_table)})


def check_tables(stage: Stage, folder: Path, stack: Stack, state: StackState, here: Collection[str]) -> None:
    """A deploy takes no table away from the jobs' role: what the stack has and this project lacks is another project's,
    which has the same stage, storage and state table. Raises Refused; a table that is gone is no loss."""
    arns = filter(None, state.parameters.get("TableArns", "").split(","))
    lost = [name for arn in arns if (name := arn.rpartition("/")[2]) not in here]
    lost = [name for name in lost if place_of(stage.connection, name) is not None]
    if lost:
        what = f"it is for the table {', '.join(lost)}, too, which the project in {folder.resolve()} does not name; "
        hint = (
            f"if another project has them, rename the stage of one of the two; else bring transforms/{lost[0]} back, "
        )
        hint += f"or aws cloudformation delete-stack --stack-name {stack.name} (the data stays), and deploy again"
        raise Refused(f"{what}that has {', '.join(sorted(here)) or 'no table'}", where=stack.where, hint=hint)


def tables_here(folder: Path) -> set[str]:
    """The same for a removal, which a version that cannot be read does not stop."""
    transforms = folder / "transforms"
    found = set(tables(transforms))
    for name in tuple(found):
        with suppress(UsageError):
            found |= {script.target_table for script in read_versions(transforms, name) if script.target_table}
    return found


_GONE = {"EntityNotFoundException", "NoSuchEntity", "ResourceNotFoundException", "NotFound", "NotFoundException"}
_HIDDEN = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException"}
Ask = Callable[
    [Any, str], object
]  # a client, and a resource's own name: falsy, or one of these errors, where it is gone

_ASKED: dict[str, tuple[str, Ask]] = {
    "AWS::Glue::Job": ("glue", lambda glue, name: glue.get_job(JobName=name)),
    "AWS::Glue::Trigger": ("glue", lambda glue, name: glue.get_trigger(Name=name)),
    "AWS::Glue::Workflow": ("glue", lambda glue, name: glue.get_workflow(Name=name)),
    "AWS::IAM::Role": ("iam", lambda iam, name: iam.get_role(RoleName=name)),
    "AWS::SNS::Topic": ("sns", lambda sns, arn: sns.get_topic_attributes(TopicArn=arn)),
    "AWS::Events::Rule": ("events", lambda events, name: events.describe_rule(Name=name.rpartition("/")[2])),
    "AWS::CloudWatch::Alarm": (
        "cloudwatch",
        lambda watch, name: watch.describe_alarms(AlarmNames=[name])["MetricAlarms"],
    ),
    "AWS::Logs::LogGroup": ("logs", lambda logs, name: _log_groups(logs, name)),
}


def is_gone(connection: Connection, kind: str, name: str) -> bool:
    """Whether a resource of this CloudFormation type is there no more. One that may not be looked at, or of a type that
    is not known here, counts as there. Raises ServiceError."""
    from botocore.exceptions import ClientError

    if kind not in _ASKED or not name:
        return False
    service, ask = _ASKED[kind]
    with explained(f"the look at {kind}", name):
        try:
            return not ask(client(connection, service), name)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _HIDDEN:
                return False
            if code not in _GONE:
                raise
            return True


def _log_groups(logs: Any, name: str) -> list[Any]:
    found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return [group for group in found if group["logGroupName"] == name]


OF_JOBS = ("MigrateJob", "PrepareJob", "OnSchedule", "AfterDeploy", "OnEvent", "ApplicationUpdated", "EventRole")
_UNUSABLE = {
    "Disabled": "aws kms enable-key --key-id {key}",
    "PendingDeletion": "aws kms cancel-key-deletion --key-id {key}, then aws kms enable-key --key-id {key}",
}


@dataclass(frozen=True, slots=True)
class Drift:
    """What is gone: the state table, the bucket, and, by their names in the template, jobs and what starts them."""

    state_table: bool = False
    bucket: bool = False
    jobs: tuple[str, ...] = ()

    @property
    def resources(self) -> tuple[str, ...]:
        """All of it, by its names in the template."""
        lasting = {"State": self.state_table, "Storage": self.bucket}
        return (*(name for name, gone in lasting.items() if gone), *self.jobs)


def gone_resources(stage: Stage, stack: Stack, own: Mapping[str, str]) -> tuple[str, ...]:
    """The jobs, and what starts them, that are not there any more. Raises Refused for another resource that is gone."""
    kinds = stack.kinds()
    gone = [name for name, kind in kinds.items() if is_gone(stage.connection, kind, own.get(name, ""))]
    others = [f"{name} ({kinds[name]} {own[name]})" for name in gone if name not in OF_JOBS]
    if others:
        hint = f"dynamodt destroy --stage {stage.name} (the data stays), then dynamodt deploy --stage {stage.name}"
        raise Refused(f"deleted by hand: {', '.join(others)}", where=stack.where, hint=hint)
    return tuple(gone)


def check_key(stage: Stage, key: str, stack: Stack) -> None:
    """Raises Refused for a key that nothing can be encrypted with."""
    found = key_facts(stage.connection, key)
    if found is None:
        hint = "what it has encrypted cannot be read; name another one for what comes: kms_key, in dynamodt.toml"
        raise Refused(f"the key {key} is gone", where=stack.where, hint=hint)
    if found.state in _UNUSABLE:
        hint = f"{_UNUSABLE[found.state].format(key=found.arn)}; then deploy again"
        raise Refused(
            f"the key {found.arn} is {found.state}: nothing can be written with it", where=stack.where, hint=hint
        )


def check_history(stage: Stage, starts_by_itself: bool) -> None:
    """What must be before a state table that is gone is made anew. Raises Refused."""
    name, where = stage.state_table, f"state table {stage.state_table}"
    backup = latest_backup(stage.connection, name)
    if backup:
        command = f"aws dynamodb restore-table-from-backup --target-table-name {name} --backup-arn {backup}"
        hint = f"there is a backup of it: {command}; once it is ACTIVE, deploy again"
        raise Refused("it was deleted by hand, with the history of what is applied", where=where, hint=hint)
    if starts_by_itself:
        hint = (
            "remove schedule and application_stacks from dynamodt.toml, deploy, say what is applied (dynamodt stamp), "
        )
        what = "it was deleted by hand; made anew it knows of no version, and the next start by itself would apply all"
        raise Refused(what, where=where, hint=f"{hint}put them back, and deploy again")


def told(stage: Stage, stack: Stack, drift: Drift, bucket: str) -> list[str]:
    """What is gone and is made anew, a line for each."""
    lines = [f"{name} of {stack.name} was deleted by hand: it is made anew" for name in drift.jobs]
    if drift.bucket:
        lines.append(f"the bucket {bucket} was deleted by hand, with its journals and dead letters: it is made anew")
    if drift.state_table:
        stamp = f"dynamodt stamp --stage {stage.name} --table TABLE --to N"
        lines.append(
            f"the state table {stage.state_table} was deleted by hand, with the history: it is made anew, and is empty;"
            f" before the next `up`, say of each table which versions are applied: {stamp}"
        )
    return lines
