"""Whether something runs that a removal would take away what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dynamodt.aws.glue import GlueJob
from dynamodt.aws.state import State
from dynamodt.aws.table import place_of
from dynamodt.control.running.lease import holder, is_alive
from dynamodt.core.versions import tables
from dynamodt.errors import Refused
from dynamodt.model import Stage

_JOBS = ("MigrateJob", "PrepareJob")


def refuse_at_work(stage: Stage, folder: Path, own: Mapping[str, str]) -> None:
    """Raises Refused for a run of the stage's jobs, and for a live lease on a table of this project; whosever the state
    table is, the runs of these tables are this stage's."""
    refuse_jobs_at_work(stage, own)
    if place_of(stage.connection, stage.state_table) is None:
        return
    leases = State(stage.connection, stage.state_table).leases
    for table in tables(folder / "transforms"):
        lease = leases.read(table)
        if is_alive(lease):
            hint = f"wait for it, or stop it: dynamodt abort --table {table}"
            what = f"a run is at work, and would lose what it needs: {holder(lease)}"
            raise Refused(what, where=f"table {table}", hint=hint)


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
