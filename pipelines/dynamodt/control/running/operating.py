"""What a person tells a run that is at work, from another terminal: it is heard by every worker after its page."""

from __future__ import annotations

import time
from collections.abc import Callable

from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.aws.state import State
from dynamodt.control.running.lease import holder, is_gone
from dynamodt.control.running.session import ABORT
from dynamodt.errors import Refused
from dynamodt.model import Lease, Stage, Units


def tell(stage: Stage, table: str, verb: str, limits: Units = Units()) -> Lease:
    """Do `pause`, `resume`, `abort`, `unlock` or `throttle` (to `limits`, in units a second; 0: as it was) to the run
    that holds a table; returns its lease as it was.

    Raises Refused when no run holds the table, Fenced when the run ends or is taken over in this very moment.
    """
    leases = State(stage.connection, stage.state_table).leases
    lease = leases.read(table)
    if not lease.run:
        raise Refused("no run is at work", where=f"table {table}", hint=f"dynamodt history --table {table}")
    if lease.owner and verb != "unlock":
        raise Refused(
            f"run {lease.run} of table {lease.owner} writes to it, and listens there",
            where=f"table {table}",
            hint=f"dynamodt {verb} --table {lease.owner}",
        )
    if verb == "throttle":
        _throttle(leases, lease, limits)
    else:
        _VERBS[verb](leases, lease)
    return lease


def _throttle(leases: LeaseRows, lease: Lease, limits: Units) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, **{name: value for name, value in limits._asdict().items() if value})


def _pause(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, paused=True)


def _resume(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, paused=False)


def _abort(leases: LeaseRows, lease: Lease) -> None:
    _check_alive(lease)
    leases.tell(lease.table, lease.token, stop=ABORT)


def _unlock(leases: LeaseRows, lease: Lease) -> None:
    """Take the lease, so that a holder who is not dead after all is fenced, and let it go."""
    taken = Lease(table=lease.table, token=lease.token + 1, beat=time.time())
    if not leases.take(taken, over=lease):
        raise Refused(
            f"the holder has just given a sign of life: {holder(lease)}",
            where=f"table {lease.table}",
            hint=f"it is alive: dynamodt abort --table {lease.table} ends it after its page",
        )


def _check_alive(lease: Lease) -> None:
    if is_gone(lease):
        raise Refused(
            f"the run's process is gone: {holder(lease)}",
            where=f"table {lease.table}",
            hint="there is nobody to hear it; the next `up` or `down` takes over and goes on from there",
        )


_VERBS: dict[str, Callable[[LeaseRows, Lease], None]] = {
    "pause": _pause,
    "resume": _resume,
    "abort": _abort,
    "unlock": _unlock,
}
