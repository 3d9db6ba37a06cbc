"""Splits within a scan segment and within a file of an export: no item is lost, and none is read twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apache_beam.io.restriction_trackers import OffsetRange

from dynamodt.dynamodb.reads import Scans, UnlimitedQueue
from dynamodt.export.datafiles import Chunk
from dynamodt.io.export import LineTracker, until
from dynamodt.io.read import PageMetrics, pages
from dynamodt.io.segments import PageTracker, Position, Segment, SegmentPart
from dynamodt.model.tables import Image, KeyAttribute, TableSpec
from dynamodt.state.journal import UnreadableLine
from tests.fakes import FakeDynamoDB, numbers

pytestmark = pytest.mark.unit

TABLE = TableSpec("things", (KeyAttribute("id", "N"),))


def table(items: int = 23) -> FakeDynamoDB:
    fake = FakeDynamoDB(TABLE)
    fake.put(*numbers(items))
    return fake


def read(
    fake: FakeDynamoDB, part: SegmentPart, split_after: int | None = None
) -> tuple[list[Image], list[SegmentPart]]:
    """The items of a part of the only segment, and the remaining part if it is split after some pages."""
    scans = Scans(fake, {"TableName": "things", "ConsistentRead": False}, "here", UnlimitedQueue(), float)  # type: ignore[arg-type]
    tracker, found, left = PageTracker(part), list[Image](), list[SegmentPart]()

    def split(number: int) -> None:
        if number == split_after and (pair := tracker.try_split(0)):
            assert pair[0] == tracker.current_restriction()
            left.append(pair[1])

    split(0)
    for number, page in enumerate(pages(scans, Segment("things", {}, 0, 1), part, PageMetrics()), start=1):
        if not tracker.try_claim(Position(page.cursor, page.evaluated)):
            break
        found += page.images
        split(number)
    tracker.check_done()
    return found, [*left, tracker.current_restriction()]


@pytest.mark.parametrize("split_after", range(7))
def test_after_a_split_at_any_page_each_item_is_in_one_part(split_after: int) -> None:
    fake = table()
    found, parts = read(fake, SegmentPart(), split_after)
    everything, _ = read(fake, SegmentPart())
    assert len(everything) == 23
    rest = read(fake, parts[0])[0] if len(parts) == 2 else []
    assert found + rest == everything
    again, _ = read(fake, parts[-1])  # the primary, in a bundle that the runner repeats
    assert again == found


def test_parts_of_parts_and_a_repeated_part_read_each_item_once() -> None:
    fake, due, found = table(60), [SegmentPart()], list[Image]()
    while due:
        images, parts = read(fake, due.pop(), 2)
        found += images
        due += parts[:-1]
        fake.page = 3  # a repeated read meets other pages
        assert read(fake, parts[-1])[0] == images
        fake.page = 5
    assert found == read(fake, SegmentPart())[0]


def test_a_part_whose_last_item_was_deleted_is_read_to_its_end() -> None:
    fake = table()
    found, parts = read(fake, SegmentPart(), 2)
    last = parts[-1].stop
    assert last is not None
    fake.items = {text: image for text, image in fake.items.items() if image["id"] != last["id"]}
    again, _ = read(fake, parts[-1])
    assert {image["id"]["N"] for image in again} >= {image["id"]["N"] for image in found} - {last["id"]["N"]}


def test_only_a_checkpoint_splits_and_unread_pages_are_reported() -> None:
    tracker = PageTracker(SegmentPart(expected=10.0))
    assert tracker.try_split(0.5) is None
    assert tracker.try_claim(Position({"id": {"N": "4"}}, 4))
    assert tracker.current_progress().completed_work == 4 and tracker.current_progress().remaining_work == 6
    with pytest.raises(ValueError, match="not read to its end"):
        tracker.check_done()
    assert tracker.try_claim(Position(None, 2)) and not tracker.try_claim(Position(None, 0))
    assert tracker.check_done() and tracker.try_split(0) is None


CHUNKS = [Chunk([1, 3], [UnreadableLine("f", 2, "no")], 3, False), Chunk([4], [UnreadableLine("f", 5, "no")], 5, False)]
CHUNKS.append(Chunk([6, 7, 8], [], 8, True))


def lines(part: OffsetRange, fraction: float | None, split_after: int) -> tuple[list[int], list[OffsetRange]]:
    tracker, found, left, start = LineTracker(part), list[int](), list[OffsetRange](), part.start

    def split() -> None:
        if fraction is not None and (pair := tracker.try_split(fraction)):
            left.append(pair[1])

    for number, chunk in enumerate(_from(part.start)):
        if number == split_after:
            split()
        if not tracker.try_claim(chunk.cursor):
            break
        records, bad = until(chunk, start, min(chunk.cursor, tracker.current_restriction().stop))
        found += [*records, *(one.line for one in bad)]
        start = chunk.cursor
    tracker.check_done()
    return found, left


def _from(start: int) -> Iterator[Chunk[Any]]:
    """The lines after some, in chunks of at most three."""
    for begin in range(start, 8, 3):
        some = range(begin + 1, min(begin + 3, 8) + 1)
        bad = [UnreadableLine("f", line, "no") for line in some if line in (2, 5)]
        yield Chunk([line for line in some if line not in (2, 5)], bad, some[-1], some[-1] == 8)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("split_after", range(4))
def test_a_file_may_be_split_between_any_lines(fraction: float, split_after: int) -> None:
    found, due = lines(OffsetRange(0, 8), fraction, split_after)
    while due:
        more, left = lines(due.pop(), None, 0)
        found, due = found + more, due + left
    assert sorted(found) == list(range(1, 9))
