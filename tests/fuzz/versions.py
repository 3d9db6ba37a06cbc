"""The scripts of a fuzzed life of a table, and what they make of an item.

Each item has a `log`: a version adds its number and the item's key before it, and its `down` takes its own entry off.
Only a repeatable script considers whether it has been applied: an item that is transformed twice shows it.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import NamedTuple

TABLE, OTHERS = "things", "others"
APART = 10**8  # added to the keys of the other table
ROWS = 900_000  # the keys of the rows of `items()`
_UP = """
from dynamodt import Delete, Put

sequence = {number}
{head}
V, KINDS, BAD, EDITS = {number}, {kinds!r}, {bad!r}, {edits}


def transform_up(item{prepared}):
    if int(item["k"]) in BAD or "poison" in item or {lacks}:
        raise ValueError("bad")
    log, here = item["log"], int(item["id"])
    if {repeatable} and any(one.startswith(f"{{V}}@") for one in log):
        return item
    new = {{**item, "log": [*log, f"{{V}}@{{here}}"], f"n{{V}}": item.get(f"n{{V}}", 0) + 1}}
    there = {{**new, "id": here + {step}}}
    child = {{"k": item["k"], "note": item["note"], "id": here + {step} + 500, "log": [f"{{V}}@"], f"n{{V}}": 1}}
    results = {{
        "update": new,
        "same": item,
        "delete": Delete(),
        "move": there,
        "copy": {{**there, "src": f"{{item['src']}}>{{V}}"}},
        "fan": [new, Put({{**child, "src": f"{{item['src']}}/{{V}}"}})],
    }}
    return results[KINDS[int(item["k"]) % len(KINDS)]]
"""
_DOWN = """

def transform_down(item):
    log = item["log"]
    if not log or not log[-1].startswith(f"{V}@"):
        return item
    before = log[-1].partition("@")[2]
    old = {name: value for name, value in item.items() if name != f"n{V}"}
    return {**old, "log": log[:-1], "id": int(before)} if before else Delete()
"""
_ITEMS = """

def items():
    for row in range(2):
        yield {"id": 900000 + V * 10 + row, "k": 0, "src": f"row{V}.{row}", "note": "old", "log": [f"{V}@"], f"n{V}": 1}
"""
_PREPARE = """

def prepare(context):
    yield from ((number, number) for number in range(12))
"""
_HEADS = {"export": 'SOURCE = "export"\n', "copy": 'TARGET_TABLE = "others"\n', "repeatable": "IDEMPOTENT = True\n"}
_KINDS = {"scan": ("update", "update", "same", "delete"), "copy": ("copy",)}


class At(NamedTuple):
    """The place of an item, and what was applied to it."""

    key: int
    log: tuple[str, ...]


@dataclass
class Version:
    number: int
    way: str  # "scan", "export", "repeatable" or "copy"
    kinds: tuple[str, ...]
    head: str
    bad: tuple[int, ...]  # the numbers of items that it cannot transform
    rows: bool
    prepares: bool
    edits: int = 0

    @classmethod
    def drawn(cls, number: int, dice: random.Random) -> Version:
        way = dice.choice(["scan", "scan", "export", "repeatable", "copy"])
        kinds = _KINDS.get(way, ("update", "move", "fan", "delete"))
        extra = dice.choice(["", 'GUARD = "changed"\n', 'STAMP = "_by"\n']) if way == "scan" else ""
        return cls(
            number,
            way,
            tuple(dice.choice(kinds) for _ in range(dice.choice([1, 2, 3]))),
            _HEADS.get(way, "") + extra,
            (dice.randint(1, 5),) if dice.random() < 0.25 else (),
            rows=way != "copy" and dice.random() < 0.2,
            prepares=dice.random() < 0.2,
        )

    @property
    def step(self) -> int:
        """The distance of its moves and insertions: the keys of each version are its own."""
        return int(1000 * 2**self.number)

    @property
    def text(self) -> str:
        prepared, lacks = (", prepared", 'int(item["k"]) not in prepared') if self.prepares else ("", "False")
        repeatable = self.way == "repeatable"
        text = _UP.format(**vars(self), step=self.step, prepared=prepared, lacks=lacks, repeatable=repeatable)
        text += "" if {"delete", "copy"} & {*self.kinds} else _DOWN
        return text + (_ITEMS if self.rows else "") + (_PREPARE if self.prepares else "")

    def has(self, at: At | None) -> bool:
        """Whether the item has its entry as the last one."""
        return at is not None and bool(at.log) and at.log[-1].startswith(f"{self.number}@")

    def up(self, src: str, number: int, at: At) -> dict[str, At | None]:
        """The results of an item."""
        kind = self.kinds[number % len(self.kinds)]
        applied = any(one.startswith(f"{self.number}@") for one in at.log)
        if at.key >= APART or kind == "same" or (self.way == "repeatable" and applied):
            return {src: at}
        there, log = at.key + self.step, (*at.log, f"{self.number}@{at.key}")
        results: dict[str, dict[str, At | None]] = {
            "update": {src: At(at.key, log)},
            "delete": {src: None},
            "move": {src: At(there, log)},
            "copy": {src: at, f"{src}>{self.number}": At(there + APART, log)},
            "fan": {src: At(at.key, log), f"{src}/{self.number}": At(there + 500, (f"{self.number}@",))},
        }
        return results[kind]

    def down(self, at: At) -> At | None:
        """The result of `transform_down`."""
        before = at.log[-1].partition("@")[2] if self.has(at) else ""
        return At(int(before), at.log[:-1]) if before else None if self.has(at) else at

    @property
    def own_rows(self) -> dict[str, At]:
        """What `items()` yields."""
        rows = range(2 if self.rows else 0)
        return {f"row{self.number}.{row}": At(ROWS + self.number * 10 + row, (f"{self.number}@",)) for row in rows}


def ancestors(src: str) -> list[str]:
    """The items that an item was made of, and the item."""
    return [*(src[: one.start()] for one in re.finditer("[/>]", src)), src]
