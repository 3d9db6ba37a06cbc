"""A version's script, its runs as the state table records them, and the job that a worker takes part in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.model.pages import Counts, Totals, Units

if TYPE_CHECKING:
    from dynamodt.model.items import Direction, Guard
    from dynamodt.model.tables import KeyAttribute, Stage, TableSpec


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
    splits: int = 0  # the scan's segments, as they were planned when it began
    attempts: int = 1
    retries: int = 0  # passes over its dead letters
    journal: bool = False  # it began with one, and goes on so
    planned: int = 0  # splits over all its phases; 0: not known
    source: str = "scan"  # or "export"
    exports: tuple[str, ...] = ()  # ARNs, or s3://… as a person gave it: the table's, then the windows'
    incremental_exports: tuple[int, ...] = ()  # splits of each incremental export that the run has read
    failed_exports: int = 0  # which would not do: another one was asked for
    final_scan: int = 0  # segments of the last scan, where it catches up by one
    target: str = ""  # the table that it writes to, where that is another
    undone: str = ""  # when, and by whom
    partial_tries: int = 0  # the last try of its undo that did without parts of the journal; 0: none did
    partly_restored: int = 0  # items that its undo has restored in part, and left in part
    accepts: tuple[str, ...] = ()  # undone runs whose partly restored items it may transform
    order: tuple[
        str, ...
    ] = ()  # its phases, and from which attempt on, as they were written: see `state.phases.stints`
    began: dict[str, str] = field(default_factory=dict)  # what it started with (`state.started_with`)
    texts: tuple[ScriptText, ...] = ()  # of the script before it was edited: its present one has the rest of the items
    whole_pages: bool = False  # its last attempt has left no page half written
    revision: int = 0  # of its row: each write raises it, and is conditional on the one before; 0: not written yet


@dataclass(frozen=True, slots=True)
class ScanSource:
    """The table itself, scanned in segments: each is a split."""


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A finished export of the table: its folder in a bucket, and the table that it must be of. A file is a split.

    `created_only` limits an incremental export to items that were created in its window, by another writer.
    """

    bucket: str
    folder: str
    table_arn: str
    incremental: bool = False
    created_only: bool = False
    final_scan: bool = False  # a last scan follows, which meets the items once more


@dataclass(frozen=True, slots=True)
class RowsSource:
    """The rows of the script's `items()`, as one split.

    `checksum` is that of the rows at the run's beginning; empty: not known. `inserted_by` is the run whose rows this
    one deletes.
    """

    checksum: str = ""
    inserted_by: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetterSource:
    """Stored dead letters, replayed as one split; their items were first read from `origin`.

    `confirmed`: the operator has found the items written, so that they are counted and nothing is written.
    """

    parts: tuple[str, ...]
    origin: Origin = ScanSource()
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class JournalSource:
    """The journal of `run` (a run or one of its phases), which the job takes back.

    `attempts` limits it to pages of the attempts from the first to before the second; 0 is no limit. `partial`: pages
    whose journal is incomplete are left out.
    """

    run: str
    attempts: tuple[int, int] = (0, 0)
    partial: bool = False


Origin = ScanSource | ExportSource | RowsSource | JournalSource
Source = Origin | DeadLetterSource
Fence = tuple[str, int]  # another table that a run writes to, and its lease's token


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to take part in a run; frozen and picklable, so it can travel with the pipeline.

    `source` is what it reads, in as many splits as `splits` says. `consistent` asks for strongly consistent reads.
    """

    run: str
    stage: Stage
    table: TableSpec
    script: Script
    direction: Direction
    splits: int
    split_groups: int = 1
    source: Source = ScanSource()
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
    shards: int = 1  # rows for the workers to report to and to look at: one for every fifty of them
    governed: bool = False  # it reads and writes nothing before it was granted a part of the budget
    fences: tuple[Fence, ...] = ()  # what the run holds beside its own table
    retried: tuple[str, ...] = ()  # passes over dead letters, before a window that may show their items as created

    @property
    def origin(self) -> Origin:
        """What the items are first read from: the source, or of dead letters what they were read from."""
        return self.source.origin if isinstance(self.source, DeadLetterSource) else self.source

    @property
    def export(self) -> ExportSource | None:
        """The export that the items come from, if any."""
        return self.origin if isinstance(self.origin, ExportSource) else None

    @property
    def inserts_rows(self) -> bool:
        """Whether its items are rows of the script's `items()`."""
        return isinstance(self.origin, RowsSource)

    @property
    def replays(self) -> bool:
        """Whether it replays dead letters."""
        return isinstance(self.source, DeadLetterSource)

    @property
    def journaled_run(self) -> str:
        """The run (or phase) whose journal it writes, or takes back."""
        return self.source.run if isinstance(self.source, JournalSource) else self.run

    @property
    def journals(self) -> bool:
        """Whether pages are journaled and announced before they are written: always, if a second pass would harm."""
        return (self.journal or not self.script.idempotent) and not self.dry_run

    @property
    def meets_insertions(self) -> bool:
        """Whether an item that it reads or meets may be one that the run has inserted, which it must not transform: its
        source is older than the table, so that the key of an item may have been freed and taken by the run since."""
        older = isinstance(self.source, ExportSource | DeadLetterSource)
        return older and self.target is None and not self.inserts_rows and not self.script.idempotent

    @property
    def later(self) -> bool:
        """Whether it comes after the passes over what was there when the run began: it may meet rows of `items()`."""
        in_window = self.export is not None and self.export.incremental
        return in_window or self.replays or self.run.partition("/retry")[0].endswith(FINAL_SCAN)

    @property
    def lease(self) -> str:
        """The lease that the workers look at: the table's, or one of its own for a dry run, which excludes nobody."""
        return f"dry-run/{self.base_run}" if self.dry_run else self.table.name

    @property
    def base_run(self) -> str:
        """The version's run, of which a job may be one of two passes."""
        return self.run.partition("/")[0]


INSERTED_ROWS = "/items"
INCREMENTAL = "/incremental"
FINAL_SCAN = "/final-scan"
ABORT = "abort"  # `Lease.stop` of a run that was ended by a command


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
    pause_reason: str = ""  # why it rests without being told by a person: an alarm; empty: it does not
    stop: str = ""  # why all workers should stop: "max-errors", "interrupted", "abort", "error"
    error: dict[str, str] | None = None
    wcu: float = 0.0  # the budget of all workers together, in units a second; 0: not limited
    rcu: float = 0.0
    lease_replicas: int = 1  # rows that say the same, for as many groups of workers to look at
    revision: int = 0  # of the row: each write raises it, and is conditional on the one before
    write_ids: tuple[str, ...] = ()  # of the last few writes, the latest first
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


class RunProgress(NamedTuple):
    """Where a run stands, for whoever watches it. `planned` are the splits over all its phases, `wcu` and `rcu` its
    budget in units a second (0: not limited); `rests` says why it does no work now ("paused"), if so."""

    totals: Totals
    planned: int
    wcu: float = 0.0
    rcu: float = 0.0
    idle: str = ""

    @classmethod
    def under(cls, lease: Lease, totals: Totals, planned: int) -> RunProgress:
        """Where the run stands that works under a lease."""
        idle = "paused" if lease.paused else f"held: {lease.pause_reason}" if lease.pause_reason else ""
        return cls(totals, planned, lease.wcu, lease.rcu, idle)
