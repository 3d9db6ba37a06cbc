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


class Stint(NamedTuple):
    """A phase, or a part of one: what the attempts from `since` to before `until` (0: all later ones) have written of
    it, without a write of another phase in between. `number` counts the stints of the phase, from 1 on."""

    run: str
    units: int
    since: int = 0
    until: int = 0
    number: int = 1


def with_begun(record: RunRecord, run: str, attempt: int) -> tuple[str, ...]:
    """The record's order, with a phase that an attempt begins or goes on with. Where nothing else was written since it
    was written last, that is no new stint."""
    suffix = run.removeprefix(record.run)
    last = record.order[-1].rpartition("@")[0] if record.order else None
    return record.order if last == suffix else (*record.order, f"{suffix}@{attempt}")


def stints(record: RunRecord) -> tuple[Stint, ...]:
    """What the run has written, in the order of the writes. Phases that the record does not order come first."""
    units = {each.run: each.units for each in passes(record)}
    parsed = (one.rpartition("@") for one in record.order)
    begun = [(record.run + suffix, int(attempt)) for suffix, _, attempt in parsed]
    ordered: list[Stint] = []
    for place, (run, attempt) in enumerate(begun):
        number = 1 + sum(one.run == run for one in ordered)
        until = next((later for other, later in begun[place + 1 :] if other == run), 0)
        ordered.append(Stint(run, units.get(run, 0), attempt if number > 1 else 0, until, number))
    known = {run for run, _ in begun}
    return (*(Stint(each.run, each.units) for each in passes(record) if each.run not in known), *ordered)


def undo_passes(record: RunRecord, number: int) -> tuple[Pass, ...]:
    """The passes that take a run back, what was written last first; the first try is 1, and each that leaves dead
    letters has another after it."""
    return tuple(Pass(undo_run(each.run, number, each.number), each.units) for each in reversed(stints(record)))


def window_run(run: str, number: int) -> str:
    """The id of a pass over a window of changes; the first is 1."""
    return f"{run}{WINDOW}{number}"


def retry_run(run: str, number: int) -> str:
    """The id of a pass over the dead letters of another pass."""
    return f"{run}/retry{number}"


def undo_run(run: str, number: int, stint: int = 1) -> str:
    """The id of a pass that takes another back, or one of its stints."""
    return f"{run}/undo{number}" + (f".{stint}" if stint > 1 else "")
