"""What follows from the current items: for a change that was refused, for one that a previous owner left, for an undo.

Pure: `pipeline.inserted` reads the items and the run's rows.

A key may occur in the journal several times: each time that a concurrent write made a change void, another one was
recorded. At most one of them has taken effect: the last one, or one before it whose outcome was still open when the
next was made. In that case both were made from the same values, so that what to restore is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from dynamodt.model.tables import (
    Atomic,
    AttributeValue,
    Change,
    Check,
    Image,
    Insert,
    Journaled,
    Remove,
    TableSpec,
    Update,
)
from dynamodt.script.codec import image_digest, key_text, same, same_image
from dynamodt.script.diff import Part, as_before, carries, parts_of, patched, transaction_digest

if TYPE_CHECKING:
    from dynamodt.dynamodb.statements import InsertedRow

Shown = Literal["written", "unwritten", "unclear", "gone"]
Count = Literal["changed", "unchanged", "superseded", "vanished"]


class Current(NamedTuple):
    """The current items, of sources and at the keys of insertions, and the rows of what the run has inserted, each by
    `key_text`.

    `meets`: a source that the run has inserted is no source: the one that was read is gone, since an insertion needs
    its key to be free. `rcu` is what reading them has cost, rows of the state table aside.
    """

    sources: dict[str, Image]
    placed: dict[str, Image]
    inserted: dict[str, InsertedRow]
    meets: bool = False
    rcu: float = 0.0

    def source(self, key: Image, known: Image | None = None) -> Image | None:
        """The current source of this key, or the one that came with a refusal (`known`); None: it is gone."""
        text = key_text(key)
        if self.meets and text in self.inserted:
            return None
        return known if known is not None else self.sources.get(text)


class Ends(NamedTuple):
    """The change ends in the count `outcome`. `unconfirmed`: its item is gone after a deletion was sent; the run or the
    application has deleted it."""

    outcome: Count
    unconfirmed: bool = False


class TransformAgain(NamedTuple):
    """The source has changed: it must be transformed again."""

    now: Image


class Again(NamedTuple):
    """The write is sent again: the same, or the part of it that is left."""

    change: Change


class Unclear(NamedTuple):
    """Neither written nor unwritten can be shown: a dead letter."""

    now: Image | None


class Collision(NamedTuple):
    """The key of an insertion is taken, and its item would be lost: a dead letter. `other` is the source of the item
    that has the key, if the run has inserted that one itself."""

    insert: Insert
    other: Image | None
    own: bool


Judgement = Ends | TransformAgain | Again | Unclear | Collision


def judged(
    change: Change, doubts: Sequence[Change], current: Current, known: Image | None = None, stamp: str | None = None
) -> Judgement:
    """What follows for a change that was refused. `doubts` are earlier versions of it that were sent with unknown
    outcome, `known` is the source if it came with the refusal, `stamp` the attribute of the run's mark.

    A change of unknown outcome may have been written: an item that shows it is done, one that is as it was before is
    still to do, and any other is unclear. Nothing is guessed (guarantee G3, ADR 003). The first row that applies::

        a doubt is shown as written                      done: changed
        the source is gone, after a deletion was sent    changed, unconfirmed
        the source is gone                               vanished
        the last doubt is unclear                        a dead letter of step "doubt"
        an insertion beside a source that is as read     an item or a row has its key: see `_without_taken`
        any other                                        transform the current source again

    An insertion without a source, a row of `items()`, is judged by its own key alone: see `_of_row`.
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
    return TransformAgain(now)


def shown(doubt: Change, current: Current, known: Image | None = None, stamp: str | None = None) -> Shown:
    """What the current items show about a write of unknown outcome. "unclear": the application has changed what the
    write touches; "gone": the run or the application has deleted the item."""
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
    """A stamp shows that the patch was written, whatever was done to its attributes since. A missing stamp shows
    nothing by itself: an application may put an item without attributes that it does not know."""
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
    """All or nothing was written, including the row of each insertion. If the row exists and the update is undone,
    another change of the same source wrote it, which made the same insertion."""
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
    """A row of `items()`. An equal item is no loss; another one is a write of the application, and wins; another one of
    this run is a collision."""
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
    """The source is as it was read, so the refusal is due to an item or a row at the key of an insertion. An equal item
    needs no insertion. Another one wins, unless the source would lose a value to it."""
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
    """Whether the source is deleted or loses a value, which from then on only an insertion may contain."""
    return any(
        isinstance(part, Remove) or (isinstance(part, Update) and (part.removes or part.sets.keys() & part.read.keys()))
        for part in change.parts
    )


def _rest(change: Atomic, left: list[Part], ended: set[Count]) -> Judgement:
    """What is left of a transaction without the insertions that are not needed: a transaction as long as another
    insertion is in it, otherwise the update or the deletion alone. A mere check of the source needs no request."""
    if any(isinstance(part, Insert) for part in left):
        return Again(change._replace(parts=tuple(left)))
    for part in left:
        if isinstance(part, Update | Remove):
            return Again(part)
        assert isinstance(part, Check)
    return Ends("superseded" if "superseded" in ended else "unchanged")


def by_source(intents: Sequence[Sequence[Change]]) -> list[list[Change]]:
    """The changes of a page's intents by the item that each was made of, in order: the last of each list is the one
    that the last owner meant to write.

    A row of `items()` has no source, and is never transformed again: the same row in a later intent is the same change;
    another row of that key, or the same row twice in one intent, is another change.
    """
    found: dict[Hashable, list[Change]] = {}
    for changes in intents:
        met: Counter[Hashable] = Counter()
        for change in changes:
            source: Hashable = key_text(change.key)
            if isinstance(change, Insert):
                source = (source, image_digest(change.item))
                met[source] += 1
                source = (source, met[source])
            found.setdefault(source, []).append(change)
    return list(found.values())


CHANGED = "changed since the run"
DELETED = "the item was deleted since the run"
TAKEN = "another item has the key of the one that the run deleted"
UNCONFIRMED = "the item is gone: it cannot be told whether the run or the application has deleted it"
STAYS = "it cannot go back to the key that the run moved it from"


class Restoration(NamedTuple):
    """The change that restores an item (None: there is nothing to restore), and what is left as it is: the names of its
    attributes and `why`, which is empty if nothing is left. `restored` are the attributes that are then as before the
    run, given if others are left."""

    change: Update | Insert | Remove | None
    left: tuple[str, ...] = ()
    why: str = ""
    restored: tuple[str, ...] = ()


NOTHING = Restoration(None)


def restoration(table: TableSpec, records: Sequence[Journaled], now: Image | None) -> Restoration:
    """How to restore an item of `table`: `records` are the journal's, of one key, in order; `now` is the item.

    Only attributes that still equal what a record wrote are restored; those that are as before it need nothing, and all
    others are left (guarantee G5, ADR 024). An insertion is taken back while its item is exactly what was written, a
    deletion while its key is absent. Restoring is idempotent: an undo that died applies the same to what it left.
    """
    inserts = [record for record in records if isinstance(record, Insert)]
    own = [record for record in records if not isinstance(record, Insert)]
    if own and inserts:
        return _of_moved(table, _may_have_effect(own), inserts, now)
    likely = _may_have_effect(records)
    if now is None:
        return _of_absent(table, likely)
    updates = [record for record in likely if isinstance(record, Update)]
    if updates:
        return _of_updated(updates, now)
    inserts = [record for record in likely if isinstance(record, Insert)]
    return _of_inserted(inserts, now) if inserts else _of_deleted(likely[0], now)


def _may_have_effect(records: Sequence[Journaled]) -> list[Journaled]:
    """The last record, and those before it whose outcome was open when the next was made; the last first."""
    likely = [records[-1]]
    for record in reversed(records[:-1]):
        if not _was_open(record, likely[-1]):
            break
        likely.append(record)
    return likely


def _was_open(record: Journaled, following: Journaled) -> bool:
    """Whether a record may have been written after the following one was made, from an item that did not show it."""
    if isinstance(record, Insert) or isinstance(following, Insert):
        return isinstance(record, Insert) and isinstance(following, Insert)
    if isinstance(record, Remove):
        return same_image(record.read, following.read)
    return as_before(record, following.read)


def _of_moved(
    table: TableSpec, likely: Sequence[Journaled], inserts: Sequence[Insert], now: Image | None
) -> Restoration:
    """The run has moved the item to another key, and another item to this one. (If it has changed the item in place
    instead, this key was taken, and nothing was inserted.)"""
    last = likely[0]
    if not isinstance(last, Remove) or now is None or same_image(now, last.read):
        return restoration(table, list(reversed(likely)), now)
    if not any(same_image(now, record.item) for record in inserts):
        return Restoration(None, _differing(last.read, now), CHANGED)
    return Restoration(_update(last.key, now, {name: last.read.get(name) for name in _differing(last.read, now)}))


def _of_absent(table: TableSpec, likely: Sequence[Journaled]) -> Restoration:
    """The key is free. An item that the run may have deleted is inserted again; an insertion is gone already; an item
    that the run has updated was deleted by the application, and stays deleted."""
    for record in likely:
        if isinstance(record, Remove):
            return Restoration(Insert(table.name, record.key, record.read))
    return NOTHING if isinstance(likely[0], Insert) else Restoration(None, (), DELETED)


def _of_inserted(inserts: Sequence[Insert], now: Image) -> Restoration:
    """Several insertions may have been for one key, of which one was written."""
    if any(same_image(now, record.item) for record in inserts):
        return Restoration(Remove(inserts[0].key, now))
    return Restoration(None, _differing(inserts[0].item, now), CHANGED)


def _of_deleted(record: Journaled, now: Image) -> Restoration:
    """The run has deleted the item, and there is one of its key: the same, if an earlier try has restored it, or
    another one of the application, which stays."""
    assert isinstance(record, Remove)
    if same_image(now, record.read):
        return NOTHING
    return Restoration(None, _differing(record.read, now), TAKEN)


def _of_updated(updates: Sequence[Update], now: Image) -> Restoration:
    """Attribute by attribute. `updates` may have taken effect, the last first; all were made of the same values."""
    before: dict[str, AttributeValue | None] = {}
    left: list[str] = []
    as_it_was: list[str] = []
    for name in dict.fromkeys(name for update in updates for name in (*update.sets, *update.removes)):
        writers = [update for update in updates if name in update.sets or name in update.removes]
        current = now.get(name)
        if any(_equal(current, patched(update).get(name)) for update in writers):
            before[name] = writers[0].read.get(name)
        elif not _equal(current, writers[0].read.get(name)):
            left.append(name)
        else:
            as_it_was.append(name)
    why, restored = (CHANGED, (*before, *as_it_was)) if left else ("", ())
    return Restoration(_update(updates[0].key, now, before), tuple(left), why, restored)


def _update(key: Image, now: Image, before: dict[str, AttributeValue | None]) -> Update | None:
    if not before:
        return None
    sets = {name: value for name, value in before.items() if value is not None}
    return Update(key, now, sets, tuple(name for name, value in before.items() if value is None))


def _equal(one: AttributeValue | None, other: AttributeValue | None) -> bool:
    if one is None or other is None:
        return one is other
    return same(one, other)


def _differing(one: Image, other: Image) -> tuple[str, ...]:
    return tuple(name for name in {**one, **other} if not _equal(one.get(name), other.get(name)))
