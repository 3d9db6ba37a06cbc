"""`WriteToDynamoDB`: puts, insertions, guarded patches and deletions, for any pipeline.

::

    elements ── change ── pages of one bundle ── written page by page ──▶ written
                                                 `pipeline.write_page` └▶ failed, with the error

A page has each key once: a later element of the same key is written after the earlier one, in the next page. Several
requests of a page are unanswered at once, each of at most 25 writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import EllipsisType
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, get_args

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from dynamodt.dynamodb.batch import Writes
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.statements import Replacing, Statements
from dynamodt.errors import ItemError, UsageError
from dynamodt.io.connector import (
    METRICS,
    Budget,
    Connector,
    Endpoint,
    UnitCounter,
    check_table,
    in_full,
    no_such_output,
)
from dynamodt.io.rows import as_item
from dynamodt.model.tables import Change, Guard, Image, Insert, Item, Remove, TableSpec, Update
from dynamodt.pipeline.outcomes import WriteResult
from dynamodt.pipeline.own_writes import Lookups
from dynamodt.pipeline.process import reduce_collections
from dynamodt.pipeline.write_page import GaveUp, PageWriter
from dynamodt.script.codec import encode, key_text
from dynamodt.script.diff import change, checked_key, insert

Mode: TypeAlias = Literal["put", "put_if_absent", "patch", "delete"]
Code: TypeAlias = Literal["invalid", "exists", "conflict", "missing", "rejected", "gave_up", "in_doubt"]

PAGE = 500  # elements that a bundle gathers before it writes
_WRITERS = 8  # requests of a page that are unanswered at once
_FAILED, _WRITTEN = "failed", "written"
_ENDS: dict[str, tuple[Code, str]] = {
    "superseded": ("conflict", "the item differs from `old`"),
    "vanished": ("missing", "there is no item of this key"),
}
_EXISTS: tuple[Code, str] = ("exists", "another item has this key")


class WriteError(NamedTuple):
    """The reason why an element was not written.

    - `invalid`: the table cannot hold it; nothing was sent.
    - `exists`: for `put_if_absent`, another item has its key.
    - `conflict`: for a guarded patch, the item differs from `old`, and from the patch's result.
    - `missing`: for a patch, the item does not exist.
    - `rejected`: DynamoDB refuses the write.
    - `gave_up`: it was throttled at each of its tries.
    - `in_doubt`: a request was never answered, and the item does not show whether it had an effect.
    """

    code: Code
    message: str


class FailedWrite(NamedTuple):
    """An element that was not written."""

    element: Any
    error: WriteError


class WriteOutcome(NamedTuple):
    """The two outputs of writing: the elements, and `FailedWrite`s."""

    written: Any
    failed: Any

    def __getattr__(self, name: str) -> NoReturn:
        no_such_output(self, name)


@dataclass(kw_only=True, eq=False, repr=False)
class WriteToDynamoDB(Connector):
    """Writes the elements of a PCollection to a table.

    Args:
      table: the table's name, or its ARN where it is in another account or region.
      mode: `put`, of items: each replaces what has its key. `put_if_absent`, of items: each is written where its key is
        free; an equal item there counts as written. `patch`, of pairs `(old, new)` of one key: what differs is set and
        removed. `delete`, of items or keys: what has the key is deleted.
      guard: of a patch, what must be as in `old`: `item`, each attribute of it, by default; `changed`, those that the
        patch sets or removes; None: the item must exist. Attributes that `old` does not have and the patch does not
        set are kept.
      max_wcu: the most write units a second, over all `processes`; by default as many as the table takes.
      processes: the runner's worker processes, each of which has an equal part of `max_wcu`; known of Beam's
        in-process runner, and needed on any other.
      region, endpoint_url, profile: where the table is; by default as the worker's environment has it.

    Returns two PCollections: `written`, the elements, and `failed`, `FailedWrite`s. An element that the table cannot
    hold fails alone. Throttled and unanswered writes are sent again with back-off. Elements of one key in one bundle
    are written in their order; those of different bundles have none.

    A bundle that the runner repeats has the same result for put and delete unless others write the same keys meanwhile,
    and for `put_if_absent` and guarded patches in any case: what a first attempt has written counts as written.

    Raises UsageError at construction for what can be known there; on a worker ServiceError for a table that does not
    exist or may not be written, and when no connection can be had.
    """

    table: str = field(kw_only=False)
    mode: Mode = "put"
    guard: Guard | EllipsisType | None = ...
    max_wcu: float | None = None
    processes: int | None = None

    @in_full()
    def __post_init__(self) -> None:
        super().__post_init__()
        where, guard = self._where, self.guard
        _check_one_of("mode", self.mode, get_args(Mode), where)
        if isinstance(guard, EllipsisType):
            guard = "item"
        elif self.mode != "patch":
            hint = "leave guard out, or give pairs (old, new) to mode='patch'"
            what = f"guard is {guard!r}, and mode {self.mode!r} compares nothing: only a patch has a guard"
            raise UsageError(what, where=where, hint=hint)
        _check_one_of("guard", guard, (*get_args(Guard), None), where)
        self._target = Target(check_table(self.table, where), self.mode, guard, self._endpoint)
        self._budget = Budget.of("max_wcu", self.max_wcu, self.processes, where)

    @in_full()
    def expand(self, pcoll: Any) -> WriteOutcome:
        writer = _WriteElements(self._target, self._budget.on(pcoll.pipeline, self._where))
        outputs = pcoll | "Write elements" >> beam.ParDo(writer).with_outputs(_FAILED, main=_WRITTEN)
        outputs[_WRITTEN].element_type = pcoll.element_type
        outputs[_FAILED].element_type = FailedWrite
        return WriteOutcome(outputs[_WRITTEN], outputs[_FAILED])

    def display_data(self) -> dict[str, Any]:
        target = self._target
        guard = str(target.guard) if target.mode == "patch" else None
        shown = {"table": target.table, "mode": target.mode, "guard": guard, **self._budget.shown("max_wcu")}
        return {name: value for name, value in {**shown, **target.endpoint.shown()}.items() if value is not None}


def _check_one_of(option: str, value: object, allowed: Sequence[object], where: str) -> None:
    if value not in allowed:
        raise UsageError(f"{option} is {value!r}", where=where, hint=f"give one of {', '.join(map(repr, allowed))}")


@dataclass(frozen=True)
class Target:
    """The written table, with the mode and the guard."""

    table: str
    mode: Mode
    guard: Guard | None
    endpoint: Endpoint

    def statements(self, spec: TableSpec) -> Statements:
        """The requests of the mode."""
        return Replacing(spec) if self.mode in ("put", "delete") else Statements(spec, self.guard)


class _Element(NamedTuple):
    """An element with its change, timestamp and window."""

    value: Any
    change: Change
    timestamp: Any
    window: Any


class _WriteElements(beam.DoFn):
    """Turns elements into written elements and `FailedWrite`s."""

    def __init__(self, target: Target, budget: Budget) -> None:
        self._target = target
        self._budget = budget

    @in_full()
    def setup(self) -> None:
        target = self._target
        reduce_collections()  # as the readers
        self._metrics = WriteMetrics()
        self._spec = _description(target.endpoint, target.table, self._budget.key)
        self._change_of = _CHANGES[target.mode]
        wire = target.endpoint.wire(target.table)
        self._writer = PageWriter(
            Writes(wire, target.table, answered=self._metrics.request),
            Lookups(Reads(wire, self._spec)),
            target.statements(self._spec),
            None,
            _WRITERS,
            rate_queue=self._budget.queue(),
        )

    def start_bundle(self) -> None:
        self._pages: list[list[_Element]] = []
        self._met: dict[str, int] = {}
        self._size = 0

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        try:
            found = self._change_of(self._spec, element)
        except (ItemError, TypeError, ValueError) as error:
            yield self._failed_output(element, WriteError("invalid", _text(error)))
            return
        if found is None:  # a patch without a difference
            self._metrics.unchanged()
            yield element
            return
        self._gather(_Element(element, found, timestamp, window))
        if self._size == PAGE:
            yield from self._write_pages()

    def finish_bundle(self) -> Iterator[Any]:
        yield from self._write_pages()

    def _gather(self, element: _Element) -> None:
        """Put an element into the first page that follows those with its key."""
        text = key_text(element.change.key)
        number = self._met.get(text, 0)
        if number == len(self._pages):
            self._pages.append([])
        self._pages[number].append(element)
        self._met[text] = number + 1
        self._size += 1

    def _write_pages(self) -> Iterator[Any]:
        pages = self._pages
        self.start_bundle()
        for page in pages:
            ends = PageEnds()
            with in_full():
                self._writer.write([element.change for element in page], ends)
            self._metrics.page(ends)
            for element in page:
                error = ends.error(element.change)
                value = element.value if error is None else self._failed_output(element.value, error)
                yield _in_window(value, element)

    def _failed_output(self, element: Any, error: WriteError) -> TaggedOutput:
        self._metrics.failed(error.code)
        return TaggedOutput(_FAILED, FailedWrite(element, error))


def _in_window(value: Any, element: _Element) -> Any:
    place = partial(WindowedValue, timestamp=element.timestamp, windows=(element.window,))
    return TaggedOutput(value.tag, place(value.value)) if isinstance(value, TaggedOutput) else place(value)


@lru_cache(maxsize=256)
def _description(endpoint: Endpoint, table: str, transform: str) -> TableSpec:
    """A table's description, requested once for each transform: the next pipeline of the process may find another key
    or index."""
    return endpoint.describe(table)


# ---------------------------------------------------------------- elements as changes


def _put(spec: TableSpec, element: Any) -> Insert:
    return insert(spec, _item(element))


def _patch(spec: TableSpec, element: Any) -> Update | None:
    if not (isinstance(element, tuple | list) and len(element) == 2):
        raise ItemError("an element must be a pair: (old, new)")
    old, new = map(_item, element)
    image = encode(old)
    key = checked_key(spec, image, "old")
    if any(new.get(name) is not old[name] for name in key) and key_text(_key(spec, new, "new")) != key_text(key):
        raise ItemError("old and new have different keys", hint="delete the one, and put the other")
    found = change(spec, image, old, new)
    assert found is None or isinstance(found, Update)
    return found


def _delete(spec: TableSpec, element: Any) -> Remove:
    key = _key(spec, _item(element), "a deletion")
    return Remove(key, key)


def _key(spec: TableSpec, item: Item, what: str) -> Image:
    """The key of an item, whose other attributes may be invalid."""
    return checked_key(spec, encode({name: item[name] for name in spec.key_names if name in item}), what)


_CHANGES: dict[str, Callable[[TableSpec, Any], Change | None]] = {
    "put": _put,
    "put_if_absent": _put,
    "patch": _patch,
    "delete": _delete,
}


def _item(element: Any) -> Item:
    """An element as an item: a dict, or a row."""
    found = element if isinstance(element, dict) else as_item(element)
    if found is None:
        raise ItemError(f"an item must be a dict or a row, not {type(element).__name__}")
    return found


def _text(error: Exception) -> str:
    hint = getattr(error, "hint", "")
    return f"{error} ({hint})" if hint else str(error)


# ---------------------------------------------------------------- outcomes


@dataclass(slots=True)
class PageEnds(WriteResult):
    """The outcomes of a page, by key."""

    errors: dict[str, WriteError] = field(default_factory=dict)

    def error(self, change: Change) -> WriteError | None:
        """The reason why a change was not written; None if it was."""
        return self.errors.get(key_text(change.key)) if self.errors else None

    def end(self, change: Change, kind: str, *, unconfirmed: bool = False) -> None:
        WriteResult.end(self, change, kind, unconfirmed=unconfirmed)
        if kind in _ENDS:
            found = _EXISTS if isinstance(change, Insert) else _ENDS[kind]
            self.errors[key_text(change.key)] = WriteError(*found)

    def bury(self, change: Change, error: BaseException, now: Image | None, step: str) -> None:
        self.counts = self.counts._replace(dead=self.counts.dead + 1)
        code: Code = "in_doubt" if step == "doubt" else "gave_up" if isinstance(error, GaveUp) else "rejected"
        self.errors[key_text(change.key)] = WriteError(code, getattr(error, "what", str(error)))


class WriteMetrics:
    """The metrics of writes, in the namespace `dynamodt.io`."""

    def __init__(self) -> None:
        self._items = Metrics.counter(METRICS, "items_written")
        self._unchanged = Metrics.counter(METRICS, "items_unchanged")
        self._failures = Metrics.counter(METRICS, "items_failed")
        self._units = UnitCounter("write_units")
        self._throttles = Metrics.counter(METRICS, "write_throttles")
        self._conflicts = Metrics.counter(METRICS, "write_conflicts")
        self._sizes = Metrics.distribution(METRICS, "write_batch_items")
        self._latency = Metrics.distribution(METRICS, "write_latency_ms")

    def request(self, size: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._sizes.update(size)
        self._latency.update(round(1000 * seconds))

    def page(self, ends: WriteResult) -> None:
        """Count a page that was written."""
        self._units.add(ends.units.wcu)
        self._throttles.inc(ends.contention.throttles)
        self._conflicts.inc(ends.contention.conflicts)
        self._items.inc(ends.counts.changed + ends.counts.unchanged)

    def unchanged(self) -> None:
        """Count an element that needs no write."""
        self._unchanged.inc()

    def failed(self, code: str) -> None:
        """Count an element that was not written."""
        self._failures.inc()
        Metrics.counter(METRICS, f"failed_{code}").inc()
