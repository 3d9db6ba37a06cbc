"""The record of dynamo-data-transform: distinguished from the application's items, and read as that tool writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.dynamodb.dynamo_data_transform import PastRun, read_record, record_key, without_record
from dynamodt.errors import Refused
from dynamodt.model.tables import Image, Item, KeyAttribute, TableSpec
from dynamodt.script.codec import encode
from dynamodt.state.runs import next_status, unfinished

NAME = "DataTransformations"
PAIR = TableSpec("users", (KeyAttribute("pk", "S"), KeyAttribute("sk", "S")))
BEGIN = datetime(2023, 5, 4, 8, 15, 30, 123000, tzinfo=UTC)


class Predecessor:
    """A model of how that tool changes its record: `up` and `down` write as its two functions do."""

    def __init__(self) -> None:
        self.record: Item = {"pk": NAME, "sk": NAME}
        self.runs: list[PastRun] = []

    def up(self, transformed: int) -> None:
        state = self.record.get("executionState", [])
        version = max(state, default=0) + 1
        self._put([*state, version], PastRun(version, "up", self._moment(), transformed))

    def down(self) -> None:
        state = self.record.get("executionState", [])
        if state:
            self._put([n for n in state if n != max(state)], PastRun(max(state), "down", self._moment(), 0))

    def _moment(self) -> datetime:
        return BEGIN + timedelta(milliseconds=len(self.runs))

    def _put(self, state: list[int], run: PastRun) -> None:
        self.runs.append(run)
        entry: Item = {"transformationNumber": run.version, "executedCommand": run.direction}
        if run.direction == "up":
            entry["transformed"] = run.transformed
        name = run.ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")  # JavaScript's toISOString
        history = {**self.record.get("TransformationsRunHistory", {}), name: entry}
        self.record = {**self.record, "executionState": state, "TransformationsRunHistory": history}


def record(**changes: Any) -> Image:
    tool = Predecessor()
    tool.up(5)
    return {**encode(tool.record), **changes}


# ---------------------------------------------------------------- reading


@given(
    st.lists(st.one_of(st.just("down"), st.integers(0, 10**6)), min_size=1),
    st.dictionaries(st.text(min_size=1), st.text()),
)
def test_a_record_of_any_history_is_read_as_it_was_written(commands: list[str | int], more: Item) -> None:
    tool = Predecessor()
    tool.up(0)
    for command in commands:
        tool.up(command) if isinstance(command, int) else tool.down()
    past = read_record(encode({**more, **tool.record}), "users")
    assert list(past.versions) == tool.record["executionState"]
    assert list(past.runs) == tool.runs


def test_a_version_listed_twice_counts_once() -> None:
    numbers = {"L": [{"N": "2"}, {"N": "1"}, {"N": "2"}]}
    assert read_record(record(executionState=numbers), "users").versions == (1, 2)


def test_versions_without_a_history_are_read() -> None:
    image = record()
    del image["TransformationsRunHistory"]
    past = read_record(image, "users")
    assert (past.versions, past.runs) == ((1,), ())


ENTRY = {"transformationNumber": {"N": "1"}, "executedCommand": {"S": "up"}}


@pytest.mark.parametrize(
    "odd",
    [
        {"executionState": {"S": "1"}},
        {"executionState": {"NS": ["1"]}},
        {"executionState": {"L": [{"S": "1"}]}},
        {"executionState": {"L": [{"N": "1.5"}]}},
        {"executionState": {"L": [{"N": "0"}]}},
        {"TransformationsRunHistory": {"L": []}},
        {"TransformationsRunHistory": {"M": {"yesterday": {"M": ENTRY}}}},
        {"TransformationsRunHistory": {"M": {"2023-05-04T08:15:30.123": {"M": ENTRY}}}},
        {"TransformationsRunHistory": {"M": {"2023-05-04T08:15:30Z": {"S": "up"}}}},
        {"TransformationsRunHistory": {"M": {"2023-05-04T08:15:30Z": {"M": {**ENTRY, "executedCommand": {"S": "x"}}}}}},
        {"TransformationsRunHistory": {"M": {"2023-05-04T08:15:30Z": {"M": {**ENTRY, "transformed": {"N": "-1"}}}}}},
    ],
    ids=str,
)
def test_a_record_of_odd_shape_is_refused(odd: Image) -> None:
    with pytest.raises(Refused) as raised:
        read_record(record(**odd), "users")
    assert next(iter(odd)) in raised.value.what
    assert (raised.value.where, "dynamodt stamp --table users" in raised.value.hint) == ("table users", True)
    assert "yesterday" not in str(raised.value)


def test_a_record_without_its_state_is_refused() -> None:
    with pytest.raises(Refused, match="executionState"):
        read_record({"pk": {"S": NAME}, "sk": {"S": NAME}}, "users")


# ---------------------------------------------------------------- telling it from the application's items


@pytest.mark.parametrize("kinds", ["N", "B", "SN", "NS"])
def test_a_key_that_is_not_of_strings_holds_no_record(kinds: str) -> None:
    spec = TableSpec("users", tuple(KeyAttribute(f"k{n}", kind) for n, kind in enumerate(kinds)))
    images = [{name: {"S": NAME} for name in spec.key_names} | {"executionState": {"L": []}}]
    assert record_key(spec) is None
    assert without_record(spec)(images) == images


values = st.sampled_from([NAME, "u1", "DataTransformation", ""])
items = st.fixed_dictionaries(
    {"pk": values, "sk": values}, optional={"executionState": st.just([1]), "note": st.just(NAME)}
)


@given(st.lists(items))
def test_only_the_record_is_skipped(found: list[Item]) -> None:
    kept = [item for item in found if not (item["pk"] == item["sk"] == NAME and "executionState" in item)]
    assert without_record(PAIR)([encode(item) for item in found]) == [encode(item) for item in kept]


# ---------------------------------------------------------------- what becomes of it


@pytest.mark.parametrize(("event", "status"), [("stamp", "stamped"), ("adopt", "adopted")])
def test_a_recorded_stamp_or_import_is_an_ended_run(event: str, status: str) -> None:
    assert next_status("", event) == status
    assert not unfinished(status)
    for more in ("begin", "continue", "fail", "stop", "stamp", "adopt"):
        with pytest.raises(Refused):
            next_status(status, more)
