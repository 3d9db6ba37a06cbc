"""Claims a worker's splits, reads each from the cursor of its row, and confirms the ownership while its pages are
written.

A runner that considers a worker dead gives its split groups to another worker of the same attempt. The split's row then
has another fencing token, which the recording of an intent checks. A worker that is suspended after recording an intent
must not write when it resumes, minutes later: `SplitOwnership` polls the row.

Guarantee G3 does not depend on the poll: a later write still requires the item as it was read. The poll bounds the time
for which two workers contend for the same items.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count, islice
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

import apache_beam as beam

from dynamodt.errors import Fenced
from dynamodt.model.pages import Claim, Intent, JournalPage, Page
from dynamodt.model.runs import EarlierPhase, Job
from dynamodt.model.tables import Cursor
from dynamodt.pipeline.process import reduce_collections
from dynamodt.pipeline.signals import Interrupted, Poller, Signal, context_of, report_errors

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources
    from dynamodt.state.split_rows import SplitRows


SplitGroup = tuple[int, ...]  # the splits that one worker reads, in this order

Row = TypeVar("Row")
Taken = TypeVar("Taken")


class PendingPage(Protocol):
    """A page that is being read, such as a Future."""

    def result(self) -> Page: ...


Fetch = Callable[[Claim, int, Cursor | None], PendingPage]  # the page of a split with this number, from a cursor


_HOW = ("run", "attempt", "splits", "split_groups", "page_items", "in_turn", "read_ahead", "shards", "governed")


def job_to_read(job: Job) -> Job:
    """The job for reading: that of an earlier phase, if this is the job's source."""
    if not isinstance(job.source, EarlierPhase):
        return job
    one: Job = replace(job.before[job.source.phase], **{name: getattr(job, name) for name in _HOW})
    return replace(one, before=(), accepted=frozenset())


def split_groups(job: Job) -> list[SplitGroup]:
    """The job's splits, shuffled over its split groups.

    A segment follows the hash order, so that at any moment its writes go to one partition (1,000 WCU/s), and those of
    neighbouring segments to the same one. Shuffled, the segments of a group are spread over the table. The run's id is
    the seed, so that a run has the same groups wherever it is planned.
    """
    splits = list(range(job.splits))
    Random(job.run).shuffle(splits)
    return [tuple(splits[group :: job.split_groups]) for group in range(min(job.split_groups, job.splits))]


class ReadPages(beam.DoFn):
    """Reads the splits of a group, each from the cursor of its row, until the run is stopped. Subclasses give
    `_pages`."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        reduce_collections()
        state = self._resources.state()
        self._leases = state.leases
        self._splits = state.splits(self._job.run)

    def process(self, split_group: SplitGroup) -> Iterator[Page | JournalPage]:
        signal = Signal(self._leases, self._job, self._resources.clock, self._resources.sleep)
        with context_of(self._job).working(), report_errors(self._leases, self._job), suppress(Interrupted):
            if signal.stopping():  # a worker has several groups: later ones claim and read nothing
                return
            for page in self._pages(self._claims(split_group)):
                if signal.stopping():
                    return
                yield page

    def _claims(self, split_group: SplitGroup) -> Iterator[Claim]:
        """The claims of the splits that are not done; each split is claimed when it is needed."""
        claims = (self._splits.claim(split, self._job.attempt) for split in split_group)
        return (claim for claim in claims if not claim.done)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page] | Iterator[JournalPage]:
        raise NotImplementedError


def pages_in_turn(claims: Iterator[Claim], fetch: Fetch, ahead: int, splits: int) -> Iterator[Page]:
    """The pages of at most `splits` splits at once, taken in turn; a split that ends is replaced by another. The next
    `ahead` pages are read in advance and kept in memory. A page that a previous owner left comes first in its split."""
    flying: deque[Callable[[], Page]] = deque()
    waiting: deque[Callable[[], PendingPage]] = deque()  # splits whose turn has not come yet

    def fly() -> None:
        """Start reads. The first page of a new split comes before the next page of the split that has waited
        longest."""
        while len(flying) < ahead:
            claim = next(claims, None) if len(flying) + len(waiting) < splits else None
            if claim is not None:
                flying.append(_first_page(claim, fetch))
            elif waiting:
                flying.append(waiting.popleft()().result)
            else:
                return

    fly()
    while flying:
        page = flying.popleft()()
        if not page.last:
            waiting.append(partial(fetch, page.claim, page.number + 1, page.cursor))
        fly()
        yield page


def _first_page(claim: Claim, fetch: Fetch) -> Callable[[], Page]:
    if claim.intent is not None:
        return partial(recovered_page, claim)
    return fetch(claim, claim.page + 1, claim.cursor).result


def recovered_page(claim: Claim) -> Page:
    """The page for which a previous owner of the split recorded an intent but no checkpoint."""
    intent = claim.intent
    assert intent is not None
    return Page(claim, intent.page, [], intent.rcu, intent.cursor, intent.last, recovers=True)


def resumed_pages(
    job: Job,
    claim: Claim,
    rows: Iterable[Row],
    taken: Callable[[Row], Taken],
    page_of: Callable[[int, list[Taken], bool], Page],
) -> Iterator[Page]:
    """Rows as pages, from the claim's position on: first the page that a previous owner left, then pages of rows that
    `taken` converts. `page_of` receives the number, the rows, and whether they are the last, for which one page is read
    ahead."""
    begin = claim.page
    if claim.intent is not None:
        page = recovered_page(claim)
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


class SplitOwnership:
    """Confirms that the split of the present page is still owned. Recording an intent confirms this, too: most pages
    need no poll."""

    def __init__(self, rows: SplitRows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._claim: Claim | None = None
        self._poller: Poller[int] = Poller(clock)  # of the split's fencing token

    def begin(self, page: Page) -> None:
        """`check_owner` checks the split of this page from now on."""
        self._claim = page.claim
        self._poller.reset()

    def intend(self, claim: Claim, intent: Intent) -> None:
        """Record an intent; see `SplitRows.intend`. Raises Fenced."""
        now = self._clock()  # before the request: its result is at least this recent
        self._rows.intend(claim, intent)
        self._poller.observed(now)

    def check_owner(self) -> None:
        """Raises Fenced when the split was taken over; called before every request that writes. The row is read again
        before the last observation is half a second old (`signals.POLL_SECONDS`), so that few requests wait for it."""
        if self._claim is None:
            return
        fencing_token = self._poller.current(self._begin)
        if fencing_token is not None and fencing_token != self._claim.fencing_token:
            raise Fenced(f"another worker has taken split {self._claim.split} over", hint="this worker leaves it")

    def _begin(self) -> Callable[[], int]:
        assert self._claim is not None
        answer = self._rows.begin_read(self._claim.split)

        def fencing_token() -> int:
            found = answer()
            return found.fencing_token if found is not None else 0

        return fencing_token
