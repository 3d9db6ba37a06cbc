"""Undoes a job on the fakes, reads what was not restored, and replays dead letters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from dynamodt.model.pages import Counts, Totals
from dynamodt.model.reports import NotRestored
from dynamodt.model.runs import Job, JournalSource
from dynamodt.pipeline.migrate import migrate, undo
from dynamodt.runs.jobs import retry_job
from dynamodt.runs.undo import next_pass
from dynamodt.state.object_keys import DEAD, NOT_RESTORED, key_of_job
from tests.fakes import FakeDynamoDB
from tests.pipeline.conftest import Bench

DOUBLE = 'def transform_up(item):\n    return {**item, "n": item["n"] * 2, "twice": True}\n'


def undo_job(bench: Bench, job: Job, **how: Any) -> Counts:
    """The counts of an undo of a job. The undo can be repeated, as after a death."""
    return undo_totals(bench, job, **how).counts


def undo_totals(
    bench: Bench,
    job: Job,
    *,
    run: str = "",
    attempt: int = 0,
    attempts: tuple[int, int] = (0, 0),
    partial: bool = False,
    dry_run: bool = False,
) -> Totals:
    back = replace(job, run=f"{job.run}/undo1", source=JournalSource(job.run, attempts, partial))
    back = replace(back, attempt=attempt or job.attempt + 1, run=run or back.run, dry_run=dry_run)
    bench.state.lease(back)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        undo(pipeline, back, bench.resources)
    totals = bench.state.splits(back.run).totals(back.splits)
    assert totals.done == back.splits and totals.counts.balanced, totals
    return totals


def repeat_undo(bench: Bench, job: Job) -> Counts:
    """The counts of a pass over the items that `undone` has left waiting."""
    first = replace(job, run=f"{job.run}/undo1", source=JournalSource(job.run), attempt=job.attempt + 2)
    back = next_pass(first, 1)
    bench.state.lease(back)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        undo(pipeline, back, bench.resources)
    return bench.state.splits(back.run).totals(back.splits).counts


def retry_dead_letters(
    bench: Bench, job: Job, number: int = 1, since: tuple[str, ...] = (), later: tuple[str, ...] = ()
) -> tuple[Job, Counts]:
    """The dead letters of a phase, or of the last of its retries `since`, replayed as `dynamodt retry` does after the
    `later` phases."""
    source = replace(job, run=since[-1]) if since else job
    again = retry_job(job, number, tuple(bench.storage.names(key_of_job(source, DEAD))))
    again = replace(again, attempt=job.attempt + number, earlier=(job.run, *later, *since))
    bench.state.lease(again)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        migrate(pipeline, again, bench.resources)
    return again, bench.state.splits(again.run).totals(1).counts


def not_restored_items(bench: Bench, job: Job, number: int = 1) -> dict[int, NotRestored]:
    names = bench.storage.names(key_of_job(replace(job, run=f"{job.run}/undo{number}"), NOT_RESTORED))
    lines = [json.loads(line) for name in names for line in (bench.storage.read(name) or b"").splitlines()]
    return {
        int([*line["key"].values()][-1]["N"]): NotRestored(
            line["key"], tuple(line["attributes"]), line["why"], tuple(line["restored"])
        )
        for line in lines
    }


def act_once(act: Callable[[FakeDynamoDB], None]) -> Callable[[FakeDynamoDB], None]:
    """Acts as the application before the first write, and never again."""

    def application(table: FakeDynamoDB) -> None:
        table.before_write = None
        act(table)

    return application
