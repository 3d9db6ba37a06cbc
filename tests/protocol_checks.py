"""Conditions that must hold in the states of `tests/protocol_world.py`.

An item is identified by its note: `old 0` and `old 1` exist at first; `live` is the first one after the application has
written to it; `new` is one that the application has put in its place. An item that the script inserts beside another
has `of`, the note of that item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dynamodt.model.pages import Counts
from dynamodt.model.tables import Item
from dynamodt.pipeline.outcomes import is_waiting
from dynamodt.script.codec import decode
from dynamodt.state.object_keys import stored_lines
from dynamodt.state.split_rows import SplitRows

if TYPE_CHECKING:
    from tests.protocol_world import World

BESIDE = {"alikes": 30, "fan": 20, "pair": 20, "spread": 20, "lone": 30, "row": 40, "clash": 40}
MOVES = {"move": 10, "pair": 10, "freed": -1, "meets": 9, "alike": -1, "alikes": -1}
_MOVED = {"n": 1001, "note": "old 1"}  # of an item that has become like the one before it, as if it were not
TAKEN = {"freed", "meets", "alike", "alikes", "clash"}  # the key may be taken, of an item after one that moves
QUIET = ("", "note", "edit", "delete")  # acts that leave no write in doubt without an answer


def check(world: World) -> None:
    """Checks every state; more conditions once an owner, or an undo, has ended."""
    state = _State(world)
    _once(state)
    _live(state)
    if {"U", "V"} & world.finished:
        if not world.undoing:
            _undone(state)
    elif not state.undoing and "B" in world.finished:
        _ended(state)
    elif not state.undoing and "R" in world.finished:
        _followed(state)


class _State:
    def __init__(self, world: World) -> None:
        self.world, self.scene = world, world.scene
        self.items = [decode(image) for image in world.dynamodb.items.values()]
        if self.scene.kinds == ("target",):
            others = world.dynamodb.others.get("others", {})
            self.items += [{**decode(image), "there": True} for image in others.values()]
        self.undoing = world.undo_begun
        if {"alike", "alikes"} & {*self.scene.kinds} and not self.undoing and self._has_moved():
            self.items = [{**item, **(_MOVED if item["id"] == 0 else {})} for item in self.items]

    def _has_moved(self) -> bool:
        """Whether the run has inserted an item at the key 0, by its row."""
        rows = self.world.dynamodb.others.get(self.world.job.stage.state_table, {})
        return any(json.loads(row["key"]["S"]) == {"id": {"N": "0"}} for row in rows.values())

    @cached_property
    def mains(self) -> dict[object, list[Item]]:
        found: dict[object, list[Item]] = {}
        for item in self.items:
            if "of" not in item and not (self.scene.kinds == ("target",) and "there" not in item):
                found.setdefault(who(item["note"]), []).append(item)
        return found

    def main(self, name: object) -> Item | None:
        return next(iter(self.mains.get(name, [])), None)

    def beside(self, name: object) -> list[Item]:
        return [item for item in self.items if "of" in item and who(item["of"]) == name]

    def kind(self, number: int) -> str:
        return self.scene.kinds[number]

    def reported(self, part: str, all_steps: bool = False) -> set[int]:
        """The keys of the dead letters, or of the items that the undo has not restored."""
        storage = self.world.storage
        names = [name for name in storage.objects if f"/{part}/" in name]
        lines = [line for name in names for line in stored_lines(storage, name) if not self._again(name, line)]
        return {int(line["key"]["id"]["N"]) for line in lines if part != "dead" or all_steps or line["step"] == "doubt"}

    def _again(self, name: str, line: dict[str, Any]) -> bool:
        """Whether a pass has continued with the items that an undo has left waiting."""
        return self.scene.splits > 1 and "/undo2/" in name and is_waiting(line)


def who(note: object) -> object:
    text = str(note)
    return 0 if text == "live" else int(text[4:]) if text.startswith("old") else text


# ---------------------------------------------------------------- in every state


def _once(state: _State) -> None:
    """No item is transformed twice or exists twice; an unchanged item has no result."""
    for name, there in state.mains.items():
        assert len(there) == 1 or _on_its_way_back(state, name, there), f"there twice: {there}"
        overwritten = name == 0 and state.scene.act == "same" and state.world.acted == "before"
        for item in there:
            assert item["n"] // 1000 <= 1 + overwritten, f"transformed twice: {item}"
    for number, kind in enumerate(state.scene.kinds):
        main, beside = state.main(number), state.beside(number)
        assert len(beside) <= 1, f"put twice: {beside}"
        if kind == "fan" and main is not None and main["n"] < 1000 and not state.undoing:
            assert not beside, f"written in part: {main}, {beside}"


def _on_its_way_back(state: _State, name: object, there: list[Item]) -> bool:
    """An undo removes a moved item only after the original is restored."""
    number = 0 if name == "new" else name
    if not (state.undoing and isinstance(number, int) and state.kind(number) in MOVES):
        return False
    keys = sorted((item["n"] >= 1000, int(item["id"]) - number) for item in there)
    moves = MOVES[state.kind(number)]
    return keys in ([(False, 0), (True, moves)], [(False, 0), (True, moves + state.scene.corrected)])


def _live(state: _State) -> None:
    """The application's writes stay."""
    act, acted, main = state.scene.act, state.world.acted, state.main(0)
    met = acted in ("before", "after")
    if main is not None and state.scene.kinds != ("target",):
        added = acted == "added" or (met and act in ("add", "flips"))
        assert main["n"] % 1000 == 1 + added, f"a live write is lost: {main}"
        assert (main["note"] == "live") == (met and act in ("note", "edit", "done")), f"a live write is lost: {main}"
        kept = acted != "before" or act != "done" or main["n"] == 1001
        assert kept or 0 in state.reported("dead"), f"a live write is lost: {main}"
        assert (main.get("extra") == 5) == (met and act == "extra"), f"a live write is lost: {main}"
    if met and act in ("delete", "replace"):
        waits = state.world.undoing and main is not None and main["n"] >= 1000  # to be deleted at its new key
        assert main is None or state.scene.kinds == ("target",) or waits, f"deleted, and back: {main}"
    if met and act in ("note", "delete", "replace") and not state.undoing:
        stale = [
            item for item in _made_since(state) if act != "note" or item["of" if "of" in item else "note"] != "live"
        ]
        assert not stale, f"made of an item that was changed or deleted before: {stale}"
    _live_elsewhere(state)


def _live_elsewhere(state: _State) -> None:
    """Items whose deletion depends on what the application has written, and items at the keys of insertions."""
    act, acted, main = state.scene.act, state.world.acted, state.main(0)
    met = acted in ("before", "after")
    if acted == "before" and act == "note" and state.scene.kinds[0] == "outdated" and not state.undoing:
        assert main is not None, "an item is deleted that was changed before"
    if acted == "before" and act == "note" and state.scene.kinds[0] == "sees" and main is not None and "seen" in main:
        assert main["seen"] == "live", f"made of an item that was changed before: {main}"
    if acted == "touched":
        assert any(item["n"] == 8 for item in state.items), "a live write is lost: an inserted item's"
    if acted == "taken":
        assert "app" in state.mains, "a live item is lost"
    if acted == "dropped":
        again = state.beside(0) if state.scene.kinds[0] in BESIDE else state.mains.get(0)
        assert not again, f"inserted again: {again}"
    if act == "replace" and met and state.scene.kinds[0] not in ("delete", "target"):
        assert state.main("new") is not None, "a live item is lost"


def _made_since(state: _State) -> list[Item]:
    """The items that were inserted beside item 0, or into the target, after the application's act."""
    inserted = [*state.beside(0), *(item for item in state.mains.get(0, []) if "there" in item)]
    return [item for item in inserted if ("there" in item, int(item["id"])) not in state.world.made]


# ---------------------------------------------------------------- at the end of the run


def _ended(state: _State) -> None:
    splits = state.scene.splits
    totals = SplitRows(state.world.rows, "run").totals(splits)  # type: ignore[arg-type]
    assert totals.done == splits, "the second owner has not finished"
    counts = totals.counts
    assert counts.balanced, f"the balance does not hold: {counts}"
    least = len(state.scene.kinds) - (state.scene.act in ("delete", "returns") and not state.scene.export)
    assert least <= counts.read <= len(state.scene.kinds), f"not all that was read is counted: {counts}"
    for number in range(len(state.scene.kinds)):
        _write_result(state, number, counts)
    free = TAKEN.isdisjoint(state.scene.kinds)
    if state.scene.fault == "repeated":  # the run's own write and one of the application are the same to it
        assert counts.dead + counts.vanished <= 1 + (state.scene.act == "delete"), f"more than one in doubt: {counts}"
        return
    if state.scene.act in QUIET and free:
        assert counts.dead == 0, f"a dead letter without need: {counts}"
    if not state.scene.act and free:
        same = state.scene.kinds.count("same")
        exact = counts.changed, counts.unchanged
        assert exact == (len(state.scene.kinds) - same, same), f"counted as what it is not: {counts}"


def _write_result(state: _State, number: int, counts: Counts) -> None:
    """The item has become the script's result, or a count reports that it has not."""
    kind, main, beside = state.kind(number), state.main(number), state.beside(number)
    mine = number == 0 and state.world.acted != "" and state.scene.act in ("delete", "replace", "taken", "drop")
    if number == 0 and state.world.shown and state.scene.act == "returns":
        return  # it may have been created after its page
    if kind == "target":
        assert main is not None or mine or counts.dead, f"not inserted, and nobody says so: {counts}"
        return
    if main is None:
        assert kind in ("delete", "outdated") or (mine and state.scene.act != "taken"), f"lost: {number}"
        return
    said = counts.dead + (counts.superseded if mine else 0)
    if kind not in ("lone", "same", "outdated", "row", "clash"):
        assert kind != "delete" or said, f"not deleted, and nobody says so: {main}"
        assert main["n"] >= 1000 or said, f"not transformed, and nobody says so: {main} {counts}"
    where = number + (MOVES.get(kind, 0) if main["n"] >= 1000 else 0)
    assert int(main["id"]) == where, f"at another key: {main}"
    if kind == "row" and mine and not beside and state.world.acted == "taken":
        assert counts.superseded or said, f"not inserted, and nobody says so: {counts}"
    if kind in BESIDE and not said:
        assert beside or mine, f"nothing was put beside {main}: {counts}"


def _followed(state: _State) -> None:
    """After a later phase, an item that is not transformed is a dead letter, or the application's."""
    for number, kind in enumerate(state.scene.kinds):
        main = state.main(number)
        mine = number == 0 and state.world.acted in ("before", "after", "dropped", "touched", "taken")
        if kind in ("picky", "fan", "move", "update") and main is not None and main["n"] < 1000 and not mine:
            assert number in state.reported("dead", all_steps=True), f"neither transformed nor reported: {main}"


# ---------------------------------------------------------------- at the end of the undo


def _undone(state: _State) -> None:
    """Each item is as before the run, or is reported. An item whose key another one has had is restored without a
    report, unless the run may not have deleted it itself."""
    splits = state.scene.splits
    done = SplitRows(state.world.rows, "run/undo2").totals(splits).done  # type: ignore[arg-type]
    assert done == splits, "the undo has not finished"
    left = state.reported("not-restored")
    doubt = state.scene.act or state.scene.fault or "delete" in state.scene.kinds
    assert not left or doubt or TAKEN.isdisjoint(state.scene.kinds), f"not restored without need: {left}"
    said = left | state.reported("dead")
    for item in state.items:
        written = item["n"] >= 1000 or "of" in item
        own = state.scene.kinds != ("target",) or "there" in item
        if written and own and not _same_by_hand(state, item):
            assert said & _keys(state, item), f"neither restored nor reported: {item}"
    for number in range(len(state.scene.kinds)):
        if number == 0 and state.world.acted and state.scene.act in ("delete", "replace", "returns"):
            continue
        here = [item for item in state.items if "of" not in item and who(item["note"]) == number]
        assert here or number in said, f"lost by the undo: {number}"
        twice = number in said and state.scene.act != "edit"
        assert len(here) <= 1 or twice, f"there twice after the undo: {here}"
    if state.scene.act == "create" and state.world.acted == "gone":
        assert state.main("new") is not None or 0 in said, "a live item is lost by the undo"
    if not state.scene.act and not said:
        found = sorted((int(item["id"]), int(item["n"]), str(item["note"])) for item in state.items)
        assert found == [(n, 1, f"old {n}") for n in range(len(state.scene.kinds))], f"not as it was: {state.items}"


def _same_by_hand(state: _State, item: Item) -> bool:
    """The value that the script writes is the application's."""
    act, note = state.scene.act, item.get("note")
    return (act == "same" and note == "old 0") or (act == "done" and note == "live")


def _keys(state: _State, item: Item) -> Iterable[int]:
    """The item's present key and its former one."""
    source = who(item["of"] if "of" in item else item["note"])
    return {int(item["id"]), source} if isinstance(source, int) else {int(item["id"])}
