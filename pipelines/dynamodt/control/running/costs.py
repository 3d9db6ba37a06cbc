"""What the run would cost that a dry run has rehearsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from dynamodt.aws.export.objects import PIECE
from dynamodt.aws.state import State
from dynamodt.core.cost import Work, cost_of, get_requests, journal_puts
from dynamodt.model import Cost, Job, RunReport, Stage, TableSpec, Totals

_AWS = ".amazonaws.com"


def foreseen(
    report: RunReport, state: State, passes: Sequence[Job], totals: Totals, new_export: bool = False
) -> RunReport:
    """The report with what the run itself would cost: it would read the same again, and write what was previewed.

    Only a dry run that has succeeded knows. `new_export`: a run that reads an export would request one of its own.
    """
    if report.status != "dry-run":
        return report
    work = Work(
        wcu=totals.units.wcu,
        rcu=totals.units.rcu,
        indexes=_written(passes[0]).indexes,
        puts=_journal_puts(state, passes, totals.counts.changed),
    )
    for job in passes:
        if job.export is not None:
            work = work._replace(gets=_gets(job), full_bytes=job.table.size_bytes if new_export else 0)
    return replace(report, cost=_priced(work, passes[0]))


def _gets(job: Job) -> int:
    """Of an export's files, at most: each has a part of the table, and is compressed."""
    return get_requests([max(1, job.table.size_bytes // (job.units or 1))] * job.units, PIECE)


def _priced(work: Work, job: Job) -> Cost:
    on_demand = not (job.table.read_units or _written(job).write_units)
    return cost_of(work, job.stage.connection.region if _is_aws(job.stage) else "", on_demand)


def _written(job: Job) -> TableSpec:
    return job.target or job.table


def _journal_puts(state: State, passes: Sequence[Job], changed: int) -> int:
    if not passes[0].stage.storage.url.startswith("s3://"):
        return 0
    journaled = [job for job in passes if replace(job, dry_run=False).journals]
    return journal_puts(sum(c.page for job in journaled for c in state.units(job.run).all(job.units)), changed)


def _is_aws(stage: Stage) -> bool:
    """Whether anybody sends a bill: an emulator's endpoint is not AWS's."""
    endpoint = stage.connection.endpoint_url
    return not stage.local and (endpoint is None or (urlsplit(endpoint).hostname or "").endswith(_AWS))
