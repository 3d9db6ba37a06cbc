"""The application of a fuzzed run: it writes to any item at any time, and records its writes.

An item's attribute `src` names the item that it was made from. An item that the application creates, or puts in place
of another, has a `src` of its own. What the script inserts beside an item has the item's `src` and a suffix.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field

from dynamodt.model.tables import Image, Item
from dynamodt.script.codec import decode, encode, key_text
from tests.fakes import FakeDynamoDB

ACTS_BESIDE = ("note", "note", "delete", "create", "replace", "there_note", "there_drop", "there_create")
ACTS = ("note", "note", "note", "delete", "create", "replace", "unstamp")


@dataclass
class Application:
    """`free` are keys where it may create an item; `often` is how likely it acts before a write of the run's."""

    dynamodb: FakeDynamoDB
    dice: random.Random
    free: tuple[int, ...]
    often: float
    acts: tuple[str, ...] = ACTS
    log: list[str] = field(default_factory=list)
    born: set[str] = field(default_factory=set)  # every `src` that the application has made
    removed: set[str] = field(default_factory=set)  # deleted or replaced
    frozen: dict[str, set[str]] = field(default_factory=dict)  # an item's results at its removal
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(lambda: ["old"]))
    quiet: bool = False
    target: str = ""  # the other table, where the run writes to one
    here: set[str] = field(default_factory=set)  # every `src` that the application has put there itself
    dropped: set[str] = field(default_factory=set)  # the items that it has deleted there
    noted: set[str] = field(default_factory=set)  # and changed

    def put(self, key: int, note: str = "old") -> None:
        """A new item."""
        src = f"{key}.{len(self.born)}"
        self.born.add(src)
        self.notes[src] = [note]
        self.dynamodb.put({"id": key, "src": src, "times": 0, "note": note})

    def act(self) -> None:
        if self.quiet or self.dice.random() >= self.often:
            return
        what = self.dice.choice(self.acts)
        if what.startswith("there_"):
            self._act_there(what)
        elif what == "create":
            self._create(self.dice.choice(self.free))
        elif items := self.items():
            key = self.dice.choice(sorted(items))
            self.log.append(f"{what} {key}")
            getattr(self, f"_{what}")(items[key])

    def items(self) -> dict[int, Item]:
        return {int(item["id"]): item for item in map(decode, self.dynamodb.items.values())}

    def there(self) -> list[Item]:
        """The items of the other table."""
        return [decode(image) for image in self._there.values()]

    @property
    def _there(self) -> dict[str, Image]:
        return self.dynamodb.others.setdefault(self.target, {})

    def _act_there(self, what: str) -> None:
        there = {int(item["id"]): item for item in self.there()}
        key = self.dice.choice(self.free if what == "there_create" or not there else sorted(there))
        found = there.get(key)
        self.log.append(f"{what} {key} {found and found['src']}")
        if found is None and what == "there_create":
            self.here.add(f"{key}.app{len(self.log)}")
            self._put_there({"id": key, "src": f"{key}.app{len(self.log)}", "times": 0, "note": "app"})
        elif found is not None and what == "there_note":
            self.noted.add(str(found["src"]))
            self._put_there({**found, "note": "noted"})
        elif found is not None and what == "there_drop":
            self.dropped.add(str(found["src"]))
            del self._there[key_text(encode({"id": key}))]

    def _put_there(self, item: Item) -> None:
        self._there[key_text(encode({"id": item["id"]}))] = encode(item)

    def touched(self, src: str) -> bool:
        return src in self.removed or len(self.notes[src]) > 1

    def _create(self, key: int) -> None:
        if key not in self.items():
            self.log.append(f"create {key}")
            self.put(key, f"new {len(self.log)}")

    def _note(self, item: Item) -> None:
        note = f"note {len(self.log)}"
        self.notes[item["src"]] = [*self.notes[item["src"]], note]
        self.dynamodb.put({**item, "note": note})

    def _delete(self, item: Item) -> None:
        src = str(item["src"])
        self.removed.add(src)
        made = {str(one["src"]) for one in self.items().values()} | self.removed
        self.frozen[src] = {one for one in made if one.startswith(f"{src}/")}
        if self.target:
            self.frozen[src] = {str(one["src"]) for one in self.there()}
        self.dynamodb.delete(item)

    def _replace(self, item: Item) -> None:
        self._delete(item)
        self.put(int(item["id"]), f"new {len(self.log)}")

    def _unstamp(self, item: Item) -> None:
        """The application writes only its own attributes of the item, without the stamp of a run."""
        self.dynamodb.put({name: value for name, value in item.items() if name != "_by"})
