"""A fuzzed case of items that differ only by their keys, each of which is moved to another one's key, or deleted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dynamodt.model.pages import Counts
from dynamodt.state.object_keys import DEAD, NOT_RESTORED, key_of_job, stored_lines
from tests.fuzz.case import Case, Draw, drawn

MOVE = 'def transform_up(item):\n    return {{**item, "id": {new}}}\n'
MOVE_OR_DELETE = """
from dynamodt import Delete

def transform_up(item):
    return Delete() if item["id"] % 3 == 1 else {{**item, "id": {new}}}
"""
NEW_KEYS = ('item["id"] - 1', 'item["id"] - 1', 'item["id"] - 2', 'item["id"] + 1', 'int(item["id"]) ^ 1')


class EqualItems(Case):
    """The application does nothing: only the run and its undo move or delete items."""

    def _drawn(self) -> Draw:
        dice = random.Random(self.seed)
        draw = drawn(self.seed)
        return replace(
            draw,
            items=dice.choice([2, 3, 5, 8]),
            head=dice.choice([MOVE, MOVE, MOVE_OR_DELETE]).format(new=dice.choice(NEW_KEYS)),
            export=True,
            acts=0.0,
            rows=False,
            target=False,
            idempotent=False,
        )

    def _put(self, keys: Iterable[int]) -> None:
        self.keys = set(keys)
        self.dynamodb.put(*({"id": key, "n": 1} for key in self.keys))

    def _text(self) -> str:
        return self.draw.head

    def there(self) -> set[int]:
        return {int(image["id"]["N"]) for image in self.dynamodb.items.values()}


def breaches_of_run(case: EqualItems) -> Iterator[str]:
    """The violations after the run: no item is lost, and those that are not deleted are dead letters."""
    counts = Counts()
    for job in case.done:
        counts = counts.plus(case.state.splits(job.run).totals(job.splits).counts)
    most = len(case.keys)
    least = most - (sum(key % 3 == 1 for key in case.keys) if "Delete" in case.draw.head else 0)
    if not least <= len(case.there()) <= least + counts.dead:
        yield f"{least} to {least + counts.dead} items of {most} should be there: {sorted(case.there())} {counts}"


def breaches_of_undo(case: EqualItems) -> Iterator[str]:
    """The violations after the undo: each item is at its key again, or is reported."""
    parts = [key_of_job(job, part) for job in case.undone for part in (DEAD, NOT_RESTORED)]
    names = [name for part in parts for name in case.storage.names(part)]
    said = {int(line["key"]["id"]["N"]) for name in names for line in stored_lines(case.storage, name)}
    if wrong := (case.keys ^ case.there()) - said:
        yield f"not as before, and not reported: {sorted(wrong)}; there are {sorted(case.there())}"
