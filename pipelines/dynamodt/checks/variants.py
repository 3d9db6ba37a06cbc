"""Variants of items, drawn by hypothesis: items that an application may store although the sample lacks them.

A variant is an item of the sample, or the widest of its shape, with up to three values that are absent, NULL, empty, of
another type, a set or a list with one element, zero or negative, or another text. Key attributes keep their types.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.errors import NoSuchExample

from dynamodt.model.tables import AttributeValue, Image, TableSpec
from dynamodt.script.codec import MAX_ITEM_BYTES, image_bytes, value_bytes
from dynamodt.script.diff import stored_bytes

_SHAPES = 24  # bases of different shapes
_MOST_DEVIATIONS = 3
_MOST_DEPTH = 3
_LARGE_BYTES, _LONG_BYTES = 390_000, 4096
_ABSENT: Final = "absent"
_KINDS: Final = (_ABSENT, "NULL", "empty", "another type", "one element", "zero", "negative", "another text")
_OTHER: Final[dict[str, AttributeValue]] = {
    "S": {"N": "1"}, "N": {"S": "1"}, "B": {"S": "AA"}, "BOOL": {"S": "true"}, "NULL": {"S": ""}, "M": {"S": "{}"},
    "L": {"S": "a,b"}, "SS": {"L": [{"S": "a"}]}, "NS": {"L": [{"N": "1"}]}, "BS": {"L": [{"B": "AA=="}]},
}  # fmt: skip
_EMPTY: Final[dict[str, Any]] = {"S": "", "B": "", "L": [], "M": {}}

Path_ = tuple[str, ...]


class Deviation(NamedTuple):
    """A difference of a variant from its item: the path and the kind."""

    path: Path_
    kind: str
    text: str = ""

    def __str__(self) -> str:
        has = "has" if self.kind == "one element" else "is"
        return f"{'.'.join(self.path)} {has} {self.kind}"


class Variant(NamedTuple):
    """An item that is not in the sample, and its deviations from a sampled one."""

    image: Image
    deviations: tuple[Deviation, ...]
    base: Image


def shape(image: Image) -> frozenset[tuple[Path_, str]]:
    """The attributes of an item with their types, and a mark on empty ones."""
    return frozenset(
        (path, kind + ("" if raw or kind in ("BOOL", "NULL", "N") else " empty"))
        for path, value in _values(image)
        for kind, raw in value.items()
    )


def bases(images: Iterable[Image], table: TableSpec) -> list[Image]:
    """An item of each shape of the sample, and the widest of each, which has the longest value of each attribute that
    is not a key of the table."""
    found: dict[frozenset[tuple[Path_, str]], tuple[Image, Image]] = {}
    for image in images:
        first, widest = found.get(shape(image), (image, {}))
        found[shape(image)] = (first, _wider(widest or image, image, table.key_names))
    several = list(found.values())[:_SHAPES]
    return [first for first, _ in several] + [
        widest for first, widest in several if widest != first and stored_bytes(table, widest) <= MAX_ITEM_BYTES
    ]


def large(image: Image, table: TableSpec) -> Image | None:
    """The item with its longest text extended, so that its size with its entries in local indexes is a little below
    DynamoDB's maximum; None without a text, and for an item of less than 4 KB, which is unlikely to grow so much."""
    texts = {name: value["S"] for name, value in image.items() if "S" in value and name not in table.key_names}
    texts = {name: text for name, text in texts.items() if text and name not in {key.name for key in table.index_keys}}
    copies = 1 + sum(index.local for index in table.projections)
    room = (_LARGE_BYTES - stored_bytes(table, image)) // copies
    if not texts or room <= 0 or image_bytes(image) < _LONG_BYTES:
        return None
    longest = max(texts, key=lambda name: len(texts[name]))
    text = texts[longest]
    return {**image, longest: {"S": text + (text * (room // len(text.encode()) + 1))[:room]}}


def _wider(one: Image, other: Image, keys: Sequence[str]) -> Image:
    both = {name: (value, value if name in keys else other.get(name, value)) for name, value in one.items()}
    return {name: max(values, key=value_bytes) for name, values in both.items()}


def _values(image: Image, above: Path_ = ()) -> Iterable[tuple[Path_, AttributeValue]]:
    for name, value in image.items():
        yield (*above, name), value
        if "M" in value and len(above) + 1 < _MOST_DEPTH:
            yield from _values(value["M"], (*above, name))


def variants(bases: Sequence[Image], table: TableSpec) -> st.SearchStrategy[Variant]:
    """Variants of these items; they shrink towards the first base and a single deviation."""
    deviations = [
        st.lists(
            _deviations([path for path, _ in _values(base)]),
            min_size=1,
            max_size=_MOST_DEVIATIONS,
            unique_by=lambda one: one.path,
        )
        for base in bases
    ]
    of_base = [
        wanted.map(partial(_variant, base, table)) for base, wanted in zip(bases, deviations, strict=True)
    ]  # made once: making a strategy takes longer than drawing from it
    return st.sampled_from(range(len(bases))).flatmap(of_base.__getitem__)


def _variant(base: Image, table: TableSpec, wanted: Sequence[Deviation]) -> Variant:
    image = base
    effective: list[Deviation] = []
    for deviation in wanted:
        after = _deviated(image, deviation, table, whole=deviation.path)
        effective += [deviation] if after != image else []
        image = after
    return Variant(image, tuple(effective), base)


def _deviations(paths: Sequence[Path_]) -> st.SearchStrategy[Deviation]:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    return st.builds(
        lambda path, kind, text: Deviation(path, kind, text if kind == "another text" else ""),
        st.sampled_from(paths),
        st.sampled_from(_KINDS),
        texts,
    )


def _deviated(image: Image, deviation: Deviation, table: TableSpec, whole: Path_) -> Image:
    """The item with one deviation; unchanged if an earlier deviation has removed the path, or a key attribute would
    lose its type."""
    name, *below = whole
    if name not in image:
        return image
    if below:
        inner = image[name].get("M")
        if inner is None:
            return image
        return {**image, name: {"M": _deviated(inner, deviation, table, tuple(below))}}
    is_key = deviation.path == whole and name in table.key_names
    value = _value(image[name], deviation)
    if is_key and (value is None or value.keys() != image[name].keys() or not value_bytes(value)):
        return image
    if value is None:
        return {other: kept for other, kept in image.items() if other != name}
    return {**image, name: value}


def _value(value: AttributeValue, deviation: Deviation) -> AttributeValue | None:
    """The value with a deviation of this kind; None: absent."""
    ((kind, raw),) = value.items()
    match deviation.kind:
        case "absent":
            return None
        case "NULL":
            return {"NULL": True}
        case "empty":
            return {kind: _EMPTY[kind]} if kind in _EMPTY else None
        case "another type":
            return _OTHER[kind]
        case "one element":
            return {kind: raw[:1]} if kind in ("SS", "NS", "BS", "L") else value
        case "zero" | "negative":
            return {kind: "0" if deviation.kind == "zero" else "-1"} if kind == "N" else value
        case _:
            return {kind: deviation.text} if kind == "S" else value


# ---------------------------------------------------------------- hypothesis


@lru_cache(maxsize=1)
def _keep_out_of_the_project() -> None:
    """Moves hypothesis's own files out of the user's folder."""
    set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "dynamodt-hypothesis")


def _settings(examples: int) -> settings:
    _keep_out_of_the_project()
    return settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )


def drawn(strategy: st.SearchStrategy[Variant], examples: int) -> list[Variant]:
    """Variants, the same ones each time."""
    _keep_out_of_the_project()
    found: list[Variant] = []

    @hypothesis.given(strategy)
    @_settings(examples)
    def draw_one(variant: Variant) -> None:
        found.append(variant)

    draw_one()
    return found


def smallest(strategy: st.SearchStrategy[Variant], shows: Callable[[Variant], bool], examples: int) -> Variant | None:
    """The variant with the fewest deviations for which `shows` is true, as hypothesis shrinks it."""
    try:
        return hypothesis.find(strategy, shows, settings=_settings(examples))
    except NoSuchExample:
        return None
