"""The author's function, as the engine needs it: an image in, the one change that it asks for out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Context, localcontext
from typing import TYPE_CHECKING, Any

from dynamodt.errors import ItemError, ScriptError
from dynamodt.model.items import Atomic, Change, Delete, Image, Insert, Item, Put, Update
from dynamodt.model.runs import Script
from dynamodt.model.tables import TableSpec
from dynamodt.script.codec import decode
from dynamodt.script.diff import Part, change, combined, insert, key_of, parts_of, stamped, together
from dynamodt.script.names import is_run_id

if TYPE_CHECKING:
    from dynamodt.script.functions import Transform

_DIGITS = Context(prec=38)  # all that DynamoDB keeps; Python's own 28 would round the author's sums without a word


class Apply:
    """Binds a loaded script to its table, its prepared data and its run. `snapshot`: what is read is not the table
    itself, and cannot hold what the script puts there; `rest`: but the table is scanned at last.

    `change_of` raises ItemError (or whatever the author's code raises) for an item that ends as a dead letter, and
    ScriptError for what no item may do and the whole run must stop at.
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
        rest: bool = False,
    ) -> None:
        self._script = script
        self._apply = transform.apply
        self._table = table
        self._target = target
        self._prepared = prepared
        self._stamp = {"S": run} if script.stamp else None
        self._met_again = _where_met(script, snapshot, rest)

    def change_of(self, image: Image) -> Change | None:
        """The change that the version makes to an item, or None when the item stays as it is: one that bears the run's
        mark has been changed already."""
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
        return self._stamped(found)

    def _is_done(self, image: Image) -> bool:
        attribute = self._script.stamp
        return self._stamp is not None and attribute is not None and image.get(attribute) == self._stamp

    def _check_mark(self, image: Image) -> None:
        """The mark replaces what its attribute holds, which must be an earlier run's. Raises ItemError."""
        attribute = self._script.stamp
        if attribute is not None and attribute in image and not is_run_id(image[attribute].get("S")):
            raise ItemError(
                "STAMP would overwrite this attribute, which holds something else than a run's id",
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
        """An item that is put gets the mark, too: a window of an export tells the run's own items by it."""
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
                hint=f"set IDEMPOTENT = True if a second pass changes nothing, or {hint}",
            )

    def _into_target(self, image: Image, results: list[Item | Put | Delete], target: TableSpec) -> Change | None:
        inserts = [insert(target, self._plain(result)) for result in results]
        if len(inserts) > 1:
            raise ItemError("more than one item for the target table", hint="return one dict for each item read")
        return together(key_of(self._table, image), image, inserts) if inserts else None

    def _plain(self, result: Item | Put | Delete) -> Item:
        if isinstance(result, Delete):
            raise ItemError("Delete() has no meaning with TARGET_TABLE: the source table is never written")
        return result.item if isinstance(result, Put) else result


def _where_met(script: Script, snapshot: bool, rest: bool) -> tuple[str, str] | None:
    """Where the run would meet the items again that the script puts others beside, and what helps; None: nowhere that
    harms."""
    if script.idempotent or (snapshot and not rest):
        return None
    if rest:
        return "and the last scan would meet it", "catch up by windows, or not at all: --catch-up none"
    return (
        "the table that is being scanned: the scan would meet its own output",
        'read an export (SOURCE = "export"), or write to a TARGET_TABLE',
    )
