"""`ReadFromDynamoDB` and `ReadAllFromDynamoDB`: scans of tables and indexes, for any pipeline.

::

    tables ── describe, split into segments ── Reshuffle ── read pages ──▶ items
              Segment                                       splittable: `segments`

A segment is scanned in order, page by page, with the next page requested while the items of one are processed: two
pages of at most 1 MB are in memory. A runner that checkpoints resumes inside a segment, at a page's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider

from dynamodt.dynamodb.reads import ScanPage, Scans, projected
from dynamodt.errors import ItemError, UsageError
from dynamodt.io.connector import (
    METRICS,
    Budget,
    Connector,
    Endpoint,
    UnitCounter,
    check_begin,
    check_flag,
    check_table,
    in_full,
)
from dynamodt.io.rows import Schema
from dynamodt.io.segments import (
    Position,
    ReadOptions,
    ReadRequest,
    Segment,
    SegmentPart,
    SegmentParts,
    check_index,
    check_segments,
    filter_parameters,
)
from dynamodt.model.tables import Image
from dynamodt.pipeline.process import reduce_collections
from dynamodt.script.codec import decode

if TYPE_CHECKING:
    from boto3.dynamodb.conditions import ConditionBase


@dataclass(kw_only=True, eq=False, repr=False)
class ReadAllFromDynamoDB(Connector):
    """The items of the tables in a PCollection of names, ARNs, `ReadRequest`s, or rows with their fields.

    Otherwise as `ReadFromDynamoDB`, with the same arguments.
    """

    segments: int | None = None
    projection: Sequence[str] | None = None
    filter: ConditionBase | str | None = None
    filter_names: Mapping[str, str] | None = None
    filter_values: Mapping[str, Any] | None = None
    index: str | None = None
    consistent: bool = False
    max_rcu: float | None = None
    processes: int | None = None
    raw: bool = False
    schema: Any = None

    @in_full()
    def __post_init__(self) -> None:
        super().__post_init__()
        where = self._where
        if self.projection is not None:
            projected(self.projection, where)
        self._options = ReadOptions(
            self._endpoint,
            check_segments(self.segments, where),
            None if self.projection is None else tuple(self.projection),
            filter_parameters(self.filter, self.filter_names, self.filter_values, where),
            check_index(self.index, where),
            check_flag("consistent", self.consistent, where),
        )
        if check_flag("raw", self.raw, where) and self.schema is not None:
            raise UsageError("raw and schema exclude each other", where=where, hint="leave one of them out")
        self._form = ItemForm(self.raw, None if self.schema is None else Schema(self.schema))
        self._budget = Budget.of("max_rcu", self.max_rcu, self.processes, where)

    @in_full()
    def expand(self, pcoll: Any) -> Any:
        reader = _ReadSegments(self._endpoint, self._form, self._budget.on(pcoll.pipeline, self._where))
        return (
            pcoll
            | "Split into segments" >> beam.ParDo(_SplitTables(self._options, self._where)).with_output_types(Segment)
            | "Spread" >> beam.Reshuffle()
            | "Read pages" >> beam.ParDo(reader).with_output_types(self._form.element_type)
        )

    def display_data(self) -> dict[str, Any]:
        options = self._options
        shown = {
            **self._endpoint.shown(),
            "index": options.index,
            "segments": options.segments,
            "projection": None if options.projection is None else ", ".join(options.projection),
            "filter": dict(options.filter).get("FilterExpression"),
            "consistent": options.consistent,
            "raw": self._form.raw,
            **self._budget.shown("max_rcu"),
        }
        return {name: value for name, value in shown.items() if value is not None}


@dataclass(kw_only=True, eq=False, repr=False)
class ReadFromDynamoDB(ReadAllFromDynamoDB):
    """The items of a table or of one of its indexes, as dicts with boto3's types, binary as `bytes`.

    A bounded read that costs what a Scan costs. Each item that exists from the read's begin to its end is read at least
    once; without writes in between, and without a bundle that the runner repeats, exactly once.

    Args:
      table: the table's name, or its ARN where it is in another account or region.
      segments: how many parts the table is read in; by default one for about 64 MB.
      projection: the attributes to read, or paths within them: `["id", "address.city"]`.
      filter: which items to read: a condition of boto3, such as `Attr("age").gt(3)`, or the text of an expression,
        with `filter_names` and `filter_values`. DynamoDB charges for the items that it leaves out, too.
      index: the index to read in place of the table.
      consistent: strongly consistent reads, at twice the cost. A global index has none.
      max_rcu: the most read units a second, over all `processes`; by default as many as the table gives.
      processes: the runner's worker processes, each of which has an equal part of `max_rcu`; known of Beam's
        in-process runner, and needed on any other.
      raw: elements are images, DynamoDB's JSON: `{"id": {"S": "u1"}}`.
      schema: a NamedTuple type, or pairs of names and types: elements are rows.
      region, endpoint_url, profile: where the table is; by default as the worker's environment has it.

    Raises UsageError at construction for what can be known there. On a worker, ServiceError for a table that does not
    exist or that may not be read, and UsageError for an index that does not exist.
    """

    table: str = field(kw_only=False)

    @in_full()
    def __post_init__(self) -> None:
        super().__post_init__()
        check_table(self.table, self._where)

    @in_full()
    def expand(self, pbegin: Any) -> Any:
        check_begin(pbegin, self)
        return super().expand(pbegin | "Table" >> beam.Create([self.table], reshuffle=False))

    def display_data(self) -> dict[str, Any]:
        return {"table": self.table, **super().display_data()}


class ItemForm:
    """The form of elements: images, dicts, or rows of a schema."""

    def __init__(self, raw: bool = False, schema: Schema | None = None) -> None:
        self.raw = raw
        self._schema = schema

    @property
    def element_type(self) -> Any:
        return dict[str, Any] if self._schema is None else self._schema.element_type

    def reader(self, where: str, keys: Sequence[str] = ()) -> Callable[[Image], Any]:
        """The function that makes an element from an image. It raises ItemError at `where`, with the item's key, if the
        item does not match the schema."""
        if self.raw:
            return lambda image: image
        if self._schema is None:
            return decode
        row = self._schema.reader()

        def checked(image: Image) -> Any:
            item = decode(image)
            try:
                return row(item)
            except ItemError as error:
                key = {name: item[name] for name in keys if name in item}
                item_place = f"{where}, item {key}" if key else where  # an export does not show the key
                raise error.hinted(error.hint, where=f"{item_place}, attribute {error.where}") from error

        return checked


class _SplitTables(beam.DoFn):
    """The segments of each table."""

    def __init__(self, options: ReadOptions, where: str) -> None:
        self._options = options
        self._where = where

    def process(self, element: Any) -> Iterator[Segment]:
        with in_full():
            request = ReadRequest.of(element, self._where)
            if request.projection is not None:
                projected(request.projection, self._where)
            yield from self._options.segments_of(request)


class _ReadSegments(beam.DoFn):
    """The items of segments."""

    def __init__(self, endpoint: Endpoint, form: ItemForm, budget: Budget) -> None:
        self._endpoint = endpoint
        self._form = form
        self._budget = budget

    def setup(self) -> None:
        reduce_collections()  # a page is many small objects: scanning them took twice the CPU of everything else
        self._metrics = PageMetrics()

    def process(
        self, segment: Segment, tracker: RestrictionProvider = beam.DoFn.RestrictionParam(SegmentParts())
    ) -> Iterator[Any]:
        with in_full():
            where = f"table {segment.table}"
            made = self._form.reader(where, segment.keys)
            units = segment.item_units
            scans = Scans(
                self._endpoint.wire(segment.table),
                segment.body,
                where,
                self._budget.queue(),
                lambda items: items * units,
            )
            with closing(pages(scans, segment, tracker.current_restriction(), self._metrics)) as found:
                for page in found:
                    if not tracker.try_claim(Position(page.cursor, page.evaluated)):
                        return
                    self._metrics.read(len(page.images))
                    yield from map(made, page.images)


def pages(scans: Scans, segment: Segment, part: SegmentPart, metrics: PageMetrics) -> Generator[ScanPage, None, None]:
    """The pages of a part of a segment; the next one is requested before one is yielded.

    A part with a `stop` was read up to it before: pages of no more than its items end at the same cursor, unless the
    table was written in between. In that case it is read further, at most to the segment's end, and items may be read
    twice.
    """
    if part.items == 0:
        return
    left = part.items or 0
    coming: list[Callable[[], ScanPage]] = []

    def send(cursor: Image | None) -> None:
        most = scans.page_items()
        limit = most if left <= 0 else left if most is None else min(most, left)
        coming.append(scans.begin(segment.number, segment.total, cursor, limit))

    try:
        send(part.cursor)
        while coming:
            begun = time.monotonic()
            page = coming.pop()()
            metrics.page(page, time.monotonic() - begun)
            left -= page.evaluated
            if not part.ends_at(page.cursor):
                send(page.cursor)
            yield page
    finally:
        scans.close(coming)


class PageMetrics:
    """The metrics of pages, in the namespace `dynamodt.io`."""

    def __init__(self) -> None:
        self._items = Metrics.counter(METRICS, "items_read")
        self._pages = Metrics.counter(METRICS, "pages_read")
        self._units = UnitCounter("read_units")
        self._throttles = Metrics.counter(METRICS, "read_throttles")
        self._sizes = Metrics.distribution(METRICS, "read_page_items")
        self._latency = Metrics.distribution(METRICS, "read_latency_ms")

    def page(self, page: ScanPage, seconds: float) -> None:
        """Count a page that was received after a wait of `seconds`."""
        self._units.add(page.rcu)
        self._pages.inc()
        self._throttles.inc(page.throttles)
        self._latency.update(round(1000 * seconds))

    def read(self, items: int) -> None:
        """Count the output items of a page."""
        self._items.inc(items)
        self._sizes.update(items)
