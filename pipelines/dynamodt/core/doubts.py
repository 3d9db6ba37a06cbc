"""What items show of writes whose outcome is unknown: they were never answered, or an owner before announced them and
died."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Literal

from dynamodt.core.codec import same, same_image
from dynamodt.core.diff import as_before, carries
from dynamodt.model import Atomic, Change, Image, Insert, Remove, Update

Shown = Literal["written", "unwritten", "unclear"]
There = Callable[[Image], Image | None]  # the item of a key, as it is now


def shown(doubt: Change, there: There, stamp: str | None = None) -> Shown:
    """What the items of now tell about a write.

    An item that carries the patch (or its stamp, the attribute `stamp`) was written, one that is as it was before was
    not. One that shows neither was changed by others in the same attributes: whether the patch is beneath their change
    cannot be told from it.
    """
    now = there(doubt.key)
    if isinstance(doubt, Atomic):
        return _of_several(doubt, now, there, stamp)
    if isinstance(doubt, Insert):
        return "written" if _has(now, doubt.item, stamp) else "unwritten"
    if isinstance(doubt, Remove):
        return "written" if now is None else "unwritten"
    return "unwritten" if now is None else _of_update(doubt, now, stamp)


def by_source(announcements: Sequence[Sequence[Change]]) -> list[list[Change]]:
    """The changes of a page's announcements by the item that each was made of, in their order: the last of each list is
    what its owner wanted last.

    A row of the version's own is made of none, and never made afresh: the same one in a later announcement is the same,
    another one of that key, or twice the same in one announcement, are others.
    """
    found: dict[Hashable, list[Change]] = {}
    for changes in announcements:
        met: Counter[Hashable] = Counter()
        for change in changes:
            source: Hashable = _text(change.key)
            if isinstance(change, Insert) and change.source is not None:
                source = _text(change.source)
            elif isinstance(change, Insert):
                source = (source, _text(change.item))
                met[source] += 1
                source = (source, met[source])
            found.setdefault(source, []).append(change)
    return list(found.values())


def inserted_keys(changes: Sequence[Change]) -> list[Image]:
    """The keys of the items that their transactions would insert: `shown` asks for these, too."""
    parts = (part for change in changes if isinstance(change, Atomic) for part in change.parts)
    return [part.key for part in parts if isinstance(part, Insert)]


def _of_update(update: Update, now: Image, stamp: str | None) -> Shown:
    if stamp is not None:
        return "written" if _same_at(stamp, now, update.sets) else "unwritten"
    if carries(update, now):
        return "written"
    return "unwritten" if as_before(update, now) else "unclear"


def _of_several(doubt: Atomic, now: Image | None, there: There, stamp: str | None) -> Shown:
    """All or nothing was written: what became of the source tells of all, and where it does not, the insertions do:
    an item under the key of one that was to be deleted may be another, which has been put there since."""
    for part in doubt.parts:
        if now is not None and isinstance(part, Update):
            return _of_update(part, now, stamp)
        if now is not None and isinstance(part, Remove) and same_image(now, part.read):
            return "unwritten"
    inserts = [(there(part.key), part) for part in doubt.parts if isinstance(part, Insert)]
    if all(_has(found, part.item, stamp) for found, part in inserts):
        return "written"
    return "unclear" if now is None and any(found is not None for found, _ in inserts) else "unwritten"


def _has(now: Image | None, item: Image, stamp: str | None) -> bool:
    if now is None:
        return False
    return same_image(now, item) or (stamp is not None and _same_at(stamp, now, item))


def _same_at(name: str, one: Image, other: Image) -> bool:
    return name in one and name in other and same(one[name], other[name])


def _text(image: Image) -> str:
    return repr(sorted((name, repr(value)) for name, value in image.items()))
