"""RecordProgress records the outcomes of pages in the state table and the storage; PageCoder encodes pages between
processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import orjson
from apache_beam import coders

from dynamodt.model.pages import AppliedPage, JournalPage, Page, Totals, WrittenPage
from dynamodt.model.runs import Job
from dynamodt.pipeline.intents import RunningTotals
from dynamodt.pipeline.outcomes import store_dead_letters
from dynamodt.pipeline.signals import report_errors, stop
from dynamodt.state.object_keys import SAMPLES, key_of_job

if TYPE_CHECKING:
    from dynamodt.pipeline.resources import Resources
    from dynamodt.state.lease_rows import LeaseRows
    from dynamodt.state.split_rows import SplitRows
    from dynamodt.state.storage import Storage


_FLUSH_SECONDS = 1.0
_SAMPLES = 3


class RecordProgress(beam.DoFn):
    """WrittenPages to rows of the state table.

    A split's row is written every second and when the split ends. Dead letters are stored before they are counted, so
    that each counted one exists.
    """

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources

    def setup(self) -> None:
        state = self._resources.state()
        self._leases = state.leases
        self._rows = state.splits(self._job.run)
        self._storage = self._resources.storage()

    def start_bundle(self) -> None:
        clock = self._resources.clock
        self._recorder = PageRecorder(self._job, self._rows, self._leases, self._storage, clock)

    def process(self, page: WrittenPage) -> None:
        with report_errors(self._leases, self._job):
            self._recorder.add(page)

    def finish_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            self._recorder.flush()


@dataclass(slots=True)
class _Split:
    """The totals of a split, over all attempts. `page` is its last page, without images, since a split group has many
    splits in progress and would keep a page of each. `flushed`: the row has these totals."""

    totals: Totals
    page: Page
    flushed: bool = False


@dataclass(slots=True)
class PageRecorder:
    """Sums the splits of one bundle and checkpoints them: a page with an intent at once, others every second."""

    job: Job
    rows: SplitRows
    leases: LeaseRows
    objects: Storage
    clock: Callable[[], float] = time.monotonic
    _running: RunningTotals = field(default_factory=RunningTotals)
    _splits: dict[int, _Split] = field(default_factory=dict)
    _dead: int = 0
    _sampled: int = 0
    _flushed_at: float = 0.0

    def add(self, written: WrittenPage) -> None:
        """Count a page. Stops the run if there are more dead letters than `max_errors`. Raises Fenced."""
        page = written.page
        self._count_dead(written)
        self._store_samples(written)
        split = self._splits[page.claim.split] = _Split(self._running.add(written), page._replace(images=[]))
        if written.intended or page.last:
            self._checkpoint(split, written.intended)
        if self.clock() - self._flushed_at >= _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the rows of all splits that have changed since their last checkpoint; drop the splits that have
        ended."""
        for number, split in list(self._splits.items()):
            if not split.flushed:
                self._checkpoint(split)
            if split.page.last:
                del self._splits[number]
        self._flushed_at = self.clock()

    def _checkpoint(self, split: _Split, intended: bool = False) -> None:
        page = split.page
        self.rows.checkpoint(page.claim, page.number, page.cursor, split.totals, intended=intended)
        split.flushed = True

    def _count_dead(self, written: WrittenPage) -> None:
        for step in ("write", "doubt"):  # in separate files: `retry` leaves doubts to the operator
            own = [dead_letter for dead_letter in written.dead if (dead_letter.step == "doubt") == (step == "doubt")]
            store_dead_letters(self.objects, self.job, written.page, step, own)
        self._dead += written.counts.dead
        if self._dead > self.job.max_errors:
            stop(self.leases, self.job, "max-errors")

    def _store_samples(self, written: WrittenPage) -> None:
        if self._sampled >= _SAMPLES or not written.samples:
            return
        self._sampled += len(written.samples)
        name = f"{key_of_job(self.job, SAMPLES)}{written.page.claim.split:06d}-{written.page.number:08d}.json"
        self.objects.write(name, orjson.dumps(written.samples))


_ITEM_BYTES = 500


class PageCoder(coders.Coder):
    """Pickles a page. Its size is estimated, since Beam samples the sizes of elements, and would pickle whole pages
    only to measure them (6 % of the client's CPU)."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def estimate_size(self, value: Any) -> int:
        """The approximate size in bytes, from the number of items."""
        page = value.page if isinstance(value, AppliedPage) else value
        return _ITEM_BYTES * (len(page.images) if isinstance(page, Page) else 1)

    def is_deterministic(self) -> bool:
        return False


for _kind in (Page, AppliedPage, WrittenPage, JournalPage):
    coders.registry.register_coder(_kind, PageCoder)
