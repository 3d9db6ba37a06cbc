"""ApplyVersion: pages of items to pages of changes, by the author's function and the rows that `prepare` has stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from dynamodt.errors import ItemError
from dynamodt.model.pages import AppliedPage, DeadLetter, Page
from dynamodt.model.runs import DeadLetterSource, Job, PreparedRef
from dynamodt.model.tables import Change, Image, Insert, Remove, TableSpec, Update
from dynamodt.pipeline.author_output import begin
from dynamodt.pipeline.conflicts import Current, Shown, shown
from dynamodt.pipeline.outcomes import UNREADABLE, dead_letter, store
from dynamodt.pipeline.signals import reporting
from dynamodt.script.apply import Apply
from dynamodt.script.attempt import ChangeOf, attempted
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of, parts_of
from dynamodt.script.functions import Transform
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import JOURNAL, is_note, object_key
from dynamodt.state.prepared import load
from dynamodt.state.storage import Storage

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources


NOTHING: Mapping[Any, Any] = MappingProxyType({})


class _Rows:
    """Holds the mapping in an object that a weak reference can point to."""

    def __init__(self, rows: Mapping[Any, Any]) -> None:
        self.rows = rows


class PreparedCache:
    """The prepared rows, one copy for all DoFns and threads of a worker process.

    A reference travels with the job; each process reads the file once, and checks it.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._shared = Shared()

    def rows(self) -> Mapping[Any, Any]:
        """The job's prepared rows, if any. Raises Refused when the file is not what was prepared."""
        ref = self._job.prepared
        if ref is None:
            return NOTHING
        self._held = self._shared.acquire(lambda: self._load(ref), tag=ref.sha256)
        rows: Mapping[Any, Any] = self._held.rows
        return rows

    def _load(self, ref: PreparedRef) -> _Rows:
        return _Rows(load(self._resources.storage(), self._job.script, ref))


class ApplyVersion(beam.DoFn):
    """Pages to AppliedPages. An item that the script fails on becomes a dead letter."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._version = Version(job, resources)

    def setup(self) -> None:
        self._leases = self._resources.state().leases
        self._storage = self._resources.storage()
        with reporting(self._leases, self._job):
            self._version.setup()
            self._retried = retried_of(self._storage, self._job) if self._job.retried else None

    def start_bundle(self) -> None:
        self._version.start_bundle()

    def process(self, page: Page) -> Iterator[AppliedPage]:
        with reporting(self._leases, self._job):
            applied, dead = apply_page(self._job, page, self._version.change_of, self._retried)
            for step, name in (("transform", "transform"), ("doubt", "retried-doubt")):
                store(
                    self._storage,
                    self._job,
                    page,
                    name,
                    [dead_letter for dead_letter in dead if dead_letter.step == step],
                )
            store(self._storage, self._job, page, UNREADABLE, page.unreadable)
            yield applied

    def finish_bundle(self) -> None:
        with reporting(self._leases, self._job):
            self._version.finish_bundle()

    def teardown(self) -> None:
        self._version.teardown()


def apply_page(
    job: Job, page: Page, change_of: ChangeOf, retried: Retried | None = None
) -> tuple[AppliedPage, list[DeadLetter]]:
    """A page's changes and its dead letters. Raises ScriptError for a fault that must stop the whole run."""
    if isinstance(job.source, DeadLetterSource) and job.source.confirmed:
        return AppliedPage(page, [], 0, 0, confirmed=len(page.images)), []
    once = change_of if retried is None else partial(_not_retried, change_of=change_of, retried=retried)
    changes: list[Change] = []
    dead: list[DeadLetter] = []
    unchanged = 0
    for image in page.images:
        _, change, error, _ = attempted(image, once)
        if error is not None:
            step = "doubt" if isinstance(error, RetriedOrNot) else "transform"
            dead.append(dead_letter(key_of(job.table, image), image, step, error))
        elif change is None:
            unchanged += 1
        else:
            changes.append(change)
    return AppliedPage(page, changes, unchanged, len(dead) + len(page.unreadable)), dead


def _not_retried(image: Image, change_of: ChangeOf, retried: Retried) -> Change | None:
    """The change of an item, unless the run has written it already. Raises RetriedOrNot."""
    shows = retried.shown(image)
    if shows == "unclear":
        raise RetriedOrNot
    return None if shows == "written" else change_of(image)


class RetriedOrNot(ItemError):
    """It cannot be told whether an item is the run's own result."""

    def __init__(self) -> None:
        super().__init__(
            "the run has written this item as a dead letter's, and the same attributes were changed since",
            hint="look at the item: it may or may not be transformed, and no command takes it up again",
        )


class Retried:
    """What earlier phases over dead letters have updated: an incremental export may show such an item as created.

    All updates are in memory: there are no more than there were dead letters. An item that one incremental export shows
    as deleted may be created again and be transformed as a dead letter's item; the next export shows it as created.
    """

    def __init__(self, table: TableSpec, stamp: str | None, updates: Iterator[Update]) -> None:
        self._table = table
        self._stamp = stamp
        self._updates: dict[str, list[Update]] = {}
        for update in updates:
            self._updates.setdefault(key_text(update.key), []).append(update)

    def shown(self, image: Image) -> Shown:
        """What an item shows: "written" if it is the run's own result, "unclear" if it may be."""
        if not self._updates:
            return "unwritten"
        text = key_text(key_of(self._table, image))
        current = Current({text: image}, {}, {})
        found = [shown(update, current, stamp=self._stamp) for update in self._updates.get(text, ())]
        return next((one for one in ("written", "unclear") if one in found), "unwritten")


def retried_of(storage: Storage, job: Job) -> Retried:
    """What the phases that a job names have written."""
    return Retried(job.table, job.script.stamp, _updates(storage, job))


def _updates(storage: Storage, job: Job) -> Iterator[Update]:
    for run in job.retried:
        prefix = object_key(job.table.name, run, JOURNAL)
        journal = Journal(storage, job.table, prefix)
        names = list(storage.names(prefix))
        void = {key_text(key) for name in names if is_note(name) for key in journal.read_note(name).void}
        for name in names:
            for change in () if is_note(name) else journal.intended(name):
                for part in parts_of(change):
                    if isinstance(part, Update) and key_text(part.key) not in void:
                        yield part


class Version:
    """The loaded script of a job, with the life cycle of the DoFn that holds it.

    `lazy` defers loading until the first item: a writer needs the script for conflicts only, which most runs never
    have, and an author's `setup` may be slow.
    """

    def __init__(self, job: Job, resources: Resources, *, lazy: bool = False) -> None:
        self._job = job
        self._lazy = lazy
        self._output = resources.output
        self._prepared = PreparedCache(job, resources)
        self._transform: Transform | None = None
        self._bound: ChangeOf | None = None

    def setup(self) -> None:
        if not self._lazy and not self._job.inserts_rows:
            self._load()

    def start_bundle(self) -> None:
        if self._transform is not None:
            self._transform.start_bundle()

    @property
    def change_of(self) -> ChangeOf:
        """The function from an image to its change."""
        if self._job.inserts_rows:
            return self._inserted_item
        if self._bound is None:
            self._bound = self._bind()
        return self._bound

    def finish_bundle(self) -> None:
        if self._transform is not None:
            self._transform.finish_bundle()

    def teardown(self) -> None:
        if self._transform is not None:
            self._transform.teardown()

    def _load(self) -> Transform:
        begin(self._job.script, self._job.base_run, self._output)
        self._transform = Transform(self._job.script, self._job.direction)
        self._transform.setup()
        return self._transform

    def _bind(self) -> ChangeOf:
        transform = self._transform
        if transform is None:
            transform = self._load()
            transform.start_bundle()
        job = self._job
        return Apply(
            job.script,
            transform,
            job.table,
            run=job.base_run,
            prepared=self._prepared.rows(),
            target=job.target,
            snapshot=job.export is not None,
            final_scan=job.export is not None and job.export.final_scan,
        ).change_of

    def _inserted_item(self, image: Image) -> Change | None:
        """A row of `items()`: inserted if absent on the way up, deleted if unchanged on the way down."""
        table = self._job.target or self._job.table
        if self._job.direction == "down":
            return Remove(key_of(table, image), image)
        return Insert(table.name, key_of(table, image), image)
