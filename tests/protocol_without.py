"""Conditions of the protocol, each of which can be removed: the explorer shows the violation that follows."""

from __future__ import annotations

from typing import Any

import pytest

from dynamodt.dynamodb.statements import Statements
from dynamodt.model.runs import Job
from dynamodt.pipeline import conflicts, own_writes, undo
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.record import IntentLog
from dynamodt.pipeline.request_pipeline import Pending
from dynamodt.script.codec import key_text
from dynamodt.state import split_rows
from tests.fakes import FakeDynamoDB


def claims_condition(patch: pytest.MonkeyPatch) -> None:
    write_once = split_rows.write_once

    def write(rows: Any, key: Any, row: Any, condition: str, **values: Any) -> Any:
        return write_once(rows, key, row, "" if "claimant" in row else condition, **values)

    patch.setattr(split_rows, "write_once", write)


def recorded_intents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IntentLog, "record_intent", lambda self, changes: None)


def intents_of_new_changes(patch: pytest.MonkeyPatch) -> None:
    record_intent = IntentLog.record_intent

    def first(self: IntentLog, changes: Any) -> None:
        if not self.intended:
            record_intent(self, changes)

    patch.setattr(IntentLog, "record_intent", first)


def recognition(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "image_shows", lambda update, now: False)
    patch.setattr(conflicts, "is_as_read", lambda update, now: True)


def refusal_to_guess(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "is_as_read", lambda update, now: True)


def guard_of_updates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Statements, "_guarded", lambda self, change, whole=False: ())


def source_of_insertions(patch: pytest.MonkeyPatch) -> None:
    condition = Statements._condition

    def exists(self: Statements, expression: Any, change: Any, whole: bool = False) -> str:
        return condition(self, expression, change, whole).split(" AND ")[0]

    patch.setattr(Statements, "_condition", exists)


def absence_of_rows(patch: pytest.MonkeyPatch) -> None:
    put = FakeDynamoDB._put

    def over(self: FakeDynamoDB, request: Any) -> None:
        if "pk" in request["Item"]:
            self._items(request["TableName"]).pop(self._text(request["Item"], request["TableName"]), None)
        put(self, request)

    patch.setattr(FakeDynamoDB, "_put", over)


def insertions_that_are_met(patch: pytest.MonkeyPatch) -> None:
    """Mistakes an item that the run has moved to a key for the exported one."""
    patch.setattr(Job, "meets_insertions", False)


def rows_read_last(patch: pytest.MonkeyPatch) -> None:
    current = Lookups.current

    def rows_first(self: Lookups, sources: Any, places: Any, known: Any = ()) -> Any:
        sources, places = list(sources), list(places)
        rows = self.inserted.rows_at([*places, *sources, *known]) if self.inserted is not None else {}
        return current(self, sources, places, known)._replace(inserted=rows)

    patch.setattr(Lookups, "current", rows_first)


def token_of_intents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(split_rows, "_LATER_INTENT", "page < :page AND intended < :intended")


def token_of_checkpoints(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(split_rows, "_LATER_PAGE", "page < :page")


def page_of_checkpoints(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(split_rows, "_LATER_PAGE", "fencing_token = :fencing_token")


def page_of_intents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(split_rows, "_LATER_INTENT", "fencing_token = :fencing_token")


def rows_of_refused_transactions(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pending, "remember", lambda self: None)


def rows_of_earlier_transactions(patch: pytest.MonkeyPatch) -> None:
    """The note of void keys of a page decides instead of the inserted rows."""
    patch.setattr(own_writes, "has_own_row", lambda transaction, current: False)


def rows_in_undo(patch: pytest.MonkeyPatch) -> None:
    """As `rows_of_earlier_transactions`, in an undo."""
    add = undo.Records.add
    records_of = undo.records_of

    def by_note(page: Any, journal: Any, inserted: Any, phase: str = "") -> Any:
        void = {key_text(key) for name in page.notes for key in journal.read_note(name).void}
        patch.setattr(undo.Records, "add", lambda found, change, _: add(found, change, void))
        return records_of(page, journal, inserted, phase)

    patch.setattr(undo, "records_of", by_note)
