"""One side of a version, loaded and applied to one item at a time, with observations of how it handles the item.

An `Outcome` has the items of the table and of the target that replace the item. `script.apply` makes it, as in a run,
and raises the same errors.

Calls of the author's code have a time limit, and their output is kept. The limit is a timer's signal, which interrupts
Python code, sleeps and waits of the main thread, but neither another thread nor native code.
"""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any, NamedTuple

from dynamodt.dynamodb.inserted_rows import InsertedRows
from dynamodt.dynamodb.statements import Statements
from dynamodt.errors import DynamodtError, ItemError, ScriptError, error_text
from dynamodt.model.runs import Script
from dynamodt.model.tables import Change, Direction, Image, Insert, Item, Put, TableSpec
from dynamodt.pipeline.process import redirected
from dynamodt.script.apply import Apply, ChangeOf, attempt_change, check_stamp, effect, item_rows, row_image
from dynamodt.script.codec import holds, key_text, same_image
from dynamodt.script.diff import key_of, key_shown, parts_of
from dynamodt.script.functions import Result, Transform
from dynamodt.script.load import author_line

_FROZEN = (list, dict, set)


_TICK = 0.5
_MOST = 64 * 1024  # characters of output


class HangError(BaseException):
    """A call of the author's code has not returned in time. No `except Exception` of a script catches this error."""


class _Kept(io.TextIOBase):
    """A text stream that keeps its beginning and counts lines."""

    def __init__(self) -> None:
        self.text = ""
        self.lines = 0

    def write(self, text: str) -> int:
        self.lines += text.count("\n")
        self.text += text[: _MOST - len(self.text)]
        return len(text)

    def writable(self) -> bool:
        return True


class CallLimit:
    """Limits each call within `with` to `seconds`; `printed` is the output of the author's code so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.printed = _Kept()
        self._calls = 0
        self._inside = False
        self._seen = (0, 0)  # a call, and the number of ticks that have found it

    def __enter__(self) -> None:
        self._calls += 1
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """A context in which calls are limited, and stdout and stderr do not reach the terminal."""
        with redirected(self.printed), self._timer():
            yield

    @contextmanager
    def _timer(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        tick = min(_TICK, self.seconds / 2)
        handler = signal.signal(signal.SIGALRM, self._ticked)
        before, interval = signal.setitimer(signal.ITIMER_REAL, tick, tick)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, before, interval)
            signal.signal(signal.SIGALRM, handler)

    def _ticked(self, number: int, frame: FrameType | None) -> None:
        call, ticks = self._seen
        self._seen = (self._calls, ticks + 1 if call == self._calls else 1)
        if self._inside and self._seen[1] * min(_TICK, self.seconds / 2) > self.seconds:
            raise HangError(f"does not return within {self.seconds:g} seconds")


# ---------------------------------------------------------------- one application


class Outcome(NamedTuple):
    """The items that replace an item, by the text of their keys; `elsewhere`: those in the target table. `inserted` are
    the keys of new items."""

    items: dict[str, Image]
    elsewhere: dict[str, Image]
    inserted: frozenset[str]

    def is_as(self, other: Outcome) -> bool:
        return same_items(self.items, other.items) and same_items(self.elsewhere, other.elsewhere)


class Raised(NamedTuple):
    """An error for an item. `name` is the property that it shows, `line` the author's line, `kind` identifies the error
    and its line, independent of the item."""

    name: str
    text: str
    hint: str
    line: str
    kind: str


class Observed(NamedTuple):
    """One application. `alters` names the attributes of its argument that the script has altered; "" if none."""

    outcome: Outcome | None
    raised: Raised | None
    alters: str
    nanoseconds: int


def same_items(one: Mapping[str, Image], other: Mapping[str, Image]) -> bool:
    """Whether two sets of items, by the text of their keys, are equal as DynamoDB compares them."""
    return one.keys() == other.keys() and all(same_image(image, other[text]) for text, image in one.items())


class Subject:
    """The `direction` side of a version. `observe` applies it once. Raises ScriptError if it cannot be loaded, or its
    class cannot be set up; HangError if loading takes too long."""

    def __init__(
        self,
        script: Script,
        direction: Direction,
        table: TableSpec,
        target: TableSpec | None,
        prepared: Mapping[Any, Any],
        limit: CallLimit,
    ) -> None:
        self.script = script
        self.table = table
        self._limit = limit
        with limit:
            self._transform = Transform(script, direction)
            self._transform.setup()
            self._transform.start_bundle()
        self._calls = _Calls(self._transform.apply, limit)
        self._statements = Statements(table, script.guard, InsertedRows("dynamodt", "check"))
        bare = replace(script, stamp=None)
        export = script.source == "export"
        self._strict = self._bound(bare, prepared, target, export)
        self._lenient = self._bound(replace(bare, idempotent=True), prepared, target, export)
        self.reads_own_output: ScriptError | None = None

    def _bound(self, script: Script, prepared: Mapping[Any, Any], target: TableSpec | None, snapshot: bool) -> ChangeOf:
        apply = Apply(script, self._calls, self.table, run="", prepared=prepared, target=target, snapshot=snapshot)  # type: ignore[arg-type]
        return apply.change_of

    def observe(self, image: Image) -> Observed:
        """Applies the version to an item once; a second time when it first shows that a run would read its own
        output."""
        if self.reads_own_output is None:
            try:
                return self._observed(self._strict, image)
            except ScriptError as error:
                self.reads_own_output = error
        return self._observed(self._lenient, image)

    def _observed(self, change_of: ChangeOf, image: Image) -> Observed:
        attempt = attempt_change(image, change_of, self._request)
        if attempt.error is not None:
            return Observed(None, self._raised(attempt.error), "", self._calls.nanoseconds)
        return Observed(self._outcome(image, attempt.change), None, self._calls.alters(image), self._calls.nanoseconds)

    def _request(self, change: Change) -> None:
        """Raises ItemError for a change that no request can hold, and for a mark that would overwrite a value."""
        self._statements.write(change)
        for part in parts_of(change):
            check_stamp(self.script.stamp, part.item if isinstance(part, Insert) else part.read)

    def _outcome(self, image: Image, change: Change | None) -> Outcome:
        after = effect(image, change)
        items = {} if after.stays is None else {key_text(key_of(self.table, image)): after.stays}
        own = {key_text(part.key): part.item for part in after.inserts if part.table == self.table.name}
        elsewhere = {key_text(part.key): part.item for part in after.inserts if part.table != self.table.name}
        return Outcome({**items, **own}, elsewhere, frozenset(own))

    def _raised(self, error: BaseException) -> Raised:
        line = author_line(self.script, error)
        if isinstance(error, HangError):
            return Raised("hangs", str(error), "a run would wait for it: find what it waits for", line, f"hang {line}")
        if isinstance(error, ItemError):
            name = self._property(error)
            text = f"{error.where}: {error.what}" if error.where else error.what
            without_digits = "".join(c for c in text if not c.isdigit())[:80]
            return Raised(name, text, str(error.hint), self.script.path, f"{name} {without_digits}")
        kind = f"{type(error).__name__} {line}{self._named(error)}"
        hint = "such an item becomes a dead letter: handle it in the script, or correct the items first"
        if isinstance(error, DynamodtError):
            return Raised("raises", str(error), str(error.hint), line, kind)
        return Raised("raises", error_text(error), hint, line, kind)

    def _named(self, error: BaseException) -> str:
        """The missing key of a KeyError, if the script names it: two missing keys in one line are two errors. A key
        that the script does not name is an item's value."""
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
        named = isinstance(key, str) and key and any(f"{q}{key}{q}" in self.script.text for q in "'\"")
        return f" {key}" if named else ""

    def _property(self, error: ItemError) -> str:
        """The property that the refusal of an item shows."""
        if "is a key of the index" in error.what:
            return "index keys"
        if error.where in self.table.key_names or "key attribute" in error.what or "one key" in error.what:
            return "key"
        return "size" if "DynamoDB keeps at most" in error.what else "values"

    def close(self) -> None:
        """Ends the class's life cycle. Raises ScriptError if `finish_bundle` fails; ignores an error of teardown, as
        Beam does in a run. Raises HangError."""
        with self._limit:
            try:
                self._transform.finish_bundle()
            finally:
                with suppress(ScriptError):
                    self._transform.teardown()


class _Calls:
    """The author's function, with a record of its last call. It replaces the Transform that `Apply` calls."""

    def __init__(self, function: Callable[[Item, Mapping[Any, Any]], list[Result]], limit: CallLimit) -> None:
        self._function = function
        self._limit = limit
        self._handed: Item = {}
        self._before: Item = {}
        self._results: list[Result] = []
        self.nanoseconds = 0

    def apply(self, item: Item, prepared: Mapping[Any, Any]) -> list[Result]:
        self._handed, self._before, self._results = item, dict(item), []
        begun = time.perf_counter_ns()
        try:
            with self._limit:
                self._results = self._function(item, prepared)
        finally:
            self.nanoseconds = time.perf_counter_ns() - begun
        return self._results

    def alters(self, image: Image) -> str:
        """The attributes whose lists, maps or sets the script has altered in its argument, while the result is another
        dict. A script may alter its argument if it returns it."""
        given = {name: value for name, value in self._before.items() if type(value) in _FROZEN}
        altered = [name for name, value in given.items() if not holds(image[name], value)]
        dicts = [result.item if isinstance(result, Put) else result for result in self._results]
        only_itself = len(dicts) == 1 and dicts[0] is self._handed
        return "" if only_itself or not altered else ", ".join(sorted(altered))


def applied_to_all(subject: Subject, images: Iterable[Image]) -> tuple[dict[str, Image], Raised | None]:
    """The results of a version for several items, by the text of their keys, and the first error."""
    found: dict[str, Image] = {}
    for image in images:
        observed = subject.observe(image)
        if observed.outcome is None:
            return found, observed.raised
        found.update(observed.outcome.items)
    return found, None


def first_rows(script: Script, table: TableSpec, limit: CallLimit, most: int) -> list[Image]:
    """The first rows of `items()`, as images of the table. Raises ScriptError for a row that the table cannot hold, and
    for two with the same key."""
    found: dict[str, Image] = {}
    rows = item_rows(script)
    while len(found) < most:
        with limit:
            row = next(rows, None)
        if row is None:
            break
        image = row_image(script, table, row)
        text = key_text(key_of(table, image))
        if text in found:
            what = f"items() gives two rows with one key: {key_shown(key_of(table, image))}"
            raise ScriptError(what, where=script.path, hint="give each row a key of its own: only the first is written")
        found[text] = image
    return list(found.values())
