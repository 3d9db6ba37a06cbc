"""`--runner glue`: the verbs that run in a deployed job, started from here and followed to their end.

What stands in the way is found out before a job is started. What has become of it is taken from the state table, never
from Glue: a job that says SUCCEEDED and has answered nothing has failed. A job outlives the command that started it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dynamodt.aws import table as tables_of_stage
from dynamodt.aws.answer_rows import JobAnswer
from dynamodt.aws.state import State
from dynamodt.aws.storage import open_storage
from dynamodt.control.glue.answers import in_full, prepared_of, runs_of, told_error, understood, undo_of
from dynamodt.control.glue.deployed_job import DeployedJob
from dynamodt.control.requests import JobWatcher, Request, RunOptions
from dynamodt.control.running.lease import check_free as check_not_held
from dynamodt.control.running.moves import Move, plan_move, table_report
from dynamodt.control.running.resuming import check_free
from dynamodt.control.running.waiting import in_turn, is_held
from dynamodt.errors import DeadLetters, DynamodtError, RunFailed
from dynamodt.model import Direction, PreparedRef, RunRecord, RunReport, Script, Stage, TableReport, UndoReport


def move(
    stage: Stage,
    folder: Path,
    direction: Direction,
    tables: Sequence[str],
    named: Sequence[str],
    to: int | None,
    options: RunOptions,
    watcher: JobWatcher,
) -> list[TableReport]:
    """Bring `tables` to version `to` in the deployed job, which is given the words that a person has typed: `named`.

    No job is started where every table is there already, or is refused.
    """
    request = Request(direction, tables=tuple(named), to=to, options=options)
    _wait_for_others(stage, folder, tables, request, watcher)
    moves = [plan_move(stage, folder, table, direction, to, options, watcher) for table in tables]
    return _moved(stage, folder, moves, request, watcher)


def retry(
    stage: Stage, folder: Path, record: RunRecord, to: int, options: RunOptions, watcher: JobWatcher
) -> list[TableReport]:
    """Go on with an unfinished run in the deployed job, its dead letters first."""
    moves = [plan_move(stage, folder, record.table, record.direction, to, options, watcher)]
    request = Request("retry", tables=(record.table,), run=record.run, options=options)
    return _moved(stage, folder, moves, request, watcher)


def undo(stage: Stage, folder: Path, record: RunRecord, options: RunOptions, watcher: JobWatcher) -> UndoReport:
    """Take a run, which was found fit for it, back in the deployed job."""
    request = Request("undo", tables=(record.table,), run=record.run, options=options)
    job = DeployedJob(stage, folder, request, watcher)
    found = job.at_work()
    if found is None and not options.dry_run:
        for table in filter(None, (record.table, record.target)):
            check_not_held(job.state.leases, table)
    answer = job.answer(found, [record.table])
    if answer is None or "counts" not in answer.document:
        raise job.failure(answer)
    with understood(job.place):
        report = undo_of(answer.document)
    if report.error is not None:
        job.show_log()
    key_names = tables_of_stage.describe(stage.connection, record.table).key_names
    return replace(report, run=replace(report.run, rehearsal=options.dry_run, key_names=key_names))


def prepare(stage: Stage, folder: Path, script: Script, dry_run: bool, watcher: JobWatcher) -> PreparedRef:
    """Run a version's `prepare` in the deployed job that is there for it."""
    options = RunOptions(dry_run=dry_run)
    request = Request("prepare", tables=(script.table,), number=script.sequence, options=options)
    job = DeployedJob(stage, folder, request, watcher)
    answer = job.answer(job.at_work(), [])
    if answer is None or "sha256" not in answer.document:
        raise job.failure(answer)
    with understood(job.place):
        return prepared_of(answer.document)


# ---------------------------------------------------------------- up, down and retry


def _wait_for_others(stage: Stage, folder: Path, tables: Sequence[str], request: Request, watcher: JobWatcher) -> None:
    """With `wait_lock`, until nobody else is at work on the tables: here, where waiting costs nothing. A job that is at
    work on this very command is not waited for, but followed. Raises Busy when the time is over."""
    leases = State(stage.connection, stage.state_table).leases
    if not request.options.wait_lock or not any(is_held(leases, table) for table in tables):
        return
    if DeployedJob(stage, folder, request, watcher).at_work() is None:
        for table in tables:
            in_turn(leases, table, request.options, watcher.note, lambda: None)


def _moved(stage: Stage, folder: Path, moves: list[Move], request: Request, watcher: JobWatcher) -> list[TableReport]:
    if not any(move.has_steps for move in moves):
        return [table_report(stage, move) for move in moves]
    job = DeployedJob(stage, folder, request, watcher)
    found = job.at_work()
    if found is None:
        _refuse(job.state, stage, moves, request.options)
        if not any(move.has_steps for move in moves):
            return [table_report(stage, move) for move in moves]
    answer = job.answer(found, [move.table for move in moves])
    if answer is None or "tables" not in answer.document:
        return _without_answer(job, moves, request.options, answer)
    return _with_answer(job, moves, request.options, answer)


def _refuse(state: State, stage: Stage, moves: list[Move], options: RunOptions) -> None:
    """Leave with each table what the job would be refused there."""
    for move in moves:
        if move.planned is not None and move.has_steps:
            try:
                check_free(state, stage, move.planned, options)
            except DynamodtError as error:
                move.error = error


def _with_answer(job: DeployedJob, moves: list[Move], options: RunOptions, answer: JobAnswer) -> list[TableReport]:
    with understood(job.place):
        told = {table["table"]: table for table in answer.document["tables"]}
    reports = [_report_of(job, move, options, answer, told) for move in moves]
    if answer.exit_code and all(move.error is None for move in moves):  # the command as a whole was ended
        raise job.failure(answer)
    if any(isinstance(move.error, RunFailed) and not isinstance(move.error, DeadLetters) for move in moves):
        job.show_log()
    return reports


def _report_of(
    job: DeployedJob, move: Move, options: RunOptions, answer: JobAnswer, told: Mapping[str, Any]
) -> TableReport:
    table = told.get(move.table, {"table": move.table, "direction": move.direction})
    with understood(job.place):
        runs = runs_of(table)
        move.error = move.error or told_error(table, dead=any(run.dead_letters for run in runs))
    runs = [_in_full(job, run, move, options) for run in runs]
    if move.error is None and not answer.exit_code and not _is_answered(job, move, options, told):
        move.error = job.unanswered(move.table)
    return table_report(job.stage, move, runs)


def _is_answered(job: DeployedJob, move: Move, options: RunOptions, told: Mapping[str, Any]) -> bool:
    """Whether the job has done something about a table that was planned, or had nothing to do any more."""
    answered = move.table in told and (options.dry_run or bool(told[move.table].get("versions")))
    return answered or _has_arrived(job, move, options)


def _without_answer(
    job: DeployedJob, moves: list[Move], options: RunOptions, answer: JobAnswer | None
) -> list[TableReport]:
    """The job has died, or was only pretended: what the state table has of it is what there is. Where a table has come
    to where it was to be, nothing is lost but the answer."""
    failure = None if all(_has_arrived(job, move, options) for move in moves) else job.failure(answer)
    reports = []
    for move in moves:
        runs = [_in_full(job, run, move, options) for run in job.ended(move.table)]
        move.error = move.error or (None if _has_arrived(job, move, options) else failure)
        reports.append(table_report(job.stage, move, runs))
    return reports


def _has_arrived(job: DeployedJob, move: Move, options: RunOptions) -> bool:
    """Whether a table stands where it was to be, by the first plan: `down` would go one further by another."""
    if move.planned is None or not move.has_steps:
        return True
    last = move.planned.steps[-1].script.sequence
    at = max(job.state.applied(move.table), default=0)
    return not options.dry_run and at == (last if move.direction == "up" else last - 1)


def _in_full(job: DeployedJob, run: RunReport, move: Move, options: RunOptions) -> RunReport:
    """A run's report with what only the stage's storage holds."""
    scripts, keys = (move.planned.scripts, move.planned.table.key_names) if move.planned else ((), ())
    storage = open_storage(job.stage.connection, job.stage.storage)
    return in_full(run, job.state, storage, scripts, keys, options.dry_run)
