"""The values that travel between the parts: plain, immutable, picklable, and without behaviour worth a test.

Two shapes of an item appear everywhere. An **Image** is what DynamoDB's JSON says, `{"id": {"S": "u1"}}`, binary as
base64 text. An **Item** is what an author sees, `{"id": "u1"}`. `core.codec` turns one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

AttributeValue: TypeAlias = dict[str, Any]
Image: TypeAlias = dict[str, AttributeValue]
Item: TypeAlias = dict[str, Any]
Cursor: TypeAlias = Image | int  # a key of a scan; a line of an export's file
Direction: TypeAlias = Literal["up", "down"]
Guard: TypeAlias = Literal["item", "changed"]


# ---------------------------------------------------------------- what an author may return


@dataclass(frozen=True, slots=True)
class Put:
    """Returned by a script: write this item, only where its key is absent."""

    item: Item


@dataclass(frozen=True, slots=True)
class Delete:
    """Returned by a script: delete the item that was handed in, unless it has changed meanwhile."""


# ---------------------------------------------------------------- what it becomes: one change per item


class Update(NamedTuple):
    """Set and remove some attributes of an item that was read as `read`."""

    key: Image
    read: Image
    sets: Image
    removes: tuple[str, ...] = ()


class Insert(NamedTuple):
    """Write an item of `table` where its key is absent. By itself it is a row of the version's `items()`; what is made
    of an item is a part of its Atomic."""

    table: str
    key: Image
    item: Image


class Check(NamedTuple):
    """An item is still what was read as `read`; nothing is written."""

    key: Image
    read: Image


class Remove(NamedTuple):
    """Delete an item that was read as `read`."""

    key: Image
    read: Image


class Atomic(NamedTuple):
    """All of the parts or none, in one transaction: a re-key (insert, remove), a fan-out, an item for another table.

    `key` and `read` are the source, the item that all of it was made of. One part updates, removes or checks it, so
    that nothing is made of an item that is no more what was read; all others are insertions.
    """

    key: Image
    read: Image
    parts: tuple[Update | Insert | Remove | Check, ...]


Change: TypeAlias = Update | Insert | Remove | Atomic
Journaled: TypeAlias = Update | Insert | Remove  # a record of the journal: a transaction is there in its parts


# ---------------------------------------------------------------- what travels along the pipeline


class Counts(NamedTuple):
    """Every item read ends in exactly one of the other five."""

    read: int = 0
    changed: int = 0
    unchanged: int = 0
    superseded: int = 0
    vanished: int = 0
    dead: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def balanced(self) -> bool:
        return self.read == sum(self[1:])


class Units(NamedTuple):
    """Capacity units, as the service's ConsumedCapacity says (or estimated, where an endpoint says nothing)."""

    rcu: float = 0.0
    wcu: float = 0.0

    def plus(self, other: Units) -> Units:
        return Units(self.rcu + other.rcu, self.wcu + other.wcu)


class Friction(NamedTuple):
    """What stood in the way: writes that met somebody else's, and requests that were refused for their rate."""

    conflicts: int = 0
    throttles: int = 0

    def plus(self, other: Friction) -> Friction:
        return Friction(self.conflicts + other.conflicts, self.throttles + other.throttles)


class JournalCount(NamedTuple):
    """What the journal of a split must contain: parts, the records in them, and the notes that pages ended with."""

    parts: int = 0
    records: int = 0
    notes: int = 0

    def plus(self, other: JournalCount) -> JournalCount:
        return JournalCount(self.parts + other.parts, self.records + other.records, self.notes + other.notes)


class Totals(NamedTuple):
    """Where a unit, or a run as the sum over its units, stands."""

    counts: Counts = Counts()
    units: Units = Units()
    done: int = 0  # units done; of a single unit, 1 when it is
    friction: Friction = Friction()
    bytes: int = 0  # read from an export
    journal: JournalCount = JournalCount()

    def plus(self, other: Totals) -> Totals:
        return Totals(
            self.counts.plus(other.counts),
            self.units.plus(other.units),
            self.done + other.done,
            self.friction.plus(other.friction),
            self.bytes + other.bytes,
            self.journal.plus(other.journal),
        )


class DeadLetter(NamedTuple):
    """An item that could not be transformed or written, with everything needed to see why and to try again."""

    key: Image
    image: Image
    stage: str  # "read", "transform", "write" or "doubt"
    error: str
    traceback: str = ""


class Intent(NamedTuple):
    """What a unit is about to write: the page that its next checkpoint is for.

    `parts` name the page's journal; the rest is what the checkpoint will need and the journal does not hold: where
    the next page starts, the counts of the items that need no write, what the unit had come to `before` the page, and
    how many `records` the parts contain.
    The last checkpoint may be further back: pages that need no write are recorded now and then only.
    """

    parts: tuple[str, ...]
    cursor: Cursor | None
    last: bool
    counts: Counts
    rcu: float
    page: int
    before: Totals = Totals()
    records: int = 0


class Era(NamedTuple):
    """One owner's time over a unit: from the page after `after` on, pages are of `epoch`. `parts` is the journal of
    the page that the owner before left in doubt, `attempt` the one of the run that the owner belongs to."""

    epoch: int
    after: int
    parts: tuple[str, ...] = ()
    attempt: int = 0


class Claim(NamedTuple):
    """A unit's row at the moment when a worker took it: from here it goes on. `epoch` is its fencing token."""

    unit: int
    epoch: int
    page: int = 0  # the last page that was checkpointed; the first is 1
    cursor: Cursor | None = None  # where the next page starts; None at the unit's beginning
    counts: Counts = Counts()
    units: Units = Units()
    done: bool = False
    intent: Intent | None = None
    eras: tuple[Era, ...] = ()
    friction: Friction = Friction()
    bytes: int = 0
    journal: JournalCount = JournalCount()

    @property
    def totals(self) -> Totals:
        """What the unit has come to."""
        return Totals(self.counts, self.units, int(self.done), self.friction, self.bytes, self.journal)


class Page(NamedTuple):
    """One page of a unit: of a scan segment, of a file of an export, or of a version's own items.

    `cursor` is where the page after it starts, `last` says that there is none. A page that `recovers` has no images:
    it stands for the page that an owner before left between intent and checkpoint.
    """

    claim: Claim
    number: int
    images: list[Image]
    rcu: float = 0.0
    cursor: Cursor | None = None
    last: bool = False
    recovers: bool = False
    replayed: int = 0  # dead letters that these images stand for: counted as read, and as dead, before
    throttles: int = 0  # of its reading
    unreadable: tuple[DeadLetter, ...] = ()  # lines that are no items: read, and dead
    bytes: int = 0  # of an export's lines
    not_inserted: int = 0  # rows of `items()` that the run to take back has not inserted: they stay


class AppliedPage(NamedTuple):
    """A page after the author's function: the changes to write, and how many items stay or failed. `confirmed` are
    those of doubtful writes that a person has found written."""

    page: Page
    changes: list[Change]
    unchanged: int
    dead: int
    confirmed: int = 0


class JournalPage(NamedTuple):
    """A page of a run that is taken back: the parts of its journal that count, and the notes of its owners. `expected`
    is how many parts there must be; 0: as the last note says; below 0: nothing tells."""

    page: Page
    parts: tuple[str, ...]
    notes: tuple[str, ...]
    expected: int = 0


Sample: TypeAlias = tuple[Image, Image | None]  # before, after


class WrittenPage(NamedTuple):
    """A page whose every item has ended in one count. `dead` are the letters of the writing, those of the transforming
    are stored already. `announced`: its intent stands, and waits for the checkpoint."""

    page: Page
    counts: Counts
    units: Units
    dead: list[DeadLetter]
    samples: list[Sample]
    announced: bool = False
    friction: Friction = Friction()
    journal: JournalCount = JournalCount()


# ---------------------------------------------------------------- tables and places

STATE_TABLE = "dynamodt-state"  # unless a stage names another one

KEY_TYPES = ("S", "N", "B")


class KeyAttribute(NamedTuple):
    name: str
    type: str  # one of KEY_TYPES


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table as DescribeTable shows it. Counts lag by up to six hours; `plain_partiql` marks an emulator that
    understands PartiQL only for plain attribute names and has no REMOVE of quoted ones (see docs/adr/001).

    `identity` tells a table from one of the same name that was deleted; empty: not known."""

    name: str
    key: tuple[KeyAttribute, ...]
    item_count: int = 0
    size_bytes: int = 0
    status: str = "ACTIVE"
    indexes: int = 0
    read_units: int = 0  # 0: on-demand
    write_units: int = 0
    plain_partiql: bool = False
    index_keys: tuple[str, ...] = ()  # the attributes that are keys of its indexes
    identity: str = ""
    created: str = ""  # ISO 8601, UTC

    @property
    def key_names(self) -> tuple[str, ...]:
        return tuple(k.name for k in self.key)


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach AWS: everything needed to make a client, so that a worker can make its own."""

    region: str
    endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    access_key: str | None = None  # set for the embedded stage only, whose credentials are no secret
    secret_key: str | None = None


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """Where prepared data and dead letters go: `s3://bucket/prefix`, or a folder on the local stage."""

    url: str
    kms_key: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One deployment of the application: an account, a region and our own resources in it."""

    name: str
    connection: Connection
    storage: StorageSpec
    state_table: str = STATE_TABLE
    local: bool = False  # this machine: our state table is created when it is missing
    embedded: bool = False  # the emulator that dynamodt starts by itself
    tables: dict[str, tuple[KeyAttribute, ...]] = field(default_factory=dict)  # created on the embedded stage
    protected: bool = False  # its tables are written only with point-in-time recovery on
    glue_job: str = ""  # the name of its Glue job, where it is not `job_name`'s own
    other_state_tables: tuple[str, ...] = field(default=(), compare=False)  # of the other stages of dynamodt.toml

    @property
    def state_tables(self) -> frozenset[str]:
        """The tables that hold dynamodt's own state, and are never transformed."""
        return frozenset((self.state_table, *self.other_state_tables))

    @property
    def job_name(self) -> str:
        """The Glue job that moves tables; the one that gathers prepared data has `-prepare` behind it."""
        return self.glue_job or f"dynamodt-{self.name}"


# ---------------------------------------------------------------- a version and its run


@dataclass(frozen=True, slots=True)
class Script:
    """A version file, read but not executed. Its text travels, so that any worker can load it."""

    table: str
    sequence: int
    name: str  # "split_name"
    path: str  # as the author would type it
    text: str
    checksum: str  # sha256 of the text, hex
    title: str = ""  # first line of the docstring
    has_up: bool = False
    has_down: bool = False
    has_prepare: bool = False
    has_items: bool = False
    guard: Guard = "item"
    target_table: str | None = None
    idempotent: bool = False
    stamp: str | None = None
    source: str = "scan"
    key: tuple[KeyAttribute, ...] = ()  # of the table that it was written for; empty: it does not say
    prepare_checksum: str = ""  # of `prepare` and all that it uses of the file


@dataclass(frozen=True, slots=True)
class PreparedRef:
    """A prepared file: where it is, and what it must be when it is read back."""

    url: str
    rows: int
    sha256: str
    script_checksum: str
    created: str
    prepare_checksum: str = ""
    content: str = ""  # sha256 over the rows, whatever their order


class Cost(NamedTuple):
    """What a run would come to, as far as a dry run can tell (`core.cost` says what is not in it).

    Write units of the table alone, and at most, with its indexes. `usd` is the least and the most, at the prices of
    the day `as_of`; None where there is no price.
    """

    wcu: float
    wcu_most: float
    rcu: float
    puts: int = 0  # requests to S3
    gets: int = 0
    export_bytes: int = 0
    usd: tuple[float, float] | None = None
    as_of: str = ""


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one version's run came to. `samples` are (before, after) items; they are shown, never logged."""

    table: str
    direction: Direction
    version: int
    name: str
    run: str
    status: str  # "succeeded", "failed", "stopped", "dry-run", "refused" (to go on with it)
    counts: Counts = Counts()
    consumed: Units = Units()
    seconds: float = 0.0
    error: str = ""
    dead_letters: str = ""  # where the file is
    first_dead_letter: str = ""  # in a sentence; it is shown, never logged
    samples: tuple[tuple[Item, Item | None], ...] = ()
    key_names: tuple[str, ...] = ()  # what tells the samples apart
    journal: bool = False  # whether `undo` can take it back
    rehearsal: bool = False  # a dry run, whichever way it ended
    uncovered: str = ""  # the moment (ISO 8601) after which nothing that was written is covered
    cost: Cost | None = None  # of the run that a dry run has rehearsed
    texts: tuple[ScriptText, ...] = ()  # of a script that was edited between attempts: all of them


@dataclass(frozen=True, slots=True)
class TableReport:
    """A table's part of `up` or `down`. `error` is the error that ended it early, if one did."""

    table: str
    direction: Direction
    versions: tuple[RunReport, ...] = ()
    at: int = 0  # the version that the table stands at now
    error: BaseException | None = None
    latest: int = 0  # the highest version that has a file; 0: not known
    unprepared: int = 0  # the first pending version whose prepared data is missing; 0: none
    reversible: bool = True  # whether the version that it stands at has a way down


class LeftItem(NamedTuple):
    """An item that an undo leaves as it is, at least in part: which attributes (none: all of it), and why. `restored`
    are attributes that are as before the run: with some of these, the item is restored in part."""

    key: Image
    attributes: tuple[str, ...]
    why: str
    restored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UndoReport:
    """What taking a run back came to. `run` says it in counts: changed are restored, unchanged are as they were before
    the run already, superseded and vanished were changed or deleted since, dead could not be written."""

    run: RunReport  # its status: "undone", "undoing" (not at its end yet) or "dry-run"
    at: int  # the version that the table stands at now
    left: int = 0  # items that stay as they are, at least in part
    left_at: str = ""  # where the file is that names them
    first_left: tuple[LeftItem, ...] = ()
    error: BaseException | None = None
    partly: int = 0  # of the items that are left, those that are restored in part
    missing: int = 0  # parts of the journal that could not be used

    @property
    def fully(self) -> int:
        """The items that are as before the run, in all that it had changed."""
        return self.run.counts.read - self.left


@dataclass(frozen=True, slots=True)
class AppliedVersion:
    """A line of a table's history: this version stands."""

    table: str
    version: int
    name: str
    checksum: str
    run: str
    when: str  # ISO 8601, UTC
    by: str
    counts: Counts = Counts()
    consumed: Units = Units()
    seconds: float = 0.0


class ScriptText(NamedTuple):
    """A text of a version's script, and how many items a run has transformed by it."""

    checksum: str
    items: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the state table remembers it, ended or not."""

    table: str
    run: str
    version: int
    name: str
    direction: Direction
    checksum: str
    status: str
    started: str
    ended: str = ""
    by: str = ""
    counts: Counts = Counts()
    consumed: Units = Units()
    seconds: float = 0.0
    error: str = ""
    dead_letters: str = ""
    units: int = 0  # the scan's segments, as they were planned when it began
    attempts: int = 1
    retries: int = 0  # passes over its dead letters
    journal: bool = False  # it began with one, and goes on so
    planned: int = 0  # units over all its passes; 0: not known
    source: str = "scan"  # or "export"
    exports: tuple[str, ...] = ()  # ARNs, or s3://… as a person gave it: the table's, then the windows'
    windows: tuple[int, ...] = ()  # units of each window that the run catches up with
    failed_exports: int = 0  # which would not do: another one was asked for
    rest: int = 0  # segments of the last scan, where it catches up by one
    target: str = ""  # the table that it writes to, where that is another
    undone: str = ""  # when, and by whom
    partial_tries: int = 0  # the last try of its undo that did without parts of the journal; 0: none did
    partly_restored: int = 0  # items that its undo has restored in part, and left in part
    accepts: tuple[str, ...] = ()  # undone runs whose partly restored items it may transform
    order: tuple[str, ...] = ()  # its phases, and from which attempt on, as they were written: see `core.passes.stints`
    began: dict[str, str] = field(default_factory=dict)  # what it started with (`core.started_with`)
    texts: tuple[ScriptText, ...] = ()  # of the script before it was edited: its present one has the rest of the items
    whole_pages: bool = False  # its last attempt has left no page half written
    revision: int = 0  # of its row: each write raises it, and is conditional on the one before; 0: not written yet


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What `stamp` or `adopt` has recorded of a table, or would record. `at` is the version that it then stands at."""

    table: str
    records: tuple[RunRecord, ...]
    at: int
    latest: int  # the highest version that has a file
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version in `status`: "applied", "pending", "running" (a run of it is at work), "unfinished" (one was left
    half done), "edited" (its file has changed), "missing" (its file is gone). `run` is that run, and its status now."""

    version: int
    name: str
    state: str
    path: str = ""
    when: str = ""
    run: RunRecord | None = None


@dataclass(frozen=True, slots=True)
class TableStatus:
    table: str
    at: int
    versions: tuple[VersionStatus, ...]
    error: BaseException | None = None  # what is wrong with its folder: then no version is told
    younger: str = ""  # that the table is another one than at its last run, in a sentence


# ---------------------------------------------------------------- one run of one version


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A finished export to read instead of the table: its folder in a bucket, and what it must be an export of.

    `created_only`: of an incremental one, only the items that came into being in its window, and not by this run.
    """

    bucket: str
    folder: str
    table_arn: str
    incremental: bool = False
    created_only: bool = False
    rest: bool = False  # a last scan follows, which meets the items once more


Fence = tuple[str, int]  # another table that a run writes to, and its lease's token


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to take part in a run; frozen and picklable, so it can travel with the pipeline.

    `units` are the scan's segments, the files of an `export`, or one unit of the version's own rows when `own_items`
    is set. `consistent` asks for strongly consistent reads.
    """

    run: str
    stage: Stage
    table: TableSpec
    script: Script
    direction: Direction
    units: int
    lanes: int = 1
    own_items: bool = False
    export: ExportSource | None = None
    letters: tuple[str, ...] = ()  # parts of dead letters to replay, instead of reading the table
    confirmed: bool = False  # a person has found the letters' items written: they are counted, nothing is written
    undoes: str = ""  # the run (or pass of one) to take back by its journal, instead of migrating
    partial: bool = False  # of an undo: what cannot be read of the journal is passed over
    attempts: tuple[int, int] = (0, 0)  # of an undo: pages of the attempts from the first to before the second; 0: all
    target: TableSpec | None = None
    prepared: PreparedRef | None = None
    consistent: bool = False
    dry_run: bool = False
    max_errors: int = 0
    page_items: int = 1000  # items of a scan page at most; a page is also at most 1 MB
    attempt: int = 1  # the lease's token: a later attempt fences the earlier ones
    journal: bool = False  # journal what an idempotent script writes too, for an undo
    in_turn: int = 16  # segments of a lane that are taken in turn: as many partitions may take its writes
    read_ahead: int = 4  # pages of a lane that are in flight
    writers: int = 16  # batches of a page that are in flight: the table may be as far away as a laptop is
    spread: int = 1  # rows for the workers to report to and to look at: one for every fifty of them
    governed: bool = False  # it reads and writes nothing before it was granted a part of the budget
    fences: tuple[Fence, ...] = ()  # what the run holds beside its own table
    rows: str = ""  # the checksum of the rows of `items()`, as the run began with them
    inserted_by: str = ""  # the run whose rows of `items()` this one takes back
    retried: tuple[str, ...] = ()  # passes over dead letters, before a window that may show their items as created

    @property
    def journals(self) -> bool:
        """Whether pages are journaled and announced before they are written: always, if a second pass would harm."""
        return (self.journal or not self.script.idempotent) and not self.dry_run

    @property
    def meets_insertions(self) -> bool:
        """Whether an item that it reads or meets may be one that the run has inserted, which it must not transform: its
        source is older than the table, so that the key of an item may have been freed and taken by the run since."""
        older = self.export is not None or bool(self.letters)
        return older and self.target is None and not self.own_items and not self.script.idempotent

    @property
    def later(self) -> bool:
        """Whether it comes after the passes over what was there when the run began: it may meet rows of `items()`."""
        in_window = self.export is not None and self.export.incremental
        return in_window or bool(self.letters) or self.run.partition("/retry")[0].endswith(REST)

    @property
    def lease(self) -> str:
        """The lease that the workers look at: the table's, or one of its own for a dry run, which excludes nobody."""
        return f"dry-run/{self.base_run}" if self.dry_run else self.table.name

    @property
    def base_run(self) -> str:
        """The version's run, of which a job may be one of two passes."""
        return self.run.partition("/")[0]


OWN_ITEMS = "/items"
WINDOW = "/window"
REST = "/rest"


class Lease(NamedTuple):
    """Who may run on a table, and what he was told meanwhile. `token` grows with every owner.

    `beat` is the holder's last sign of life by its own clock (seconds since 1970, for people to read), `ttl` how long
    the lease holds without another one. An empty `run`: nobody.
    """

    table: str
    token: int
    run: str = ""
    user: str = ""
    host: str = ""
    pid: int = 0
    started: str = ""  # of the process, in its system's words
    since: str = ""
    beat: float = 0.0
    ttl: float = 30.0
    paused: bool = False
    hold: str = ""  # why it rests without being told by a person: an alarm; empty: it does not
    stop: str = ""  # why all workers should stop: "max-errors", "interrupted", "abort", "error"
    error: dict[str, str] | None = None
    wcu: float = 0.0  # the budget of all workers together, in units a second; 0: not limited
    rcu: float = 0.0
    boards: int = 1  # rows that say the same, for as many groups of workers to look at
    revision: int = 0  # of the row: each write raises it, and is conditional on the one before
    words: tuple[str, ...] = ()  # the ids of the last few writes, the latest first
    beats: int = 0  # signs of life under this token
    ticks: float = 0.0  # the monotonic clock of the holder's system at the last one
    owner: str = ""  # the table whose run holds it, which writes to this one; empty: its own


class RunState(NamedTuple):
    """A run as `runs` lists it: its record, what it comes to now ("running", "paused", "gone", "succeeded" ...), the
    counts so far, and the lease of whoever is at work on it."""

    record: RunRecord
    status: str
    counts: Counts
    holder: Lease | None = None


class Standing(NamedTuple):
    """Where a run stands, for whoever watches it. `planned` are the units over all its passes, `wcu` and `rcu` its
    budget in units a second (0: not limited); `rests` says why it does no work now ("paused"), if so."""

    totals: Totals
    planned: int
    wcu: float = 0.0
    rcu: float = 0.0
    rests: str = ""

    @classmethod
    def under(cls, lease: Lease, totals: Totals, planned: int) -> Standing:
        """Where the run stands that works under a lease."""
        rests = "paused" if lease.paused else f"held: {lease.hold}" if lease.hold else ""
        return cls(totals, planned, lease.wcu, lease.rcu, rests)
