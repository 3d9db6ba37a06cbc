"""RecordProgress: outcomes to the state table and the stage's storage."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import apache_beam as beam
import orjson

from dynamodt.aws.resources import Resources
from dynamodt.core.places import samples_prefix
from dynamodt.model import Claim, Cursor, Job, Page, Totals, WrittenPage
from dynamodt.stages.deadletters import Objects, store
from dynamodt.stages.ledger import Running
from dynamodt.stages.signals import LeaseBoard, reporting, stop

_FLUSH_SECONDS = 1.0
_SAMPLES = 3


class RecordProgress(beam.PTransform[Any, Any]):
    """WrittenPages to rows of the state table: the last stage, which yields nothing.

    A unit's row is written when the unit ends, and every second while it runs. Dead letters are stored before they
    are counted: a count without its letter cannot be.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        super().__init__()
        self._job = job
        self._resources = resources

    def expand(self, pages: beam.PCollection[WrittenPage]) -> beam.PCollection[None]:
        return pages | "Record" >> beam.ParDo(_RecordProgress(self._job, self._resources))


class _RecordProgress(beam.DoFn):
    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        state = self._resources.state()
        self._leases = state.leases
        self._units = state.units(self._job.run)
        self._storage = self._resources.storage()

    def start_bundle(self) -> None:
        clock = self._resources.clock
        self._recorder = Recorder(self._job, self._units, self._leases, self._storage, clock)

    def process(self, page: WrittenPage) -> None:
        with reporting(self._leases, self._job):
            self._recorder.add(page)

    def finish_bundle(self) -> None:
        with reporting(self._leases, self._job):
            self._recorder.flush()


class Checkpoints(Protocol):
    """What `aws.unit_rows.UnitRows` offers, and a test's fake must."""

    def checkpoint(
        self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, *, announced: bool
    ) -> None: ...


@dataclass(slots=True)
class _Unit:
    """What a unit has come to, over all attempts; `page` is its last one, without its images: a lane has many units
    begun, and would hold a page of each. `flushed`: its row says so."""

    totals: Totals
    page: Page
    flushed: bool = False


@dataclass(slots=True)
class Recorder:
    """Adds up the units of one bundle and checkpoints them: a page that was announced at once, others now and then."""

    job: Job
    rows: Checkpoints
    leases: LeaseBoard
    objects: Objects
    clock: Callable[[], float] = time.monotonic
    _running: Running = field(default_factory=Running)
    _units: dict[int, _Unit] = field(default_factory=dict)
    _dead: int = 0
    _sampled: int = 0
    _flushed_at: float = 0.0

    def add(self, written: WrittenPage) -> None:
        """Count a page. Asks the run to stop when there are more dead letters than it may have. Raises Fenced."""
        page = written.page
        self._count_dead(written)
        self._store_samples(written)
        unit = self._units[page.claim.unit] = _Unit(self._running.add(written), page._replace(images=[]))
        if written.announced or page.last:
            self._checkpoint(unit, written.announced)
        if self.clock() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows of all units that have moved since the last time; a unit that has ended is let go."""
        for number, unit in list(self._units.items()):
            if not unit.flushed:
                self._checkpoint(unit)
            if unit.page.last:
                del self._units[number]
        self._flushed_at = self.clock()

    def _checkpoint(self, unit: _Unit, announced: bool = False) -> None:
        page = unit.page
        self.rows.checkpoint(page.claim, page.number, page.cursor, unit.totals, announced=announced)
        unit.flushed = True

    def _count_dead(self, written: WrittenPage) -> None:
        for stage in ("write", "doubt"):  # apart: a doubt is not to be retried without a person's look at it
            own = [letter for letter in written.dead if (letter.stage == "doubt") == (stage == "doubt")]
            store(self.objects, self.job, written.page, stage, own)
        self._dead += written.counts.dead
        if self._dead > self.job.max_errors:
            stop(self.leases, self.job, "max-errors")

    def _store_samples(self, written: WrittenPage) -> None:
        if self._sampled >= _SAMPLES or not written.samples:
            return
        self._sampled += len(written.samples)
        name = f"{samples_prefix(self.job)}{written.page.claim.unit:06d}-{written.page.number:08d}.json"
        self.objects.write(name, orjson.dumps(written.samples))
