"""What is known of the things that outlive a stage's stack: looked up in the account, and decided upon in `removal`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dynamodt.aws.buckets import bucket_facts, folders, outside
from dynamodt.aws.keys import KeyFacts, key_facts, keys_made_for
from dynamodt.aws.state import State
from dynamodt.aws.state_contents import tables_in
from dynamodt.aws.table import TablePlace, place_of, stage_of
from dynamodt.control.deploying.at_work import live_leases
from dynamodt.control.deploying.deployed import bucket_of, tables_here
from dynamodt.control.deploying.neighbours import neighbours
from dynamodt.control.deploying.removal import Evidence, FoundBucket, FoundKey, FoundTable, Origin
from dynamodt.core.versions import tables
from dynamodt.errors import ServiceError, UsageError
from dynamodt.model import Stage

_DRY_RUN = "dry-run/"
_KINDS = ("runs", "prepared")
_DELETING = "DELETING"
_GOING = ("PendingDeletion", "PendingReplicaDeletion")


def gather(
    stage: Stage,
    folder: Path,
    stack: str,
    own: Mapping[str, str],
    note: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Evidence:
    """All of it; `own` are the resources of the stack as it is, or none. Raises ServiceError."""
    found = glance(stage, folder, own)
    table, bucket = found.state_table, found.bucket
    if table is not None and table.origin.is_of(stage.name):
        strangers, at_work = users_of_state(stage, folder, sleep)
        table = table._replace(strangers=strangers, at_work=at_work)
    if bucket is not None and bucket.origin.is_of(stage.name):
        here = bucket.bucket
        stranger = outside(stage.connection, here.name, here.prefix)
        bucket = bucket._replace(stranger=stranger, tables=_strangers_files(stage, folder))
    proved = any(key.origin.is_of(stage.name) for key in found.keys)
    keys = found.keys if proved else (*found.keys, *_left_alone(stage, folder, note))
    return Evidence(stage.name, table, bucket, keys, neighbours(stage, folder, stack))


def glance(stage: Stage, folder: Path, own: Mapping[str, str]) -> Evidence:
    """What is there, and where it comes from; nothing is looked into, and nothing beside it."""
    table, bucket = _state_table(stage, own), _bucket(stage, own)
    linked = [one.key for one in (table, bucket) if one is not None]
    return Evidence(stage.name, table, bucket, _keys(stage, folder, own, linked), ())


def _state_table(stage: Stage, own: Mapping[str, str]) -> FoundTable | None:
    """One that is being deleted is gone."""
    place = place_of(stage.connection, stage.state_table)
    if place is None or place.status == _DELETING:
        return None
    origin = Origin(stage_of(stage.connection, place), own.get("State") == stage.state_table)
    return FoundTable(stage.state_table, origin, place.key_arn, (), ())


def users_of_state(
    stage: Stage, folder: Path, sleep: Callable[[float], None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tables of no folder here whose rows the state table holds, and those that a run is at work on. It reads the
    whole state table."""
    names = sorted(tables_in(stage.connection, stage.state_table))
    leases = State(stage.connection, stage.state_table).leases
    histories = (name for name in names if not name.startswith(_DRY_RUN))
    return _strangers(histories, folder), tuple(one.table for one in live_leases(leases, names, sleep))


def _strangers(names: Iterable[str], folder: Path) -> tuple[str, ...]:
    ours = tables_here(folder)
    return tuple(sorted(name for name in names if name not in ours))


def _bucket(stage: Stage, own: Mapping[str, str]) -> FoundBucket | None:
    here = bucket_of(stage)
    try:
        facts = bucket_facts(stage.connection, here.name)
    except UsageError as error:
        return FoundBucket(here, Origin("", False), "", "", out_of_reach=error.what)
    if facts is None:
        return None
    key = key_facts(stage.connection, facts.kms_key) if facts.kms_key else None
    return FoundBucket(here, Origin(facts.stage, own.get("Storage") == here.name), key.arn if key else "", "")


def _strangers_files(stage: Stage, folder: Path) -> tuple[str, ...]:
    """By the folders that runs and `prepare` make for each table."""
    name, prefix = bucket_of(stage)
    found = (folders(stage.connection, name, f"{prefix}{kind}/") for kind in _KINDS)
    return _strangers({one for some in found for one in some}, folder)


def _keys(stage: Stage, folder: Path, own: Mapping[str, str], linked: Iterable[str]) -> tuple[FoundKey, ...]:
    """Those that something here is encrypted with, the stack's, and the one that dynamodt.toml names."""
    named = _facts(stage, [stage.storage.kms_key or ""])
    found = _facts(stage, [own.get("Key", ""), *linked]) | named
    return _described(stage, folder, own, found, named)


def _facts(stage: Stage, keys: Iterable[str]) -> dict[str, KeyFacts]:
    asked = filter(None, dict.fromkeys(keys))
    return {found.arn: found for key in asked if (found := key_facts(stage.connection, key)) is not None}


def _left_alone(stage: Stage, folder: Path, note: Callable[[str], None]) -> tuple[FoundKey, ...]:
    """The key whose table and bucket an interrupted removal has deleted."""
    bucket = bucket_of(stage).name
    try:
        found = keys_made_for(stage.connection, stage.name, bucket)
    except ServiceError as error:
        note(f"whether a key with the tags of {stage.name} and {bucket} is left cannot be told: {error}")
        return ()
    return _described(stage, folder, {}, {one.arn: one for one in found}, {})


def _described(
    stage: Stage, folder: Path, own: Mapping[str, str], found: Mapping[str, KeyFacts], named: Iterable[str]
) -> tuple[FoundKey, ...]:
    """Those that are not being deleted already."""
    there = [facts for facts in found.values() if facts.state not in _GOING]
    places = {name: place_of(stage.connection, name) for name in tables(folder / "transforms")} if there else {}
    return tuple(_key(facts, own, named, places) for facts in there)


def _key(
    found: KeyFacts, own: Mapping[str, str], named: Iterable[str], places: Mapping[str, TablePlace | None]
) -> FoundKey:
    of_stack = bool(own.get("Key")) and found.arn.endswith(f"/{own['Key']}")
    encrypted = tuple(name for name, place in places.items() if place is not None and place.key_arn == found.arn)
    return FoundKey(found.arn, Origin(found.stage, of_stack), found.arn in named, encrypted)
