"""The path of an item, and the start of the pipeline: read this file first.

::

    split groups ── Reshuffle ── read ── ApplyVersion ── WritePatches ── RecordProgress
                                  Page    AppliedPage     WrittenPage

- `read` reads the job's source as pages of items.
- `ApplyVersion`, below, calls the author's function on each item; an item for which it fails becomes a dead letter.
- `write.WritePatches` writes a page: `record` records its intent first, `write_page` sends conditional writes, and
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

from dynamodt.dynamodb.clients import client
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import DynamodtError, RunFailed, WrittenOrNot
from dynamodt.export.objects import S3Objects
from dynamodt.model.pages import AppliedPage, DeadLetter, JournalPage, Page, WrittenPage
from dynamodt.model.runs import DeadLetterSource, ExportSource, Job, JournalSource, RowsSource, ScanSource, Source
from dynamodt.model.tables import Change, Stage
from dynamodt.pipeline.author_output import Origin
from dynamodt.pipeline.engine import InProcess, own_processes
from dynamodt.pipeline.outcomes import UNREADABLE, dead_letter, store_dead_letters
from dynamodt.pipeline.own_writes import EarlierWrites, inserted_items
from dynamodt.pipeline.ownership import ReadPages, job_to_read, split_groups
from dynamodt.pipeline.read import ReadEarlierRows, ReadExport, ReadRows, ReplayDeadLetters, ScanSegments
from dynamodt.pipeline.record import RecordProgress
from dynamodt.pipeline.rehearse import RehearseVersion
from dynamodt.pipeline.signals import context_of, report_errors
from dynamodt.pipeline.undo import ReadJournal, RestoreItems
from dynamodt.pipeline.version import Version
from dynamodt.pipeline.write import WritePatches
from dynamodt.script.apply import ChangeOf, check_continues
from dynamodt.script.diff import key_of
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
