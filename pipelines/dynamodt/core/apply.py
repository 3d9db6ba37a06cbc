"""The author's function, as the engine needs it: an image in, the one change that it asks for out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, localcontext
from typing import Any, Protocol

from dynamodt.core.codec import decode
from dynamodt.core.diff import change, combined, insert, stamped
from dynamodt.errors import ItemError, ScriptError
from dynamodt.model import Change, Delete, Image, Insert, Item, Put, Script, TableSpec, Update

_DIGITS = Context(prec=38)  # all that DynamoDB keeps; Python's own 28 would round the author's sums without a word


class Transforming(Protocol):
    """What `core.script.Transform` offers, and a test's stand-in must."""

    def apply(self, item: Item, prepared: Mapping[Any, Any]) -> list[Item | Put | Delete]: ...


class Apply:
    """Binds a loaded script to its table, its prepared data and its run. `snapshot`: what is read is not the table
    itself, and cannot hold what the script puts there.

    `change_of` raises ItemError (or whatever the author's code raises) for an item that ends as a dead letter, and
    ScriptError for what no item may do and the whole run must stop at.
    """

    def __init__(
        self,
        script: Script,
        transform: Transforming,
        table: TableSpec,
        *,
        run: str,
        prepared: Mapping[Any, Any],
        target: TableSpec | None = None,
        snapshot: bool = False,
    ) -> None:
        self._script = script
        self._apply = transform.apply
        self._table = table
        self._target = target
        self._prepared = prepared
        self._stamp = {"S": run} if script.stamp else None
        self._snapshot = script.idempotent or snapshot

    def change_of(self, image: Image) -> Change | None:
        """The change that the version makes to an item, or None when the item stays as it is."""
        item = decode(image)
        with localcontext(_DIGITS):
            results = self._apply(dict(item), self._prepared)
        if self._target is not None:
            return self._into_target(results, self._target)
        if len(results) == 1 and type(results[0]) is dict:
            found = change(self._table, image, item, results[0])
        else:
            found = combined(self._table, image, item, results)
        if found is not None and type(found) is not Update:
            self._check_halloween(found)
        return self._stamped(found)

    def _stamped(self, found: Change | None) -> Change | None:
        if self._stamp is None or self._script.stamp is None or type(found) is not Update:
            return found
        update = stamped(found, self._script.stamp, self._stamp)
        bare = update.sets.keys() == {self._script.stamp} and not update.removes
        return None if bare else update

    def _check_halloween(self, found: Change) -> None:
        parts = getattr(found, "parts", (found,))
        if not self._snapshot and any(isinstance(part, Insert) for part in parts):
            raise ScriptError(
                f"writes an item under another key into {self._table.name}, the table that is being scanned: "
                "the scan would meet its own output",
                where=self._script.path,
                hint="set IDEMPOTENT = True if a second pass changes nothing, or write to a TARGET_TABLE",
            )

    def _into_target(self, results: list[Item | Put | Delete], target: TableSpec) -> Change | None:
        inserts = [insert(target, self._plain(result)) for result in results]
        if len(inserts) > 1:
            raise ItemError("more than one item for the target table", hint="return one dict for each item read")
        return inserts[0] if inserts else None

    def _plain(self, result: Item | Put | Delete) -> Item:
        if isinstance(result, Delete):
            raise ItemError("Delete() has no meaning with TARGET_TABLE: the source table is never written")
        return result.item if isinstance(result, Put) else result
