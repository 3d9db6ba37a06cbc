"""Applies the author's functions: `transform_up` and `transform_down` turn an image into a change; `prepare(context)`
and `items()` give rows.

Dry runs, `check` and authors' tests apply a version by `attempt_change`, with every check that a real write makes
before it is sent. It accepts and refuses the same items as a run, in which `pipeline.migrate` calls the author's
function and `pipeline.write_page` makes the requests. Conflicts with other items, such as a taken key, are resolved by
`pipeline.conflicts`. Refusals by the service (a throttle, a concurrent write) occur in a run only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from itertools import count
from typing import Any, Final, Literal, NamedTuple, NoReturn

from dynamodt.errors import DynamodtError, ItemError, ScriptError
from dynamodt.model import tables
from dynamodt.model.runs import Script
from dynamodt.model.tables import (
    Atomic,
    Change,
    Check,
    Delete,
    Direction,
    Image,
    Insert,
    Item,
    Put,
    Remove,
    TableSpec,
    Update,
)
from dynamodt.script.codec import decode, key_text
from dynamodt.script.diff import (
    Part,
    change,
    check_fits,
    combined_change,
    image_after,
    insert,
    key_of,
    parts_of,
    transaction_of,
    with_stamp,
)
from dynamodt.script.functions import Transform, row_function
from dynamodt.script.load import end_forked_process, is_interrupt, line_of, load, script_failure
from dynamodt.script.names import is_run_id

NO_INSERTION = {  # the hint, by whether the table is a strongly consistent global one
    True: "write the items by a program of your own, or to a table without replicas",
    False: "run the version on a stage of that account and region, whose state table is there; or write the items by a "
    "program of your own",
}


_DIGITS = Context(prec=38)  # DynamoDB's precision; Python's default of 28 would round the author's sums silently


class Apply:
    """A loaded script with its table, its prepared data and its run. `snapshot`: the run reads an export, in which its
    own insertions are absent; `final_scan`: the run scans the table afterwards.

    `change_of` raises ItemError, or the author's exception, for an item that becomes a dead letter, and ScriptError for
    a fault that stops the whole run.
    """

    def __init__(
        self,
        script: Script,
        transform: Transform,
        table: TableSpec,
        *,
        run: str,
        prepared: Mapping[Any, Any],
        target: TableSpec | None = None,
        snapshot: bool = False,
        final_scan: bool = False,
    ) -> None:
        self._script = script
        self._apply = transform.apply
        self._table = table
        self._target = target
        self._prepared = prepared
        self._stamp = {"S": run} if script.stamp else None
        self._met_again = _reread_of_insertions(script, snapshot, final_scan)

    def change_of(self, image: Image) -> Change | None:
        """The change that the version makes to an item; None if the item stays as it is, or has this run's stamp and
        was therefore changed before."""
        if self._stamp is not None and self._is_done(image):
            return None
        item = decode(image)
        try:
            with localcontext(_DIGITS):
                results = self._apply(dict(item), self._prepared)
        except DynamodtError as error:
            _raise_for_item(error)
        if self._target is not None:
            return self._into_target(image, results, self._target)
        if len(results) == 1 and type(results[0]) is dict:
            found = change(self._table, image, item, results[0])
        else:
            found = combined_change(self._table, image, item, results)
        if found is not None and type(found) is not Update:
            self._check_halloween(found, image)
            self._check_transaction(found)
        return found if self._stamp is None else self._with_stamp(found)

    def _is_done(self, image: Image) -> bool:
        """Whether an item has this run's stamp. Raises as `check_stamp`."""
        attribute = self._script.stamp
        if attribute is not None and image.get(attribute) == self._stamp:
            return True
        check_stamp(attribute, image)
        return False

    def _with_stamp(self, found: Change | None) -> Change | None:
        attribute = self._script.stamp
        if self._stamp is None or attribute is None or found is None:
            return found
        if isinstance(found, Update):
            check_stamp(attribute, found.sets)
            update = with_stamp(self._table, found, attribute, self._stamp)
            return None if update.sets.keys() == {attribute} and not update.removes else update
        if isinstance(found, Atomic):
            return found._replace(parts=tuple(self._part_with_stamp(part, attribute) for part in found.parts))
        return found

    def _part_with_stamp(self, part: Part, attribute: str) -> Part:
        """The part with the stamp, by which the reader of an incremental export recognizes inserted items."""
        assert self._stamp is not None
        if isinstance(part, Update):
            check_stamp(attribute, part.sets)
            return with_stamp(self._table, part, attribute, self._stamp)
        if isinstance(part, Insert):
            check_stamp(attribute, part.item)
            marked = part._replace(item={**part.item, attribute: self._stamp})
            check_fits(self._target or self._table, marked.item)
            return marked
        return part

    def _check_halloween(self, found: Change, image: Image) -> None:
        if self._met_again and any(isinstance(part, Insert) for part in parts_of(found)):
            what, hint = self._met_again
            raise ScriptError(
                f"writes an item under another key into {self._table.name}, {what}",
                where=f"{self._script.path}: item {json.dumps(key_of(self._table, image), ensure_ascii=False)}",
                hint=f"set IDEMPOTENT = True if a second application changes nothing, or {hint}",
            )

    def _check_transaction(self, found: Change) -> None:
        lacking = self._table.lacks_transactions
        if isinstance(found, Atomic) and lacking:
            raise ItemError(
                "another key, or more than one item, needs a transaction with a row of the state table, which DynamoDB "
                f"does not support on {lacking}",
                where=f"table {self._table.name}",
                hint=NO_INSERTION[self._table.strong],
            )

    def _into_target(self, image: Image, results: list[Item | Put | Delete], target: TableSpec) -> Change | None:
        inserts = [insert(target, self._plain(result)) for result in results]
        if len(inserts) > 1:
            raise ItemError("more than one item for the target table", hint="return one dict for each item read")
        return transaction_of(key_of(self._table, image), image, inserts) if inserts else None

    def _plain(self, result: Item | Put | Delete) -> Item:
        if isinstance(result, Delete):
            raise ItemError("Delete() is not allowed with TARGET_TABLE: the source table is never written")
        return result.item if isinstance(result, Put) else result


def check_stamp(attribute: str | None, image: Image) -> None:
    """Raises ItemError unless the stamp's attribute (None: no stamp) is absent or holds an earlier run's stamp."""
    if attribute is not None and attribute in image and not is_run_id(image[attribute].get("S")):
        raise ItemError(
            "STAMP would overwrite this attribute, which holds a value other than a run's id",
            where=attribute,
            hint='name an attribute that nothing else uses: STAMP = "_dynamodt"',
        )


def _raise_for_item(error: DynamodtError) -> NoReturn:
    """Raises an error of dynamodt that the author's function has raised: by a command, it is the item's, too."""
    of_item = isinstance(error, ItemError | ScriptError)
    raise error if of_item else ItemError(f"{type(error).__name__}: {error}", hint=error.hint)


def _reread_of_insertions(script: Script, snapshot: bool, final_scan: bool) -> tuple[str, str] | None:
    """The place where the run would read the script's own insertions, and the hint; None if it reads none, or if they
    do no harm."""
    if script.idempotent or (snapshot and not final_scan):
        return None
    if final_scan:
        return "and the final scan would read it", "catch up by incremental exports, or not at all: --catch-up none"
    return (
        "the table that is being scanned: the scan would read its own output",
        'read an export (SOURCE = "export"), or write to a TARGET_TABLE',
    )


# ---------------------------------------------------------------- rows of `prepare` and `items`

_END: Final = object()


def prepare_rows(script: Script, context: tables.Context) -> Iterator[tuple[Hashable, Any]]:
    """The (key, value) rows of the script's `prepare`, one at a time.

    Raises ScriptError, with the row's number, for a row that is not a pair, and, with the author's line, for any
    exception of the script.
    """
    prepare = row_function(script, load(script), "prepare")
    for number, row in enumerate(_rows(script, "prepare", lambda: prepare(context), "(key, value) pairs"), 1):
        if not (isinstance(row, tuple | list) and len(row) == 2 and _hashable(row[0])):
            raise _bad_row(script, "prepare", number, row, "a (key, value) pair: yield code, name")
        yield row[0], row[1]


def item_rows(script: Script) -> Iterator[Item]:
    """The items that the version adds, one at a time. Raises ScriptError, with the row's number, for a row that is not
    a dict, and, with the author's line, for any exception of the script."""
    items = row_function(script, load(script), "items")
    for number, row in enumerate(_rows(script, "items", items, "dicts"), 1):
        if not isinstance(row, dict):
            raise _bad_row(script, "items", number, row, "an item: a dict with the table's key")
        yield row


def _rows(script: Script, name: str, function: Callable[[], object], expected: str) -> Iterator[object]:
    rows = _call_author(script, f"{name} fails", lambda: iter(_iterable(script, name, function(), expected)))
    for number in count():
        after = f" after row {number:,}" if number else ""
        row = _call_author(script, f"{name} fails{after}", lambda: next(rows, _END))
        if row is _END:
            return
        yield row


def _call_author(script: Script, what: str, step: Callable[[], Any]) -> Any:
    """The result of a step of the author's code. Raises ScriptError for any exception except Ctrl-C."""
    try:
        return step()
    except BaseException as error:
        if isinstance(error, DynamodtError) or is_interrupt(error):
            raise
        hint = "Correct the line named above, or what it reads from, and run the same command again."
        raise script_failure(script, what, error, hint) from error
    finally:
        end_forked_process()


def _iterable(script: Script, name: str, rows: object, expected: str) -> Iterable[object]:
    if isinstance(rows, Iterable) and not isinstance(rows, str | bytes | dict):
        return rows
    raise ScriptError(
        f"{name} returned {type(rows).__name__}, not an iterable of {expected}",
        where=line_of(script, name),
        hint=f"Yield {expected} (of a dict, return its .items()).",
    )


def _bad_row(script: Script, name: str, number: int, row: object, expected: str) -> ScriptError:
    return ScriptError(
        f"{name} gave, as row {number}, {type(row).__name__} {row!r:.80}",
        where=line_of(script, name),
        hint=f"Each row must be {expected}.",
    )


def _hashable(key: object) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def table_of_rows(table: TableSpec, direction: Direction) -> TableSpec:
    """The table against which the rows of `items()` are checked; for `down` without its index keys. `down` deletes the
    rows, and an index that was added after their insertion may refuse them."""
    return table if direction == "up" else replace(table, index_keys=())


def row_image(script: Script, table: TableSpec, row: Item) -> Image:
    """A row of `items()` as an image. Raises ScriptError for a row that the table cannot hold."""
    try:
        return insert(table, row).item
    except ItemError as error:
        where = ": ".join(filter(None, (script.path, "items()", error.where)))
        raise ScriptError(error.what, where=where, hint=error.hint) from error


def check_rows(script: Script, table: TableSpec) -> str:
    """The sha256, in hex, of all rows of `items()` in their order.

    Raises ScriptError for a row that the table cannot hold, and for two rows with the same key, of which only the first
    would be written. Memory holds all keys.
    """
    digest, seen = hashlib.sha256(), dict[str, int]()
    for number, image in enumerate((row_image(script, table, row) for row in item_rows(script)), 1):
        text = key_text(key_of(table, image))
        if text in seen:
            raise _twice(script, table, image, seen[text], number)
        seen[text] = number
        digest.update(json.dumps(image, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def check_same_rows(script: Script, table: TableSpec, checksum: str) -> None:
    """Raises ScriptError when the rows of `items()` have another checksum: a cursor counts these rows, and would point
    to another one."""
    if check_rows(script, table) != checksum:
        raise ScriptError(
            "items() gives other rows than when the run began, or gives them in another order",
            where=script.path,
            hint="It must give the same rows each time: sort them, and use no time or random value in them.",
        )


def _twice(script: Script, table: TableSpec, image: Image, first: int, second: int) -> ScriptError:
    values = decode(key_of(table, image)).items()
    key = ", ".join(f"{name} = {value if isinstance(value, Decimal) else repr(value)}" for name, value in values)
    return ScriptError(
        f"items() gives two rows with one key: rows {first:,} and {second:,} both have {key}",
        where=script.path,
        hint="Give each row a key of its own: of two, only the first would be written. Nothing was started.",
    )


# ---------------------------------------------------------------- one item, without a write

ChangeOf = Callable[[Image], Change | None]
Request = Callable[[Change], object]  # makes the request of a change; raises ItemError if no request can hold it


def any_request(change: Change) -> None:
    """A `Request` that accepts every change."""


class Attempt(NamedTuple):
    """The result of a version for one item: the change (None: the item stays as it is), or the `error` that makes the
    item a dead letter of `step`."""

    image: Image
    change: Change | None
    error: BaseException | None = None
    step: Literal["transform", "write"] = "transform"


def attempt_change(image: Image, change_of: ChangeOf, request: Request = any_request) -> Attempt:
    """Applies a version to an item. Any exception of the author's code, including `sys.exit`, makes the item a dead
    letter. Raises as `check_continues`."""
    step: Literal["transform", "write"] = "transform"
    try:
        change = change_of(image)
        if change is not None:
            step = "write"
            request(change)
    except BaseException as error:
        check_continues(error)
        return Attempt(image, None, error, step)
    return Attempt(image, change)


def check_continues(error: BaseException) -> None:
    """Raises an error that stops the whole run, of the script or of what it needs; others make a dead letter."""
    if (isinstance(error, DynamodtError) and not isinstance(error, ItemError)) or is_interrupt(error):
        raise error


class ItemsAfter(NamedTuple):
    """The items after a change: `stays` is the item itself (None: it was deleted or moved), `inserts` are the new
    ones."""

    stays: Image | None
    inserts: tuple[Insert, ...] = ()


def effect(image: Image, change: Change | None) -> ItemsAfter:
    """The effect of a change of `image`, if the change is written now."""
    stays: Image | None = image
    inserts: list[Insert] = []
    for part in () if change is None else parts_of(change):
        if isinstance(part, Insert):
            inserts.append(part)
        elif isinstance(part, Remove):
            stays = None
        elif not isinstance(part, Check):
            stays = image_after(part)
    return ItemsAfter(stays, tuple(inserts))
