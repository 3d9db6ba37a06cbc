"""The laws of an undo for each item: the item before a run, its records, and later writes of others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.model.tables import Change, Image, Insert, Item, Journaled, KeyAttribute, Remove, TableSpec, Update
from dynamodt.pipeline.restoration import CHANGED, DELETED, NOTHING, TAKEN, Restoration, restoration
from dynamodt.script.codec import decode, encode, same_image
from dynamodt.script.diff import change, image_after, insert, key_of
from tests import strategies

THINGS = TableSpec("things", (KeyAttribute("id", "N"),))


def done(now: Image | None, what: Change | None) -> Image | None:
    """The item after a change whose guard holds."""
    if what is None:
        return now
    if isinstance(what, Insert):
        assert now is None, "an insertion onto an item"
        return what.item
    assert now is not None, "a change of nothing"
    if isinstance(what, Remove):
        assert same_image(what.read, now)
        return None
    assert isinstance(what, Update)
    return image_after(what._replace(read=now))


def restored(records: list[Journaled], now: Image | None, spec: TableSpec = THINGS) -> Image | None:
    return done(now, restoration(spec, records, now).change)


def update(before: Item, after: Item) -> Update:
    found = change(THINGS, encode(before), decode(encode(before)), after)
    assert isinstance(found, Update)
    return found


@st.composite
def runs(draw: st.DrawFn) -> tuple[TableSpec, Image | None, Journaled, Image | None]:
    """A table, an item before a run, the changes of the run to it, and the item after."""
    spec, before, after = draw(strategies.pairs())
    image = encode(before)
    kind = draw(st.sampled_from(["update", "insert", "remove"]))
    if kind == "insert":
        made = insert(spec, before)
        return spec, None, made, made.item
    if kind == "remove":
        return spec, image, Remove(key_of(spec, image), image), None
    found = change(spec, image, decode(image), after)
    assert found is None or isinstance(found, Update)
    record = found or Update(key_of(spec, image), image, {})
    return spec, image, record, image_after(record)


# ---------------------------------------------------------------- laws


@given(runs())
def test_without_other_writers_an_undo_restores_the_item(run: Any) -> None:
    spec, before, record, after = run
    found = restoration(spec, [record], after)
    assert (found.not_restored, found.why) == ((), "")
    assert restored([record], after, spec) == before


@given(runs())
def test_an_item_that_the_run_did_not_write_needs_no_change(run: Any) -> None:
    spec, before, record, _ = run
    found = restoration(spec, [record], before)
    assert found._replace(is_there=False) == NOTHING


@given(runs(), st.data())
def test_a_second_undo_changes_nothing(run: Any, data: st.DataObject) -> None:
    spec, _, record, after = run
    now = data.draw(st.none() | touched(spec, after))
    once = restored([record], now, spec)
    assert restored([record], once, spec) == once


def touched(spec: TableSpec, image: Image | None) -> st.SearchStrategy[Image]:
    """The item after others have set and removed some of its attributes."""
    if image is None:
        return strategies.images(spec)
    rest = sorted(name for name in image if name not in spec.key_names)
    names = st.sets(st.sampled_from(rest)) if rest else st.just(set[str]())
    more = strategies.attributes.map(encode)
    return st.builds(
        lambda gone, new: {
            n: v for n, v in {**image, **{k: new[k] for k in new if k not in spec.key_names}}.items() if n not in gone
        },
        names,
        more,
    )


@given(runs(), st.data())
def test_attributes_that_others_changed_are_never_written(run: Any, data: st.DataObject) -> None:
    spec, before, record, after = run
    now = data.draw(touched(spec, after))
    end = restored([record], now, spec)
    if isinstance(record, Update):
        assert end is not None
        for name in {**now, **end}:
            ours = name in record.sets or name in record.removes
            if now.get(name) != end.get(name):
                assert ours and now.get(name) == (after or {}).get(name) and end.get(name) == (before or {}).get(name)
    elif after is None or not same_image(now, after):
        assert end == now  # an insertion that was changed, and a key that is taken


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 5), st.data())
def test_of_several_records_only_one_that_the_item_shows_is_reverted(
    reads: list[int], value: int, data: st.DataObject
) -> None:
    """Each record adds 10 to what it read. An item is restored to what the record read that may have written its value,
    or it is not restored."""
    records: list[Journaled] = [update({"id": 1, "n": n}, {"id": 1, "n": n + 10}) for n in reads]
    now = encode({"id": 1, "n": value + data.draw(st.sampled_from([0, 10]))})
    end = restored(records, now)
    assert end is not None
    n = decode(now)["n"]
    assert decode(end)["n"] == (n - 10 if n - 10 == reads[-1] else n)


# ---------------------------------------------------------------- one by one

BEFORE: Item = {"id": 1, "name": "Ada L", "n": 1}
SPLIT = update(BEFORE, {"id": 1, "first": "Ada", "last": "L", "n": 1})


def test_each_attribute_is_judged_by_itself() -> None:
    now = encode({"id": 1, "first": "Ada", "last": "Byron", "n": 7, "new": True})
    found = restoration(THINGS, [SPLIT], now)
    back = Update(SPLIT.key, now, {"name": {"S": "Ada L"}}, ("first",))
    assert found == Restoration(back, ("last",), CHANGED, ("first", "name"))
    assert back.sets and restoration(THINGS, [SPLIT], image_after(back)) == found._replace(
        change=None, restored=("first", "name")
    )


def test_an_item_deleted_since_stays_deleted() -> None:
    assert restoration(THINGS, [SPLIT], None) == Restoration(None, (), DELETED)


def test_an_insertion_that_was_changed_stays() -> None:
    record = insert(THINGS, {"id": 1, "n": 1})
    now = encode({"id": 1, "n": 2, "m": 0})
    assert restoration(THINGS, [record], now) == Restoration(None, ("n", "m"), CHANGED)


def test_a_deletion_whose_key_is_taken_stays() -> None:
    image = encode(BEFORE)
    record = Remove({"id": {"N": "1"}}, image)
    assert restoration(THINGS, [record], encode({**BEFORE, "n": 2})) == Restoration(None, ("n",), TAKEN)


def test_numbers_are_equal_however_they_are_written() -> None:
    record = update({"id": 1, "n": 1}, {"id": 1, "n": 100})
    assert restored([record], {"id": {"N": "1"}, "n": {"N": "1E+2"}}) == encode({"id": 1, "n": 1})


def test_a_write_that_arrived_after_the_next_intent_is_reverted() -> None:
    """The first record arrived late, after the second was made from the very same values."""
    first = update(BEFORE, {**BEFORE, "tried": 1})
    second = update({**BEFORE, "note": "live"}, {**BEFORE, "note": "live", "tried": 2})
    for tried in (1, 2):
        now = encode({**BEFORE, "note": "live", "tried": tried})
        assert restored([first, second], now) == encode({**BEFORE, "note": "live"})
    assert restoration(THINGS, [first, second], encode({**BEFORE, "tried": 3})).not_restored == ("tried",)


def test_a_refused_write_is_not_mistaken_for_an_effective_one() -> None:
    """1 -> 11 was refused because of a live 5; 5 -> 15 took effect; then the application itself writes 11."""
    records: list[Journaled] = [update({"id": 1, "n": n}, {"id": 1, "n": n + 10}) for n in (1, 5)]
    assert restoration(THINGS, records, encode({"id": 1, "n": 11})) == Restoration(None, ("n",), CHANGED)


@pytest.mark.parametrize("now", [None, {"id": 1, "n": 1}])
def test_an_insertion_with_two_intents_is_reverted_once(now: Item | None) -> None:
    record = insert(THINGS, {"id": 1, "n": 1})
    assert restored([record, record], None if now is None else encode(now)) is None


def test_of_two_insertions_for_one_key_the_present_one_is_reverted() -> None:
    records: list[Journaled] = [insert(THINGS, {"id": 1, "n": n}) for n in (1, 2)]
    for n in (1, 2):
        assert restored(records, encode({"id": 1, "n": n})) is None
    assert restoration(THINGS, records, encode({"id": 1, "n": 3})).not_restored == ("n",)


def test_a_deletion_after_a_late_update_is_reverted() -> None:
    image = encode(BEFORE)
    records = [update(BEFORE, {**BEFORE, "n": 2}), Remove({"id": {"N": "1"}}, image)]
    assert restored(records, None) == image
    assert restored(records, encode({**BEFORE, "n": 2})) == image
