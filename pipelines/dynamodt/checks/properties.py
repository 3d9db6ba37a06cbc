"""The properties of a version that one item can show, and those that need many items.

One item can show that the version fails, depends on chance, mutates its input, is not idempotent as declared, or cannot
be reverted. A `Fault` names the property, and a `kind` that is the same for items that show the same fault.

Many items show the attributes that it adds, changes and removes, the growth of items, and items that would get one key.
A version is *expanding* when every attribute that an item has stays as it is, so that running code misses nothing; it
is *contracting* when it changes or removes attributes, or the item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dynamodt.checks.subject import Observed, Outcome, Raised, Subject, applied_to_all, same_items
from dynamodt.model.reports import Effect, Fault, Growth, Path
from dynamodt.model.runs import Script
from dynamodt.model.tables import AttributeValue, Image, TableSpec
from dynamodt.pipeline.process import without_output
from dynamodt.script.codec import image_bytes, key_text, same, same_image
from dynamodt.script.diff import key_of, key_shown

SAME_ITEM = "applied twice to one item, it gives two results"
_ALTERS_HINT = "copy what is changed: {**value}, [*value], or copy.deepcopy(item) at the beginning"
_CHANCE = "use no time, no random value and no state between items; put what varies into prepare(context)"


@dataclass(frozen=True)
class Trial:
    """A version's two sides, for trials on single items. `down`: None without a transform_down. Only the first
    application of each side to an item shows its output."""

    up: Subject
    down: Subject | None

    def faults(self, image: Image) -> tuple[list[Fault], Observed]:
        """The faults that an item shows, and its first application."""
        first = self.up.observe(image)
        if first.outcome is None:
            assert first.raised is not None
            return [_raises(first.raised, "transform_up", image)], first
        found = [*_altering(self.up, first, "transform_up")]
        second = _again(self.up, image)
        if not same_result(first, second):
            return [*found, _by_chance(self.up, "transform_up", image, first, second)], first
        if self.up.script.idempotent:
            found += _not_idempotent(self.up, "transform_up", image, first.outcome)
        if self.down is not None and not self.up.script.target_table:
            found += self._reversal(self.down, image, first.outcome)
        return found, first

    def shows(self, image: Image, kind: str) -> bool:
        """Whether an item shows a fault of this kind."""
        return any(fault.kind == kind for fault in self.faults(image)[0])

    def idempotent(self, outcome: Outcome) -> bool | None:
        """Whether another application changes nothing; None if it raises an error."""
        again, raised = _all_again(self.up, outcome.items.values())
        return None if raised else same_items(again, outcome.items)

    def _reversal(self, down: Subject, image: Image, after: Outcome) -> Iterator[Fault]:
        """The faults of transform_down on the items that transform_up has made of an item."""
        back: dict[str, Image] = {}
        for one in after.items.values():
            first = down.observe(one)
            if first.outcome is None:
                assert first.raised is not None
                yield _raises(first.raised, "transform_down", image, ("after transform_up", one))
                return
            yield from _altering(down, first, "transform_down")
            second = _again(down, one)
            if not same_result(first, second):
                yield _by_chance(down, "transform_down", one, first, second)
                return
            back.update(first.outcome.items)
        yield from self._difference(image, after, back)
        if down.script.idempotent and back:
            yield from _not_idempotent(down, "transform_down", image, Outcome(back, {}, frozenset()))

    def _difference(self, image: Image, after: Outcome, back: dict[str, Image]) -> Iterator[Fault]:
        """The fault that `back`, the items after up and down, differ from the item.

        If transform_up, applied to `back`, gives the same result again, it has lost data that any transform_down would
        need. Otherwise transform_down is wrong.
        """
        own = key_text(key_of(self.up.table, image))
        if same_items(back, {own: image}):
            return
        images = (("item", image), *_labelled("after transform_up", after.items), *_labelled("after both", back))
        lost = _lost(image, back.get(own))
        remains = _remains(image, after.items, back)
        again, raised = _all_again(self.up, back.values())
        line = self.up.script.path
        if remains:
            what = f"transform_down leaves {', '.join(remains)}, which transform_up has added"
            yield Fault("reversible", f"leaves {remains}", what, "return without(item, ...) of them", line, images)
        elif raised is not None or not same_items(again, after.items):
            what = f"transform_down does not restore the item: {lost}"
            if raised is not None:
                what += f", and transform_up then fails ({raised.text})"
            hint = "make it the inverse of transform_up; or leave it out, if the version cannot be rolled back"
            yield Fault("reversible", f"not restored {lost}", what, hint, line, images)
        else:
            what = f"transform_up does not keep all that transform_down would need: {lost}"
            hint = "`undo` restores such items from the journal"
            yield Fault("reversible", f"lossy {lost}", what, hint, line, images, grave=False)


def _again(subject: Subject, image: Image) -> Observed:
    with without_output():
        return subject.observe(image)


def _all_again(subject: Subject, images: Iterable[Image]) -> tuple[dict[str, Image], Raised | None]:
    with without_output():
        return applied_to_all(subject, images)


def _raises(raised: Raised, side: str, image: Image, *more: tuple[str, Image]) -> Fault:
    what = raised.text if side == "transform_up" else f"{side}: {raised.text}"
    return Fault(raised.name, f"{side} {raised.kind}", what, raised.hint, raised.line, (("item", image), *more))


def _altering(subject: Subject, observed: Observed, side: str) -> Iterator[Fault]:
    if observed.alters:
        what = f"{side} alters {observed.alters} of the item that it is given, and returns another dict"
        yield Fault("input", f"{side} alters {observed.alters}", what, _ALTERS_HINT, subject.script.path)


def same_result(first: Observed, second: Observed) -> bool:
    """Whether two applications have the same result."""
    if first.outcome is None or second.outcome is None:
        return first.outcome is second.outcome
    return first.outcome.is_as(second.outcome)


def _by_chance(subject: Subject, side: str, image: Image, first: Observed, second: Observed) -> Fault:
    return by_chance(subject.script, side, image, first, second, SAME_ITEM)


def by_chance(
    script: Script, side: str, image: Image, first: Observed, second: Observed, why: str, hint: str = _CHANCE
) -> Fault:
    """The fault that two applications to one item differ."""
    names = _differing(first.outcome, second.outcome)
    which = f" ({', '.join(names)})" if names else ""
    images = [("item", image)]
    for label, observed in (("one result", first), ("another", second)):
        images += _labelled(label, {} if observed.outcome is None else observed.outcome.items)
    return Fault("deterministic", f"{side} by chance {why}", f"{side}: {why}{which}", hint, script.path, tuple(images))


def _differing(one: Outcome | None, other: Outcome | None) -> list[str]:
    """The attributes in which two outcomes differ."""
    if one is None or other is None:
        return []
    images = [*_pairs(one.items, other.items), *_pairs(one.elsewhere, other.elsewhere)]
    return sorted({name for a, b in images for name in a.keys() | b.keys() if not _same_value(a, b, name)})


def _pairs(one: Mapping[str, Image], other: Mapping[str, Image]) -> list[tuple[Image, Image]]:
    both = one.keys() & other.keys()
    left = [one[text] for text in one if text not in both], [other[text] for text in other if text not in both]
    return [(one[text], other[text]) for text in both] + list(zip(*left, strict=False))


def _same_value(a: Image, b: Image, name: str) -> bool:
    return name in a and name in b and same(a[name], b[name])


def _labelled(label: str, items: Mapping[str, Image]) -> list[tuple[str, Image]]:
    return [(label, image) for image in items.values()]


def _not_idempotent(subject: Subject, side: str, image: Image, outcome: Outcome) -> Iterator[Fault]:
    again, raised = _all_again(subject, outcome.items.values())
    if raised is None and same_items(again, outcome.items):
        return
    names = sorted(
        {name for a, b in _pairs(outcome.items, again) for name in a.keys() | b.keys() if not _same_value(a, b, name)}
    )
    how = f"fails ({raised.text})" if raised else f"changes {', '.join(names) or 'the items'} again"
    what = f"IDEMPOTENT is True, and {side}, applied to its own result, {how}"
    hint = "take out IDEMPOTENT = True, or return an item that already has its new shape unchanged"
    images = (("item", image), *_labelled("once", outcome.items), *_labelled("twice", again))
    yield Fault("idempotent", f"{side} not idempotent", what, hint, subject.script.path, images)


def _lost(image: Image, back: Image | None) -> str:
    """The difference between an item and its restored form, in words."""
    if back is None:
        return "the item is not there"
    parts = {
        "is lost": [name for name in image if name not in back],
        "differs": [name for name in image if name in back and not same(image[name], back[name])],
        "is new": [name for name in back if name not in image],
    }
    texts = [f"{', '.join(names)} {how}" for how, names in parts.items() if names]
    return "; ".join(texts) or "another item is there, too"


def _remains(image: Image, after: Mapping[str, Image], back: Mapping[str, Image]) -> list[str]:
    """The attributes that transform_up has added and transform_down does not remove."""
    return sorted(
        {
            name
            for one in back.values()
            for name, value in one.items()
            if name not in image and any(name in made and same(made[name], value) for made in after.values())
        }
    )


# ---------------------------------------------------------------- what many items show


Made = Sequence[tuple[Image, Outcome]]  # items, each with a version's outcome

_ADDED, _CHANGED, _RETYPED, _REMOVED = range(4)


class _One(NamedTuple):
    """The result of one item: `after` is the item in its new shape, None for a deleted one."""

    image: Image
    after: Image | None
    moved: bool
    inserted: int


def effect_of(made: Made, table: TableSpec) -> Effect:
    """The effect of a version on these items."""
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
        (which or "both") if each else "",
        changed,
        len(each) - changed - deleted,
        moved,
        deleted,
        inserted,
        target,
        found,
        tuple(sorted(leaves)),
        _growth(each),
    )


def _of_one(image: Image, outcome: Outcome, table: TableSpec) -> _One:
    own = key_text(key_of(table, image))
    if own in outcome.items:
        return _One(image, outcome.items[own], False, len(outcome.inserted))
    if outcome.items:  # the moved item: the result with most of its attributes
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
    """The fault that two items would have one key, if there is one, and the number of affected items. Equal items are
    no fault unless a source is moved onto one, nor is an insertion that is skipped for an existing item if its source
    keeps all its data."""
    there = {key_text(key_of(table, image)): image for image, _ in made}
    fault: Fault | None = None
    items = 0
    for written, source, other in (*_twice(made, table), *_onto(made, table, there)):
        items += 1
        fault = fault or _collision(table, written, source, other)
    return fault, items


def _twice(made: Made, table: TableSpec) -> Iterator[tuple[Image, Image, Image]]:
    """Different items for one key, or a source that is moved to the key of an equal item: the item, its source, and the
    other item's source."""
    first: dict[tuple[bool, str], tuple[Image, Image]] = {}
    for source, outcome in made:
        own = {(False, text): outcome.items[text] for text in outcome.inserted}
        moves = len(outcome.items) == 1 and key_text(key_of(table, source)) not in outcome.items
        for place, image in {**own, **{(True, text): image for text, image in outcome.elsewhere.items()}}.items():
            other, its_source = first.setdefault(place, (image, source))
            if its_source is not source and (moves or not same_image(other, image)):
                yield image, source, its_source


def _onto(made: Made, table: TableSpec, there: Mapping[str, Image]) -> Iterator[tuple[Image, Image, Image]]:
    """Items that are moved to the key of another item of the sample, unless it is equal and stays as it is."""
    unchanged = (source for source, outcome in made if [source] == list(outcome.items.values()))
    stays = {key_text(key_of(table, source)) for source in unchanged}
    for source, outcome in made:
        if key_text(key_of(table, source)) not in outcome.items:
            for text in outcome.inserted & there.keys():
                if text not in stays or not same_image(there[text], outcome.items[text]):
                    yield outcome.items[text], source, there[text]


def _collision(table: TableSpec, image: Image, source: Image, other: Image) -> Fault:
    sources = f"{key_shown(key_of(table, source))} and {key_shown(key_of(table, other))}"
    images = (("item", source), ("another item", other), ("would be", image))
    hint = "give each item a key of its own: the second one becomes a dead letter"
    return Fault("key", "collision", f"two different items would have one key: of {sources}", hint, "", images)
