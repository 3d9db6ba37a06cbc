"""Restores the items of a journal's page: the decision for each item, which is pure, and the order of the writes.

An item is restored by the journal's records of its key (guarantee G5, ADR 024). A key may occur in the journal several
times: whenever a concurrent write made a change void, another change was recorded. At most one of them has taken
effect: the last one, or an earlier one whose outcome was still open when the next was made. In that case both were made
from the same values, and restore the same values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.dynamodb.statements import takes_transaction
from dynamodt.errors import ItemError
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import NotRestored
from dynamodt.model.tables import Atomic, AttributeValue, Change, Image, Insert, Journaled, Remove, TableSpec, Update
from dynamodt.pipeline.outcomes import FOLLOWS, WAITS, WriteResult
from dynamodt.script.codec import image_digest, key_text, same, same_image
from dynamodt.script.diff import check_takes, image_after, is_as_read, key_of, write_units
from dynamodt.state.journal import Records, update_between

if TYPE_CHECKING:
    from dynamodt.dynamodb.inserted_rows import InsertedRow
    from dynamodt.dynamodb.reads import Reads

CHANGED = "changed since the run"
COPIED = CHANGED + " moved it here; the former item returns to its old key, unless that is taken"
DELETED = "the item was deleted since the run"
TAKEN = "another item has the key of the one that the run deleted"
UNCONFIRMED = "the item is gone: it is not known whether the run or the application has deleted it"
REPLACED = "another item has its key: it is not known whether the run or the application has deleted the former one"
STAYS = "it cannot go back to the key that the run moved it from"

RowsAt = Callable[[Sequence[Image]], "dict[str, InsertedRow]"]  # the rows of inserted items at keys, by `key_text`


def no_rows(keys: Sequence[Image]) -> dict[str, InsertedRow]:
    """No rows: the table takes no transactions."""
    return {}


class Restoration(NamedTuple):
    """The change that restores an item (None: there is nothing to restore). `not_restored` are the names of the
    attributes that are not restored, and `why` the reason, empty if everything is restored. `restored` are the
    attributes that are then as before the run, if others are not restored. `is_there`: the key of a deleted item has
    an equal one: an earlier try has restored it, or the run has moved another one there."""

    change: Change | None
    not_restored: tuple[str, ...] = ()
    why: str = ""
    restored: tuple[str, ...] = ()
    is_there: bool = False


NOTHING = Restoration(None)


def restoration(table: TableSpec, records: Sequence[Journaled], now: Image | None) -> Restoration:
    """The restoration of an item of `table`. `records` are the journal's records of one key, in order; `now` is the
    present item.

    Only attributes that still have the value that a record wrote are restored; those with the value from before need
    nothing, and all others are left (guarantee G5, ADR 024). An insertion is undone if its item is exactly as
    written, a deletion if its key is free. Restoring is idempotent: an undo that died can be repeated."""
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
        return restoration(table, list(reversed(likely)), now)._replace(is_there=False)  # an equal item may stay
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
        return Restoration(None, is_there=True)
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


def moved_back(table: TableSpec, moves: Sequence[tuple[Image, Image]], now: Image) -> tuple[Restoration, Restoration]:
    """The restorations of the old key and of the new one of a moved item, which is `now`: one transaction moves it
    back, with its attributes restored as those of an updated item, to which its key belongs. `moves` are the images
    before and after."""
    found = _of_updated([update_between(table, read, item) for read, item in reversed(moves)], now)
    assert isinstance(found.change, Update), "the key at least is as the run wrote it"
    key, item = key_of(table, now), image_after(found.change)
    back = Atomic(key, now, (Insert(table.name, found.change.key, item), Remove(key, now)))
    return found._replace(change=back), Restoration(back)


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


# ---------------------------------------------------------------- the items of a page


def _units_of_undo(change: Change) -> int:
    """The write units of a restoration. An inserted item is deleted in a transaction that notes it, if it fits."""
    alone = not isinstance(change, Remove) or not takes_transaction(change)
    return write_units(change) * (1 if alone else 2)


class PageItems:
    """The items of one page, read by the constructor and written in an order that keeps a copy of each moved item.

    `changes` restore them; `counts` has the number of all items, and the outcomes of those that need no write.
    `inserted` reads the rows of items that the run has inserted, `put_back` of those that the undo has put back."""

    def __init__(
        self,
        table: TableSpec,
        records: Records,
        reads: Reads,
        stamp: str | None = None,
        inserted: RowsAt = no_rows,
        put_back: RowsAt = no_rows,
    ) -> None:
        self._table = table
        self._inserted = inserted
        self._put_back = put_back
        self._moved_to = records.moved_to
        self._moved = records.moved
        self._moved_alone = records.moved_alone()
        self._unconfirmed = records.unconfirmed
        self._replaced = records.replaced
        self._moved_from = records.moved_from
        self._restored = records.restored.copy()
        self._reads = reads
        self.rcu = 0.0  # the cost of reading the items
        self._records = {**self._void_but_stamped(records.void, stamp), **records.by_key}
        self._found = self._read_and_decide(list(self._records))
        self.changes = self._changes(self._found)
        alone = len(self._unconfirmed.keys() - self._records.keys()) + len(self._replaced)
        needless = [text for text, found in self._found.items() if found.change is None]
        removed = len(records.removed - self._records.keys())
        counts = Counts(read=len(self._records) + alone + removed, unchanged=removed, superseded=alone)
        self.counts = counts.plus(self._counts_of(needless))

    def _changes(self, found: dict[str, Restoration]) -> list[Change]:
        """The changes of these restorations, each once."""
        return [one.change for text, one in found.items() if one.change and key_text(one.change.key) == text]

    def _counts_of(self, texts: Iterable[str]) -> Counts:
        """The counts of items that needed no write, or had none."""
        kinds = {"": "unchanged", DELETED: "vanished"}
        return Counts(**Counter(kinds.get(self._found[text].why, "superseded") for text in texts))

    def _void_but_stamped(self, void: dict[str, list[Update]], stamp: str | None) -> dict[str, list[Journaled]]:
        """The void updates whose item has their stamp: they were refused, and then repeated by the network."""
        if stamp is None or not void:
            return {}
        current = self._reads.items([updates[0].key for updates in void.values()])
        self.rcu += current.rcu
        stamped: dict[str, list[Journaled]] = {}
        for text, updates in void.items():
            mark = current.items.get(text, {}).get(stamp)
            if found := [update for update in updates if mark and update.sets.get(stamp) == mark]:
                stamped[text] = [*found]
        return stamped

    def restore(self, write: Callable[[Sequence[Change]], WriteResult]) -> WriteResult:
        """Writes the changes. An item that was moved here is deleted once its source is restored, even if the
        application has changed that since. It stays if that fails, since only the journal would then contain it."""
        total = WriteResult()
        waiting = {key_text(change.key): change for change in self.changes}
        lost = {text for text, found in self._found.items() if found.why and not found.change} - self._restored
        while ready := [text for text in waiting if not self._sources(text) & (waiting.keys() | lost)]:
            moves = self._moves_of(ready)
            found = write([waiting.pop(text) for text in ready])
            dead = {key_text(one.key) for one in found.dead}
            void = {*map(key_text, found.void)} - dead
            void |= {moves.pop(text) for text in void & moves.keys()}
            lost.update(dead, self._read_not_written(void))
            found.counts = self._counts_with_sources(found, moves).plus(self._counts_of(void))
            total.add(found)
        follows = self._freed_later(set(waiting), lost)
        for text in waiting:
            self._found[text] = Restoration(None, (), FOLLOWS if text in follows else STAYS)
            total.counts = total.counts._replace(superseded=total.counts.superseded + 1)
        return total

    def _moves_of(self, texts: Iterable[str]) -> dict[str, str]:
        """The old keys of those of these items that one write moves back."""
        return {text: self._moved_alone[text] for text in texts if isinstance(self._found[text].change, Atomic)}

    def _counts_with_sources(self, result: WriteResult, moves: dict[str, str]) -> Counts:
        """The counts of writes that had an effect or failed, with those of the old keys of `moves`."""
        stay = [moves[text] for text in {key_text(one.key) for one in result.dead} & moves.keys()]
        self._found.update(dict.fromkeys(stay, Restoration(None, (), STAYS)))
        changed = result.counts.changed + len(moves) - len(stay)
        return Counts(changed=changed, dead=result.counts.dead, superseded=len(stay))

    def preview(self) -> WriteResult:
        """The outcome without concurrent writes, with estimated units. It counts waiting items as restored, and items
        that were moved to their keys as deleted. An index that was added since the run may refuse a value."""
        waits = [text for text, found in self._found.items() if found.why == WAITS]
        follow = [text for text, found in self._found.items() if found.why == FOLLOWS]
        back = {text: restoration(self._table, self._records[text], None) for text in waits}
        self._found.update(back | dict.fromkeys(follow, NOTHING))
        self.counts = self.counts._replace(superseded=self.counts.superseded - len(back) - len(follow))
        result = WriteResult(Counts(changed=len(follow)))
        for change in (changes := self._changes(self._found)):
            try:
                check_takes(self._table, change)
                result.done([change])
            except ItemError as error:
                result.bury(change, error, None, "write")
        result.counts = self._counts_with_sources(result, self._moves_of(key_text(one.key) for one in changes))
        result.units = Units(wcu=float(sum(map(_units_of_undo, result.effective))))
        return result

    def _freed_later(self, waiting: set[str], lost: set[str]) -> set[str]:
        """Those of the waiting keys whose sources all wait for a key of their own."""
        later = {text for text in lost if text in self._found and self._found[text].why == WAITS}
        found: set[str] = set()
        while more := {text for text in waiting - found if self._sources(text) & (waiting | lost) <= later}:
            found |= more
            later |= more
        return found

    def _sources(self, text: str) -> set[str]:
        return {source for source in self._moved_from.get(text, ()) if source in self._records}

    def change_of(self, image: Image) -> Change | None:
        """The change of a concurrently modified item. An inserted item that was deleted meanwhile, by a repeated
        request, is not deleted again: the item there now is another one."""
        text = key_text(key := key_of(self._table, image))
        if isinstance(self._found[text].change, Atomic):
            self._move_back(self._found, text, image)
            return self._found[text].change
        self._found[text] = restoration(self._table, self._records[text], image)
        if isinstance(self._found[text].change, Remove) and self._inserted([key])[text].removed:
            self._found[text] = NOTHING
        return self._found[text].change

    def _read_not_written(self, void: set[str]) -> set[str]:
        """Those of the items without a write that are not restored. They are read again: if a request was executed
        twice, its item is restored although it was refused."""
        for text, one in self._read_and_decide(list(void)).items():
            changed_back = one.change is not None  # it was changed during the write
            self._found[text] = one._replace(why=CHANGED, restored=()) if changed_back else one
        return {text for text in void if self._found[text].why} - self._restored

    def not_restored(self, write_result: WriteResult) -> list[NotRestored]:
        """The items that were not restored, after the writes."""
        dead = {key_text(one.key): NotRestored(one.key, (), one.error) for one in write_result.dead}
        judged = {
            text: NotRestored(self._records[text][-1].key, one.not_restored, one.why, one.restored)
            for text, one in self._found.items()
            if one.why
        }
        unconfirmed = (NotRestored(key, (), UNCONFIRMED) for key in self._unconfirmed.values())
        replaced = (NotRestored(key, (), REPLACED) for key in self._replaced.values())
        return [*{**judged, **dead}.values(), *unconfirmed, *replaced]

    def _read_and_decide(self, texts: Sequence[str], asks: bool = True) -> dict[str, Restoration]:
        """The restorations of these keys. `asks`: the rows show whether an item at a key is the run's own. The item
        of a row that notes its removal was read before, or is another one: it is read again. The rows of the undo are
        read before the items: an item that is then gone was restored, and deleted since."""
        keys = {text: self._records[text][-1].key for text in texts}
        for text in texts:
            keys.update(self._moved_to.get(text, {}))
        if not keys:
            return {}
        deleted = [keys[text] for text in texts if any(isinstance(one, Remove) for one in self._records[text])]
        self._restored.update(self._put_back(deleted))
        current = self._reads.items(list(keys.values()))
        self.rcu += current.rcu
        found = {text: self._restoration(text, current.items) for text in texts}
        others = {text for text in texts if matches_no_image(self._records[text], current.items.get(text))}
        taken = {text for text, one in found.items() if one.why == TAKEN or one.is_there}
        rows = self._inserted([keys[text] for text in taken | others]) if asks else {}
        for text, row in rows.items():
            if row.item == image_digest(current.items[text]) and not row.removed:
                found[text] = Restoration(None, (), DELETED if text in others else WAITS)
        found |= self._read_and_decide([text for text, row in rows.items() if row.removed], asks=False)
        for text in self._moved_alone.keys() & found.keys() & current.items.keys():
            self._move_back(found, text, current.items[text])
        return found

    def _move_back(self, found: dict[str, Restoration], text: str, now: Image) -> None:
        """Let one write move the item `now` back, if its old key is free, or later if that will be."""
        source = found.get(self._moved_alone[text], NOTHING)
        if source.why == WAITS and found[text].why == COPIED:
            found[text] = found[text]._replace(why=FOLLOWS)
        if isinstance(source.change, Insert | Atomic) and takes_transaction(Remove(key_of(self._table, now), now)):
            found[self._moved_alone[text]], found[text] = moved_back(self._table, self._moved[text], now)

    def _restoration(self, text: str, current: dict[str, Image]) -> Restoration:
        """The restoration of a key. An item that an earlier try has restored stays as it is now, or deleted. So does
        a moved item that exists under neither key, since an undo deletes it last."""
        moved_to = self._moved_to.get(text)
        if text in self._restored or (moved_to and not {text, *moved_to} & current.keys()):
            return NOTHING if text in current else Restoration(None, (), DELETED)
        found = restoration(self._table, self._records[text], current.get(text))
        return found._replace(why=COPIED) if found.why == CHANGED and text in self._moved_from else found
