"""The smallest item that shows a fault: attributes, elements and characters are left out while it still does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from dynamodt.model.tables import AttributeValue, Image

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
