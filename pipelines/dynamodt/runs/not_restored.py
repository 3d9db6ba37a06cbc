"""The items that an undo has not restored, and its further passes over items that wait for a key of another split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from dynamodt.model.pages import Totals
from dynamodt.model.reports import NotRestored
from dynamodt.model.runs import Job, JournalSource
from dynamodt.pipeline.outcomes import is_waiting, waiting_keys
from dynamodt.runs.stored_dead_letters import committed_lines, committed_parts
from dynamodt.state.object_keys import NOT_RESTORED, key_of_job

if TYPE_CHECKING:
    from dynamodt.runs.context import Follower, RunContext
    from dynamodt.state.state import State

_SHOWN = 3
_PASSES = 1000  # the maximum of one try: the ids of its phases are numbered together with those of other tries


def next_pass(job: Job, number: int) -> Job:
    """The phase, in the try `number`, that repeats the items that this phase has left waiting."""
    assert isinstance(job.source, JournalSource)
    head, _, last = job.run.rpartition("/undo")
    done, dot, period = last.partition(".")
    turn = 1 if int(done) == number else int(done) % _PASSES + 1
    run = f"{head}/undo{number * _PASSES + turn}{dot}{period}"
    return replace(job, run=run, source=replace(job.source, waiting=job.run))


def with_further_passes(state: State, jobs: Sequence[Job], number: int) -> list[Job]:
    """The phases of the try `number`, and of its further passes that have begun."""
    found = list(jobs)
    again = [next_pass(job, number) for job in jobs]
    while any(True for job in again for _ in state.splits(job.run).all(job.splits)):
        found += again
        again = [next_pass(job, number) for job in again]
    return found


def count_waiting(context: RunContext, job: Job) -> int:
    """The number of items that a phase has left waiting."""
    return sum(map(len, waiting_keys(context.storage, not_restored_parts(context, job)).values()))


def totals_without_repeats(follower: Follower, jobs: Sequence[Job]) -> Totals:
    """The totals of the phases. A repeated item counts once, with its last outcome."""
    totals = follower.totals
    again = sum(follower.read(job) for job in jobs if isinstance(job.source, JournalSource) and job.source.waiting)
    counts = totals.counts
    return totals._replace(counts=counts._replace(read=counts.read - again, superseded=counts.superseded - again))


class NotRestoredCounts(NamedTuple):
    """The items that an undo has not restored: their number, how many are restored in part, and the first few."""

    items: int
    partly: int
    first: tuple[NotRestored, ...]


def gather_not_restored(context: RunContext, jobs: list[Job], name: str) -> NotRestoredCounts:
    """Join the items that the phases have not restored into one JSON-lines file."""
    again = {job.source.waiting for job in jobs if isinstance(job.source, JournalSource)}
    kept = [line for job in jobs for line in _lines(context, job) if job.run not in again or not is_waiting(line)]
    if kept:
        context.storage.write(name, b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in kept))
    first = tuple(map(_not_restored, kept[:_SHOWN]))
    return NotRestoredCounts(len(kept), sum(bool(line["restored"]) for line in kept), first)


def has_lost_items(context: RunContext, job: Job) -> bool:
    """Whether fewer items that a phase has not restored are stored than its splits' rows count."""
    counted = context.state.splits(job.run).totals(job.splits).journal.records
    return counted > 0 and sum(1 for _ in _lines(context, job)) < counted


def _lines(context: RunContext, job: Job) -> Iterator[dict[str, Any]]:
    return committed_lines(context, job, key_of_job(job, NOT_RESTORED))


def not_restored_parts(context: RunContext, job: Job) -> list[str]:
    """The parts that a phase has stored."""
    return committed_parts(context, job, key_of_job(job, NOT_RESTORED))


def _not_restored(line: dict[str, Any]) -> NotRestored:
    return NotRestored(line["key"], tuple(line["attributes"]), line["why"], tuple(line["restored"]))
