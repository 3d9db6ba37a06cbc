"""What the run itself has written: the items that it has inserted, and the changes that its earlier phases have sent
(guarantee G3). A later read must not transform either of them again.

A row of the state table is written in the transaction of each insertion (ADR 034): one strongly consistent read shows
whether an insertion has happened, even after the application has changed or deleted the item. Readers skip inserted
items (`filter_of_inserted_items`), and a writer reads the rows to decide about a refusal (`Lookups`).

A phase may read an item again that was a dead letter (ADR 050): a replay reads it on purpose, and an incremental export
shows it as created if it was deleted and created again between two exports. Its page has ended, but a request may have
had an effect unknown to the page: it was never answered, or was refused and then repeated by the network. Therefore
evidence decides, and not the page's note (`EarlierWrites`):

- of a transaction with insertions, the inserted row (`conflicts.has_own_row`): without it nothing was written. With it,
  an item that is as it was written is done; any other is in doubt: changed since, or another one of its key;
- of an update alone, the item: as it was written, it is done; as before, it is to be transformed. If the update was
  refused and its values are there, or if others are, it is in doubt.

A replay also finds what a later incremental export's phase has sent for its items: that export showed them as created,
since they were deleted and created again.

An item in doubt that the script would not change is unchanged; any other is a dead letter of step `doubt`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.dynamodb.inserted_rows import InsertedRow, InsertedRows, inserted_row
from dynamodt.dynamodb.reads import RateLimitedQueue, Reads, UnlimitedQueue
from dynamodt.dynamodb.statements import Statements
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import WrittenOrNot
from dynamodt.model.runs import INCREMENTAL, DeadLetterSource, Job, RowsSource
from dynamodt.model.tables import Atomic, Change, Image, Remove, Update
from dynamodt.pipeline.conflicts import CurrentItems, Evidence, evidence_of, has_own_row, inserts_of
from dynamodt.pipeline.outcomes import dead_letters, doubtful_keys_to_retry
from dynamodt.script.codec import key_text
from dynamodt.script.diff import image_shows, key_of, key_shown, parts_of
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import DEAD, JOURNAL, comes_before_intent, is_note, object_key, part_of, split_prefix

if TYPE_CHECKING:
    from dynamodt.script.apply import ChangeOf
    from dynamodt.state.storage import Storage


class InsertedItems:
    """The items of `table` that a run has inserted, by its rows in the state table."""

    def __init__(self, wire: Wire, rows: InsertedRows, table: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._reads = Reads(wire, rows.spec, sleep=sleep)
        self._rows = rows
        self._table = table

    def rows_at(self, keys: Sequence[Image]) -> dict[str, InsertedRow]:
        """The rows of the keys that the run has inserted, by `key_text`; strongly consistent."""
        rows = {key_text(key): self._rows.key(self._table, key) for key in keys}
        found = self._reads.items(list(rows.values())).items if rows else {}
        by_key = ((text, found.get(key_text(row))) for text, row in rows.items())
        return {text: inserted_row(image) for text, image in by_key if image is not None}


@dataclass(eq=False)
class Lookups:
    """Reads the current items and rows for `pipeline.conflicts`. `sources` reads the transformed table, `placed` the
    table that receives insertions, if it is another one. `meets_insertions`: an item that the run has inserted is not a
    source. `asks`: it is a source, and its row shows that the previous item at its key is gone. `phase`: the phase that
    writes."""

    sources: Reads
    placed: Reads | None = None
    inserted: InsertedItems | None = None
    _: KW_ONLY
    meets_insertions: bool = False
    asks: bool = False
    phase: str = ""

    def current(self, sources: Iterable[Image], places: Iterable[Image], known: Collection[Image] = ()) -> CurrentItems:
        """The current items, strongly consistent. `known` are the keys of sources that came with a refusal: only their
        inserted rows are read."""
        wanted, places = _each_once(sources), _each_once(places)
        if self.placed is None:
            there = placed = self.sources.items(_each_once([*wanted, *places]))
            rcu = there.rcu
        else:
            there, placed = self.sources.items(wanted), self.placed.items(places)
            rcu = there.rcu + placed.rcu
        asked = [*places, *wanted, *known] if self.meets_insertions or self.asks else places
        # The rows are read last: each insertion that the items show has its row, even if both were written late.
        inserted = self.inserted.rows_at(asked) if self.inserted is not None else {}
        return CurrentItems(there.items, placed.items, inserted, self.meets_insertions, rcu, self.phase)


def _each_once(keys: Iterable[Image]) -> list[Image]:
    """The keys without duplicates, which BatchGetItem refuses."""
    return list({key_text(key): key for key in keys}.values())


def lookups(
    wire: Wire, job: Job, rate_queue: RateLimitedQueue = UnlimitedQueue(), sleep: Callable[[float], None] = time.sleep
) -> Lookups:
    """The lookups of a job's writer."""
    sources = Reads(wire, job.table, rate_queue=rate_queue, sleep=sleep)
    placed = None if job.target is None else Reads(wire, job.target, rate_queue=rate_queue, sleep=sleep)
    asks = job.journals and job.script.idempotent and placed is None and not job.table.lacks_transactions
    inserted = inserted_items(wire, job, sleep)
    return Lookups(sources, placed, inserted, meets_insertions=job.meets_insertions, asks=asks, phase=job.run)


def inserted_items(wire: Wire, job: Job, sleep: Callable[[float], None] = time.sleep) -> InsertedItems:
    """The items that the job's run has inserted, or the run that it undoes."""
    return InsertedItems(wire, inserted_rows_of_job(job), job.written_table.name, sleep)


def inserted_rows_of_job(job: Job) -> InsertedRows:
    """The inserted rows of the job's run."""
    inserted_by = job.origin.inserted_by if isinstance(job.origin, RowsSource) else ""
    return InsertedRows(job.stage.state_table, inserted_by or job.journaled_run.partition("/")[0], job.run)


Foreign = Callable[[list[Image]], list[Image]]  # the images that the run has not inserted itself


def keep_all(images: list[Image]) -> list[Image]:
    """All images: the run has inserted nothing."""
    return images


def filter_of_inserted_items(wire: Wire, job: Job, sleep: Callable[[float], None] = time.sleep) -> Foreign:
    """A filter that drops items that the run has inserted itself, including rows of `items()`: they must not be
    transformed. The first scan of a run contains none of them."""
    everything = job.meets_insertions
    if not (everything or (job.script.has_items and job.later and job.target is None and not job.inserts_rows)):
        return keep_all
    inserted = inserted_items(wire, job, sleep)

    def foreign(images: list[Image]) -> list[Image]:
        rows = inserted.rows_at([key_of(job.table, image) for image in images])
        own = {text for text, row in rows.items() if everything or row.source is None}
        return [image for image in images if key_text(key_of(job.table, image)) not in own] if own else images

    return foreign


def statements(job: Job) -> Statements:
    """The statements for a job's changes."""
    return Statements(
        job.table,
        job.script.guard,
        inserted_rows_of_job(job),
        confirms=job.journals,
        meets_insertions=job.meets_insertions,
    )


# ---------------------------------------------------------------- the changes of earlier phases

_MAY_BE_WRITTEN = "an earlier phase may have written this item, which was a dead letter, and it was changed since"
_INSERTED = (
    "an earlier phase has written this item, which was a dead letter, and inserted {}; the item was changed since, or "
    "is another one"
)
_HINT = "look at the item: it may or may not be transformed; `retry --in-doubt again` transforms it"
_HINT_INSERTED = f"{_HINT}, and keeps the inserted item, which only an undo deletes"
Rows = dict[str, InsertedRow]


class SentChange(NamedTuple):
    """A change of an earlier phase. `refused`: its page has recorded that it had no effect."""

    change: Update | Atomic
    refused: bool
    phase: str


class EarlierWrites:
    """Decides for each item of a phase whether the run has written it before. It reads nothing until the first item,
    and keeps the changes in memory, at most one for each dead letter."""

    def __init__(self, job: Job, storage: Storage, inserted: InsertedItems) -> None:
        self._job = job
        self._storage = storage
        self._inserted = inserted
        self._kept: dict[str, list[SentChange]] | None = None if job.earlier and not job.script.idempotent else {}
        self._again: frozenset[str] = frozenset()

    def of_page(self, images: Sequence[Image], change_of: ChangeOf) -> ChangeOf:
        """`change_of` for the items of a page, whose rows are read at once."""
        sent = [one for image in images for one in self._sent_for(image)]
        if not sent:
            return change_of
        rows = self._rows(sent)
        return lambda image: self._change_of(image, change_of, rows)

    def change_of(self, image: Image, change_of: ChangeOf) -> Change | None:
        """The change of an item; None for the run's own result. Raises WrittenOrNot."""
        sent = self._sent_for(image)
        return self._change_of(image, change_of, self._rows(sent)) if sent else change_of(image)

    def _change_of(self, image: Image, change_of: ChangeOf, rows: Rows) -> Change | None:
        sent = self._sent_for(image)
        shows = [self._evidence(one, image, rows) for one in sent]
        if "written" in shows:
            return None
        change = change_of(image)
        if change is None or "unclear" not in shows or key_text(key_of(self._job.table, image)) in self._again:
            return change
        raise _in_doubt([one.change for one, shown in zip(sent, shows, strict=True) if shown == "unclear"])

    def _evidence(self, sent: SentChange, image: Image, rows: Rows) -> Evidence:
        current = CurrentItems({key_text(sent.change.key): image}, {}, rows, phase=sent.phase)
        if isinstance(sent.change, Atomic):
            return _of_transaction(sent.change, image, current)
        found = evidence_of(sent.change, current, stamp=self._job.script.stamp)
        if not sent.refused:
            return found
        return "unclear" if found == "written" else "unwritten"  # the values may be the application's

    def _sent_for(self, image: Image) -> list[SentChange]:
        if self._kept is None:
            self._kept = self._load_sent()
        return self._kept.get(key_text(key_of(self._job.table, image)), []) if self._kept else []

    def _load_sent(self) -> dict[str, list[SentChange]]:
        storage, job = self._storage, self._job
        self._again = doubtful_keys_to_retry(storage, job)
        found: dict[str, list[SentChange]] = {}
        later = _later_exports(job)
        replayed = _replayed_keys(storage, job) if later else frozenset()
        for run in job.earlier:
            for sent in changes_sent_by(storage, job, run, replayed if run in later else frozenset()):
                found.setdefault(key_text(sent.change.key), []).append(sent)
        return found

    def _rows(self, sent: Sequence[SentChange]) -> Rows:
        """The inserted rows of these changes. They are read after the item, so that every write that the item shows has
        its row."""
        keys = {key_text(part.key): part.key for part in inserts_of([one.change for one in sent])}
        return self._inserted.rows_at(list(keys.values())) if keys else {}


def _of_transaction(made: Atomic, image: Image, current: CurrentItems) -> Evidence:
    if not has_own_row(made, current):
        return "unwritten"
    updates = [part for part in made.parts if isinstance(part, Update)]
    return "written" if updates and all(image_shows(update, image) for update in updates) else "unclear"


def _in_doubt(unclear: Sequence[Change]) -> WrittenOrNot:
    """The error for an item in doubt. A transaction in doubt was written (`_of_transaction`): the script may have been
    corrected since, and insert another item under another key."""
    if inserted := inserts_of(unclear):
        keys = " and ".join(f"an item with the key {key_shown(part.key)}" for part in inserted)
        return WrittenOrNot(_INSERTED.format(keys), hint=_HINT_INSERTED)
    return WrittenOrNot(_MAY_BE_WRITTEN, hint=_HINT)


# ---------------------------------------------------------------- from the journals


def changes_sent_by(
    storage: Storage, job: Job, run: str, replayed: Collection[str] = frozenset()
) -> Iterator[SentChange]:
    """The changes that a phase has sent for items that were dead letters: all of its changes if it is a replay;
    otherwise the changes of the items that it left as dead letters itself, none of which is known to have had an
    effect, and its changes of the `replayed` items (by `key_text`), which were dead letters before it."""
    journal = Journal(storage, job.written_table, object_key(job.table.name, run, JOURNAL))
    if "/retry" in run:
        yield from _of_phase(storage, journal, job, run, lambda _: True)
        return
    dead = _dead_letter_keys(storage, job, run)
    for split in sorted({split for split, _ in dead}):
        names = list(storage.names(split_prefix(object_key(job.table.name, run, JOURNAL), split)))
        for name in names:
            keys = dead.get((split, part_of(name).page), set())
            yield from (
                SentChange(change, True, run) for change in _of_items(journal, [name]) if key_text(change.key) in keys
            )
    if wanted := set(replayed).difference(*dead.values()):
        yield from _of_phase(storage, journal, job, run, wanted.__contains__)


def _of_phase(
    storage: Storage, journal: Journal, job: Job, run: str, wanted: Callable[[str], bool]
) -> Iterator[SentChange]:
    """The changes of a phase at the wanted keys; `refused` by the notes of its pages."""
    names = list(storage.names(object_key(job.table.name, run, JOURNAL)))
    void = {key_text(key) for name in names if is_note(name) for key in journal.read_note(name).void}
    for change in _of_items(journal, names):
        if wanted(text := key_text(change.key)):
            yield SentChange(change, text in void, run)


def _replayed_keys(storage: Storage, job: Job) -> frozenset[str]:
    """The keys of the dead letters that the job replays."""
    source = job.source
    if not isinstance(source, DeadLetterSource):
        return frozenset()
    return frozenset(key_text(one.key) for one in dead_letters(storage, source.parts, source.left_out))


def _later_exports(job: Job) -> frozenset[str]:
    """The incremental exports' phases that follow the phase whose dead letters the job replays. They may have shown an
    item as created that was a dead letter before, since the application has created it again."""
    order, replayed = job.earlier, job.run.partition("/retry")[0]
    after = order[order.index(replayed) + 1 :] if replayed in order else ()
    return frozenset(run for run in after if INCREMENTAL in run)


def _dead_letter_keys(storage: Storage, job: Job, run: str) -> dict[tuple[int, int], set[str]]:
    """The keys of a phase's dead letters that may have been sent, by split and page."""
    found: dict[tuple[int, int], set[str]] = {}
    for name in storage.names(object_key(job.table.name, run, DEAD)):
        if not comes_before_intent(name):
            keys = found.setdefault(part_of(name)[:2], set())
            keys.update(key_text(dead_letter.key) for dead_letter in dead_letters(storage, [name]))
    return found


def _of_items(journal: Journal, names: Sequence[str]) -> Iterator[Update | Atomic]:
    """The changes that leave their item at its key; the key of a moved item may have another item."""
    for name in names:
        for change in () if is_note(name) else journal.intended(name):
            stays = isinstance(change, Update | Atomic)
            if stays and not any(isinstance(part, Remove) for part in parts_of(change)):
                assert isinstance(change, Update | Atomic)
                yield change
