"""Writing pages under random faults: every change has one outcome, and every item one effect.

The single outcomes are tested in tests/pipeline; here they occur in any order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.dynamodb.wire import CONTENDED, FAILING, Refusal
from dynamodt.errors import DynamodtError, Fenced, Refused, ServiceError
from dynamodt.model.pages import Counts
from dynamodt.model.tables import Change, Guard, Image, Remove, Update
from dynamodt.pipeline.outcomes import WriteResult
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.rate_limit import RateLimitedQueue
from dynamodt.pipeline.request_pipeline import Unanswered, Wait
from dynamodt.pipeline.write_page import PageWriter, WriteTask
from dynamodt.rate import Backoff, TokenBucket
from dynamodt.script.codec import decode, encode, key_text
from dynamodt.script.diff import change, insert, key_of, transaction_of
from tests import strategies
from tests.fakes import FakeDynamoDB
from tests.unit.page_writing import (
    THINGS,
    Apply,
    acts,
    double,
    last_step,
    many,
    moved,
    numbered,
    page_writer,
    remaining_items,
    removals,
    rows,
    write_whole_page,
)

ALONE = "#odd"  # a name that no statement can hold: a change of such an item is a request of its own

faults = st.lists(
    st.sampled_from(["", "throttled", "unsent", "lost", "reset", "partial", "partial-500", "full"]), max_size=8
)  # fewer than the tries that a change has
guards: st.SearchStrategy[Guard] = st.sampled_from(["item", "changed"])


def settle(fake: FakeDynamoDB, apply: Apply, guard: Guard = "item") -> tuple[WriteResult, int]:
    """Transforms all items of the table as read, and writes them; the second result is the number of changes."""
    changes = [found for image in list(fake.items.values()) if (found := apply(image)) is not None]
    write_result = page_writer(fake, apply, guard).write(changes)
    assert sum(write_result.counts) == len(changes), "a change was counted twice, or not at all"
    return write_result, len(changes)


# ---------------------------------------------------------------- updates


@many
@given(st.integers(1, 60), faults, guards, st.booleans())
def test_faults_do_not_change_the_result(count: int, queued: list[str], guard: Guard, hands_back: bool) -> None:
    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued))
    fake.put(*numbered(count))
    write_result, _ = settle(fake, double, guard)
    assert write_result.counts == Counts(changed=count)
    assert {key: item["n"] for key, item in remaining_items(fake).items()} == {n: 2 * (n + 1) for n in range(count)}


@many
@given(st.integers(1, 60), faults, guards)
def test_a_statement_that_the_service_refuses_is_sent_as_a_call(count: int, queued: list[str], guard: Guard) -> None:
    """The service's limits may be narrower than dynamodt's, and one such statement makes it refuse the whole batch."""
    fake = FakeDynamoDB(THINGS, faults=deque(queued), longest=100)
    fake.put(*(one | {"long" * 20: 1} if one["id"] % 3 == 0 else one for one in numbered(count)))
    write_result, _ = settle(fake, double, guard)
    assert write_result.counts == Counts(changed=count)
    assert fake.calls["UpdateItem"] >= (guard == "item")


class Application:
    """Other writers: before each request they write to some items, and record their writes."""

    def __init__(self, acts: Sequence[tuple[int, str]]) -> None:
        self.acts = deque(acts)
        self.notes: dict[int, int] = {}
        self.deleted: set[int] = set()

    def __call__(self, fake: FakeDynamoDB) -> None:
        for _ in range(min(3, len(self.acts))):
            number, act = self.acts.popleft()
            item = remaining_items(fake).get(number)
            if item is None:
                continue
            if act == "delete":
                self.deleted.add(number)
                fake.delete(item)
            else:
                self.notes[number] = self.notes.get(number, 0) + 1
                fake.put({**item, "note": self.notes[number]})


@many
@given(faults, acts, guards, st.booleans())
def test_live_writes_stay_and_each_remaining_item_is_doubled_once(
    queued: list[str], done: list[tuple[int, str]], guard: Guard, hands_back: bool
) -> None:
    application = Application(done)
    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued), before_write=application)
    fake.put(*numbered(20))
    write_result, count = settle(fake, double, guard)
    there = remaining_items(fake)
    assert there.keys() == set(range(20)) - application.deleted
    assert {key: item["n"] for key, item in there.items()} == {key: 2 * (key + 1) for key in there}
    assert all(there[key]["note"] == note for key, note in application.notes.items() if key in there)
    assert write_result.counts.vanished <= len(application.deleted)
    assert write_result.counts == Counts(
        changed=count - write_result.counts.vanished, vanished=write_result.counts.vanished
    )


@many
@given(faults, st.lists(st.integers(1, 9), max_size=10), st.booleans())
def test_a_value_set_by_the_application_is_transformed(queued: list[str], values: list[int], hands_back: bool) -> None:
    """The application writes odd numbers, which no patch writes, so that none of its writes can be mistaken for the
    run's."""
    written = iter([2 * value + 1001 for value in values])
    last: list[int] = []

    def application(fake: FakeDynamoDB) -> None:
        for value in written:
            last.append(value)
            fake.put({"id": 0, "n": value})
            return

    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued), before_write=application)
    fake.put({"id": 0, "n": 1})
    write_result, _ = settle(fake, double)
    assert sum(write_result.counts) == 1
    ours = remaining_items(fake)[0]["n"]
    # a lost answer, and a write on top of it
    unclear = bool(queued and last) and ours == last[-1] and write_result.counts.dead == 1
    assert unclear or ours == 2 * (last[-1] if last else 1) or (ours == last[-1] and write_result.counts.changed == 1)


harmless = st.lists(st.sampled_from(["", "throttled", "partial", "contended"]), max_size=8)  # no item is left in doubt


@many
@given(harmless, st.booleans())
def test_an_equal_write_of_the_application_is_not_mistaken_for_the_run_s(queued: list[str], hands_back: bool) -> None:
    """The application writes exactly the patch's value: the item is in doubt, and is not written."""

    def application(fake: FakeDynamoDB) -> None:
        fake.put({"id": 0, "n": 2})
        fake.before_write = None

    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued), before_write=application)
    fake.put({"id": 0, "n": 1})
    assert settle(fake, double)[0].counts == Counts(dead=1)
    assert remaining_items(fake)[0]["n"] == 2


@given(harmless)
def test_a_move_by_the_application_is_not_mistaken_for_the_run_s(queued: list[str]) -> None:
    def application(fake: FakeDynamoDB) -> None:
        fake.items.clear()
        fake.put({"id": 100, "n": 2})

    fake = FakeDynamoDB(THINGS, faults=deque(queued), before_write=application)
    fake.put({"id": 0, "n": 1})
    (found,) = [moved(image) for image in fake.items.values()]
    assert found is not None
    assert page_writer(fake, moved).write([found]).counts == Counts(vanished=1)


@many
@given(st.data(), faults)
def test_items_of_any_shape_are_written(data: st.DataObject, queued: list[str]) -> None:
    spec = data.draw(strategies.tables())
    fake = FakeDynamoDB(spec, faults=deque(queued))
    fake.put(*data.draw(st.lists(strategies.items(spec), max_size=8)))
    before = {text: decode(image) for text, image in fake.items.items()}
    mark = "mark" + "".join(spec.key_names)

    def marked(image: Image) -> Change | None:
        item = decode(image)
        return change(spec, image, item, {**item, mark: [item.get(mark), 1]})

    write_result, count = settle(fake, marked)
    assert write_result.counts == Counts(changed=count) and count == len(before)
    after = {text: encode({**item, mark: [item.get(mark), 1]}) for text, item in before.items()}
    assert fake.items == after


@many
@given(st.integers(1, 12), faults)
def test_items_written_by_separate_calls_are_written_too(count: int, queued: list[str]) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(queued))
    fake.put(*numbered(count, {ALONE: 1}))
    write_result, _ = settle(fake, double)
    assert write_result.counts == Counts(changed=count)
    assert {key: item["n"] for key, item in remaining_items(fake).items()} == {n: 2 * (n + 1) for n in range(count)}
    assert set(fake.calls) <= {"UpdateItem", "BatchGetItem"}


@many
@given(st.integers(1, 30), st.sets(st.integers(0, 29), max_size=3), st.integers(0, 30))
def test_a_statement_at_fault_is_found_and_the_others_are_written_once(count: int, bad: set[int], some: int) -> None:
    """The service refuses a whole batch because of one statement, after it has carried out some of the others."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(count))
    original = fake._batchexecutestatement

    def refusing(request: dict[str, Any]) -> dict[str, Any]:
        sound = [one for one in request["Statements"] if int(one["Parameters"][1]["N"]) not in bad]
        if len(sound) == len(request["Statements"]):
            return original(request)
        original({"Statements": sound[:some]})
        raise Refusal("ValidationException", "one of them", {})

    def refusing_one(request: dict[str, Any]) -> dict[str, Any]:
        if int(request["Key"]["id"]["N"]) in bad:
            raise Refusal("ValidationException", "this one", {})
        return alone(request)

    alone = fake._updateitem
    fake._updateitem = refusing_one  # type: ignore[method-assign]
    fake._batchexecutestatement = refusing  # type: ignore[method-assign]
    write_result, _ = settle(fake, double)
    lost = {number for number in bad if number < count}
    assert write_result.counts == Counts(changed=count - len(lost), dead=len(lost))
    assert {int(dead_letter.key["id"]["N"]) for dead_letter in write_result.dead} == lost
    expected = {number: (1 if number in lost else 2) * (number + 1) for number in range(count)}
    assert {key: item["n"] for key, item in remaining_items(fake).items()} == expected


def test_a_rejected_write_has_the_service_s_reason_and_a_next_step() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(1))

    def full(request: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("ItemCollectionSizeLimitExceededException", "Collection size exceeded.", {})

    fake._updateitem = fake._batchexecutestatement = full  # type: ignore[method-assign]
    (dead_letter,) = settle(fake, double)[0].dead
    assert "ItemCollectionSizeLimitExceededException: Collection size exceeded." in dead_letter.error
    assert "delete some of them" in dead_letter.error


# ---------------------------------------------------------------- deletions, insertions, transactions


@many
@given(faults, acts, st.booleans())
def test_deletions_delete_only_unchanged_items(
    queued: list[str], done: list[tuple[int, str]], hands_back: bool
) -> None:
    """An item with a new note of the application is read again, and stays."""

    def remove_unnoted(image: Image) -> Change | None:
        return Remove(key_of(THINGS, image), image) if image["note"] == {"N": "0"} else None

    application = Application(done)
    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued), before_write=application)
    fake.put(*numbered(20))
    write_result, _ = settle(fake, remove_unnoted)
    assert remaining_items(fake).keys() == {number for number in application.notes if number not in application.deleted}
    assert (
        len(application.notes.keys() - application.deleted) <= write_result.counts.superseded <= len(application.notes)
    )
    assert write_result.counts.dead == write_result.counts.unchanged == 0


@many
@given(faults, st.lists(st.sampled_from(["", "same", "other"]), min_size=1, max_size=30))
def test_insertions_succeed_only_at_free_keys(queued: list[str], there: list[str]) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(queued))
    items = numbered(len(there))
    fake.put(*[{**item, "note": what} for item, what in zip(items, there, strict=True) if what])
    write_result = page_writer(fake, lambda image: None).write(
        [insert(THINGS, {**item, "note": "same"}) for item in items]
    )
    counts = write_result.counts
    assert counts.superseded == there.count("other")
    assert counts.changed + counts.unchanged == there.count("") + there.count("same")
    if not {"lost", "reset", "partial-500"} & set(queued):  # after a doubt, the same item may be the one just written
        assert counts.unchanged == there.count("same")
    assert {key: item["note"] for key, item in remaining_items(fake).items()} == {
        n: w or "same" for n, w in enumerate(there)
    }


@many
@given(st.integers(1, 10), faults, st.booleans())
def test_items_are_moved_once_and_completely(count: int, queued: list[str], forgets: bool) -> None:
    """Also if the service has forgotten the transaction's token: then the items show whether it was written."""
    fake = FakeDynamoDB(THINGS, faults=deque(queued))
    fake.before_write = (lambda table: table.tokens.clear()) if forgets else None
    fake.put(*numbered(count))
    write_result, _ = settle(fake, moved)
    assert write_result.counts == Counts(changed=count)
    assert {key: item["n"] for key, item in remaining_items(fake).items()} == {
        n + 100: 2 * (n + 1) for n in range(count)
    }


@many
@given(faults, acts)
def test_items_changed_by_the_application_are_moved_with_the_change(
    queued: list[str], done: list[tuple[int, str]]
) -> None:
    application = Application(done)
    fake = FakeDynamoDB(THINGS, faults=deque(queued), before_write=application)
    fake.put(*numbered(20))
    write_result, _ = settle(fake, moved)
    there = remaining_items(fake)
    gone = write_result.counts.vanished
    assert write_result.counts == Counts(changed=20 - gone, vanished=gone)
    assert all(key >= 100 and item["n"] == 2 * (key - 99) for key, item in there.items())
    assert {key - 100 for key in there} == set(range(20)) - application.deleted
    assert all(there[key + 100]["note"] == n for key, n in application.notes.items() if key not in application.deleted)


@pytest.mark.parametrize("error", [Refused("the prepared data is damaged"), Fenced("another has it")], ids=repr)
def test_a_fault_of_what_the_script_needs_ends_the_page_and_is_no_dead_letter(error: DynamodtError) -> None:
    """A writer loads the prepared rows at the first conflict."""
    fake = FakeDynamoDB(THINGS, hands_back=True, before_write=Application([(0, "note")]))
    fake.put(*numbered(1))
    changes = [found for image in list(fake.items.values()) if (found := double(image))]

    def not_loaded(image: Image) -> Change | None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        page_writer(fake, not_loaded).write(changes)


# ---------------------------------------------------------------- what had no effect


@many
@given(harmless, acts, st.booleans())
def test_void_keys_are_those_whose_items_do_not_show_the_change(
    queued: list[str], done: list[tuple[int, str]], hands_back: bool
) -> None:
    """A deleted item is void, and a written item is not, after any faults."""
    application = Application(done)
    fake = FakeDynamoDB(THINGS, hands_back=hands_back, faults=deque(queued), before_write=application)
    fake.put(*numbered(20))
    write_result, _ = settle(fake, double)
    void = {int(key["id"]["N"]) for key in write_result.void}
    assert len(write_result.void) == len(void) == write_result.counts.vanished
    assert void <= application.deleted and void.isdisjoint(remaining_items(fake))


def void_of(fake: FakeDynamoDB, changes: Sequence[Change], apply: Apply = lambda image: None) -> list[int]:
    return sorted(int(key["id"]["N"]) for key in page_writer(fake, apply).write(changes).void)


def test_there_is_a_row_for_each_insertion_and_no_other() -> None:
    """A single insertion whose key is taken is void, so that an undo that restores an item reports it."""
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 1, "n": 1}, {"id": 2, "n": 0})
    assert void_of(fake, [insert(THINGS, {"id": number, "n": 1}) for number in (1, 2, 3)]) == [1, 2]
    assert rows(fake) == {3: "null"}


def test_of_two_rows_for_one_key_one_is_a_dead_letter() -> None:
    fake = FakeDynamoDB(THINGS)
    write_result = page_writer(fake, lambda image: None).write([insert(THINGS, {"id": 1, "n": n}) for n in (1, 2)])
    assert write_result.counts == Counts(changed=1, dead=1)
    assert "another row of items() has the key id = '1'" in write_result.dead[0].error
    assert remaining_items(fake) == {1: {"id": 1, "n": 1}}


def test_a_transaction_that_fails_has_no_effect_on_any_of_its_keys() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 0, "n": 1}, {"id": 100, "n": "another"})
    assert void_of(fake, [found for found in [moved(encode({"id": 0, "n": 1}))] if found], moved) == [0]
    assert rows(fake) == {}


def test_a_part_of_a_transaction_that_already_existed_is_void() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 0, "n": 1}, {"id": 100, "n": 2})  # as it would be moved
    assert void_of(fake, [found for found in [moved(encode({"id": 0, "n": 1}))] if found], moved) == []
    assert remaining_items(fake).keys() == {100} and rows(fake) == {}


def test_two_items_that_insert_the_same_item_insert_it_once() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(2))
    changes: list[Change] = []
    for image in list(fake.items.values()):
        update = double(image)
        assert isinstance(update, Update)
        changes.append(transaction_of(update.key, image, [update, insert(THINGS, {"id": 9, "n": 5})]))
    assert page_writer(fake, double).write(changes).counts == Counts(changed=2)
    assert {number: item["n"] for number, item in remaining_items(fake).items()} == {0: 2, 1: 4, 9: 5}


def test_two_items_for_one_key_are_a_collision_that_names_both() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(2))
    changes: list[Change] = [
        transaction_of(key_of(THINGS, image), image, [insert(THINGS, {"id": 9, "n": decode(image)["n"]})])
        for image in list(fake.items.values())
    ]
    write_result = page_writer(fake, lambda image: None).write(changes)
    assert write_result.counts == Counts(changed=1, dead=1)
    assert "two items are for the key id = '9': id = '0' and id = '1'" in write_result.dead[0].error


@pytest.mark.parametrize(("loses", "counts"), [(True, Counts(dead=1)), (False, Counts(changed=1))])
def test_an_item_stays_unchanged_if_its_new_key_is_taken(loses: bool, counts: Counts) -> None:
    """Otherwise the moved data would be lost."""
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 0, "address": "Main St 1"}, {"id": 9, "address": "Old Rd 9"})
    image = fake.items[key_text(encode({"id": 0}))]
    item = decode(image)
    update = change(THINGS, image, item, {"id": 0, "moved": 1} if loses else {**item, "moved": 1})
    assert isinstance(update, Update)
    put = insert(THINGS, {"id": 9, "address": "Main St 1"})
    write_result = page_writer(fake, lambda image: None).write([transaction_of(update.key, image, [update, put])])
    assert write_result.counts == counts
    assert remaining_items(fake)[0].get("address") == "Main St 1" and remaining_items(fake)[9]["address"] == "Old Rd 9"


@pytest.mark.parametrize("act", ["change", "delete"])
def test_no_insertion_is_made_from_an_outdated_item(act: str) -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 0, "n": 1})
    image = fake.items[key_text(encode({"id": 0}))]

    def beside(image: Image) -> Change:
        return transaction_of(key_of(THINGS, image), image, [insert(THINGS, {"id": 9, "n": decode(image)["n"]})])

    made = beside(image)
    if act == "delete":
        fake.delete({"id": 0})
    else:
        fake.put({"id": 0, "n": 2})
    write_result = page_writer(fake, beside).write([made])
    assert write_result.counts == (Counts(vanished=1) if act == "delete" else Counts(changed=1))
    assert {number: item["n"] for number, item in remaining_items(fake).items()} == (
        {} if act == "delete" else {0: 2, 9: 2}
    )


@pytest.mark.parametrize("kind", ["update", "delete", "move"])
def test_an_item_moved_to_a_freed_key_is_not_mistaken_for_the_one_that_was_read(kind: str) -> None:
    """Also if both are equal: the inserted row decides, and the deletion's transaction checks it."""
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 0, "n": 1}, {"id": 1, "n": 1})
    one, other = (fake.items[key_text(encode({"id": number}))] for number in (0, 1))
    item = decode(other)
    changes = {
        "update": change(THINGS, other, item, {**item, "n": 2}),
        "delete": Remove(key_of(THINGS, other), other),
        "move": change(THINGS, other, item, {**item, "id": 2}),
    }
    fake.delete({"id": 1})
    step = change(THINGS, one, decode(one), {**decode(one), "id": 1, "n": 5 if kind == "update" else 1})
    page_writing = page_writer(fake, lambda image: pytest.fail("its own item"), meets_insertions=True)
    assert page_writing.write([step]).counts == Counts(changed=1)  # type: ignore[list-item]
    assert page_writing.write([changes[kind]]).counts == Counts(vanished=1)  # type: ignore[list-item]
    assert remaining_items(fake) == {1: {"id": 1, "n": 5 if kind == "update" else 1}}


@pytest.mark.parametrize(("fault", "void"), [("throttled", [1]), ("lost", [])])
def test_a_write_that_was_given_up_is_void_unless_it_is_in_doubt(fault: str, void: list[int]) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque([fault] * 100))
    fake.put({"id": 1, "n": 1})
    assert void_of(fake, [found for image in fake.items.values() if (found := double(image))], double) == void


# ---------------------------------------------------------------- how it sends


class Wire:
    """Counts the requests that are on their way."""

    def __init__(self, fake: FakeDynamoDB) -> None:
        self._fake = fake
        self.flying = self.most = self.sent = 0
        self.flights: list[int] = []  # how many were on their way with each

    def begin(self, operation: str, body: bytes) -> Callable[[], Any]:
        self.flying += 1
        self.sent += 1
        self.most = max(self.most, self.flying)
        self.flights.append(self.flying)
        answer = self._fake.begin(operation, body)

        def answered() -> Any:
            self.flying -= 1
            return answer()

        return answered


def over_a_wire(count: int, *faults: str, **options: Any) -> tuple[Wire, PageWriter, list[Change]]:
    """A page of this number of items, with three writers."""
    fake = FakeDynamoDB(THINGS, faults=deque(faults))
    fake.put(*numbered(count))
    wire = Wire(fake)
    reads = Lookups(Reads(fake, THINGS, sleep=lambda seconds: None))
    one = PageWriter(Writes(wire, "things"), reads, Statements(THINGS), double, 3, **options)  # type: ignore[arg-type]
    return wire, one, [found for image in list(fake.items.values()) if (found := double(image))]


@pytest.mark.parametrize(("count", "most"), [(20, 1), (60, 3), (240, 3)])
def test_the_number_of_requests_in_flight_is_that_of_the_writers(count: int, most: int) -> None:
    wire, page_writer, changes = over_a_wire(count)
    assert page_writer.write(changes).counts == Counts(changed=count)
    assert (wire.most, wire.flying) == (most, 0)


def test_requests_in_flight_are_awaited_when_the_lease_is_lost() -> None:
    poller = iter([None, None, Fenced("another has it")])

    def check_owner() -> None:
        if error := next(poller):
            raise error

    wire, page_writer, changes = over_a_wire(100, check_owner=check_owner)
    with pytest.raises(Fenced):
        page_writer.write(changes)
    assert (wire.sent, wire.flying) == (2, 0)


@pytest.mark.parametrize(("faults", "before_the_pause"), [(["full"], 3), (["partial"], 8), (["throttled"], 3)])
def test_the_rest_of_a_page_waits_while_its_partition_is_full(faults: list[str], before_the_pause: int) -> None:
    sent: list[int] = []
    wire, page_writer, changes = over_a_wire(200, *faults, sleep=lambda seconds: sent.append(wire.sent))
    assert page_writer.write(changes).counts == Counts(changed=200)
    assert sent == [before_the_pause]


def test_throttled_writes_are_retried_before_the_rest_of_the_page() -> None:
    wire, page_writer, changes = over_a_wire(200, *["full"] * 3, sleep=lambda seconds: None)
    assert page_writer.write(changes).counts == Counts(changed=200)
    assert wire.flights == [1, 2, 3, *[1, 1, 2, 2, 3, 3, 3, 3]]


def test_the_tries_of_a_page_on_a_full_partition_are_bounded() -> None:
    """Changes that wait for the partition fail together with the throttled ones, and not after twelve tries for each
    batch."""
    slept: list[float] = []
    fake = FakeDynamoDB(THINGS, faults=deque(["full"] * 1000))
    fake.put(*numbered(500))
    changes = [found for image in list(fake.items.values()) if (found := double(image))]
    write_result = page_writer(fake, double, sleep=slept.append).write(changes)
    assert write_result.counts == Counts(dead=500) and len(slept) <= 24


def test_deferred_changes_are_not_given_up_while_others_succeed() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["full", ""] * 60))
    fake.put(*numbered(1000))
    assert settle(fake, double)[0].counts == Counts(changed=1000)


def test_one_throttled_item_does_not_defer_the_others() -> None:
    """A transaction is sent alone, and its throttle is no evidence about a partition."""
    pauses: list[int] = []
    fake = FakeDynamoDB(THINGS, faults=deque(["throttled"]))
    fake.put(*({**item, ALONE: 1} for item in numbered(40)))

    def odd(image: Image) -> Change | None:
        item = decode(image)
        return change(THINGS, image, item, {**item, ALONE: 2})

    changes = [found for image in list(fake.items.values()) if (found := odd(image))]
    done = page_writer(
        fake, odd, sleep=lambda seconds: pauses.append(sum(i[ALONE] for i in remaining_items(fake).values()))
    )
    assert done.write(changes).counts == Counts(changed=40)
    assert pauses == [79]


@pytest.mark.parametrize(("fault", "number"), [("full", 199), ("throttled", 3), ("lost", 3), ("reset", 3)])
def test_a_deferred_deletion_is_read_again(fault: str, number: int) -> None:
    """No guard contains an attribute that was added since the read. An item that was deleted and created again
    stays."""
    fake = FakeDynamoDB(THINGS, faults=deque([fault]))
    fake.put(*numbered(200))

    def application(seconds: float) -> None:
        if number in remaining_items(fake):
            fake.put({"id": number, "n": number + 1, "note": 0, "live": "write"})

    write_result = page_writer(fake, lambda image: None, sleep=application).write(removals(fake))
    assert sum(write_result.counts) == write_result.counts.changed + write_result.counts.superseded == 200
    assert remaining_items(fake) == (
        {number: {"id": number, "n": number + 1, "note": 0, "live": "write"}} if remaining_items(fake) else {}
    )
    assert write_result.counts.superseded == len(remaining_items(fake)) == (fault != "reset")


def test_a_deletion_in_doubt_is_read_again() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["partial-500"]))
    fake.put(*numbered(4))
    removes = removals(fake)

    def application(seconds: float) -> None:
        for number, item in remaining_items(fake).items():
            fake.put({**item, "live": number})

    write_result = page_writer(fake, lambda image: None, sleep=application).write(removes)
    there = remaining_items(fake)
    assert there and all(item["live"] == number for number, item in there.items())
    assert write_result.counts == Counts(changed=4 - len(there), superseded=len(there))


class Budget:
    """A budget that lets a batch pass after this number of seconds; the application writes to the last item before the
    second batch."""

    limited = True
    rate = float("inf")

    def __init__(self, fake: FakeDynamoDB, seconds: float) -> None:
        self._fake = fake
        self._seconds = seconds
        self.now = 0.0
        self.passed = 0
        self.taken = 0.0
        self.prices: list[float] = []  # the observed costs

    def within(self, seconds: float, estimate: float) -> float:
        return self.rate * seconds / estimate

    def enter(self, units: float) -> float:
        self.passed += 1
        self.now += self._seconds
        if self.passed == 2:
            self._fake.put({"id": 49, "n": 50, "note": 0, "live": "write"})
        self.taken += units
        return units

    def leave(self, taken: float, estimate: float, spent: float) -> None:
        self.taken -= taken
        if estimate and spent:
            self.prices.append(spent / estimate)

    def throttled(self, statements: int = 1) -> None:
        pass


def test_deletions_that_wait_for_the_budget_are_read_again_batch_by_batch() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(50))
    budget = Budget(fake, 20.0)
    one = page_writer(fake, lambda image: None, rate_queue=budget, clock=lambda: budget.now)
    assert one.write(removals(fake)).counts == Counts(changed=49, superseded=1)
    assert remaining_items(fake)[49]["live"] == "write" and budget.taken == 0.0


@pytest.mark.parametrize("fault", ["", "partial", "full", "throttled"])
def test_the_estimate_of_a_batch_follows_complete_batches_only(fault: str) -> None:
    """From batches that were partly refused or deferred, it would learn an estimate that is too low."""
    fake = FakeDynamoDB(THINGS, faults=deque([fault]))
    fake.put(*numbered(50))
    budget = Budget(fake, 20.0)
    one = page_writer(fake, lambda image: None, rate_queue=budget, clock=lambda: budget.now)
    assert sum(one.write(removals(fake)).counts) == 50
    assert budget.prices and set(budget.prices) == {1.0}


def test_a_change_made_after_a_second_read_has_an_intent_before_it_is_sent() -> None:
    def unless_live(image: Image) -> Change | None:
        item = decode(image)
        if "live" not in item:
            return Remove(key_of(THINGS, image), image)
        return change(THINGS, image, item, {**item, "n": 0}) if item["n"] else None

    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(50))
    budget, intended = Budget(fake, 20.0), []
    one = page_writer(fake, unless_live, rate_queue=budget, clock=lambda: budget.now)
    assert write_whole_page(one, removals(fake), lambda changes: intended.append(len(changes))).counts == Counts(
        changed=50
    )
    assert remaining_items(fake) == {49: {"id": 49, "n": 0, "note": 0, "live": "write"}} and intended == [50, 1]


def test_deletions_sent_at_once_are_read_once() -> None:
    def poller(seconds: float) -> int:
        fake = FakeDynamoDB(THINGS)
        fake.put(*numbered(50))
        budget = Budget(fake, seconds)
        page_writer(fake, lambda image: None, rate_queue=budget, clock=lambda: budget.now).write(removals(fake))
        return fake.calls["BatchGetItem"]

    assert poller(0.4) == poller(0.0) < poller(0.6)  # the second batch goes out after 1.2 seconds


def sizes_sent(fake: FakeDynamoDB) -> list[int]:
    """A list that receives the number of statements of each request."""
    sizes: list[int] = []
    original = fake._batchexecutestatement
    fake._batchexecutestatement = lambda request: (  # type: ignore[method-assign]
        sizes.append(len(request["Statements"])) or original(request)  # type: ignore[func-returns-value]
    )
    return sizes


@pytest.mark.parametrize(("rate", "most"), [(0.5, 2), (1.0, 4), (0.01, 1), (0.0, 1), (2.6, 10), (100.0, 25)])
def test_at_a_low_rate_a_request_takes_no_more_than_a_few_seconds_of_it(rate: float, most: int) -> None:
    """A batch of 25 at half a unit a second would wait for 50 seconds, and the ramp would treat the budget as
    unused."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(50))
    sizes, budget = sizes_sent(fake), Budget(fake, 0.0)
    budget.rate = rate
    changes = [found for image in fake.items.values() if (found := double(image))]
    assert page_writer(fake, double, rate_queue=budget).write(changes).counts.changed >= 49  # one has a live write
    assert sizes[0] == most == max(sizes)


def test_at_a_low_rate_an_answer_is_charged_before_the_next_request_waits() -> None:
    """A rate that is not seen to be used does not grow."""
    fake = FakeDynamoDB(THINGS)
    fake.put(*numbered(9))
    budget, charged = Budget(fake, 0.0), []
    budget.rate, enter = 0.5, budget.enter
    budget.enter = lambda units: (charged.append(len(budget.prices)), enter(units))[1]  # type: ignore[method-assign]
    changes = [found for image in fake.items.values() if (found := double(image))]
    page_writer(fake, double, rate_queue=budget).write(changes)
    assert charged == list(range(len(charged))) and len(charged) > 3


@pytest.mark.parametrize(("rate", "most"), [(0.5, 1), (10.0, 20), (1000.0, 100)])
def test_at_a_low_rate_fewer_items_are_read_back_at_once(rate: float, most: int) -> None:
    fake = FakeDynamoDB(THINGS)
    budget, sizes = Budget(fake, 0.0), []
    budget.rate, original = rate, fake._batchgetitem
    fake._batchgetitem = lambda request: (  # type: ignore[method-assign]
        sizes.append(len(request["RequestItems"]["things"]["Keys"])) or original(request)  # type: ignore[func-returns-value]
    )
    fake.put(*numbered(150))
    keys = [encode({"id": number}) for number in range(150)]
    assert len(Reads(fake, THINGS, rate_queue=budget).items(keys).items) == 150
    assert sizes[0] == most == max(sizes)


def test_statements_that_were_throttled_one_by_one_are_sent_again_in_whole_batches() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["full", "full", "partial"]))
    fake.put(*numbered(50))
    sizes = sizes_sent(fake)
    assert settle(fake, double)[0].counts == Counts(changed=50)
    assert sizes == [25, 25, 25, 25, 12]


def test_batches_get_smaller_while_throttled_and_waits_get_longer() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["throttled"] * 3))
    fake.put(*numbered(25))
    sizes = sizes_sent(fake)
    slept: list[float] = []
    changes = [found for image in fake.items.values() if (found := double(image))]
    backoff = Backoff(base=1, cap=10)
    write_result = page_writer(fake, double, sleep=slept.append, dice=lambda: 1.0, backoff=backoff).write(changes)
    assert write_result.counts == Counts(changed=25)
    assert sizes[0] == 25 and sizes[1] == 12 and max(sizes[2:]) <= 12
    assert slept == sorted(slept) and slept[0] == 1


def test_an_item_in_a_transaction_of_the_application_does_not_lower_the_rate() -> None:
    """Its rate is not the reason for the refusal, and a lower one would not help."""
    queue = RateLimitedQueue(TokenBucket(1e6, time.monotonic), 1.0, lambda: None, lambda seconds: None)
    fake = FakeDynamoDB(THINGS, faults=deque(["contended"] * 3))
    fake.put(*numbered(50))
    changes = [found for image in fake.items.values() if (found := double(image))]
    write_result = page_writer(fake, double, rate_queue=queue).write(changes)
    assert write_result.counts == Counts(changed=50)
    assert queue.throttles == write_result.contention.throttles == 0 < write_result.contention.conflicts


@pytest.mark.parametrize(
    ("fault", "hint"), [("contended", CONTENDED), ("partial-500", FAILING), ("partial", "capacity")]
)
def test_a_change_that_is_given_up_has_the_next_step_for_its_reason(fault: str, hint: str) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque([fault] * 50))
    fake.put(*numbered(2))
    changes = [found for image in fake.items.values() if (found := double(image))]
    write_result = page_writer(fake, double, backoff=Backoff(attempts=1)).write(changes)
    assert write_result.counts == Counts(changed=1, dead=1) and hint in write_result.dead[0].error


def test_the_tries_of_a_change_are_bounded() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["throttled", "lost"] * 50))
    fake.put({"id": 1, "n": 1})
    (found,) = [double(image) for image in fake.items.values()]
    assert found is not None
    write_result = page_writer(fake, double, backoff=Backoff(attempts=4)).write([found])
    assert write_result.counts == Counts(dead=1) and "gave up after 4 tries" in write_result.dead[0].error
    assert fake.calls["BatchExecuteStatement"] == 4


def test_a_lost_connection_ends_the_run_without_dead_letters() -> None:
    """The run ends, and the page is resolved by its next owner: no item becomes a dead letter."""
    fake = FakeDynamoDB(THINGS, faults=deque(["unsent"] * 50))
    fake.put(*numbered(60))
    changes = [found for image in fake.items.values() if (found := double(image))]
    task = WriteTask(page_writer(fake, double, backoff=Backoff(attempts=4)))
    task.begin(changes)
    with pytest.raises(ServiceError, match="gave up after 4 tries: the endpoint refuses connections") as caught:
        for _ in range(20):  # steps, of which four are tries
            task.step()
    assert (caught.value.where, caught.value.hint) == ("table things", "check the network")
    assert fake.calls["BatchExecuteStatement"] == 3 + 1 + 1 + 1  # after the first round, one of the three batches
    assert task._result.contention.throttles == 0 and not task._result.dead


def changes_of(fake: FakeDynamoDB) -> list[Change]:
    return [found for image in fake.items.values() if (found := double(image))]


@pytest.mark.parametrize("fault", ["lost", "reset"])
@pytest.mark.parametrize("items", [2, 60])
def test_a_service_that_answers_no_write_ends_the_run_without_dead_letters(items: int, fault: str) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque([fault] * 500))
    fake.put(*numbered(items))
    task = WriteTask(page_writer(fake, double, backoff=Backoff(attempts=4), unanswered=Unanswered(ends_run=True)))
    task.begin(changes_of(fake))
    with pytest.raises(ServiceError, match="gave up after 4 tries: reset") as caught:
        last_step(task)
    assert (caught.value.where, caught.value.hint) == ("table things", FAILING)


@pytest.mark.parametrize(("unanswered", "ends"), [(24, False), (25, True)])
def test_unanswered_writes_of_a_page_with_answers_end_the_run_if_they_fill_a_batch(unanswered: int, ends: bool) -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["", "lost"]))
    fake.put(*numbered(25 + unanswered))
    writer = page_writer(fake, double, backoff=Backoff(attempts=1), unanswered=Unanswered(ends_run=True))
    with pytest.raises(ServiceError, match="gave up after 1 tries") if ends else nullcontext():
        assert writer.write(changes_of(fake)).counts == Counts(changed=25, dead=24)


def test_one_write_without_an_answer_is_a_dead_letter_and_a_second_one_in_a_row_is_the_service() -> None:
    """The row is ended by an answer to any other write of the worker."""
    fake, unanswered = FakeDynamoDB(THINGS, faults=deque()), Unanswered(ends_run=True)
    writer = page_writer(fake, double, backoff=Backoff(attempts=1), unanswered=unanswered)
    fake.put(*numbered(1))
    for faults, counts in ((["lost"], Counts(dead=1)), ([""], Counts(changed=1)), (["lost"], Counts(dead=1))):
        fake.faults.extend(faults)
        assert writer.write(changes_of(fake)).counts == counts
    fake.faults.append("lost")
    with pytest.raises(ServiceError, match="gave up after 1 tries"):
        writer.write(changes_of(fake))


def test_a_deferred_change_is_no_dead_letter_when_the_connection_is_lost() -> None:
    """The second batch has one try left, since its partition was full; the third, which is sent first, has no
    connection."""
    fake = FakeDynamoDB(THINGS, faults=deque(["", "full", "unsent"]))
    fake.put(*numbered(75))
    changes = [found for image in fake.items.values() if (found := double(image))]
    task = WriteTask(replace(page_writer(fake, double, backoff=Backoff(attempts=2)), writers=1))
    task.begin(changes)
    assert isinstance(task.step(), Wait)
    with pytest.raises(ServiceError, match="gave up after 2 tries: the endpoint refuses connections"):
        task.step()
    assert not task._result.dead and sum(fake.calls.values()) == 3


def test_after_a_restored_connection_every_change_is_written() -> None:
    fake = FakeDynamoDB(THINGS, faults=deque(["unsent", "", "unsent", "unsent"]))
    fake.put(*numbered(60))
    sizes = sizes_sent(fake)
    write_result = settle(fake, double)[0]
    assert write_result.counts == Counts(changed=60) and write_result.contention.throttles == 0
    assert sizes.count(25) >= 2  # batches do not get smaller for it


def test_units_are_estimated_if_the_endpoint_does_not_report_them() -> None:
    fake = FakeDynamoDB(THINGS)
    fake.put({"id": 1, "n": 1, "text": "x" * 3000}, {"id": 2, "n": 1})
    original = fake._batchexecutestatement
    fake._batchexecutestatement = lambda request: {"Responses": original(request)["Responses"]}  # type: ignore
    assert settle(fake, double)[0].units.wcu == 3 + 1


@pytest.mark.parametrize("size", [1, 100, 101, 250])
def test_items_are_read_back_a_hundred_at_a_time(size: int) -> None:
    fake = FakeDynamoDB(THINGS)
    items = numbered(size)
    fake.put(*items)
    keys = [encode({"id": item["id"]}) for item in items]
    found = Reads(fake, THINGS, sleep=lambda seconds: None).items(keys).items
    assert found == {key_text(key): fake.get(decode(key)) for key in keys}


# ---------------------------------------------------------------- keys as text


@given(st.data())
def test_different_keys_have_different_texts(data: st.DataObject) -> None:
    spec = data.draw(strategies.tables())
    one, other = (encode(data.draw(strategies.keys(spec))) for _ in range(2))
    assert (key_text(one) == key_text(other)) is (decode(one) == decode(other))


def test_no_string_in_a_key_can_imitate_two_attributes() -> None:
    one = {"a": {"S": "x"}, "b": {"S": "y\x00b\x01S\x01z', 'S', '"}}
    other = {"a": {"S": "x\x00b\x01S\x01y"}, "b": {"S": "z', 'S', '"}}
    assert key_text(one) != key_text(other)


@pytest.mark.parametrize("raw", ["1.0", "1E0", "1.000", "0.1E1"])
def test_a_number_in_any_notation_is_one_key(raw: str) -> None:
    assert key_text({"id": {"N": raw}}) == key_text({"id": {"N": "1"}})
    assert key_text({"id": {"N": str(Decimal(raw) * 10**38)}}) == key_text({"id": {"N": "1" + "0" * 38}})
