"""RehearseVersion turns pages of a dry run into pages of outcomes, without a write.

A version is applied to the items as the versions before it leave them. A dry run of several versions therefore applies
the earlier phases (`Job.before`) to each page in memory, in their order, and counts the outcomes of its own phase on
the result. Insertions, moves and deletions of an earlier phase are included; an item for which it fails stays as it is.
Rows that earlier versions add by `items()` are read after the table, by a phase of their own (`EarlierPhase`), and so
is another table of the same command whose versions insert into this one (`TARGET_TABLE`).

The key of an insertion is looked up in the table, whose item passes through the earlier phases, and among the recent
insertions of this process, including those of the earlier versions' dry runs (`pipeline.attempts`). Two insertions of
one key are not detected in different processes or too far apart, nor is a collision with an item that an earlier phase
could not move from its key. If a phase moves an item away and another one to its key, the dry run has the order of the
pages, which a run may not have.

Memory holds a page with the results of the phases, the recent keys, and the rows of `items()`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import apache_beam as beam

from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.wire import Wire
from dynamodt.model.pages import AppliedPage, Counts, DeadLetter, Page, Units, WrittenPage
from dynamodt.model.runs import INSERTED_ROWS, EarlierPhase, Job
from dynamodt.model.tables import Change, Image, Insert, Remove
from dynamodt.pipeline.attempts import AttemptOutcome, RecentKeys, leaves, outcome_of_attempt
from dynamodt.pipeline.conflicts import inserts_of
from dynamodt.pipeline.outcomes import (
    MOST_SAMPLES,
    UNREADABLE,
    WriteResult,
    counts_without_write,
    dead_letter,
    store_dead_letters,
    written_page,
)
from dynamodt.pipeline.own_writes import inserted_items, statements
from dynamodt.pipeline.ownership import job_to_read
from dynamodt.pipeline.process import without_output
from dynamodt.pipeline.rate_limit import rate_limiter_of
from dynamodt.pipeline.signals import context_of, forget_others, report_errors
from dynamodt.pipeline.version import Version
from dynamodt.script.apply import attempt_change, effect, item_rows, row_image, table_of_rows
from dynamodt.script.codec import image_digest, key_text, same_image
from dynamodt.script.diff import key_of, write_units

if TYPE_CHECKING:
    from dynamodt.pipeline.migrate import Resources

_MOST_ROWS = 20_000  # rows of `items()` that are kept as a whole; for the others only their keys and digests
_UNKNOWN: Image = {}  # an item that exists, with unknown attributes


class AcceptedError(Exception):
    """The item is a dead letter that a person has accepted: it is counted, and is not listed again."""


class RehearseVersion(beam.DoFn):
    """Turns Pages into WrittenPages of a dry run."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._phases = [_Phase(each, resources) for each in (*job.before, job)]

    def setup(self) -> None:
        job = self._job
        self._leases = self._resources.state().leases
        self._storage = self._resources.storage()
        forget_others([*job.before, job])
        with report_errors(self._leases, job):
            self._wire = self._resources.wire(1)
            with without_output():
                for number, phase in enumerate(self._phases[:-1]):
                    phase.setup(job, self._wire, self._phases[:number])
            self._phases[-1].setup(job, self._wire, self._phases[:-1])

    def start_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            for phase in self._phases:
                phase.version.start_bundle()

    def process(self, page: Page) -> Iterator[WrittenPage]:
        with report_errors(self._leases, self._job):
            with without_output():
                page = self._after_earlier_phases(page)
            outcomes = self._phases[-1].outcomes(page.images)
            store_dead_letters(self._storage, self._job, page, "transform", self._dead(outcomes, "transform"))
            store_dead_letters(self._storage, self._job, page, UNREADABLE, page.unreadable)
            rcu = sum(phase.read_units() for phase in self._phases)
            yield _page_of_outcomes(page, outcomes, self._dead(outcomes, "write"), rcu)

    def _after_earlier_phases(self, page: Page) -> Page:
        """The page with the items that the earlier phases leave in the job's table. Rows of `items()` pass through no
        other phase of their version. An unreadable line of another table is a dead letter of that table."""
        job, earlier = self._job, self._phases[:-1]
        if job.inserts_rows:
            return page
        there = {job_to_read(job).table.name: page.images}
        if isinstance(job.source, EarlierPhase):
            page = page._replace(unreadable=())
            if job_to_read(job).inserts_rows:
                there = earlier[job.source.phase].added(page.images)
                earlier = earlier[job.source.phase + 1 :]
        for phase in earlier:
            phase.pass_on(there)
        return page._replace(images=there.get(job.table.name, []))

    def _dead(self, outcomes: Sequence[AttemptOutcome], step: str) -> list[DeadLetter]:
        job = self._job
        table = job.written_table if job.inserts_rows else job.table
        return [
            dead_letter(key_of(table, one.image), one.image, one.step, one.error)
            for one in outcomes
            if one.error is not None and one.step == step and not isinstance(one.error, AcceptedError)
        ]

    def finish_bundle(self) -> None:
        with report_errors(self._leases, self._job):
            for phase in self._phases:
                phase.version.finish_bundle()

    def teardown(self) -> None:
        with without_output():
            for phase in self._phases[:-1]:
                phase.version.teardown()
        self._phases[-1].version.teardown()
        self._wire.close()


def _page_of_outcomes(
    page: Page, outcomes: Sequence[AttemptOutcome], dead: list[DeadLetter], rcu: float
) -> WrittenPage:
    """A page's outcome. The write units are estimated and include those of refused changes; `rcu` is the cost of the
    key lookups."""
    changes = [outcome.change for outcome in outcomes if outcome.change is not None]
    ended = Counter(outcome.kind for outcome in outcomes)
    applied = AppliedPage(page, changes, ended["unchanged"], ended["dead"] - len(dead) + len(page.unreadable))
    counts = Counts(0, len(changes), 0, ended["superseded"], ended["vanished"], len(dead))
    refused = [outcome.refused for outcome in outcomes if outcome.refused is not None]
    wcu = float(sum(map(write_units, changes + refused)))
    result = WriteResult(counts, Units(rcu, wcu), dead, changes[:MOST_SAMPLES])
    return written_page(applied, counts_without_write(applied), result)


class _Phase:
    """One phase of a dry run in memory: the job's own, or an earlier one."""

    def __init__(self, job: Job, resources: Resources) -> None:
        self._job = job
        self._resources = resources
        self._rcu = 0.0
        self.version = Version(job, resources)

    def setup(self, job: Job, wire: Wire, before: Sequence[_Phase]) -> None:
        """Load the version. `job` is the job of the dry run, `before` are the phases before this one."""
        self.version.setup()
        self._before = before
        self._wire = wire
        self._write = statements(replace(self._job, dry_run=False)).write
        reads = rate_limiter_of(job, self._resources).reads
        self._reads = Reads(wire, self._job.written_table, rate_queue=reads, sleep=self._resources.sleep)
        rows = INSERTED_ROWS if self._job.inserts_rows else ""
        self._memory = context_of(self._job).remembered.setdefault(rows, RecentKeys())

    def outcomes(self, images: Sequence[Image]) -> list[AttemptOutcome]:
        """The outcome of the phase for each image."""
        if self._job.inserts_rows and self._job.direction == "down":
            return self._removals(images)
        attempts = [attempt_change(image, self._change_of, self._write) for image in images]
        placed = self._items_at_keys(inserts_of([found.change for found in attempts if found.change is not None]))
        stays = leaves(self._change_of, self._job.target)
        with self._memory.lock:
            return [outcome_of_attempt(found, placed, self._memory, stays) for found in attempts]

    def _change_of(self, image: Image) -> Change | None:
        """The change of an image. Raises AcceptedError for the item of an accepted dead letter, which no run would try
        again."""
        table = self._job.written_table if self._job.inserts_rows else self._job.table
        if self._job.accepted and key_text(key_of(table, image)) in self._job.accepted:
            raise AcceptedError
        return self.version.change_of(image)

    def _removals(self, rows: Sequence[Image]) -> list[AttemptOutcome]:
        """The outcomes of a `down` for rows of `items()`, which are deleted if they are unchanged."""
        table = self._job.written_table
        wanted = [Insert(table.name, key_of(table, row), row) for row in rows]
        there = self._items_at_keys(wanted)

        def removal(row: Insert) -> AttemptOutcome:
            now = there.get(key_text(row.key))
            if now is None or not same_image(now, row.item):
                return AttemptOutcome(row.item, "vanished" if now is None else "superseded")
            return AttemptOutcome(row.item, "changed", Remove(row.key, now))

        return [removal(row) for row in wanted]

    def added(self, rows: Sequence[Image]) -> dict[str, list[Image]]:
        """The rows of `items()` among these that the phase inserts, by table."""
        changes = (outcome.change for outcome in self.outcomes(rows))
        return {self._job.written_table.name: [row.item for row in changes if isinstance(row, Insert)]}

    def pass_on(self, there: dict[str, list[Image]]) -> None:
        """Replace the items, by table, by those after the phase."""
        if self._job.inserts_rows:
            table = self._job.written_table.name
            if self._job.direction == "down" and there.get(table):
                there[table] = self._without_rows(there[table])
            return
        images = there.pop(self._job.table.name, [])
        for outcome in self.outcomes(images) if images else ():
            stays, inserts = effect(outcome.image, outcome.change)
            for table, item in ((self._job.table.name, stays), *((part.table, part.item) for part in inserts)):
                if item is not None:
                    there.setdefault(table, []).append(item)

    # ------------------------------------------------------------ taken keys

    def read_units(self) -> float:
        """The read units of key lookups since the last call."""
        rcu, self._rcu = self._rcu, 0.0
        return rcu

    def _items_at_keys(self, wanted: Sequence[Insert]) -> dict[str, Image]:
        """The items at the keys of insertions when the phase begins, by `key_text`: those of the table after the
        earlier phases, and those that these phases have inserted."""
        if not wanted:
            return {}
        parts = {key_text(part.key): part for part in wanted}
        there = self._reads.items([part.key for part in parts.values()])
        self._rcu += there.rcu
        found = dict(there.items)
        with without_output():
            for phase in self._before:
                phase._pass_over(found, parts)
        return found

    def _pass_over(self, found: dict[str, Image], wanted: Mapping[str, Insert]) -> None:
        """Replace the items `found` of the wanted keys by those after the phase."""
        name = next(iter(wanted.values())).table
        if not self._job.inserts_rows and name == self._job.table.name:
            stay = {text: self._stays(image) for text, image in found.items()}
            found |= {text: image for text, image in stay.items() if image is not None}
            for text in [text for text, image in stay.items() if image is None]:
                del found[text]
        if name == self._job.written_table.name:
            self._fill(found, wanted)

    def _fill(self, found: dict[str, Image], wanted: Mapping[str, Insert]) -> None:
        """As `_pass_over`, for the rows that the phase inserts or deletes."""
        if self._job.inserts_rows and self._job.direction == "down":
            left = {key_text(key_of(self._job.written_table, one)) for one in self._without_rows(list(found.values()))}
            for text in found.keys() - left:
                del found[text]
            return
        for text in wanted.keys() - found.keys():
            if self._job.inserts_rows and text in self._rows:
                found[text] = self._rows[text].item
            elif (row := self._memory.row(text)) is not None:
                part = wanted[text]
                found[text] = part.item if row.item == image_digest(part.item) else _UNKNOWN

    def _stays(self, image: Image) -> Image | None:
        """The item after the phase, if it is still at its key. Its own insertions are assumed to succeed."""
        if not image:
            return image
        return effect(image, attempt_change(image, self._change_of, self._write).change).stays

    # ------------------------------------------------------------ rows of `items()`

    def _without_rows(self, images: list[Image]) -> list[Image]:
        """The images without the rows of `items()` that the run to roll back has inserted and that are unchanged."""
        table = self._job.written_table
        texts = [key_text(key_of(table, image)) if image else "" for image in images]
        pairs = list(zip(texts, images, strict=True))
        equal = {
            text: key_of(table, image)
            for text, image in pairs
            if text in self._rows and self._rows[text].digest == image_digest(image)
        }
        own = inserted_items(self._wire, self._job, self._resources.sleep).rows_at(list(equal.values()))
        return [image for text, image in pairs if text not in own]

    @cached_property
    def _rows(self) -> dict[str, _Row]:
        """The rows that the phase inserts or deletes, by `key_text`, the first ones with their items."""
        job, found = self._job, dict[str, _Row]()
        table = table_of_rows(self._job.written_table, job.direction)
        for row in item_rows(job.script):
            image = row_image(job.script, table, row)
            kept = image if len(found) < _MOST_ROWS else _UNKNOWN
            found[key_text(key_of(table, image))] = _Row(image_digest(image), kept)
        return found


class _Row(NamedTuple):
    digest: str
    item: Image
