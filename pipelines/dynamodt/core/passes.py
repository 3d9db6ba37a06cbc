"""The passes of a run, from its record alone: whoever follows a run needs no script."""

from __future__ import annotations

from typing import NamedTuple

from dynamodt.model import OWN_ITEMS, RunRecord


class Pass(NamedTuple):
    """A run over the table's segments, over a version's own rows, or over dead letters: its id, and its units."""

    run: str
    units: int


def passes(record: RunRecord) -> tuple[Pass, ...]:
    """All passes that a run may have. A version may lack one of them: its units then have no row, and count nothing;
    how many units there really are is the record's `planned`."""
    main = (Pass(record.run, record.units), Pass(record.run + OWN_ITEMS, 1))
    again = (Pass(retry_run(each.run, number), 1) for number in range(1, record.retries + 1) for each in main)
    return (*main, *again)


def retry_run(run: str, number: int) -> str:
    """The id of a pass over the dead letters of another pass."""
    return f"{run}/retry{number}"
