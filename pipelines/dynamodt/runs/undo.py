"""`undo RUN`: undoes a run by its journal, from the checks to the report (guarantee G5)."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from dynamodt.dynamodb import table as tables_of_stage
from dynamodt.errors import DeadLetters, DynamodtError, Fenced, Hint, Refused, RunFailed, ServiceError, suggest
from dynamodt.model.pages import Counts, Totals, Units
from dynamodt.model.reports import RunReport, UndoReport, counted, pick
from dynamodt.model.runs import Job, JournalSource, RunRecord, Script
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.budget import limit_budget
from dynamodt.runs.context import Follower, Project, RunContext, Runner, is_governed, run_phases
from dynamodt.runs.control import find_run
from dynamodt.runs.dead_letters import samples
from dynamodt.runs.history import (
    goal,
    last_change,
    last_change_of_target,
    now,
    refusal_for,
    report_of,
    title_of,
    unrecorded_notice,
    version_reverted_by,
)
from dynamodt.runs.jobs import lease_replicas, new_run
from dynamodt.runs.journal_check import JournalCheck, check_journal, incomplete_error, journal_refusal
from dynamodt.runs.lock import attempt_in_turn, hold_leases, take_rehearsal_lease
from dynamodt.runs.not_restored import (
    NotRestoredCounts,
    count_waiting,
    gather_not_restored,
    has_lost_items,
    next_pass,
    totals_without_repeats,
    with_further_passes,
)
from dynamodt.runs.plan import check_not_recreated, usable_table
from dynamodt.runs.preflight import check_tables, refusal_of
from dynamodt.runs.provenance import provenance
from dynamodt.runs.restored_tables import check_begun, check_rows, note_begun
from dynamodt.state.object_keys import NOT_RESTORED_FILE, key_of_job
from dynamodt.state.runs import UNDOING, next_status, phases, undo_run, unfinished, write_periods
from dynamodt.state.split_rows import totals_of
from dynamodt.state.state import State


def undo(project: Project, tables: Sequence[str], run: str, runner: Runner) -> UndoReport:
    """Undo a run of one of the tables, or continue its undo.

    Raises UsageError for a run that does not exist, Refused for a run that cannot be undone now, and KeyboardInterrupt.
    An error that ended the undo early is in the report.
    """
    record = find_run(project, tables, run)
    return attempt_in_turn(project, record.table, partial(_attempt_undo, project, record, runner))


def _attempt_undo(project: Project, record: RunRecord, runner: Runner) -> UndoReport:
    record = _checked(project, record)
    table = tables_of_stage.describe(project.stage.connection, record.table)
    target = tables_of_stage.describe(project.stage.connection, record.target) if record.target else None
    context = RunContext.opened(project, runner)
    with _hold_tables(context, record) as (context, base):
        record = find_run(context, [record.table], record.run)  # as it is under the lease
        check_undoable(context.state, record)
        check_rows(context, record)
        check_begun(context, table)
        found = check_journal(context, record)
        refused = journal_refusal(found, context.storage, record)
        if refused is not None and not context.options.partial:
            return _refused_report(context, record, refused)
        limit_budget(context, base, table, target)
        number, jobs = undo_jobs(context, record, table, target, base, partly=refused is not None)
        undo = _Undo(context, record, table, jobs, number, found).run()
        return replace(undo, refusal=refusal_of(project, target or table)) if context.options.dry_run else undo


@contextmanager
def _hold_tables(context: RunContext, record: RunRecord) -> Iterator[tuple[RunContext, str]]:
    """Holds the run's table and its target. Yields the context with their leases, and the prefix of the undo's phase
    ids."""
    leases, replicas = context.state.leases, lease_replicas(context.options.workers)
    if context.options.dry_run:
        run = new_run()
        yield replace(context, token=take_rehearsal_lease(leases, run, replicas)), run
        return
    others = [record.target] if record.target else []
    with hold_leases(leases, record.table, others, record.run, context.observer.notify, replicas) as (lease, fences):
        yield replace(context, token=lease.token, fences=fences), record.run


# ---------------------------------------------------------------- checks


def undoable(project: Project, tables: Sequence[str], run: str) -> RunRecord:
    """The run with this id, or beginning of one, if it can be undone now, or within `wait_lock`. Raises UsageError, or
    Refused."""
    record = find_run(project, tables, run)
    return attempt_in_turn(project, record.table, partial(_checked, project, record))


def _checked(project: Project, record: RunRecord) -> RunRecord:
    """The run's present record. Raises Refused if it cannot be undone."""
    stage, record = project.stage, find_run(project, [record.table], record.run)
    check_undoable(project.state, record)
    check_not_recreated(stage, record)
    check_same_storage(stage, record)
    check_tables(stage, [usable_table(stage, record.target or record.table)], project.options)
    return record


def check_same_storage(stage: Stage, record: RunRecord) -> None:
    """Raises Refused if the run's journal is in another storage than the stage's."""
    was, now_at = record.began.get("storage"), stage.storage.url.rstrip("/")
    if was not in (None, now_at):
        what = f"the journal of run {record.run} is in {was}, and the storage of stage {stage.name} is now {now_at}"
        hint = f"give the stage that storage for the undo: DYNAMODT_STORAGE={was} " + suggest("undo", record.run)
        raise refusal_for(record, what, hint)


def check_undoable(state: State, record: RunRecord) -> None:
    """Raises Refused for a run that is undone, that has no journal, or whose table a later run has changed."""
    stamp = "to change which versions are applied: " + suggest("stamp", table=record.table, to="N")
    elsewhere = f"{record.run} did not run here: its version was {record.status}"
    why = "it had written nothing, or to a table that is gone, or its version was stamped"
    refusals = {
        "stamped": (elsewhere, stamp),
        "adopted": (elsewhere, stamp),
        "repaired": (f"{record.run} has accepted an edit of a script, and ran nothing", stamp),
        "closed": (f"run {record.run} was undone in part, and its version stamped since", stamp),
        "undone": (f"run {record.run} is undone already", suggest("status", table=record.table)),
        "replaced": (f"run {record.run} was replaced: {why}", suggest("history", table=record.table)),
    }
    what, hint = refusals.get(record.status, ("", ""))
    if not what and not record.journal:
        what = f"run {record.run} has no journal: version {record.version} ({record.name}) is IDEMPOTENT"
        hint = _other_way(record)
    if what:
        raise refusal_for(record, what, hint)
    _check_last(state, record)


def _check_last(state: State, record: RunRecord) -> None:
    last = last_change(state, record)
    if last.run == record.run and record.target and record.status != UNDOING:
        last = last_change_of_target(state, record)
    if last.run != record.run:
        what = f"{title_of(last)} changed this table later: {last.status}"
        raise refusal_for(last, what, "undo that one first: " + suggest("undo", last.run))
    above = max(state.applied(record.table), default=0)
    if above > record.version:
        hint = "if it is not applied: " + suggest("stamp", table=record.table, to=record.version)
        raise refusal_for(record, f"version {above} was recorded above it, without a run", hint)


def _other_way(record: RunRecord) -> Hint:
    other, to = ("down", record.version - 1) if record.direction == "up" else ("up", record.version)
    way = suggest(other, table=record.table, to=to) + f", where its script has a transform_{other}"
    if not unfinished(record.status):
        return way
    return "finish it (" + suggest(record.direction, table=record.table, to=goal(record)) + "), then: " + way


def _refused_report(project: Project, record: RunRecord, error: Refused) -> UndoReport:
    """The report of an undo that is refused for an incomplete journal."""
    run = replace(report_of(record), status="refused", counts=Counts(), consumed=Units(), seconds=0.0, error=str(error))
    run = replace(run, dead_letters="", rehearsal=project.options.dry_run)
    return UndoReport(run, max(project.state.applied(record.table), default=0), error=error)


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
    path, stamp = f"v{record.version}_{record.name}.py", record.began.get("STAMP") or None
    return Script(record.table, record.version, record.name, path, "", record.checksum, stamp=stamp)


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
        name, changed = f"undo of {record.name}", totals_of(context.state, phases(self.record)).counts.changed
        context.observer.run_started(record.table, record.version, name, record.direction, changed)
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
        left = NotRestoredCounts(0, 0, ())
        try:
            left = gather_not_restored(context, self.jobs, self._not_restored_name())
            if error is None:
                self._end(left.partly)
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

    def _end(self, partly_restored: int) -> None:
        """Record that the run is undone and, in the same transaction, that its version is no longer applied (for a
        `down`: is applied again). Without some parts of the journal, it is undone in part, and its version does not
        change."""
        context, record = self.context, replace(self.record, partly_restored=partly_restored)
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
