"""What a run would cost, from what it would take: for a dry run, before anything is written.

An estimate. Not in it: writes that meet somebody else's and are tried again, the windows that a run catches up with
after an export, the run's own state table (a few rows for each page, and one for
each insertion), what the workers themselves cost, and all that
`core.prices` leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dynamodt.core.prices import GB, MILLION, PRICES, THOUSAND, Prices
from dynamodt.model import Cost

INDEX_WRITES = 2
"""The writes that one write to the table leads to in one secondary index, at most.

None, where no attribute of the index changes; one, where one does, or the item comes or goes; two, where the index's
own key changes: the old entry is deleted, a new one put (AWS's Developer Guide, GSI.ThroughputConsiderations.Writes).
An entry is no larger than its item, so each takes at most what the table's write takes.
"""


class Work(NamedTuple):
    """What a run takes. `wcu` is of the table alone; exports count the bytes that AWS bills."""

    wcu: float = 0.0
    rcu: float = 0.0
    indexes: int = 0
    puts: int = 0
    gets: int = 0
    full_bytes: int = 0
    incremental_bytes: int = 0


def cost_of(work: Work, region: str, on_demand: bool) -> Cost:
    """What the work comes to. `usd` is None where the capacity is provisioned (it is paid for by the hour, whether used
    or not), and where the region, or an export in it, has no price."""
    most = work.wcu * (1 + INDEX_WRITES * work.indexes)
    prices = PRICES.get(region) if on_demand else None
    others = None if prices is None else _without_writes(work, prices)
    cost = Cost(work.wcu, most, work.rcu, work.puts, work.gets, work.full_bytes + work.incremental_bytes)
    if prices is None or others is None:
        return cost
    low, high = (others + wcu * prices.write / MILLION for wcu in (work.wcu, most))
    return cost._replace(usd=(low, high), as_of=prices.as_of)


def get_requests(sizes: Iterable[int], piece: int) -> int:
    """The GETs that read objects of these sizes once, in pieces of so many bytes."""
    return sum(-(-size // piece) for size in sizes)


def journal_puts(pages: int, changed: int) -> int:
    """About one for each page with a change, which is not known page by page: no more than there are changes."""
    return min(pages, changed)


def _without_writes(work: Work, prices: Prices) -> float | None:
    exports = ((work.full_bytes, prices.full_export), (work.incremental_bytes, prices.incremental_export))
    if any(size and price is None for size, price in exports):
        return None
    return (
        work.rcu * prices.read / MILLION
        + (work.puts * prices.put + work.gets * prices.get) / THOUSAND
        + sum(size * (price or 0.0) / GB for size, price in exports)
    )
