"""`dynamodt destroy`: the stage's stack taken down. What cannot be had again stays, unless it is asked for by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dynamodt.aws.buckets import delete_bucket, delete_objects
from dynamodt.aws.keys import schedule_deletion
from dynamodt.aws.stacks import UNMADE, Stack, StackState
from dynamodt.aws.table import delete_table
from dynamodt.control.deploying.at_work import refuse_at_work
from dynamodt.control.deploying.deployed import check_ours, check_tables, stack_of, tables_here
from dynamodt.control.deploying.evidence import gather, glance, users_of_state
from dynamodt.control.deploying.removal import Evidence, Plan, plan
from dynamodt.control.deploying.stack_watch import at_rest
from dynamodt.control.deploying.stack_watch import removed as delete_stack
from dynamodt.control.requests import Observer
from dynamodt.errors import Refused
from dynamodt.model import Stage

_OURS = "dynamodt-"  # what the names of our own change sets begin with
_DATA = "it holds what cannot be had again: only --purge deletes it"


@dataclass(frozen=True, slots=True)
class Removal:
    """What `destroy` has removed, or would remove, and what it leaves: each a bucket, table, key or stack, in words,
    with the evidence or the reason."""

    stack: str
    status: str  # destroyed, nothing or dry-run
    removed: tuple[str, ...]
    kept: tuple[str, ...]


def destroy(
    stage: Stage,
    folder: Path,
    observer: Observer,
    *,
    purge: bool = False,
    dry_run: bool = False,
    agreed: Removal | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Removal:
    """Delete the stage's stack; with `purge` its bucket, its state table and its key, too, each where it proves to be
    the stage's own (`removal`). Interrupted, it is finished by the same command.

    Refused while a run is at work, and where something else would go than was `agreed`. Whatever is deleted is so for
    good, but for the key: KMS waits 30 days with it. Raises what `deploy` raises.
    """
    stack = stack_of(stage, sleep)
    state = at_rest(stack, observer.note, sleep)
    whole = _planned(stage, folder, stack, state, observer, purge, sleep)
    found = Removal(stack.name, "dry-run", whole.removed, whole.kept)
    if agreed is not None and found.removed != agreed.removed:
        hint = "nothing was deleted; run the same command again, and look at what it lists"
        raise Refused("what would be deleted has changed meanwhile", where=stack.where, hint=hint)
    if dry_run:
        return found
    if state is not None and _stack_line(stack) in whole.removed:
        delete_stack(stack, state, observer.note, sleep)
    _delete(stage, folder, whole, observer, sleep)
    return replace(found, status="destroyed" if found.removed else "nothing")


def _planned(
    stage: Stage,
    folder: Path,
    stack: Stack,
    state: StackState | None,
    observer: Observer,
    purge: bool,
    sleep: Callable[[float], None],
) -> Plan:
    if state is not None and state.status != UNMADE:
        check_ours(stage, stack, state)
        check_tables(stage, folder, stack, state, tables_here(folder))
    own = stack.resources() if state is not None else {}
    refuse_at_work(stage, folder, own, sleep)
    if purge:
        lasting = plan(gather(stage, folder, stack.name, own, observer.note, sleep))
    else:
        lasting = _left(glance(stage, folder, own))
    if state is None:
        return lasting
    if state.status == UNMADE and not all(name.startswith(_OURS) for name in stack.change_sets()):
        kept = f"{_stack_line(stack)}: it is empty, and waits for a change set that another program has made"
        return replace(lasting, kept=(kept, *lasting.kept))
    return replace(lasting, removed=(_stack_line(stack), *lasting.removed))


def _stack_line(stack: Stack) -> str:
    return f"stack {stack.name}"


def _left(found: Evidence) -> Plan:
    """Without --purge nothing of it goes, whosever it is."""
    lasting = plan(found)
    return Plan(kept=(*(f"{text.partition(': ')[0]}: {_DATA}" for text in lasting.removed), *lasting.kept))


def _delete(stage: Stage, folder: Path, whole: Plan, observer: Observer, sleep: Callable[[float], None]) -> None:
    """What leads to the others goes last: the bucket names the key, and says by its tag whose it is."""
    if whole.state_table:
        _check_unshared(stage, folder, sleep)
        observer.note(f"deleting the table {whole.state_table}")
        delete_table(stage.connection, whole.state_table)
    if whole.objects is not None:
        delete_objects(stage.connection, whole.objects.name, whole.objects.prefix, observer.note)
    for key in whole.keys:
        days = schedule_deletion(stage.connection, key)
        observer.note(f"KMS will delete the key {key} in {days} days; until then: aws kms cancel-key-deletion")
    if whole.bucket:
        delete_bucket(stage.connection, whole.bucket)


def _check_unshared(stage: Stage, folder: Path, sleep: Callable[[float], None]) -> None:
    """Taking down a stack takes minutes: who has come to the state table in these is found now."""
    strangers, at_work = users_of_state(stage, folder, sleep)
    if strangers or at_work:
        what = f"{', '.join(strangers or at_work)} has come to use it meanwhile"
        where = f"state table {stage.state_table}"
        raise Refused(what, where=where, hint="it was left; the same command lists what stays, and why")
