"""Pages of items in the pipeline, their counts, and the splits to which they belong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dynamodt.model.runs import Lease
    from dynamodt.model.tables import Change, Cursor, Image, Sample


class Counts(NamedTuple):
    """The outcomes of items. Every item read has exactly one of the other five."""

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
    """Capacity units, from the service's ConsumedCapacity (estimated for an endpoint without it)."""

    rcu: float = 0.0
    wcu: float = 0.0

    def plus(self, other: Units) -> Units:
        return Units(self.rcu + other.rcu, self.wcu + other.wcu)


class Contention(NamedTuple):
    """The numbers of conflicts with other writers, and of throttles."""

    conflicts: int = 0
    throttles: int = 0

    def plus(self, other: Contention) -> Contention:
        return Contention(self.conflicts + other.conflicts, self.throttles + other.throttles)


class JournalCount(NamedTuple):
    """The required contents of a split's journal: the numbers of parts, of their records, and of notes of completed
    pages. An undo, which journals nothing, counts as records the items that it has stored as not restored."""

    parts: int = 0
    records: int = 0
    notes: int = 0

    @property
    def objects(self) -> int:
        return self.parts + self.notes

    def plus(self, other: JournalCount) -> JournalCount:
        return JournalCount(self.parts + other.parts, self.records + other.records, self.notes + other.notes)


class Totals(NamedTuple):
    """The progress of a split, or of a run as the sum over its splits."""

    counts: Counts = Counts()
    units: Units = Units()
    done: int = 0  # completed splits; 1 for a single split that is completed
    contention: Contention = Contention()
    bytes: int = 0  # read from an export
    journal: JournalCount = JournalCount()

    def plus(self, other: Totals) -> Totals:
        return Totals(
            self.counts.plus(other.counts),
            self.units.plus(other.units),
            self.done + other.done,
            self.contention.plus(other.contention),
            self.bytes + other.bytes,
            self.journal.plus(other.journal),
        )


class DeadLetter(NamedTuple):
    """An item that could not be transformed or written, with the data for a retry and a diagnosis."""

    key: Image
    image: Image
    step: str  # "read", "transform", "write" or "doubt"
    error: str
    traceback: str = ""


class Acceptance(NamedTuple):
    """Dead letters of a run that a person has accepted: their number, the person, the time and the reason. `file` names
    the object in the storage that lists them."""

    items: int
    by: str
    when: str
    why: str
    file: str


class Intent(NamedTuple):
    """The page that a split is about to write, recorded before the first write.

    `parts` name the page's journal. The other fields are for the checkpoint: the `cursor` of the next page, the
    `counts` of items that need no write, the split's totals `before` the page, and the number of `records` in the
    parts. The last checkpoint may be several pages back: pages without writes are recorded at intervals.
    """

    parts: tuple[str, ...]
    cursor: Cursor | None
    last: bool
    counts: Counts
    rcu: float
    page: int
    before: Totals = Totals()
    records: int = 0


class OwnershipPeriod(NamedTuple):
    """The period of one owner of a split: pages after `after` have its fencing token. `parts` is the journal of the
    page that the previous owner left in doubt, `attempt` the run's attempt to which the owner belongs."""

    fencing_token: int
    after: int
    parts: tuple[str, ...] = ()
    attempt: int = 0


class Claim(NamedTuple):
    """A split's row when a worker claimed it: work continues from here."""

    split: int
    fencing_token: int
    page: int = 0  # the last page with a checkpoint; the first is 1
    cursor: Cursor | None = None  # where the next page starts; None at the split's beginning
    counts: Counts = Counts()
    units: Units = Units()
    done: bool = False
    intent: Intent | None = None
    periods: tuple[OwnershipPeriod, ...] = ()
    contention: Contention = Contention()
    bytes: int = 0
    journal: JournalCount = JournalCount()

    @property
    def totals(self) -> Totals:
        """The split's progress."""
        return Totals(self.counts, self.units, int(self.done), self.contention, self.bytes, self.journal)


class Page(NamedTuple):
    """One page of a split: of a scan segment, of a file of an export, or of inserted rows.

    `cursor` is the start of the next page; `last` marks the split's last page. A page that `recovers` has no images: it
    is the page that an earlier owner left between intent and checkpoint.
    """

    claim: Claim
    number: int
    images: list[Image]
    rcu: float = 0.0
    cursor: Cursor | None = None
    last: bool = False
    recovers: bool = False
    replayed: int = 0  # dead letters that these images replay: already counted as read and dead
    throttles: int = 0  # while it was read
    unreadable: tuple[DeadLetter, ...] = ()  # malformed lines: counted as read and dead
    bytes: int = 0  # of an export's lines
    not_inserted: int = 0  # of an undo: rows of `items()` that the run has not inserted, which stay


class AppliedPage(NamedTuple):
    """A page after the author's function: the changes to write, and the numbers of items that are unchanged or dead.
    `confirmed` counts the items in doubt that an operator has found written."""

    page: Page
    changes: list[Change]
    unchanged: int
    dead: int
    confirmed: int = 0


class JournalPage(NamedTuple):
    """A page of a run that is undone: its committed parts of the journal, and the notes of its owners. `expected` is
    the number of parts that must exist; 0: the last note's number; below 0: unknown."""

    page: Page
    parts: tuple[str, ...]
    notes: tuple[str, ...]
    expected: int = 0


class WrittenPage(NamedTuple):
    """A page in which every item has exactly one outcome. `dead` are the dead letters of writing; those of transforming
    are already stored. `intended`: its intent is recorded, and ends with the checkpoint."""

    page: Page
    counts: Counts
    units: Units
    dead: list[DeadLetter]
    samples: list[Sample]
    intended: bool = False
    contention: Contention = Contention()
    journal: JournalCount = JournalCount()


class RunProgress(NamedTuple):
    """A run's progress, for display. `planned` is the number of splits over all its phases, `wcu` and `rcu` its budget
    in units a second (0: unlimited); `idle` is the reason why it does not work now ("paused"), if any; `run` its id, if
    known. The writes of a `rehearsal`, a dry run, are those of the real run."""

    totals: Totals
    planned: int
    wcu: float = 0.0
    rcu: float = 0.0
    idle: str = ""
    run: str = ""
    rehearsal: bool = False

    @classmethod
    def under(cls, lease: Lease, totals: Totals, planned: int) -> RunProgress:
        """The progress of the run that holds a lease."""
        idle = "paused" if lease.paused else f"held: {lease.pause_reason}" if lease.pause_reason else ""
        return cls(totals, planned, lease.wcu, lease.rcu, idle)
