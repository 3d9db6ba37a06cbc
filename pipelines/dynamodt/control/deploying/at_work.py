"""Whether something runs that a removal would take away what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dynamodt.aws.glue import GlueJob
from dynamodt.aws.lease_rows import LeaseRows
from dynamodt.aws.state import State
from dynamodt.aws.table import place_of
from dynamodt.control.running.lease import holder
from dynamodt.control.running.life import Life, Watch
from dynamodt.core.versions import tables
from dynamodt.errors import Refused
from dynamodt.model import Lease, Stage

_JOBS = ("MigrateJob", "PrepareJob")


def refuse_at_work(stage: Stage, folder: Path, own: Mapping[str, str], sleep: Callable[[float], None]) -> None:
    """Raises Refused for a run of the stage's jobs, and for a live lease on a table of this project; whosever the state
    table is, the runs of these tables are this stage's."""
    refuse_jobs_at_work(stage, own)
    if place_of(stage.connection, stage.state_table) is None:
        return
    leases = State(stage.connection, stage.state_table).leases
    for lease in live_leases(leases, tables(folder / "transforms"), sleep):
        hint = f"wait for it, or stop it: dynamodt abort --table {lease.table}"
        what = f"a run is at work, and would lose what it needs: {holder(lease)}"
        raise Refused(what, where=f"table {lease.table}", hint=hint)


def live_leases(leases: LeaseRows, names: Iterable[str], sleep: Callable[[float], None]) -> list[Lease]:
    """The leases under which a run is at work. A holder on another machine is watched, by no clock but this process's:
    for about one sign of life where it lives, for its lease's duration where it has died (ADR 026)."""
    watch, live, left = Watch(), [], list(names)
    while left:
        looks = [watch.look(leases, name) for name in left]
        live += [lease for lease, life in looks if life is Life.SEEN]
        unknown = [lease for lease, life in looks if life is Life.UNKNOWN]
        if unknown:
            sleep(min(1.0, max(watch.left(leases, lease) for lease in unknown)))
        left = [lease.table for lease in unknown]
    return live


def refuse_jobs_at_work(stage: Stage, own: Mapping[str, str]) -> None:
    """Raises Refused for a run of a job among the stack's resources `own`; it may hold no lease yet."""
    for job in filter(None, (own.get(name) for name in _JOBS)):
        for run in _job_runs(stage, job):
            hint = f"wait for it, or stop it: aws glue batch-stop-job-run --job-name {job} --job-run-ids {run}"
            raise Refused(f"its run {run} is at work, and would lose what it needs", where=f"job {job}", hint=hint)


def _job_runs(stage: Stage, job: str) -> list[str]:
    try:
        return [run.id for run in GlueJob(stage.connection, job, stage.name).at_work()]
    except Refused:  # it was deleted by hand
        return []
