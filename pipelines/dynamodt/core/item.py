"""What an author's functions do with an item again and again."""

from __future__ import annotations

from dynamodt.model import Item


def without(item: Item, *names: str) -> Item:
    """A copy of `item` that lacks the named attributes; one that is not there is no error."""
    return {name: value for name, value in item.items() if name not in names}
