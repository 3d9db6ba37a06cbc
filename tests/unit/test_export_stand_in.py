"""The reader reads what the stand-in writes: every item and every change, in AWS's layout."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamodt.errors import Refused, UsageError
from dynamodt.export.datafiles import DataReader, data_files, read_manifest
from dynamodt.export.request import COMPLETED, IN_PROGRESS, Export, ExportRequest, find, folder_of, folders
from dynamodt.export.stand_in import StandInExports
from dynamodt.model.tables import Image, Item, KeyAttribute, TableSpec
from dynamodt.script.codec import decode, key_text
from dynamodt.script.diff import key_of
from dynamodt.state.journal import ChangedItem
from tests.fake_objects import FakeObjects
from tests.fakes import FakeDynamoDB
from tests.strategies import items, tables

THINGS = TableSpec("things", (KeyAttribute("id", "S"),))


class Stage:
    """A table, a bucket and a clock, with the stand-in between them."""

    def __init__(self, spec: TableSpec = THINGS, objects: FakeObjects | None = None) -> None:
        self.table = FakeDynamoDB(spec)
        self.objects = objects or FakeObjects()
        self.now = 1_700_000_000.0
        self.table_id = "i-1"
        self.exports = StandInExports(self, self.table, self.objects, "bucket", "p/q", self._clock)

    def _clock(self) -> float:
        self.now += 1
        return self.now

    def describe_table(self, TableName: str) -> dict[str, Any]:  # noqa: N803
        return {"Table": {"TableArn": f"arn:aws:dynamodb:local:0:table/{TableName}", "TableId": self.table_id}}

    def request(self, token: str, **more: Any) -> Export:
        return self.exports.request(ExportRequest(self.table.spec, token, **more))

    def items(self, export: Export) -> dict[str, Image]:
        manifest = read_manifest(self.objects, folder_of(export), export.table_arn)
        reader = DataReader(self.objects, self.table.spec, size=3)
        files = data_files(self.objects, manifest)
        found = [image for file in files for chunk in reader.items(file) for image in chunk.records]
        assert len(found) == export.items == manifest.items
        return {key_text(key_of(self.table.spec, image)): image for image in found}

    def changes(self, export: Export) -> dict[str, ChangedItem]:
        manifest = read_manifest(self.objects, folder_of(export), export.table_arn)
        reader = DataReader(self.objects, self.table.spec)
        files = data_files(self.objects, manifest)
        found = [change for file in files for chunk in reader.changes(file) for change in chunk.records]
        assert len(found) == export.items
        return {key_text(change.key): change for change in found}


@st.composite
def populations(draw: st.DrawFn) -> tuple[TableSpec, list[Item], list[Item]]:
    """A table with its items at two moments, some of them the same."""
    spec = draw(tables())
    before = draw(st.lists(items(spec), max_size=6))
    kept = [item for item in before if draw(st.booleans())]
    return spec, before, kept + draw(st.lists(items(spec), max_size=4))


@given(population=populations())
def test_a_written_export_is_read_unchanged(population: tuple[TableSpec, list[Item], list[Item]]) -> None:
    spec, before, after = population
    stage = Stage(spec)
    stage.table.put(*before)
    full = stage.request("one")
    old = stage.items(full)
    assert sorted(map(repr, map(decode, old.values()))) == sorted(map(repr, map(decode, stage.table.items.values())))
    stage.table.items.clear()
    stage.table.put(*after)
    changes = stage.changes(stage.request("two", since=full.at))
    new = stage.items(stage.request("three"))
    for text in old.keys() | new.keys():
        if text in changes:
            assert (changes[text].old, changes[text].new) == (old.get(text), new.get(text))
            assert text not in old or text not in new or decode(old[text]) != decode(new[text])
        else:
            assert decode(old[text]) == decode(new[text])


KEYS = st.sampled_from("abcde")
BATCHES = st.lists(st.dictionaries(KEYS, st.none() | st.integers(0, 2), max_size=4), max_size=5)  # None: delete it


def changed_in(stage: Stage, batch: dict[str, int | None]) -> set[str]:
    """Apply a batch; returns the keys of the items that were changed, inserted or deleted."""
    before = {key: dict(image) for key, image in stage.table.items.items()}
    for key, value in batch.items():
        stage.table.items.pop(text_of(key), None)
        if value is not None:
            stage.table.put({"id": key, "value": value})
    after = stage.table.items
    return {text for text in before.keys() | after.keys() if before.get(text) != after.get(text)}


def text_of(key: str) -> str:
    return key_text({"id": {"S": key}})


def replay(items: dict[str, Image], window: dict[str, ChangedItem]) -> None:
    for text, change in window.items():
        assert items.pop(text, None) == change.old
        if change.new is not None:
            items[text] = change.new


@given(first=st.dictionaries(KEYS, st.integers(0, 2)), batches=BATCHES, another=st.integers(0, 5))
def test_incremental_exports_follow_each_other_without_a_gap(
    first: dict[str, int | None], batches: list[dict[str, int | None]], another: int
) -> None:
    """Each shows exactly the changes since the one before, and together they lead from the full export to the table.
    `another` full export in between does not affect this."""
    stage = Stage()
    changed_in(stage, first)
    full = stage.request("full")
    items, end = stage.items(full), full.at
    for number, batch in enumerate(batches):
        changed = changed_in(stage, batch)
        window = stage.request(f"window {number}", since=end)
        shown = stage.changes(window)
        assert shown.keys() == changed
        assert window.since == end
        replay(items, shown)
        assert items == stage.table.items
        end = window.until
        if number == another:
            stage.request("another")


def test_an_incremental_export_may_begin_at_any_time_after_a_known_end() -> None:
    stage = Stage()
    full = stage.request("full")
    stage.table.put({"id": "a"})
    first = stage.request("first", since=full.at)
    assert full.at is not None and first.until is not None
    stage.table.put({"id": "b"})
    early = stage.request("early", since=full.at + (first.until - full.at) / 2)
    assert early.since == full.at and early.until is not None
    assert stage.changes(early).keys() == {text_of("a"), text_of("b")}
    stage.table.put({"id": "c"})
    late = stage.request("late", since=early.until + timedelta(days=1))
    assert late.since == early.until
    assert stage.changes(late).keys() == {text_of("c")}
    again = stage.request("again", since=first.until)  # by another, from a base that was used before
    assert again.since == first.until
    assert stage.changes(again).keys() == {text_of("b"), text_of("c")}


def test_an_incremental_export_killed_before_its_manifest_is_written_again() -> None:
    stage = Stage()
    full = stage.request("full")
    stage.table.put({"id": "a"})
    window = stage.request("window", since=full.at)
    del stage.objects.content[window.manifest]  # it is written last
    stage.table.put({"id": "b"})
    again = stage.request("window", since=full.at)
    assert stage.changes(again).keys() == {text_of("a"), text_of("b")}
    assert again.until is not None and window.until is not None and again.until > window.until
    stage.table.put({"id": "c"})
    assert stage.changes(stage.request("next", since=again.until)).keys() == {text_of("c")}


class WritesMeanwhile(FakeObjects):
    """Each object that is stored here triggers a write of a new item to the table."""

    stage: Stage

    def write(self, key: str, data: bytes) -> str:
        self.stage.table.put({"id": f"m{len(self.content)}"})
        return super().write(key, data)


def test_an_item_written_during_an_export_is_in_one_incremental_export() -> None:
    stage = Stage(objects=WritesMeanwhile())
    stage.objects.stage = stage
    full = stage.request("full")
    items, end = stage.items(full), full.at
    for number in range(3):
        window = stage.request(f"window {number}", since=end)
        replay(items, stage.changes(window))  # asserts that none comes twice
        end = window.until
    last = len(stage.table.items) - len(items)
    stage.objects = stage.exports.objects = FakeObjects(stage.objects.content)
    replay(items, stage.changes(stage.request("quiet", since=end)))
    assert last and items == stage.table.items


def test_bases_are_not_listed_as_exports() -> None:
    stage = Stage()
    full = stage.request("full")
    window = stage.request("window", since=full.at)
    assert [folder.id for folder in folders(stage.objects, "p/q")] == [full.id, window.id]
    stage.table_id = "i-2"  # deleted, and created anew: the window's base is of the table before
    with pytest.raises(Refused, match="earlier full one"):
        stage.request("next", since=window.until)


def test_the_layout_of_the_stand_in_is_aws_s() -> None:
    stage = Stage()
    stage.table.put({"id": "a"}, {"id": "b"})
    export = stage.request("one")
    root = f"p/q/AWSDynamoDB/{export.id}"
    names = ["_started", *(f"manifest-{name}.{kind}" for name in ("files", "summary") for kind in ("json", "md5"))]
    found = {key for key in stage.objects.content if "/data/" not in key}
    assert found == {f"{root}/{name}" for name in names}
    data = [key for key in stage.objects.content if key.startswith(f"{root}/data/")]
    assert len(data) == 4 and all(key.endswith(".json.gz") for key in data)  # some of them empty
    assert find(stage.objects, "p/q") == folder_of(export)
    assert (export.status, export.kind, export.items, export.bucket) == (COMPLETED, "full", 2, "bucket")
    assert export.at == datetime.fromtimestamp(1_700_000_002, UTC)


def test_incremental_exports_share_their_data_folder() -> None:
    stage = Stage()
    full = stage.request("one")
    stage.table.put({"id": "a"})
    export = stage.request("two", since=full.at)
    assert (export.kind, export.since, export.items) == ("incremental", full.at, 1)
    assert sum(key.startswith("p/q/AWSDynamoDB/data/") for key in stage.objects.content) == 4


def test_an_empty_table() -> None:
    stage = Stage()
    export = stage.request("one")
    assert export.items == 0 and stage.items(export) == {}
    assert stage.changes(stage.request("two", since=export.at)) == {}


def test_a_repeated_token_returns_the_same_export() -> None:
    stage = Stage()
    stage.table.put({"id": "a"})
    first = stage.request("one")
    stage.table.put({"id": "b"})
    assert stage.request("one") == first == stage.exports.describe(first.arn)
    assert stage.request("two").items == 2
    with pytest.raises(Refused, match="token") as caught:
        stage.request("one", since=first.at)
    assert caught.value.where == first.arn


def test_a_killed_export_is_written_again_with_its_token() -> None:
    stage = Stage()
    stage.table.put({"id": "a"})
    first = stage.request("one")
    del stage.objects.content[first.manifest]  # it is written last
    assert stage.exports.describe(first.arn).status == IN_PROGRESS
    stage.table.put({"id": "b"})
    again = stage.request("one")
    assert (again.arn, again.status, again.items) == (first.arn, COMPLETED, 2)
    assert len(stage.items(again)) == 2


def test_an_incremental_export_needs_a_full_one_of_the_same_table() -> None:
    stage = Stage()
    full = stage.request("one")
    assert full.at is not None
    too_early = full.at.replace(year=2000)
    with pytest.raises(Refused, match="earlier full one") as caught:
        stage.request("two", since=too_early)
    assert caught.value.where == "s3://bucket/p/q" and "full export first" in caught.value.hint
    stage.table_id = "i-2"  # deleted, and created anew
    with pytest.raises(Refused, match="earlier full one"):
        stage.request("three", since=full.at)


def test_an_export_of_a_past_time_is_refused() -> None:
    stage = Stage()
    for moment in ({"at": datetime.now(UTC)}, {"until": datetime.now(UTC)}):
        with pytest.raises(Refused, match="no point in time"):
            stage.request("one", **moment)
    assert not stage.objects.content


def test_an_unknown_arn_is_an_error() -> None:
    stage = Stage()
    export = stage.request("one")
    with pytest.raises(UsageError, match="no such export"):
        stage.exports.describe(export.arn + "0")
    other = replace(export, arn=export.arn.replace("things", "others"))
    with pytest.raises(UsageError, match="another table") as caught:
        stage.exports.describe(other.arn)
    assert caught.value.where == f"s3://bucket/{export.manifest}"
