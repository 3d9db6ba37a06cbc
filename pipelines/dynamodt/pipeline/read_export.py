"""The reader of an export in S3: a data file is a split, and the number of a line its cursor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

from dynamodt.dynamodb.dynamo_data_transform import without_record
from dynamodt.dynamodb.records import BadLine, ChangedItem
from dynamodt.export.datafiles import Chunk, DataReader
from dynamodt.export.manifest import DataFile, data_files, read_manifest
from dynamodt.export.objects import S3Objects
from dynamodt.export.request import ExportFolder
from dynamodt.model.items import Cursor, Image
from dynamodt.model.pages import Claim, DeadLetter, Page
from dynamodt.model.runs import ExportSource, Job
from dynamodt.pipeline.inserted import Foreign, foreign_of
from dynamodt.pipeline.ownership import Coming, ReadPages, pages_in_turn
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.signals import reporting

Images = Iterator[Chunk[Image]]


class ReadExport(ReadPages):
    """The items of an export's data files. Reading them consumes no read units."""

    def setup(self) -> None:
        super().setup()
        job, source = self._job, self._job.source
        assert isinstance(source, ExportSource)
        self._rate_limiter = rate_limiter_of(job, self._resources)
        with reporting(self._leases, job):
            self._objects = self._resources.objects(source.bucket)
            self._files = files_of(self._objects, source)
            self._wire = self._resources.wire(job.read_ahead)
        self._executor = ThreadPoolExecutor(job.read_ahead, thread_name_prefix="export")
        self._foreign = foreign_of(self._wire, job, self._resources) if source.incremental else None

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
    """The images of a file that the job transforms. Left out are items that an incremental export shows as deleted, and
    those that the run has inserted itself, which are not `foreign`."""
    source = job.source
    assert isinstance(source, ExportSource)
    if not source.incremental:
        return reader.items(file, cursor)
    wanted = _created(job) if source.created_only else _there
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


def _there(record: ChangedItem) -> bool:
    return True


def _created(job: Job) -> Callable[[ChangedItem], bool]:
    """Whether an item was created in the window of the export, and not by this run, which would have stamped it."""
    stamp, mark = job.script.stamp, {"S": job.base_run}

    def created(record: ChangedItem) -> bool:
        new = record.new or {}
        return record.old is None and (stamp is None or new.get(stamp) != mark)

    return created


def export_pages(
    job: Job, claims: Iterator[Claim], images: Callable[[Claim, int], Images], executor: Executor
) -> Iterator[Page]:
    """The pages of some data files, in turn: a file is of one partition, and several together spread the writes."""
    without = without_record(job.table)
    opened: dict[int, Images] = {}

    def read(claim: Claim, number: int, cursor: Cursor | None) -> Page:
        assert cursor is None or isinstance(cursor, int)
        if claim.split not in opened:
            opened[claim.split] = images(claim, cursor or 0)
        chunk = next(opened[claim.split])
        if chunk.last:
            del opened[claim.split]
        bad = tuple(map(_unreadable, chunk.bad))
        found = without(chunk.records)
        return Page(claim, number, found, 0.0, chunk.cursor, last=chunk.last, unreadable=bad, bytes=chunk.bytes)

    def fetch(claim: Claim, number: int, cursor: Cursor | None) -> Coming:
        return executor.submit(read, claim, number, cursor)

    return pages_in_turn(claims, fetch, job.read_ahead, job.read_ahead)


def _unreadable(line: BadLine) -> DeadLetter:
    return DeadLetter({}, {}, "read", f"{line.file}, line {line.line}: {line.why}")
