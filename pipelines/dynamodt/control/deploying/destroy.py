"""`dynamodt destroy`: the stage's stack taken down. What cannot be had again stays, unless it is asked for by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dynamodt.aws.buckets import bucket_facts, purge_bucket
from dynamodt.aws.keys import schedule_deletion
from dynamodt.aws.stacks import UNMADE, Stack, StackState
from dynamodt.aws.state import State
from dynamodt.aws.table import delete_table, place_of
from dynamodt.control.deploying.deployed import bucket_of, check_ours, stack_of
from dynamodt.control.deploying.stack_watch import at_rest
from dynamodt.control.deploying.stack_watch import removed as delete_stack
from dynamodt.control.requests import Observer
from dynamodt.control.running.run_states import run_states
from dynamodt.core.standing import AT_WORK
from dynamodt.core.versions import tables
from dynamodt.errors import Refused
from dynamodt.model import Stage


@dataclass(frozen=True, slots=True)
class Removal:
    """What `destroy` has removed, or would remove, and what it leaves: each a bucket, table, key or stack, in words."""

    stack: str
    status: str  # destroyed, nothing or dry-run
    removed: tuple[str, ...]
    kept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Belongings:
    """The stack as it is, and the names of what outlives it: those that are this stage's own; "" for what is not."""

    state: StackState | None
    bucket: str
    state_table: str
    key: str


def destroy(
    stage: Stage,
    folder: Path,
    observer: Observer,
    *,
    purge: bool = False,
    dry_run: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> Removal:
    """Delete the stage's stack; with `purge` its bucket, its state table and its key, too.

    Refused while a run is at work. Whatever is deleted is so for good, but for the key: KMS waits 30 days with it.
    Raises what `deploy` raises.
    """
    stack = stack_of(stage, sleep)
    own = belongings(stage, stack, at_rest(stack, observer.note, sleep))
    _refuse_at_work(stage, folder, own)
    removed, kept = _words(stage, stack, own, purge)
    if dry_run:
        return Removal(stack.name, "dry-run", removed, kept)
    if own.state is not None:
        delete_stack(stack, own.state, observer.note, sleep)
    if purge:
        _purge(stage, own, observer)
    return Removal(stack.name, "destroyed" if removed else "nothing", removed, kept)


def belongings(stage: Stage, stack: Stack, state: StackState | None) -> Belongings:
    """What is the stage's: made by its stack as it is, or left behind by one that it had, which the bucket's tag says.
    The key that dynamodt.toml names is never its own."""
    if state is not None and state.status != UNMADE:
        check_ours(stage, stack, state)
    own = stack.resources() if state is not None else {}
    facts = bucket_facts(stage.connection, bucket_of(stage).name)
    left = facts if facts is not None and facts.stage == stage.name else None
    has_table = place_of(stage.connection, stage.state_table) is not None
    return Belongings(
        state=state,
        bucket=bucket_of(stage).name if left or (facts and "Storage" in own) else "",
        state_table=stage.state_table if has_table and (left or "State" in own) else "",
        key=own.get("Key", "") or (left.kms_key if left and not stage.storage.kms_key else ""),
    )


def _words(stage: Stage, stack: Stack, own: Belongings, purge: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    lasting = [
        f"bucket {own.bucket}, with all that is in it" if own.bucket else "",
        f"state table {own.state_table}, with the history of all runs" if own.state_table else "",
        f"key {own.key}, which both are encrypted with" if own.key else "",
    ]
    named = tuple(filter(None, lasting))
    gone = (f"stack {stack.name}",) if own.state is not None else ()
    return (gone + named, ()) if purge else (gone, named)


def _refuse_at_work(stage: Stage, folder: Path, own: Belongings) -> None:
    if not own.state_table:
        return
    state = State(stage.connection, stage.state_table)
    for table in tables(folder / "transforms"):
        if any(run.status in AT_WORK and run.holder is not None for run in run_states(state, table)):
            hint = f"wait for it, or stop it: dynamodt abort --table {table}"
            raise Refused("a run is at work, and would lose what it needs", where=f"table {table}", hint=hint)


def _purge(stage: Stage, own: Belongings, observer: Observer) -> None:
    if own.bucket:
        purge_bucket(stage.connection, own.bucket, observer.note)
    if own.state_table:
        observer.note(f"deleting the table {own.state_table}")
        delete_table(stage.connection, own.state_table)
    if own.key:
        days = schedule_deletion(stage.connection, own.key)
        observer.note(f"KMS will delete the key {own.key} in {days} days; until then: aws kms cancel-key-deletion")
