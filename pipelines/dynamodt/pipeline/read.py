"""The readers of a table, an export, rows of `items()` and dead letters: split groups to pages of items.

A split of an export in S3 is a data file, and its cursor is a line number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from dynamodt.dynamodb.dynamo_data_transform import without_record
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.wire import Wire
from dynamodt.export.datafiles import Chunk, DataFile, DataReader, data_files, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import ExportFolder
from dynamodt.model.pages import Claim, DeadLetter, Page
from dynamodt.model.runs import DeadLetterSource, ExportSource, Job, RowsSource
from dynamodt.model.tables import Cursor, Image
from dynamodt.pipeline.author_output import begin
from dynamodt.pipeline.outcomes import dead_letters
from dynamodt.pipeline.own_writes import Foreign, InsertedItems, filter_of_inserted_items, inserted_items, keep_all
from dynamodt.pipeline.ownership import PendingPage, ReadPages, pages_in_turn, resumed_pages
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.signals import report_errors
from dynamodt.script.apply import check_same_rows, item_rows, row_image, table_of_rows
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of
from dynamodt.state.journal import ChangedItem

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources


class ScanSegments(ReadPages):
    """The items of scan segments. An item that exists from the scan's begin to its end is read at least once."""

    def setup(self) -> None:
        super().setup()
        job = self._job
        with report_errors(self._leases, job):
            self._wire = self._resources.wire(job.read_ahead)
        self._rate_limiter = rate_limiter_of(job, self._resources)
        self._reads = reads_of(self._wire, job, self._resources)
        self._executor = ThreadPoolExecutor(job.read_ahead, thread_name_prefix="scan")
        self._foreign = filter_of_inserted_items(self._wire, job, self._resources.sleep)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        return scan_pages(self._job, claims, self._reads, self._executor, self._rate_limiter.page_items, self._foreign)

    def teardown(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._wire.close()


class ReadRows(ReadPages):
    """The rows of the script's `items()`; for `down` only those that the run to roll back has inserted."""

    def setup(self) -> None:
        super().setup()
        begin(self._job.script, self._job.base_run, self._resources.output)
        with report_errors(self._leases, self._job):
            self._wire = self._resources.wire(1)
        self._inserted = inserted_items(self._wire, self._job, self._resources.sleep)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        job, source = self._job, self._job.source
        assert isinstance(source, RowsSource)
        for claim in claims:
            if source.checksum and (claim.page or claim.intent):
                table = table_of_rows(job.written_table, job.direction)
                check_same_rows(job.script, table, source.checksum)
            yield from map(self._inserted_only, row_pages(job, claim, item_rows(job.script)))

    def _inserted_only(self, page: Page) -> Page:
        return page if self._job.direction == "up" else inserted_only(self._job, page, self._inserted)

    def teardown(self) -> None:
        self._wire.close()


class ReadEarlierRows(ReadPages):
    """The rows that an earlier phase of a dry run adds by `items()`, from its script."""

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        for claim in claims:
            yield from row_pages(self._job, claim, item_rows(self._job.script))


class ReplayDeadLetters(ReadPages):
    """The current items of dead letters. An item that was deleted since is left out."""

    def setup(self) -> None:
        super().setup()
        self._storage = self._resources.storage()
        with report_errors(self._leases, self._job):
            self._wire = self._resources.wire(1)
        self._reads = reads_of(self._wire, self._job, self._resources)
        self._foreign = filter_of_inserted_items(self._wire, self._job, self._resources.sleep)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        assert isinstance(self._job.source, DeadLetterSource)
        source = dead_letters(self._storage, self._job.source.parts, self._job.source.left_out)
        for claim in claims:
            yield from replayed_pages(self._job, claim, source, self._reads, self._foreign)

    def teardown(self) -> None:
        self._wire.close()


def inserted_only(job: Job, page: Page, inserted: InsertedItems) -> Page:
    """The page without the rows that the run to roll back did not insert, since their items existed before."""
    table = job.written_table
    rows = inserted.rows_at([key_of(table, image) for image in page.images])
    images = [image for image in page.images if key_text(key_of(table, image)) in rows]
    return page._replace(images=images, not_inserted=len(page.images) - len(images))


def replayed_pages(
    job: Job, claim: Claim, source: Iterator[DeadLetter], reads: Reads, foreign: Foreign = keep_all
) -> Iterator[Page]:
    """Dead letters as pages of at most `job.page_items`, from the claim's position on."""
    without = without_record(job.table)

    def page(number: int, batch: list[DeadLetter], last: bool) -> Page:
        if job.inserts_rows:
            images, rcu = [dead_letter.image for dead_letter in batch], 0.0
        else:
            found = reads.items([dead_letter.key for dead_letter in batch])
            images, rcu = foreign(without(list(found.items.values()))), found.rcu
        return Page(claim, number, images, rcu, last=last, replayed=len(batch))

    return resumed_pages(job, claim, source, lambda dead_letter: dead_letter, page)


def reads_of(wire: Wire, job: Job, resources: Resources) -> Reads:
    """The reads of a job's table, within its budget."""
    rate_limiter = rate_limiter_of(job, resources)
    return Reads(
        wire, job.table, rate_queue=rate_limiter.reads, units=rate_limiter.read_estimate, sleep=rate_limiter.rest
    )


def scan_pages(
    job: Job,
    claims: Iterator[Claim],
    reads: Reads,
    executor: Executor,
    page_items: Callable[[int], int] = lambda most: most,
    foreign: Foreign = keep_all,
) -> Iterator[Page]:
    """The pages of some segments, in turn. `page_items` returns the size of the next page, given the largest; `foreign`
    leaves out items that the run has inserted itself."""
    without = without_record(job.table)

    def read(claim: Claim, number: int, cursor: Cursor | None, limit: int) -> Page:
        assert not isinstance(cursor, int)
        scanned = reads.scan(claim.split, job.splits, cursor, limit, job.consistent)
        images, last = foreign(without(scanned.images)), scanned.cursor is None
        return Page(claim, number, images, scanned.rcu, scanned.cursor, last=last, throttles=scanned.throttles)

    def fetch(claim: Claim, number: int, cursor: Cursor | None) -> PendingPage:
        return executor.submit(read, claim, number, cursor, page_items(job.page_items))

    return pages_in_turn(claims, fetch, job.read_ahead, max(job.in_turn, job.read_ahead))


def row_pages(job: Job, claim: Claim, rows: Iterable[dict[str, Any]]) -> Iterator[Page]:
    """Rows as pages of at most `job.page_items`, from the claim's position on. The position counts rows: `items()` must
    yield the same rows each time. Raises ScriptError for a row that the table cannot hold."""

    def page(number: int, images: list[Image], last: bool) -> Page:
        return Page(claim, number, images, last=last)

    table = table_of_rows(job.written_table, job.direction)
    return resumed_pages(job, claim, rows, partial(row_image, job.script, table), page)


Images = Iterator[Chunk[Image]]


class ReadExport(ReadPages):
    """The items of an export's data files. Reading them consumes no read units."""

    def setup(self) -> None:
        super().setup()
        job, source = self._job, self._job.source
        assert isinstance(source, ExportSource)
        self._rate_limiter = rate_limiter_of(job, self._resources)
        with report_errors(self._leases, job):
            self._objects = self._resources.objects(source)
            self._files = files_of(self._objects, source)
            self._wire = self._resources.wire(job.read_ahead)
        self._executor = ThreadPoolExecutor(job.read_ahead, thread_name_prefix="export")
        self._foreign = filter_of_inserted_items(self._wire, job, self._resources.sleep) if source.incremental else None

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        return export_pages(self._job, claims, self._images, self._executor)

    def _images(self, claim: Claim, cursor: int) -> Images:
        size = self._rate_limiter.page_items(self._job.page_items)
        reader = DataReader(self._objects, self._job.table, size=size)
        return images_of(self._job, reader, self._files[claim.split], cursor, self._foreign)

    def teardown(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._wire.close()


def files_of(objects: S3Objects, source: ExportSource) -> tuple[DataFile, ...]:
    """The data files of an export, checked against its manifests; a split is an index of this order. Raises as
    `read_manifest` and `data_files` do."""
    return data_files(objects, read_manifest(objects, ExportFolder(source.folder), source.table_arn))


def images_of(job: Job, reader: DataReader, file: DataFile, cursor: int, foreign: Foreign | None = None) -> Images:
    """The images of a file that the job transforms, without items that an incremental export shows as deleted, and
    without those that the run has inserted itself, which are not `foreign`."""
    source = job.source
    assert isinstance(source, ExportSource)
    if not source.incremental:
        return reader.items(file, cursor)
    wanted = _created(job) if source.created_only else lambda record: True
    foreign = foreign or (lambda images: images)
    return (
        Chunk(
            foreign([r.new for r in chunk.records if r.new is not None and wanted(r)]),
            chunk.bad,
            chunk.cursor,
            chunk.last,
            chunk.bytes,
        )
        for chunk in reader.changes(file, cursor)
    )


def _created(job: Job) -> Callable[[ChangedItem], bool]:
    """Whether an item was created in the export's period, and not by this run, which would have stamped it."""
    stamp, mark = job.script.stamp, {"S": job.base_run}

    def created(record: ChangedItem) -> bool:
        new = record.new or {}
        return record.old is None and (stamp is None or new.get(stamp) != mark)

    return created


def export_pages(
    job: Job, claims: Iterator[Claim], images: Callable[[Claim, int], Images], executor: Executor
) -> Iterator[Page]:
    """The pages of some data files, in turn: a file's items are in one partition, and several files spread the
    writes."""
    without = without_record(job.table)
    opened: dict[int, Images] = {}

    def read(claim: Claim, number: int, cursor: Cursor | None) -> Page:
        assert cursor is None or isinstance(cursor, int)
        if claim.split not in opened:
            opened[claim.split] = images(claim, cursor or 0)
        chunk = next(opened[claim.split])
        if chunk.last:
            del opened[claim.split]
        bad = tuple(DeadLetter({}, {}, "read", f"{one.file}, line {one.line}: {one.why}") for one in chunk.bad)
        found = without(chunk.records)
        return Page(claim, number, found, 0.0, chunk.cursor, last=chunk.last, unreadable=bad, bytes=chunk.bytes)

    def fetch(claim: Claim, number: int, cursor: Cursor | None) -> PendingPage:
        return executor.submit(read, claim, number, cursor)

    return pages_in_turn(claims, fetch, job.read_ahead, job.read_ahead)
