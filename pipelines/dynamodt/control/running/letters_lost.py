"""Dead letters that are counted, and that the storage no longer has: deleted by hand, or expired with their bucket."""

from __future__ import annotations

import json

from dynamodt.aws.state import State
from dynamodt.aws.storage import Storage
from dynamodt.core.counted import counted_notes
from dynamodt.core.keys import key_text
from dynamodt.core.passes import Pass, passes, retry_run
from dynamodt.core.places import dead_of_run, retry_of_run
from dynamodt.errors import Refused
from dynamodt.model import Claim, RunRecord


def has_lost_letters(state: State, storage: Storage, record: RunRecord) -> bool:
    """Whether a run has dead letters left to replay and cannot know all of them: a part of them is gone, or a list of
    those that were replayed already, without which they would be replayed again."""
    if sum(state.units(one.run).totals(one.units).counts.dead for one in passes(record)) <= 0:
        return False
    kept = _Kept(state, storage, record)
    main = [one for one in passes(record) if "/retry" not in one.run]
    return any(kept.lacks(one) or any(map(kept.lacks_of_retry, kept.retries(one))) for one in main)


class _Kept:
    """The dead letters of a run's passes as the storage has them, beside what was counted."""

    def __init__(self, state: State, storage: Storage, record: RunRecord) -> None:
        self._state = state
        self._storage = storage
        self._record = record
        self._recovers = record.began.get("IDEMPOTENT") != str(True)

    def retries(self, main: Pass) -> list[tuple[Pass, str]]:
        """The passes over a pass's dead letters that have begun, each with the name of the list of what it replays."""
        numbers = range(1, self._record.retries + 1)
        found = [
            (Pass(retry_run(main.run, number), 1), retry_of_run(self._record.table, main.run, number))
            for number in numbers
        ]
        return [(again, name) for again, name in found if self._claims(again)]

    def lacks(self, one: Pass, replayed: int = 0) -> bool:
        """Whether fewer letters are there than items have died; `replayed` ones had died, and were counted, before."""
        claims = self._claims(one)
        died = sum(claim.counts.dead for claim in claims.values()) + replayed
        if died <= 0:
            return False
        parts = counted_notes(self._storage.names(dead_of_run(self._record.table, one.run)), claims, self._recovers)
        return sum(len(self._lines(part)) for part in parts) < died

    def lacks_of_retry(self, retry: tuple[Pass, str]) -> bool:
        """The same of a retry; without its list, what it has replayed would be replayed again."""
        again, name = retry
        listed = self._storage.read(name)
        if listed is None:
            return True
        lines = (line for part in json.loads(listed)["letters"] for line in self._lines(part))
        keys = {key_text(json.loads(line)["key"]) for line in lines}
        done = all(claim.done for claim in self._claims(again).values())
        return done and self.lacks(again, len(keys))

    def _claims(self, one: Pass) -> dict[int, Claim]:
        return {claim.unit: claim for claim in self._state.units(one.run).all(one.units)}

    def _lines(self, part: str) -> list[bytes]:
        return (self._storage.read(part) or b"").splitlines()


def letters_lost(record: RunRecord, storage: Storage, goal: int) -> Refused:
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
