"""Decides how an undo restores an item, by the journal's records of its key (guarantee G5, ADR 024). Pure.

A key may occur in the journal several times: whenever a concurrent write made a change void, another change was
recorded. At most one of them has taken effect: the last one, or an earlier one whose outcome was still open when the
next was made. In that case both were made from the same values, and restore the same values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dynamodt.model.tables import AttributeValue, Image, Insert, Journaled, Remove, TableSpec, Update
from dynamodt.script.codec import same, same_image
from dynamodt.script.diff import image_after, is_as_read

CHANGED = "changed since the run"
DELETED = "the item was deleted since the run"
TAKEN = "another item has the key of the one that the run deleted"
UNCONFIRMED = "the item is gone: it is not known whether the run or the application has deleted it"
REPLACED = "another item has its key: it is not known whether the run or the application has deleted the former one"
STAYS = "it cannot go back to the key that the run moved it from"


class Restoration(NamedTuple):
    """The change that restores an item (None: there is nothing to restore). `not_restored` are the names of the
    attributes that are not restored, and `why` the reason, empty if everything is restored. `restored` are the
    attributes that are then as before the run, if others are not restored."""

    change: Update | Insert | Remove | None
    not_restored: tuple[str, ...] = ()
    why: str = ""
    restored: tuple[str, ...] = ()


NOTHING = Restoration(None)


def restoration(table: TableSpec, records: Sequence[Journaled], now: Image | None) -> Restoration:
    """The restoration of an item of `table`. `records` are the journal's records of one key, in order; `now` is the
    present item.

    Only attributes that still have the value that a record wrote are restored; those with the value from before need
    nothing, and all others are left (guarantee G5, ADR 024). An insertion is undone if its item is exactly as
    written, a deletion if its key is free. Restoring is idempotent: an undo that died can be repeated.
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
    """The last record, and the records before it whose outcome was open when the next was made; the last first."""
    likely = [records[-1]]
    for record in reversed(records[:-1]):
        if not _was_open(record, likely[-1]):
            break
        likely.append(record)
    return likely


def _was_open(record: Journaled, following: Journaled) -> bool:
    """Whether a record may have been written after the following one was made, since the item then did not show it."""
    if isinstance(record, Insert) or isinstance(following, Insert):
        return isinstance(record, Insert) and isinstance(following, Insert)
    if isinstance(record, Remove):
        return same_image(record.read, following.read)
    return is_as_read(record, following.read)


def _of_moved(
    table: TableSpec, likely: Sequence[Journaled], inserts: Sequence[Insert], now: Image | None
) -> Restoration:
    """The restoration of a key from which the run has moved an item, and to which it has moved another; or whose item
    it has changed, and the application deleted, before the other item was moved here."""
    last = likely[0]
    if now is None or (isinstance(last, Remove) and same_image(now, last.read)):
        return restoration(table, list(reversed(likely)), now)
    if not isinstance(last, Remove):
        return _of_inserted(inserts, now)
    if not any(same_image(now, record.item) for record in inserts):
        return Restoration(None, _differing(last.read, now), CHANGED)
    return Restoration(_update(last.key, now, {name: last.read.get(name) for name in _differing(last.read, now)}))


def matches_no_image(records: Sequence[Journaled], now: Image | None) -> bool:
    """Whether a run has only updated an item, and the present item equals none of the images before and after: the
    application has changed it; or has deleted it, and the run has moved another item to its key."""
    updates = [record for record in records if isinstance(record, Update)]
    known = (image for update in updates for image in (update.read, image_after(update)))
    return now is not None and len(updates) == len(records) and not any(same_image(now, image) for image in known)


def _of_absent(table: TableSpec, likely: Sequence[Journaled]) -> Restoration:
    """The restoration of a free key. An item that the run may have deleted is inserted again; an inserted item is
    already gone; an item that the run has updated was deleted by the application, and stays deleted."""
    for record in likely:
        if isinstance(record, Remove):
            return Restoration(Insert(table.name, record.key, record.read))
    return NOTHING if isinstance(likely[0], Insert) else Restoration(None, (), DELETED)


def _of_inserted(inserts: Sequence[Insert], now: Image) -> Restoration:
    """The restoration of an inserted item. Several insertions may have had this key, of which one was written."""
    if any(same_image(now, record.item) for record in inserts):
        return Restoration(Remove(inserts[0].key, now))
    return Restoration(None, _differing(inserts[0].item, now), CHANGED)


def _of_deleted(record: Journaled, now: Image) -> Restoration:
    """The restoration of an item that the run has deleted, and whose key has an item: the same one, if an earlier try
    has restored it, or another one of the application, which stays."""
    assert isinstance(record, Remove)
    if same_image(now, record.read):
        return NOTHING
    return Restoration(None, _differing(record.read, now), TAKEN)


def _of_updated(updates: Sequence[Update], now: Image) -> Restoration:
    """The restoration of an updated item, attribute by attribute. `updates` may have taken effect, the last first; all
    were made from the same values."""
    before: dict[str, AttributeValue | None] = {}
    not_restored: list[str] = []
    as_it_was: list[str] = []
    for name in dict.fromkeys(name for update in updates for name in (*update.sets, *update.removes)):
        writers = [update for update in updates if name in update.sets or name in update.removes]
        current = now.get(name)
        if any(_equal(current, image_after(update).get(name)) for update in writers):
            before[name] = writers[0].read.get(name)
        elif not _equal(current, writers[0].read.get(name)):
            not_restored.append(name)
        else:
            as_it_was.append(name)
    why, restored = (CHANGED, (*before, *as_it_was)) if not_restored else ("", ())
    return Restoration(_update(updates[0].key, now, before), tuple(not_restored), why, restored)


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
