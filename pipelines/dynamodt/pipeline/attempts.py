"""Attempts: a version applied to items in memory, without a table, and what a run would make of the result.

It is for `check`, `plan`, dry runs and authors' tests. A taken key is resolved in the same way as a refusal in a run.
`RecentKeys` has a bounded number of keys that a phase has inserted: the second of two items for one key is detected if
one process rehearses both, while the first key is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, NamedTuple

from dynamodt.dynamodb.inserted_rows import InsertedRow
from dynamodt.model.runs import Script
from dynamodt.model.tables import Atomic, Change, Direction, Image, Insert, Remove, TableSpec
from dynamodt.pipeline.conflicts import (
    Collision,
    Count,
    CurrentItems,
    Resolved,
    SendAgain,
    Stays,
    all_stay,
    inserts_of,
    judge_row,
    without_taken_keys,
)
from dynamodt.pipeline.outcomes import collision
from dynamodt.script.apply import Apply, Attempt, ChangeOf, Request, any_request, attempt_change
from dynamodt.script.codec import image_digest, key_text
from dynamodt.script.diff import parts_of
from dynamodt.script.functions import Transform, frozen


def rehearsed_run(number: int = 0) -> str:
    """The id of a run for a STAMP, which no run has; another one for each number."""
    return f"20000101T000000.{number:06d}Z-000000"


REHEARSED: Final = rehearsed_run()


class Rehearsal:
    """One direction of a version, loaded, with its prepared rows and its tables: a context manager, within which
    `attempt` applies the version to one item at a time, and `change_of` returns its change alone.

    The constructor executes the script. Entering the context calls `setup` and `start_bundle` of its class, leaving it
    `finish_bundle` and `teardown`. `prepared` is read-only for the script, as in a run. `request` makes the requests of
    a run (`dynamodb.statements`), whose limits are then checked, too. `snapshot`: an export is read, so that the
    version may put items into its own table; None: as in the script's SOURCE. Raises ScriptError.
    """

    def __init__(
        self,
        script: Script,
        table: TableSpec,
        direction: Direction = "up",
        *,
        prepared: Mapping[Any, Any] = MappingProxyType({}),
        target: TableSpec | None = None,
        run: str = REHEARSED,
        request: Request = any_request,
        snapshot: bool | None = None,
    ) -> None:
        self.table = table
        self._transform = Transform(script, direction)
        self._request = request
        self.change_of: ChangeOf = Apply(
            script,
            self._transform,
            table,
            run=run,
            prepared=MappingProxyType(frozen(dict(prepared))),
            target=target,
            snapshot=script.source == "export" if snapshot is None else snapshot,
        ).change_of

    def __enter__(self) -> Rehearsal:
        self._transform.setup()
        self._transform.start_bundle()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._transform.finish_bundle()
        self._transform.end()

    def attempt(self, image: Image) -> Attempt:
        """Applies the version to an item of the table."""
        return attempt_change(image, self.change_of, self._request)


# ---------------------------------------------------------------- outcomes


MOST_KEYS = 50_000  # keys of a phase in a process, about 40 MB


class AttemptOutcome(NamedTuple):
    """The outcome of an item's attempt. `change` would be written (None: nothing); `error` and `step` are those of a
    dead letter. `refused` is the change that a run would send first, be refused and be charged for."""

    image: Image
    kind: Count | Literal["dead"]
    change: Change | None = None
    error: BaseException | None = None
    step: Literal["transform", "write"] = "transform"
    refused: Change | None = None


def leaves(change_of: ChangeOf, target: TableSpec | None) -> Stays:
    """Whether a version leaves an item of the written table as it is, as all items of another target table. An item for
    which it fails may be changed by a later phase."""
    if target is not None:
        return all_stay
    return lambda image: (found := attempt_change(image, change_of)).change is None and found.error is None


class RecentKeys:
    """The keys of the last items that one phase has inserted, and of those that it has deleted or moved away."""

    def __init__(self, most: int = MOST_KEYS) -> None:
        self.lock = threading.Lock()
        self._most = most
        self._inserted: dict[str, InsertedRow] = {}
        self._freed: dict[str, None] = {}

    def note(self, change: Change) -> None:
        """Add the keys of a change that would be written."""
        source = None if isinstance(change, Insert) else change.key
        for part in parts_of(change):
            if isinstance(part, Insert):
                self._inserted[key_text(part.key)] = InsertedRow(source, image_digest(part.item))
            elif isinstance(part, Remove):
                self._freed[key_text(part.key)] = None
        for kept in (self._inserted, self._freed):
            while len(kept) > self._most:
                kept.pop(next(iter(kept)))

    def row(self, text: str) -> InsertedRow | None:
        """The row of an item that was inserted under this key."""
        return self._inserted.get(text)

    def is_freed(self, text: str) -> bool:
        """Whether the item of this key was deleted or moved away."""
        return text in self._freed


def outcome_of_attempt(
    attempt: Attempt, placed: Mapping[str, Image], memory: RecentKeys, stays: Stays = all_stay
) -> AttemptOutcome:
    """The outcome of an attempt; its keys are added to `memory`. `placed` are the items at the keys of its insertions
    when its phase begins, by `key_text`. `stays`: whether the phase leaves one of them as it is."""
    image, change, error, step = attempt
    if error is not None:
        return AttemptOutcome(image, "dead", None, error, step)
    if change is None:
        return AttemptOutcome(image, "unchanged")
    if isinstance(change, Insert | Atomic):
        judged = _without_taken(change, placed, memory, stays)
        if isinstance(judged, Collision):
            return AttemptOutcome(image, "dead", None, collision(judged, change), "write", refused=change)
        if isinstance(judged, Resolved):
            return AttemptOutcome(image, judged.outcome, refused=change)
        memory.note(judged)
        return AttemptOutcome(image, "changed", judged, refused=None if judged is change else change)
    memory.note(change)
    return AttemptOutcome(image, "changed", change)


def _without_taken(
    change: Insert | Atomic, placed: Mapping[str, Image], memory: RecentKeys, stays: Stays
) -> Change | Resolved | Collision:
    """The change, or the rest of it without needless insertions."""
    there: dict[str, Image] = {}
    rows: dict[str, InsertedRow] = {}
    source = None if isinstance(change, Insert) else change.key
    for text in (key_text(part.key) for part in inserts_of([change])):
        row = memory.row(text)
        if row is not None and not row.is_from(source):  # unless its own: the page is rehearsed again
            rows[text] = row
        if text in placed and not memory.is_freed(text):
            there[text] = placed[text]
    if not (there or rows):
        return change
    current = CurrentItems({}, there, rows)
    if isinstance(change, Insert):
        found = judge_row(change, False, current)
    else:
        found = without_taken_keys(change, current, stays)
    if isinstance(found, Resolved | Collision):
        return found
    assert isinstance(found, SendAgain)
    return found.change
