"""Applies the author's function: an image in, the change that it requests out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Context, localcontext
from typing import TYPE_CHECKING, Any

from dynamodt.errors import ItemError, ScriptError
from dynamodt.model.runs import Script
from dynamodt.model.tables import Atomic, Change, Delete, Image, Insert, Item, Put, TableSpec, Update
from dynamodt.script.codec import decode
from dynamodt.script.diff import Part, change, combined, insert, key_of, parts_of, stamped, together
from dynamodt.script.names import is_run_id

if TYPE_CHECKING:
    from dynamodt.script.functions import Transform

_DIGITS = Context(prec=38)  # all that DynamoDB keeps; Python's default of 28 would round the author's sums silently


class Apply:
    """A loaded script with its table, its prepared data and its run. `snapshot`: an export is read, without the items
    that the script puts into the table; `final_scan`: the table is scanned afterwards.

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
        self._met_again = _where_met(script, snapshot, final_scan)

    def change_of(self, image: Image) -> Change | None:
        """The change that the version makes to an item; None for an item that stays, such as one with the run's mark,
        which was changed before."""
        if self._is_done(image):
            return None
        self._check_mark(image)
        item = decode(image)
        with localcontext(_DIGITS):
            results = self._apply(dict(item), self._prepared)
        if self._target is not None:
            return self._into_target(image, results, self._target)
        if len(results) == 1 and type(results[0]) is dict:
            found = change(self._table, image, item, results[0])
        else:
            found = combined(self._table, image, item, results)
        if found is not None and type(found) is not Update:
            self._check_halloween(found, image)
            self._check_transaction(found)
        return self._stamped(found)

    def _is_done(self, image: Image) -> bool:
        attribute = self._script.stamp
        return self._stamp is not None and attribute is not None and image.get(attribute) == self._stamp

    def _check_mark(self, image: Image) -> None:
        """Raises ItemError unless the mark's attribute is absent or holds an earlier run's mark."""
        attribute = self._script.stamp
        if attribute is not None and attribute in image and not is_run_id(image[attribute].get("S")):
            raise ItemError(
                "STAMP would overwrite this attribute, which holds a value other than a run's id",
                where=attribute,
                hint='name an attribute that nothing else uses: STAMP = "_dynamodt"',
            )

    def _stamped(self, found: Change | None) -> Change | None:
        attribute = self._script.stamp
        if self._stamp is None or attribute is None or found is None:
            return found
        if isinstance(found, Update):
            self._check_mark(found.sets)
            update = stamped(found, attribute, self._stamp)
            return None if update.sets.keys() == {attribute} and not update.removes else update
        if isinstance(found, Atomic):
            return found._replace(parts=tuple(self._marked(part, attribute) for part in found.parts))
        return found

    def _marked(self, part: Part, attribute: str) -> Part:
        """The part with the mark; an incremental export's reader recognizes inserted items by it."""
        assert self._stamp is not None
        if isinstance(part, Update):
            self._check_mark(part.sets)
            return stamped(part, attribute, self._stamp)
        if isinstance(part, Insert):
            self._check_mark(part.item)
            return part._replace(item={**part.item, attribute: self._stamp})
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
        if isinstance(found, Atomic) and self._table.strong:
            raise ItemError(
                "another key, or more than one item, needs a transaction, which DynamoDB does not support on a global "
                "table with multi-Region strong consistency",
                where=f"table {self._table.name}",
                hint="write the items by a program of your own, or to a table without replicas",
            )

    def _into_target(self, image: Image, results: list[Item | Put | Delete], target: TableSpec) -> Change | None:
        inserts = [insert(target, self._plain(result)) for result in results]
        if len(inserts) > 1:
            raise ItemError("more than one item for the target table", hint="return one dict for each item read")
        return together(key_of(self._table, image), image, inserts) if inserts else None

    def _plain(self, result: Item | Put | Delete) -> Item:
        if isinstance(result, Delete):
            raise ItemError("Delete() is not allowed with TARGET_TABLE: the source table is never written")
        return result.item if isinstance(result, Put) else result


def _where_met(script: Script, snapshot: bool, final_scan: bool) -> tuple[str, str] | None:
    """Where the run would read the script's own insertions, and the hint; None where it reads none, or where they do no
    harm."""
    if script.idempotent or (snapshot and not final_scan):
        return None
    if final_scan:
        return "and the final scan would read it", "catch up by incremental exports, or not at all: --catch-up none"
    return (
        "the table that is being scanned: the scan would read its own output",
        'read an export (SOURCE = "export"), or write to a TARGET_TABLE',
    )
