"""Calls about one table: its description, one item by key, its tags, its recovery and its backups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

from dynamodt.dynamodb.clients import STAGE_TAG, client, explained
from dynamodt.dynamodb.network import Tolerated, is_denied
from dynamodt.errors import UsageError
from dynamodt.model.tables import (
    MOST_INDEX_BYTES,
    Connection,
    Image,
    Index,
    IndexKey,
    KeyAttribute,
    TableSpec,
    name_in_requests,
)

NO_RESOURCE = "ResourceNotFoundException"
ACTIVE_SOON = {"Delay": 1, "MaxAttempts": 120}  # of a waiter
USABLE = ("ACTIVE", "UPDATING")  # the states of a table that takes reads and writes
_ARCHIVED = (
    "its KMS key was not usable for a week: make the key usable, delete the table, and restore its backup, which `aws "
    "dynamodb describe-table` shows as ArchivalSummary"
)
STATE_HINTS = {
    "CREATING": "wait until it is ACTIVE",
    "DELETING": "it is being deleted: check its name and the stage",
    "ARCHIVING": _ARCHIVED,
    "ARCHIVED": _ARCHIVED,
    "INACCESSIBLE_ENCRYPTION_CREDENTIALS": "DynamoDB cannot use its KMS key: enable the key, or correct its policy; "
    "after a week DynamoDB archives the table",
    "REPLICATION_NOT_AUTHORIZED": "its replication is not permitted any more: correct the resource policies of the "
    "replicas, in all of their accounts",
}
"""The next step for each other state of a table."""
_WHOLE = {"ProjectionType": "ALL"}


def describe(connection: Connection, name: str) -> TableSpec:
    """The table's key, size and capacity. Raises ServiceError when it does not exist or access is denied."""
    return spec_of(connection, name, description(connection, name))


def spec_of(connection: Connection, name: str, table: dict[str, Any]) -> TableSpec:
    """The key, size and capacity in a TableDescription."""
    provisioned, units = table.get("ProvisionedThroughput", {}).get("ReadCapacityUnits", 0), capacity_of(table)
    created, local = _moment(table.get("CreationDateTime")), table.get("LocalSecondaryIndexes") or ()
    return TableSpec(
        name=name,
        key=_key(table),
        item_count=table.get("ItemCount", 0),
        size_bytes=table.get("TableSizeBytes", 0),
        status=table.get("TableStatus", "ACTIVE"),
        indexes=len(_indexes(table)),
        read_units=units.read,
        write_units=units.write,
        limiting_index=units.limited_by,
        provisioned=bool(provisioned),
        index_keys=_index_keys(table),
        replicas=_replicas(table, connection.of_table(name).region),
        strong=table.get("MultiRegionConsistency") == "STRONG",
        stream=_stream(table),
        identity=table.get("TableId") or created,
        account=(table.get("TableArn") or "::::").split(":")[4],
        created=created,
        infrequent_access=(table.get("TableClassSummary") or {}).get("TableClass") == "STANDARD_INFREQUENT_ACCESS",
        projections=tuple(_projection(index, index in local) for index in _indexes(table)),
    )


def description(connection: Connection, name: str, **settings: Any) -> dict[str, Any]:
    """The TableDescription, by a client with these settings. Raises ServiceError."""
    with explained("DescribeTable", f"table {name}"):
        answer = _client(connection, name, **settings).describe_table(TableName=name_in_requests(name))
    found: dict[str, Any] = answer["Table"]
    return found


def describe_briefly(connection: Connection, name: str) -> TableSpec:
    """As `describe`. Raises ServiceError within about ten seconds."""
    return spec_of(connection, name, description(connection, name, **_BRIEFLY))


def _client(connection: Connection, table: str, **settings: Any) -> Any:
    """The client for the account and region of a table."""
    return client(connection.of_table(table), "dynamodb", **settings)


class Capacity(NamedTuple):
    """The units a second that a table accepts: the provisioned ones, or the maximum of an on-demand table; 0: no limit.
    `limited_by` names the global index that limits `write`, if it is not the table."""

    read: int
    write: int
    limited_by: str = ""


def capacity(connection: Connection, name: str) -> Capacity:
    """A table's present capacity, which auto scaling changes. Raises ServiceError within about ten seconds."""
    return capacity_of(description(connection, name, **_BRIEFLY))


def capacity_of(table: dict[str, Any]) -> Capacity:
    """The capacity in a TableDescription. A full global index throttles the writes to its table; an index with a part
    of the items receives that part of the writes. An on-demand table has 0 provisioned units, and -1 for no maximum."""
    own, items = _own_capacity(table), table.get("ItemCount") or 0
    limits = [(own.write, "")] if own.write else []
    for index in table.get("GlobalSecondaryIndexes") or ():
        if write := _own_capacity(index).write:
            parts = max(1.0, items / index["ItemCount"]) if items and index.get("ItemCount") else 1.0
            limits.append((int(write * parts), index["IndexName"]))
    write, name = min(limits, default=(0, ""))
    return Capacity(own.read, write, name)


def _own_capacity(table: dict[str, Any]) -> Capacity:
    provisioned, on_demand = table.get("ProvisionedThroughput") or {}, table.get("OnDemandThroughput") or {}
    read = provisioned.get("ReadCapacityUnits") or on_demand.get("MaxReadRequestUnits") or 0
    write = provisioned.get("WriteCapacityUnits") or on_demand.get("MaxWriteRequestUnits") or 0
    return Capacity(max(0, read), max(0, write))


def index_capacity(connection: Connection, table: TableSpec, index: str, where: str) -> int:
    """The read units a second that an index accepts: its own, or the table's for a local one; 0: no limit. Raises
    UsageError, with the existing indexes, for an index that does not exist; ServiceError."""
    found = description(connection, table.name)
    indexes = {one["IndexName"]: one for one in _indexes(found)}
    if index not in indexes:
        hint = f"its indexes are {', '.join(sorted(indexes))}" if indexes else "it has no index"
        raise UsageError(f"there is no index {index!r}", where=where, hint=hint)
    is_global = "ProvisionedThroughput" in indexes[index] or "OnDemandThroughput" in indexes[index]
    return _own_capacity(indexes[index]).read if is_global else table.read_units


_BRIEFLY: dict[str, Any] = {"attempts": 2, "seconds": 5}  # of a client, for calls that a run does not depend on


# States in which nothing is received any more. A change between the others takes minutes; while TTL is DISABLING, items
# expire for up to an hour.
_NO_DESTINATION = ("DISABLING", "DISABLED", "ENABLE_FAILED")
_NO_TRIGGER = ("Disabling", "Disabled", "Deleting")


class Consumers(NamedTuple):
    """The consumers of a table's writes: the names of Lambda functions and of Kinesis streams. `ttl` is the attribute
    by which its items expire; `lacking` are the actions without which others may exist."""

    functions: tuple[str, ...] = ()
    kinesis: tuple[str, ...] = ()
    ttl: str = ""
    lacking: tuple[str, ...] = ()

    @property
    def unknown(self) -> str:
        """A sentence if consumers may be missing; else empty."""
        actions = ", ".join(self.lacking)
        return (
            f"consumers of its writes may be missing here, or TTL: the caller cannot call {actions}" if actions else ""
        )


def consumers(connection: Connection, table: TableSpec) -> Consumers:
    """The consumers of a table, as far as the caller may list them."""
    connection = connection.of_table(table.name)
    dynamodb, asked = client(connection, "dynamodb", **_BRIEFLY), _Asked()
    named = {"TableName": name_in_requests(table.name)}
    kinesis = asked.answer("dynamodb:DescribeKinesisStreamingDestination", dynamodb, **named)
    ttl = asked.answer("dynamodb:DescribeTimeToLive", dynamodb, **named).get("TimeToLiveDescription", {})
    destinations = kinesis.get("KinesisDataStreamDestinations", ())
    active = [one for one in destinations if one["DestinationStatus"] not in _NO_DESTINATION]
    functions = _functions(connection, table.stream, asked) if table.stream else ()
    return Consumers(
        functions,
        tuple(sorted(one["StreamArn"].rpartition("/")[2] for one in active)),
        ttl.get("AttributeName", "") if ttl.get("TimeToLiveStatus", "DISABLED") != "DISABLED" else "",
        (*asked.lacking, *([] if table.replicas_known else [_GLOBAL])),
    )


def _functions(connection: Connection, stream: str, asked: _Asked) -> tuple[str, ...]:
    """The functions that a stream triggers; at most a hundred of them."""
    made = client(connection, "lambda", **_BRIEFLY)
    found = asked.answer("lambda:ListEventSourceMappings", made, EventSourceArn=stream)
    enabled = [one for one in found.get("EventSourceMappings", ()) if one.get("State") not in _NO_TRIGGER]
    return tuple(sorted({one["FunctionArn"].partition(":function:")[2] for one in enabled}))


class _Asked:
    """Requests for facts that a run can do without. `lacking`: the actions that are not permitted or out of reach."""

    def __init__(self) -> None:
        self.lacking: list[str] = []

    def answer(self, action: str, of: Any, **request: Any) -> dict[str, Any]:
        """The answer of a client to the request of an action; empty if there is none, as from an emulator that lacks
        the call."""
        try:
            found: dict[str, Any] = getattr(of, xform_name(action.partition(":")[2]))(**request)
            return found
        except (BotoCoreError, ClientError) as error:
            if not isinstance(error, ClientError) or is_denied(error):
                self.lacking.append(action)
            return {}


_GLOBAL = "dynamodb:DescribeGlobalTable"


def with_legacy_replicas(connection: Connection, table: TableSpec) -> TableSpec:
    """The table with the other regions of a global table of version 2017.11.29, which DescribeTable does not name, as
    far as the caller may read them. Each such table has a stream."""
    if not table.stream or table.replicas:
        return table
    connection = connection.of_table(table.name)
    dynamodb, asked = client(connection, "dynamodb", **_BRIEFLY), _Asked()
    found = asked.answer(_GLOBAL, dynamodb, GlobalTableName=name_in_requests(table.name))
    group = found.get("GlobalTableDescription", {}).get("ReplicationGroup", ())
    others = tuple(sorted({one["RegionName"] for one in group} - {connection.region}))
    return replace(table, replicas=others, replicas_known=not asked.lacking)


class TablePlace(NamedTuple):
    """A table's ARN, and that of the KMS key that encrypts it (empty: DynamoDB's own), for policies."""

    arn: str
    key_arn: str
    status: str = "ACTIVE"


def place_of(connection: Connection, name: str) -> TablePlace | None:
    """The ARNs of a table; None when it does not exist. Raises ServiceError when it cannot be described."""
    with explained("DescribeTable", f"table {name}"), Tolerated(NO_RESOURCE):
        table = _client(connection, name).describe_table(TableName=name_in_requests(name))["Table"]
        key = (table.get("SSEDescription") or {}).get("KMSMasterKeyArn", "")
        return TablePlace(table["TableArn"], key, table.get("TableStatus", "ACTIVE"))
    return None


def stage_of(connection: Connection, place: TablePlace) -> str:
    """The stage of a table, by its tag; empty without one. Raises ServiceError."""
    with explained("ListTagsOfResource", f"table {place.arn}"):
        pages = client(connection, "dynamodb").get_paginator("list_tags_of_resource").paginate(ResourceArn=place.arn)
        return next((str(tag["Value"]) for page in pages for tag in page["Tags"] if tag["Key"] == STAGE_TAG), "")


Key = Sequence[KeyAttribute]


def create_table(dynamodb: Any, name: str, key: Key, where: str, indexes: Mapping[str, Key] = {}) -> None:
    """Creates an on-demand table with these global indexes, which hold all attributes, and waits until it is active,
    even if another process has just created it. Raises ServiceError."""
    types = dict((*key, *(attribute for index in indexes.values() for attribute in index)))
    made = [{"IndexName": index, "KeySchema": _schema(of), "Projection": _WHOLE} for index, of in indexes.items()]
    with explained("CreateTable", where):
        with suppress(dynamodb.exceptions.ResourceInUseException):
            dynamodb.create_table(
                TableName=name,
                KeySchema=_schema(key),
                AttributeDefinitions=[{"AttributeName": each, "AttributeType": kind} for each, kind in types.items()],
                BillingMode="PAY_PER_REQUEST",
                **({"GlobalSecondaryIndexes": made} if made else {}),
            )
        dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig=ACTIVE_SOON)


def _schema(key: Key) -> list[dict[str, str]]:
    return [{"AttributeName": k.name, "KeyType": role} for k, role in zip(key, ("HASH", "RANGE"), strict=False)]


def delete_table(connection: Connection, name: str) -> None:
    """Deletes a table with all its items. Raises ServiceError."""
    with explained("DeleteTable", f"table {name}"):
        client(connection, "dynamodb").delete_table(TableName=name)


def get_attributes(connection: Connection, name: str, key: Image, attributes: Sequence[str]) -> Image | None:
    """Some attributes of an item, and those of its key, strongly consistent; None when the item does not exist."""
    names = {f"#{number}": attribute for number, attribute in enumerate([*key, *attributes])}
    with explained("GetItem", f"table {name}"):
        answer = _client(connection, name).get_item(
            TableName=name_in_requests(name),
            Key=key,
            ConsistentRead=True,
            ProjectionExpression=", ".join(names),
            ExpressionAttributeNames=names,
        )
    image: Image | None = answer.get("Item")
    return image


def list_tables(connection: Connection) -> list[str]:
    """The names of all tables of the account and region."""
    names: list[str] = []
    with explained("ListTables", f"region {connection.region}"):
        for page in client(connection, "dynamodb").get_paginator("list_tables").paginate():
            names += page["TableNames"]
    return names


def _index_keys(table: dict[str, Any]) -> tuple[IndexKey, ...]:
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    return tuple(
        IndexKey(e["AttributeName"], types[e["AttributeName"]], MOST_INDEX_BYTES[e["KeyType"]], index["IndexName"])
        for index in _indexes(table)
        for e in index["KeySchema"]
    )


def _projection(index: dict[str, Any], local: bool) -> Index:
    keys = tuple(element["AttributeName"] for element in index["KeySchema"])
    projection = index.get("Projection") or {}
    everything = projection.get("ProjectionType", "ALL") == "ALL"
    others = None if everything else tuple(projection.get("NonKeyAttributes", ()))
    return Index(index["IndexName"], keys, others, local)


def _stream(table: dict[str, Any]) -> str:
    enabled = (table.get("StreamSpecification") or {}).get("StreamEnabled")
    return str(table.get("LatestStreamArn", "")) if enabled else ""


def _replicas(table: dict[str, Any], region: str) -> tuple[str, ...]:
    found = {replica["RegionName"] for replica in table.get("Replicas") or ()}
    return tuple(sorted(found - {region}))


def _indexes(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [*(table.get("GlobalSecondaryIndexes") or ()), *(table.get("LocalSecondaryIndexes") or ())]


def _moment(value: datetime | None) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds") if value else ""


def _key(table: dict[str, Any]) -> tuple[KeyAttribute, ...]:
    types = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    schema = sorted(table["KeySchema"], key=lambda element: element["KeyType"] != "HASH")
    return tuple(KeyAttribute(e["AttributeName"], types[e["AttributeName"]]) for e in schema)


def has_point_in_time_recovery(connection: Connection, table: str) -> bool:
    """Whether point-in-time recovery is on. Raises ServiceError without dynamodb:DescribeContinuousBackups."""
    with explained("DescribeContinuousBackups", f"table {table}"):
        answer = _client(connection, table).describe_continuous_backups(TableName=name_in_requests(table))
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


def turn_on_recovery(connection: Connection, table: str) -> str:
    """The command of the AWS CLI that turns point-in-time recovery on."""
    on = ("--point-in-time-recovery-specification", "PointInTimeRecoveryEnabled=true")
    return connection.aws_command("dynamodb update-continuous-backups", "--table-name", table, *on)


def latest_backup(connection: Connection, table: str) -> str:
    """The ARN of the newest backup of a table, which may be deleted: DynamoDB backs up a table with point-in-time
    recovery at its deletion, and keeps the backup for 35 days. Empty without a backup. Raises ServiceError."""
    pages = client(connection, "dynamodb").get_paginator("list_backups").paginate(TableName=table, BackupType="ALL")
    with explained("ListBackups", f"table {table}"):
        found = [one for page in pages for one in page["BackupSummaries"] if one["BackupStatus"] == "AVAILABLE"]
    found.sort(key=lambda one: one["BackupCreationDateTime"])
    return str(found[-1]["BackupArn"]) if found else ""
