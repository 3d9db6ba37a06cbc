"""Estimates the changes by the versions of a table, by applying them in order to a sample of its items.

All figures are spans: the likely value, and the bounds of the 95 % interval (Wilson's) of the share of items on which
it depends. A sample of the whole table has no such uncertainty. The units of a change are the average of the sampled
changes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Statements
from dynamodt.dynamodb.wire import shared_wire
from dynamodt.errors import error_text
from dynamodt.model.runs import Script
from dynamodt.model.tables import STATE_TABLE, Change, Image, Insert, TableSpec
from dynamodt.pipeline.attempts import Rehearsal, rehearsed_run
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.process import mute_beam
from dynamodt.runs.budget import read_limiter
from dynamodt.script.apply import Attempt, effect, item_rows, row_image
from dynamodt.script.codec import image_bytes
from dynamodt.script.diff import Charge, charge_of, key_of
from dynamodt.state.journal import Journal
from dynamodt.state.object_keys import JOURNAL, object_key

if TYPE_CHECKING:
    from dynamodt.runs.context import Project

_Z = 1.96  # of a 95 % interval
_A_MOMENT = 1_700_000_000_000_000  # microseconds since 1970, of the usual number of digits


class Span(NamedTuple):
    """A likely value and its bounds."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0

    def times(self, factor: float) -> Span:
        return Span(self.low * factor, self.likely * factor, self.high * factor)


def sum_of(spans: Iterable[Span]) -> Span:
    return Span(*map(sum, zip(*spans, strict=True)))


def sum_if_known(spans: Iterable[Span | None]) -> Span | None:
    """The sum; None if one of them is not known."""
    found = list(spans)
    known = [span for span in found if span is not None]
    return sum_of(known) if len(known) == len(found) else None


def share_of(hits: int, number: int, whole: bool) -> Span:
    """The share of items, if `hits` of a sample of `number` have a property; exact for the whole table."""
    if not number:
        return Span() if whole else Span(0.0, 0.0, 1.0)
    p = hits / number
    if whole:
        return Span(p, p, p)
    spread = _Z * sqrt(p * (1 - p) / number + _Z**2 / (4 * number**2))
    middle, scale = p + _Z**2 / (2 * number), 1 + _Z**2 / number
    low, high = (middle - spread) / scale, (middle + spread) / scale
    return Span(0.0 if not hits else max(0.0, low), p, 1.0 if hits == number else min(1.0, high))


@dataclass(frozen=True)
class Stratum:
    """A sample of a table's items that stands for `items` items. `whole`: these are all of them."""

    images: tuple[Image, ...]
    items: float
    whole: bool

    @property
    def bytes(self) -> float:
        """The total size of the items for which the sample stands."""
        return self.items * sum(map(image_bytes, self.images)) / len(self.images) if self.images else 0.0


@dataclass
class Tally:
    """The attempts of a version on the items of a stratum."""

    stratum: Stratum
    charges: list[Charge] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    after: list[Image] = field(default_factory=list)
    errors: list[Attempt] = field(default_factory=list)

    def add(self, attempt: Attempt, table: TableSpec, written: TableSpec) -> None:
        if attempt.error is not None:
            self.errors.append(attempt)
        if attempt.change is not None:
            self.changes.append(attempt.change)
            self.charges.append(charge_of(attempt.change, written))
        left = effect(attempt.image, attempt.change)
        self.after += [left.stays] if left.stays is not None else []
        self.after += [one.item for one in left.inserts if one.table == table.name]

    @property
    def changed(self) -> Span:
        """The share of items that are changed."""
        return share_of(len(self.changes), len(self.stratum.images), self.stratum.whole)

    def amount(self, of_changes: Sequence[float], least: float = 1.0) -> Span:
        """The total of the whole stratum, from the amounts of the sampled changes. `least` is the amount of one change
        if the sample has no change."""
        hits = [one for one in of_changes if one]
        mean = sum(hits) / len(hits) if hits else least
        share = share_of(len(hits), len(self.stratum.images), self.stratum.whole)
        return share.times(mean * self.stratum.items)

    def next(self) -> Stratum:
        """The stratum after the version."""
        number = len(self.stratum.images)
        grown = len(self.after) / number if number else 1.0
        return Stratum(tuple(self.after), self.stratum.items * grown, self.stratum.whole)


@dataclass(frozen=True)
class VersionEstimate:
    """The estimated effect of one version. `indexes` are write units by the index's name, `records` the items that are
    written; `journal_bytes` are compressed. `dead` of the sampled items become dead letters; `error` is that of the
    first."""

    version: int
    name: str
    items: float
    bytes: float
    sample_items: int
    share: Span
    changed: Span
    table: Span
    indexes: Mapping[str, Span]
    records: Span
    journal_bytes: Span
    read_again: Span = Span()  # the read units of items that are read a second time, before they are written
    rows: int = 0  # of items()
    dead: int = 0
    error: str = ""

    @property
    def wcu(self) -> Span:
        return sum_of([self.table, *self.indexes.values()])


class Chain:
    """Applies versions in order, each to the sample as the previous version left it."""

    def __init__(self, table: TableSpec, sample: Stratum, keep: int) -> None:
        self._table = table
        self._strata = [sample]
        self._keep = keep  # rows of items() that later versions are applied to

    def apply(
        self, script: Script, prepared: Mapping[Any, Any], target: TableSpec | None, snapshot: bool, journals: bool
    ) -> VersionEstimate:
        """The estimate of the next version. Raises ScriptError for a fault that would stop the run."""
        written = target or self._table
        tallies = [self._tally(script, stratum, prepared, target, snapshot) for stratum in self._strata]
        before, self._strata = self._strata, [tally.next() for tally in tallies]
        rows = self._rows(script, written)
        if rows is not None and target is None:
            self._strata.append(self._kept(rows.stratum))
        return _estimate(script, before, [*tallies, *([rows] if rows else [])], written, journals)

    def _tally(
        self, script: Script, stratum: Stratum, prepared: Mapping[Any, Any], target: TableSpec | None, snapshot: bool
    ) -> Tally:
        tally, written = Tally(stratum), target or self._table
        if not script.has_up:
            tally.after = list(stratum.images)
            return tally
        request = Statements(self._table, script.guard, InsertedRows(STATE_TABLE, "plan")).write
        run = rehearsed_run(script.sequence)  # each version has a stamp of its own
        with (
            mute_beam(),
            labelled(script),
            Rehearsal(
                script, self._table, prepared=prepared, target=target, run=run, request=request, snapshot=snapshot
            ) as rehearsal,
        ):
            for image in stratum.images:
                tally.add(rehearsal.attempt(image), self._table, written)
        return tally

    def _rows(self, script: Script, written: TableSpec) -> Tally | None:
        """The rows of `items()`, each an insertion."""
        if not script.has_items:
            return None
        images = [row_image(script, written, row) for row in item_rows(script)]
        tally = Tally(Stratum(tuple(images), float(len(images)), True))
        tally.changes = [Insert(written.name, key_of(written, image), image) for image in images]
        tally.charges = [charge_of(change, written) for change in tally.changes]
        return tally

    def _kept(self, rows: Stratum) -> Stratum:
        """The rows, or a random sample of them if there are many."""
        many = len(rows.images) > self._keep
        kept = tuple(random.Random(0).sample(rows.images, self._keep)) if many else rows.images
        return Stratum(kept, rows.items, len(kept) == len(rows.images))


def _estimate(
    script: Script, before: Sequence[Stratum], tallies: Sequence[Tally], written: TableSpec, journals: bool
) -> VersionEstimate:
    main, errors = tallies[0], [one.error for tally in tallies for one in tally.errors if one.error]
    changes = [change for tally in tallies for change in tally.changes]
    each = _journaled(written, changes) if journals else 0.0
    changed = sum_of(tally.changed.times(tally.stratum.items) for tally in tallies)
    return VersionEstimate(
        script.sequence,
        script.name,
        items=sum(stratum.items for stratum in before),
        bytes=sum(stratum.bytes for stratum in before),
        sample_items=len(main.stratum.images),
        share=main.changed,
        changed=changed,
        table=sum_of(tally.amount([charge.table for charge in tally.charges]) for tally in tallies),
        indexes={
            index.name: sum_of(
                tally.amount([charge.indexes.get(index.name, 0.0) for charge in tally.charges]) for tally in tallies
            )
            for index in written.projections
        },
        records=sum_of(tally.amount([float(charge.records) for charge in tally.charges]) for tally in tallies),
        read_again=sum_of(tally.amount([charge.reads for charge in tally.charges], 0.0) for tally in tallies),
        journal_bytes=changed.times(each),
        rows=len(tallies[-1].stratum.images) if script.has_items else 0,
        dead=len(errors),
        error=error_text(errors[0]) if errors else "",
    )


class _Sizes:
    """A storage that only counts what is written to it."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, name: str, data: bytes) -> None:
        self.bytes += len(data)


def _journaled(written: TableSpec, changes: Sequence[Change]) -> float:
    """The bytes of the journal for each change, compressed as a run compresses a page."""
    if not changes:
        return 0.0
    sizes = _Sizes()
    journal = Journal(sizes, written, object_key(written.name, "plan", JOURNAL))  # type: ignore[arg-type]
    journal.write(0, 1, 1, 1, changes, _A_MOMENT)
    return sizes.bytes / len(changes)


# ---------------------------------------------------------------- the sample

# The sample consists of random segments of a scan. Segments divide the hashed keys, so that their items are random,
# except that items of one partition key come together. A table with no more items than the sample is read as a whole.

_PLACES = 50  # the number of segments that contribute to a sample of a large table
_LEAST_SEGMENTS, _MOST_SEGMENTS = 16, 4096


@dataclass(frozen=True)
class TableSample:
    """Some items and their `source`. `whole`: all items of the table. `version`: the version that they have; None: the
    table's present one."""

    images: tuple[Image, ...]
    whole: bool
    read_units: float = 0.0
    source: str = ""
    version: int | None = None


def read_sample(
    project: Project, table: TableSpec, number: int, consistent: bool = False, dice: random.Random | None = None
) -> TableSample:
    """At most `number` items of the table, read within the budget for reads. Raises ServiceError."""
    dice = dice or random.Random()
    each = table.item_units(consistent)
    limiter = read_limiter(project.stage, table.read_units, project.options)
    wire = shared_wire(project.stage.connection.of_table(table.name))
    reads = Reads(wire, table, rate_queue=limiter, units=lambda items: items * each)
    units = 0.0
    if 0 < table.item_count <= number:  # the count may be outdated; a scan as a whole takes the fewest units
        found = _read(reads, [(0, None)], 1, number, number + 1, consistent)
        if found.whole:
            return found
        units = found.read_units
    limit = max(1, -(-number // _PLACES))
    wanted = min(_MOST_SEGMENTS // 2, max(_LEAST_SEGMENTS, table.item_count // limit))
    total = dice.randint(wanted, 2 * wanted)  # so that the segments differ each time
    begins: list[tuple[int, Image | None]] = [(segment, None) for segment in dice.sample(range(total), total)]
    found = _read(reads, begins, total, number, limit, consistent)
    return replace(found, read_units=found.read_units + units)


def _read(
    reads: Reads, begins: Iterable[tuple[int, Image | None]], total: int, number: int, limit: int, consistent: bool
) -> TableSample:
    """At most `number` items, `limit` from each segment in turn."""
    due, images, units = deque(begins), list[Image](), 0.0
    while due and len(images) <= number:
        segment, cursor = due.popleft()
        page = reads.scan(segment, total, cursor, limit, consistent)
        images += page.images
        units += page.rcu
        if page.cursor is not None:
            due.append((segment, page.cursor))
    return TableSample(tuple(images[:number]), whole=not due and len(images) <= number, read_units=units)
