"""The outcome of a page's changes, and the parts of it that are stored: dead letters, samples, and items that an undo
did not restore.

A dead letter has the whole item; an item that an undo did not restore has its key, names of attributes and a reason,
but no values.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynamodt.errors import DynamodtError, ItemError, WrittenOrNot, error_text
from dynamodt.model.pages import AppliedPage, Contention, Counts, DeadLetter, JournalCount, Page, Units, WrittenPage
from dynamodt.model.reports import NotRestored
from dynamodt.model.runs import DeadLetterSource, Job
from dynamodt.model.tables import Atomic, Change, Image, Insert, Remove, Sample, Update
from dynamodt.script.codec import key_text, same_image
from dynamodt.script.diff import image_after, key_of, key_shown, parts_of
from dynamodt.state.object_keys import (
    DEAD,
    NOT_RESTORED,
    key_of_job,
    line_with_digest,
    page_prefix,
    part_of,
    stored_lines,
)

if TYPE_CHECKING:
    from dynamodt.pipeline.conflicts import Collision
    from dynamodt.script.apply import ChangeOf
    from dynamodt.state.storage import Storage

MOST_SAMPLES = 3
# Reasons why an undo leaves an item whose key another split may free: it is tried again at the end.
WAITS = "an item that the run has inserted is at its key, and stays"
FOLLOWS = "an item that the run has inserted is at the key that the run moved it from"


@dataclass(slots=True)
class WriteResult:
    """The outcomes of a page's changes. `void` are the keys of changes that had no effect, though they are in the
    journal; `unconfirmed` are the keys of items that are gone, deleted by either the run or the application;
    `replaced` are keys of another item, whose former one the run may have deleted.
    """

    counts: Counts = Counts()
    units: Units = Units()
    dead: list[DeadLetter] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)  # the first few written ones
    contention: Contention = Contention()
    void: list[Image] = field(default_factory=list)
    unconfirmed: list[Image] = field(default_factory=list)
    replaced: list[Image] = field(default_factory=list)
    effective: list[Change] = field(default_factory=list)

    def done(self, changes: Sequence[Change]) -> None:
        """Count changes that were written."""
        self.counts = self.counts._replace(changed=self.counts.changed + len(changes))
        self.effective += changes
        if len(self.written) < MOST_SAMPLES:
            self.written += changes[: MOST_SAMPLES - len(self.written)]

    def end(self, change: Change, kind: str, *, unconfirmed: bool = False) -> None:
        """Count one change with the outcome `kind`; any outcome but "changed" means that it had no effect."""
        if unconfirmed:
            self.unconfirmed.append(change.key)
        self.counts = self.counts._replace(**{kind: getattr(self.counts, kind) + 1})
        if kind == "changed":
            self.effective.append(change)
        else:
            self.without_effect(change)

    def bury(self, change: Change, error: BaseException, now: Image | None, step: str) -> None:
        """Count a change as a dead letter, with the current image or the one that was read. A change in doubt may have
        had an effect and is not reported as void, so that an undo decides by the item."""
        image = now or (change.item if isinstance(change, Insert) else change.read)
        self.counts = self.counts._replace(dead=self.counts.dead + 1)
        self.dead.append(dead_letter(change.key, image, step, error))
        if step != "doubt":
            self.without_effect(change)

    def add(self, other: WriteResult) -> None:
        """Add the outcomes of other changes of the same page."""
        self.counts, self.units = self.counts.plus(other.counts), self.units.plus(other.units)
        self.contention = self.contention.plus(other.contention)
        self.dead += other.dead
        self.void += other.void
        self.unconfirmed += other.unconfirmed
        self.replaced += other.replaced
        self.written += other.written[: MOST_SAMPLES - len(self.written)]

    def without_effect(self, change: Change) -> None:
        """Record that no part of the change was written. Insertions are left out: their rows in the state table show
        whether they happened."""
        self.void += [part.key for part in parts_of(change) if isinstance(part, Update | Remove) or part is change]

    def really_void(self) -> list[Image]:
        """The void keys, except those on which another change of the page had an effect."""
        if not self.void:
            return []
        parts = (part for change in self.effective for part in parts_of(change))
        effective = {key_text(part.key) for part in parts if isinstance(part, Update | Remove)}
        return [key for key in self.void if key_text(key) not in effective]


def counts_without_write(applied: AppliedPage) -> Counts:
    """The counts of the items that need no write, and of all items that were read."""
    intent = applied.page.claim.intent
    if applied.page.recovers and intent is not None:
        return intent.counts
    images, replayed = len(applied.page.images), applied.page.replayed
    if replayed:  # they were counted as read and dead in an earlier phase: now each ends in another count
        gone = replayed - images
        return Counts(0, applied.confirmed, applied.unchanged, 0, gone, applied.dead - replayed)
    read = images + len(applied.page.unreadable) + applied.page.not_inserted
    return Counts(read=read, unchanged=applied.unchanged + applied.page.not_inserted, dead=applied.dead)


def written_page(
    applied: AppliedPage, needless: Counts, write_result: WriteResult, intended: bool = False
) -> WrittenPage:
    """A page's outcome: that of its changes, and the items that needed no write."""
    return WrittenPage(
        applied.page,
        needless.plus(write_result.counts),
        write_result.units.plus(Units(rcu=applied.page.rcu)),
        write_result.dead,
        samples(write_result.written),
        intended,
        write_result.contention.plus(Contention(throttles=applied.page.throttles)),
    )


def samples(changes: list[Change]) -> list[Sample]:
    """Changes as pairs of the item before and after."""
    return [_sample(change) for change in changes]


def _sample(change: Change) -> Sample:
    if isinstance(change, Update):
        return change.read, image_after(change)
    if isinstance(change, Insert):
        return {}, change.item
    if isinstance(change, Atomic):
        return _sample_of_several(change)
    assert isinstance(change, Remove)
    return change.read, None


def _sample_of_several(change: Atomic) -> Sample:
    """The item that was read, if it changed or moved to another key; otherwise an item that was inserted with it."""
    inserted = [part.item for part in change.parts if isinstance(part, Insert)]
    for part in change.parts:
        if isinstance(part, Update):
            return _sample(part)
        if isinstance(part, Remove):
            return change.read, inserted[0] if inserted else None
    return {}, inserted[0]


def collision(found: Collision, change: Change) -> ItemError:
    """The error for two items with one key. It names both, since only the author can decide between them."""
    key = key_shown(found.insert.key)
    if not found.own:
        what = f"another item has the new key {key} already"
    elif found.other is None:
        what = f"another row of items() has the key {key}"
    elif key_text(found.other) == key_text(change.key):
        what = f"the run has inserted another item, made of an earlier state of this one, under the key {key}"
    else:
        what = f"two items are for the key {key}: {key_shown(found.other)} and {key_shown(change.key)}"
    return ItemError(what, where=f"table {found.insert.table}", hint="give each item a key of its own in the script")


UNREADABLE = "unreadable"  # lines of an export that are not items: `retry` cannot replay them


def dead_letter(key: Image, image: Image, step: str, error: BaseException) -> DeadLetter:
    """A failure and its item."""
    trace = "".join(traceback.format_exception(error))
    hint = f" ({error.hint})" if isinstance(error, DynamodtError) and error.hint else ""
    return DeadLetter(key, image, step, _storable(f"{error_text(error)}{hint}"), _storable(trace))


def _storable(text: str) -> str:
    """The text in a form that UTF-8 can encode: an author's message may contain half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def store_dead_letters(objects: Storage, job: Job, page: Page, name: str, dead_letters: Sequence[DeadLetter]) -> None:
    """Store the dead letters of one page, as JSON lines; the same page read again replaces them. Each DoFn stores its
    own, before they are counted."""
    if not dead_letters:
        return
    part = f"{page_prefix(key_of_job(job, DEAD), page.claim.split, page.number, page.claim.fencing_token)}{name}.jsonl"
    objects.write(part, b"".join(_line(job, part, dead_letter) for dead_letter in dead_letters))


def dead_letters(
    objects: Storage, parts: Sequence[str], left_out: Sequence[tuple[str, str]] = ()
) -> Iterator[DeadLetter]:
    """The dead letters of some parts, without those that are left out; for each key only the last one."""
    found: dict[str, DeadLetter] = {}
    without = set(left_out)
    for part in parts:
        for dead_letter in dead_letters_in(objects, part):
            text = key_text(dead_letter.key)
            if (part, text) not in without:
                found[text] = dead_letter
    yield from found.values()


def dead_letters_in(objects: Storage, part: str) -> Iterator[DeadLetter]:
    """All dead letters of a part, in the order in which they were stored."""
    for record in stored_lines(objects, part):
        yield DeadLetter(*(record[name] for name in DeadLetter._fields))


def doubtful_keys_to_retry(objects: Storage, job: Job) -> frozenset[str]:
    """The items in doubt that an operator has asked to be transformed, by `key_text`."""
    if not isinstance(job.source, DeadLetterSource):
        return frozenset()
    doubtful = [part for part in job.source.parts if part.endswith("-doubt.jsonl")]
    return frozenset(key_text(dead_letter.key) for dead_letter in dead_letters(objects, doubtful, job.source.left_out))


def _line(job: Job, part: str, dead_letter: DeadLetter) -> bytes:
    of = {"table": job.table.name, "version": job.script.sequence, "direction": job.direction, "run": job.base_run}
    return line_with_digest(part, {**of, **dead_letter._asdict()})


def store_not_restored(objects: Storage, job: Job, page: Page, left: Sequence[NotRestored]) -> JournalCount:
    """Store the items of a page that an undo did not restore, as JSON lines, before they are counted. Returns their
    number."""
    if left:
        of_page = page_prefix(key_of_job(job, NOT_RESTORED), page.claim.split, page.number, page.claim.fencing_token)
        name = f"{of_page}left.jsonl"
        objects.write(name, b"".join(line_with_digest(name, item._asdict()) for item in left))
    return JournalCount(records=len(left))


def is_waiting(line: dict[str, Any]) -> bool:
    """Whether an undo retries, at its end, an item that it has not restored."""
    return line["why"] in (WAITS, FOLLOWS)


def waiting_keys(objects: Storage, parts: Iterable[str]) -> dict[tuple[int, int], set[str]]:
    """The keys of the retried items, by `key_text`, for each split and page, since another page may have a record of
    the same key."""
    found: dict[tuple[int, int], set[str]] = {}
    for part in parts:
        for line in filter(is_waiting, stored_lines(objects, part)):
            found.setdefault(part_of(part)[:2], set()).add(key_text(line["key"]))
    return found


# ---------------------------------------------------------------- items that the other direction has left

_CHANGED = "the {} of this version has left this item as a dead letter, and it was changed since"
_HINT = "look at the item: `retry --in-doubt again` transforms it, `--in-doubt done` leaves it as it is"


def except_left_dead_letters(job: Job, storage: Storage, change_of: ChangeOf) -> ChangeOf:
    """`change_of` for all items except those that the last run in the other direction has left as dead letters,
    accepted or tolerated. These are read at once, and kept in memory.

    They were not transformed, so that a `down`, or an `up` after a `down` that left them, must leave them as they are.
    Evidence decides (ADR 074): an item that equals its dead letter stays as it is; an item that was changed since, or
    had a write in doubt, is a dead letter of step `doubt`, unless the script would not change it.
    """
    left: dict[str, list[DeadLetter]] = {}
    for part, keys in job.untransformed:
        for dead_letter in dead_letters_in(storage, part):
            text = key_text(dead_letter.key)
            if keys is None or text in keys:
                left.setdefault(text, []).append(dead_letter)
    asked = doubtful_keys_to_retry(storage, job)

    def change_of_others(image: Image) -> Change | None:
        text = key_text(key_of(job.table, image))
        if text not in left or text in asked:
            return change_of(image)
        in_doubt = any(dead_letter.step == "doubt" for dead_letter in left[text])
        if not in_doubt and any(same_image(dead_letter.image, image) for dead_letter in left[text]):
            return None
        if change_of(image) is None:
            return None
        raise WrittenOrNot(_CHANGED.format("up" if job.direction == "down" else "down"), hint=_HINT)

    return change_of_others
