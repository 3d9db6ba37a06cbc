"""What becomes of a change whose write was refused, or whose owner before has left it: judged by what is there now.

Pure: the items and rows are read by `aws.lookups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from dynamodt.core.codec import same_image
from dynamodt.core.diff import Part, as_before, carries, parts_of
from dynamodt.core.inserted import InsertedRow, transaction_digest
from dynamodt.core.keys import image_digest, key_text
from dynamodt.model import Atomic, Change, Check, Image, Insert, Remove, Update

Shown = Literal["written", "unwritten", "unclear", "gone"]
Count = Literal["changed", "unchanged", "superseded", "vanished"]


class Current(NamedTuple):
    """The items and rows of now, by `key_text`: of sources, at the keys of insertions, and what the run has inserted.

    `meets`: a source that the run has inserted is no source: the one that was read is gone, since an insertion needs
    its key to be free.
    """

    sources: dict[str, Image]
    placed: dict[str, Image]
    inserted: dict[str, InsertedRow]
    meets: bool = False

    def source(self, key: Image, known: Image | None = None) -> Image | None:
        """The source of this key, as it is now or as it came with a refusal (`known`); None: it is gone."""
        text = key_text(key)
        if self.meets and text in self.inserted:
            return None
        return known if known is not None else self.sources.get(text)


class Ends(NamedTuple):
    """The change ends in the count `outcome`. `unconfirmed`: its item is gone, and a deletion was sent; whether that or
    the application has deleted it cannot be told."""

    outcome: Count
    unconfirmed: bool = False


class Afresh(NamedTuple):
    """The source is another by now: it is to be transformed afresh."""

    now: Image


class Again(NamedTuple):
    """The write is sent again: the same, or what of it is left to do."""

    change: Change


class Unclear(NamedTuple):
    """Neither written nor unwritten can be shown: a dead letter."""

    now: Image | None


class Collision(NamedTuple):
    """The key of an insertion is taken, and what it was to hold would be lost: a dead letter. `other` is the source of
    the item that has it, where the run has inserted that one itself."""

    insert: Insert
    other: Image | None
    own: bool


Judgement = Ends | Afresh | Again | Unclear | Collision


def judged(
    change: Change, doubts: Sequence[Change], current: Current, known: Image | None = None, stamp: str | None = None
) -> Judgement:
    """What becomes of a change that was refused. `doubts` are its earlier sendings whose outcome is unknown, `known` is
    the source, where it came with the refusal, `stamp` the attribute of the run's mark.

    What was sent before and never answered may have been written: an item that shows it is done, one that is as it was
    before is still to do, and any other is unclear: never a guess.
    """
    if isinstance(change, Insert):
        return _of_row(change, bool(doubts), current)
    shows = [shown(doubt, current, known, stamp) for doubt in doubts]
    now = current.source(change.key, known)
    if "written" in shows:
        return Ends("changed")
    if now is None:
        return Ends("changed", unconfirmed=True) if "gone" in shows else Ends("vanished")
    if shows and shows[-1] == "unclear":
        return Unclear(now)
    if isinstance(change, Atomic) and same_image(now, change.read):
        return _without_taken(change, current)
    return Afresh(now)


def shown(doubt: Change, current: Current, known: Image | None = None, stamp: str | None = None) -> Shown:
    """What the items of now tell about a write whose outcome is unknown."""
    now = current.source(doubt.key, known)
    if isinstance(doubt, Atomic):
        return _of_several(doubt, now, current)
    if isinstance(doubt, Remove):
        return "gone" if now is None else "unwritten"
    assert isinstance(doubt, Update)
    return "unwritten" if now is None else _of_update(doubt, now, stamp)


def inserts_of(changes: Sequence[Change]) -> list[Insert]:
    """Their insertions."""
    return [part for change in changes for part in parts_of(change) if isinstance(part, Insert)]


def _of_update(update: Update, now: Image, stamp: str | None) -> Shown:
    """A stamp that is there shows that the patch was written, whatever others have done to its attributes since. One
    that is missing shows nothing by itself: an application may put an item back without what it does not know."""
    if stamp is not None and stamp in update.sets:
        if stamp in now and now[stamp] == update.sets[stamp]:
            return "written"
        return "unwritten" if as_before(_without(update, stamp), now) else "unclear"
    if carries(update, now):
        return "written"
    return "unwritten" if as_before(update, now) else "unclear"


def _without(update: Update, name: str) -> Update:
    return update._replace(sets={each: value for each, value in update.sets.items() if each != name})


def _of_several(doubt: Atomic, now: Image | None, current: Current) -> Shown:
    """All or nothing was written, and the row of each insertion is one of the parts. An update that shows as undone is
    another of the same source, which only wanted the same insertion."""
    rows = [row for part in inserts_of([doubt]) if (row := _own_row(part, doubt.key, current)) is not None]
    if not rows:
        return "unwritten"
    if any(row.transaction == transaction_digest(doubt) for row in rows):
        return "written"
    updates = (part for part in doubt.parts if isinstance(part, Update))
    undone = now is not None and any(as_before(update, now) and not carries(update, now) for update in updates)
    return "unwritten" if undone else "written"


def _own_row(part: Insert, source: Image, current: Current) -> InsertedRow | None:
    """The row of this very item, if the run has inserted it, made of this source."""
    row = current.inserted.get(key_text(part.key))
    return row if row is not None and row.is_of(part, source) else None


def _of_row(change: Insert, doubtful: bool, current: Current) -> Judgement:
    """A row of `items()`. An equal item is no loss; another one is a live write, and wins; another one of this run is a
    collision."""
    text = key_text(change.key)
    row, there = current.inserted.get(text), current.placed.get(text)
    if row is not None and row.item != image_digest(change.item):
        return Collision(change, row.source, own=True)
    if row is None and there is None:
        return Again(change)
    if row is None and not same_image(there or {}, change.item):
        return Ends("superseded")
    return Ends("changed" if doubtful else "unchanged")


def _without_taken(change: Atomic, current: Current) -> Judgement:
    """The source is as it was read, so that an insertion has met an item or a row. What is there already needs no
    insertion. Another item wins, unless the source would lose what it was to hold."""
    left: list[Part] = []
    ended: set[Count] = set()
    for part in change.parts:
        found = _taken(change, part, current) if isinstance(part, Insert) else None
        if isinstance(found, Collision):
            return found
        if found is None:
            left.append(part)
        else:
            ended.add(found)
    return _rest(change, left, ended)


def _taken(change: Atomic, part: Insert, current: Current) -> Count | Collision | None:
    """None: its key is free."""
    text = key_text(part.key)
    row, there = current.inserted.get(text), current.placed.get(text)
    if row is not None:
        if row.item == image_digest(part.item):
            return "unchanged"
        own = row.is_from(change.key)
        return "superseded" if own and not _loses(change) else Collision(part, row.source, own=True)
    if there is None:
        return None
    if same_image(there, part.item):
        return "unchanged"
    return Collision(part, None, own=False) if _loses(change) else "superseded"


def _loses(change: Atomic) -> bool:
    """Whether the source is deleted, or loses a value: an insertion may be what holds it from then on."""
    return any(
        isinstance(part, Remove) or (isinstance(part, Update) and (part.removes or part.sets.keys() & part.read.keys()))
        for part in change.parts
    )


def _rest(change: Atomic, left: list[Part], ended: set[Count]) -> Judgement:
    if any(isinstance(part, Insert) for part in left):
        return Again(change._replace(parts=tuple(left)))
    for part in left:
        if isinstance(part, Update | Remove):
            return Again(part)
        assert isinstance(part, Check)
    return Ends("superseded" if "superseded" in ended else "unchanged")
