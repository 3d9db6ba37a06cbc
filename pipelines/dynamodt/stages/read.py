"""ReadItems: lanes of segments to pages of items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count, islice
from random import Random
from typing import Any, NamedTuple, Protocol, TypeVar

import apache_beam as beam

from dynamodt.aws.batch import Caller
from dynamodt.aws.reads import Reads, ScanPage
from dynamodt.aws.resources import Resources
from dynamodt.core.diff import insert
from dynamodt.core.predecessor import without_record
from dynamodt.core.script import item_rows
from dynamodt.errors import ItemError, ScriptError
from dynamodt.model import Claim, DeadLetter, Image, Job, Page
from dynamodt.stages.deadletters import letters
from dynamodt.stages.governor import governor_of
from dynamodt.stages.signals import Signal, reporting

Lane = tuple[int, ...]  # the units that one worker reads, in this order

Row = TypeVar("Row")
Taken = TypeVar("Taken")


class Scanner(Protocol):
    """What `aws.reads.Reads` offers, and a test's fake must."""

    def scan(self, segment: int, total: int, cursor: Image | None, limit: int, consistent: bool) -> ScanPage: ...


def lanes(job: Job) -> list[Lane]:
    """The job's units, shuffled over its lanes.

    One segment follows the hash order, so that at any moment it meets one partition (1,000 WCU/s). Neighbouring
    segments meet the same one; shuffled, a lane's segments are spread over the table. The run's id is the seed: the
    same run has the same lanes wherever it is planned.
    """
    units = list(range(job.units))
    Random(job.run).shuffle(units)
    return [tuple(units[lane :: job.lanes]) for lane in range(min(job.lanes, job.units))]


class ReadItems(beam.PTransform[Any, Any]):
    """Lanes to Pages. Every item that is in the table from the scan's begin to its end is read at least once."""

    def __init__(self, job: Job, resources: Resources) -> None:
        super().__init__()
        self._job = job
        self._resources = resources

    def expand(self, lanes: beam.PCollection[Lane]) -> beam.PCollection[Page]:
        """Own rows come from the script, all others from the table."""
        read = _reader(self._job)(self._job, self._resources)
        return lanes | "Read pages" >> beam.ParDo(read).with_output_types(Page)


def _reader(job: Job) -> type[ReadPages]:
    if job.letters:
        return _ReplayLetters
    return _ReadOwnItems if job.own_items else _ScanSegments


class ReadPages(beam.DoFn):
    """Reads a lane's units from where their rows say they stand, until the run is stopped. `_pages` says how."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        state = self._resources.state()
        self._leases = state.leases
        self._units = state.units(self._job.run)

    def process(self, lane: Lane) -> Iterator[Any]:
        signal = Signal(self._leases, self._job, sleep=self._resources.sleep)
        with reporting(self._leases, self._job):
            for page in self._pages(self._claims(lane)):
                if signal.stopping():
                    return
                yield page

    def _claims(self, lane: Lane) -> Iterator[Claim]:
        """The lane's units that are not done, each claimed when its turn has come. What an idempotent script has
        announced (its journal serves undo only) is read again: nothing need be told from the items' shapes."""
        job = self._job
        claims = (self._units.claim(unit, job.attempt, recovers=not job.script.idempotent) for unit in lane)
        return (claim for claim in claims if not claim.done)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Any]:
        raise NotImplementedError


class _ScanSegments(ReadPages):
    def setup(self) -> None:
        super().setup()
        job = self._job
        with reporting(self._leases, job):
            self._wire = self._resources.wire(job.read_ahead)
        self._governor = governor_of(job, self._resources)
        self._reads = reads_of(self._wire, job, self._resources)
        self._executor = ThreadPoolExecutor(job.read_ahead, thread_name_prefix="scan")

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        return scan_pages(self._job, claims, self._reads, self._executor, self._governor.page_items)

    def teardown(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._wire.close()


class _ReadOwnItems(ReadPages):
    """The rows of the script's `items()`, as pages."""

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        for claim in claims:
            yield from own_pages(self._job, claim, item_rows(self._job.script))


class _ReplayLetters(ReadPages):
    """The items of dead letters, as they are now: what has been deleted meanwhile stays so."""

    def setup(self) -> None:
        super().setup()
        self._storage = self._resources.storage()
        with reporting(self._leases, self._job):
            self._wire = self._resources.wire(1)
        self._reads = reads_of(self._wire, self._job, self._resources)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page]:
        for claim in claims:
            yield from replayed_pages(self._job, claim, letters(self._storage, self._job.letters), self._reads)

    def teardown(self) -> None:
        self._wire.close()


def replayed_pages(job: Job, claim: Claim, source: Iterator[DeadLetter], reads: Lookup) -> Iterator[Page]:
    """Letters as pages of at most `job.page_items`, from where the claim stands."""
    without = without_record(job.table)

    def current(batch: list[DeadLetter]) -> list[Image]:
        return without(list(reads.items([letter.key for letter in batch]).values()))

    def page(number: int, batch: list[DeadLetter], last: bool) -> Page:
        before = reads.rcu
        images = [letter.image for letter in batch] if job.own_items else current(batch)
        return Page(claim, number, images, reads.rcu - before, last=last, replayed=len(batch))

    return resumed_pages(job, claim, source, lambda letter: letter, page)


def reads_of(wire: Caller, job: Job, resources: Resources) -> Reads:
    """The reads of a job's table, within its budget."""
    governor = governor_of(job, resources)
    return Reads(wire, job.table, flow=governor.reads, units=governor.read_estimate, sleep=resources.sleep)


class Lookup(Protocol):
    """What `aws.reads.Reads` offers, and a test's fake must."""

    rcu: float

    def items(self, keys: Sequence[Image]) -> dict[str, Image]: ...


class _Reading(NamedTuple):
    """A segment's next page, on its way; `answer` is None for a page that is recovered, not read."""

    claim: Claim
    number: int
    answer: Future[ScanPage] | None


def scan_pages(
    job: Job,
    claims: Iterator[Claim],
    reads: Scanner,
    executor: ThreadPoolExecutor,
    page_items: Callable[[int], int] = lambda most: most,
) -> Iterator[Page]:
    """The pages of some segments, taken in turn, `job.read_ahead` of them in flight: as many pages are in memory.
    `page_items` says how many of at most so many items the next page may have."""
    flying: deque[_Reading] = deque()
    without = without_record(job.table)

    def fetch(claim: Claim, number: int, cursor: Image | None) -> None:
        limit = page_items(job.page_items)
        answer = executor.submit(reads.scan, claim.unit, job.units, cursor, limit, job.consistent)
        flying.append(_Reading(claim, number, answer))

    while True:
        for claim in islice(claims, job.read_ahead - len(flying)):
            if claim.intent is not None:
                flying.append(_Reading(claim, claim.intent.page, None))
            else:
                fetch(claim, claim.page + 1, claim.cursor)
        if not flying:
            return
        claim, number, answer = flying.popleft()
        page = recovered(claim) if answer is None else _read(claim, number, answer.result(), without)
        if not page.last:
            fetch(claim, number + 1, page.cursor)
        yield page


def _read(claim: Claim, number: int, scanned: ScanPage, without: Callable[[list[Image]], list[Image]]) -> Page:
    last, throttles = scanned.cursor is None, scanned.throttles
    return Page(claim, number, without(scanned.images), scanned.rcu, scanned.cursor, last=last, throttles=throttles)


def recovered(claim: Claim) -> Page:
    """Stands for the page that the unit's owner before has announced and not checkpointed."""
    intent = claim.intent
    assert intent is not None
    return Page(claim, intent.page, [], intent.rcu, intent.cursor, intent.last, recovers=True)


def own_pages(job: Job, claim: Claim, rows: Iterable[dict[str, Any]]) -> Iterator[Page]:
    """Rows as pages of at most `job.page_items`, from where the claim stands; raises ScriptError for a row that the
    table cannot hold. The cursor counts rows: `items()` must yield the same ones each time."""

    def page(number: int, images: list[Image], last: bool) -> Page:
        return Page(claim, number, images, last=last)

    return resumed_pages(job, claim, rows, partial(_own_image, job), page)


def resumed_pages(
    job: Job,
    claim: Claim,
    rows: Iterable[Row],
    taken: Callable[[Row], Taken],
    page_of: Callable[[int, list[Taken], bool], Page],
) -> Iterator[Page]:
    """Rows as pages, from where the claim stands: first the page that an owner before left, then `taken` rows, by
    `page_of` their number, themselves, and whether they are the last. One page is read ahead, to know the last one."""
    begin = claim.page
    if claim.intent is not None:
        page = recovered(claim)
        yield page
        if page.last:
            return
        begin = page.number
    source = map(taken, islice(rows, begin * job.page_items, None))
    batch = list(islice(source, job.page_items))
    for number in count(begin + 1):
        following = list(islice(source, job.page_items))
        yield page_of(number, batch, not following)
        if not following:
            return
        batch = following


def _own_image(job: Job, row: dict[str, Any]) -> Image:
    try:
        return insert(job.target or job.table, row).item
    except ItemError as error:
        where = f"{job.script.path}: items(): {error.where}"
        raise ScriptError(error.what, where=where, hint=error.hint) from error
