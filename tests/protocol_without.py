"""Conditions of the protocol, each of which can be removed: the explorer shows the violation that follows.

A removal is a row of `REMOVALS`: mostly a text of the protocol's code, and the text that replaces it.
"""

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
from dynamodt.pipeline import conflicts, migrate, outcomes, own_writes, ownership, restoration, undo
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.record import IntentLog
from dynamodt.pipeline.request_pipeline import Pending
from dynamodt.pipeline.restoration import PageItems
from dynamodt.script.codec import key_text
from dynamodt.state import split_rows
from dynamodt.state.journal import Records
from dynamodt.state.split_rows import SplitRows
from tests.fakes import FakeDynamoDB

Removal = Callable[[pytest.MonkeyPatch], None]


def edit(function: Callable[..., Any], text: str, instead: str) -> Removal:
    """Changes the source text of a function in place, for all that call it."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        source = dedent(inspect.getsource(function))
        assert text in source
        edited: dict[str, Any] = {}
        flags = __future__.annotations.compiler_flag
        exec(compile(source.replace(text, instead), __file__, "exec", flags), function.__globals__, edited)
        patch.setattr(function, "__code__", edited[function.__name__].__code__)

    return remove


def value(owner: Any, name: str, instead: Any) -> Removal:
    """Replaces an attribute of a module or a class."""
    return lambda patch: patch.setattr(owner, name, instead)


# ---------------------------------------------------------------- removals of more than one text


def claims_condition(patch: pytest.MonkeyPatch) -> None:
    write_once = split_rows.write_once

    def write(rows: Any, key: Any, row: Any, condition: str, **values: Any) -> Any:
        return write_once(rows, key, row, "" if "claimant" in row else condition, **values)

    patch.setattr(split_rows, "write_once", write)


def recognition(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(conflicts, "image_shows", lambda update, now: False)
    patch.setattr(conflicts, "is_as_read", lambda update, now: True)


def puts_over(is_put_over: Callable[[dict[str, Any]], bool]) -> Removal:
    """Puts of these items replace the item of their key."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        put = FakeDynamoDB._put

        def over(self: FakeDynamoDB, request: Any) -> None:
            if is_put_over(request["Item"]):
                self._items(request["TableName"]).pop(self._text(request["Item"], request["TableName"]), None)
            put(self, request)

        patch.setattr(FakeDynamoDB, "_put", over)

    return remove


def rows_read_last(patch: pytest.MonkeyPatch) -> None:
    current = Lookups.current

    def rows_first(self: Lookups, sources: Any, places: Any, known: Any = ()) -> Any:
        sources, places = list(sources), list(places)
        rows = self.inserted.rows_at([*places, *sources, *known]) if self.inserted is not None else {}
        return current(self, sources, places, known)._replace(inserted=rows)

    patch.setattr(Lookups, "current", rows_first)


def rows_in_undo(patch: pytest.MonkeyPatch) -> None:
    """As `rows_of_earlier_transactions`, in an undo."""
    add = undo.Records.add
    records_of = undo.records_of

    def by_note(page: Any, journal: Any, inserted: Any, phase: str = "") -> Any:
        void = {key_text(key) for name in page.notes for key in journal.read_note(name).void}
        patch.setattr(undo.Records, "add", lambda found, change, _: add(found, change, void))
        return records_of(page, journal, inserted, phase)

    patch.setattr(undo, "records_of", by_note)


def absence_of_own_item(patch: pytest.MonkeyPatch) -> None:
    """A deletion accepts an item that the run has inserted."""
    transaction = Statements._transaction

    def made(self: Statements, *arguments: Any) -> Any:
        call = transaction(self, *arguments)
        checks = [one for one in call.body["TransactItems"] if "pk" not in one.get("ConditionCheck", {}).get("Key", {})]
        return call._replace(body={**call.body, "TransactItems": checks})

    patch.setattr(Statements, "_transaction", made)


# ---------------------------------------------------------------- all removals

_REMOVED_AGAIN = {**inserted_rows._REMOVED_ONCE, "ConditionExpression": "attribute_exists(#k)"}

REMOVALS: dict[str, Removal] = {
    # ------------------------------------------------------------ claims, intents and checkpoints
    "claims_condition": claims_condition,
    # An owner takes a split over from one of a later attempt.
    "attempt_of_claims": edit(SplitRows.claim, 'int(row.get("attempt", 0)) > attempt', "False"),
    "absence_of_first_claim": edit(SplitRows._take, '"attribute_not_exists(fencing_token)"', '""'),
    # A claim is valid although the split has another owner, page or intent than when it was read.
    "owner_of_claims": edit(SplitRows._take, "{_OURS} AND page", "page"),
    "page_of_claims": edit(SplitRows._take, " AND page = :page", ""),
    "intent_of_claims": edit(SplitRows._take, " AND intent = :intent", ""),
    # A claim keeps the fencing token of the previous owner.
    "token_of_claims": edit(SplitRows.claim, "fencing_token + 1", "fencing_token + (not before.fencing_token)"),
    # The parts in the intent of a previous owner do not count as committed.
    "parts_of_periods": edit(split_rows._with_period, "intent.parts", "()"),
    "token_of_intents": value(split_rows, "_LATER_INTENT", "intended < :intended"),
    "page_of_intents": value(split_rows, "_LATER_INTENT", "fencing_token = :fencing_token"),
    "token_of_checkpoints": value(split_rows, "_LATER_PAGE", "page < :page"),
    "page_of_checkpoints": value(split_rows, "_LATER_PAGE", "fencing_token = :fencing_token"),
    # A state row that refuses a repeated write shows another owner.
    "recognition_of_own_rows": value(
        split_rows, "write_once", lambda rows, *arguments, **values: rows.update(*arguments, **values)
    ),
    "recorded_intents": edit(IntentLog.record_intent, "not changes", "True"),
    "intents_of_new_changes": edit(IntentLog.record_intent, "not changes", "self.intended"),
    "notes_of_pages": edit(IntentLog.record_result, "not self.intended", "True"),
    # An owner reads the page again that a previous one has intended.
    "intents_of_previous_owners": edit(ownership._first_page, "claim.intent is not None", "False"),
    # A recovered page has only the counts of its writes.
    "counts_of_intents": edit(outcomes.counts_without_write, "applied.page.recovers and intent is not None", "False"),
    "splits_that_are_done": edit(ownership.ReadPages._claims, "if not claim.done", ""),
    # ------------------------------------------------------------ conditions of requests
    "guard_of_updates": edit(Statements._guarded, "return tuple(", "return () and tuple("),
    "guard_of_deletions": edit(
        Statements._guarded, "if whole", "if isinstance(change, Remove): return ()\n    if whole"
    ),
    "guard_beside_insertions": edit(
        Statements._condition, "self._guarded(change, whole)", "(() if whole else self._guarded(change))"
    ),
    "absence_of_new_attributes": edit(Statements._added, "self._guard is None", "True"),
    "absence_of_new_attributes_beside_insertions": edit(Statements._condition, "*equal, *missing", "*equal"),
    "source_of_insertions": edit(Statements._condition, "[exists, *equal, *missing]", "[exists]"),
    "check_of_sources": edit(
        Statements._actions, '[{"ConditionCheck": {**where, **self._check_expression(part)}}]', "[]"
    ),
    "free_key_of_insertions": puts_over(lambda item: "pk" not in item),
    "absence_of_rows": puts_over(lambda item: "pk" in item),
    "absence_of_own_item": absence_of_own_item,
    # A deletion succeeds although its item is gone.
    "confirmed_deletions": edit(Statements._remove, "self._confirms or ", ""),
    # An undo deletes an inserted item without a note in its row.
    "rows_of_removed_items": edit(Statements._deletion, "self._taken_back is not None", "False"),
    # An undo inserts an item without a row of its own.
    "rows_of_undo": value(undo, "rows_of_undo", lambda job: None),
    # An undo of a move whose source was deleted after it was restored leaves the item at its new key.
    "moved_items_that_were_put_back": edit(PageItems.restore, "found.change} - self._restored", "found.change}"),
    # A late deletion by an undo applies to an item that was put at its key since.
    "removal_once": value(inserted_rows, "_REMOVED_ONCE", _REMOVED_AGAIN),
    # ------------------------------------------------------------ decisions
    "recognition": recognition,
    "refusal_to_guess": value(conflicts, "is_as_read", lambda update, now: True),
    # A change of unknown outcome was not written, although its item shows it.
    "doubts_that_are_written": edit(conflicts.judge_refusal, '"written" in shows or', ""),
    # A change of unknown outcome is transformed again, although its item does not show its outcome.
    "doubts_that_are_unclear": edit(conflicts.judge_refusal, 'shows and shows[-1] == "unclear"', "False"),
    # A refused update was not written, although its item has its values.
    "recognition_after_refusals": edit(
        conflicts.judge_refusal, "any(isinstance(one, Update) and image_shows(one, now) for one in sent)", "False"
    ),
    # An update without its stamp was not written.
    "stamp_that_is_missing": edit(
        conflicts._evidence_of_update, 'if is_as_read(_without(update, stamp), now) else "unclear"', ""
    ),
    "rows_of_doubtful_transactions": edit(conflicts.evidence_of, "has_own_row(doubt, current)", "False"),
    # An item that is gone after a deletion of unknown outcome was deleted by the run.
    "doubt_about_deletions": edit(
        conflicts.judge_refusal, 'Resolved("changed", unconfirmed=True)', 'Resolved("changed")'
    ),
    # An item that is gone after a refused deletion was deleted by the application.
    "doubt_about_refused_deletions": edit(
        conflicts.judge_refusal, "any(isinstance(one, Remove) for one in sent)", "False"
    ),
    # An item that is gone after a deletion of unknown outcome counts as vanished.
    "deletion_that_counts": edit(conflicts.judge_refusal, '"gone" in shows', "False"),
    # Another item at the key of a deletion of unknown outcome: the former item is not reported.
    "doubt_about_replaced_items": edit(
        conflicts.judge_refusal, "isinstance(doubt, Remove) and not same_image(now, doubt.read)", "False"
    ),
    # A refused transaction was not written, although its row exists.
    "own_rows_after_refusals": edit(
        conflicts.judge_refusal, "any(has_own_row(one, current) for one in sent if isinstance(one, Atomic))", "False"
    ),
    # An item whose new key is taken is deleted.
    "values_at_taken_keys": edit(
        conflicts._outcome_at_key, "own=False) if _loses_value(change)", "own=False) if False"
    ),
    # A source is deleted although an item of the application has its new key.
    "sources_that_are_deleted": edit(conflicts._loses_value, "isinstance(part, Remove) or ", ""),
    # An equal item at the key of an insertion counts as inserted, although the run deletes it.
    "sources_at_taken_keys": value(migrate, "leaves", lambda change_of, target: conflicts.all_stay),
    # An item that the run has moved to a key is mistaken for the exported one.
    "insertions_that_are_met": value(Job, "meets_insertions", False),
    "rows_read_last": rows_read_last,
    "rows_of_refused_transactions": value(Pending, "remember", lambda self: None),
    # The note of void keys of a page decides instead of the inserted rows.
    "rows_of_earlier_transactions": value(own_writes, "has_own_row", lambda transaction, current: False),
    # An item that an earlier phase has written is transformed again.
    "changes_of_earlier_phases": edit(own_writes.EarlierWrites._change_of, '"written" in shows', "False"),
    # A row of `items()` is decided by its source, as another insertion.
    "rows_of_items": edit(conflicts.judge_refusal, "isinstance(change, Insert)", "False"),
    # A row of `items()` is there, although the run has inserted another one at its key.
    "other_rows_of_items": edit(conflicts.judge_row, "row.item != image_digest(change.item)", "False"),
    # A row of `items()` collides with itself.
    "equal_rows_of_items": edit(conflicts.judge_row, "row.item != image_digest(change.item)", "True"),
    # A row of `items()` is there, although the application has another item at its key.
    "items_at_keys_of_rows": edit(conflicts.judge_row, "not same_image(there, change.item)", "False"),
    # An update with GUARD = "changed" has no condition.
    "guard_of_changed_attributes": edit(Statements._guarded, "self._guard is None", "True"),
    "whole_guard_beside_insertions": edit(Statements._guarded, "whole or ", ""),
    "guard_of_items": edit(Statements._guarded, 'self._guard == "item" or ', ""),
    "absence_with_guard_of_changed_attributes": edit(Statements._added, "self._guard is None or ", "True or "),
    # The values of a refused update are the application's, so that the item is transformed.
    "values_of_refused_updates": edit(own_writes.EarlierWrites._evidence, 'found == "written"', "False"),
    # ------------------------------------------------------------ undo
    "rows_in_undo": rows_in_undo,
    "guard_of_undo": edit(Statements._guarded, "self._guard is None", "self._taken_back is not None"),
    # An undo restores attributes that the application has written since.
    "values_that_were_written": edit(
        restoration._of_updated, "any(_equal(current, image_after(update).get(name)) for update in writers)", "True"
    ),
    # An undo deletes an inserted item that the application has changed.
    "items_that_were_inserted": edit(
        restoration._of_inserted, "any(same_image(now, record.item) for record in inserts)", "True"
    ),
    # An undo inserts an updated item that the application has deleted.
    "items_that_were_deleted": edit(
        restoration._of_absent,
        "Restoration(None, (), DELETED)",
        "Restoration(Insert(table.name, likely[0].key, likely[0].read))",
    ),
    # An undo inserts an item that the application has deleted at its new key.
    "moved_items_that_were_deleted": edit(PageItems._restoration, "(moved_to and", "(False and"),
    # An undo overwrites an item of the application at the key of a deleted one.
    "keys_taken_since_deletions": edit(
        restoration._of_deleted,
        "Restoration(None, _differing(record.read, now), TAKEN)",
        "Restoration(_update(record.key, now, {n: record.read.get(n) for n in _differing(record.read, now)}))",
    ),
    # An undo begins with the first page of a split.
    "last_pages_first": edit(undo.journal_pages, "reverse=True", "reverse=False"),
    # An undo never ends a split whose last page it has done, or that has none.
    "splits_that_are_undone": edit(undo.journal_pages, "len(numbers) <= claim.page", "False"),
    "last_pages_of_undo": edit(undo.journal_pages, "number == numbers[-1]", "False"),
    # The note of an owner applies to the changes of later owners, too.
    "owners_of_notes": edit(undo.records_of, " if since >= fencing_token", ""),
    # An item that the run has inserted at the key of a deleted one is one of the application, which stays.
    "own_items_at_taken_keys": edit(PageItems._read_and_decide, "one.why == TAKEN or ", ""),
    # An item that the run has inserted at the key of an equal one is that one.
    "own_items_that_are_equal": edit(PageItems._read_and_decide, " or one.is_there", ""),
    # An item with the key of a deleted one is that one, if it is equal.
    "equal_items_of_deletions": edit(restoration._of_deleted, "Restoration(None, is_there=True)", "NOTHING"),
    # A key of which the run has moved an item counts as that of an item that it has only updated.
    "items_that_are_only_updated": edit(restoration.matches_no_image, "len(updates) == len(records) and ", ""),
    # An inserted item is deleted although its source waits for its key.
    "sources_that_wait": edit(PageItems.restore, "(waiting.keys() | lost)", "waiting.keys()"),
    # An item at the new key of one that waits for its key is not tried again.
    "items_that_follow": edit(PageItems.restore, "FOLLOWS if text in follows else STAYS", "STAYS"),
    # A change that its page has noted as void is restored.
    "void_keys_in_undo": edit(Records.add, "if text in void", "if False"),
    # A deletion counts although the application may have deleted the item.
    "unconfirmed_deletions_in_undo": edit(
        Records.add, "isinstance(part, Remove) and text in self.unconfirmed", "False"
    ),
}
