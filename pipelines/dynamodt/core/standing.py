"""What a run's record comes to now, seen together with its table's lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from dynamodt.core.lifecycle import unfinished
from dynamodt.model import Lease, RunRecord, VersionStatus

UNDOING = "undoing"
AT_WORK = ("running", UNDOING)
PARTLY_UNDONE = "partly-undone"
LEFT = ("failed", "stopped", "gone", PARTLY_UNDONE)  # the same command goes on with such a run


def standing(record: RunRecord, lease: Lease, alive: bool) -> str:
    """A run's status in a word. `alive`: somebody holds the lease, as far as anybody can tell. A run that is recorded
    as at work, and that nobody holds, is "gone"."""
    if record.status not in AT_WORK:
        return record.status
    if not alive or lease.run != record.run:
        return "gone"
    if lease.stop:
        return "stopping"
    return "paused" if lease.paused else "held" if lease.hold else record.status


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
    status = standing(run, lease, alive)
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
