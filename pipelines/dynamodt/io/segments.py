"""The request of a read of DynamoDB, its segments, and the position of the reading in one.

A request is checked when a pipeline is built, and split into segments on a worker. A part of a segment is the
restriction of a splittable DoFn. A page is claimed after it was read and before its items are output, by the start of
the next one. A split leaves the claimed pages to the primary, and the residual starts at that cursor; a page that is
read, and not claimed, is read again by the residual. DynamoDB gives no key between two cursors to divide a segment at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from dynamodt.dynamodb.reads import projected, segments
from dynamodt.dynamodb.table import index_capacity
from dynamodt.errors import UsageError
from dynamodt.io.connector import Endpoint, check_table
from dynamodt.model.tables import Image, name_in_requests
from dynamodt.script.codec import encode_value

if TYPE_CHECKING:
    from boto3.dynamodb.conditions import ConditionBase

MOST_SEGMENTS = 1_000_000  # DynamoDB's
_CONDITION = 'Attr("age").gt(3) of boto3.dynamodb.conditions, or filter="age > :least" with filter_values={":least": 3}'


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A table to read, as an element of `ReadAllFromDynamoDB`. A field that is None has the transform's value."""

    table: str
    index: str | None = None
    projection: Sequence[str] | None = None
    segments: int | None = None

    @classmethod
    def of(cls, element: Any, where: str) -> ReadRequest:
        """The request of an element: a table's name or ARN, a ReadRequest, or a row or a dict with the same fields.
        Raises UsageError for anything else."""
        if isinstance(element, cls):
            check_table(element.table, where)
            return element
        if isinstance(element, str):
            return cls(check_table(element, where))
        fields = element if isinstance(element, Mapping) else getattr(element, "_asdict", lambda: None)()
        hint = "give a table's name, or a ReadRequest: table, index, projection, segments"
        if not isinstance(fields, Mapping) or "table" not in fields:
            raise UsageError(f"an element of type {type(element).__name__} names no table", where=where, hint=hint)
        if unknown := sorted(set(fields) - {field.name for field in dataclass_fields(cls)}):
            raise UsageError(f"an element has the unknown field {unknown[0]!r}", where=where, hint=hint)
        check_table(fields["table"], where)
        return cls(**fields)


class Segment(NamedTuple):
    """A segment to scan. `body` are the parameters of its Scan, `item_units` the read units of an item, `items` and
    `bytes` its expected size, `keys` the table's key attributes."""

    table: str
    body: dict[str, Any]
    number: int
    total: int
    item_units: float = 0.0
    items: float = 0.0
    bytes: float = 0.0
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options for reading tables. `filter` has the request parameters of a filter."""

    endpoint: Endpoint = Endpoint()
    segments: int | None = None
    projection: tuple[str, ...] | None = None
    filter: tuple[tuple[str, Any], ...] = ()
    index: str | None = None
    consistent: bool = False

    def body(self, request: ReadRequest, where: str) -> dict[str, Any]:
        """The parameters of the table's Scan. Raises UsageError for an invalid projection."""
        body: dict[str, Any] = {"TableName": name_in_requests(request.table), "ConsistentRead": self.consistent}
        index = request.index or self.index
        if index:
            body["IndexName"] = index
        body.update(self.filter)
        if request.projection is not None or self.projection is not None:
            found = projected(request.projection or self.projection or (), where)
            names = {**found["ExpressionAttributeNames"], **body.get("ExpressionAttributeNames", {})}
            body.update(found, ExpressionAttributeNames=names)
        return body

    def segments_of(self, request: ReadRequest) -> Iterator[Segment]:
        """The segments of a table, by its description. Raises UsageError for an index that does not exist; ServiceError
        for a table that does not exist, or that the worker may not describe."""
        where = f"table {request.table}"
        spec = self.endpoint.describe(request.table)
        index = check_index(request.index, where) or self.index
        if index:
            index_capacity(self.endpoint.connection(request.table), spec, index, where)
        total = check_segments(self.segments if request.segments is None else request.segments, where) or segments(spec)
        body, units = self.body(request, where), spec.item_units(self.consistent)
        items, size = spec.item_count / total, spec.size_bytes / total
        for number in range(total):
            yield Segment(request.table, body, number, total, units, items, size, spec.key_names)


def check_segments(number: int | Decimal | None, where: str) -> int | None:
    """Raises UsageError for a number of segments that DynamoDB does not accept."""
    if isinstance(number, Decimal) and number == number.to_integral_value():  # of an item that was read
        number = int(number)
    if number is not None and not (type(number) is int and 1 <= number <= MOST_SEGMENTS):
        hint = "leave segments out, and it is chosen by the table's size; or give 1 to 1,000,000"
        raise UsageError(f"segments is {number!r}", where=where, hint=hint)
    return number


def check_index(index: str | None, where: str) -> str | None:
    """Raises UsageError for anything but a name: with an empty one, the table would be read."""
    if index is not None and not (isinstance(index, str) and index):
        raise UsageError(f"index is {index!r}", where=where, hint="give an index's name, or leave index out")
    return index


def filter_parameters(
    given: ConditionBase | str | None, names: Mapping[str, str] | None, values: Mapping[str, Any] | None, where: str
) -> tuple[tuple[str, Any], ...]:
    """The parameters of a request for a filter: boto3's condition, or the text of an expression with its names and
    values. Raises UsageError for anything else, ItemError for a value that DynamoDB does not have."""
    if given is None or isinstance(given, str):
        return _text_parameters(given, names or {}, values or {}, where)
    from boto3.dynamodb.conditions import ConditionBase, ConditionExpressionBuilder

    if not isinstance(given, ConditionBase):
        raise UsageError(f"filter is of type {type(given).__name__}", where=where, hint=f"give {_CONDITION}")
    if names or values:
        hint = "leave them out, since a condition has its own; they are for a filter that is given as a text"
        raise UsageError("filter_names and filter_values are given with a condition", where=where, hint=hint)
    built = ConditionExpressionBuilder().build_expression(given)
    return _text_parameters(
        built.condition_expression, built.attribute_name_placeholders, built.attribute_value_placeholders, where
    )


def _text_parameters(
    text: str | None, names: Mapping[str, str], values: Mapping[str, Any], where: str
) -> tuple[tuple[str, Any], ...]:
    if not text:
        if text is not None or names or values:
            raise UsageError(
                "filter_names or filter_values is given without a filter", where=where, hint=f"give {_CONDITION}"
            )
        return ()
    for placeholder, sign in [*((name, "#") for name in names), *((value, ":") for value in values)]:
        if not (isinstance(placeholder, str) and placeholder.startswith(sign) and placeholder[1:2].strip("0123456789")):
            hint = 'names are {"#n": "name"}, values {":least": 3}: a letter comes after the sign'
            raise UsageError(f"filter has the placeholder {placeholder!r}", where=where, hint=hint)
    encoded: Image = {name: encode_value(value, name) for name, value in values.items()}
    found: dict[str, Any] = {
        "FilterExpression": text,
        "ExpressionAttributeNames": dict(names),
        "ExpressionAttributeValues": encoded,
    }
    return tuple((name, part) for name, part in found.items() if part)


# ---------------------------------------------------------------- the position in a segment


class Position(NamedTuple):
    """The end of a page: the start of the next one (None: the segment's end), and the number of evaluated items."""

    cursor: Image | None
    items: int


@dataclass(frozen=True, slots=True)
class SegmentPart:
    """A part of a segment: from `cursor` (None: the segment's beginning) to `stop` (None: its end), `items` evaluated
    items later. 0 items: nothing. `expected` is the number of items by the table's description."""

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
        """Splits at 0, a checkpoint: the pages that are not claimed are the residual. No other fraction can be split
        off."""
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
    """The restriction of a segment, at first the whole segment."""

    def initial_restriction(self, element: Any) -> SegmentPart:
        return SegmentPart(expected=element.items)

    def create_tracker(self, restriction: SegmentPart) -> PageTracker:
        return PageTracker(restriction)

    def restriction_size(self, element: Any, restriction: SegmentPart) -> float:
        """The bytes of the part, in proportion to its items."""
        if not element.items:
            return 1.0
        items = restriction.expected if restriction.items is None else restriction.items
        return max(1.0, float(element.bytes * items / element.items))
