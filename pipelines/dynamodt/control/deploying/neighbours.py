"""Other stages that may use what this one does: those deployed beside it, and those of the same dynamodt.toml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dynamodt.aws.stacks import StackState, all_stacks
from dynamodt.control.deploying.deployed import Bucket, bucket_at
from dynamodt.control.settings import FILE_NAME, read_settings
from dynamodt.control.stage import LOCAL, load_stage
from dynamodt.errors import UsageError
from dynamodt.model import Stage

_OURS = {"Stage", "Bucket", "Prefix", "StateTable"}  # parameters that a stack of infra/template.yaml has


class Neighbour(NamedTuple):
    """Another stage as a person is told of it, and the names of what it uses; the key as it is named, or empty."""

    name: str
    bucket: Bucket
    state_table: str
    key: str


def neighbours(stage: Stage, folder: Path, stack: str) -> tuple[Neighbour, ...]:
    """All that can be seen from here. Raises ServiceError when CloudFormation cannot be asked."""
    return (*_deployed(all_stacks(stage.connection), stack), *_declared(stage, folder))


def _deployed(stacks: Mapping[str, StackState], own: str) -> Iterator[Neighbour]:
    for name, state in stacks.items():
        if name != own and state.parameters.keys() >= _OURS:
            found = state.parameters
            bucket = Bucket(found["Bucket"], found["Prefix"])
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
