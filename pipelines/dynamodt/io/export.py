"""`ReadFromDynamoDBExport` and `ReadAllFromDynamoDBExport`: exports in S3, for any pipeline.

::

    exports ── find, verify the manifests, list the files ── Reshuffle ── read lines ──▶ items
               ExportFile                                                 splittable   └▶ unreadable lines

Reading an export takes no read units. `export.datafiles` describes how a file is verified.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, get_args

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.transforms.core import RestrictionProvider

from dynamodt.errors import Refused, UsageError
from dynamodt.export.datafiles import Chunk, DataFile, DataReader, Manifest, data_files, read_manifest
from dynamodt.export.request import FAILED, check_arn, describe_export, failure, find, folder_of, split_url
from dynamodt.io.connector import METRICS, Connector, Endpoint, check_begin, in_full, no_such_output
from dynamodt.io.read import ItemForm
from dynamodt.io.rows import Schema
from dynamodt.model.tables import Image, Item, TableSpec
from dynamodt.pipeline.process import reduce_collections
from dynamodt.state.journal import ChangedItem, UnreadableLine

View: TypeAlias = Literal["new", "new_and_old"]
_UNREADABLE, _ITEMS = "unreadable", "items"
_NO_KEY = TableSpec("", ())  # an export alone does not show the table's key
_FORMS = "give s3://BUCKET/PREFIX, the folder of an export or its manifest, or the ARN of an export"

_LOG = logging.getLogger(__name__)


class ExportChange(NamedTuple):
    """The change of an item in an incremental export: without `old` it was inserted, without `new` deleted."""

    key: Item
    new: Item | None
    old: Item | None


class ExportItems(NamedTuple):
    """The two outputs of reading an export."""

    items: Any
    unreadable: Any

    def __getattr__(self, name: str) -> NoReturn:
        no_such_output(self, name)


class ExportFile(NamedTuple):
    """A data file that is listed in a verified manifest."""

    bucket: str
    region: str
    owner: str
    incremental: bool
    file: DataFile


@dataclass(kw_only=True, eq=False, repr=False)
class ReadAllFromDynamoDBExport(Connector):
    """The items of the exports of a PCollection: places in S3 and ARNs. Otherwise as `ReadFromDynamoDBExport`."""

    view: View = "new"
    raw: bool = False
    schema: Any = None

    @in_full()
    def __post_init__(self) -> None:
        super().__post_init__()
        if self.view not in get_args(View):
            raise UsageError(f"view is {self.view!r}", where=self._where, hint='give "new" or "new_and_old"')
        if self.schema is not None and (self.raw or self.view != "new"):
            hint = "leave schema out; the images of a change are dicts"
            raise UsageError('a schema is for view="new" without raw', where=self._where, hint=hint)
        self._form = ItemForm(self.raw, None if self.schema is None else Schema(self.schema))

    def expand(self, pcoll: Any) -> ExportItems:
        element = self._form.element_type if self.view == "new" else ExportChange
        read = (
            pcoll
            | "List files" >> beam.ParDo(_ListFiles(self._endpoint, self.view)).with_output_types(ExportFile)
            | "Spread" >> beam.Reshuffle()
            | "Read lines"
            >> beam.ParDo(_ReadFiles(self._endpoint, self.view, self._form)).with_outputs(_UNREADABLE, main=_ITEMS)
        )
        read[_ITEMS].element_type, read[_UNREADABLE].element_type = element, UnreadableLine
        return ExportItems(read[_ITEMS], read[_UNREADABLE])

    def display_data(self) -> dict[str, Any]:
        shown = {**self._endpoint.shown(), "view": self.view}
        return {name: value for name, value in shown.items() if value is not None}


@dataclass(kw_only=True, eq=False, repr=False)
class ReadFromDynamoDBExport(ReadAllFromDynamoDBExport):
    """The items of a full or an incremental export in S3, in two outputs: `items`, and `unreadable` lines.

    ::

        found = pipeline | ReadFromDynamoDBExport("s3://bucket/exports/AWSDynamoDB/01234567890123-a1b2c3d4")
        found.items | ...        # dicts with boto3's types, binary as `bytes`
        found.unreadable | ...   # UnreadableLine(file, line, why)

    The manifests are verified against their checksums, and each data file against its manifest: a file that is missing,
    damaged or replaced fails the pipeline.

    Args:
      export: `s3://bucket/prefix`, where there is one export at or below it, or an export's ARN.
      view: "new": the items, of an incremental export those that were written. "new_and_old": an `ExportChange` for
        each item of an incremental export that was written or deleted.
      raw: images, DynamoDB's JSON, in place of dicts.
      schema: a NamedTuple type, or pairs of names and types: elements are rows.
      region, endpoint_url, profile: where the bucket is, and the table of an ARN; by default as the worker's
        environment has it.

    Raises UsageError at construction for what is no place of an export. On a worker, UsageError where there is none,
    Refused for an export that is unfinished, in Ion, or without what `view` needs, and RunFailed for a damaged one.
    """

    export: str = field(kw_only=False)

    @in_full()
    def __post_init__(self) -> None:
        super().__post_init__()
        _check_export(self.export, self._where)

    @in_full()
    def expand(self, pbegin: Any) -> ExportItems:
        check_begin(pbegin, self)
        return super().expand(pbegin | "Export" >> beam.Create([self.export], reshuffle=False))

    def display_data(self) -> dict[str, Any]:
        return {"export": self.export, **super().display_data()}


def _check_export(export: Any, where: str) -> str:
    """Raises UsageError for anything but a place in S3 or an export's ARN."""
    if not isinstance(export, str) or not export.startswith(("s3://", "arn:")):
        raise UsageError(f"{export!r} names no export", where=where, hint=_FORMS)
    if export.startswith("arn:"):
        check_arn(export, (export.split(":") + [""] * 4)[3])
    else:
        split_url(export)
    return export


class _ListFiles(beam.DoFn):
    """The data files of each export, once its manifests are verified."""

    def __init__(self, endpoint: Endpoint, view: View) -> None:
        self._endpoint = endpoint
        self._view = view

    def process(self, element: Any) -> Iterator[ExportFile]:
        with in_full():
            export = _check_export(element, "ReadAllFromDynamoDBExport")
            at, manifest, files = self._found(export)
            if self._view != "new":
                _check_has_old(manifest, export)
            for file in files:
                yield at._replace(incremental=manifest.kind == "incremental", file=file)

    def _found(self, export: str) -> tuple[ExportFile, Manifest, tuple[DataFile, ...]]:
        region = owner = ""
        if export.startswith("arn:"):
            region = export.split(":")[3]
            found = describe_export(self._endpoint.dynamodb(region), export)
            if found.status == FAILED:
                raise failure(found)
            bucket, owner = found.bucket, found.owner
            prefix = folder_of(found).key
        else:
            bucket, prefix = split_url(export)
        objects = self._endpoint.objects(bucket, region, owner)
        manifest = read_manifest(objects, find(objects, prefix))
        nothing = DataFile("", 0, b"", "")
        return ExportFile(bucket, region, owner, False, nothing), manifest, data_files(objects, manifest)


def _check_has_old(manifest: Manifest, export: str) -> None:
    """Raises Refused for an export without old images."""
    hint = 'read it with view="new", or export the table incrementally, with new and old images'
    if manifest.kind == "full":
        raise Refused("is a full export, which has no old images", where=export, hint=hint)
    if manifest.view == "NEW_IMAGE":
        raise Refused("is an export of new images only", where=export, hint=hint)


class LineTracker(OffsetRestrictionTracker):
    """Claims lines of a file up to a number; if that exceeds the stop, only the lines before it."""

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


class _ReadFiles(beam.DoFn):
    """The items of data files, and their unreadable lines."""

    def __init__(self, endpoint: Endpoint, view: View, form: ItemForm) -> None:
        self._endpoint = endpoint
        self._view = view
        self._form = form

    def setup(self) -> None:
        reduce_collections()
        self._items = Metrics.counter(METRICS, "items_read")
        self._unreadable = Metrics.counter(METRICS, "unreadable_lines")
        self._bytes = Metrics.counter(METRICS, "bytes_read")

    def process(
        self, file: ExportFile, tracker: RestrictionProvider = beam.DoFn.RestrictionParam(FileLines())
    ) -> Iterator[Any]:
        with in_full():
            objects = self._endpoint.objects(file.bucket, file.region, file.owner)
            made = self._reader(objects.place(file.file.key), file.incremental)
            reader, start = DataReader(objects, _NO_KEY), tracker.current_restriction().start
            chunks: Iterator[Chunk[Any]] = (reader.changes if file.incremental else reader.items)(file.file, start)
            for chunk in chunks:
                if chunk.cursor > start and not tracker.try_claim(chunk.cursor):
                    return
                stop = tracker.current_restriction().stop
                records, bad = until(chunk, start, min(chunk.cursor, stop))
                self._bytes.inc(chunk.bytes)
                self._unreadable.inc(len(bad))
                yield from map(_log_unreadable, bad)
                found = [element for element in map(made, records) if element is not None]
                self._items.inc(len(found))
                yield from found
                start = chunk.cursor
                if start >= stop and stop < file.file.items:
                    return

    def _reader(self, where: str, incremental: bool) -> Callable[[Any], Any]:
        """The function that makes an element from a record; it returns None for a record that the view leaves out."""
        made = self._form.reader(where)
        if not incremental:
            return made
        if self._view == "new":
            return lambda change: None if change.new is None else made(change.new)
        return partial(_change, made)


def _change(made: Callable[[Image], Item], change: ChangedItem) -> ExportChange:
    new, old = change.new, change.old
    return ExportChange(made(change.key), None if new is None else made(new), None if old is None else made(old))


def _log_unreadable(bad: UnreadableLine) -> beam.pvalue.TaggedOutput:
    _LOG.warning("%s, line %s is unreadable: %s", bad.file, bad.line, bad.why)
    return beam.pvalue.TaggedOutput(_UNREADABLE, bad)


def until(chunk: Chunk[Any], start: int, end: int) -> tuple[list[Any], list[UnreadableLine]]:
    """The records and the unreadable lines of a chunk that begins after line `start`, up to the line `end`."""
    if end >= chunk.cursor:
        return chunk.records, chunk.bad
    bad = [line for line in chunk.bad if line.line <= end]
    return chunk.records[: max(0, end - start - len(bad))], bad
