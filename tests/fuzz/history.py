"""What the history says about each item of a fuzzed life: the states in which it may be after each command.

The runs in the state table are believed, and the items are compared with them: after a run that has succeeded, each
item is a result, except its dead letters; after an undo, each item is as before the run, except what the undo reports;
while a run is unfinished, each item is one or the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Item
from dynamodt.script.codec import decode
from dynamodt.state.object_keys import stored_lines
from dynamodt.state.runs import UNDOING, unfinished
from dynamodt.state.storage import open_storage
from tests.fuzz.versions import APART, TABLE, At, ancestors

if TYPE_CHECKING:
    from tests.fuzz.life import Life

States: TypeAlias = set[At | None]
Table: TypeAlias = dict[str, States]  # by the items' `src`


class History:
    """`base` has the states after the last run that has ended, `before` those before each run. `fresh` are the items
    made since: a run may have met them or not."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.base: Table = {}
        self.before: dict[str, Table] = {}
        self.born: dict[str, At] = {}
        self.numbers: dict[str, int] = {}
        self.fresh: set[str] = set()
        self.seen: dict[str, RunRecord] = {}
        self.succeeded: set[str] = set()

    def begins(self, src: str, number: int, at: At) -> None:
        """The application makes an item."""
        self.numbers[src], self.born[src], self.base[src] = number, at, {at}
        self.fresh.add(src)

    def empty(self) -> None:
        """The table is empty; the other one stays."""
        apart = {str(item["src"]) for item in self.life.items() if item["id"] >= APART}
        self.base = {src: states if src in apart else {None} for src, states in self.base.items()}
        for table in self.before.values():
            table.update({src: states if src in apart else {*states, None} for src, states in table.items()})

    # ------------------------------------------------------------ after a command

    def check(self) -> None:
        runs, possible = self.life.runs(), Table()
        for run in runs:
            if run.run not in self.life.gone:
                possible = self._follow(run) or possible
        self.life.trace.append(f"  {[f'v{run.version} {run.direction} {run.status}' for run in runs]}")
        self._compare(_either(self.base, possible) if possible else self.base)
        self._check_applied(runs)
        found = {str(item["src"]): _at(item) for item in self.life.items()}
        if not possible:
            self.base = {src: {found.get(src)} for src in {*self.base, *found}}
            self.fresh.clear()
        for src in self.life.notes.keys() - found.keys() - self.born.keys():
            del self.life.notes[src]  # a derived item, which is made again
        self.seen = {run.run: run for run in runs}

    def _check_applied(self, runs: list[RunRecord]) -> None:
        """The applied versions are those of the runs."""
        applied: dict[int, bool] = {}
        for run in sorted(runs, key=lambda one: one.run):  # an older one may be retried or undone if it changed nothing
            if run.status in ("succeeded", "stamped"):
                applied[run.version] = run.direction == "up"
            elif run.status == "undone":
                applied[run.version] = run.direction == "down"
        expected, found = {version for version, is_so in applied.items() if is_so}, {*self.life.state.applied(TABLE)}
        if expected != found and not any(unfinished(run.status) for run in runs):
            self.life.breach(f"applied are {found} instead of {expected}")

    def _follow(self, run: RunRecord) -> Table:
        """Brings `base` up to a run; returns the states that its items may have if it is unfinished."""
        if run.run not in self.before:
            self.before[run.run] = {src: set(states) for src, states in self.base.items()}
            self._makes_again(run)
        seen, again = self.seen.get(run.run), run.run in self.succeeded  # a retry opens it again
        if run.status == "succeeded" and run != seen:
            self.succeeded.add(run.run)
            self._ends(run, self._after(run, again))
        elif run.status == "undone" and (seen is None or seen.status != "undone"):
            self._ends(run, self._undone(run))
        elif run.status == UNDOING:
            return _either(self._undone(run), self._after(run, again))
        elif unfinished(run.status):
            return self._after(run, again)
        return {}

    def _ends(self, run: RunRecord, base: Table) -> None:
        """Another run that is unfinished has written nothing, or this one could not end."""
        self.base = base
        for other in self.seen.values():
            if other.run != run.run and unfinished(other.status):
                self.before[other.run] = {src: set(states) for src, states in base.items()}

    def _makes_again(self, run: RunRecord) -> None:
        """A new run makes items again that an earlier one has made, and the application has removed."""
        own = (f"/{run.version}", f">{run.version}")
        for src in {*self.life.removed} - self.life.just_removed:
            if run.direction == "up" and (src.endswith(own) or src.startswith(f"row{run.version}.")):
                del self.life.removed[src]

    def _after(self, run: RunRecord, again: bool = False) -> Table:
        """The states after a run; of a dead letter, also those before. `again`: the run has replayed some."""
        version, left = self.life.versions[run.version - 1], self._dead(run)
        found: Table = {src: {at} for src, at in version.own_rows.items()} if run.direction == "up" else {}
        self.numbers.update(dict.fromkeys(found, 0))
        for src, states in self.base.items():
            may = again or src in left | self.fresh or any(one in self.life.removed for one in ancestors(src))
            for at in states:
                results = {src: at} if again and version.has(at) else self._results(run, src, at)
                for one, then in results.items():
                    found.setdefault(one, set()).add(then)
                    if may or None in states or (self.life.blocked and ">" in one):
                        found[one].add(at if one == src else None)
        return found

    def _results(self, run: RunRecord, src: str, at: At | None) -> dict[str, At | None]:
        version = self.life.versions[run.version - 1]
        if at is None:
            return {src: None}
        return (
            {src: version.down(at)} if run.direction == "down" else version.up(src, self.numbers[ancestors(src)[0]], at)
        )

    def _undone(self, run: RunRecord) -> Table:
        before, after, left, found = self.before[run.run], self._after(run), self.not_restored(run), Table()
        for src in {*self.base, *before, *after}:
            states, now = before.get(src, {self.born.get(src)}), self.base.get(src, set()) | after.get(src, set())
            found[src] = states | (now if left & {at.key for at in states | now if at} else set())
            found[src] |= self._moved_back(run, states)
        return found

    def _moved_back(self, run: RunRecord, states: States) -> States:
        """An item that the application has put in the place of a moved one is that one, changed, to an undo."""
        version = self.life.versions[run.version - 1]
        there = [at for at in states if at and version.step <= at.key < APART and not version.has(at)]
        return {at._replace(key=at.key - version.step) for at in there if "move" in version.kinds}

    # ------------------------------------------------------------ what was reported

    def _lines(self, run: RunRecord, kind: str) -> Iterator[Any]:
        storage = open_storage(self.life.stage.connection, self.life.stage.storage)
        names = [name.removeprefix("store/") for name in self.life.service.objects if f"/{run.run}/" in name]
        for name in names:
            if f"/{kind}" in name and name.endswith(".jsonl"):
                yield from stored_lines(storage, name)

    def _dead(self, run: RunRecord) -> set[str]:
        keys = {_key(line) for line in self._lines(run, "dead/")} if run.counts.dead else set()
        return {src for src, states in self.base.items() if any(at and at.key in keys for at in states)}

    def not_restored(self, run: RunRecord) -> set[int]:
        apart = APART if run.target else 0
        return {_key(line) + apart for line in self._lines(run, "not-restored")}

    def in_doubt(self, run: RunRecord) -> str:
        """The statement of a person who has looked at the items that are in doubt, if it is the same for all."""
        keys = {_key(line) for line in self._lines(run, "dead/") if line["step"] == "doubt"}
        version, there = self.life.versions[run.version - 1], {int(item["id"]): item for item in self.life.items()}
        if run.direction == "down" or "delete" in version.kinds or not keys or not keys <= there.keys():
            return ""
        return {(True,): "done", (False,): "again"}.get(tuple({version.has(_at(there[key])) for key in keys}), "")

    # ------------------------------------------------------------ the items

    def _compare(self, allowed: Table) -> None:
        items = self.life.items()
        by_src = {str(item["src"]): item for item in items}
        if len(by_src) < len(items):
            return self._twice(items)
        for src, states in allowed.items():
            at = _at(by_src[src]) if src in by_src else None
            if at is not None and src in self.life.removed:
                self._back(src, at)
            elif at not in states and src not in self.life.removed:
                self.life.breach(f"{src} is {at}, and none of {states}")
        for src, item in by_src.items():
            if src not in allowed:
                self.life.breach(f"neither of the application nor of a version: {item}")
            self._check_item(item, self.life.notes.get(src, item["note"]))
        return None

    def _check_item(self, item: Item, note: str) -> None:
        if item["note"] != note:
            self.life.breach(f"a live write is lost: {item} instead of {note}")
        counted = {name: int(value) for name, value in item.items() if name[0] == "n" and name[1:].isdigit()}
        restored_in_part = int(item["id"]) in self._all_not_restored()  # an undo gives a new item what its run removed
        if counted != Counter(f"n{one.partition('@')[0]}" for one in item["log"]) and not restored_in_part:
            self.life.breach(f"the counters are not those of the log: {item}")

    def _twice(self, items: list[Item]) -> None:
        """A moved item that the application has changed stays where it is, is reported, and its original returns."""
        self.life.over, count = True, Counter(item["src"] for item in items)
        for src in [src for src, times in count.items() if times > 1]:
            keys = {int(item["id"]) for item in items if item["src"] == src}
            if not keys & self._all_not_restored() and not any(run.status == UNDOING for run in self.life.runs()):
                self.life.breach(f"there twice: {src} at {keys}")

    def _back(self, src: str, at: At) -> None:
        key = self.life.removed[src]
        if at.key != key and key in self._all_not_restored():
            self.life.over = True  # as in `_twice`; the application has then removed the one that stayed
        else:
            self.life.breach(f"deleted, and back: {src} {at}")

    def _all_not_restored(self) -> set[int]:
        return {key for run in self.life.runs() for key in self.not_restored(run)}


def _key(line: Any) -> int:
    return int(str(decode(line["key"])["id"])) if "key" in line else 0


def _at(item: Item) -> At:
    return At(int(item["id"]), tuple(item["log"]))


def _either(some: Table, others: Table) -> Table:
    return {src: some.get(src, {None}) | others.get(src, {None}) for src in {*some, *others}}
