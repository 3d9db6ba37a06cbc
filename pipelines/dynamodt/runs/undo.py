"""`undo RUN`: undoes a run by its journal, from the checks to the report (guarantee G5)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import orjson

from dynamodt.dynamodb import table as tables_of_stage
from dynamodt.errors import DeadLetters, DynamodtError, Fenced, RunFailed, ServiceError, suggest
from dynamodt.model.pages import Totals
from dynamodt.model.reports import NotRestored, RunReport, UndoReport, counted, pick
from dynamodt.model.runs import Job, JournalSource, RunRecord, Script
from dynamodt.model.tables import TableSpec
from dynamodt.pipeline.outcomes import is_waiting, waiting_keys
from dynamodt.pipeline.restoration import DELETED, REPLACED, TAKEN, UNCONFIRMED
from dynamodt.runs.budget import limit_budget
from dynamodt.runs.context import Follower, Project, RunContext, Runner, is_governed, run_phases
from dynamodt.runs.control import find_run
from dynamodt.runs.dead_letters import samples
from dynamodt.runs.history import now, unrecorded_notice, version_reverted_by
from dynamodt.runs.jobs import new_run
from dynamodt.runs.lock import attempt_in_turn, hold_leases, take_rehearsal_lease
from dynamodt.runs.plan import check_usable
from dynamodt.runs.provenance import provenance
from dynamodt.runs.restored_tables import check_begun, check_rows, note_begun
from dynamodt.runs.stored_dead_letters import committed_lines, committed_parts
from dynamodt.runs.undo_checks import (
    JournalCheck,
    check_journal,
    check_undoable,
    checked,
    first_not_restored,
    incomplete_error,
    journal_refusal,
    refusal_of,
    refused_report,
)
from dynamodt.script.versions import file_of
from dynamodt.state.object_keys import NOT_RESTORED, NOT_RESTORED_FILE, key_of_job
from dynamodt.state.runs import next_status, phases, undo_run, write_periods
from dynamodt.state.split_rows import totals_of
from dynamodt.state.state import State

_GONE = frozenset({DELETED, TAKEN, UNCONFIRMED, REPLACED})  # why an item is not restored that is not in the table
_PASSES = 1000  # the maximum of one try: the ids of its phases are numbered together with those of other tries


def undo(project: Project, tables: Sequence[str], run: str, runner: Runner) -> UndoReport:
    """Undo a run of one of the tables, or continue its undo.

    Raises UsageError for a run that does not exist, Refused for a run that cannot be undone now, and KeyboardInterrupt.
    An error that ended the undo early is in the report.
    """
    record = find_run(project, tables, run)
    return attempt_in_turn(project, record.table, partial(_attempt_undo, project, record, runner))


def _attempt_undo(project: Project, record: RunRecord, runner: Runner) -> UndoReport:
    record = checked(project, record)
    table = tables_of_stage.describe(project.stage.connection, record.table)
    target = tables_of_stage.describe(project.stage.connection, record.target) if record.target else None
    check_usable(target or table)
    context = RunContext.opened(project, runner)
    with _hold_tables(context, record) as (context, base):
        record = find_run(context, [record.table], record.run)  # as it is under the lease
        check_undoable(context.state, record)
        check_rows(context, record)
        check_begun(context, table)
        found = check_journal(context, record)
        refused = journal_refusal(found, context.storage, record)
        if refused is not None and not context.options.partial:
            return refused_report(context, record, refused)
        lease = f"dry-run/{base}" if context.options.dry_run else table.name
        context = context.ready(lease)
        limit_budget(context, lease, target or table, target or table)
        number, jobs = undo_jobs(context, record, table, target, base, partly=refused is not None)
        undo = _Undo(context, record, table, jobs, number, found).run()
        return replace(undo, refusal=refusal_of(project, record)) if context.options.dry_run else undo


@contextmanager
def _hold_tables(context: RunContext, record: RunRecord) -> Iterator[tuple[RunContext, str]]:
    """Holds the run's table and its target. Yields the context with their leases, and the prefix of the undo's phase
    ids."""
    leases = context.state.leases
    if context.options.dry_run:
        run = new_run()
        yield replace(context, token=take_rehearsal_lease(leases, run)), run
        return
    others = [record.target] if record.target else []
    with hold_leases(leases, record.table, others, record.run, context.observer.notify) as (lease, fences):
        yield replace(context, token=lease.token, fences=fences), record.run


# ---------------------------------------------------------------- phases


def undo_jobs(
    context: RunContext, record: RunRecord, table: TableSpec, target: TableSpec | None, base: str, partly: bool = False
) -> tuple[int, list[Job]]:
    """A job for each phase of the run that has begun, in the reverse order of the writes.

    Their ids contain the number of the try: after a try with dead letters, or whose list of items that it has not
    restored is lost, the next one processes all pages again, and finds restored items unchanged. The same applies
    before and after each try without some parts of the journal (`partly`), since other parts may be missing then.
    Returns the number, too.
    """
    options, rows = context.options, context.state.splits
    begun = [one for one in reversed(write_periods(record)) if any(rows(one.run).all(one.splits))]
    like = Job(
        run=base,
        stage=context.stage,
        table=table,
        script=_script(record),
        direction=record.direction,
        splits=0,
        target=target,
        dry_run=options.dry_run,
        max_errors=options.max_errors,
        attempt=context.token,
        fences=context.fences,
    )
    like = replace(like, governed=is_governed(context, like))
    for number in count(1):
        jobs = [
            replace(
                like,
                run=base + undo_run(one.run, number, one.number).removeprefix(record.run),  # a dry run's is its own
                splits=one.splits,
                source=JournalSource(one.run, (one.since, one.until), partly),
            )
            for one in begun
        ]
        tried = with_further_passes(context.state, jobs, number)
        is_over = any(rows(job.run).totals(job.splits).counts.dead or has_lost_items(context, job) for job in tried)
        if partly or number <= record.partial_tries:  # its pages are numbered by the parts that exist
            is_over |= any(any(rows(job.run).all(job.splits)) for job in tried)
        if not is_over:
            return number, jobs
    raise AssertionError("a try that has not begun is not over")


def _script(record: RunRecord) -> Script:
    """The version as its run has recorded it, since its file may be edited or missing."""
    stamp = record.began.get("STAMP") or None
    return Script(record.table, record.version, record.name, file_of(record), "", record.checksum, stamp=stamp)


# ---------------------------------------------------------------- the undo


@dataclass
class _Undo:
    """One undo, under the lease of the context's token."""

    context: RunContext
    record: RunRecord
    table: TableSpec
    jobs: list[Job]
    number: int  # of the try
    journal: JournalCheck
    at: int = 0  # the table's version, as far as it is known

    def run(self) -> UndoReport:
        context, record = self.context, self.record
        self.at = max(context.state.applied(record.table), default=0)
        if not context.options.dry_run:
            partial_tries = record.partial_tries if self.journal.is_whole else self.number
            self.record = replace(record, status=next_status(record.status, "undo"), partial_tries=partial_tries)
            self.record = context.state.record(self.record, context.token, fences=context.fences)
            note_begun(context.storage, self.table, self.record)
        follower = Follower(context.state, self.jobs, context.observer)
        changed = totals_of(context.state, phases(self.record)).counts.changed
        context.observer.run_started(replace(record, name=f"undo of {record.name}"), changed)
        began = time.monotonic()
        error: BaseException | None = None
        try:
            self._run_phases(follower)
        except Fenced:
            raise
        except (DynamodtError, KeyboardInterrupt, SystemExit) as raised:
            error = raised
        totals = totals_without_repeats(follower, self.jobs)
        report = self._report(totals, error or self._completion_error(totals))
        report = replace(report, run=replace(report.run, seconds=round(time.monotonic() - began, 3)))
        context.observer.run_ended(report.run)
        if error is not None and not isinstance(error, DynamodtError):
            raise error
        return report

    def _run_phases(self, follower: Follower) -> None:
        """Undo the phases in the reverse order of their writes, each with its waiting items, since an item must be as a
        phase left it when that phase is undone. At the end, undo the items that wait for a key of an earlier phase."""
        last = []
        for job in list(self.jobs):
            run_phases(self.context, [job], follower)
            if not follower.complete(job):
                return
            last += self._free_keys(follower, [job])
        self._free_keys(follower, last)

    def _free_keys(self, follower: Follower, last: list[Job]) -> list[Job]:
        """Repeat the items that waited for the key of an item of another split, since splits are undone in any order.
        Each pass frees keys for the next one; they end when no fewer items wait. Returns the last pass."""
        context, before = self.context, 0
        while all(map(follower.complete, last)) and not context.options.dry_run:
            left = sum(count_waiting(context, job) for job in last)
            if not left or (before and left >= before):
                break
            before, last = left, [next_pass(job, self.number) for job in last]
            self.jobs = [*self.jobs, *last]
            for job in last:
                follower.add(job)
            run_phases(context, last, follower)
        return last

    def _completion_error(self, totals: Totals) -> DynamodtError | None:
        """The error of an incomplete undo, or None."""
        run, dead = self.record.run, totals.counts.dead
        if dead > self.context.options.max_errors:
            items = counted(dead, "item")
            again = "each line has the reason; to try again: " + suggest("undo", run)
            hint = again + f"; with --max-errors {dead} it leaves them"
            where = self.context.storage.place(self._not_restored_name())
            return DeadLetters(f"{items} could not be restored", where=where, hint=hint)
        if totals.done < sum(job.splits for job in self.jobs) or not totals.counts.balanced:
            return RunFailed("the undo has not ended", where=f"run {run}", hint=suggest("undo", run))
        return None

    def _report(self, totals: Totals, error: BaseException | None) -> UndoReport:
        context, record = self.context, self.record
        left = NotRestoredCounts(0, 0, 0, ())
        try:
            left = gather_not_restored(context, self.jobs, self._not_restored_name())
            if error is None:
                self._end(left)
                error = None if self.journal.is_whole else incomplete_error(self.journal, context.storage, record)
        except ServiceError as failed:  # the undo is reported as far as it is known
            error = error or failed
            if not context.options.dry_run:
                context.observer.notify(unrecorded_notice(f"the undo of run {record.run}", failed))
        status = self.record.status if not context.options.dry_run else "stopped" if error else "dry-run"
        run = RunReport(
            **pick(record, "table direction version name run"),
            status=status,
            counts=totals.counts,
            consumed=totals.units,
            error=str(error) if error else "",
            samples=samples(context, self.jobs),
            key_names=self.table.key_names,
            rehearsal=context.options.dry_run,
        )
        not_restored_at = context.storage.place(self._not_restored_name()) if left.items else ""
        missing = self.journal.broken
        return UndoReport(run, self.at, left.items, not_restored_at, left.first, error, left.partly, missing)

    def _not_restored_name(self) -> str:
        return key_of_job(self.jobs[0], NOT_RESTORED_FILE) if self.jobs else ""

    def _end(self, left: NotRestoredCounts) -> None:
        """Record that the run is undone and, in the same transaction, that its version is no longer applied (for a
        `down`: is applied again). Without some parts of the journal, it is undone in part, and its version does not
        change."""
        context = self.context
        scanned = not self.record.target  # no run transforms the items that a version has put into a TARGET_TABLE
        transformed = left.transformed if scanned else 0
        record = replace(self.record, partly_restored=left.partly, not_restored=transformed)
        if context.options.dry_run:
            return
        if not self.journal.is_whole:
            lacking = replace(record, status=next_status(record.status, "lack"))
            self.record = context.state.record(lacking, context.token, fences=context.fences)
            return
        of = provenance(context.options)
        status, undone_by = next_status(record.status, "undone"), f"{now()} by {of.by}"
        undone = replace(record, status=status, undone=undone_by, undone_reason=of.reason)
        applied_now = context.state.applied(record.table)
        version = applied_now.get(record.version)
        reverted = record.direction == "up" and version is not None and version.run == record.run
        again = record.direction == "down" and version is None
        applied = version_reverted_by(context.state, record) if again else None
        self.record = context.state.record(
            undone, context.token, applied=applied, reverted=reverted, fences=context.fences
        )
        others = {*applied_now} - ({record.version} if reverted else set())
        self.at = max([*others, *([record.version] if again else [])], default=0)


# ---------------------------------------------------------------- items that are not restored


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
    return sum(
        map(len, waiting_keys(context.storage, committed_parts(context, job, key_of_job(job, NOT_RESTORED))).values())
    )


def totals_without_repeats(follower: Follower, jobs: Sequence[Job]) -> Totals:
    """The totals of the phases. A repeated item counts once, with its last outcome."""
    totals = follower.totals
    again = sum(follower.read(job) for job in jobs if isinstance(job.source, JournalSource) and job.source.waiting)
    counts = totals.counts
    return totals._replace(counts=counts._replace(read=counts.read - again, superseded=counts.superseded - again))


class NotRestoredCounts(NamedTuple):
    """The items that an undo has not restored in full: their number, how many are restored in part, how many of the
    others are in the table and may be as the run has transformed them, and the first few."""

    items: int
    partly: int
    transformed: int
    first: tuple[NotRestored, ...]


def gather_not_restored(context: RunContext, jobs: list[Job], name: str) -> NotRestoredCounts:
    """Join the items that the phases have not restored into one JSON-lines file."""
    again = {job.source.waiting for job in jobs if isinstance(job.source, JournalSource)}
    kept = [line for job in jobs for line in _lines_of(context, job) if job.run not in again or not is_waiting(line)]
    if kept:
        context.storage.write(name, b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in kept))
    partly = sum(bool(line["restored"]) for line in kept)
    transformed = sum(not line["restored"] and line["why"] not in _GONE for line in kept)
    return NotRestoredCounts(len(kept), partly, transformed, first_not_restored(kept))


def has_lost_items(context: RunContext, job: Job) -> bool:
    """Whether fewer items that a phase has not restored are stored than its splits' rows count."""
    counted = context.state.splits(job.run).totals(job.splits).journal.records
    return counted > 0 and sum(1 for _ in _lines_of(context, job)) < counted


def _lines_of(context: RunContext, job: Job) -> Iterator[dict[str, Any]]:
    return committed_lines(context, job, key_of_job(job, NOT_RESTORED))
