"""Where the items of a check come from: random segments of a scan, an export in S3, or a file."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dynamodt.dynamodb.reads import Reads
from dynamodt.errors import UsageError
from dynamodt.export.datafiles import DataFile, DataReader
from dynamodt.export.objects import S3Objects
from dynamodt.model.tables import Image, TableSpec
from dynamodt.script.codec import key_text
from dynamodt.script.diff import key_of
from dynamodt.script.samples import read_images, version_of

_PLACES = 50  # that a sample comes from, of a large table
_LEAST_SEGMENTS, _MOST_SEGMENTS = 16, 4096
_LISTED = "an item of --items must have the table's key"


class Sample(NamedTuple):
    """Items and where they come from. `whole`: they are all that there is. `version`: the version of the table that
    they have, None for that of the table now."""

    images: list[Image]
    source: str
    whole: bool = False
    version: int | None = None
    read_units: float = 0.0


def of_file(path: Path, table: TableSpec) -> Sample:
    """The items of a file. Raises UsageError for one without the table's key, and for two with one key."""
    images = list(read_images(path))
    seen: dict[str, int] = {}
    for number, image in enumerate(images, 1):
        where = f"{path}: item {number}"
        for attribute in table.key:
            if attribute.type not in image.get(attribute.name, {}):
                what = f"the item has no {attribute.name} of type {attribute.type}, the key of {table.name}"
                raise UsageError(what, where=where, hint=_LISTED)
        earlier = seen.setdefault(key_text(key_of(table, image)), number)
        if earlier != number:
            raise UsageError(f"items {earlier} and {number} have one key", where=where, hint="keep one of them")
    return Sample(images, str(path), version=version_of(path))


def of_table(
    reads: Reads, table: TableSpec, number: int, consistent: bool, dice: random.Random | None = None
) -> Sample:
    """At most `number` items of random segments of the table. Raises ServiceError."""
    images: list[Image] = []
    units, whole = 0.0, True
    for page, rcu, ended in _pages(reads, table, number, consistent, dice or random.Random()):
        units += rcu
        images += page
        whole = ended
        if len(images) >= number:
            break
    whole = whole and len(images) <= number
    where = "a scan of the whole table" if whole else "random segments of a scan"
    return Sample(images[:number], where, whole, read_units=units)


def _pages(
    reads: Reads, table: TableSpec, number: int, consistent: bool, dice: random.Random
) -> Iterator[tuple[list[Image], float, bool]]:
    """Pages of random segments in turn, with their cost, and whether nothing is left after them. The number of segments
    is drawn, too, so that they begin elsewhere each time."""
    limit = max(1, -(-number // _PLACES))
    wanted = min(_MOST_SEGMENTS // 2, max(_LEAST_SEGMENTS, table.item_count // limit))
    total = dice.randint(wanted, 2 * wanted)
    due: deque[tuple[int, Image | None]] = deque((segment, None) for segment in dice.sample(range(total), total))
    while due:
        segment, cursor = due.popleft()
        page = reads.scan(segment, total, cursor, limit, consistent)
        if page.cursor is not None:
            due.append((segment, page.cursor))
        yield page.images, page.rcu, not due


def of_export(
    files: Sequence[DataFile],
    objects: S3Objects,
    table: TableSpec,
    place: str,
    number: int,
    dice: random.Random | None = None,
) -> Sample:
    """Items of the first chunks of random data files of an export, which is at `place`. Raises what a run with this
    export would; UsageError for an empty one."""
    files = (dice or random.Random()).sample(files, len(files))
    limit = max(1, -(-number // _PLACES))
    images: list[Image] = []
    for file in files:
        reader = DataReader(objects, table, size=limit if len(files) >= _PLACES else number)
        for chunk in reader.items(file):
            images += chunk.records
            break
        if len(images) >= number:
            break
    if not images:
        raise UsageError("the export has no item", where=place, hint="name another export, or use --items")
    return Sample(images[:number], f"the export {place}")
