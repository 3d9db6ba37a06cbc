"""`dynamodt destroy`: deletes the stage's stack, and with `--purge` its data. Without `--purge`, resources that cannot
be recreated are kept.

The evidence about resources that outlive the stack is gathered here; `removal` decides by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from dynamodt.deploy import buckets
from dynamodt.deploy.buckets import KeyFacts, OwnObjects
from dynamodt.deploy.glue_runs import refuse_active_jobs
from dynamodt.deploy.removal import SHOWN, Evidence, FoundBucket, FoundKey, FoundTable, Origin, Plan, neighbours, plan
from dynamodt.deploy.resources import bucket_of, check_ours, check_tables, stack_of, tables_here
from dynamodt.deploy.stacks import OWN_CHANGE_SET, UNMADE, Sleep, Stack, StackState, wait_until_idle
from dynamodt.deploy.stacks import remove_stack as delete_stack
from dynamodt.dynamodb.table import delete_table, describe, description, list_tables, place_of, stage_of
from dynamodt.errors import Refused, ServiceError, UsageError, suggest
from dynamodt.model.runs import Lease, Script
from dynamodt.model.tables import Stage
from dynamodt.runs.context import Project
from dynamodt.runs.liveness import LeaseWatch, Life, holder
from dynamodt.runs.plan import runs_on_gone_tables
from dynamodt.runs.resume import check_none_unfinished
from dynamodt.script.names import tables
from dynamodt.state.lease_rows import LeaseRows
from dynamodt.state.state import StateContents, contents_of

_DATA = "it holds data that cannot be recreated: only --purge deletes it"
_DRY_RUN = "dry-run/"
_DELETING = "DELETING"
_LISTED = 1000  # names that are read to find the first different ones: all versions of an object have one name
_GOING = ("PendingDeletion", "PendingReplicaDeletion")


@dataclass(frozen=True, slots=True)
class Removal:
    """The resources that `destroy` has removed, or would remove, and those that it keeps: a line for each bucket,
    table, key and stack, with the evidence or the reason."""

    stack: str
    status: str  # destroyed, nothing or dry-run
    removed: tuple[str, ...]
    kept: tuple[str, ...]


def destroy(project: Project, purge: bool = False, agreed: Removal | None = None, sleep: Sleep = time.sleep) -> Removal:
    """Deletes the stage's stack; with `purge` also its bucket, its state table and its key, each if it belongs to the
    stage (`removal`). After an interruption the same command finishes it.

    Raises Refused while a run is active, and if the resources to delete differ from those that were `agreed`; also the
    errors of `deploy`. Only the deletion of a key can be undone: KMS waits 30 days.
    """
    if project.stage.embedded:
        reset = suggest("local reset") + " deletes its tables and files"
        raise UsageError("the embedded stage has no stack", where=f"stage {project.stage.name}", hint=reset)
    notify, stack = project.observer.notify, stack_of(project.stage, sleep)
    state = wait_until_idle(stack, notify, sleep, partial(check_ours, project.stage, stack))
    whole = _planned(project, stack, state, purge, sleep)
    found = Removal(stack.name, "dry-run", whole.removed, whole.kept)
    if agreed is not None and found.removed != agreed.removed:
        hint = "nothing was deleted; run the same command again, and check its list"
        raise Refused("the resources to delete have changed", where=stack.where, hint=hint)
    if project.options.dry_run:
        return found
    if state is not None and _stack_line(stack) in whole.removed:
        delete_stack(stack, state, notify, sleep)
    _delete(project, whole, sleep)
    return replace(found, status="destroyed" if found.removed else "nothing")


def _planned(project: Project, stack: Stack, state: StackState | None, purge: bool, sleep: Sleep) -> Plan:
    stage, folder = project.stage, project.folder
    if state is not None and state.status != UNMADE:
        check_ours(stage, stack, state)
        check_tables(stage, folder, stack, state, tables_here(stage, folder))
    own = stack.resources() if state is not None else {}
    refuse_active_runs(project, own, sleep)
    if purge:
        refuse_unfinished_runs(project)
        lasting = plan(gather_evidence(project, stack.name, own, sleep))
        if lasting.state_table:
            _check_deletable(stage)
    else:
        lasting = plan(existing_resources(stage, own))
        lasting = Plan(kept=(*(f"{text.partition(': ')[0]}: {_DATA}" for text in lasting.removed), *lasting.kept))
    if state is None:
        return lasting
    if state.status == UNMADE and not all(name.startswith(OWN_CHANGE_SET) for name in stack.change_sets()):
        kept = f"{_stack_line(stack)}: it is empty, and has a change set of another program"
        return replace(lasting, kept=(kept, *lasting.kept))
    return replace(lasting, removed=(_stack_line(stack), *lasting.removed))


def _check_deletable(stage: Stage) -> None:
    """Raises Refused if the state table is protected against deletion: its turn comes after that of its runs' files."""
    if description(stage.connection, stage.state_table).get("DeletionProtectionEnabled"):
        off = ("--table-name", stage.state_table, "--no-deletion-protection-enabled")
        hint = "nothing was deleted; turn it off: " + stage.connection.aws_command("dynamodb update-table", *off)
        raise Refused("it is protected against deletion", where=f"state table {stage.state_table}", hint=hint)


def _stack_line(stack: Stack) -> str:
    return f"stack {stack.name}"


def _delete(project: Project, whole: Plan, sleep: Sleep) -> None:
    """Deletes the state table after the objects, since it has the runs and the exports whose objects are the stage's;
    the bucket last: it names the key, and its tag is the evidence for the rest."""
    connection, notify = project.stage.connection, project.observer.notify
    if whole.state_table:
        _check_unshared(project, sleep)
    if whole.objects is not None:
        buckets.delete_objects(connection, whole.objects, notify)
    if whole.state_table:
        notify(f"deleting the table {whole.state_table}")
        delete_table(connection, whole.state_table)
    for key in whole.keys:
        days = buckets.schedule_deletion(connection, key)
        cancel = connection.aws_command("kms cancel-key-deletion", "--key-id", key)
        notify(f"KMS will delete {key} in {days} days; to cancel: {cancel}")
    if whole.bucket:
        buckets.delete_bucket(connection, whole.bucket)


def _check_unshared(project: Project, sleep: Sleep) -> None:
    """Raises Refused if another table or a run has begun to use the state table while the stack was deleted."""
    stage = project.stage
    strangers, active = users_of_state(project, contents_of(stage.connection, stage.state_table), sleep)
    if strangers or active:
        what = f"it is now used by {', '.join(strangers or active)}"
        hint = "it was kept; run the same command again for the reasons"
        raise Refused(what, where=f"state table {stage.state_table}", hint=hint)


# ---------------------------------------------------------------- runs


def refuse_active_runs(project: Project, own: Mapping[str, str], sleep: Sleep) -> None:
    """Raises Refused if a job of the stage is running, or a table of this project has a live lease."""
    stage = project.stage
    refuse_active_jobs(stage, own)
    if place_of(stage.connection, stage.state_table) is None:
        return
    for lease in live_leases(project.state.leases, tables(project.folder / "transforms", stage.names), sleep):
        hint = "wait for it, or stop it: " + suggest("abort", table=lease.table)
        what = f"a run is active and needs the stack: {holder(lease)}"
        raise Refused(what, where=f"table {lease.table}", hint=hint)


def refuse_unfinished_runs(project: Project) -> None:
    """Raises Refused if a run has changed items of an existing table of this project, and is unfinished: without its
    rows and its journal it can be neither finished nor undone, and another run would transform these items again."""
    stage, state = project.stage, project.state
    if place_of(stage.connection, stage.state_table) is None:
        return
    for name in tables(project.folder / "transforms", stage.names):
        if place_of(stage.connection, name) is None:
            continue
        gone = runs_on_gone_tables(stage, describe(stage.connection, name), state.runs(name))
        scripts: tuple[Script, ...] = ()
        with suppress(UsageError):  # of a version that cannot be read
            scripts = project.versions(name)
        try:
            check_none_unfinished(state, name, scripts, gone)
        except Refused as error:
            what = f"{error.what}; a purge deletes its checkpoints and its journal"
            raise error.hinted(error.hint, what=what) from error


def live_leases(leases: LeaseRows, names: Iterable[str], sleep: Sleep) -> list[Lease]:
    """The leases whose holder is alive. A holder on another machine is observed by this process's own clock: for about
    one heartbeat if it is alive, for the duration of its lease if it is not (ADR 026)."""
    watch, live, left = LeaseWatch(), [], list(names)
    while left:
        polled = [watch.poll(leases, name) for name in left]
        live += [lease for lease, life in polled if life is Life.SEEN]
        unknown = [lease for lease, life in polled if life is Life.UNKNOWN]
        if unknown:
            sleep(min(1.0, max(watch.seconds_left(leases, lease) for lease in unknown)))
        left = [lease.table for lease in unknown]
    return live


# ---------------------------------------------------------------- the evidence


def gather_evidence(project: Project, stack: str, own: Mapping[str, str], sleep: Sleep) -> Evidence:
    """All of the evidence; `own` are the resources of the stack. Raises ServiceError."""
    stage, folder, notify = project.stage, project.folder, project.observer.notify
    found = existing_resources(stage, own)
    table, bucket = found.state_table, found.bucket
    contents = contents_of(stage.connection, stage.state_table) if table is not None else None
    if table is not None and contents is not None and table.origin.is_of(stage.name):
        strangers, active = users_of_state(project, contents, sleep)
        table = table._replace(strangers=strangers, active=active)
    if bucket is not None and bucket.origin.is_of(stage.name):
        bucket = _with_contents(stage, bucket, _own_objects(stage, folder, contents))
    proved = any(key.origin.is_of(stage.name) for key in found.keys)
    keys = found.keys if proved else (*found.keys, *_orphaned_keys(stage, notify))
    keys = _with_users(stage, keys, notify)
    return Evidence(stage.name, table, bucket, keys, neighbours(stage, folder, stack))


def _with_contents(stage: Stage, bucket: FoundBucket, own: OwnObjects) -> FoundBucket:
    strangers = tuple(islice(dict.fromkeys(islice(buckets.outside(stage.connection, own), _LISTED)), SHOWN + 1))
    files = buckets.tables_with_files(stage.connection, own.bucket, own.prefix, own.tables)
    some = own if not strangers or buckets.has_objects(stage.connection, own) else None
    return bucket._replace(strangers=strangers, tables=tuple(sorted(files)), own=some)


def existing_resources(stage: Stage, own: Mapping[str, str]) -> Evidence:
    """The resources that exist, and their origins, without their contents and without other stages."""
    table, bucket = _state_table(stage, own), _bucket(stage, own)
    linked = [one.key for one in (table, bucket) if one is not None]
    return Evidence(stage.name, table, bucket, _keys(stage, own, linked), ())


def _state_table(stage: Stage, own: Mapping[str, str]) -> FoundTable | None:
    place = place_of(stage.connection, stage.state_table)
    if place is None or place.status == _DELETING:
        return None
    origin = Origin(stage_of(stage.connection, place), own.get("State") == stage.state_table)
    return FoundTable(stage.state_table, origin, place.key_arn, (), ())


def users_of_state(project: Project, contents: StateContents, sleep: Sleep) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tables without a folder here whose rows the state table holds, and the tables with a live lease."""
    names = sorted(contents.tables)
    histories = (name for name in names if not name.startswith(_DRY_RUN))
    strangers = tuple(sorted(set(histories) - tables_here(project.stage, project.folder)))
    return strangers, tuple(one.table for one in live_leases(project.state.leases, names, sleep))


def _own_objects(stage: Stage, folder: Path, contents: StateContents | None) -> OwnObjects:
    """The objects that this stage has written, by its tables and by its state table."""
    name, prefix = bucket_of(stage)
    own = OwnObjects(name, prefix, frozenset(tables_here(stage, folder)))
    if contents is not None:
        own = replace(own, runs=contents.runs, exports=contents.exports)
    return replace(own, shared=buckets.shared_files(stage.connection, own))


def _bucket(stage: Stage, own: Mapping[str, str]) -> FoundBucket | None:
    here = bucket_of(stage)
    try:
        facts = buckets.bucket_facts(stage.connection, here.name)
    except UsageError as error:
        return FoundBucket(here, Origin("", False), "", out_of_reach=error.what)
    if facts is None:
        return None
    key = buckets.key_facts(stage.connection, facts.kms_key) if facts.kms_key else None
    return FoundBucket(here, Origin(facts.stage, own.get("Storage") == here.name), key.arn if key else "")


def _keys(stage: Stage, own: Mapping[str, str], linked: Iterable[str]) -> tuple[FoundKey, ...]:
    """The keys that encrypt the table or the bucket, the stack's, and the one that dynamodt.toml names."""
    named = _facts(stage, [stage.storage.kms_key or ""])
    found = _facts(stage, [own.get("Key", ""), *linked]) | named
    return _described(stage, own, found, named)


def _facts(stage: Stage, keys: Iterable[str]) -> dict[str, KeyFacts]:
    asked = filter(None, dict.fromkeys(keys))
    return {found.arn: found for key in asked if (found := buckets.key_facts(stage.connection, key)) is not None}


def _orphaned_keys(stage: Stage, notify: Callable[[str], None]) -> tuple[FoundKey, ...]:
    """The key whose table and bucket were deleted by a removal that was interrupted."""
    bucket = bucket_of(stage).name
    try:
        found = buckets.keys_made_for(stage.connection, stage.name, bucket)
    except ServiceError as error:
        notify(f"keys with the tags of {stage.name} and {bucket} cannot be listed: {error}")
        return ()
    return _described(stage, {}, {one.arn: one for one in found}, {})


def _described(
    stage: Stage, own: Mapping[str, str], found: Mapping[str, KeyFacts], named: Iterable[str]
) -> tuple[FoundKey, ...]:
    """The keys whose deletion is not scheduled yet."""
    there = [facts for facts in found.values() if facts.state not in _GOING]
    return tuple(_key(facts, own, named, _other_bucket(stage, facts.bucket)) for facts in there)


def _key(found: KeyFacts, own: Mapping[str, str], named: Iterable[str], bucket: str) -> FoundKey:
    of_stack = bool(own.get("Key")) and found.arn.endswith(f"/{own['Key']}")
    return FoundKey(found.arn, Origin(found.stage, of_stack), found.arn in named, bucket, denied=found.denied)


def _with_users(stage: Stage, keys: tuple[FoundKey, ...], notify: Callable[[str], None]) -> tuple[FoundKey, ...]:
    """The keys, each with the tables that it encrypts other than this stage's state table, which may include an earlier
    state table. If the tables cannot be listed, each key counts as in use."""
    if not any(key.origin.is_of(stage.name) for key in keys):
        return keys
    try:
        names = [name for name in list_tables(stage.connection) if name != stage.state_table]
        places = {name: place_of(stage.connection, name) for name in names}
    except ServiceError as error:
        notify(f"the tables that a key encrypts cannot be looked up, so that keys are kept: {error}")
        return tuple(key._replace(tables=("tables that cannot be looked up",)) for key in keys)
    by_key = {key.arn: [name for name, place in places.items() if place and place.key_arn == key.arn] for key in keys}
    return tuple(key._replace(tables=tuple(by_key[key.arn])) for key in keys)


def _other_bucket(stage: Stage, bucket: str) -> str:
    """The bucket, if it is another one than the stage's and exists; else empty."""
    if bucket in ("", bucket_of(stage).name):
        return ""
    try:
        return bucket if buckets.bucket_facts(stage.connection, bucket) is not None else ""
    except UsageError:  # one of another account or region
        return bucket
