"""Which of the changes that owners of a page have announced are tries of one change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from dynamodt.core.keys import image_digest, key_text
from dynamodt.model import Change, Insert


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
            source: Hashable = key_text(change.key)
            if isinstance(change, Insert):
                source = (source, image_digest(change.item))
                met[source] += 1
                source = (source, met[source])
            found.setdefault(source, []).append(change)
    return list(found.values())
