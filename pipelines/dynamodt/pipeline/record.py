"""RecordProgress: outcomes to the state table and the stage's storage.

How pages cross a process boundary, should a runner put one between two stages.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import apache_beam as beam
import orjson
from apache_beam import coders

from dynamodt.model.items import Cursor
from dynamodt.model.pages import AppliedPage, Claim, JournalPage, Page, Totals, WrittenPage
from dynamodt.model.runs import Job
from dynamodt.pipeline.intents import Running
from dynamodt.pipeline.outcomes import Objects, store
from dynamodt.pipeline.signals import LeaseReplicas, reporting, stop
from dynamodt.state.object_keys import samples_prefix

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources


_FLUSH_SECONDS = 1.0
_SAMPLES = 3


class RecordProgress(beam.DoFn):
    """WrittenPages to rows of the state table: the last stage, which yields nothing.

    A unit's row is written when the unit ends, and every second while it runs. Dead letters are stored before they
    are counted: a count without its letter cannot be.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        state = self._resources.state()
        self._leases = state.leases
        self._units = state.splits(self._job.run)
        self._storage = self._resources.storage()

    def start_bundle(self) -> None:
        clock = self._resources.clock
        self._recorder = PageRecorder(self._job, self._units, self._leases, self._storage, clock)

    def process(self, page: WrittenPage) -> None:
        with reporting(self._leases, self._job):
            self._recorder.add(page)

    def finish_bundle(self) -> None:
        with reporting(self._leases, self._job):
            self._recorder.flush()


class Checkpoints(Protocol):
    """What `state.split_rows.UnitRows` offers, and a test's fake must."""

    def checkpoint(self, claim: Claim, page: int, cursor: Cursor | None, totals: Totals, *, intended: bool) -> None: ...


@dataclass(slots=True)
class _Split:
    """What a unit has come to, over all attempts; `page` is its last one, without its images: a lane has many units
    begun, and would hold a page of each. `flushed`: its row says so."""

    totals: Totals
    page: Page
    flushed: bool = False


@dataclass(slots=True)
class PageRecorder:
    """Adds up the units of one bundle and checkpoints them: a page that was announced at once, others now and then."""

    job: Job
    rows: Checkpoints
    leases: LeaseReplicas
    objects: Objects
    clock: Callable[[], float] = time.monotonic
    _running: Running = field(default_factory=Running)
    _units: dict[int, _Split] = field(default_factory=dict)
    _dead: int = 0
    _sampled: int = 0
    _flushed_at: float = 0.0

    def add(self, written: WrittenPage) -> None:
        """Count a page. Asks the run to stop when there are more dead letters than it may have. Raises Fenced."""
        page = written.page
        self._count_dead(written)
        self._store_samples(written)
        split = self._units[page.claim.split] = _Split(self._running.add(written), page._replace(images=[]))
        if written.intended or page.last:
            self._checkpoint(split, written.intended)
        if self.clock() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows of all units that have moved since the last time; a unit that has ended is let go."""
        for number, split in list(self._units.items()):
            if not split.flushed:
                self._checkpoint(split)
            if split.page.last:
                del self._units[number]
        self._flushed_at = self.clock()

    def _checkpoint(self, split: _Split, intended: bool = False) -> None:
        page = split.page
        self.rows.checkpoint(page.claim, page.number, page.cursor, split.totals, intended=intended)
        split.flushed = True

    def _count_dead(self, written: WrittenPage) -> None:
        for stage in ("write", "doubt"):  # apart: a doubt is not to be retried without a person's look at it
            own = [dead_letter for dead_letter in written.dead if (dead_letter.stage == "doubt") == (stage == "doubt")]
            store(self.objects, self.job, written.page, stage, own)
        self._dead += written.counts.dead
        if self._dead > self.job.max_errors:
            stop(self.leases, self.job, "max-errors")

    def _store_samples(self, written: WrittenPage) -> None:
        if self._sampled >= _SAMPLES or not written.samples:
            return
        self._sampled += len(written.samples)
        name = f"{samples_prefix(self.job)}{written.page.claim.split:06d}-{written.page.number:08d}.json"
        self.objects.write(name, orjson.dumps(written.samples))


_ITEM_BYTES = 500


class PageCoder(coders.Coder):
    """Pickles a page. Its size is guessed, not measured: Beam samples the sizes of elements, and would pickle whole
    pages only to throw the bytes away (6 % of the client's CPU, before)."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        """Bytes, roughly, from the number of items."""
        page = value.page if isinstance(value, AppliedPage) else value
        return _ITEM_BYTES * (len(page.images) if isinstance(page, Page) else 1)

    def is_deterministic(self) -> bool:
        return False


for _kind in (Page, AppliedPage, WrittenPage, JournalPage):
    coders.registry.register_coder(_kind, PageCoder)
