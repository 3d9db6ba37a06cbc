"""A run's dead letters: their report, the selection for a retry, and the check that all of them are still stored.

Also the samples of changed items that a run's phases keep for its report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.errors import Refused, ServiceError, suggest
from dynamodt.model.pages import Acceptance
from dynamodt.model.reports import counted
from dynamodt.model.runs import INCREMENTAL, INSERTED_ROWS, Job, LeftPart, RunRecord
from dynamodt.model.tables import Item, Sample
from dynamodt.runs.display import key_line
from dynamodt.runs.history import DECIDING, applied_again_by, doubts_hint, now
from dynamodt.runs.jobs import retry_job
from dynamodt.runs.provenance import provenance
from dynamodt.runs.stored_dead_letters import (
    LOST,
    Pairs,
    Replayed,
    SelectedPart,
    StoredDeadLetters,
    Wanted,
    accepted_of,
    check_known,
    chosen_dead_letters,
    committed_lines,
    committed_parts,
    dead_letters_of,
    keys_to_leave,
    read_list,
)
from dynamodt.script.codec import decode, key_text
from dynamodt.state.object_keys import (
    DEAD,
    DEAD_LETTERS_FILE,
    JOURNAL,
    RETRIES,
    SAMPLES,
    accepted_file,
    committed_objects,
    expected_journal,
    key_of_job,
    number_of_retry,
    object_key,
    retry_file,
    split_prefix,
    stored_lines,
)
from dynamodt.state.runs import Phase, phases, retry_run
from dynamodt.state.split_rows import totals_of

if TYPE_CHECKING:
    from dynamodt.runs.context import Project, RunContext
    from dynamodt.runs.history import RunRecorder
    from dynamodt.state.state import State
    from dynamodt.state.storage import Storage

_SAMPLES = 3
_FRAME = r'File "{path}", line (\d+)'


def first_dead_letter(lines: bytes, script_path: str) -> str:
    """The first dead letter of a JSON-lines file as a sentence: its key, its error and, for an error in the script, the
    file and the innermost line. Empty if there is none."""
    line = lines.partition(b"\n")[0]
    if not line:
        return ""
    dead_letter = json.loads(line)
    key = decode(dead_letter["key"])
    frames = re.findall(_FRAME.format(path=re.escape(script_path)), dead_letter["traceback"])
    place = f"{script_path}:{frames[-1]}" if frames else script_path if dead_letter["step"] == "transform" else ""
    return f"{key_line(key, key)}: {dead_letter['error']}" + (f" ({place})" if place else "")


def has_lost_dead_letters(project: Project, record: RunRecord) -> bool:
    """Whether dead letters of a run that are to be replayed are lost, or the list of those already replayed."""
    if totals_of(project.state, phases(record)).counts.dead <= 0:
        return False
    main = [one for one in phases(record) if "/retry" not in one.run]
    again = [(one.run, number) for one in main for number in range(1, record.retries + 1)]
    return any(_lacks(project, record, one) for one in main) or any(_lacks_of_retry(project, record, *a) for a in again)


def _lacks(project: Project, record: RunRecord, phase: Phase, replayed: int = 0) -> bool:
    """Whether fewer dead letters of a phase are stored than counted. `replayed` of them were counted before, in another
    phase."""
    died = project.state.splits(phase.run).totals(phase.splits).counts.dead + replayed
    if died <= 0:
        return False
    return sum(1 for _ in committed_lines(project, phase, object_key(record.table, phase.run, DEAD))) < died


def _lacks_of_retry(project: Project, record: RunRecord, main: str, number: int) -> bool:
    """As `_lacks`, for a retry of the phase `main`, if it has begun; also True if its list is missing, since the parts
    that it has replayed would be replayed again."""
    again = Phase(retry_run(main, number), 1)
    claims, storage = project.state.splits(again.run).by_split(again.splits), project.storage
    name = object_key(record.table, main, retry_file(number))
    if not claims and storage.read(name) is None:
        return False
    replayed = read_list(storage, name)
    if replayed is None:
        return True
    left_out = {(part, text) for part, text in replayed.get("left_out", ())}
    lines = ((part, line) for part in replayed["dead_letters"] for line in stored_lines(storage, part))
    pairs = {(part, key_text(line["key"])) for part, line in lines}
    keys = {text for _, text in pairs - left_out}
    return bool(claims) and all(claim.done for claim in claims.values()) and _lacks(project, record, again, len(keys))


def lost_dead_letters(record: RunRecord, storage: Storage, goal: int) -> Refused:
    """The refusal to continue a run whose dead letters are lost, with the alternatives."""
    undo = "undo the run (" + suggest("undo", record.run) + "), and " if record.journal else ""
    again = undo + "begin a new one: " + applied_again_by(record) + "; or, if those items are repaired: "
    return Refused(
        f"dead letters of run {record.run} are gone ({LOST}): their items are not known",
        where=storage.place(object_key(record.table, record.run, DEAD)),
        hint=again + suggest("stamp", table=record.table, to=goal),
        run=record.run,
    )


# ---------------------------------------------------------------- accepted, gathered, and replayed


def with_accepted_dead_letters(context: RunContext, recorder: RunRecorder) -> RunContext:
    """The context with the run's accepted dead letters, including those that the command accepts. A run that has
    succeeded with dead letters again tolerates as many. Raises as `chosen_dead_letters`, before anything is
    recorded."""
    options, record = context.options, recorder.record
    if options.accept or options.accept_all:
        stored = StoredDeadLetters(context, record)
        found = chosen_dead_letters(stored, options.accept, record, stored.replaying)
        context.observer.notify(f"run {record.run}: {_what_is_accepted(found.items, record, stored, context.state)}")
        if found.items:
            of, name = provenance(options), object_key(record.table, record.run, accepted_file(context.token))
            context.storage.write(name, found.content)
            accepted = Acceptance(found.items, of.by, now(), of.reason, name)
            recorder.keep(accepted=(*record.accepted, accepted))
    options = replace(options, max_errors=max(options.max_errors, record.tolerated))
    return replace(context, options=options, accepted=accepted_of(context.storage, recorder.record))


def _what_is_accepted(items: int, record: RunRecord, stored: StoredDeadLetters, state: State) -> str:
    """A sentence on the dead letters that a command accepts, and on those of the run that it cannot accept yet."""
    what = f"{counted(items, 'dead letter')} accepted" if items else "no dead letter is accepted by this command"
    if stored.replaying:
        what += "; a stopped retry replays others first, and their dead letters are not accepted yet"
    if totals_of(state, phases(record)).done < record.planned:
        what += "; the run has not read all items yet, and dead letters of the rest are not accepted yet"
    return what


def gather_dead_letters(context: RunContext, jobs: list[Job]) -> bytes:
    """Join the dead letters that no retry has replayed into one JSON-lines file; returns the lines that are not
    accepted. In the file, the accepted ones follow them, each with `"accepted": true`."""
    parts = [part for job in jobs for part in _outstanding(context, job)]
    lines = b"".join(_lines(context, part) for part in parts)
    kept = b"".join(_lines(context, part, of_accepted=True) for part in parts)
    context.storage.write(key_of_job(jobs[0], DEAD_LETTERS_FILE), lines + kept)
    return lines


def _lines(context: RunContext, part: SelectedPart, of_accepted: bool = False) -> bytes:
    """The accepted lines of a part, or the others."""
    found = dead_letters_of(context.storage, part, context.accepted)
    dead_letters = (one for one in found if one.accepted == of_accepted)
    mark = {"accepted": True} if of_accepted else {}
    return b"".join(json.dumps({**dead_letter.line, **mark}).encode() + b"\n" for dead_letter in dead_letters)


def retry_jobs(context: RunContext, main: list[Job]) -> list[Job]:
    """The phases that replay dead letters: those of earlier attempts, done or not, and one more for the outstanding
    ones.

    Each lists all other phases in `earlier`, since an item may be a dead letter of several of them, and a retry of a
    later phase may have written it before. Dead letters of writes in doubt are replayed only if `options.in_doubt` asks
    for it; unreadable lines of an export and accepted dead letters are never replayed. Raises as `check_evidence`.
    """
    wanted = Wanted(context.options.keys) if context.options.keys else None
    plans = [_plan_retries(context, job, wanted) for job in main]
    found = [again for plan in plans for again in plan.done]
    continues = any(_is_open(context, again) for again in found)
    if wanted is not None and not continues:
        check_known(wanted, main[0].base_run, main[0].table.name)
    if continues or any(plan.replayable for plan in plans):
        check_evidence(context, [*main, *found])
    found = [again for plan in plans for again in (*plan.done, *_listed(context, plan))]
    runs = [job.run for job in (*main, *found)]
    return [replace(job, earlier=tuple(run for run in runs if run != job.run)) for job in found]


class _Plan(NamedTuple):
    """The retries of a phase that have a list, and the dead letters that are not in one, as by `_replayable`."""

    main: Job
    done: list[Job]
    replayable: list[tuple[bool, dict[str, Pairs]]]


def _plan_retries(context: RunContext, main: Job, wanted: Wanted | None) -> _Plan:
    done = [_retry(context, main, name) for name in context.storage.names(key_of_job(main, RETRIES))]
    left = [part for source in (main, *done) for part in _outstanding(context, source)]
    parts: dict[str, Pairs] = {}
    for part in left:
        only = wanted if part.name.endswith("-doubt.jsonl") else None
        pairs = keys_to_leave(context.storage, part, context.accepted, only)
        parts |= {} if pairs is None else {part.name: pairs}
    return _Plan(main, done, list(_replayable(parts, context.options.in_doubt)))


def _listed(context: RunContext, plan: _Plan) -> Iterator[Job]:
    """The further retries of a phase, each with a list of its dead letters, which is stored here."""
    first = max(map(retry_number, plan.done), default=0) + 1
    for number, (confirmed, parts) in enumerate(plan.replayable, first):
        name = key_of_job(plan.main, retry_file(number))
        left_out = [pair for pairs in parts.values() for pair in pairs]
        listed = {"dead_letters": list(parts), "confirmed": confirmed, "left_out": left_out}
        context.storage.write(name, json.dumps(listed).encode())
        yield _retry(context, plan.main, name)


def _is_open(context: RunContext, job: Job) -> bool:
    return context.state.splits(job.run).is_open(job.splits)


def check_evidence(project: Project, jobs: Sequence[Job]) -> None:
    """Raises Refused if a journal lacks an object by which a retry recognises what these phases have written."""
    for job in jobs:
        if not job.journals or job.script.idempotent:
            continue
        lacking = _lacking(project, job)
        if lacking > 0:
            undo = suggest("undo", job.base_run, partial=True)
            raise Refused(
                f"{counted(lacking, 'object')} of the journal of run {job.run} are gone ({LOST}): which items it has "
                "written is not known, and a dead letter's item may be one of them",
                where=project.storage.place(key_of_job(job, JOURNAL)),
                hint="restore them from a copy, such as older versions of the objects, and run the same command again; "
                "or restore the items by what the journal still has: " + undo,
                run=job.base_run,
            )


def _lacking(project: Project, job: Job) -> int:
    """The number of objects that are lacking in a phase's journal, as far as a retry reads it: all of the journal of a
    retry or an incremental export, and that of the splits with dead letters of any other phase."""
    whole, prefix = "/retry" in job.run or INCREMENTAL in job.run, key_of_job(job, JOURNAL)
    read = (one for one in project.state.splits(job.run).all(job.splits) if whole or one.counts.dead)
    rows = {one.split: one for one in read if expected_journal(one).objects}
    prefixes = [prefix] if whole and rows else [split_prefix(prefix, split) for split in rows]
    names = (name for each in prefixes for name in project.storage.names(each))
    expected = sum(expected_journal(row).objects for row in rows.values())
    return expected - sum(1 for _ in committed_objects(names, rows))


def retry_number(job: Job) -> int:
    """The number of a retry among the retries of its phase, from 1."""
    return int(job.run.rpartition("/retry")[2])


def _replayable(parts: dict[str, Pairs], doubtful: str) -> Iterator[tuple[bool, dict[str, Pairs]]]:
    """The parts to replay, grouped by whether their items are confirmed as written."""
    doubts = {part: left for part, left in parts.items() if part.endswith("-doubt.jsonl")}
    sound = {part: left for part, left in parts.items() if not part.endswith(("-doubt.jsonl", "-unreadable.jsonl"))}
    if replayed := sound | (doubts if doubtful == "again" else {}):
        yield False, replayed
    if doubts and doubtful == "done":
        yield True, doubts


def check_replayable(context: RunContext, main: list[Job], again: list[Job], retried: bool = False) -> None:
    """Raises Refused when the run has neither a split to finish nor a dead letter to replay. Only the end of a run that
    was `retried` before may be missing."""
    if any(_is_open(context, job) for job in (*main, *again)):
        return
    dead_letters = gather_dead_letters(context, [*again, *main])
    if retried and not dead_letters:
        return
    hint = doubts_hint(count_dead(dead_letters, "doubt"), main[0].base_run) if dead_letters else suggest("history")
    raise Refused("no dead letter is left to replay", where=f"run {main[0].base_run}", hint=hint)


def count_dead(dead_letters: bytes, step: str) -> int:
    """The number of dead letters of this step: "doubt" (writes in doubt), "read" (unreadable lines)."""
    return sum(json.loads(line)["step"] == step for line in dead_letters.splitlines())


class SkippedDeadLetters(NamedTuple):
    """The dead letters whose items a job skips: those of the version's other direction, and in a dry run the keys of
    the accepted ones."""

    untransformed: tuple[LeftPart, ...]
    accepted: frozenset[str]

    def of(self, job: Job) -> Job:
        """The job that skips them."""
        return replace(job, untransformed=self.untransformed, accepted=self.accepted)


def skipped_dead_letters(context: RunContext, record: RunRecord) -> SkippedDeadLetters:
    """The dead letters whose items the version's jobs skip. Raises Refused if some are lost or have no key."""
    accepted = context.accepted.keys(context.storage) if context.options.dry_run else frozenset[str]()
    return SkippedDeadLetters(left_by_other_direction(context, record), accepted)


def left_by_other_direction(project: Project, record: RunRecord) -> tuple[LeftPart, ...]:
    """The dead letters of the version's last run, if this run was of the other direction and has succeeded: it has not
    transformed their items. Raises Refused if some are lost or have no key."""
    runs = project.state.runs(record.table)
    others = [one for one in runs if one.version == record.version and one.run != record.run]
    last = next((one for one in reversed(others) if one.status in DECIDING), None)
    if last is None or last.direction == record.direction or not last.counts.dead:
        return ()
    stored = StoredDeadLetters(project, last)
    rows = object_key(last.table, last.run + INSERTED_ROWS, "")  # of `items()`, not items of the table
    found = {(part.name, part.only) for part in stored.parts()}
    if sum(1 for _ in stored) < last.counts.dead:
        raise Refused(
            f"dead letters that run {last.run} ({last.direction} of version {last.version}) has left are gone "
            f"({LOST}): which items it has not transformed is not known",
            where=project.storage.place(object_key(last.table, last.run, DEAD)),
            hint="restore them; or transform the items by hand, and record it: "
            + suggest("stamp", table=last.table, to=record.version - (record.direction == "down")),
            run=last.run,
        )
    if lines := sum(1 for one in stored if not one.key):
        raise _unknown_items(last, lines, record)
    return tuple(
        (name, None if only is None else tuple(sorted(only)))
        for name, only in sorted(found, key=lambda one: one[0])
        if not name.startswith(rows)
    )


def _unknown_items(last: RunRecord, lines: int, record: RunRecord) -> Refused:
    """The refusal if the run of the other direction left unreadable lines of its export, whose keys are unknown."""
    were = "1 line of its export was" if lines == 1 else f"{lines:,} lines of its export were"
    undo = "undo that run by its journal: " + suggest("undo", last.run) + "; or " if last.journal else ""
    by_hand = "transform the items by hand, and record it: "
    return Refused(
        f"{were} unreadable to run {last.run} ({last.direction} of version {last.version}): which items it has not "
        "transformed is not known",
        where=f"table {last.table}",
        hint=undo + by_hand + suggest("stamp", table=last.table, to=record.version - (record.direction == "down")),
        run=last.run,
    )


def _outstanding(context: RunContext, phase: Job) -> list[SelectedPart]:
    """The parts of a phase, which may be a retry of another one, that no retry has replayed."""
    replayed = Replayed(context.storage, phase.table.name, phase.run.partition("/retry")[0])
    return list(replayed.outstanding(committed_parts(context, phase, key_of_job(phase, DEAD))))


def _retry(context: RunContext, job: Job, name: str) -> Job:
    listed = read_list(context.storage, name) or {}
    left_out = tuple((part, text) for part, text in listed.get("left_out", ()))
    return retry_job(job, number_of_retry(name), tuple(listed["dead_letters"]), listed["confirmed"], left_out)


# ---------------------------------------------------------------- samples


def samples(context: RunContext, phases: Sequence[Job]) -> tuple[tuple[Item, Item | None], ...]:
    """The samples for a report. If they cannot be read, this is notified, and the run's outcome stays."""
    try:
        return samples_under(context.storage, (key_of_job(job, SAMPLES) for job in phases))
    except ServiceError as error:
        context.observer.notify(f"no sample can be shown: {error}")
        return ()


def samples_under(storage: Storage, prefixes: Iterable[str]) -> tuple[tuple[Item, Item | None], ...]:
    """The first few changed items below these prefixes, before and after."""
    names = (name for prefix in prefixes for name in storage.names(prefix))
    pairs = (pair for name in names for pair in _stored_pairs(storage, name))
    return tuple((decode(old), None if new is None else decode(new)) for old, new in islice(pairs, _SAMPLES))


def _stored_pairs(storage: Storage, name: str) -> list[Sample]:
    """The pairs of an object; none if it is missing or damaged, since samples only illustrate a report."""
    try:
        pairs: list[Sample] = json.loads(storage.read(name) or b"[]")
    except ValueError:
        return []
    return pairs
