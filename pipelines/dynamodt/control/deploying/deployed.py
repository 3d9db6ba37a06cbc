"""What is there of a stage's deployment already, in its stack or beside it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dynamodt.aws.buckets import BucketFacts, bucket_facts
from dynamodt.aws.keys import key_arn
from dynamodt.aws.stacks import Stack, StackState
from dynamodt.aws.table import TablePlace, place_of
from dynamodt.control.toml_values import FILE_NAME, place
from dynamodt.core.versions import read_versions, tables
from dynamodt.errors import Refused, UsageError
from dynamodt.model import Stage

_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Found:
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


class Bucket(NamedTuple):
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


def bucket_of(stage: Stage) -> Bucket:
    """The bucket and the prefix of the stage's storage."""
    return bucket_at(stage.storage.url)


def bucket_at(url: str) -> Bucket:
    """The bucket and the prefix of `s3://BUCKET/PREFIX`; of any other text they name nothing that is there."""
    name, _, prefix = url.removeprefix("s3://").partition("/")
    prefix = prefix.strip("/")
    return Bucket(name, f"{prefix}/" if prefix else "")


def find(stage: Stage, stack: Stack, state: StackState | None, tables: Mapping[str, TablePlace]) -> Found:
    """All that is there. Raises UsageError for a bucket that is another's, Refused for a state table that goes."""
    bucket = bucket_facts(stage.connection, bucket_of(stage).name)
    own = stack.resources() if state is not None else {}
    state_table = place_of(stage.connection, stage.state_table)
    if state_table is not None and state_table.status == "DELETING":
        hint = "wait until it is gone, a minute or two, and run the same command again"
        raise Refused("it is being deleted", where=f"state table {stage.state_table}", hint=hint)
    return Found(
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
