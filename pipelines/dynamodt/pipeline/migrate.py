"""The path of an item, and the start of the pipeline: read this file first.

::

    split groups ── Reshuffle ── read ── ApplyVersion ── WritePatches ── RecordProgress
                                  Page    AppliedPage     WrittenPage

- `read` reads the job's source as pages of items.
- `ApplyVersion`, below, calls the author's function on each item; an item for which it fails becomes a dead letter.
- `WritePatches`, below, writes a page: `record` records its intent first, `write_page` sends conditional writes, and
  `conflicts` decides about refusals.
- `record.RecordProgress` checkpoints the page's split in the state table.
- `rehearse.RehearseVersion` takes the place of applying and writing in a dry run.

A split is a scan segment or a file, and one worker reads a split group. The only shuffle is before the reading: from
there on a page stays in one worker, so that a recorded page was written. For the same reason there is no side input: a
portable runner begins a stage of its own at each transform with a side input, and keeps all elements of the stage
before (docs/adr/010).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import DynamodtError, RunFailed, WrittenOrNot
from dynamodt.export.objects import S3Objects
from dynamodt.model.pages import AppliedPage, DeadLetter, JournalPage, Page, Totals, WrittenPage
from dynamodt.model.runs import DeadLetterSource, ExportSource, Job, JournalSource, RowsSource, ScanSource, Source
from dynamodt.model.tables import Change, Image, Stage
from dynamodt.pipeline.attempts import leaves
from dynamodt.pipeline.author_output import Origin
from dynamodt.pipeline.engine import InProcess, own_processes
from dynamodt.pipeline.outcomes import UNREADABLE, counts_without_write, dead_letter, store_dead_letters, written_page
from dynamodt.pipeline.own_writes import EarlierWrites, inserted_items, lookups, statements
from dynamodt.pipeline.ownership import ReadPages, SplitOwnership, job_to_read, split_groups
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.read import ReadEarlierRows, ReadExport, ReadRows, ReplayDeadLetters, ScanSegments
from dynamodt.pipeline.record import IntentLog, RecordProgress, RunningTotals
from dynamodt.pipeline.rehearse import RehearseVersion
from dynamodt.pipeline.request_pipeline import PageScheduler, Unanswered, Wait
from dynamodt.pipeline.signals import Interrupted, Signal, context_of, report_errors
from dynamodt.pipeline.undo import ReadJournal, RestoreItems
from dynamodt.pipeline.version import Version
from dynamodt.pipeline.write_page import PageWriter, WriteTask
from dynamodt.script.apply import ChangeOf, check_continues
from dynamodt.script.diff import key_of
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import journal_prefix
from dynamodt.state.state import State
from dynamodt.state.storage import Storage, open_storage

_READERS: dict[type[Source], type[ReadPages]] = {
    ScanSource: ScanSegments,
    ExportSource: ReadExport,
    RowsSource: ReadRows,
    DeadLetterSource: ReplayDeadLetters,
}


def migrate(pipeline: beam.Pipeline, job: Job, resources: Resources) -> None:
    """Add one phase of a version's run to a pipeline."""
    pages = (
        pipeline
        | "Split groups" >> beam.Create(split_groups(job), reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "Read items" >> beam.ParDo(_reader(job, resources)).with_output_types(Page)
    )
    if job.dry_run:
        written = pages | "Rehearse version" >> beam.ParDo(RehearseVersion(job, resources)).with_output_types(
            WrittenPage
        )
    else:
        written = (
            pages
            | "Apply version" >> beam.ParDo(ApplyVersion(job, resources)).with_output_types(AppliedPage)
            | "Write patches" >> beam.ParDo(WritePatches(job, resources)).with_output_types(WrittenPage)
        )
    written | "Record progress" >> beam.ParDo(RecordProgress(job, resources))


def _reader(job: Job, resources: Resources) -> ReadPages:
    source = job_to_read(job)
    of_another_version = source is not job and source.inserts_rows
    reader = ReadEarlierRows if of_another_version else _READERS[type(source.source)]
    return reader(source, resources)


def undo(pipeline: beam.Pipeline, job: Job, resources: Resources) -> None:
    """Add the undo of one phase of a run to a pipeline."""
    (
        pipeline
        | "Split groups" >> beam.Create(split_groups(job), reshuffle=False)
        | "Spread" >> beam.Reshuffle()
        | "Read journal" >> beam.ParDo(ReadJournal(job, resources)).with_output_types(JournalPage)
        | "Restore items" >> beam.ParDo(RestoreItems(job, resources)).with_output_types(WrittenPage)
        | "Record progress" >> beam.ParDo(RecordProgress(job, resources))
    )


def execute(job: Job, resources: Resources, runner: Any, beam_args: Sequence[str] = ()) -> None:
    """Run a job to its end, with `beam_args` as Beam's own options.

    Raises the runner's errors; a worker's own error is in the run's lease. When this returns or raises, no split group
    is being processed in this process any more.
    """
    options = PipelineOptions([_threads(job, beam_args), *beam_args])
    if isinstance(runner, InProcess):
        runner.on_loss = partial(_report, resources, job)
    try:
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            (undo if isinstance(job.source, JournalSource) else migrate)(pipeline, job, resources)
    except BaseException:
        context_of(job).end()  # Beam does not wait for the others when one has failed
        raise


def _report(resources: Resources, job: Job, error: RunFailed) -> None:
    """Record the error in the run's lease, which stops the other workers."""
    with suppress(DynamodtError), report_errors(resources.state().leases, job):
        raise error


def _threads(job: Job, beam_args: Sequence[str]) -> str:
    """The option for a thread for each split group in Beam's in-process runner: while one waits for a response, another
    computes. If it has processes, each processes one split group at a time; other runners ignore the option."""
    processes = own_processes(beam_args)
    return f"--direct_num_workers={processes if processes > 1 else min(job.split_groups, job.splits)}"


@dataclass(frozen=True, slots=True)
class Resources:
    """Makes the clients of the DoFns on the worker, since no client can be pickled. Each method raises ServiceError
    when there are no credentials. `output` receives the lines of a script that a worker process executes."""

    stage: Stage
    table: str = ""  # the table that is read and written
    output: Origin | None = None

    def wire(self, connections: int) -> Wire:
        """The calls of the data plane, over a number of kept connections."""
        return Wire(self.stage.connection.of_table(self.table), connections)

    def state(self) -> State:
        """The state table."""
        return State(self.stage.connection, self.stage.state_table)

    def storage(self) -> Storage:
        """The storage: prepared data, dead letters, samples."""
        return open_storage(self.stage.connection, self.stage.storage)

    def objects(self, source: ExportSource) -> S3Objects:
        """The bucket that holds an export."""
        s3 = client(self.stage.connection, "s3", owner=source.owner)
        return S3Objects(s3, source.bucket, self.stage.storage.kms_key)

    def clock(self) -> float:
        """Seconds since an arbitrary moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, before a retry."""
        time.sleep(seconds)


class ApplyVersion(beam.DoFn):
    """Turns Pages into AppliedPages. An item for which the script fails becomes a dead letter."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._version = Version(job, resources)

    def setup(self) -> None:
        self._leases = self._resources.state().leases
        self._storage = self._resources.storage()
        with report_errors(self._leases, self._job):
            self._version.setup()
            self._wire = self._resources.wire(1) if self._job.earlier else None
        if self._wire is not None:
            inserted = inserted_items(self._wire, self._job, self._resources.sleep)
            self._earlier = EarlierWrites(self._job, self._storage, inserted)

    def start_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            self._version.start_bundle()

    def process(self, page: Page) -> Iterator[AppliedPage]:
        with report_errors(self._leases, self._job):
            change_of = self._version.change_of
            if self._wire is not None:
                change_of = self._earlier.of_page(page.images, change_of)
            applied, dead = apply_page(self._job, page, change_of)
            for step, name in (("transform", "transform"), ("doubt", "retried-doubt")):
                store_dead_letters(self._storage, self._job, page, name, [one for one in dead if one.step == step])
            store_dead_letters(self._storage, self._job, page, UNREADABLE, page.unreadable)
            yield applied

    def finish_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            self._version.finish_bundle()

    def teardown(self) -> None:
        self._version.teardown()
        if self._wire is not None:
            self._wire.close()


def apply_page(job: Job, page: Page, change_of: ChangeOf) -> tuple[AppliedPage, list[DeadLetter]]:
    """A page's changes and its dead letters. Raises ScriptError for a fault that must stop the whole run."""
    if isinstance(job.source, DeadLetterSource) and job.source.confirmed:
        return AppliedPage(page, [], 0, 0, confirmed=len(page.images)), []
    changes: list[Change] = []
    dead: list[DeadLetter] = []
    unchanged = 0
    for image in page.images:
        try:
            change = change_of(image)
        except BaseException as error:
            check_continues(error)
            step = "doubt" if isinstance(error, WrittenOrNot) else "transform"
            dead.append(dead_letter(key_of(job.table, image), image, step, error))
            continue
        if change is None:
            unchanged += 1
        else:
            changes.append(change)
    return AppliedPage(page, changes, unchanged, len(dead) + len(page.unreadable)), dead


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
