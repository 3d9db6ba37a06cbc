"""Pages of items on their way through the pipeline, and what is counted of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dynamodt.model.items import Change, Cursor, Image, Sample


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


class Contention(NamedTuple):
    """What stood in the way: writes that met somebody else's, and requests that were refused for their rate."""

    conflicts: int = 0
    throttles: int = 0

    def plus(self, other: Contention) -> Contention:
        return Contention(self.conflicts + other.conflicts, self.throttles + other.throttles)


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
    """An item that could not be transformed or written, with everything needed to see why and to try again."""

    key: Image
    image: Image
    phase: str  # "read", "transform", "write" or "doubt"
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


class OwnershipPeriod(NamedTuple):
    """One owner's time over a unit: from the page after `after` on, pages are of `epoch`. `parts` is the journal of
    the page that the owner before left in doubt, `attempt` the one of the run that the owner belongs to."""

    fencing_token: int
    after: int
    parts: tuple[str, ...] = ()
    attempt: int = 0


class Claim(NamedTuple):
    """A unit's row at the moment when a worker took it: from here it goes on. `epoch` is its fencing token."""

    split: int
    fencing_token: int
    page: int = 0  # the last page that was checkpointed; the first is 1
    cursor: Cursor | None = None  # where the next page starts; None at the unit's beginning
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
        """What the unit has come to."""
        return Totals(self.counts, self.units, int(self.done), self.contention, self.bytes, self.journal)


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


class WrittenPage(NamedTuple):
    """A page whose every item has ended in one count. `dead` are the letters of the writing, those of the transforming
    are stored already. `announced`: its intent stands, and waits for the checkpoint."""

    page: Page
    counts: Counts
    units: Units
    dead: list[DeadLetter]
    samples: list[Sample]
    intended: bool = False
    contention: Contention = Contention()
    journal: JournalCount = JournalCount()
