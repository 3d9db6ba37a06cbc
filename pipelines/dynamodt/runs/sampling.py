"""A random sample of a table's items: pages of random segments of a scan.

The segments divide the hashed keys, so that their items are as random as the hash; items of one partition key come
together. A table with no more items than the sample is read whole.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from dynamodt.dynamodb.reads import Reads, read_estimate
from dynamodt.dynamodb.wire import shared_wire
from dynamodt.model.tables import Image, Stage, TableSpec
from dynamodt.runs.budget import read_limiter
from dynamodt.runs.options import RunOptions

_PLACES = 50  # that a sample comes from, of a large table
_LEAST_SEGMENTS, _MOST_SEGMENTS = 16, 4096


@dataclass(frozen=True)
class Sample:
    """Some items of a table. `whole`: they are all that there is."""

    images: tuple[Image, ...]
    whole: bool
    read_units: float = 0.0


def sampled(
    stage: Stage, table: TableSpec, number: int, options: RunOptions, dice: random.Random | None = None
) -> Sample:
    """At most `number` items of the table, read eventually consistent within the budget for reads, half of the units
    that a consistent read takes. Raises ServiceError."""
    dice = dice or random.Random()
    each = read_estimate(table, consistent=False)
    limiter = read_limiter(stage, table.read_units, options)
    wire = shared_wire(stage.connection.of_table(table.name))
    reads = Reads(wire, table, rate_queue=limiter, units=lambda items: items * each)
    limit = max(1, -(-number // _PLACES))
    wanted = min(_MOST_SEGMENTS // 2, max(_LEAST_SEGMENTS, table.item_count // limit))
    total = dice.randint(wanted, 2 * wanted)  # so that they begin elsewhere each time
    due: deque[tuple[int, Image | None]] = deque((segment, None) for segment in dice.sample(range(total), total))
    images: list[Image] = []
    units = 0.0
    while due and len(images) <= number:
        segment, cursor = due.popleft()
        page = reads.scan(segment, total, cursor, limit, consistent=False)
        images += page.images
        units += page.rcu
        if page.cursor is not None:
            due.append((segment, page.cursor))
    return Sample(tuple(images[:number]), whole=not due and len(images) <= number, read_units=units)
