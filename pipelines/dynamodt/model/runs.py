"""A version's script, its runs as recorded in the state table, and the job of a worker."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.model.pages import Acceptance, Counts, Units
from dynamodt.model.pages import RunProgress as RunProgress

if TYPE_CHECKING:
    from dynamodt.model.tables import Direction, Guard, KeyAttribute, Stage, TableSpec


class ScriptFile(NamedTuple):
    """A file that a script uses: a module that it imports, or a file that it opens by `__file__`."""

    name: str  # relative to `transforms/`, with `/`
    checksum: str  # the first 16 digits of the sha256 of a module's syntax, or of another file's content
    content: bytes


def content_of(checksum: str, files: Mapping[str, str]) -> str:
    """The checksum of a script's code together with the files that it uses, each by its name and checksum."""
    lines = [checksum, *(f"{name} {files[name]}" for name in sorted(files))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if files else checksum


@dataclass(frozen=True, slots=True)
class Script:
    """A version file, read but not executed, with the text and files by which any worker can load it."""

    table: str
    sequence: int
    name: str  # "split_name"
    path: str  # as the author would type it
    text: str
    checksum: str  # sha256 of the syntax, hex (`script.syntax`)
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
    key: tuple[KeyAttribute, ...] = ()  # of the table that it was written for; empty: not declared
    prepare_checksum: str = ""  # of `prepare` and the text that it uses, of the file and of modules beside it
    folder: str = ""  # of `transforms/`: the table's logical name
    files: tuple[ScriptFile, ...] = field(default=(), repr=False)

    @property
    def file_checksums(self) -> dict[str, str]:
        return {file.name: file.checksum for file in self.files}

    @property
    def content(self) -> str:
        """The checksum of the code and the files, which decides whether a version was edited."""
        return content_of(self.checksum, self.file_checksums)

    @property
    def text_checksum(self) -> str:
        """The sha256 of the exact text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def exact_content(self) -> str:
        """The checksum of the exact text and files that a process executes."""
        exact = {file.name: hashlib.sha256(file.content).hexdigest() for file in self.files}
        return content_of(self.text_checksum, exact)


@dataclass(frozen=True, slots=True)
class PreparedRef:
    """A prepared file: its location, and the values by which it is verified when it is read."""

    url: str
    rows: int
    sha256: str
    script_checksum: str
    created: str
    prepare_checksum: str = ""
    content: str = ""  # checksum over the rows in any order
    place: str = ""  # `region:account:identity` of the table; each may be empty: not known


@dataclass(frozen=True, slots=True)
class AppliedVersion:
    """A version of a table that is applied."""

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
    files: dict[str, str] = field(default_factory=dict)  # that the script used, with their checksums
    text: str = ""  # where its exact text is kept; empty: nowhere


class ScriptText(NamedTuple):
    """A script's text, by the checksum of it and its files, and the number of items that it has transformed."""

    checksum: str
    items: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of a run in the state table, ended or not."""

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
    splits: int = 0  # the scan's segments, planned when it began
    attempts: int = 1
    retries: int = 0  # phases over its dead letters
    journal: bool = False  # it writes one, from its beginning
    planned: int = 0  # splits over all its phases; 0: unknown
    source: str = "scan"  # or "export"
    exports: tuple[str, ...] = ()  # ARNs, or s3://… as it was given: the full one, then the incremental ones
    incremental_exports: tuple[int, ...] = ()  # splits of each incremental export that the run has read
    requested: tuple[str, ...] = ()  # ARNs of the exports that it has requested, those that failed included
    failed_exports: int = 0  # exports that could not be used, and were requested again
    final_scan: int = 0  # segments of the final scan, where it catches up by one
    target: str = ""  # the table that it writes to, where that is another one
    undone: str = ""  # when, and by whom
    partial_tries: int = 0  # the last try of its undo that skipped missing parts of the journal; 0: none
    partly_restored: int = 0  # items that its undo has restored in part
    not_restored: int = 0  # other items that its undo has left, and that may be as the run has transformed them
    accepts: tuple[str, ...] = ()  # undone runs whose items that are not restored in full it may transform
    order: tuple[str, ...] = ()  # its phases and their attempts as they were written: `state.runs.write_periods`
    began: dict[str, str] = field(default_factory=dict)  # the facts that it started with (`state.runs`)
    texts: tuple[ScriptText, ...] = ()  # earlier texts of an edited script; the other items are the present text's
    files: dict[str, str] = field(default_factory=dict)  # that the present text uses, with their checksums
    whole_pages: bool = False  # its last attempt has ended between pages
    text: str = ""  # where the exact text of its script is kept; empty: nowhere
    reason: str = ""  # why, as its caller has given it
    text_before: str = ""  # of an edit that was accepted: where the text is kept that was applied
    accepted: tuple[Acceptance, ...] = ()  # dead letters that no retry replays, by the command that has accepted them
    tolerated: int = 0  # dead letters with which it has succeeded, without accepted ones; `retry` may replay them
    commit: str = ""  # of the git repository of its script
    undone_reason: str = ""
    budget: Units = Units()  # units a second, of all its workers together, at its last end; 0: unlimited
    higher_usd: float = 0.0  # a limit that continues a run that has reached its limit
    revision: int = 0  # of its row: each write raises it and requires the one before; 0: not written yet
    token: int = 0  # of the lease under which its row was last written: it grows, whatever a machine's clock shows
    target_token: int = 0  # the same, of its target's lease

    @property
    def content(self) -> str:
        """The checksum of the script's present text and files."""
        return content_of(self.checksum, self.files)

    @property
    def accepted_items(self) -> int:
        """The dead letters that are accepted; they are among `counts.dead`."""
        return sum(one.items for one in self.accepted)


@dataclass(frozen=True, slots=True)
class ScanSource:
    """The table itself, scanned in segments: each is a split."""


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A finished export of the table: its folder in a bucket, and its table's ARN. A file is a split.

    `owner` is the account that owns the bucket; empty: unknown. `created_only` limits an incremental export to items
    that were created in its period, by another writer.
    """

    bucket: str
    folder: str
    table_arn: str
    owner: str = ""
    incremental: bool = False
    created_only: bool = False
    final_scan: bool = False  # a final scan follows, which reads the items again


@dataclass(frozen=True, slots=True)
class RowsSource:
    """The rows of the script's `items()`, as one split.

    `checksum` is that of the rows at the run's beginning; empty: unknown. `inserted_by` is the run whose rows this
    one deletes.
    """

    checksum: str = ""
    inserted_by: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetterSource:
    """Stored dead letters, replayed as one split; their items were first read from `origin`.

    `confirmed`: an operator has found the items written; they are counted only. `left_out` are other ones, by part
    and key (`key_text`).
    """

    parts: tuple[str, ...]
    origin: Origin = ScanSource()
    confirmed: bool = False
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class JournalSource:
    """The journal of `run` (a run or one of its phases), which the job undoes.

    `attempts` limits it to pages of the attempts from the first up to, but not including, the second; 0: no limit.
    `partial`: pages with an incomplete journal are skipped. `waiting`: a phase; only its waiting items are repeated.
    """

    run: str
    attempts: tuple[int, int] = (0, 0)
    partial: bool = False
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class EarlierPhase:
    """The insertions of an earlier phase of a dry run, `before[phase]`: rows of `items()`, or items of another table,
    which this phase and later ones bring to this one. The other items were read from `origin`."""

    phase: int
    origin: Origin = ScanSource()


Origin = ScanSource | ExportSource | RowsSource | JournalSource
Source = Origin | DeadLetterSource | EarlierPhase
LeftPart = tuple[str, tuple[str, ...] | None]  # a part of dead letters, and some of its keys; None: all
Fence = tuple[str, int]  # another table to which a run writes, and its lease's token


@dataclass(frozen=True, slots=True)
class Job:
    """The description of a run's phase for its workers; frozen and picklable, since it travels with the pipeline.

    It reads `source`, in `splits` splits. `consistent` requests strongly consistent reads.
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
    journal: bool = False  # an idempotent script's writes are journaled too, for an undo
    in_turn: int = 16  # segments of a split group that are read in turn, to spread its writes over partitions
    read_ahead: int = 4  # pages of a split group that are in flight
    writers: int = 16  # batches of a page that are in flight: enough for a distant region's latency
    shards: int = 1  # partition keys of the workers' reports and of the lease: one for every fifty workers
    governed: bool = False  # it waits for a part of the budget before its first request
    fences: tuple[Fence, ...] = ()  # leases that the run holds besides that of its own table
    earlier: tuple[str, ...] = ()  # phases whose dead letters it may read again (`pipeline.own_writes`)
    untransformed: tuple[LeftPart, ...] = ()  # dead letters of the version's other direction (`pipeline.outcomes`)
    before: tuple[Job, ...] = ()  # of a dry run: the phases before this one, which are applied in memory
    accepted: frozenset[str] = frozenset()  # of a dry run: keys of the dead letters that a run would leave as they are

    @property
    def origin(self) -> Origin:
        """The source from which the items were first read: that of a replay's dead letters, or else the job's own."""
        return self.source.origin if isinstance(self.source, DeadLetterSource | EarlierPhase) else self.source

    @property
    def export(self) -> ExportSource | None:
        """The export from which the items are read, if any."""
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
        """The run (or phase) whose journal it writes or undoes."""
        return self.source.run if isinstance(self.source, JournalSource) else self.run

    @property
    def journals(self) -> bool:
        """Whether pages are journaled, with an intent, before they are written; always so without IDEMPOTENT."""
        return (self.journal or not self.script.idempotent) and not self.dry_run

    @property
    def meets_insertions(self) -> bool:
        """Whether an item may be one that the run has inserted, which must not be transformed: the source is older than
        the table, and the run may have inserted an item at a key that was freed since."""
        older = (
            isinstance(self.source, ExportSource | DeadLetterSource) and not self.table.lacks_transactions
        )  # it takes no insertion
        return older and self.target is None and not self.inserts_rows and not self.script.idempotent

    @property
    def later(self) -> bool:
        """Whether it follows the phases over the table's first state, and may read rows of `items()`."""
        in_window = self.export is not None and self.export.incremental
        return in_window or self.replays or self.run.partition("/retry")[0].endswith(FINAL_SCAN)

    @property
    def written_table(self) -> TableSpec:
        """The table to which it writes: the target, or its own."""
        return self.target or self.table

    @property
    def lease(self) -> str:
        """The lease that the workers poll: the table's, or a dry run's own, which excludes no other run."""
        return f"dry-run/{self.base_run}" if self.dry_run else self.table.name

    @property
    def base_run(self) -> str:
        """The id of the run of which the job is a phase."""
        return self.run.partition("/")[0]


INSERTED_ROWS = "/items"
EARLIER_PHASE = "/earlier"  # and a number from 1
INCREMENTAL = "/incremental"
FINAL_SCAN = "/final-scan"
# `Lease.stop`: by a command, after a worker's error, at the limit of the cost, after the lease was broken
ABORT, ERROR, MAX_USD, UNLOCKED = "abort", "error", "max-usd", "unlocked"


class Lease(NamedTuple):
    """The run that may work on a table, and its control attributes. `token` grows with every holder. `beat` is the
    holder's last heartbeat by its own clock (seconds since 1970, for display), `ttl` the seconds for which the lease
    lasts without another one. An empty `run`: the lease is free.
    """

    table: str
    token: int
    run: str = ""
    user: str = ""
    host: str = ""
    pid: int = 0
    started: str = ""  # of the process, in its system's format
    since: str = ""
    beat: float = 0.0
    ttl: float = 30.0
    paused: bool = False
    pause_reason: str = ""  # the reason for a pause without an operator's command: an alarm; empty: no such pause
    stop: str = ""  # the reason why all workers should stop: "max-errors", "max-usd", "interrupted", "abort", "error"
    error: dict[str, str] | None = None
    wcu: float = 0.0  # the budget of all workers together, in units a second; 0: unlimited
    rcu: float = 0.0
    throttled: tuple[str, ...] = ()  # which of the two `throttle` has set
    lease_replicas: int = 1  # rows with the same content, which spread the workers' reads
    revision: int = 0  # of the row: each write raises it and requires the one before
    write_ids: tuple[str, ...] = ()  # of the last few writes, the latest first
    beats: int = 0  # heartbeats under this token
    ticks: float = 0.0  # the monotonic clock of the holder's system at the last one
    owner: str = ""  # the table of the run that holds it, if that run only writes here; empty: this one
    goal: str = ""  # the last version that its command applies, and its script's content; empty: none


class RunState(NamedTuple):
    """A run in the list of `runs`: its record, its current status ("running", "paused", "gone", "succeeded" ...), its
    counts so far, and the lease of its process."""

    record: RunRecord
    status: str
    counts: Counts
    holder: Lease | None = None
