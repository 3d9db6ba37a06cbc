"""Statements and expressions, tested by executing them on a table in memory that accepts nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dynamodt.dynamodb.batch import Verdict, Writes
from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.statements import MAX_EXPRESSION, MAX_STATEMENT, Statements, quoted
from dynamodt.dynamodb.wire import Call, Statement
from dynamodt.errors import ItemError
from dynamodt.model.tables import Atomic, Change, Guard, Image, Insert, Item, KeyAttribute, Remove, TableSpec, Update
from dynamodt.script.codec import decode, encode, same, same_image
from dynamodt.script.diff import change, image_after, insert, key_of
from tests import strategies
from tests.fakes import FakeDynamoDB, Parsed
from tests.strategies import pairs

THINGS = TableSpec("things", (KeyAttribute("id", "S"),))
GUARDS: tuple[Guard, ...] = ("item", "changed")
Drawn = tuple[TableSpec, Update]


def table(spec: TableSpec, *images: Image) -> FakeDynamoDB:
    fake = FakeDynamoDB(spec)
    for image in images:
        fake.put(decode(image))
    return fake


def sent(fake: FakeDynamoDB, request: Statement | Call) -> Verdict:
    """The verdict of one request, as `dynamodb.batch` reads it."""
    writes = Writes(fake, fake.spec.name)
    answer = writes.batch([request])() if isinstance(request, Statement) else writes.single(request)()
    return answer.verdicts[0]


def written(fake: FakeDynamoDB, found: Change, guard: Guard = "item") -> str:
    return sent(fake, Statements(fake.spec, guard).write(found)).outcome


def only(fake: FakeDynamoDB) -> Image:
    (image,) = fake.items.values()
    return image


def update(spec: TableSpec, before: Item, after: Item) -> Update:
    image = encode(before)
    found = change(spec, image, decode(image), after)
    assert isinstance(found, Update)
    return found


@st.composite
def updates(draw: st.DrawFn) -> tuple[TableSpec, Update]:
    """A table, and an update from one of its items to another shape of the item."""
    spec, before, after = draw(pairs())
    assume(not same_image(encode(before), encode(after)))
    return spec, update(spec, before, after)


def intruders(image: Image, spec: TableSpec) -> Iterator[tuple[str, Image]]:
    """The images after each possible change of one attribute by another writer."""
    for name in image:
        if name not in spec.key_names:
            yield name, {n: value for n, value in image.items() if n != name}
            yield name, {**image, name: {"S": "another's"} if image[name] != {"S": "another's"} else {"NULL": True}}


# ---------------------------------------------------------------- laws of an update


@given(updates())
def test_an_update_of_what_was_read_is_applied_once(drawn: Drawn) -> None:
    spec, found = drawn
    for guard in GUARDS:
        fake = table(spec, found.read)
        assert [written(fake, found, guard) for _ in range(3)] == ["done", "conflict", "conflict"]
        assert same_image(only(fake), image_after(found))


@given(updates())
def test_an_update_is_refused_if_any_attribute_has_changed(drawn: Drawn) -> None:
    spec, found = drawn
    for _, theirs in intruders(found.read, spec):
        fake = table(spec, theirs)
        verdict = sent(fake, Statements(spec).write(found))
        assert verdict.outcome == "conflict"
        assert verdict.image == only(fake) == theirs  # handed back, and untouched


@given(updates())
def test_guard_changed_compares_only_updated_attributes(drawn: Drawn) -> None:
    spec, found = drawn
    touched = {*found.sets, *found.removes}
    for name, theirs in intruders(found.read, spec):
        fake = table(spec, theirs)
        if name in touched:
            assert written(fake, found, "changed") == "conflict"
            assert only(fake) == theirs
        else:
            assert written(fake, found, "changed") == "done"
            assert same_image(only(fake), image_after(found._replace(read=theirs)))


@given(updates())
def test_an_attribute_that_was_added_is_not_overwritten(drawn: Drawn) -> None:
    spec, found = drawn
    for guard in GUARDS:
        for name in found.sets.keys() - found.read.keys():
            fake = table(spec, {**found.read, name: {"S": "theirs"}})
            assert written(fake, found, guard) == "conflict"
            assert only(fake)[name] == {"S": "theirs"}


@given(updates())
def test_an_update_does_not_recreate_a_deleted_item(drawn: Drawn) -> None:
    spec, found = drawn
    refused = Verdict("conflict", None, "The conditional request failed")
    for guard in GUARDS:
        fake = table(spec)
        assert sent(fake, Statements(spec, guard).write(found)) == refused
        assert sent(fake, as_call(spec, guard, found)) == refused
        assert fake.items == {}


@given(updates(), strategies.attributes)
def test_an_update_changes_no_other_item(drawn: Drawn, others: Item) -> None:
    spec, found = drawn
    other = {**others, **decode(found.key)}
    name, kind = spec.key[0]
    other[name] = {"S": "another", "N": Decimal(7), "B": b"other" + bytes(5)}[kind]
    assume(not same(encode(other)[name], found.key[name]))
    fake = table(spec, found.read, encode(other))
    assert written(fake, found) == "done"
    assert fake.get(other) == encode(other)


# ---------------------------------------------------------------- the two forms say the same


def as_call(spec: TableSpec, guard: Guard, found: Change) -> Call:
    """The request of a change that is too wide for a statement, made for a narrow one."""
    statements = Statements(spec, guard)
    statements._too_wide = lambda text, change: True  # type: ignore[method-assign]
    request = statements.write(found)
    assert isinstance(request, Call)
    return request


@given(updates(), st.sampled_from(GUARDS))
def test_a_separate_call_does_what_the_statement_does(drawn: Drawn, guard: Guard) -> None:
    spec, found = drawn
    for image in [found.read, *[theirs for _, theirs in intruders(found.read, spec)]]:
        one, other = table(spec, image), table(spec, image)
        assert written(one, found, guard) == sent(other, as_call(spec, guard, found)).outcome
        assert one.items == other.items


@given(updates())
def test_a_transaction_does_what_its_parts_do(drawn: Drawn) -> None:
    spec, found = drawn
    both = Atomic(found.key, found.read, (found,))
    for image in [found.read, *[theirs for _, theirs in intruders(found.read, spec)]]:
        one, other = table(spec, image), table(spec, image)
        assert written(one, found) == written(other, both)
        assert one.items == other.items


# ---------------------------------------------------------------- deletions and insertions


@given(strategies.tables(), st.sampled_from(GUARDS), st.data())
def test_a_deletion_compares_the_whole_item_with_every_guard(
    spec: TableSpec, guard: Guard, data: st.DataObject
) -> None:
    image = data.draw(strategies.images(spec))
    found = Remove(key_of(spec, image), image)
    for request in (Statements(spec, guard).write(found), as_call(spec, guard, found)):
        for _, theirs in intruders(image, spec):
            fake = table(spec, theirs)
            assert sent(fake, request).outcome == "conflict"
            assert only(fake) == theirs
        fake = table(spec, image)
        assert sent(fake, request).outcome == "done"
        assert fake.items == {}


@given(strategies.tables(), st.data())
def test_an_insertion_succeeds_only_at_a_free_key(spec: TableSpec, data: st.DataObject) -> None:
    item, there = data.draw(strategies.items(spec)), data.draw(strategies.attributes)
    found = insert(spec, item)
    theirs = encode({**there, **decode(found.key)})
    alone = Call("PutItem", {**Statements(spec)._put_body(found)})
    for request in (Statements(spec).write(found), alone):
        fake = table(spec)
        assert sent(fake, request).outcome == "done"
        assert only(fake) == found.item and same_image(found.item, encode(item))
        assert sent(fake, request).outcome == "conflict"
        fake = table(spec, theirs)
        assert sent(fake, request).outcome == "conflict"
        assert only(fake) == theirs


def test_a_transaction_is_all_or_nothing() -> None:
    read = encode({"id": "a", "n": 1})
    key = key_of(THINGS, read)
    move = Atomic(key, read, (insert(THINGS, {"id": "b", "n": 1}), Remove(key, read)))
    fake = table(THINGS, read)
    assert written(fake, move) == "done" and only(fake) == encode({"id": "b", "n": 1})
    taken = table(THINGS, read, encode({"id": "b"}))
    assert written(taken, move) == "conflict" and len(taken.items) == 2
    changed = table(THINGS, encode({"id": "a", "n": 2}))
    assert written(changed, move) == "conflict" and only(changed) == encode({"id": "a", "n": 2})


def test_an_insertion_names_its_own_table() -> None:
    found = Insert("people", encode({"id": "a"}), encode({"id": "a"}))
    request = Statements(THINGS).write(found)
    assert isinstance(request, Statement) and request.text.startswith('INSERT INTO "people" VALUE')
    call = Statements(THINGS).write(Atomic(found.key, found.item, (found,)))
    assert isinstance(call, Call) and call.body["TransactItems"][0]["Put"]["TableName"] == "people"


# ---------------------------------------------------------------- texts


def test_the_text_of_an_update() -> None:
    found = update(THINGS, {"id": "a", "n": 1, "old": 2, "x": 3}, {"id": "a", "n": 5, "new": 6, "x": 3})
    assert Statements(THINGS).write(found) == Statement(
        'UPDATE "things" SET "n"=?, "new"=? REMOVE "old" WHERE "id"=? AND "n"=? AND "old"=? AND "x"=? '
        'AND "new" IS MISSING',
        [{"N": "5"}, {"N": "6"}, {"S": "a"}, {"N": "1"}, {"N": "2"}, {"N": "3"}],
    )
    assert Statements(THINGS, "changed").write(found) == Statement(
        'UPDATE "things" SET "n"=?, "new"=? REMOVE "old" WHERE "id"=? AND "n"=? AND "old"=? AND "new" IS MISSING',
        [{"N": "5"}, {"N": "6"}, {"S": "a"}, {"N": "1"}, {"N": "2"}],
    )


@given(strategies.names.filter(lambda name: name[0] not in "#:"))
def test_any_quoted_name_is_parsed_to_itself(name: str) -> None:
    text = f"DELETE FROM {quoted('things')} WHERE {quoted(name)}=?"
    assert Parsed(text, [{"S": "a"}]).equal == {name: {"S": "a"}}


@given(updates())
def test_cached_texts_are_those_of_a_new_writer(drawn: Drawn) -> None:
    """One writer for many items gives what a fresh writer gives for each."""
    spec, one = drawn
    after = image_after(one)
    other = update(spec, decode(after), decode(one.read))
    writer = Statements(spec)
    assert [writer.write(found) for found in (one, other, one)] == [
        Statements(spec).write(found) for found in (one, other, one)
    ]


def test_a_text_is_cached_for_all_of_its_shape() -> None:
    """Changes that agree in two of three: what is set, what is removed, what was read."""
    item = {"id": "a", "n": 1, "old": 2}
    changes = [
        update(THINGS, item, {"id": "a", "n": 5}),
        update(THINGS, item, {"id": "a", "n": 5, "old": 2}),
        update(THINGS, {**item, "x": 3}, {"id": "a", "n": 5, "x": 3}),
        update(THINGS, item, {"id": "a", "n": 1}),
    ]
    writer = Statements(THINGS)
    for found in changes:
        assert writer.write(found) == Statements(THINGS).write(found)


def test_the_number_of_cached_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dynamodt.dynamodb.statements._CACHED_SHAPES", 10)
    writer = Statements(THINGS)
    for number in range(35):
        writer.write(update(THINGS, {"id": "a"}, {"id": "a", f"n{number}": 1}))
        assert len(writer._texts) <= 10


# ---------------------------------------------------------------- limits


def wide(names: int, length: int) -> Item:
    return {"id": "a", **{f"{number:03}".ljust(length, "n"): number for number in range(names)}}


def doubled(spec: TableSpec, item: Item) -> Update:
    return update(spec, item, {**item, "000".ljust(len(list(item)[1]), "n"): -1})


@pytest.mark.parametrize(("more", "kind"), [(0, Statement), (1, Call)])
def test_a_statement_has_at_most_8192_characters(more: int, kind: type) -> None:
    item = wide(50, 100)
    text = Statements(THINGS).write(doubled(THINGS, item))
    assert isinstance(text, Statement)
    found = doubled(THINGS, {**item, "x" * (MAX_STATEMENT - len(text.text) - len(' AND ""=?') + more): 1})
    request = Statements(THINGS).write(found)
    assert type(request) is kind
    assert not isinstance(request, Statement) or len(request.text) == MAX_STATEMENT
    fake = table(THINGS, found.read)
    assert written(fake, found) == "done" and same_image(only(fake), image_after(found))


@pytest.mark.parametrize(("guarded", "kind"), [(149, Statement), (150, Call)])
def test_a_statement_has_at_most_300_operators(guarded: int, kind: type) -> None:
    """150 comparisons, the key's among them, and 149 times AND; the fake refuses what has more."""
    found = doubled(THINGS, wide(guarded, 4))
    request = Statements(THINGS).write(found)
    assert type(request) is kind
    fake = table(THINGS, found.read)
    assert sent(fake, request).outcome == "done" and same_image(only(fake), image_after(found))
    assert type(Statements(THINGS).write(Remove(found.key, found.read))) is kind
    assert type(Statements(THINGS, "changed").write(found)) is Statement


def test_an_absent_attribute_counts_as_an_operator_too() -> None:
    item = wide(148, 4)
    assert type(Statements(THINGS).write(update(THINGS, item, {**item, "new": 1}))) is Statement
    assert type(Statements(THINGS).write(update(THINGS, item, {**item, "new": 1, "newer": 2}))) is Call


@pytest.mark.parametrize("names", [149, 150, 400, 900])
def test_all_attributes_of_a_wide_item_are_compared(names: int) -> None:
    item = wide(names, 60)
    found = update(THINGS, item, {**{n: v for n, v in item.items() if "001" not in n}, "new": 1})
    fake = table(THINGS, found.read)
    assert written(fake, found) == "done" and same_image(only(fake), image_after(found))
    others = [theirs for _, theirs in intruders(found.read, THINGS)][:: names // 4]
    for theirs in (*others, {**found.read, "new": {"N": "0"}}):
        fake = table(THINGS, theirs)
        verdict = sent(fake, Statements(THINGS).write(found))
        assert verdict == Verdict("conflict", None, "The conditional request failed") and only(fake) == theirs
    assert written(table(THINGS), found) == "conflict"
    deletion = Remove(found.key, found.read)
    assert written(table(THINGS, found.read), deletion) == "done"
    assert written(table(THINGS, {**found.read, "000".ljust(60, "n"): {"N": "7"}}), deletion) == "conflict"
    assert written(table(THINGS), deletion) == "conflict"


def test_an_item_too_wide_for_a_transaction_has_a_hint() -> None:
    found = doubled(THINGS, wide(200, 4))
    move = Atomic(found.key, found.read, (found, insert(THINGS, {"id": "b"})))
    with pytest.raises(ItemError, match="401 of 300 operators") as caught:
        Statements(THINGS).write(move)
    assert 'GUARD = "changed"' in caught.value.hint
    fake = table(THINGS, found.read)
    assert written(fake, move, "changed") == "done" and len(fake.items) == 2


def test_an_undo_deletes_an_inserted_item_once() -> None:
    """Its row notes the deletion: an equal item that is put at the key later stays."""
    rows = InsertedRows("state", "run")
    made = insert(THINGS, {"id": "a", "n": 1})
    fake = FakeDynamoDB(THINGS, keys={"state": ("pk", "sk")})
    key = encode({"id": "b"})
    transaction = Atomic(key, key, (made,))
    assert sent(fake, Statements(THINGS, "item", rows).write(transaction)).outcome == "done"
    undo, deletion = Statements(THINGS, "changed", taken_back=rows), Remove(made.key, made.item)
    assert sent(fake, undo.write(deletion)).outcome == "done" and not fake.items
    fake.put({"id": "a", "n": 1})
    assert sent(fake, undo.write(deletion)).outcome == "conflict" and fake.items


def test_an_undo_inserts_an_item_once() -> None:
    """An item that the application deletes after that stays deleted."""
    undo = Statements(THINGS, "changed", InsertedRows("state", "run/undo"), taken_back=InsertedRows("state", "run"))
    fake, insertion = FakeDynamoDB(THINGS, keys={"state": ("pk", "sk")}), insert(THINGS, {"id": "a", "n": 1})
    assert sent(fake, undo.write(insertion)).outcome == "done" and fake.items
    fake.delete({"id": "a"})
    assert sent(fake, undo.write(insertion)).outcome == "conflict" and not fake.items


def test_an_undo_deletes_an_item_that_is_too_wide_for_a_transaction() -> None:
    key, read = doubled(THINGS, wide(200, 4))[:2]
    undo = Statements(THINGS, "changed", taken_back=InsertedRows("state", "run"))
    request = undo.write(Remove(key, read))
    assert sent(fake := table(THINGS, read), request).outcome == "done" and not fake.items


def test_the_hint_for_a_too_wide_item_does_not_suggest_a_guard_that_would_not_help() -> None:
    """A deletion compares all attributes with every guard; in a run on an export it is a transaction."""
    key, read = doubled(THINGS, wide(200, 4))[:2]
    deletion, move = Remove(key, read), Atomic(key, read, (insert(THINGS, {"id": "b"}), Remove(key, read)))
    for guard in GUARDS:
        statements = Statements(THINGS, guard, InsertedRows("state", "run"), meets_insertions=True)
        for written_as, told in ((deletion, "delete it by hand"), (move, "in one version")):
            with pytest.raises(ItemError, match="too many attributes") as caught:
                statements.write(written_as)
            assert told in caught.value.hint and not caught.value.hint.startswith("set GUARD")
    assert written(table(THINGS, read), deletion) == "done"


def test_an_expression_has_at_most_4096_bytes() -> None:
    new = {f"new{number}": number for number in range(140)}  # not too many operators, but wordy ones
    found = update(THINGS, {"id": "a"}, {"id": "a", **new})
    with pytest.raises(ItemError, match=r"of 4,096 bytes of its ConditionExpression") as caught:
        Statements(THINGS).write(Atomic(found.key, found.read, (found, insert(THINGS, {"id": "b"}))))
    assert "change fewer of its attributes" in caught.value.hint  # those that must be missing are named by either guard
    touched = update(THINGS, wide(140, 4), {name: -1 if name != "id" else "a" for name in wide(140, 4)})
    call = Statements(THINGS).write(Atomic(touched.key, touched.read, (touched,)))
    assert isinstance(call, Call)
    (action,) = call.body["TransactItems"]
    assert all(len(text) <= MAX_EXPRESSION for name, text in action["Update"].items() if name.endswith("Expression"))


def test_a_wide_insertion_is_a_put() -> None:
    item = wide(100, 100)
    request = Statements(THINGS).write(insert(THINGS, item))
    assert isinstance(request, Call) and request.operation == "PutItem"
    assert request.body["TableName"] == "things"
    fake = table(THINGS)
    assert [sent(fake, request).outcome for _ in range(2)] == ["done", "conflict"]
    assert only(fake) == encode(item)


@pytest.mark.parametrize("name", ["#x", ":x", "#", ":1"])
def test_an_attribute_name_like_a_placeholder_is_written_by_a_separate_call(name: str) -> None:
    item = {"id": "a", name: 1, "n": 1}
    found = update(THINGS, item, {**item, "n": 2})
    requests = [Statements(THINGS).write(one) for one in (found, insert(THINGS, item), Remove(found.key, found.read))]
    assert [request.operation for request in requests if isinstance(request, Call)] == [
        "UpdateItem", "PutItem", "DeleteItem",
    ]  # fmt: skip
    assert type(Statements(THINGS).write(update(THINGS, item, {**item, name + "y": 1}))) is Call


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"n": 1, "old": 2}, {"n": 1}),
        ({"n": 1}, {"n": 1, "a b": 2}),
        ({"n": 1}, {"n": 1, 'a"b': 2}),
        ({"n": 1}, {"n": 1, "naïve": 2}),
        ({"n": 1, "a b": 2}, {"n": 2, "a b": 2}),  # only guarded
        ({"n": 1}, {"n": 1, "end\n": 2}),
    ],
    ids=str,
)
def test_any_other_attribute_name_is_written_by_a_statement(before: Item, after: Item) -> None:
    found = update(THINGS, {"id": "a", **before}, {"id": "a", **after})
    assert type(Statements(THINGS).write(found)) is Statement
    fake = table(THINGS, found.read)
    assert written(fake, found) == "done" and same_image(only(fake), image_after(found))


# ---------------------------------------------------------------- what every call asks for


def calls() -> list[Any]:
    found = update(THINGS, {"id": "a", "#b": 1}, {"id": "a", "#b": 2})
    new = insert(THINGS, {"id": "b", "#b": 1})
    return [Statements(THINGS).write(one) for one in (found, new, Remove(found.key, found.read))]


@pytest.mark.parametrize("call", calls(), ids=lambda call: call.operation)
def test_a_call_requests_the_current_item_and_the_units(call: Call) -> None:
    assert call.body["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD"
    assert call.body["ReturnConsumedCapacity"] == "INDEXES"
    assert call.body["TableName"] == "things"
    assert orjson.loads(orjson.dumps(call.body)) == call.body
