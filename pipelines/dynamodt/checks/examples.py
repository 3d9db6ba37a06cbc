"""Faults to findings: what is a fault and what a warning, and the smallest item that shows each.

What an item of the sample shows is a fault, since a run would meet it; what only a variant shows is a warning, unless
an item of the sample has the variant's very shape, or the version never returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from dynamodt.checks.findings import Fault, Finding, Level, Shown
from dynamodt.checks.replace import Replacer
from dynamodt.model.tables import AttributeValue, Image, TableSpec

_MOST_SHRUNK = 8  # findings whose items are made smaller
_MOST_WARNINGS = 8  # of variants
_RAISING: Final = ("raises", "values", "key", "index keys", "size")

FaultsOf = Callable[[Image], list[Fault]]  # of one item


@dataclass
class Met:
    """A kind of fault, the first item that shows it, and the number of items of the sample that do. Of a variant, `why`
    is how it differs, and `likely`: an item of the sample has its shape. `invented`: the fault's images have replaced
    values."""

    fault: Fault
    image: Image
    items: int = 0
    why: str = ""
    likely: bool = False
    invented: bool = False


@dataclass(frozen=True)
class Judge:
    """Makes findings of faults. `faults_of` applies the version to one item again; `doubtful`: the version was tried
    without its prepared data, or on derived items, so that its errors are warnings."""

    table: TableSpec
    faults_of: FaultsOf
    doubtful: bool

    def findings(self, met: Iterable[Met], sample: Iterable[Image]) -> Iterator[Finding]:
        """The findings, the gravest first. Of what only variants show there are at most eight."""
        replacer = Replacer(sample)
        order = ("fault", "warning", "note")
        ranked = sorted(met, key=lambda one: (order.index(self._level(one)), -one.items))
        of_variants = 0
        for number, one in enumerate(ranked):
            of_variants += not one.items
            if of_variants > _MOST_WARNINGS:
                return
            shown = self._smallest(one, replacer) if number < _MOST_SHRUNK else self._as_it_is(one)
            fault = one.fault
            where = f", where {one.why}" if one.why and fault.name in (*_RAISING, "hangs") else ""
            yield Finding(self._level(one), fault.name, fault.what + where, fault.hint, fault.where, one.items, shown)

    def _level(self, met: Met) -> Level:
        name = met.fault.name
        seen = met.items or met.likely or name == "hangs"
        doubtful = self.doubtful and name in (*_RAISING, "reversible", "idempotent")
        return "fault" if met.fault.grave and seen and not doubtful else "warning"

    def _as_it_is(self, met: Met) -> Shown | None:
        images = met.fault.images or ((("item", met.image),) if met.image else ())
        return Shown(images, self.table.key_names, met.invented) if images else None

    def _smallest(self, met: Met, replacer: Replacer) -> Shown | None:
        """The smallest item that shows the fault, with its values replaced where it still does."""
        kind, keys = met.fault.kind, self.table.key_names
        if met.fault.name == "hangs" or not self._shows(met.image, kind):
            return self._as_it_is(met)
        small = shrunk(met.image, keys, lambda image: self._shows(image, kind))
        other = replacer.image(small)
        invented = self._shows(other, kind)
        shown = other if invented else small
        fault = next((fault for fault in self.faults_of(shown) if fault.kind == kind), None)
        if fault is None:  # the version keeps something between items
            return self._as_it_is(met)
        return Shown(fault.images or (("item", shown),), keys, invented)

    def _shows(self, image: Image, kind: str) -> bool:
        has_key = all(attribute.type in image.get(attribute.name, {}) for attribute in self.table.key)
        return has_key and any(fault.kind == kind for fault in self.faults_of(image))


# ---------------------------------------------------------------- the smallest item


_MOST_TRIES = 300


def shrunk(image: Image, keeps: tuple[str, ...], shows: Callable[[Image], bool]) -> Image:
    """The smallest item found by leaving out what is not needed; the attributes in `keeps` stay as they are. Greedy,
    with at most 300 tries."""
    tries = 0
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(image, keeps):
            tries += 1
            if tries > _MOST_TRIES:
                return image
            if shows(candidate):
                image, changed = candidate, True
                break
    return image


def _smaller(image: Image, keeps: tuple[str, ...]) -> Iterator[Image]:
    """Items that are a step smaller, those by the largest steps first."""
    free = [name for name in image if name not in keeps]
    if len(free) > 2:
        half = len(free) // 2
        for part in (free[:half], free[half:]):
            yield {name: value for name, value in image.items() if name not in part}
    for name in free:
        yield {other: value for other, value in image.items() if other != name}
    for name in free:
        for value in _smaller_values(image[name]):
            yield {**image, name: value}


def _smaller_values(value: AttributeValue) -> Iterator[AttributeValue]:
    ((kind, raw),) = value.items()
    if kind == "M":
        yield from ({kind: {k: v for k, v in raw.items() if k != name}} for name in raw)
        yield from ({kind: {**raw, name: inner}} for name in raw for inner in _smaller_values(raw[name]))
    elif kind == "L":
        yield from ({kind: part} for part in _parts(raw))
        yield from (
            {kind: [*raw[:n], inner, *raw[n + 1 :]]} for n in range(len(raw)) for inner in _smaller_values(raw[n])
        )
    elif kind in ("SS", "NS", "BS") and len(raw) > 1:
        yield from ({kind: part} for part in _parts(raw) if part)
    elif kind == "S" and len(raw) > 1:
        yield from ({kind: text} for text in (raw[: len(raw) // 2], raw[len(raw) // 2 :], raw[1:], raw[:-1]))


def _parts(raw: list[Any]) -> Iterator[list[Any]]:
    if len(raw) > 3:
        yield raw[: len(raw) // 2]
        yield raw[len(raw) // 2 :]
    yield from (raw[:n] + raw[n + 1 :] for n in range(len(raw)))
