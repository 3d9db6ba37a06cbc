"""WritePatches turns pages of changes into pages of outcomes, with several pages in progress at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from dynamodt.dynamodb.batch import Writes
from dynamodt.model.pages import AppliedPage, Totals, WrittenPage
from dynamodt.model.runs import Job
from dynamodt.model.tables import Change, Image
from dynamodt.pipeline.attempts import leaves
from dynamodt.pipeline.outcomes import counts_without_write, written_page
from dynamodt.pipeline.own_writes import EarlierWrites, inserted_items, lookups, statements
from dynamodt.pipeline.ownership import SplitOwnership
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.record import IntentLog, RunningTotals
from dynamodt.pipeline.request_pipeline import PageScheduler, Unanswered, Wait
from dynamodt.pipeline.signals import Interrupted, Signal, context_of, report_errors
from dynamodt.pipeline.version import Version
from dynamodt.pipeline.write_page import PageWriter, WriteTask
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import journal_prefix

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources


class WritePatches(beam.DoFn):
    """Turns AppliedPages into WrittenPages.

    Each change is conditional on the item as it was read (G1), each item has exactly one outcome (G2), and changes of a
    script that is not idempotent (of an idempotent one only if an undo is wanted) are first journaled and recorded as
    an intent (G3), so that a bundle that a runner repeats continues from the split's row.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._version = Version(job, resources, lazy=True)
        self._running = RunningTotals()

    def setup(self) -> None:
        job, state = self._job, self._resources.state()
        self._context = context_of(job)
        self._leases = state.leases
        self._splits = state.splits(job.run)
        self._signal = Signal(self._leases, job, self._resources.clock, self._resources.sleep)
        with report_errors(self._leases, job):
            self._wire = self._resources.wire(job.writers)
        self._journal = (
            Journal(self._resources.storage(), job.written_table, journal_prefix(job)) if job.journals else None
        )
        inserted = inserted_items(self._wire, job, self._resources.sleep)
        self._earlier = EarlierWrites(job, self._resources.storage(), inserted)
        self._page_writer = self._page_writing(job)

    def _page_writing(self, job: Job) -> PageWriter:
        rate_limiter = rate_limiter_of(job, self._resources)
        return PageWriter(
            Writes(self._wire, job.written_table.name, uncounted=job.stage.state_table),
            lookups(self._wire, job, rate_limiter.reads, rate_limiter.rest),
            statements(job),
            None if job.inserts_rows else self._change_of,
            job.writers,
            stays=leaves(self._change_of, job.target),
            stamp=job.script.stamp,
            idempotent=job.script.idempotent,
            check_owner=self._signal.check_owner,
            wait_or_stop=self._signal.wait_or_stop,
            rate_queue=rate_limiter.writes,
            unanswered=Unanswered(ends_run=True),
            clock=self._resources.clock,
            sleep=self._resources.sleep,
        )

    def _change_of(self, image: Image) -> Change | None:
        """The change of a concurrently modified item. The author's function is loaded when it is first needed."""
        return self._earlier.change_of(image, self._version.change_of)

    def start_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            self._version.start_bundle()
        self._scheduler = PageScheduler(self._resources.clock, self._resources.sleep, self._signal.wait_or_stop)
        self._ownerships: dict[int, SplitOwnership] = {}  # of the pages in progress, by split
        self._free: list[SplitOwnership] = []

    def process(self, page: AppliedPage) -> Iterator[WrittenPage]:
        with report_errors(self._leases, self._job), suppress(Interrupted):
            if not self._context.interrupted:
                for written in self._scheduler.write(page.page.claim.split, partial(self._begin, page)):
                    yield self._add_to_totals(written)

    def _begin(self, page: AppliedPage) -> PageTask:
        ownership = self._free.pop() if self._free else SplitOwnership(self._splits, self._resources.clock)
        ownership.begin(page.page)
        self._ownerships[page.page.claim.split] = ownership
        return PageTask(page, self._running.before(page.page), self._page_writer, self._journal, ownership)

    def _add_to_totals(self, written: WrittenPage) -> WrittenPage:
        """Adds a page to its split's totals, before the split's next page begins."""
        self._running.add(written)
        self._free.append(self._ownerships.pop(written.page.claim.split))  # its unread answer occupies a connection
        return written

    def finish_bundle(self) -> Iterator[WindowedValue]:
        with self._context.working(), report_errors(self._leases, self._job), suppress(Interrupted):
            if not self._context.ended:  # a waiting page that is left has an intent, or may be written twice
                for written in self._scheduler.finish():
                    yield GlobalWindows.windowed_value(self._add_to_totals(written))
        with report_errors(self._leases, self._job):
            self._version.finish_bundle()

    def teardown(self) -> None:
        self._version.teardown()
        self._wire.close()


class PageTask:
    """A page in progress, new or left by a previous owner. `before` are the totals of its split before the page.

    The constructor and each step raise Fenced when the split has another owner. A page that may be written twice (of an
    idempotent script, without a journal) needs no owner.
    """

    def __init__(
        self,
        applied: AppliedPage,
        before: Totals,
        page_writer: PageWriter,
        journal: Journal | None,
        ownership: SplitOwnership,
    ) -> None:
        self._applied = applied
        self._without_write = counts_without_write(applied)
        self._intent_log = IntentLog(applied.page, before, self._without_write, journal, ownership)
        check_owner = ownership.check_owner if journal is not None else _not_asked
        self._writing = WriteTask(page_writer, self._intent_log.record_intent, check_owner)
        if applied.page.recovers:
            self._writing.recover(self._intent_log.found())
        else:
            self._writing.begin(applied.changes)

    def step(self) -> Wait | WrittenPage:
        """Send the waiting changes once. Returns the wait before the next step, or the page's outcome."""
        step = self._writing.step()
        if isinstance(step, Wait):
            return step
        self._intent_log.record_result(step.void, step.unconfirmed, step.replaced)
        outcome = written_page(self._applied, self._without_write, step, self._intent_log.intended)
        return outcome._replace(journal=self._intent_log.written)


def _not_asked() -> None:
    pass
