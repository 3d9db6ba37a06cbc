"""The passes of a run, from its record alone: whoever follows a run needs no script.

A run's life: its statuses, and every way from one to another.

Nothing else decides whether a run may go on, or a new one begin.

What a run's record comes to now, seen together with its table's lease.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from dynamodt.errors import Refused
from dynamodt.model.reports import VersionStatus
from dynamodt.model.runs import FINAL_SCAN, INCREMENTAL, INSERTED_ROWS, Lease, RunRecord


class Phase(NamedTuple):
    """A run over the table's segments (or its export's files), over a version's own rows, over a window of changes,
    or over dead letters: its id, and its units."""

    run: str
    splits: int


def phases(record: RunRecord) -> tuple[Phase, ...]:
    """All passes that a run may have. A version may lack one of them: its units then have no row, and count nothing;
    how many units there really are is the record's `planned`."""
    incremental_exports = (
        Phase(incremental_run(record.run, number), units) for number, units in enumerate(record.incremental_exports, 1)
    )
    rest = (Phase(record.run + FINAL_SCAN, record.final_scan),) if record.final_scan else ()
    main = (Phase(record.run, record.splits), Phase(record.run + INSERTED_ROWS, 1), *incremental_exports, *rest)
    again = (Phase(retry_run(each.run, number), 1) for number in range(1, record.retries + 1) for each in main)
    return (*main, *again)


class Stint(NamedTuple):
    """A phase, or a part of one: what the attempts from `since` to before `until` (0: all later ones) have written of
    it, without a write of another phase in between. `number` counts the stints of the phase, from 1 on."""

    run: str
    splits: int
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
    units = {each.run: each.splits for each in phases(record)}
    parsed = (one.rpartition("@") for one in record.order)
    begun = [(record.run + suffix, int(attempt)) for suffix, _, attempt in parsed]
    ordered: list[Stint] = []
    for place, (run, attempt) in enumerate(begun):
        number = 1 + sum(one.run == run for one in ordered)
        until = next((later for other, later in begun[place + 1 :] if other == run), 0)
        ordered.append(Stint(run, units.get(run, 0), attempt if number > 1 else 0, until, number))
    known = {run for run, _ in begun}
    return (*(Stint(each.run, each.splits) for each in phases(record) if each.run not in known), *ordered)


def undo_phases(record: RunRecord, number: int) -> tuple[Phase, ...]:
    """The passes that take a run back, what was written last first; the first try is 1, and each that leaves dead
    letters has another after it."""
    return tuple(Phase(undo_run(each.run, number, each.number), each.splits) for each in reversed(stints(record)))


def incremental_run(run: str, number: int) -> str:
    """The id of a pass over a window of changes; the first is 1."""
    return f"{run}{INCREMENTAL}{number}"


def retry_run(run: str, number: int) -> str:
    """The id of a pass over the dead letters of another pass."""
    return f"{run}/retry{number}"


def undo_run(run: str, number: int, stint: int = 1) -> str:
    """The id of a pass that takes another back, or one of its stints."""
    return f"{run}/undo{number}" + (f".{stint}" if stint > 1 else "")


class Transition(NamedTuple):
    """`event` takes a run from `status` to `to`; `meaning` says it in a sentence."""

    status: str
    event: str
    to: str
    meaning: str


TRANSITIONS: Final = (
    Transition("", "begin", "running", "A run begins: its units are planned, and nothing is written yet."),
    Transition(
        "running", "succeed", "succeeded", "Everything was read, the balance holds, and no dead letter is left."
    ),
    Transition("running", "fail", "failed", "An error or a dead letter ended it; its checkpoints stand."),
    Transition("running", "stop", "stopped", "A person stopped it after a page; its checkpoints stand."),
    Transition("running", "continue", "running", "Its process died; the next one goes on from the checkpoints."),
    Transition("failed", "continue", "running", "The cause was mended, and the same run goes on."),
    Transition("stopped", "continue", "running", "The same run goes on."),
    Transition("", "stamp", "stamped", "Nothing ran here: a person said which versions stand."),
    Transition("", "adopt", "adopted", "It ran elsewhere, by the record of the tool that ran it."),
    Transition("succeeded", "undo", "undoing", "It is taken back by its journal; its version stands until that ends."),
    Transition("failed", "undo", "undoing", "What it has done is taken back, in place of going on."),
    Transition("stopped", "undo", "undoing", "What it has done is taken back, in place of going on."),
    Transition("running", "undo", "undoing", "Its process died; what it has done is taken back."),
    Transition("undoing", "undo", "undoing", "The undo was stopped, or died: it goes on from its checkpoints."),
    *(
        Transition(
            status,
            "replace",
            "replaced",
            "It counts for nothing: it wrote nothing that is there, or a person has said what stands.",
        )
        for status in ("running", "failed", "stopped", "undoing", "partly-undone")
    ),
    Transition("undoing", "undone", "undone", "All that is still as the run wrote it is as it was before the run."),
    Transition("undoing", "lack", "partly-undone", "What its journal still has is taken back, not the version."),
    Transition("partly-undone", "undo", "undoing", "What its journal lacked may be back: all is gone over again."),
    Transition("partly-undone", "stamp", "closed", "A person has mended the items, and said which versions stand."),
)

_TO: Final = {(transition.status, transition.event): transition.to for transition in TRANSITIONS}
ENDED: Final = frozenset({"succeeded", "stamped", "adopted", "undone", "replaced", "closed"})


def after(status: str, event: str) -> str:
    """The status that an event leads to. Raises Refused for an event that has no place in this status."""
    if (status, event) not in _TO:
        raise Refused(f"a run that is {status or 'not begun'} cannot {event}", hint="dynamodt history")
    return _TO[status, event]


def unfinished(status: str) -> bool:
    """Whether a run in this status holds its table: it must go on to its end before another may begin."""
    return status not in ENDED


UNDOING = "undoing"
AT_WORK = ("running", UNDOING)
PARTLY_UNDONE = "partly-undone"
LEFT = ("failed", "stopped", "gone", PARTLY_UNDONE)  # the same command goes on with such a run


def run_progress(record: RunRecord, lease: Lease, alive: bool) -> str:
    """A run's status in a word. `alive`: somebody holds the lease, as far as anybody can tell. A run that is recorded
    as at work, and that nobody holds, is "gone"."""
    if record.status not in AT_WORK:
        return record.status
    if not alive or lease.run != record.run:
        return "gone"
    if lease.stop:
        return "stopping"
    return "paused" if lease.paused else "held" if lease.pause_reason else record.status


def with_runs(
    versions: Sequence[VersionStatus], records: Iterable[RunRecord], lease: Lease, alive: bool
) -> tuple[VersionStatus, ...]:
    """The versions of a table, with those marked that a run is at work on, or was left half done."""
    open_runs = {record.version: record for record in records if _is_open(record)}
    return tuple(_with_run(version, open_runs.get(version.version), lease, alive) for version in versions)


def _is_open(record: RunRecord) -> bool:
    """Whether `status` should show it. A way down that ended before it changed an item is as if it had never been."""
    untouched = record.direction == "down" and record.status not in AT_WORK and not record.counts.changed
    return unfinished(record.status) and not untouched


def _with_run(version: VersionStatus, run: RunRecord | None, lease: Lease, alive: bool) -> VersionStatus:
    if run is None:
        return version
    status = run_progress(run, lease, alive)
    if status not in LEFT:
        return replace(version, state="running", run=run)
    by_undo = run.status in (UNDOING, PARTLY_UNDONE)  # only that goes on with such a one
    left = run if by_undo else replace(run, status=status)
    return replace(version, state="unfinished" if version.state in ("pending", "applied") else version.state, run=left)


def half_rolled_back(records: Iterable[RunRecord]) -> frozenset[int]:
    """The versions with a way down that was begun and is not at its end: its script may be mended."""
    return frozenset(
        record.version
        for record in records
        if record.direction == "down" and record.status in ("running", "failed", "stopped")
    )
