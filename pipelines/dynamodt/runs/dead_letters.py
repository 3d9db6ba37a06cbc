"""What a run has stored for display: its first dead letter, and a few items before and after.

Dead letters that are counted but no longer stored (deleted, or expired with their bucket) are found here, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamodt.errors import Refused
from dynamodt.model.items import Item
from dynamodt.model.pages import Claim
from dynamodt.model.runs import RunRecord
from dynamodt.runs.shown import key_line
from dynamodt.script.codec import decode, key_text
from dynamodt.state.object_keys import counted_notes, dead_of_run, retry_of_run
from dynamodt.state.phases import Phase, phases, retry_run

if TYPE_CHECKING:
    from dynamodt.state.state import State
    from dynamodt.state.storage import Storage

_SAMPLES = 3

_FRAME = r'File "{path}", line (\d+)'


def first_of(lines: bytes, script_path: str) -> str:
    """The first letter of a dead-letter file in a sentence: its key, its error, and, where the script is at fault, its
    file, with the line that the error came through last, if it did. Empty when there is none."""
    line = lines.partition(b"\n")[0]
    if not line:
        return ""
    dead_letter = json.loads(line)
    key = decode(dead_letter["key"])
    frames = re.findall(_FRAME.format(path=re.escape(script_path)), dead_letter["traceback"])
    place = f"{script_path}:{frames[-1]}" if frames else script_path if dead_letter["stage"] == "transform" else ""
    return f"{key_line(key, key)}: {dead_letter['error']}" + (f" ({place})" if place else "")


def samples_under(storage: Storage, prefixes: Iterable[str]) -> tuple[tuple[Item, Item | None], ...]:
    """The first few items that a run changed, before and after, by the prefixes of its phases."""
    found: list[tuple[Item, Item | None]] = []
    for prefix in prefixes:
        for name in storage.names(prefix):
            for old, new in json.loads(storage.read(name) or b"[]"):
                found.append((decode(old), None if new is None else decode(new)))
            if len(found) >= _SAMPLES:
                return tuple(found[:_SAMPLES])
    return tuple(found)


def has_lost_dead_letters(state: State, storage: Storage, record: RunRecord) -> bool:
    """Whether a run has dead letters left to replay and cannot know all of them: a part of them is gone, or a list of
    those that were replayed already, without which they would be replayed again."""
    if sum(state.splits(one.run).totals(one.splits).counts.dead for one in phases(record)) <= 0:
        return False
    kept = _Kept(state, storage, record)
    main = [one for one in phases(record) if "/retry" not in one.run]
    return any(kept.lacks(one) or any(map(kept.lacks_of_retry, kept.retries(one))) for one in main)


class _Kept:
    """The dead letters of a run's passes as the storage has them, beside what was counted."""

    def __init__(self, state: State, storage: Storage, record: RunRecord) -> None:
        self._state = state
        self._storage = storage
        self._record = record
        self._recovers = record.began.get("IDEMPOTENT") != str(True)

    def retries(self, main: Phase) -> list[tuple[Phase, str]]:
        """The passes over a pass's dead letters that have begun, each with the name of the list of what it replays."""
        numbers = range(1, self._record.retries + 1)
        found = [
            (Phase(retry_run(main.run, number), 1), retry_of_run(self._record.table, main.run, number))
            for number in numbers
        ]
        return [(again, name) for again, name in found if self._claims(again)]

    def lacks(self, one: Phase, replayed: int = 0) -> bool:
        """Whether fewer letters are there than items have died; `replayed` ones had died, and were counted, before."""
        claims = self._claims(one)
        died = sum(claim.counts.dead for claim in claims.values()) + replayed
        if died <= 0:
            return False
        parts = counted_notes(self._storage.names(dead_of_run(self._record.table, one.run)), claims, self._recovers)
        return sum(len(self._lines(part)) for part in parts) < died

    def lacks_of_retry(self, retry: tuple[Phase, str]) -> bool:
        """The same of a retry; without its list, what it has replayed would be replayed again."""
        again, name = retry
        listed = self._storage.read(name)
        if listed is None:
            return True
        lines = (line for part in json.loads(listed)["letters"] for line in self._lines(part))
        keys = {key_text(json.loads(line)["key"]) for line in lines}
        done = all(claim.done for claim in self._claims(again).values())
        return done and self.lacks(again, len(keys))

    def _claims(self, one: Phase) -> dict[int, Claim]:
        return {claim.split: claim for claim in self._state.splits(one.run).all(one.splits)}

    def _lines(self, part: str) -> list[bytes]:
        return (self._storage.read(part) or b"").splitlines()


def lost_dead_letters(record: RunRecord, storage: Storage, goal: int) -> Refused:
    """The refusal to go on with such a run, with what can be done instead."""
    anew = (
        f"take the run back, dynamodt undo {record.run}, and type the command again: it begins anew"
        if record.journal
        else "type the command again: it begins anew"
    )
    return Refused(
        f"dead letters of run {record.run} are gone (deleted, or expired): which items they are of is not known",
        where=storage.place(dead_of_run(record.table, record.run)),
        hint=f"{anew}; or, if you have seen to those items yourself: dynamodt stamp --table {record.table} --to {goal}",
        run=record.run,
    )
