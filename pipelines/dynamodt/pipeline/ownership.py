"""From a lane's units to pages: each unit claimed when its turn has come, and gone on with where it stands.

Whether a page's unit is still the worker's own, while the page is written.

A runner that takes a worker for dead gives its lanes to another one, of the same attempt. The unit's row then has
another epoch, which every announcement meets; but a worker that was suspended after it has announced must not write
when it wakes, minutes later, either.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count, islice
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

import apache_beam as beam

from dynamodt.errors import Fenced
from dynamodt.model.items import Cursor
from dynamodt.model.pages import Claim, Intent, JournalPage, Page
from dynamodt.model.runs import Job
from dynamodt.pipeline.process import collect_less
from dynamodt.pipeline.signals import Interrupted, Poller, Signal, context_of, reporting

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources


SplitGroup = tuple[int, ...]  # the units that one worker reads, in this order

Row = TypeVar("Row")
Taken = TypeVar("Taken")


class Coming(Protocol):
    """A page on its way, such as a Future."""

    def result(self) -> Page: ...


Fetch = Callable[[Claim, int, Cursor | None], Coming]  # of a unit the page of a number, which starts at a cursor


def split_groups(job: Job) -> list[SplitGroup]:
    """The job's units, shuffled over its lanes.

    One segment follows the hash order, so that at any moment it meets one partition (1,000 WCU/s). Neighbouring
    segments meet the same one; shuffled, a lane's segments are spread over the table. The run's id is the seed: the
    same run has the same lanes wherever it is planned.
    """
    units = list(range(job.splits))
    Random(job.run).shuffle(units)
    return [tuple(units[split_group :: job.split_groups]) for split_group in range(min(job.split_groups, job.splits))]


class ReadPages(beam.DoFn):
    """Reads a lane's units from where their rows say they stand, until the run is stopped. `_pages` says how."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        collect_less()
        state = self._resources.state()
        self._leases = state.leases
        self._units = state.splits(self._job.run)

    def process(self, split_group: SplitGroup) -> Iterator[Page | JournalPage]:
        signal = Signal(self._leases, self._job, self._resources.clock, self._resources.sleep)
        with context_of(self._job).working(), reporting(self._leases, self._job), suppress(Interrupted):
            if signal.stopping():  # a worker has several lanes: those that were to come claim and read nothing
                return
            for page in self._pages(self._claims(split_group)):
                if signal.stopping():
                    return
                yield page

    def _claims(self, split_group: SplitGroup) -> Iterator[Claim]:
        """The lane's units that are not done, each claimed when its turn has come. What an idempotent script has
        announced (its journal serves undo only) is read again: nothing need be told from the items' shapes."""
        job = self._job
        claims = (self._units.claim(split, job.attempt, recovers=not job.script.idempotent) for split in split_group)
        return (claim for claim in claims if not claim.done)

    def _pages(self, claims: Iterator[Claim]) -> Iterator[Page] | Iterator[JournalPage]:
        raise NotImplementedError


def pages_in_turn(claims: Iterator[Claim], fetch: Fetch, ahead: int, units: int) -> Iterator[Page]:
    """The pages of so many units at once, taken in turn; one that ends makes way for another. Only the next `ahead` of
    them are in flight: as many are in memory. Of each unit first the page that an owner before has left, if he did."""
    flying: deque[Callable[[], Page]] = deque()
    scheduler: deque[Callable[[], Coming]] = deque()  # units whose turn has not come yet

    def fly() -> None:
        """Another unit's first page goes before the next one of the unit that has waited longest."""
        while len(flying) < ahead:
            claim = next(claims, None) if len(flying) + len(scheduler) < units else None
            if claim is not None:
                flying.append(_first_page(claim, fetch))
            elif scheduler:
                flying.append(scheduler.popleft()().result)
            else:
                return

    fly()
    while flying:
        page = flying.popleft()()
        if not page.last:
            scheduler.append(partial(fetch, page.claim, page.number + 1, page.cursor))
        fly()
        yield page


def _first_page(claim: Claim, fetch: Fetch) -> Callable[[], Page]:
    if claim.intent is not None:
        return partial(recovered, claim)
    return fetch(claim, claim.page + 1, claim.cursor).result


def recovered(claim: Claim) -> Page:
    """Stands for the page that the unit's owner before has announced and not checkpointed."""
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


class Rows(Protocol):
    """What `state.split_rows.UnitRows` offers, and a test's fake must."""

    def intend(self, claim: Claim, intent: Intent) -> None: ...

    def begin_read(self, split: int) -> Callable[[], Claim | None]: ...


class SplitOwnership:
    """Watches over the unit of one page after the other. What it announces is a look, too: most pages need no other."""

    def __init__(self, rows: Rows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows = rows
        self._clock = clock
        self._claim: Claim | None = None
        self._poller: Poller[int] = Poller(clock)  # at the unit's epoch

    def begin(self, page: Page) -> None:
        """From now on `assure` is about this page's unit."""
        self._claim = page.claim
        self._poller.reset()

    def intend(self, claim: Claim, intent: Intent) -> None:
        """Announce; see `UnitRows.intend`. Raises Fenced."""
        now = self._clock()  # before the answer: what it shows is at least this fresh
        self._rows.intend(claim, intent)
        self._poller.observed(now)

    def assure(self) -> None:
        """Asked before every request that writes. Raises Fenced when the last look is old and another one shows that
        the unit was taken over."""
        if self._claim is None:
            return
        fencing_token = self._poller.current(self._begin)
        if fencing_token is not None and fencing_token != self._claim.fencing_token:
            raise Fenced(
                f"another worker has unit {self._claim.split} by now", hint="this one has ended its part of it"
            )

    def _begin(self) -> Callable[[], int]:
        assert self._claim is not None
        answer = self._rows.begin_read(self._claim.split)

        def fencing_token() -> int:
            found = answer()
            return found.fencing_token if found is not None else 0

        return fencing_token
