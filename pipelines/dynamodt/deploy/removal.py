"""Decides what `destroy --purge` deletes: the state table, the bucket and each key, by evidence about each.

A resource belongs to this stage if its tag `dynamodt:stage` names the stage, or if it has no such tag and is a resource
of the stage's stack. It is kept nevertheless if another stage uses it, if it holds data of others, or if a resource
that is kept needs it. Other stages are those deployed beside it, and those of the same dynamodt.toml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dynamodt.config.settings import FILE_NAME, read_settings
from dynamodt.config.stage import LOCAL, load_stage
from dynamodt.deploy.buckets import OwnObjects
from dynamodt.deploy.resources import DeployedBucket, bucket_at
from dynamodt.deploy.stacks import StackState, all_stacks
from dynamodt.errors import UsageError
from dynamodt.model.tables import Stage, StorageSpec

_OURS = {"Stage", "Bucket", "Prefix", "StateTable"}  # parameters of every stack of infra/template.yaml
SHOWN = 5  # names in a line


# ---------------------------------------------------------------- other stages


class Neighbour(NamedTuple):
    """Another stage as it is displayed, and the names of the resources that it uses; the key as it is written, or
    empty."""

    name: str
    bucket: DeployedBucket
    state_table: str
    key: str


def neighbours(stage: Stage, folder: Path, stack: str) -> tuple[Neighbour, ...]:
    """Every other stage in the account and in dynamodt.toml. Raises ServiceError if CloudFormation cannot be
    reached."""
    return (*_deployed(all_stacks(stage.connection), stack), *_declared(stage, folder))


def _deployed(stacks: Mapping[str, StackState], own: str) -> Iterator[Neighbour]:
    for name, state in stacks.items():
        if name != own and state.parameters.keys() >= _OURS:
            found = state.parameters
            bucket = DeployedBucket(found["Bucket"], found["Prefix"])
            yield Neighbour(f"the stack {name}", bucket, found["StateTable"], found.get("KmsKey", ""))


def _declared(stage: Stage, folder: Path) -> Iterator[Neighbour]:
    """The stages of dynamodt.toml with the same connection. `local` is an emulator, or this stage by an environment
    variable."""
    for name, settings in read_settings(folder / FILE_NAME).items():
        other = _loaded(name, folder) if name not in (stage.name, LOCAL) else None
        if other is not None and other.connection == stage.connection:
            # as written: DYNAMODT_STORAGE applies to the selected stage
            bucket = bucket_at(StorageSpec(settings.storage or ""))
            yield Neighbour(f"the stage {name} of {FILE_NAME}", bucket, other.state_table, settings.kms_key or "")


def _loaded(name: str, folder: Path) -> Stage | None:
    try:
        return load_stage(name, folder)
    except UsageError:  # a stage that cannot be used uses nothing
        return None


# ---------------------------------------------------------------- the evidence


class Origin(NamedTuple):
    """The origin of a resource: the stage that its tag names (empty: no tag), and whether it is in the stack."""

    tag: str
    of_stack: bool

    def is_of(self, stage: str) -> bool:
        """Whether it belongs to the stage."""
        return self.tag == stage or (self.of_stack and not self.tag)


class FoundTable(NamedTuple):
    """The state table: the ARN of its key (empty: DynamoDB's own). For a table that belongs to the stage, also the
    `strangers`, tables without a folder here whose history it holds, and the tables with a live lease (`active`)."""

    name: str
    origin: Origin
    key: str
    strangers: tuple[str, ...]
    active: tuple[str, ...]


class FoundBucket(NamedTuple):
    """The bucket: the ARN of its default key (empty: S3's own), the first names in it that the stage has not written
    (`strangers`), the tables without a folder here whose files it holds, and the reason why it cannot be read; each
    empty if there is none. For a bucket that belongs to the stage, also the stage's `own` objects; None if it holds
    none."""

    bucket: DeployedBucket
    origin: Origin
    key: str
    strangers: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    out_of_reach: str = ""
    own: OwnObjects | None = None


class FoundKey(NamedTuple):
    """A key: whether dynamodt.toml names it, the bucket of its tag `dynamodt:bucket`, if that is another one than the
    stage's and exists, the tables of the account and region, beside the state table, that it encrypts, and whether the
    caller may not read its state, or its tags."""

    arn: str
    origin: Origin
    named: bool
    bucket: str = ""
    tables: tuple[str, ...] = ()
    denied: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """The facts for the decision; None for a resource that does not exist."""

    stage: str
    state_table: FoundTable | None
    bucket: FoundBucket | None
    keys: tuple[FoundKey, ...]
    neighbours: tuple[Neighbour, ...]


# ---------------------------------------------------------------- the decision


class Decision(NamedTuple):
    """The decision about a resource: deleted, with the evidence; or kept, with the reason."""

    goes: bool
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The resources to delete; and a line for each resource that is removed, or kept, with the reason."""

    state_table: str = ""
    objects: OwnObjects | None = None
    bucket: str = ""
    keys: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def plan(found: Evidence) -> Plan:
    """Decides for each resource."""
    table, bucket = _table(found), _bucket(found)
    keys = [(key, _key(found, key, table, bucket)) for key in found.keys]
    lines = [*_bucket_lines(found, bucket)]
    if found.state_table is not None and table is not None:
        lines.append(_line(f"state table {found.state_table.name}, with the history of all runs", table))
    lines += [_line(f"key {key.arn}", verdict) for key, verdict in keys]
    whole = bucket is not None and bucket.goes and found.bucket is not None and not found.bucket.strangers
    return Plan(
        state_table=found.state_table.name if found.state_table and table and table.goes else "",
        objects=found.bucket.own if found.bucket and bucket and bucket.goes else None,
        bucket=found.bucket.bucket.name if found.bucket and whole else "",
        keys=tuple(key.arn for key, verdict in keys if verdict.goes),
        removed=tuple(text for goes, text in lines if goes),
        kept=tuple(text for goes, text in lines if not goes),
    )


def _line(what: str, verdict: Decision) -> tuple[bool, str]:
    return verdict.goes, f"{what}: {verdict.why}"


def _table(found: Evidence) -> Decision | None:
    table = found.state_table
    if table is None:
        return None
    if table.strangers:
        stay = f"it holds the history of tables without a folder in transforms/: {_some(table.strangers)}"
    elif table.active:
        stay = f"a run is active on {_some(table.active)}"
    elif found.bucket is not None and found.bucket.out_of_reach:
        stay = (
            f"it has the runs whose objects are the stage's, and the bucket {found.bucket.bucket.name} cannot be read"
        )
    else:
        stay = _used(other.name for other in found.neighbours if other.state_table == table.name)
    return _verdict(found, table.origin, stay, "State")


def _bucket(found: Evidence) -> Decision | None:
    here = found.bucket
    if here is None:
        return None
    if here.out_of_reach:
        return Decision(False, here.out_of_reach)
    stay = _used(other.name for other in found.neighbours if _overlap(other.bucket, here.bucket))
    if here.tables:
        stay = f"it holds files of tables without a folder in transforms/: {_some(here.tables)}"
    return _verdict(found, here.origin, stay, "Storage")


def _overlap(one: DeployedBucket, other: DeployedBucket) -> bool:
    nested = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    return one.name == other.name and nested


def _bucket_lines(found: Evidence, verdict: Decision | None) -> list[tuple[bool, str]]:
    if found.bucket is None or verdict is None:
        return []
    (name, prefix), strangers = found.bucket.bucket, found.bucket.strangers
    if not verdict.goes or not strangers:
        return [_line(f"bucket {name}, with all its objects", verdict)]
    own = f"objects below s3://{name}/{prefix} that this stage has written"
    own_line = _line(f"{own}, with all their versions and unfinished uploads", verdict)
    kept = f"bucket {name}: kept, with objects that this stage has not written: {_some(strangers)}"
    return [*([own_line] if found.bucket.own is not None else []), (False, kept)]


def _key(found: Evidence, key: FoundKey, table: Decision | None, bucket: Decision | None) -> Decision:
    if key.named and not key.origin.of_stack:
        return Decision(False, "dynamodt.toml names it as kms_key, and it is not a resource of the stack")
    if key.denied:
        return Decision(False, "the caller may not read it (kms:DescribeKey, kms:ListResourceTags)")
    users = (other.name for other in found.neighbours if other.key and other.key == key.arn)
    return _verdict(found, key.origin, _needed(found, key, table, bucket) or _used(users), "Key")


def _needed(found: Evidence, key: FoundKey, table: Decision | None, bucket: Decision | None) -> str:
    """The kept resources that are encrypted with the key."""
    if found.state_table and table and not table.goes and found.state_table.key == key.arn:
        return f"it encrypts the state table {found.state_table.name}, which is kept"
    if found.bucket and found.bucket.out_of_reach:
        return f"it may encrypt the bucket {found.bucket.bucket.name}, which cannot be read"
    stays = found.bucket is not None and bucket is not None and (not bucket.goes or bool(found.bucket.strangers))
    if found.bucket and stays and (found.bucket.key == key.arn or key.named):
        return f"it encrypts the bucket {found.bucket.bucket.name}, which is kept"
    if key.bucket:
        return f"its tag dynamodt:bucket names the bucket {key.bucket}, which exists"
    return f"it also encrypts {_some(key.tables)}" if key.tables else ""


def _verdict(found: Evidence, origin: Origin, stay: str, resource: str) -> Decision:
    """A resource is deleted if it belongs to the stage, and there is no reason (`stay`) to keep it."""
    if origin.tag and origin.tag != found.stage:
        return Decision(False, f"its tag dynamodt:stage names the stage {origin.tag}")
    if not origin.is_of(found.stage):
        return Decision(False, "it existed before the stack: it has no tag dynamodt:stage")
    if stay:
        return Decision(False, stay)
    return Decision(True, f"resource {resource} of the stack" if origin.of_stack else "its tag names this stage")


def _used(names: Iterator[str]) -> str:
    users = tuple(names)
    return f"used by {_some(users)}" if users else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" and more" if len(names) > SHOWN else "")
