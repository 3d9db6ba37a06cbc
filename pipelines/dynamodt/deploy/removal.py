"""Other stages that may use what this one does: those deployed beside it, and those of the same dynamodt.toml.

What a removal may delete: each table, bucket and key by evidence of its own, decided from what is known of it.

A thing is this stage's own where its tag `dynamodt:stage` names the stage, or where it has no such tag and is a
resource of the stage's stack. What is its own stays all the same where another stage uses it, where it holds what is
another's, or where something that stays needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dynamodt.config.settings import FILE_NAME, read_settings
from dynamodt.config.stage import LOCAL, load_stage
from dynamodt.deploy.deployed import DeployedBucket, bucket_at
from dynamodt.deploy.stacks import StackState, all_stacks
from dynamodt.errors import UsageError
from dynamodt.model.tables import Stage

_OURS = {"Stage", "Bucket", "Prefix", "StateTable"}  # parameters that a stack of infra/template.yaml has


class Neighbour(NamedTuple):
    """Another stage as a person is told of it, and the names of what it uses; the key as it is named, or empty."""

    name: str
    bucket: DeployedBucket
    state_table: str
    key: str


def neighbours(stage: Stage, folder: Path, stack: str) -> tuple[Neighbour, ...]:
    """All that can be seen from here. Raises ServiceError when CloudFormation cannot be asked."""
    return (*_deployed(all_stacks(stage.connection), stack), *_declared(stage, folder))


def _deployed(stacks: Mapping[str, StackState], own: str) -> Iterator[Neighbour]:
    for name, state in stacks.items():
        if name != own and state.parameters.keys() >= _OURS:
            found = state.parameters
            bucket = DeployedBucket(found["Bucket"], found["Prefix"])
            yield Neighbour(f"the stack {name}", bucket, found["StateTable"], found.get("KmsKey", ""))


def _declared(stage: Stage, folder: Path) -> Iterator[Neighbour]:
    """Of the same account, as far as the way to reach it tells. `local` is an emulator, or this by a variable."""
    for name, settings in read_settings(folder / FILE_NAME).items():
        other = _loaded(name, folder) if name not in (stage.name, LOCAL) else None
        if other is not None and other.connection == stage.connection:
            bucket = bucket_at(settings.storage or "")  # as written: DYNAMODT_STORAGE is for the stage that is named
            yield Neighbour(f"the stage {name} of {FILE_NAME}", bucket, other.state_table, settings.kms_key or "")


def _loaded(name: str, folder: Path) -> Stage | None:
    try:
        return load_stage(name, folder)
    except UsageError:  # it cannot be used, so it uses nothing
        return None


_SHOWN = 5


class Origin(NamedTuple):
    """Where a thing comes from: the stage that its tag names (empty: none), and whether it is the stack's resource."""

    tag: str
    of_stack: bool

    def is_of(self, stage: str) -> bool:
        """Whether that is proof of being this stage's own."""
        return self.tag == stage or (self.of_stack and not self.tag)


class FoundTable(NamedTuple):
    """The state table: the ARN of its key (empty: DynamoDB's own), the tables of no folder here whose rows it holds,
    and those under whose lease a run is at work; none of both where the table is not the stage's own."""

    name: str
    origin: Origin
    key: str
    strangers: tuple[str, ...]
    at_work: tuple[str, ...]


class FoundBucket(NamedTuple):
    """The bucket: the ARN of the key it encrypts with (empty: S3's own), the name of an object outside of the stage's
    prefix (empty: there is none), the tables of no folder here whose runs have files below it, and why it is out of
    reach (empty: it is not)."""

    bucket: DeployedBucket
    origin: Origin
    key: str
    stranger: str
    tables: tuple[str, ...] = ()
    out_of_reach: str = ""


class FoundKey(NamedTuple):
    """A key: whether dynamodt.toml names it, and the tables of this project that are encrypted with it."""

    arn: str
    origin: Origin
    named: bool
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that decides; None for what is not there."""

    stage: str
    state_table: FoundTable | None
    bucket: FoundBucket | None
    keys: tuple[FoundKey, ...]
    neighbours: tuple[Neighbour, ...]


class Verdict(NamedTuple):
    """Whether a thing goes, and by which evidence; or why it stays."""

    goes: bool
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be deleted, and each thing in words: those that go, and those that stay, with the reason."""

    state_table: str = ""
    objects: DeployedBucket | None = None
    bucket: str = ""
    keys: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def plan(found: Evidence) -> Plan:
    """What of it goes."""
    table, bucket = _table(found), _bucket(found)
    keys = [(key, _key(found, key, table, bucket)) for key in found.keys]
    lines = [*_bucket_lines(found, bucket)]
    if found.state_table is not None and table is not None:
        lines.append(_line(f"state table {found.state_table.name}, with the history of all runs", table))
    lines += [_line(f"key {key.arn}", verdict) for key, verdict in keys]
    whole = bucket is not None and bucket.goes and found.bucket is not None and not found.bucket.stranger
    return Plan(
        state_table=found.state_table.name if found.state_table and table and table.goes else "",
        objects=found.bucket.bucket if found.bucket and bucket and bucket.goes else None,
        bucket=found.bucket.bucket.name if found.bucket and whole else "",
        keys=tuple(key.arn for key, verdict in keys if verdict.goes),
        removed=tuple(text for goes, text in lines if goes),
        kept=tuple(text for goes, text in lines if not goes),
    )


def _line(what: str, verdict: Verdict) -> tuple[bool, str]:
    return verdict.goes, f"{what}: {verdict.why}"


def _table(found: Evidence) -> Verdict | None:
    table = found.state_table
    if table is None:
        return None
    users = [other.name for other in found.neighbours if other.state_table == table.name]
    if table.strangers:
        stay = f"it holds the history of other tables, which have no folder in transforms/: {_some(table.strangers)}"
    elif table.at_work:
        stay = f"a run is at work on {_some(table.at_work)}"
    else:
        stay = _used(users)
    return _verdict(found, table.origin, stay, "State")


def _bucket(found: Evidence) -> Verdict | None:
    here = found.bucket
    if here is None:
        return None
    if here.out_of_reach:
        return Verdict(False, here.out_of_reach)
    users = [other.name for other in found.neighbours if _overlap(other.bucket, here.bucket)]
    stay = f"it holds files of other tables, which have no folder in transforms/: {_some(here.tables)}"
    return _verdict(found, here.origin, stay if here.tables else _used(users), "Storage")


def _overlap(one: DeployedBucket, other: DeployedBucket) -> bool:
    nested = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    return one.name == other.name and nested


def _bucket_lines(found: Evidence, verdict: Verdict | None) -> list[tuple[bool, str]]:
    if found.bucket is None or verdict is None:
        return []
    (name, prefix), stranger = found.bucket.bucket, found.bucket.stranger
    if not verdict.goes or not stranger:
        return [_line(f"bucket {name}, with all that is in it", verdict)]
    return [
        _line(f"objects below s3://{name}/{prefix}, with all their versions and uploads under way", verdict),
        (False, f"bucket {name}: {stranger} is in it, which is not below {prefix}"),
    ]


def _key(found: Evidence, key: FoundKey, table: Verdict | None, bucket: Verdict | None) -> Verdict:
    users = [other.name for other in found.neighbours if other.key and other.key == key.arn]
    stay = _needed(found, key, table, bucket) or _used(users)
    if key.named and not key.origin.of_stack:
        return Verdict(False, "dynamodt.toml names it as kms_key, and it is no resource of the stack")
    return _verdict(found, key.origin, stay, "Key")


def _needed(found: Evidence, key: FoundKey, table: Verdict | None, bucket: Verdict | None) -> str:
    """What stays and is encrypted with the key."""
    if found.state_table and table and not table.goes and found.state_table.key == key.arn:
        return f"the state table {found.state_table.name}, which stays, is encrypted with it"
    stays = found.bucket is not None and bucket is not None and (not bucket.goes or bool(found.bucket.stranger))
    if found.bucket and stays and (found.bucket.key == key.arn or key.named):
        return f"the bucket {found.bucket.bucket.name}, which stays, is encrypted with it"
    return f"it encrypts {_some(key.tables)}, too" if key.tables else ""


def _verdict(found: Evidence, origin: Origin, stay: str, resource: str) -> Verdict:
    """Own it must be, and nothing may be in the way (`stay`)."""
    if origin.tag and origin.tag != found.stage:
        return Verdict(False, f"it was made for the stage {origin.tag}, as its tag dynamodt:stage says")
    if not origin.is_of(found.stage):
        return Verdict(False, "it was found, and not made: it has no tag dynamodt:stage")
    if stay:
        return Verdict(False, stay)
    return Verdict(True, f"resource {resource} of the stack" if origin.of_stack else "its tag names this stage")


def _used(names: list[str]) -> str:
    return f"{_some(tuple(names))} uses it" if names else ""


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
