"""Restores the items of one page of a journal: reads them, decides by `restoration`, and writes them in an order that
keeps a copy of each moved item (guarantee G5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import NotRestored
from dynamodt.model.tables import Change, Check, Image, Insert, Journaled, Remove, TableSpec, Update
from dynamodt.pipeline.outcomes import FOLLOWS, MOST_SAMPLES, WAITS, WriteResult
from dynamodt.pipeline.restoration import (
    CHANGED,
    DELETED,
    REPLACED,
    STAYS,
    TAKEN,
    UNCONFIRMED,
    Restoration,
    matches_no_image,
    restoration,
)
from dynamodt.script.codec import image_digest, key_text
from dynamodt.script.diff import key_of, parts_of, write_units

if TYPE_CHECKING:
    from dynamodt.dynamodb.reads import Reads
    from dynamodt.pipeline.own_writes import InsertedItems


@dataclass
class Records:
    """The records of a page that may have had an effect, the keys from and to which items were moved, the unconfirmed
    deletions, the updates of void keys, and the keys of items that the run may have deleted before other items got
    them (`replaced`), all by `key_text`."""

    by_key: dict[str, list[Journaled]] = field(default_factory=dict)
    moved_from: dict[str, set[str]] = field(default_factory=dict)
    moved_to: dict[str, dict[str, Image]] = field(default_factory=dict)
    unconfirmed: dict[str, Image] = field(default_factory=dict)
    void: dict[str, list[Update]] = field(default_factory=dict)
    replaced: dict[str, Image] = field(default_factory=dict)

    def only(self, keys: Collection[str]) -> Records:
        """The records of these keys, without unconfirmed deletions, which wait for no key."""
        by_key = {text: found for text, found in self.by_key.items() if text in keys}
        void = {text: found for text, found in self.void.items() if text in keys}
        return replace(self, by_key=by_key, void=void, unconfirmed={}, replaced={})

    def add(self, change: Change, void: set[str]) -> None:
        """Add the parts of a change that may have had an effect, by the keys that had none (`void`)."""
        parts = parts_of(change)
        moves = len(parts) > 1 and any(isinstance(part, Remove) for part in parts)
        for part in parts:
            text = key_text(part.key)
            if isinstance(part, Check):
                continue
            if text in void:
                if isinstance(part, Update):
                    self.void.setdefault(text, []).append(part)
                continue
            if isinstance(part, Remove) and text in self.unconfirmed:
                continue
            self.by_key.setdefault(text, []).append(part)
            if moves and isinstance(part, Insert):
                self.moved_from.setdefault(text, set()).add(key_text(change.key))
                self.moved_to.setdefault(key_text(change.key), {})[text] = part.key


class PageItems:
    """The items of one page, read by the constructor: `changes` restore them; `counts` has the number of all items, and
    the outcomes of those that need no write."""

    def __init__(
        self,
        table: TableSpec,
        records: Records,
        reads: Reads,
        stamp: str | None = None,
        inserted: InsertedItems | None = None,
    ) -> None:
        self._table = table
        self._inserted = inserted
        self._moved_to = records.moved_to
        self._unconfirmed = records.unconfirmed
        self._replaced = records.replaced
        self._moved_from = records.moved_from
        self._reads = reads
        self.rcu = 0.0  # the cost of reading the items
        self._records = {**self._void_but_stamped(records.void, stamp), **records.by_key}
        self._found = self._read_and_decide(list(self._records))
        self.changes: list[Change] = [found.change for found in self._found.values() if found.change is not None]
        alone = len(self._unconfirmed.keys() - self._records.keys()) + len(self._replaced)
        needless = [text for text, found in self._found.items() if found.change is None]
        self.counts = Counts(read=len(self._records) + alone, superseded=alone).plus(self._counts_of(needless))

    def _counts_of(self, texts: Iterable[str]) -> Counts:
        """The counts of items that needed no write, or had none."""
        kinds = {"": "unchanged", DELETED: "vanished"}
        return Counts(**Counter(kinds.get(self._found[text].why, "superseded") for text in texts))

    def _void_but_stamped(self, void: dict[str, list[Update]], stamp: str | None) -> dict[str, list[Journaled]]:
        """The updates that were void for their page, but whose item has their stamp: they were refused, and then
        repeated by the network."""
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
        """Writes the changes. An item that was moved here is deleted once its source is restored, and stays if that
        fails, since only the journal would then contain it."""
        total = WriteResult()
        waiting = {key_text(change.key): change for change in self.changes}
        lost = {text for text, found in self._found.items() if found.why and found.change is None}
        while ready := [text for text in waiting if not self._sources(text) & (waiting.keys() | lost)]:
            found = write([waiting.pop(text) for text in ready])
            dead = {key_text(one.key) for one in found.dead}
            void = {*map(key_text, found.void)} - dead
            lost.update(dead, self._read_not_written(void))
            found.counts = Counts(changed=found.counts.changed, dead=found.counts.dead).plus(self._counts_of(void))
            total.add(found)
        follows = self._freed_later(set(waiting), lost)
        for text in waiting:
            self._found[text] = Restoration(None, (), FOLLOWS if text in follows else STAYS)
            total.counts = total.counts._replace(superseded=total.counts.superseded + 1)
        return total

    def preview(self) -> WriteResult:
        """The outcome without concurrent writes, with estimated units. It counts waiting items as restored, and items
        that were moved to their keys as deleted."""
        waits = [text for text, found in self._found.items() if found.why == WAITS]
        back = {text: restoration(self._table, self._records[text], None) for text in waits}
        self._found.update(back)
        self.counts = self.counts._replace(superseded=self.counts.superseded - len(back))
        changes = [*self.changes, *(found.change for found in back.values() if found.change is not None)]
        units = Units(wcu=float(sum(map(write_units, changes))))
        return WriteResult(Counts(changed=len(changes)), units, written=changes[:MOST_SAMPLES])

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
        """The change of a concurrently modified item."""
        text = key_text(key_of(self._table, image))
        self._found[text] = restoration(self._table, self._records[text], image)
        return self._found[text].change

    def _read_not_written(self, void: set[str]) -> set[str]:
        """Those of the items without a write that are not restored. They are read again: if a request was executed
        twice, its item is restored although it was refused."""
        for text, one in self._read_and_decide(list(void)).items():
            changed_back = one.change is not None  # it was changed during the write
            self._found[text] = one._replace(why=CHANGED, restored=()) if changed_back else one
        return {text for text in void if self._found[text].why}

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

    def _read_and_decide(self, texts: Sequence[str]) -> dict[str, Restoration]:
        keys = {text: self._records[text][-1].key for text in texts}
        for text in texts:
            keys.update(self._moved_to.get(text, {}))
        if not keys:
            return {}
        current = self._reads.items(list(keys.values()))
        self.rcu += current.rcu
        found = {text: self._restoration(text, current.items) for text in texts}
        others = {text for text in texts if matches_no_image(self._records[text], current.items.get(text))}
        asked = [keys[text] for text, one in found.items() if one.why == TAKEN or text in others]
        own = self._inserted.rows_at(asked) if asked and self._inserted is not None else {}
        for text, row in own.items():
            if row.item == image_digest(current.items[text]):
                found[text] = Restoration(None, (), DELETED if text in others else WAITS)
        return found

    def _restoration(self, text: str, current: dict[str, Image]) -> Restoration:
        """The restoration of a key. A moved item that exists under neither key stays deleted, since an undo deletes it
        last."""
        moved_to = self._moved_to.get(text)
        if moved_to and text not in current and not moved_to.keys() & current.keys():
            return Restoration(None, (), DELETED)
        return restoration(self._table, self._records[text], current.get(text))
