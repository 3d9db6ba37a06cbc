"""A table as `doctor` describes it: its state, capacity, indexes, the consumers of its writes and its replicas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dynamodt.doctor.suite import WRONG, Seen, Status
from dynamodt.dynamodb.table import STATE_HINTS, USABLE, consumers, description, spec_of, with_legacy_replicas
from dynamodt.model.tables import Stage, TableSpec

OK: Status = "ok"


def judged(stage: Stage, spec: TableSpec, seen: str, if_merged: str) -> Seen:
    """The finding about a table's state, and about the writes of other regions."""
    if spec.status not in USABLE:
        return WRONG, seen, STATE_HINTS.get(spec.status, "")
    if spec.merges_writes and not stage.single_region_writers:
        return WRONG, seen, f"{if_merged} (single_region_writers = true in dynamodt.toml states it)"
    return OK, seen, ""


def replicas(spec: TableSpec) -> list[str]:
    strong = "strongly consistent " if spec.strong else ""
    return [f"{strong}replicas in {', '.join(spec.replicas)}"] if spec.replicas else []


def state_of_table(stage: Stage, name: str) -> Seen:
    """The table's status, and the properties that its writes depend on."""
    table = description(stage.connection, name)
    spec = spec_of(stage.connection, name, table)
    spec = spec if stage.local else with_legacy_replicas(stage.connection, spec)
    seen = [spec.status, _capacity(table), *_facts(table), *_receivers(stage, spec), *replicas(spec)]
    merged = "a condition is evaluated on the local replica: a run needs --single-region-writers"
    return judged(stage, spec, ", ".join(seen), merged)


def _capacity(table: Mapping[str, Any]) -> str:
    units = table.get("ProvisionedThroughput", {})
    if units.get("WriteCapacityUnits"):
        return f"provisioned {units['ReadCapacityUnits']} RCU and {units['WriteCapacityUnits']} WCU"
    most = table.get("OnDemandThroughput") or {}
    keys = [key for key in ("MaxReadRequestUnits", "MaxWriteRequestUnits") if most.get(key, -1) > 0]  # -1: no maximum
    limits = [f"at most {most[key]} {key}" for key in keys]
    return ", ".join(["on-demand", *limits])


def _facts(table: Mapping[str, Any]) -> Iterator[str]:
    for key, words in (("GlobalSecondaryIndexes", "global"), ("LocalSecondaryIndexes", "local")):
        indexes = [index["IndexName"] for index in table.get(key) or ()]
        if indexes:
            yield f"{words} indexes {', '.join(indexes)}"
    if (table.get("StreamSpecification") or {}).get("StreamEnabled"):
        yield "a stream, with a record for each change"
    if table.get("SSEDescription"):
        yield f"encrypted by {table['SSEDescription'].get('SSEType', 'KMS')}"


def _receivers(stage: Stage, spec: TableSpec) -> Iterator[str]:
    """The consumers of a write, as far as the caller may list them."""
    found = consumers(stage.connection, spec)
    for kind, names in (("Lambda", found.functions), ("Kinesis", found.kinesis)):
        if names:
            yield f"{kind} {', '.join(names)}"
    if found.ttl:
        yield f"TTL by {found.ttl}"
    if found.unknown:
        yield found.unknown
