"""Decides by the current items: about a refused change, a change that a previous owner left, and an item for which an
earlier phase has sent a change.

Pure: `pipeline.own_writes` reads the items and the run's rows. The decisions of an undo are in `pipeline.restoration`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from dynamodt.model.tables import Atomic, Change, Check, Image, Insert, Remove, Update
from dynamodt.script.codec import image_digest, key_text, same_image
from dynamodt.script.diff import Part, image_shows, is_as_read, parts_of, transaction_digest

if TYPE_CHECKING:
    from dynamodt.dynamodb.inserted_rows import InsertedRow

Evidence = Literal["written", "unwritten", "unclear", "gone"]
Count = Literal["changed", "unchanged", "superseded", "vanished"]


Stays = Callable[[Image], bool]  # whether the run leaves an item of the written table as it is


def all_stay(image: Image) -> bool:
    """A `Stays` of a run that changes no item of the written table."""
    return True


class CurrentItems(NamedTuple):
    """The current source items, the items at the keys of insertions, and the run's inserted rows, each by `key_text`.

    `meets_insertions`: an item that the run has inserted is not a source; the source that was read is gone, since an
    insertion needs a free key. `rcu` is the cost of reading the items, without rows of the state table. `phase` is the
    phase that has sent the changes in question.
    """

    sources: dict[str, Image]
    placed: dict[str, Image]
    inserted: dict[str, InsertedRow]
    meets_insertions: bool = False
    rcu: float = 0.0
    phase: str = ""

    def source(self, key: Image, known: Image | None = None) -> Image | None:
        """The current source of this key, or the image that came with a refusal (`known`); None if it is gone."""
        text = key_text(key)
        if self.meets_insertions and text in self.inserted:
            return None
        return known if known is not None else self.sources.get(text)


class Resolved(NamedTuple):
    """The change ends with this outcome. `unconfirmed`: its item is gone after a deletion was sent; either the run or
    the application has deleted it."""

    outcome: Count
    unconfirmed: bool = False


class TransformAgain(NamedTuple):
    """The source has changed: it must be transformed again. `shows_update`: it has the values of a refused update, by
    the application or by the run: the network may have executed a request twice and returned the second answer.
    `replaced`: a deletion of another state of the item is in doubt: the run may have deleted the former item, and the
    application may have created this one."""

    now: Image
    shows_update: bool = False
    replaced: bool = False


class SendAgain(NamedTuple):
    """The write is sent again, as a whole or its remaining part."""

    change: Change


class Unclear(NamedTuple):
    """The items do not show whether the change was written: a dead letter."""

    now: Image | None


class Collision(NamedTuple):
    """The key of an insertion is taken, and its item would be lost: a dead letter. `other` is the source of the item at
    the key, if the run has inserted that item itself (`own`)."""

    insert: Insert
    other: Image | None
    own: bool


Judgement = Resolved | TransformAgain | SendAgain | Unclear | Collision


def judge_refusal(
    change: Change,
    doubts: Sequence[Change],
    current: CurrentItems,
    known: Image | None = None,
    stamp: str | None = None,
    sent: Sequence[Change] = (),
    stays: Stays = all_stay,
) -> Judgement:
    """The decision about a change that was refused. `doubts` are earlier versions of the change that were sent with
    unknown outcome; `known` is the source, if it came with the refusal; `stamp` is the attribute of the run's stamp.
    `sent` are all versions that were sent, including refused ones, since the network may repeat one. `stays`: see
    `without_taken_keys`.

    A change of unknown outcome may have been written: if the item shows the change, it is done; if the item is as
    before, the change is sent again; otherwise it is unclear. The outcome is never guessed (guarantee G3, ADR 003). The
    first row that applies counts::

        a doubt is shown as written, or a transaction    done: changed
        the source is gone, after a deletion was sent    changed, unconfirmed; the run may have filled its key
        the source is gone                               vanished; unconfirmed, if a deletion was sent and refused
        the last doubt is unclear                        a dead letter of step "doubt"
        an insertion beside a source that is as read     an item or a row has its key: see `without_taken_keys`
        any other                                        transform the current source again

    An insertion without a source, a row of `items()`, is decided by its own key alone: see `judge_row`.
    """
    if isinstance(change, Insert):
        return judge_row(change, bool(doubts), current)
    shows = [evidence_of(doubt, current, known, stamp) for doubt in doubts]
    now = current.source(change.key, known)
    if "written" in shows or any(has_own_row(one, current) for one in sent if isinstance(one, Atomic)):
        return Resolved("changed")
    if "gone" in shows:
        return Resolved("changed", unconfirmed=True)
    if now is None:
        return Resolved("vanished", unconfirmed=any(isinstance(one, Remove) for one in sent))
    if shows and shows[-1] == "unclear":
        return Unclear(now)
    if isinstance(change, Atomic) and same_image(now, change.read):
        return without_taken_keys(change, current, stays)
    shows_update = any(isinstance(one, Update) and image_shows(one, now) for one in sent)
    replaced = any(isinstance(doubt, Remove) and not same_image(now, doubt.read) for doubt in doubts)
    return TransformAgain(now, shows_update, replaced)


def evidence_of(doubt: Change, current: CurrentItems, known: Image | None = None, stamp: str | None = None) -> Evidence:
    """The evidence in the current items about a write of unknown outcome. "unclear": the application has changed
    attributes of the write; "gone": the run or the application has deleted the item."""
    now = current.source(doubt.key, known)
    if isinstance(doubt, Atomic):
        return "written" if has_own_row(doubt, current) else "unwritten"
    if isinstance(doubt, Remove):
        return _evidence_of_deletion(doubt, now, current)
    assert isinstance(doubt, Update)
    return "unwritten" if now is None else _evidence_of_update(doubt, now, stamp)


def has_own_row(transaction: Atomic | Insert, current: CurrentItems) -> bool:
    """Whether an inserted row of this transaction, sent by the phase of `current`, exists. If so, all of it was
    written, regardless of the response: it may have been refused, and repeated by the network once its key was free."""
    digest = transaction_digest(transaction, current.phase)
    rows = (current.inserted.get(key_text(part.key)) for part in inserts_of([transaction]))
    return any(row is not None and row.transaction == digest for row in rows)


def inserts_of(changes: Sequence[Change]) -> list[Insert]:
    """The insertions of these changes."""
    return [part for change in changes for part in parts_of(change) if isinstance(part, Insert)]


def _evidence_of_deletion(doubt: Remove, now: Image | None, current: CurrentItems) -> Evidence:
    """The evidence of a deletion. If the run has inserted an item at this key, the key was free: the item that was read
    is gone, unless it was the inserted item, changed by the application."""
    row = current.inserted.get(key_text(doubt.key))
    if now is None:
        return "gone"
    if row is None or same_image(now, doubt.read):
        return "unwritten"
    return "gone" if row.item == image_digest(now) else "unclear"


def _evidence_of_update(update: Update, now: Image, stamp: str | None) -> Evidence:
    """The evidence of an update. A stamp shows that it was written, regardless of later changes of its attributes. A
    missing stamp proves nothing: an application may put an item without attributes that it does not know."""
    if stamp is not None and stamp in update.sets:
        if stamp in now and now[stamp] == update.sets[stamp]:
            return "written"
        return "unwritten" if is_as_read(_without(update, stamp), now) else "unclear"
    if image_shows(update, now):
        return "written"
    return "unwritten" if is_as_read(update, now) else "unclear"


def _without(update: Update, name: str) -> Update:
    return update._replace(sets={each: value for each, value in update.sets.items() if each != name})


def judge_row(change: Insert, doubtful: bool, current: CurrentItems) -> Judgement:
    """The decision about a row of `items()`. If the key has an equal item, nothing is lost; if it has another item, the
    application has written it, and it stays; if this run has written it, that is a collision."""
    text = key_text(change.key)
    row, there = current.inserted.get(text), current.placed.get(text)
    if row is not None:
        if row.item != image_digest(change.item):
            return Collision(change, row.source, own=True)
    elif there is None:
        return SendAgain(change)
    elif not same_image(there, change.item):
        return Resolved("superseded")
    return Resolved("changed" if doubtful else "unchanged")


def without_taken_keys(change: Atomic, current: CurrentItems, stays: Stays) -> Judgement:
    """The decision about a transaction whose source is as it was read: it was refused for an item or a row at the key
    of an insertion. If the item there is equal, and the run itself does not change it (`stays`), it needs no insertion.
    Another item stays, unless a value of the source would then be lost. Nor is a source deleted whose only result is
    the item of another source."""
    left: list[Part] = []
    ended: set[Count] = set()
    for part in change.parts:
        found = _outcome_at_key(change, part, current, stays) if isinstance(part, Insert) else None
        if isinstance(found, Collision):
            return found
        if found is None:
            left.append(part)
        else:
            ended.add(found)
    if found := _merges_sources(change, current):
        return found
    return _remaining_write(change, left, ended)


def _merges_sources(change: Atomic, current: CurrentItems) -> Collision | None:
    """The collision of a source that would be deleted although all of its results are those of other sources: two items
    would become one."""
    if not any(isinstance(part, Remove) for part in change.parts):
        return None
    rows = [(part, current.inserted.get(key_text(part.key))) for part in inserts_of([change])]
    taken = [Collision(part, row.source, own=True) for part, row in rows if row and not row.is_from(change.key)]
    return taken[0] if len(taken) == len(rows) else None


def _outcome_at_key(change: Atomic, part: Insert, current: CurrentItems, stays: Stays) -> Count | Collision | None:
    """The outcome of an insertion at its key; None if the key is free."""
    text = key_text(part.key)
    row, there = current.inserted.get(text), current.placed.get(text)
    if row is not None:
        if row.item == image_digest(part.item):
            return "unchanged"
        own = row.is_from(change.key)
        return "superseded" if own and not _loses_value(change) else Collision(part, row.source, own=True)
    if there is None:
        return None
    if same_image(there, part.item) and stays(there):
        return "unchanged"
    return Collision(part, None, own=False) if _loses_value(change) else "superseded"


def _loses_value(change: Atomic) -> bool:
    """Whether the source is deleted or loses a value, so that only an insertion may still contain it."""
    return any(
        isinstance(part, Remove) or (isinstance(part, Update) and (part.removes or part.sets.keys() & part.read.keys()))
        for part in change.parts
    )


def _remaining_write(change: Atomic, left: list[Part], ended: set[Count]) -> Judgement:
    """The rest of a transaction without its needless insertions: a transaction if another insertion is left, otherwise
    the update or the deletion alone. A check of the source alone needs no request."""
    if any(isinstance(part, Insert) for part in left):
        return SendAgain(change._replace(parts=tuple(left)))
    for part in left:
        if isinstance(part, Update | Remove):
            return SendAgain(part)
        assert isinstance(part, Check)
    return Resolved("superseded" if "superseded" in ended else "unchanged")


def changes_by_source(intents: Sequence[Sequence[Change]]) -> list[list[Change]]:
    """The changes of a page's intents, by the item from which each was made, in order: the last of each list is the one
    that the last owner intended.

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
