"""The readers of a table, of rows of `items()` and of dead letters: split groups to pages of items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from dynamodt.dynamodb.dynamo_data_transform import without_record
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.wire import Wire
from dynamodt.model.items import Cursor, Image
from dynamodt.model.pages import Claim, DeadLetter, Page
from dynamodt.model.runs import DeadLetterSource, Job, RowsSource
from dynamodt.pipeline.inserted import Foreign, InsertedItems, all_of, foreign_of, inserted_items
from dynamodt.pipeline.outcomes import dead_letters
from dynamodt.pipeline.ownership import Coming, ReadPages, pages_in_turn, resumed_pages
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.signals import reporting
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of
from dynamodt.script.rows import check_same_rows, item_rows, row_image

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources


class ScanSegments(ReadPages):
    """The items of scan segments. An item that exists from the scan's begin to its end is read at least once."""

    def setup(self) -> None:
        super().setup()
        job = self._job
        with reporting(self._leases, job):
            self._wire = self._resources.wire(job.read_ahead)
        self._rate_limiter = rate_limiter_of(job, self._resources)
        self._reads = reads_of(self._wire, job, self._resources)
        self._executor = ThreadPoolExecutor(job.read_ahead, thread_name_prefix="scan")
        self._foreign = foreign_of(self._wire, job, self._resources)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        return scan_pages(self._job, claims, self._reads, self._executor, self._rate_limiter.page_items, self._foreign)

    def teardown(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._wire.close()


class ReadRows(ReadPages):
    """The rows of the script's `items()`; on the way down those that the run to take back has inserted."""

    def setup(self) -> None:
        super().setup()
        with reporting(self._leases, self._job):
            self._wire = self._resources.wire(1)
        self._inserted = inserted_items(self._wire, self._job, self._resources.sleep)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        job, source = self._job, self._job.source
        assert isinstance(source, RowsSource)
        for claim in claims:
            if source.checksum and (claim.page or claim.intent):
                check_same_rows(job.script, job.target or job.table, source.checksum)
            yield from map(self._inserted_only, row_pages(job, claim, item_rows(job.script)))

    def _inserted_only(self, page: Page) -> Page:
        return page if self._job.direction == "up" else inserted_only(self._job, page, self._inserted)

    def teardown(self) -> None:
        self._wire.close()


class ReplayDeadLetters(ReadPages):
    """The current items of dead letters. An item that was deleted since is left out."""

    def setup(self) -> None:
        super().setup()
        self._storage = self._resources.storage()
        with reporting(self._leases, self._job):
            self._wire = self._resources.wire(1)
        self._reads = reads_of(self._wire, self._job, self._resources)
        self._foreign = foreign_of(self._wire, self._job, self._resources)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        assert isinstance(self._job.source, DeadLetterSource)
        source = dead_letters(self._storage, self._job.source.parts)
        for claim in claims:
            yield from replayed_pages(self._job, claim, source, self._reads, self._foreign)

    def teardown(self) -> None:
        self._wire.close()


def inserted_only(job: Job, page: Page, inserted: InsertedItems) -> Page:
    """The page without rows that the run to take back did not insert: their items were there before."""
    table = job.target or job.table
    rows = inserted.of([key_of(table, image) for image in page.images])
    images = [image for image in page.images if key_text(key_of(table, image)) in rows]
    return page._replace(images=images, not_inserted=len(page.images) - len(images))


def replayed_pages(
    job: Job, claim: Claim, source: Iterator[DeadLetter], reads: Reads, foreign: Foreign = all_of
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
        wire, job.table, rate_queue=rate_limiter.reads, units=rate_limiter.read_estimate, sleep=resources.sleep
    )


def scan_pages(
    job: Job,
    claims: Iterator[Claim],
    reads: Reads,
    executor: Executor,
    page_items: Callable[[int], int] = lambda most: most,
    foreign: Foreign = all_of,
) -> Iterator[Page]:
    """The pages of some segments, in turn. `page_items` returns the size of the next page, given the largest; `foreign`
    leaves out items that the run has inserted itself."""
    without = without_record(job.table)

    def read(claim: Claim, number: int, cursor: Cursor | None, limit: int) -> Page:
        assert not isinstance(cursor, int)
        scanned = reads.scan(claim.split, job.splits, cursor, limit, job.consistent)
        images, last = foreign(without(scanned.images)), scanned.cursor is None
        return Page(claim, number, images, scanned.rcu, scanned.cursor, last=last, throttles=scanned.throttles)

    def fetch(claim: Claim, number: int, cursor: Cursor | None) -> Coming:
        return executor.submit(read, claim, number, cursor, page_items(job.page_items))

    return pages_in_turn(claims, fetch, job.read_ahead, max(job.in_turn, job.read_ahead))


def row_pages(job: Job, claim: Claim, rows: Iterable[dict[str, Any]]) -> Iterator[Page]:
    """Rows as pages of at most `job.page_items`, from the claim's position on, which counts rows: `items()` must yield
    the same rows each time. Raises ScriptError for a row that the table cannot hold."""

    def page(number: int, images: list[Image], last: bool) -> Page:
        return Page(claim, number, images, last=last)

    return resumed_pages(job, claim, rows, partial(row_image, job.script, job.target or job.table), page)
