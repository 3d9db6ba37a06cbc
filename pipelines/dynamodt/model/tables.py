"""Tables and their items, the changes that a version makes to items, connections and stages.

An item has two forms. An **Image** is DynamoDB's JSON, `{"id": {"S": "u1"}}`, with binary as base64 text. An **Item**
is the Python dict that an author's function gets, `{"id": "u1"}`. `script.codec` converts between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import join
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

STATE_TABLE = "dynamodt-state"  # unless a stage names another one
WORK_FOLDER = ".dynamodt"  # in a project's folder; only its owner can read it, and git ignores it
KEY_TYPES = ("S", "N", "B")


def is_elsewhere(table: str) -> bool:
    """Whether a table is in another account or region than its stage. Its real name is then its ARN."""
    return table.startswith("arn:")


def name_in_requests(table: str) -> str:
    """A table's name in requests to its own account and region: the last part of an ARN."""
    return table.rpartition("/")[2] if is_elsewhere(table) else table


class KeyAttribute(NamedTuple):
    name: str
    type: str  # one of KEY_TYPES


class TableExtras(NamedTuple):
    """The settings with which a table of the embedded stage is created, besides its key: the keys of its global indexes
    by name, and the attribute by which its items expire (empty: none)."""

    indexes: Mapping[str, tuple[KeyAttribute, ...]] = {}
    ttl: str = ""


MOST_INDEX_BYTES = {"HASH": 2048, "RANGE": 1024}  # bytes of a value of an index's partition key and sort key


class IndexKey(NamedTuple):
    """A key attribute of an index. An item without it is not in the index; an item whose value has another type, is
    empty, or has more than `most` bytes is refused."""

    name: str
    type: str  # one of KEY_TYPES
    most: int
    of: str  # the index


class Index(NamedTuple):
    """An index of a table: its key attributes, and the further attributes of an entry besides these and the table's key
    (`projected`; None: all attributes of the item). The entries of `local` ones count to the size of their item."""

    name: str
    keys: tuple[str, ...]
    projected: tuple[str, ...] | None = None
    local: bool = False


_ASSUMED_BYTES = 1024.0  # an item's size, if DescribeTable gives none


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table, from DescribeTable. Counts lag by up to six hours. `identity` distinguishes a table from a deleted one
    of the same name; empty: unknown. `read_units` and `write_units` a second are the provisioned ones, or the maximum
    of an on-demand table; 0: no limit."""

    name: str
    key: tuple[KeyAttribute, ...]
    item_count: int = 0
    size_bytes: int = 0
    status: str = "ACTIVE"
    indexes: int = 0
    read_units: int = 0
    write_units: int = 0
    limiting_index: str = ""  # the global index whose capacity `write_units` is, if it is not the table's own
    provisioned: bool = False
    index_keys: tuple[IndexKey, ...] = ()
    replicas: tuple[str, ...] = ()  # the other regions of a global table
    replicas_known: bool = True  # False: one of version 2017.11.29 is not recognised, for lack of the permission
    strong: bool = False  # a global table with multi-Region strong consistency
    stream: str = ""  # the ARN of its stream, if it has one
    identity: str = ""
    account: str = ""
    created: str = ""  # ISO 8601, UTC
    infrequent_access: bool = False  # the table class Standard-IA
    projections: tuple[Index, ...] = ()  # all indexes, as they are charged for

    @property
    def merges_writes(self) -> bool:
        """Whether a write of another region may replace one here, by its time (multi-Region eventual consistency)."""
        return bool(self.replicas) and not self.strong

    @property
    def lacks_transactions(self) -> str:
        """The reason why no transaction can hold an item of the table and a row of the state table; empty if one
        can."""
        if self.strong:
            return "a global table with multi-Region strong consistency"
        return "a table of another account or region than the stage's" if is_elsewhere(self.name) else ""

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(k.name for k in self.key)

    @property
    def item_bytes(self) -> float:
        """The average size of an item."""
        return self.size_bytes / self.item_count if self.item_count and self.size_bytes else _ASSUMED_BYTES

    def item_units(self, consistent: bool) -> float:
        """The read units of one item: one for 4 KB, or for 8 KB if the reads are eventually consistent."""
        return self.item_bytes / (4096.0 if consistent else 8192.0)


def limiting_table(read: TableSpec, written: TableSpec) -> TableSpec:
    """The table whose write capacity limits a run, the smaller one of both: a write to another table is a transaction
    with a check of the item that was read, and a check costs as much as a write."""
    limited = [table for table in (written, read) if table.write_units]
    return min(limited, key=lambda table: table.write_units, default=written)


@dataclass(frozen=True, slots=True)
class Connection:
    """The settings to reach AWS, from which each worker creates its own clients.

    `endpoint_url` is for all services except those in `endpoints`: pairs of a service, in the spelling of
    AWS_ENDPOINT_URL_SERVICE, and its URL. For any other service, botocore finds the endpoint.
    """

    region: str
    endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    access_key: str | None = None  # of an emulator on this machine only, whose credentials are public
    secret_key: str | None = None
    endpoints: tuple[tuple[str, str], ...] = ()
    embedded: bool = False  # the emulator that dynamodt starts: no proxy, profile or file of the user is used
    table_roles: tuple[tuple[str, str], ...] = ()  # the roles for tables of other accounts, by their ARNs

    def of_table(self, table: str) -> Connection:
        """The connection to the account and region of a table, by its real name."""
        if not is_elsewhere(table):
            return self
        role = dict(self.table_roles).get(table, self.role_arn)
        return replace(self, region=table.split(":")[3], role_arn=role, table_roles=())

    def endpoint(self, service: str = "DYNAMODB") -> str | None:
        """The given URL of a service; None if there is none."""
        return dict(self.endpoints).get(service, self.endpoint_url)

    def aws_command(self, operation: str, *options: str) -> str:
        """A command of the AWS CLI for a hint, with the region, the profile and the endpoint: `aws_command("kms
        enable-key", "--key-id", key)`."""
        words = ["aws", *operation.split(), *options, "--region", self.region]
        words += ["--profile", self.profile] if self.profile else []
        url = self.endpoint(operation.partition(" ")[0].upper())
        return join(words + (["--endpoint-url", url] if url else []))

    @property
    def is_aws(self) -> bool:
        """Whether DynamoDB is AWS's own: no URL is given for it, or one of AWS's, such as a VPC endpoint's."""
        url = self.endpoint()
        return url is None or _OF_AWS.match(url) is not None


_OF_AWS = re.compile(r"https?://[\w.-]+\.(amazonaws\.com|amazonaws\.com\.cn|api\.aws)(?=[:/]|$)")


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A stage's storage: `s3://bucket/prefix`, or a folder on the local stage. `owner` is the account that owns the
    bucket; None: that of the stage's credentials."""

    url: str
    kms_key: str | None = None
    owner: str | None = None

    @property
    def in_s3(self) -> bool:
        return self.url.startswith("s3://")

    @property
    def bucket(self) -> str:
        """Empty for a folder, and for a URL without a bucket."""
        return self.url.split("/")[2] if self.in_s3 else ""

    @property
    def prefix(self) -> str:
        """The prefix in the bucket, without slashes at its ends."""
        return "/".join(self.url.split("/")[3:]).strip("/") if self.in_s3 else ""


LOOKUPS = ("cfn:", "ssm:", "arn:")  # the sources of a name that is looked up: a stack, a parameter, an ARN


@dataclass(frozen=True, slots=True)
class TableNames:
    """The names of a stage's tables: the *logical* name is that of a table's folder and the same on every stage; the
    *real* name is DynamoDB's.

    Folders, TARGET_TABLE and the command line use logical names. Everything else, including requests, rows and objects
    of the storage, uses real names; results show both if they differ. The real name of a table in another account or
    region is its ARN.

    `sources` has, by logical name, the real name or the place to look it up (LOOKUPS); `offered` has the same from a
    framework that has deployed the service; `pattern` makes the names of all other tables. `known` has the real names
    by logical ones, once the stage is opened (`config.names`).
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    pattern: str = "{table}"
    known: Mapping[str, str] = field(default_factory=dict)
    offered: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)  # of tables in other accounts, by logical name

    @property
    def mapped(self) -> bool:
        """Whether any table may have another real name than its logical one."""
        return bool(self.sources or self.offered) or self.pattern != "{table}"

    def source(self, logical: str) -> str:
        """The real name, or the place to look it up."""
        given = self.sources.get(logical) or self.offered.get(logical)
        return given or self.pattern.replace("{table}", logical)

    def real(self, name: str) -> str:
        """The real name of a table, by either of its names. Raises KeyError if it was not looked up."""
        if name in self.known or name in self.known.values():
            return self.known.get(name, name)
        if self.source(name).startswith(LOOKUPS):
            raise KeyError(f"the stage was opened without the table {name}")
        return self.source(name)

    def logical(self, real: str) -> str:
        """The logical name of a table; the real name if the stage has no other one."""
        return next((name for name, known in self.known.items() if known == real), real)

    def shown(self, real: str) -> str:
        """Both names, `users (shop-users-prod)`, or one if they are the same."""
        logical = self.logical(real)
        return real if logical == real else f"{logical} ({real})"

    def in_text(self, text: str) -> str:
        """A message with `shown` for each real name that differs. A name that may be a common word is replaced only
        after "table". Paths, quoted names and names that are already shown stay."""
        for logical, real in self.known.items():
            if logical != real and real in text:
                word = "(?<=table )" if real.isalpha() and real.islower() else ""
                before = rf"(?<![\w./:=\"'-])(?<!state table )(?<!{re.escape(logical)} \(){word}"
                shown = self.shown(real)
                text = shown.join(re.split(rf"{before}{re.escape(real)}(?![\w/-])", text))
        return text


@dataclass(frozen=True, slots=True)
class Stage:
    """One deployment of the application: an account, a region and dynamodt's resources in it."""

    name: str
    connection: Connection
    storage: StorageSpec
    state_table: str = STATE_TABLE
    local: bool = False  # this machine
    makes_state_table: bool = False  # it is created when it is missing
    embedded: bool = False  # the emulator that dynamodt starts
    tables: dict[str, tuple[KeyAttribute, ...]] = field(default_factory=dict)  # created on the embedded stage
    extras: dict[str, TableExtras] = field(default_factory=dict)  # of these tables
    names: TableNames = TableNames()
    protected: bool = False  # its tables are written only with point-in-time recovery on
    single_region_writers: bool = False  # no application writes its global tables in another region
    glue_job: str = ""  # the name of its Glue job, where it is not `job_name`'s own
    other_state_tables: tuple[str, ...] = field(default=(), compare=False)  # of the other stages of dynamodt.toml

    @property
    def state_tables(self) -> frozenset[str]:
        """The tables that hold dynamodt's own state, and are never transformed."""
        return frozenset((self.state_table, *self.other_state_tables))

    @property
    def job_name(self) -> str:
        """The Glue job that transforms tables; the one that runs `prepare` has the suffix `-prepare`."""
        return self.glue_job or f"dynamodt-{self.name}"


AttributeValue: TypeAlias = dict[str, Any]
Image: TypeAlias = dict[str, AttributeValue]
Item: TypeAlias = dict[str, Any]
Cursor: TypeAlias = Image | int  # a key of a scan; a line of an export's file
Direction: TypeAlias = Literal["up", "down"]
Guard: TypeAlias = Literal["item", "changed"]


@dataclass(frozen=True, slots=True)
class Put:
    """Returned by a script: insert this item, if its key is free."""

    item: Item


@dataclass(frozen=True, slots=True)
class Delete:
    """Returned by a script: delete the item that the function was given, unless it has changed since it was read."""


# The types for annotations of a script, besides Item, Put and Delete: `from dynamodt import Result`.
OneResult: TypeAlias = dict[str, Any] | Put | Delete
Result: TypeAlias = OneResult | Iterable[OneResult]  # of a transform, or of a DoFn's `process`
Prepared: TypeAlias = Mapping[Any, Any]  # the rows of `prepare`, read-only in depth


class Context(Protocol):
    """The argument of `prepare`: the place where it runs, and the data that it may read."""

    @property
    def folder(self) -> Path:
        """The table's folder, for a file beside the script."""

    @property
    def table(self) -> str:
        """The table's real name."""

    @property
    def stage(self) -> str: ...

    @property
    def version(self) -> int: ...

    def items(
        self, table: str | None = None, index: str | None = None, projection: Sequence[str] | None = None
    ) -> Iterator[Item]:
        """All items of this table, of another one of the project, or of an index; with `projection`, only these
        attributes."""

    def prepared(self, version: int) -> Prepared:
        """The prepared rows of an earlier version."""

    def client(self, service: str) -> Any:
        """A boto3 client of the stage."""


class Update(NamedTuple):
    """Set and remove some attributes of an item that was read as `read`."""

    key: Image
    read: Image
    sets: Image
    removes: tuple[str, ...] = ()


class Insert(NamedTuple):
    """Insert an item into `table` if its key is free. Alone, it is a row of the version's `items()`; an insertion that
    is made from an item is a part of that item's Atomic."""

    table: str
    key: Image
    item: Image


class Check(NamedTuple):
    """Require that an item is as it was read, without writing it."""

    key: Image
    read: Image


class Remove(NamedTuple):
    """Delete an item that was read as `read`."""

    key: Image
    read: Image


class Atomic(NamedTuple):
    """One transaction, all of its parts or none: a move to another key (insert, remove), several items, or an item for
    another table.

    `key` and `read` are the source item, from which all parts are made. One part updates, removes or checks it, so that
    the transaction fails if the item has changed since it was read; all others are insertions.
    """

    key: Image
    read: Image
    parts: tuple[Update | Insert | Remove | Check, ...]


Change: TypeAlias = Update | Insert | Remove | Atomic
Journaled: TypeAlias = Update | Insert | Remove  # a record of the journal, in which a transaction is several records
Sample: TypeAlias = tuple[Image, Image | None]  # before, after
