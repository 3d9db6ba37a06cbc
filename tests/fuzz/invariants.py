"""The conditions at the end of a fuzzed run, and after its undo. Each function yields the violations.

`main` is an item that carries the `src` of what the application made; `derived` is one that the script put beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dynamodt.pipeline.restoration import UNCONFIRMED
from tests.fuzz.case import OWN_ROWS, Case
from tests.fuzz.ends import PUTS, End, key_of, left_of, reasons

# ---------------------------------------------------------------- after the run


def breaches_of_run(case: Case) -> Iterator[str]:
    end = End(case)
    yield from _counts(end)
    yield from _once(end)
    yield from _nothing_lost(end)
    yield from _notes(end)
    if not case.draw.acts:
        yield from _as_expected(end)


def _counts(end: End) -> Iterator[str]:
    total = end.total
    for job in end.case.done:
        totals = end.case.state.splits(job.run).totals(job.splits)
        if totals.done != job.splits or not totals.counts.balanced:
            yield f"the balance does not hold: {job.run} {totals}"
    main = end.case.state.splits(end.case.done[0].run).totals(end.case.done[0].splits)
    if end.case.draw.export and main.counts.read != end.case.draw.items:
        yield f"not all that was read is counted: {main.counts}"
    still = [src for src in end.living() if not end.app.touched(src) and _not_begun(end, src)]
    if len(still) > total.dead + total.superseded:
        yield f"not transformed, and nobody says so: {still} {total}"


def _not_begun(end: End, src: str) -> bool:
    """Whether an initial item is unchanged, although the script changes it."""
    there = end.by_src.get(src)
    first = int(src.partition(".")[2]) < end.case.draw.items
    return first and there is not None and there["times"] == 0 and end.kind(src) not in ("same", "lone")


def _once(end: End) -> Iterator[str]:
    """No item is transformed twice, nor there before and after it."""
    twice = [src for src, count in Counter(item["src"] for item in end.items.values()).items() if count > 1]
    if twice:
        yield f"there twice: {twice}"
    for key, item in end.items.items():
        if item["times"] > int("/row" not in item["src"]):
            yield f"transformed twice: {key} {item}"
    for src in end.app.born:
        main, derived = end.by_src.get(src), end.derived(src)
        if main is not None and main["times"] == 0 and derived and end.kind(src) != "lone":
            yield f"transformed in part: {src} and {derived}"
        if not end.by_value and (late := derived - end.app.frozen.get(src, derived)):
            yield f"made of an item that was deleted before: {late}"
    yield from (f"deleted, and back: {src}" for src in end.app.removed & end.by_src.keys())


def _nothing_lost(end: End) -> Iterator[str]:
    for src in end.living():
        if src not in end.by_src and not end.derived(src) and not _deleted(end, src):
            yield f"lost: {src} ({end.kind(src)})"


def _deleted(end: End, src: str, also_script: bool = True) -> bool:
    """Whether the script deletes it; or the application has, as far as it was in the items made of it."""
    kind = end.kind(src)
    made = {f"{src}/{name}" for name in PUTS.get(kind, ())}
    return (kind == "delete" and also_script) or (kind == "split" and bool(made & end.app.removed))


def _notes(end: End) -> Iterator[str]:
    """The application's last write stays; an item's results have one of its notes."""
    for src, item in end.by_src.items():
        known = end.app.notes.get(src, ["old"])
        if "/" not in src or len(known) > 1:
            if item["note"] != known[-1]:
                yield f"a live write is lost: {item} instead of {known[-1]}"
        elif item["note"] not in end.app.notes[src.partition("/")[0]]:
            yield f"a note that was never written: {item}"


def _as_expected(end: End) -> Iterator[str]:
    """Without other writers, each item becomes the script's result. A move to a key that other items free depends on
    them."""
    if "freed" in end.case.draw.kinds or end.is_tired:
        return
    if end.dead_letters:
        yield f"dead letters without need: {[dead_letter['error'] for dead_letter in end.dead_letters]}"
    expected = {made: key for src in end.living() for made, key in end.expected(src).items()}
    expected |= {f"{key}.own/row": key for key in OWN_ROWS if end.case.draw.rows}
    found = {src: int(item["id"]) for src, item in end.by_src.items()}
    if found != expected:
        yield f"not as the script says: {found} instead of {expected}"
    still = [src for src in end.living() if _not_begun(end, src)]
    if still:
        yield f"not transformed: {still}"


# ---------------------------------------------------------------- after the undo


def breaches_of_undo(case: Case) -> Iterator[str]:
    """An item that the run has moved or deleted, and that the application has changed or replaced since, stays and is
    reported; it may then also be at its old key."""
    end, left = End(case), left_of(case)
    yield from _left_without_need(end)
    for src in end.living():
        there = [item for item in end.items.values() if str(item["src"]).partition("/")[0] == src]
        open_ = {key_of(src), *end.expected(src).values()} & (left | end.doubts)
        if not there and not open_ and not _deleted(end, src, also_script=False):
            yield f"lost by the undo: {src} ({end.kind(src)})"
        own = any(len(end.app.notes.get(item["src"], "")) > 1 for item in there if item["src"] != src)
        if there and not own and end.app.notes[src][-1] not in [item["note"] for item in there]:
            yield f"a live write is lost by the undo: {there}"
    for key, item in end.items.items():
        src = str(item["src"]).partition("/")[0]
        if (item["times"] or "/" in item["src"]) and not {key, key_of(src)} & (left | end.doubts):
            yield f"neither restored nor reported: {key} {item}"
    for src in end.app.removed & end.by_src.keys():
        if end.kind(src) not in ("delete", "move", "freed", "split"):
            yield f"deleted, and back: {src}"


def _left_without_need(end: End) -> Iterator[str]:
    """Without other writers, an item is as before the run, unless its deletion or a write has no answer."""
    case = end.case
    open_ = {key for key, why in reasons(case).items() if why == UNCONFIRMED} | end.doubts
    keys = {*case.before, *end.items} - open_
    differ = {key: end.items.get(key) for key in keys if end.items.get(key) != case.before.get(key)}
    if differ and not case.draw.acts and not end.is_tired:
        yield f"not as before the run: {differ}, left: {reasons(case)}"
