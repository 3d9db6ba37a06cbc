"""What a write costs, where the service does not say: for dry runs, and for endpoints without ConsumedCapacity."""

from __future__ import annotations

from dynamodt.core.codec import image_bytes
from dynamodt.core.diff import Part, patched
from dynamodt.model import Atomic, Change, Check, Insert, Remove


def write_units(change: Change) -> int:
    """Write units of the tables themselves: a unit for each KB of the larger of before and after, double in a
    transaction, where a check costs as much as a write. Rows of the state table are not counted.

    Index writes come on top and are known only to the service (AWS, "Capacity unit consumption").
    """
    if isinstance(change, Atomic):
        return sum(2 * _of_part(part) for part in change.parts)
    return 2 * _of_part(change) if isinstance(change, Insert) else _of_part(change)


def _of_part(change: Part) -> int:
    if isinstance(change, Insert):
        return _kilobytes(image_bytes(change.item))
    if isinstance(change, Remove | Check):
        return _kilobytes(image_bytes(change.read))
    return _kilobytes(max(image_bytes(change.read), image_bytes(patched(change))))


def _kilobytes(size: int) -> int:
    return max(1, -(-size // 1024))
