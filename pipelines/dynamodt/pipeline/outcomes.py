"""What a page's changes have come to.

What is kept of an item that could not be transformed or written, and where.

What an undo leaves as it is, and where that is kept: keys, attributes' names and reasons, never their values.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import orjson

from dynamodt.errors import DynamodtError
from dynamodt.model.items import Atomic, Change, Image, Insert, Remove, Sample, Update
from dynamodt.model.pages import Contention, Counts, DeadLetter, Page, Units
from dynamodt.model.reports import NotRestored
from dynamodt.model.runs import Job
from dynamodt.script.codec import key_text
from dynamodt.script.diff import parts_of, patched
from dynamodt.script.load import said
from dynamodt.state.object_keys import dead_prefix, left_prefix, page_prefix

SAMPLES = 3


@dataclass(slots=True)
class WriteResult:
    """What a page's changes came to. `void` are the keys of changes that had no effect, whatever the journal says,
    `unconfirmed` those of items that are gone, where the run may have deleted them or the application.
    """

    counts: Counts = Counts()
    units: Units = Units()
    dead: list[DeadLetter] = field(default_factory=list)
    written: list[Change] = field(default_factory=list)  # the first few that were
    contention: Contention = Contention()
    void: list[Image] = field(default_factory=list)
    unconfirmed: list[Image] = field(default_factory=list)
    effective: list[Change] = field(default_factory=list)

    def done(self, changes: Sequence[Change]) -> None:
        """The changes were written: `end`, for many at once."""
        self.counts = self.counts._replace(changed=self.counts.changed + len(changes))
        self.effective += changes
        if len(self.written) < SAMPLES:
            self.written += changes[: SAMPLES - len(self.written)]

    def end(self, change: Change, kind: str, *, unconfirmed: bool = False) -> None:
        """The change has come to its end: "changed", or in one of the other counts, and then it had no effect."""
        if unconfirmed:
            self.unconfirmed.append(change.key)
        self.counts = self.counts._replace(**{kind: getattr(self.counts, kind) + 1})
        if kind == "changed":
            self.effective.append(change)
        else:
            self.without_effect(change)

    def add(self, other: WriteResult) -> None:
        """What others of the same page have come to."""
        self.counts, self.units = self.counts.plus(other.counts), self.units.plus(other.units)
        self.contention = self.contention.plus(other.contention)
        self.dead += other.dead
        self.void += other.void
        self.unconfirmed += other.unconfirmed
        self.written += other.written[: SAMPLES - len(self.written)]

    def without_effect(self, change: Change) -> None:
        """Nothing of the change was written. Of the insertions of a transaction their rows in the state table tell."""
        self.void += [part.key for part in parts_of(change) if isinstance(part, Update | Remove) or part is change]

    def really_void(self) -> list[Image]:
        """The void keys on which no other change of the page had an effect: two may have been for one."""
        if not self.void:
            return []
        parts = (part for change in self.effective for part in parts_of(change))
        effective = {key_text(part.key) for part in parts if isinstance(part, Update | Remove)}
        return [key for key in self.void if key_text(key) not in effective]


def samples(changes: list[Change]) -> list[Sample]:
    """The first few changes as before and after."""
    return [_sample(change) for change in changes]


def _sample(change: Change) -> Sample:
    if isinstance(change, Update):
        return change.read, patched(change)
    if isinstance(change, Insert):
        return {}, change.item
    if isinstance(change, Atomic):
        return _sample_of_several(change)
    assert isinstance(change, Remove)
    return change.read, None


def _sample_of_several(change: Atomic) -> Sample:
    """What became of the item that was read, if it did not stay: it moved to another key, or changed; else what was put
    beside it."""
    inserted = [part.item for part in change.parts if isinstance(part, Insert)]
    for part in change.parts:
        if isinstance(part, Update):
            return _sample(part)
        if isinstance(part, Remove):
            return change.read, inserted[0] if inserted else None
    return {}, inserted[0]


UNREADABLE = "unreadable"  # lines of an export that are no items: nothing can take them up again


class Objects(Protocol):
    """What `state.storage.Storage` offers, and a test's fake must."""

    def write(self, name: str, data: bytes) -> None: ...

    def read(self, name: str) -> bytes | None: ...


def dead_letter(key: Image, image: Image, stage: str, error: BaseException) -> DeadLetter:
    """A failure with the item that it befell."""
    trace = "".join(traceback.format_exception(error))
    hint = f" ({error.hint})" if isinstance(error, DynamodtError) and error.hint else ""
    return DeadLetter(key, image, stage, _storable(f"{said(error)}{hint}"), _storable(trace))


def _storable(text: str) -> str:
    """An author's message may hold half a surrogate pair, which no UTF-8 can."""
    return text.encode("utf-8", "backslashreplace").decode()


def store(objects: Objects, job: Job, page: Page, stage: str, dead_letters: Sequence[DeadLetter]) -> None:
    """Keep the letters of one page, as JSON lines; the same page read again replaces them. Each stage keeps its own,
    before anything counts them: a count without its letter cannot be."""
    if not dead_letters:
        return
    name = f"{page.claim.split:06d}-{page.number:08d}-{page.claim.fencing_token:04d}-{stage}.jsonl"
    objects.write(dead_prefix(job) + name, b"".join(_line(job, dead_letter) for dead_letter in dead_letters))


def dead_letters(objects: Objects, parts: Sequence[str]) -> Iterator[DeadLetter]:
    """The letters of some parts, each key once: the last of its letters."""
    found: dict[str, DeadLetter] = {}
    for part in parts:
        for line in (objects.read(part) or b"").splitlines():
            record = orjson.loads(line)
            dead_letter = DeadLetter(*(record[name] for name in DeadLetter._fields))
            found[key_text(dead_letter.key)] = dead_letter
    yield from found.values()


def _line(job: Job, dead_letter: DeadLetter) -> bytes:
    record = {"table": job.table.name, "version": job.script.sequence, "direction": job.direction, "run": job.base_run}
    return orjson.dumps({**record, **dead_letter._asdict()}, option=orjson.OPT_APPEND_NEWLINE)


def store_left(objects: Objects, job: Job, page: Page, left: Sequence[NotRestored]) -> None:
    """Keep what a page leaves, as JSON lines, before anything counts it."""
    if left:
        lines = (orjson.dumps(item._asdict(), option=orjson.OPT_APPEND_NEWLINE) for item in left)
        name = page_prefix(left_prefix(job), page.claim.split, page.number, page.claim.fencing_token)
        objects.write(f"{name}left.jsonl", b"".join(lines))
