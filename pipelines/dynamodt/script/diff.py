"""The one change between the image that was read and the author's result.

The comparison uses the image, so that a script may alter its item in place and return it. `write_units` estimates the
cost of a change, for dry runs and for endpoints without ConsumedCapacity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from dynamodt.errors import ItemError
from dynamodt.model.tables import (
    Atomic,
    AttributeValue,
    Change,
    Check,
    Delete,
    Image,
    Index,
    Insert,
    Item,
    Put,
    Remove,
    TableSpec,
    Update,
)
from dynamodt.script.codec import (
    MAX_ITEM_BYTES,
    as_stored,
    attribute_name,
    digest,
    encode,
    encode_value,
    holds,
    image_bytes,
    image_digest,
    key_text,
    same,
    same_image,
    surely_fit,
    value_bytes,
)

Part = Update | Insert | Remove | Check

_IMMUTABLE = frozenset({str, Decimal, bytes, bool, type(None)})
_MISSING = object()
_MAX_KEY_BYTES = (2048, 1024)  # of the partition key, of the sort key
MAX_INSERTIONS = 49  # for one item: each has a row in the state table, and a transaction takes 100 actions


def change(spec: TableSpec, image: Image, item: Item, result: Item) -> Change | None:
    """The change that turns `image` into `result`, or None when they are equal.

    `item` is the decoded image, unaltered; a value of `result` that is the same immutable object is not compared. A
    result with another key moves the item. Raises ItemError for a result that the table cannot hold.
    """
    if not _keeps_key(spec, item, result):
        return _rekey(spec, image, result)
    sets = _sets(image, item, result)
    # Most results lack no attribute, which one comparison shows.
    removes = () if image.keys() <= result.keys() else tuple(name for name in image if name not in result)
    if not sets and not removes:
        return None
    if spec.index_keys:
        _check_index_keys(spec, sets)
    update = Update(key_of(spec, image), image, sets, removes)
    if sets and not surely_fit(image, sets, indexes=spec.projections):
        _check_size(spec, image_after(update))
    return update


def _keeps_key(spec: TableSpec, item: Item, result: Item) -> bool:
    for attribute in spec.key:
        value = result.get(attribute.name, _MISSING)
        if value is not item[attribute.name] and not _equal_key(attribute.name, attribute.type, value, item):
            return False
    return True


def _equal_key(name: str, kind: str, value: Any, item: Item) -> bool:
    if value is _MISSING:
        raise ItemError(
            "the key attribute is missing from the result", where=name, hint="return {**item, ...}, or Delete()"
        )
    encoded = encode_value(value, name)
    if kind not in encoded:
        raise ItemError(
            f"the key attribute must stay of type {kind}, not {next(iter(encoded))}",
            where=name,
            hint="a key of another type needs a new table: see TARGET_TABLE",
        )
    return same(encoded, encode_value(item[name], name))


def _rekey(spec: TableSpec, image: Image, result: Item) -> Atomic:
    key = key_of(spec, image)
    return Atomic(key, image, (insert(spec, result), Remove(key, image)))


def _sets(image: Image, item: Item, result: Item) -> Image:
    sets: Image = {}
    for name, value in result.items():
        if type(value) in _IMMUTABLE and value is item.get(name, _MISSING):
            continue
        before = image.get(name)
        if before is None:
            sets[attribute_name(name, str(name))] = encode_value(value, name)
        elif not holds(before, value):
            encoded = encode_value(value, name)
            if not same(before, encoded):
                sets[name] = encoded
    return sets


def insert(spec: TableSpec, item: Item) -> Insert:
    """The insertion of a whole item. Raises ItemError when its key is missing or of the wrong type."""
    image = encode(item)
    image.update(key := checked_key(spec, image, "a new item"))
    _check_index_keys(spec, image)
    check_fits(spec, image)
    return Insert(spec.name, key, image)


def checked_key(spec: TableSpec, image: Image, what: str) -> Image:
    """The key of an image, as the table stores it. Raises ItemError, about `what`, if it is missing or not valid."""
    key = {}
    for attribute, most in zip(spec.key, _MAX_KEY_BYTES, strict=False):
        name, kind = attribute.name, attribute.type
        if kind not in image.get(name, {}):
            raise ItemError(f"{what} needs the key attribute with type {kind} for table {spec.name}", where=name)
        if not (size := value_bytes(image[name])):
            raise ItemError("a key attribute must not be empty", where=name)
        if size > most:
            raise ItemError(f"the key attribute has {size:,} bytes; DynamoDB takes at most {most:,}", where=name)
        key[name] = as_stored(image[name])
    return key


def _check_index_keys(spec: TableSpec, values: Image) -> None:
    """Raises ItemError for a value that an index refuses, and with it the whole item. Emulators accept any value."""
    for key in spec.index_keys:
        value = values.get(key.name)
        if value is None:
            continue
        size = value_bytes(value)
        if key.type not in value:
            what = f"takes type {key.type}, not {next(iter(value))}"
        elif not size:
            what = "takes no empty value"
        elif size > key.most:
            what = f"takes at most {key.most:,} bytes, not {size:,}"
        else:
            continue
        raise ItemError(
            f"the attribute is a key of the index {key.of} of table {spec.name}, which {what}",
            where=key.name,
            hint="write another value, or leave the attribute out: an item without it is not in the index",
        )


def combined_change(spec: TableSpec, image: Image, item: Item, results: Sequence[Item | Put | Delete]) -> Change | None:
    """The one change of several results: a transaction of all of them. Raises ItemError if one keeps the item and
    another deletes it."""
    parts = [part for result in results if (part := _part(spec, image, item, result)) is not None]
    if len(parts) < len(results) and any(isinstance(part, Remove) for part in parts):
        raise _put_of_itself(key_of(spec, image))
    if not any(isinstance(part, Insert) for part in parts):
        return parts[0] if parts else None  # one dict, or one Delete(): `functions` rejects more
    return transaction_of(key_of(spec, image), image, [inner for part in parts for inner in parts_of(part)])


def transaction_of(key: Image, read: Image, parts: Sequence[Part]) -> Atomic:
    """The parts as one transaction, conditional on the source item as it was read. Raises ItemError for too many parts,
    and for two items with one key."""
    inserts = [part for part in parts if isinstance(part, Insert)]
    if len(inserts) > MAX_INSERTIONS:
        raise ItemError(
            f"{len(inserts)} new items for one item: a transaction takes at most {MAX_INSERTIONS}",
            hint="return fewer, in several versions",
        )
    keys = [key_text(part.key) for part in inserts]
    if twice := next((part for part in inserts if keys.count(key_text(part.key)) > 1), None):
        raise ItemError("two new items have one key", where=key_shown(twice.key), hint="return one item for each key")
    writes_source = any(isinstance(part, Update | Remove) for part in parts)
    return Atomic(key, read, tuple(parts) if writes_source else (Check(key, read), *parts))


def key_shown(key: Image) -> str:
    """A key in the form of error messages."""
    return ", ".join(f"{name} = {next(iter(value.values()))!r}" for name, value in key.items())


def _part(spec: TableSpec, image: Image, item: Item, result: Item | Put | Delete) -> Change | None:
    if isinstance(result, Put):
        return _insertion(spec, image, result.item)
    if isinstance(result, Delete):
        return Remove(key_of(spec, image), image)
    return change(spec, image, item, result)


def _insertion(spec: TableSpec, image: Image, item: Item) -> Insert | None:
    """The insertion of another item; None for the unchanged item itself, which is neither written nor checked."""
    own = key_of(spec, image)
    if all(name in item and same(encode_value(item[name], name), value) for name, value in own.items()) and same_image(
        encode(item), image
    ):
        return None
    part = insert(spec, item)
    if key_text(part.key) == key_text(own):
        raise _put_of_itself(own)
    return part


def _put_of_itself(key: Image) -> ItemError:
    hint = "return the dict instead, without Delete(): it is its new shape"
    return ItemError("Put() has the key of the item itself", where=key_shown(key), hint=hint)


def parts_of(change: Change) -> tuple[Part, ...]:
    """The parts of a transaction; any other change is its own only part."""
    return change.parts if isinstance(change, Atomic) else (change,)


def key_of(spec: TableSpec, image: Image) -> Image:
    """The key attributes of an image."""
    return {attribute.name: image[attribute.name] for attribute in spec.key}


def with_stamp(spec: TableSpec, update: Update, attribute: str, value: AttributeValue) -> Update:
    """The update with the run's stamp, in place of an older one. Raises ItemError if the item is then too large."""
    removes = tuple(name for name in update.removes if name != attribute)
    marked = update._replace(sets={**update.sets, attribute: value}, removes=removes)
    if not surely_fit(update.read, marked.sets, indexes=spec.projections):
        _check_size(spec, image_after(marked))
    return marked


def image_after(update: Update) -> Image:
    """The image after the update."""
    after = {**update.read, **update.sets}
    for name in update.removes:
        after.pop(name, None)
    return after


def image_shows(update: Update, image: Image) -> bool:
    """Whether an image already has everything that the update would write."""
    return all(name in image and same(image[name], value) for name, value in update.sets.items()) and not any(
        name in image for name in update.removes
    )


def is_as_read(update: Update, image: Image) -> bool:
    """Whether all attributes of the update are still as they were read."""
    return all(_same_there(name, update.read, image) for name in (*update.sets, *update.removes))


def _same_there(name: str, one: Image, other: Image) -> bool:
    if name in one and name in other:
        return same(one[name], other[name])
    return name not in one and name not in other


def check_fits(spec: TableSpec, image: Image) -> None:
    """Raises ItemError for an item that is too large for DynamoDB."""
    if not surely_fit(image, indexes=spec.projections):
        _check_size(spec, image)


def check_takes(spec: TableSpec, change: Change) -> None:
    """Raises ItemError if it updates or inserts a value that an index refuses, or makes an item too large."""
    for part in parts_of(change):
        if isinstance(part, Update | Insert):
            _check_index_keys(spec, part.sets if isinstance(part, Update) else part.item)
            check_fits(spec, image_after(part) if isinstance(part, Update) else part.item)


def _check_size(spec: TableSpec, image: Image) -> None:
    size = stored_bytes(spec, image)
    if size > MAX_ITEM_BYTES:
        entries = " with its entries in the local indexes" if size > image_bytes(image) else ""
        raise ItemError(
            f"the item would take {size:,} bytes{entries}; DynamoDB keeps at most {MAX_ITEM_BYTES:,}",
            hint="move a large attribute to S3 or to an item of its own",
        )


def stored_bytes(spec: TableSpec, image: Image) -> int:
    """The size of an item with its entries in all local indexes, which DynamoDB limits (AWS, "Service quotas")."""
    entries = (_entry(index, spec, image) for index in spec.projections if index.local)
    return image_bytes(image) + sum(map(image_bytes, filter(None, entries)))


def write_units(change: Change) -> int:
    """The write units of a change: one for each KB of the larger of its images before and after, doubled in a
    transaction, in which a check costs as much as a write (AWS, "Capacity unit consumption"). Without indexes and rows
    of the state table."""
    if isinstance(change, Atomic):
        return sum(2 * _of_part(part) for part in change.parts)
    return 2 * _of_part(change) if isinstance(change, Insert) else _of_part(change)


def _of_part(change: Part) -> int:
    if isinstance(change, Insert):
        return _kilobytes(image_bytes(change.item))
    if isinstance(change, Remove | Check):
        return _kilobytes(image_bytes(change.read))
    return _kilobytes(max(image_bytes(change.read), image_bytes(image_after(change))))


def _kilobytes(size: int) -> int:
    return max(1, -(-size // 1024))


def transaction_digest(change: Atomic | Insert, phase: str) -> str:
    """A digest of what a transaction writes, without its checks, of its source, and of the phase of a run that sends
    it: a later phase may send an equal one."""
    source = "" if isinstance(change, Insert) else key_text(change.key)
    return digest(repr([phase, source, *sorted(filter(None, map(_text_of_part, parts_of(change))))]))


def _text_of_part(part: Update | Insert | Remove | Check) -> str:
    if isinstance(part, Update):
        return f"update {key_text(part.key)} {image_digest(part.sets)} {sorted(part.removes)}"
    if isinstance(part, Insert):
        return f"insert {part.table} {key_text(part.key)} {image_digest(part.item)}"
    return f"remove {key_text(part.key)}" if isinstance(part, Remove) else ""


# ---------------------------------------------------------------- the charge of a change, with the indexes

# An index is charged only if its entry changes (AWS, "Write capacity units" of global secondary indexes): one write if
# another attribute of the entry changes, or the item enters or leaves the index; two writes if a key of the index
# changes, since the old entry is deleted and a new one is put.


@dataclass
class Charge:
    """The write units of one change: for the tables, and for each index by its name. `records` is the number of items
    that it writes, each of which is a record of the table's stream. `reads` are the read units of its item, which is
    read again, strongly consistent, before it is deleted or items are made of it."""

    table: float = 0.0
    reads: float = 0.0
    indexes: dict[str, float] = field(default_factory=dict)
    records: int = 0


def charge_of(change: Change | None, written: TableSpec) -> Charge:
    """The charge of a change; `written` is the table that receives it."""
    charge = Charge()
    if change is None:
        return charge
    charge.table = float(write_units(change))
    if isinstance(change, Remove | Atomic):
        charge.reads = float(-(-image_bytes(change.read) // 4096))
    for before, after in _writes(change, written):
        charge.records += 1
        for index in written.projections:
            if units := index_units(index, written, before, after):
                charge.indexes[index.name] = charge.indexes.get(index.name, 0.0) + units
    return charge


def _writes(change: Change, written: TableSpec) -> Iterator[tuple[Image | None, Image | None]]:
    """The images before and after of each item that is written; None if the item does not exist."""
    for part in parts_of(change):
        if isinstance(part, Insert):
            yield None, part.item
        elif isinstance(part, Remove):
            yield part.read, None
        elif not isinstance(part, Check):
            yield part.read, image_after(part)


def index_units(index: Index, table: TableSpec, before: Image | None, after: Image | None) -> int:
    """The write units that an index is charged for one write of an item."""
    old, new = (_entry(index, table, image) for image in (before, after))
    if old is None or new is None:
        there = old or new
        return _kilobytes(image_bytes(there)) if there is not None else 0
    if same_image(old, new):
        return 0
    if any(old[name] != new[name] for name in index.keys):
        return _kilobytes(image_bytes(old)) + _kilobytes(image_bytes(new))
    return max(_kilobytes(image_bytes(old)), _kilobytes(image_bytes(new)))


def _entry(index: Index, table: TableSpec, image: Image | None) -> Image | None:
    """An item's entry in an index; None if it has none."""
    if image is None or any(name not in image for name in index.keys):
        return None
    if index.projected is None:
        return image
    names = {*table.key_names, *index.keys, *index.projected}
    return {name: value for name, value in image.items() if name in names}
