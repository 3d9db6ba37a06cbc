"""What a change is charged for: write units of the table that it writes to, and of each of its indexes.

An index is charged only where its entry changes (AWS, "Write capacity units" of global secondary indexes): not at all,
if no attribute of the entry does; for one write, if another attribute does, or the item enters or leaves the index; for
two, if a key of the index does, since the old entry is deleted and a new one is put.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dynamodt.model.tables import Change, Check, Image, Index, Insert, Remove, TableSpec
from dynamodt.script.codec import image_bytes, same_image
from dynamodt.script.diff import parts_of, patched, write_units

_KILOBYTE = 1024


@dataclass
class Charge:
    """The write units of one change, of the tables and of each index by its name; `records`: the items that it writes,
    each of which is a record of the table's stream."""

    table: float = 0.0
    indexes: dict[str, float] = field(default_factory=dict)
    records: int = 0


def charge_of(change: Change | None, written: TableSpec) -> Charge:
    """The charge of a change, where `written` is the table that it writes to."""
    charge = Charge()
    if change is None:
        return charge
    charge.table = float(write_units(change))
    for before, after in _writes(change, written):
        charge.records += 1
        for index in written.projections:
            if units := index_units(index, written, before, after):
                charge.indexes[index.name] = charge.indexes.get(index.name, 0.0) + units
    return charge


def _writes(change: Change, written: TableSpec) -> Iterator[tuple[Image | None, Image | None]]:
    """Each item that is written, before and after; None where it is not there."""
    for part in parts_of(change):
        if isinstance(part, Insert):
            yield None, part.item
        elif isinstance(part, Remove):
            yield part.read, None
        elif not isinstance(part, Check):
            yield part.read, patched(part)


def index_units(index: Index, table: TableSpec, before: Image | None, after: Image | None) -> int:
    """The write units that one write of an item takes in an index."""
    old, new = (_entry(index, table, image) for image in (before, after))
    if old is None or new is None:
        there = old or new
        return _units(there) if there is not None else 0
    if same_image(old, new):
        return 0
    if any(old[name] != new[name] for name in index.keys):
        return _units(old) + _units(new)
    return max(_units(old), _units(new))


def _entry(index: Index, table: TableSpec, image: Image | None) -> Image | None:
    """An item's entry in an index; None for one that is not in it."""
    if image is None or any(name not in image for name in index.keys):
        return None
    if index.projected is None:
        return image
    names = {*table.key_names, *index.keys, *index.projected}
    return {name: value for name, value in image.items() if name in names}


def _units(entry: Image) -> int:
    return max(1, -(-image_bytes(entry) // _KILOBYTE))
