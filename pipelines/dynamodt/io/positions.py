"""Where the reading of a scan segment is: the restriction of a splittable DoFn, and its tracker.

A page is claimed after it was read and before its items are output, by where the next one starts. So a split leaves the
claimed pages to the primary, and the residual starts at that cursor; a page that is read, and not claimed, is read
again by the residual. A segment cannot be divided elsewhere: DynamoDB gives no key between two cursors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from dynamodt.model.tables import Image


class Position(NamedTuple):
    """The end of a page: where the next one starts (None: the segment's end), and how many items it has evaluated."""

    cursor: Image | None
    items: int


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """A part of a segment: from `cursor` (None: its beginning) to `stop` (None: its end), which lies `items` evaluated
    items further on. 0 items: nothing. `expected` is how many it has, by the table's description."""

    cursor: Image | None = None
    stop: Image | None = None
    items: int | None = None
    expected: float = 0.0

    def ends_at(self, cursor: Image | None) -> bool:
        """Whether a page that ends here is the last."""
        return cursor is None or cursor == self.stop


class PageTracker(RestrictionTracker):
    """Claims the pages of a part of a segment, in their order."""

    def __init__(self, part: SegmentPart) -> None:
        self._part = part
        self._cursor = part.cursor
        self._items = 0
        self._done = part.items == 0

    def current_restriction(self) -> SegmentPart:
        return self._part

    def current_progress(self) -> RestrictionProgress:
        left = max(1.0, (self._part.items or self._part.expected) - self._items)
        return RestrictionProgress(completed=self._items, remaining=0.0 if self._done else left)

    def try_claim(self, position: Position) -> bool:
        if self._done:
            return False
        self._cursor = position.cursor
        self._items += position.items
        self._done = self._part.ends_at(position.cursor)
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[SegmentPart, SegmentPart] | None:
        """At 0, a checkpoint, what is not claimed is the residual. No other fraction can be split off."""
        if self._done or fraction_of_remainder > 0:
            return None
        part, items = self._part, self._items
        left = None if part.items is None else max(1, part.items - items)
        residual = replace(part, cursor=self._cursor, items=left, expected=max(0.0, part.expected - items))
        self._part = replace(part, stop=self._cursor, items=items, expected=float(items))
        self._done = True
        return self._part, residual

    def check_done(self) -> bool:
        if not self._done:
            raise ValueError(f"the segment was not read to its end: {self._items} items from {self._part}")
        return True

    def is_bounded(self) -> bool:
        return True


class SegmentParts(RestrictionProvider):
    """A segment as a whole at first."""

    def initial_restriction(self, element: Any) -> SegmentPart:
        return SegmentPart(expected=element.items)

    def create_tracker(self, restriction: SegmentPart) -> PageTracker:
        return PageTracker(restriction)

    def restriction_size(self, element: Any, restriction: SegmentPart) -> float:
        """Its bytes, in proportion to its items."""
        if not element.items:
            return 1.0
        items = restriction.expected if restriction.items is None else restriction.items
        return max(1.0, float(element.bytes * items / element.items))


class LineTracker(OffsetRestrictionTracker):
    """Claims lines of a file up to a number of them; where that crosses the stop, those before it."""

    def __init__(self, lines: OffsetRange) -> None:
        super().__init__(lines)
        self._claimed = lines.start

    def try_claim(self, end: int) -> bool:
        stop = min(end, self.current_restriction().stop)
        if stop <= self._claimed:
            return False
        self._claimed = stop
        return bool(super().try_claim(stop - 1))


class FileLines(RestrictionProvider):
    """The lines of a data file of an export; it may be split between any two that are not claimed."""

    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, element.file.items)

    def create_tracker(self, restriction: OffsetRange) -> LineTracker:
        return LineTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return max(1, restriction.size())
