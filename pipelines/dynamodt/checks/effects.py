"""What a version does to the items of a sample together: which attributes it adds, changes and removes, how items grow,
and which of them would get one key.

A version is *expanding* when every attribute that an item has stays as it is, so that running code misses nothing; it
is *contracting* when it changes or removes attributes, or the item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dynamodt.checks.findings import Effect, Fault, Growth, Path
from dynamodt.checks.subject import Outcome
from dynamodt.model.tables import AttributeValue, Image, TableSpec
from dynamodt.script.codec import image_bytes, key_text, same, same_image
from dynamodt.script.diff import key_of, key_shown

Made = Sequence[tuple[Image, Outcome]]  # items, and what a version has made of them

_ADDED, _CHANGED, _RETYPED, _REMOVED = range(4)


class _One(NamedTuple):
    """What becomes of one item: `after` is the item in its new shape, None for a deleted one."""

    image: Image
    after: Image | None
    moved: bool
    inserted: int


def effect_of(made: Made, table: TableSpec) -> Effect:
    """What a version does to these items."""
    each = [_of_one(image, outcome, table) for image, outcome in made]
    paths: dict[str, list[int]] = {}
    leaves: set[str] = set()
    keys = {key.name: key.of for key in table.index_keys}
    for one in each:
        for path, kind in _differences(one.image, {} if one.after is None else one.after):
            paths.setdefault(path, [0, 0, 0, 0])[kind] += one.after is not None
            if kind == _REMOVED and path in keys and one.after is not None:
                leaves.add(keys[path])
    found = tuple(Path(path, *counts) for path, counts in sorted(paths.items()) if any(counts))
    changed = sum(one.after is not None and not same_image(one.image, one.after) for one in each)
    deleted, moved = sum(one.after is None for one in each), sum(one.moved for one in each)
    inserted, target = sum(one.inserted for one in each), sum(len(outcome.elsewhere) for _, outcome in made)
    expands = bool(inserted or target or any(path.added for path in found))
    contracts = bool(deleted or moved or any(path.changed or path.retyped or path.removed for path in found))
    which = {(False, False): "none", (True, False): "expanding", (False, True): "contracting"}.get((expands, contracts))
    return Effect(
        which or "both", changed, len(each) - changed - deleted, moved, deleted, inserted, target, found,
        tuple(sorted(leaves)), _growth(each),
    )  # fmt: skip


def _of_one(image: Image, outcome: Outcome, table: TableSpec) -> _One:
    own = key_text(key_of(table, image))
    if own in outcome.items:
        return _One(image, outcome.items[own], False, len(outcome.inserted))
    if outcome.items:  # the item is the one that has most of its attributes
        likest = max(outcome.items.values(), key=lambda after: sum(name in after for name in image))
        return _One(image, likest, True, len(outcome.items) - 1)
    return _One(image, None, False, 0)


def _differences(before: Image, after: Image, above: str = "") -> Iterator[tuple[str, int]]:
    for name in before.keys() | after.keys():
        path = f"{above}{name}"
        if name not in before:
            yield path, _ADDED
        elif name not in after:
            yield path, _REMOVED
        else:
            yield from _of_value(path, before[name], after[name])


def _of_value(path: str, before: AttributeValue, after: AttributeValue) -> Iterator[tuple[str, int]]:
    if "M" in before and "M" in after:
        yield from _differences(before["M"], after["M"], f"{path}.")
    elif before.keys() != after.keys():
        yield path, _RETYPED
    elif not same(before, after):
        yield path, _CHANGED


def _growth(each: Sequence[_One]) -> Growth:
    sizes = [(image_bytes(one.image), image_bytes(one.after)) for one in each if one.after is not None]
    if not sizes:
        return Growth(0, 0, 0)
    before, after = max(sizes)
    return Growth(before, after, max(0, *(later - earlier for earlier, later in sizes)))


def collisions(made: Made, table: TableSpec) -> tuple[Fault | None, int]:
    """The fault that two items would have one key, if there is one, and the number of items that it concerns. Equal
    items do no harm, and neither does an insertion that is left out beside an item that loses nothing."""
    there = {key_text(key_of(table, image)): image for image, _ in made}
    fault: Fault | None = None
    items = 0
    for written, source, other in (*_twice(made), *_onto(made, table, there)):
        items += 1
        fault = fault or _collision(table, written, source, other)
    return fault, items


def _twice(made: Made) -> Iterator[tuple[Image, Image, Image]]:
    """Different items for one key: the item, its source, and the source of the other one."""
    first: dict[tuple[bool, str], tuple[Image, Image]] = {}
    for source, outcome in made:
        own = {(False, text): outcome.items[text] for text in outcome.inserted}
        for place, image in {**own, **{(True, text): image for text, image in outcome.elsewhere.items()}}.items():
            other, its_source = first.setdefault(place, (image, source))
            if not same_image(other, image):
                yield image, source, its_source


def _onto(made: Made, table: TableSpec, there: Mapping[str, Image]) -> Iterator[tuple[Image, Image, Image]]:
    """Items that are moved to the key of another item of the sample."""
    for source, outcome in made:
        if key_text(key_of(table, source)) not in outcome.items:
            for text in outcome.inserted & there.keys():
                if not same_image(there[text], outcome.items[text]):
                    yield outcome.items[text], source, there[text]


def _collision(table: TableSpec, image: Image, source: Image, other: Image) -> Fault:
    sources = f"{key_shown(key_of(table, source))} and {key_shown(key_of(table, other))}"
    images = (("item", source), ("another item", other), ("would be", image))
    hint = "give each item a key of its own: the second one becomes a dead letter"
    return Fault("key", "collision", f"two different items would have one key: of {sources}", hint, "", images)
