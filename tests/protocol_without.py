"""Conditions of the protocol, each of which can be removed: the explorer shows the violation that follows."""

from __future__ import annotations
import __future__

import inspect
from collections.abc import Callable
from textwrap import dedent
from typing import Any

import pytest

from dynamodt.dynamodb import inserted_rows
from dynamodt.dynamodb.statements import Statements
from dynamodt.model.runs import Job
from dynamodt.model.tables import Check, Remove, Update
from dynamodt.pipeline import conflicts, own_writes, restoration, undo, write
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.record import IntentLog
from dynamodt.pipeline.request_pipeline import Pending
from dynamodt.pipeline.restoration import PageItems, Records
from dynamodt.script.codec import key_text
from dynamodt.state import split_rows
from dynamodt.state.split_rows import SplitRows
from tests.fakes import FakeDynamoDB


def _edit(patch: pytest.MonkeyPatch, function: Callable[..., Any], text: str, instead: str) -> None:
    """Change the source text of a function in place, for all that call it."""
    source = dedent(inspect.getsource(function))
    assert text in source
    edited: dict[str, Any] = {}
    flags = __future__.annotations.compiler_flag
    exec(compile(source.replace(text, instead), __file__, "exec", flags), function.__globals__, edited)
    patch.setattr(function, "__code__", edited[function.__name__].__code__)


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


def check_of_sources(patch: pytest.MonkeyPatch) -> None:
    actions = Statements._actions

    def without(self: Statements, part: Any, *arguments: Any) -> Any:
        return [] if isinstance(part, Check) else actions(self, part, *arguments)

    patch.setattr(Statements, "_actions", without)


def guard_beside_insertions(patch: pytest.MonkeyPatch) -> None:
    guarded = Statements._guarded

    def without(self: Statements, change: Any, whole: bool = False) -> Any:
        return () if whole and isinstance(change, Update) else guarded(self, change, whole)

    patch.setattr(Statements, "_guarded", without)


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


def free_key_of_insertions(patch: pytest.MonkeyPatch) -> None:
    """An insertion replaces an item at its key."""
    put = FakeDynamoDB._put

    def over(self: FakeDynamoDB, request: Any) -> None:
        if "pk" not in request["Item"]:
            self._items(request["TableName"]).pop(self._text(request["Item"], request["TableName"]), None)
        put(self, request)

    patch.setattr(FakeDynamoDB, "_put", over)


def recognition_of_own_rows(patch: pytest.MonkeyPatch) -> None:
    """A state row that refuses a repeated write shows another owner."""
    patch.setattr(split_rows, "write_once", lambda rows, *arguments, **values: rows.update(*arguments, **values))


def absence_of_new_attributes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Statements, "_added", lambda self, change: [])


def absence_of_own_item(patch: pytest.MonkeyPatch) -> None:
    """A deletion accepts an item that the run has inserted."""
    patch.setattr(Statements, "_transaction", _without_check_of_rows(Statements._transaction))


def sources_at_taken_keys(patch: pytest.MonkeyPatch) -> None:
    """An equal item at the key of an insertion counts as inserted, although the run deletes it."""
    patch.setattr(write, "leaves", lambda change_of, target: conflicts.all_stay)


def rows_of_removed_items(patch: pytest.MonkeyPatch) -> None:
    """An undo deletes an inserted item without a note in its row."""
    patch.setattr(undo, "Statements", lambda spec, guard, inserted, takes_back: Statements(spec, guard))


def _without_check_of_rows(transaction: Any) -> Any:
    def made(self: Statements, *arguments: Any) -> Any:
        call = transaction(self, *arguments)
        checks = [one for one in call.body["TransactItems"] if "pk" not in one.get("ConditionCheck", {}).get("Key", {})]
        return call._replace(body={**call.body, "TransactItems": checks})

    return made


# ---------------------------------------------------------------- claims and intents


def attempt_of_claims(patch: pytest.MonkeyPatch) -> None:
    """An owner takes a split over from one of a later attempt."""
    _edit(patch, SplitRows.claim, 'int(row.get("attempt", 0)) > attempt', "False")


def absence_of_first_claim(patch: pytest.MonkeyPatch) -> None:
    _edit(patch, SplitRows._take, '"attribute_not_exists(fencing_token)"', '""')


def intent_of_claims(patch: pytest.MonkeyPatch) -> None:
    """A claim is valid although the split has another intent than when it was read."""
    _edit(patch, SplitRows._take, " AND intent = :intent", "")


def token_of_claims(patch: pytest.MonkeyPatch) -> None:
    """A claim keeps the fencing token of the previous owner."""
    _edit(patch, SplitRows.claim, "fencing_token + 1", "fencing_token + (not before.fencing_token)")


def parts_of_periods(patch: pytest.MonkeyPatch) -> None:
    """The parts in the intent of a previous owner do not count as committed."""
    _edit(patch, split_rows._with_period, "intent.parts", "()")


def notes_of_pages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(IntentLog, "record_result", lambda *_: None)


# ---------------------------------------------------------------- conditions of requests


def guard_of_deletions(patch: pytest.MonkeyPatch) -> None:
    guarded = Statements._guarded

    def without(self: Statements, change: Any, whole: bool = False) -> Any:
        return () if isinstance(change, Remove) else guarded(self, change, whole)

    patch.setattr(Statements, "_guarded", without)


def absence_of_new_attributes_beside_insertions(patch: pytest.MonkeyPatch) -> None:
    _edit(patch, Statements._condition, "*equal, *missing", "*equal")


def confirmed_deletions(patch: pytest.MonkeyPatch) -> None:
    """A deletion succeeds although its item is gone."""
    _edit(patch, Statements._remove, "self._confirms or ", "")


def removal_once(patch: pytest.MonkeyPatch) -> None:
    """A late deletion by an undo applies to an item that was put at its key since."""
    once = {**inserted_rows._REMOVED_ONCE, "ConditionExpression": "attribute_exists(#k)"}
    patch.setattr(inserted_rows, "_REMOVED_ONCE", once)


# ---------------------------------------------------------------- decisions


def recognition_after_refusals(patch: pytest.MonkeyPatch) -> None:
    """A refused update was not written, although its item has its values."""
    _edit(
        patch,
        conflicts.judge_refusal,
        "any(isinstance(one, Update) and image_shows(one, now) for one in sent)",
        "False",
    )


def stamp_that_is_missing(patch: pytest.MonkeyPatch) -> None:
    """An update without its stamp was not written."""
    _edit(patch, conflicts._evidence_of_update, 'if is_as_read(_without(update, stamp), now) else "unclear"', "")


def rows_of_doubtful_transactions(patch: pytest.MonkeyPatch) -> None:
    _edit(patch, conflicts._evidence_of_transaction, "if not rows", "if True")


def doubt_about_deletions(patch: pytest.MonkeyPatch) -> None:
    """An item that is gone after a deletion of unknown outcome was deleted by the run."""
    _edit(patch, conflicts.judge_refusal, 'Resolved("changed", unconfirmed=True)', 'Resolved("changed")')


def doubt_about_refused_deletions(patch: pytest.MonkeyPatch) -> None:
    """An item that is gone after a refused deletion was deleted by the application."""
    _edit(patch, conflicts.judge_refusal, "any(isinstance(one, Remove) for one in sent)", "False")


def deletion_that_counts(patch: pytest.MonkeyPatch) -> None:
    """An item that is gone after a deletion of unknown outcome counts as vanished."""
    _edit(patch, conflicts.judge_refusal, '"gone" in shows', "False")


def doubt_about_replaced_items(patch: pytest.MonkeyPatch) -> None:
    """Another item at the key of a deletion of unknown outcome: the former item is not reported."""
    _edit(patch, conflicts.judge_refusal, "isinstance(doubt, Remove) and not same_image(now, doubt.read)", "False")


def own_rows_after_refusals(patch: pytest.MonkeyPatch) -> None:
    """A refused transaction was not written, although its row exists."""
    own_row = "any(has_own_row(one, current) for one in sent if isinstance(one, Atomic))"
    _edit(patch, conflicts.judge_refusal, own_row, "False")


def values_at_taken_keys(patch: pytest.MonkeyPatch) -> None:
    """An item whose new key is taken is deleted."""
    _edit(patch, conflicts._outcome_at_key, "own=False) if _loses_value(change)", "own=False) if False")


# ---------------------------------------------------------------- undo


def guard_of_undo(patch: pytest.MonkeyPatch) -> None:
    _edit(patch, Statements._guarded, "self._guard is None", "self._takes_back")


def values_that_were_written(patch: pytest.MonkeyPatch) -> None:
    """An undo restores attributes that the application has written since."""
    shown = "any(_equal(current, image_after(update).get(name)) for update in writers)"
    _edit(patch, restoration._of_updated, shown, "True")


def items_that_were_inserted(patch: pytest.MonkeyPatch) -> None:
    """An undo deletes an inserted item that the application has changed."""
    _edit(patch, restoration._of_inserted, "any(same_image(now, record.item) for record in inserts)", "True")


def items_that_were_deleted(patch: pytest.MonkeyPatch) -> None:
    """An undo inserts an updated item that the application has deleted."""
    again = "Restoration(Insert(table.name, likely[0].key, likely[0].read))"
    _edit(patch, restoration._of_absent, "Restoration(None, (), DELETED)", again)


def moved_items_that_were_deleted(patch: pytest.MonkeyPatch) -> None:
    """An undo inserts an item that the application has deleted at its new key."""
    _edit(patch, PageItems._restoration, "(moved_to and", "(False and")


def keys_taken_since_deletions(patch: pytest.MonkeyPatch) -> None:
    """An undo overwrites an item of the application at the key of a deleted one."""
    over = "Restoration(_update(record.key, now, {n: record.read.get(n) for n in _differing(record.read, now)}))"
    _edit(patch, restoration._of_deleted, "Restoration(None, _differing(record.read, now), TAKEN)", over)


def void_keys_in_undo(patch: pytest.MonkeyPatch) -> None:
    """A change that its page has noted as void is restored."""
    _edit(patch, Records.add, "if text in void", "if False")


def unconfirmed_deletions_in_undo(patch: pytest.MonkeyPatch) -> None:
    """A deletion counts although the application may have deleted the item."""
    _edit(patch, Records.add, "isinstance(part, Remove) and text in self.unconfirmed", "False")
