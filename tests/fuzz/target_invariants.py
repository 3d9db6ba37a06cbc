"""The conditions of a fuzzed run into another table, and of its undo: each function yields the violations.

The run only reads the first table. Each item that it inserts into the other one has the `src` of the item that it was
made from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.fuzz.case import HUNDREDS, OWN_ROWS, Case
from tests.fuzz.ends import End, key_of, left_of


def breaches_of_run(case: Case) -> Iterator[str]:
    end = End(case)
    yield from _source(end)
    yield from _once(end)
    yield from _made_of_what_was_there(end)
    yield from _said(end)
    if not case.draw.acts:
        yield from _as_expected(end)


def breaches_of_undo(case: Case) -> Iterator[str]:
    end, left = End(case), left_of(case)
    yield from _source(end)
    for item in end.app.there():
        if item["src"] not in end.app.here and int(item["id"]) not in left | end.doubts:
            yield f"neither taken back nor reported: {item}"
    yield from _of_the_application(end)


def made_of(end: End, src: str) -> dict[str, int]:
    """The results of an item: the key of each `src` in the other table."""
    key, kinds = key_of(src), end.case.draw.kinds
    kind = kinds[key % len(kinds)]
    if kind == "lone":
        return {f"{src}/alone": key + HUNDREDS["alone"]}
    return {src: {"shift": key + HUNDREDS["move"], "clash": 600 + key // 2}.get(kind, key)}


def _source(end: End) -> Iterator[str]:
    """The table that is read is as the application has left it."""
    found = {src: (item["times"], item["note"]) for src, item in end.by_src.items()}
    expected = {src: (0, end.app.notes[src][-1]) for src in end.living()}
    if found != expected:
        yield f"the source is changed: {found} instead of {expected}"


def _once(end: End) -> Iterator[str]:
    there = end.app.there()
    twice = [src for src, count in Counter(item["src"] for item in there).items() if count > 1]
    if twice:
        yield f"there twice: {twice}"
    for item in there:
        if item["times"] != int(item["src"] not in end.app.here and "/row" not in item["src"]):
            yield f"transformed twice, or not at all: {item}"
        if item["src"] in end.app.dropped:
            yield f"deleted by the application, and inserted again: {item}"
    yield from (f"made of an item that was another one by then: {one}" for one in end.case.world.stale)
    yield from _of_the_application(end)


def _of_the_application(end: End) -> Iterator[str]:
    missing = end.app.here - end.app.dropped - {str(item["src"]) for item in end.app.there()}
    if missing:
        yield f"the application's items are lost: {missing}"


def _made_of_what_was_there(end: End) -> Iterator[str]:
    """Each item is made of its source as it was at some time, and nothing of one that was deleted before."""
    for item in end.app.there():
        src = str(item["src"])
        base = src.partition("/")[0]
        if src in end.app.here or "/row" in src:
            continue
        if item["note"] not in [*end.app.notes[base], *(["noted"] if src in end.app.noted else [])]:
            yield f"a note that was never written: {item}"
        if base in end.app.removed and src not in end.app.frozen[base]:
            yield f"made of an item that was deleted before: {item}"
        if made_of(end, base).get(src) != item["id"]:
            yield f"at another key: {item}"


def _missing(end: End) -> list[str]:
    """The results of the initial items that are missing."""
    there: set[str] = {str(item["src"]) for item in end.app.there()} | end.app.dropped
    first = [src for src in end.living() if int(src.partition(".")[2]) < end.case.draw.items]
    return [src for src in first if not made_of(end, src).keys() <= there]


def _said(end: End) -> Iterator[str]:
    missing, total = _missing(end), end.total
    if len(missing) > total.dead + total.superseded:
        yield f"not inserted, and nobody says so: {missing} {total}"


def _as_expected(end: End) -> Iterator[str]:
    """Without other writers, each item becomes the script's result; of several items for one key, all but one become
    dead letters."""
    wanted = Counter(key for src in end.living() for key in made_of(end, src).values())
    clashes = {src for src in end.living() if any(wanted[key] > 1 for key in made_of(end, src).values())}
    needless = [dead_letter for dead_letter in end.dead_letters if not clashes]
    if needless and not end.is_tired:
        yield f"dead letters without need: {[dead_letter['error'] for dead_letter in needless]}"
    found = {int(item["id"]) for item in end.app.there()}
    expected = {*wanted, *(OWN_ROWS if end.case.draw.rows else ())}
    if found != expected and not end.is_tired:
        yield f"not as the script says: {found} instead of {expected}"
