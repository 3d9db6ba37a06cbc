"""`retry`: its checks before the start (guarantee G2), and its dry run, which applies the version to the current items
of a run's dead letters, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from dynamodt.dynamodb.dynamo_data_transform import without_record
from dynamodt.dynamodb.reads import Reads
from dynamodt.dynamodb.wire import Wire
from dynamodt.errors import DeadLetters, error_text, suggest
from dynamodt.model.pages import Counts, Units
from dynamodt.model.reports import RunReport, TableReport, counted, pick
from dynamodt.model.runs import INSERTED_ROWS, DeadLetterSource, Job, RunRecord
from dynamodt.model.tables import Item
from dynamodt.pipeline.attempts import Rehearsal
from dynamodt.pipeline.author_output import labelled
from dynamodt.pipeline.outcomes import except_left_dead_letters
from dynamodt.pipeline.own_writes import EarlierWrites, filter_of_inserted_items, inserted_items, statements
from dynamodt.pipeline.process import mute_beam
from dynamodt.runs.dead_letters import check_evidence, has_lost_dead_letters, left_by_other_direction, lost_dead_letters
from dynamodt.runs.display import key_line
from dynamodt.runs.history import continued_by, goal, is_continued, refusal_for
from dynamodt.runs.jobs import EXPORT
from dynamodt.runs.migration import TableMigration, table_report
from dynamodt.runs.options import RunOptions
from dynamodt.runs.plan import Step, TablePlan, check_not_recreated
from dynamodt.runs.resume import find_reopened
from dynamodt.runs.stored_dead_letters import StoredDeadLetter, StoredDeadLetters, Wanted, chosen_dead_letters
from dynamodt.script.apply import Attempt, attempt_change, effect
from dynamodt.script.codec import decode, key_text
from dynamodt.script.diff import key_of, write_units
from dynamodt.state import prepared
from dynamodt.state.object_keys import DEAD, object_key
from dynamodt.state.runs import PARTLY_UNDONE, UNDOING, phases, retry_run, unfinished
from dynamodt.state.split_rows import totals_of
from dynamodt.state.storage import Storage

if TYPE_CHECKING:
    from dynamodt.runs.context import Project


_SAMPLES = 3


def check_retriable(project: Project, record: RunRecord) -> None:
    """Raises Refused for a run without dead letters to replay or to accept, or whose table was recreated; UsageError
    for an accepted key without a dead letter. Everything is checked again under the lease."""
    state, options, run, undo = project.state, project.options, record.run, suggest("undo", record.run)
    undos = {
        PARTLY_UNDONE: (f"run {run} is undone in part", "restore what its journal lacks, then: " + undo),
        UNDOING: (f"the undo of run {run} is unfinished", "finish it first: " + undo),
    }
    what, hint = undos.get(record.status, ("", ""))
    accepts = bool(options.accept or options.accept_all)
    begun = unfinished(record.status)
    if not begun and not (record.tolerated and record.status == "succeeded"):
        what = f"run {run} has ended ({record.status}): nothing of it is left to retry{_accepted_before(record)}"
        hint = suggest("show", run) + " shows it"
    if not what:
        again = "a new run begins with: " + continued_by(record) if begun else ""
        check_not_recreated(project.stage, record, hint=again)
        find_reopened(state, record.table, run, state.applied(record.table))
        last = state.runs(record.table)[-1]
        if begun and not is_continued(state, record, last):
            what = f"run {run} has written nothing, and run {last.run} followed it"
            raise refusal_for(record, what, "a new run begins with: " + continued_by(record))
        # The command that accepted them has died afterwards, or the one that replayed them, before the run's end.
        repeats = begun and (record.accepted if accepts else record.retries)
        if not repeats and totals_of(state, phases(record)).counts.dead <= record.accepted_items:
            what = f"run {run} has no dead letters{_accepted_before(record)}"
            hint = "to continue it: " + continued_by(record)
    if what:
        raise refusal_for(record, what, hint)
    if accepts:
        if has_lost_dead_letters(project, record):
            raise lost_dead_letters(record, project.storage, goal(record))
        stored = StoredDeadLetters(project, record)
        chosen_dead_letters(stored, options.accept, record, stored.replaying)


def _accepted_before(record: RunRecord) -> str:
    """The persons who accepted its dead letters, and their reasons."""
    who = "; ".join(f"{one.items:,} accepted by {one.by}: {one.why}" for one in record.accepted)
    return f" ({who})" if who else ""


# ---------------------------------------------------------------- the dry run


def rehearse_retry(project: Project, record: RunRecord) -> TableReport:
    """Apply the version, in memory, to the current items of the dead letters that the retry would replay, without those
    that the options accept, and with the evidence of the run's other phases. Rows of `items()`, unreadable lines and
    writes in doubt that are not to be transformed again are not tried. Raises the error that prevents the retry."""
    migration = TableMigration(record.table, record.direction)
    migration.plan(project, goal(record))
    planned = migration.planned
    assert planned is not None and planned.steps
    stored = StoredDeadLetters(project, record)
    left, accepted = _outstanding(stored, project.options, record)
    left += stored.replayed_by_stopped_retries()
    steps = {"transform", "write", *(["doubt"] if project.options.in_doubt == "again" else [])}
    wanted = Wanted(project.options.keys) if project.options.keys else None
    tried = [one for one in left if one.line["step"] in steps and INSERTED_ROWS not in one.part.name]
    tried = [one for one in tried if wanted is None or one.line["step"] != "doubt" or wanted.typed(one.key)]
    if len(tried) < len(left):
        what = "rows of items(), lines that cannot be read and writes in doubt are not tried"
        project.observer.notify(f"{counted(len(left) - len(tried), 'dead letter')} of {len(left):,}: {what}")
    report = _replayed(project, planned, planned.steps[0].of_run(record), record, tried, accepted)
    if report.counts.dead > accepted:
        number = report.counts.dead - accepted
        what = f"{counted(number, 'item')} could still not be transformed: {report.first_dead_letter}"
        migration.error = DeadLetters(what, where=f"run {record.run}", hint="fix the script or the data, and try again")
    return table_report(project, migration, [report])


def _outstanding(
    stored: StoredDeadLetters, options: RunOptions, record: RunRecord
) -> tuple[list[StoredDeadLetter], int]:
    """The dead letters that are neither accepted nor being accepted, and the number of the others."""
    everything = list(stored)
    keys: dict[str, set[str] | None] = {}
    if options.accept or options.accept_all:
        parts = chosen_dead_letters(everything, options.accept, record, stored.replaying).parts
        keys = {part: None if listed is None else set(map(key_text, listed)) for part, listed in parts.items()}

    def stays(one: StoredDeadLetter) -> bool:
        listed = keys.get(one.part.name, set())
        return one.accepted or listed is None or key_text(one.key) in listed

    left = [one for one in everything if not stays(one)]
    return left, len(everything) - len(left)


def _replayed(
    project: Project, planned: TablePlan, step: Step, record: RunRecord, tried: list[StoredDeadLetter], accepted: int
) -> RunReport:
    table, script = planned.table, step.script
    rows = prepared.load(project.storage, script, step.prepared) if step.prepared else {}
    snapshot = record.source == EXPORT
    rehearsal = Rehearsal(
        script, table, planned.direction, prepared=rows, target=step.target, run=record.run, snapshot=snapshot
    )
    with closing(Wire(project.stage.connection.of_table(table.name))) as wire:
        replay = _Replay(project.storage, wire, rehearsal)
        with mute_beam(), labelled(script), rehearsal:
            for job, dead_letters in _retries(project, planned, step, record, tried):
                replay.add(job, dead_letters)
    kinds = Counter(map(_kind, replay.attempts))
    gone = len(tried) - len(replay.attempts)
    counts = Counts(len(tried) + accepted, kinds["changed"], kinds["unchanged"], 0, gone, kinds["dead"] + accepted)
    changed = [one for one in replay.attempts if one.change is not None]
    return RunReport(
        **pick(record, "table direction version run"),
        name=script.name,
        status="failed" if kinds["dead"] else "dry-run",
        counts=counts,
        consumed=Units(replay.rcu, float(sum(write_units(one.change) for one in changed if one.change is not None))),
        samples=tuple(map(_sample, changed))[:_SAMPLES],
        key_names=table.key_names,
        rehearsal=True,
        accepted=accepted,
        first_dead_letter=next((_dead(one, table.key_names) for one in replay.attempts if one.error is not None), ""),
    )


def _retries(
    project: Project, planned: TablePlan, step: Step, record: RunRecord, tried: Sequence[StoredDeadLetter]
) -> Iterator[tuple[Job, list[StoredDeadLetter]]]:
    """The phases that the retry would add, each with its dead letters."""
    runs, table = [one.run for one in phases(record)], planned.table
    like = Job(record.run, project.stage, table, step.script, planned.direction, 1, target=step.target)
    like = replace(like, journal=record.journal, untransformed=left_by_other_direction(project, record))
    if tried:
        check_evidence(project, [replace(like, run=one.run, splits=one.splits) for one in phases(record)])
    for main in (run for run in runs if "/retry" not in run):
        replayed = [run for run in runs if run.partition("/retry")[0] == main]
        prefixes = tuple(object_key(table.name, run, DEAD) for run in replayed)
        found = [one for one in tried if one.part.name.startswith(prefixes)]
        if found:
            source = DeadLetterSource(tuple(dict.fromkeys(one.part.name for one in found)))
            yield replace(like, run=retry_run(main, len(replayed)), source=source, earlier=tuple(runs)), found


class _Replay:
    """Applies a version to the current items of dead letters, with the evidence of a run: what earlier phases have
    written, and what the other direction has left. An item that several phases have left is changed once."""

    def __init__(self, storage: Storage, wire: Wire, rehearsal: Rehearsal) -> None:
        self._storage = storage
        self._wire = wire
        self._rehearsal = rehearsal
        self._changed: set[str] = set()
        self.attempts: list[Attempt] = []
        self.rcu = 0.0

    def add(self, job: Job, dead_letters: Sequence[StoredDeadLetter]) -> None:
        """Replay the dead letters of one phase; items that are gone are left out."""
        table, storage, change_of = job.table, self._storage, self._rehearsal.change_of
        keys = {key_text(one.key): one.key for one in dead_letters}
        there = Reads(self._wire, table).items(list(keys.values()))
        self.rcu += there.rcu
        foreign = filter_of_inserted_items(self._wire, job)
        earlier = EarlierWrites(job, storage, inserted_items(self._wire, job))
        if job.untransformed:
            change_of = except_left_dead_letters(job, storage, change_of)
        request = statements(job).write
        for image in foreign(without_record(table)(list(there.items.values()))):
            text = key_text(key_of(table, image))
            again = text in self._changed
            tried = partial(earlier.change_of, change_of=change_of)
            found = Attempt(image, None) if again else attempt_change(image, tried, request)
            self._changed |= {text} if found.change is not None else set()
            self.attempts.append(found)


def _kind(attempt: Attempt) -> str:
    return "dead" if attempt.error is not None else "unchanged" if attempt.change is None else "changed"


def _dead(attempt: Attempt, keys: tuple[str, ...]) -> str:
    assert attempt.error is not None
    return f"{key_line(decode(attempt.image), keys)}: {error_text(attempt.error)}"


def _sample(attempt: Attempt) -> tuple[Item, Item | None]:
    stays, inserts = effect(attempt.image, attempt.change)
    after = stays if stays is not None else inserts[0].item if inserts else None
    return decode(attempt.image), None if after is None else decode(after)
