"""What a run would cost, in one or two lines; they follow the one that tells the table's write units."""

from __future__ import annotations

from dynamodt.core.prices import GB
from dynamodt.model import Cost

_CENT = 0.01


def cost_lines(cost: Cost) -> list[str]:
    """The units and requests, and the money where it is known."""
    return [_units(cost), *_money(cost)]


def _units(cost: Cost) -> str:
    besides = [f"{cost.rcu:,.1f} read units"]
    requests = (("PUT", cost.puts), ("GET", cost.gets))
    besides += [f"{number:,} {verb} request{'' if number == 1 else 's'} to S3" for verb, number in requests if number]
    besides += [f"an export of {_gigabytes(cost.export_bytes)}"] if cost.export_bytes else []
    writes = f"with the indexes at most {cost.wcu_most:,.1f} write units, " if cost.wcu_most > cost.wcu else ""
    return f"{writes}and {', '.join(besides)}"


def _gigabytes(size: int) -> str:
    return f"{size / GB:,.2f} GB" if size >= GB / 100 else "less than 0.01 GB"


def _money(cost: Cost) -> list[str]:
    if cost.usd is None:
        return []
    return [f"{_span(*cost.usd)}, on demand at AWS's prices of {cost.as_of}"]


def _span(low: float, high: float) -> str:
    least, most = (f"${amount:,.2f}" for amount in (low, high))
    if high < _CENT:
        return "less than $0.01"
    if least == most:
        return f"about {most}"
    return f"at most {most}" if low < _CENT else f"about {least} to {most}"
