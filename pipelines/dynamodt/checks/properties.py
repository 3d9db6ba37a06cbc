"""The properties of a version that one item can show: it fails, depends on chance, alters what it is given, is not
idempotent as declared, cannot be taken back.

A `Fault` names the property, and a `kind` that is the same for items that show the same fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dynamodt.checks.findings import Fault
from dynamodt.checks.subject import Observed, Outcome, Raised, Subject, applied_to_all, same_items
from dynamodt.model.runs import Script
from dynamodt.model.tables import Image
from dynamodt.script.codec import key_text, same
from dynamodt.script.diff import key_of

SAME_ITEM = "applied twice to one item, it gives two results"
_ALTERS_HINT = "copy what is changed: {**value}, [*value], or copy.deepcopy(item) at the beginning"
_CHANCE = "leave out the time, random values and what is kept between items; what varies belongs into prepare(context)"


@dataclass(frozen=True)
class Trial:
    """A version's two sides as they are tried on single items. `down`: None without a transform_down."""

    up: Subject
    down: Subject | None

    def faults(self, image: Image) -> tuple[list[Fault], Observed]:
        """The faults that an item shows, and its first application."""
        first = self.up.observe(image)
        if first.outcome is None:
            assert first.raised is not None
            return [_raises(first.raised, "transform_up", image)], first
        found = [*_altering(self.up, first, "transform_up")]
        second = self.up.observe(image)
        if not agree(first, second):
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
        """Whether another application changes nothing; None where that raises."""
        again, raised = applied_to_all(self.up, outcome.items.values())
        return None if raised else same_items(again, outcome.items)

    def _reversal(self, down: Subject, image: Image, after: Outcome) -> Iterator[Fault]:
        """The faults of transform_down with what transform_up has made of an item."""
        back: dict[str, Image] = {}
        for one in after.items.values():
            first = down.observe(one)
            if first.outcome is None:
                assert first.raised is not None
                yield _raises(first.raised, "transform_down", image, ("after transform_up", one))
                return
            yield from _altering(down, first, "transform_down")
            second = down.observe(one)
            if not agree(first, second):
                yield _by_chance(down, "transform_down", one, first, second)
                return
            back.update(first.outcome.items)
        yield from self._difference(image, after, back)
        if down.script.idempotent and back:
            yield from _not_idempotent(down, "transform_down", image, Outcome(back, {}, frozenset()))

    def _difference(self, image: Image, after: Outcome, back: dict[str, Image]) -> Iterator[Fault]:
        """The fault that `back`, the items after up and down, differ from the item.

        transform_up may have lost what transform_down would need: then applying it again gives the same result, and no
        transform_down can do better. Otherwise it is transform_down that is wrong.
        """
        own = key_text(key_of(self.up.table, image))
        if same_items(back, {own: image}):
            return
        images = (("item", image), *_labelled("after transform_up", after.items), *_labelled("after both", back))
        lost = _lost(image, back.get(own))
        remains = _remains(image, after.items, back)
        again, raised = applied_to_all(self.up, back.values())
        line = self.up.script.path
        if remains:
            what = f"transform_down leaves {', '.join(remains)}, which transform_up has added"
            yield Fault("reversible", f"leaves {remains}", what, "return without(item, ...) of them", line, images)
        elif raised is not None or not same_items(again, after.items):
            what = f"transform_down does not restore the item: {lost}"
            if raised is not None:
                what += f", and transform_up then fails ({raised.text})"
            hint = "make it the inverse of transform_up; or leave it out, if the version cannot be taken back"
            yield Fault("reversible", f"not restored {lost}", what, hint, line, images)
        else:
            what = f"transform_up does not keep all that transform_down would need: {lost}"
            hint = "`undo` restores such items from the journal"
            yield Fault("reversible", f"lossy {lost}", what, hint, line, images, grave=False)


def _raises(raised: Raised, side: str, image: Image, *more: tuple[str, Image]) -> Fault:
    what = raised.text if side == "transform_up" else f"{side}: {raised.text}"
    return Fault(raised.name, f"{side} {raised.kind}", what, raised.hint, raised.line, (("item", image), *more))


def _altering(subject: Subject, observed: Observed, side: str) -> Iterator[Fault]:
    if observed.alters:
        what = f"{side} alters {observed.alters} of the item that it is given, and returns another dict"
        yield Fault("input", f"{side} alters {observed.alters}", what, _ALTERS_HINT, subject.script.path)


def agree(first: Observed, second: Observed) -> bool:
    """Whether two applications give the same."""
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
    again, raised = applied_to_all(subject, outcome.items.values())
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
    """What differs between an item and what came back, in words."""
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
    """Attributes that transform_up has added, and transform_down leaves."""
    return sorted(
        {
            name
            for one in back.values()
            for name, value in one.items()
            if name not in image and any(name in made and same(made[name], value) for made in after.values())
        }
    )
