"""ApplyVersion turns pages of items into pages of changes, by the author's function."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import apache_beam as beam

from dynamodt.errors import WrittenOrNot
from dynamodt.model.pages import AppliedPage, DeadLetter, Page
from dynamodt.model.runs import DeadLetterSource, Job
from dynamodt.model.tables import Change
from dynamodt.pipeline.outcomes import UNREADABLE, dead_letter, store_dead_letters
from dynamodt.pipeline.own_writes import EarlierWrites, inserted_items
from dynamodt.pipeline.signals import report_errors
from dynamodt.pipeline.version import Version
from dynamodt.script.apply import ChangeOf, check_continues
from dynamodt.script.diff import key_of

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources


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
