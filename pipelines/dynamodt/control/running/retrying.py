"""`retry RUN`: what stands in the way of replaying a run's dead letters (guarantee G2)."""

from __future__ import annotations

from dynamodt.aws.state import State
from dynamodt.control.running.resuming import goal
from dynamodt.control.running.tables_gone import check_not_recreated
from dynamodt.core.lifecycle import unfinished
from dynamodt.core.passes import passes
from dynamodt.core.standing import PARTLY_UNDONE
from dynamodt.errors import Refused
from dynamodt.model import RunRecord, Stage


def check_retriable(stage: Stage, state: State, record: RunRecord) -> None:
    """Raises Refused for a run that is over, that has no dead letters, or whose table is another one by now. Whether it
    is the unfinished one of its table is seen when the table is held."""
    where = f"table {record.table}"
    begins = f"a new run begins with: dynamodt {record.direction} --table {record.table}"
    if not unfinished(record.status):
        raise Refused(
            f"run {record.run} has ended ({record.status}): nothing of it is left to retry", where=where, run=record.run
        )
    if record.status == PARTLY_UNDONE:
        hint = f"restore what its journal lacks, then: dynamodt undo {record.run}"
        raise Refused(f"run {record.run} is undone in part", where=where, hint=hint, run=record.run)
    if record.status == "undoing":
        hint = f"finish it first: dynamodt undo {record.run}"
        raise Refused(f"run {record.run} is half undone", where=where, hint=hint, run=record.run)
    check_not_recreated(stage, record, hint=begins)
    dead = sum(state.units(one.run).totals(one.units).counts.dead for one in passes(record))
    if dead <= 0:
        command = f"dynamodt {record.direction} --table {record.table} --to {goal(record)}"
        hint = f"to go on with it: {command}"
        raise Refused(f"run {record.run} has no dead letters", where=where, hint=hint, run=record.run)
