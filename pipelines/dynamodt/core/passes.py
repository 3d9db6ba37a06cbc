"""The passes of a run, from its record alone: whoever follows a run needs no script."""

from __future__ import annotations

from typing import NamedTuple

from dynamodt.model import OWN_ITEMS, REST, WINDOW, RunRecord


class Pass(NamedTuple):
    """A run over the table's segments (or its export's files), over a version's own rows, over a window of changes,
    or over dead letters: its id, and its units."""

    run: str
    units: int


def passes(record: RunRecord) -> tuple[Pass, ...]:
    """All passes that a run may have. A version may lack one of them: its units then have no row, and count nothing;
    how many units there really are is the record's `planned`."""
    windows = (Pass(window_run(record.run, number), units) for number, units in enumerate(record.windows, 1))
    rest = (Pass(record.run + REST, record.rest),) if record.rest else ()
    main = (Pass(record.run, record.units), Pass(record.run + OWN_ITEMS, 1), *windows, *rest)
    again = (Pass(retry_run(each.run, number), 1) for number in range(1, record.retries + 1) for each in main)
    return (*main, *again)


def undo_passes(record: RunRecord, number: int) -> tuple[Pass, ...]:
    """The passes that take a run back; the first try is 1, and each that leaves dead letters has another after it."""
    return tuple(Pass(undo_run(each.run, number), each.units) for each in passes(record))


def window_run(run: str, number: int) -> str:
    """The id of a pass over a window of changes; the first is 1."""
    return f"{run}{WINDOW}{number}"


def retry_run(run: str, number: int) -> str:
    """The id of a pass over the dead letters of another pass."""
    return f"{run}/retry{number}"


def undo_run(run: str, number: int) -> str:
    """The id of a pass that takes another back."""
    return f"{run}/undo{number}"
