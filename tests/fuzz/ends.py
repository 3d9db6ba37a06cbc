"""The end of a fuzzed run: its items, its dead letters, and the expected result of each item."""

from __future__ import annotations

import json
from functools import cached_property

from dynamodt.model.pages import Counts
from dynamodt.model.runs import JournalSource
from dynamodt.model.tables import Item
from dynamodt.pipeline.outcomes import is_waiting
from dynamodt.script.codec import decode
from dynamodt.state.object_keys import stored_lines
from tests.fuzz.case import HUNDREDS, Case

PUTS = {"fan": ("beside",), "lone": ("alone",), "split": ("left", "right")}
_TIRED = "gave up after"


class End:
    """The table and the dead letters at one time."""

    def __init__(self, case: Case) -> None:
        self.case, self.app = case, case.application
        self.items = self.app.items()
        self.dead_letters = [json.loads(line) for line in case.bench.dead_letters()]
        self.doubts = {id_of(dead_letter["key"]) for dead_letter in self.dead_letters if dead_letter["step"] == "doubt"}
        self.dead = {id_of(dead_letter["key"]) for dead_letter in self.dead_letters}

    @property
    def by_value(self) -> bool:
        """Whether an item that was put in place of another may be taken for it: it has the guarded values, too."""
        return "changed" in self.case.draw.head

    @property
    def is_tired(self) -> bool:
        """Whether the run has given up a write."""
        return any(_TIRED in dead_letter["error"] for dead_letter in self.dead_letters)

    @property
    def total(self) -> Counts:
        """The total counts of all phases of the run."""
        total = Counts()
        for job in self.case.done:
            total = total.plus(self.case.state.splits(job.run).totals(job.splits).counts)
        return total

    @cached_property
    def by_src(self) -> dict[str, Item]:
        return {str(item["src"]): item for item in self.items.values()}

    def kind(self, src: str) -> str:
        key, kinds = key_of(src), self.case.draw.kinds
        return kinds[key % len(kinds)] if key < 100 else "update"

    def derived(self, src: str) -> set[str]:
        return {one for one in self.by_src if one.startswith(f"{src}/")}

    def living(self) -> list[str]:
        """The items that the application has made and not removed."""
        return sorted(self.app.born - self.app.removed)

    def expected(self, src: str) -> dict[str, int]:
        """The result of an item that the application does not touch: the key of each `src`."""
        key, kind = key_of(src), self.kind(src)
        where = {"move": key + HUNDREDS["move"], "freed": key - 1, "delete": None, "split": None}.get(kind, key)
        puts = {f"{src}/{name}": key + HUNDREDS[name] for name in PUTS.get(kind, ())}
        return puts if where is None else {src: where, **puts}


def id_of(image: dict[str, dict[str, str]]) -> int:
    return int(str(decode(image)["id"]))


def key_of(src: str) -> int:
    """The key under which the application has made the item."""
    return int(src.partition(".")[0])


def left_of(case: Case) -> set[int]:
    """The keys that the undo reports."""
    return set(reasons(case))


def reasons(case: Case) -> dict[int, str]:
    """The reasons why the undo did not restore items; an item that waits for a key counts only if it still waits after
    the last pass."""
    again = {job.source.waiting for job in case.undone if isinstance(job.source, JournalSource)}
    found = (
        line
        for name in case.storage.objects
        if name.startswith("runs/") and "/not-restored/" in name
        for line in stored_lines(case.storage, name)
        if not (is_waiting(line) and any(run and f"/{run}/not-restored/" in name for run in again))
    )
    return {id_of(line["key"]): line["why"] for line in found}
