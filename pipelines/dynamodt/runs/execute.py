"""One version's run, followed from its plan to its report."""

from __future__ import annotations

import json
from dataclasses import replace

from dynamodt.errors import Aborted, DynamodtError, Fenced, Refused, ServiceError
from dynamodt.model.items import Item
from dynamodt.model.pages import Counts, Totals, Units
from dynamodt.model.runs import Job, RunRecord
from dynamodt.runs.cost import foreseen
from dynamodt.runs.dead_letters import first_of, samples_under
from dynamodt.runs.exports import (
    EXPORT,
    NEW,
    NONE,
    CatchingUp,
    SourceExport,
    begun_later,
    check_export,
    check_moment,
    sourced,
)
from dynamodt.runs.history import RunRecorder, completion_error, doubts_hint
from dynamodt.runs.interrupts import signal_name
from dynamodt.runs.plan import Step, TablePlan, jobs, moves_items, retry_job
from dynamodt.runs.session import Follower, Session, is_governed, run_phases
from dynamodt.state.object_keys import (
    counted_notes,
    dead_letters_name,
    dead_prefix,
    retries_prefix,
    retry_name,
    samples_prefix,
)
from dynamodt.state.phases import after
from dynamodt.state.started_with import as_it_began
from dynamodt.state.state import State
from dynamodt.state.storage import Storage


def run_step(session: Session, planned: TablePlan, step: Step, record: RunRecord) -> None:
    """Run one version (or go on with it) and keep its report, whichever way it ends; then raise what ended it, if
    anything. Raises Fenced, with nothing recorded, when another process has taken the run over."""
    step = replace(step, script=as_it_began(step.script, record.began))
    run_recorder = RunRecorder(
        session.state, planned.table, record, session.token, session.options.dry_run, session.fences
    )
    found = _sourced(session, planned, step, run_recorder)
    source = found.source if found else None
    options = session.options
    main = [
        replace(job, governed=is_governed(session, job), fences=session.fences)
        for job in jobs(session.stage, planned, step, options, run_recorder.record, session.token, source)
    ]
    again = retries(session, [*main, *begun_later(run_recorder.record, main)]) if record.attempts > 1 else []
    again = _each_after_the_others(again)
    if options.only:
        _check_left(session, main, [job for _, job in again])
    phases = [*(job for _, job in again), *main]
    retried = max([record.retries, *(number for number, _ in again)])
    later = sum(run_recorder.record.incremental_exports) + run_recorder.record.final_scan
    planned_splits = sum(job.splits for job in phases) + later
    run_recorder.record = replace(run_recorder.record, retries=retried, planned=planned_splits)
    run_recorder.begin()
    session.observer.run_started(
        planned.table.name, step.script.sequence, step.script.name, planned.direction, planned.table.item_count
    )
    follower = Follower(session.state, phases, session.observer, begins=run_recorder.phase_begins)
    error = run_phases(session, phases, follower)
    if error is None and found is not None and all(map(follower.complete, phases)):
        error = CatchingUp(session, run_recorder, found, _export_phase(main), phases, follower).run()
    _finish(session, run_recorder, phases, follower.totals, error, _uncovered(session, found))


def _sourced(session: Session, planned: TablePlan, step: Step, run_recorder: RunRecorder) -> SourceExport | None:
    """The export that the step reads, if it does. What stands in the way is recorded, and raised."""
    if run_recorder.record.source != EXPORT or not moves_items(step.script, planned.direction):
        return None
    check_export(step.script, session.options.catch_up)
    run_recorder.begin()
    try:
        found = sourced(session, planned.table, run_recorder)
        if not (session.stage.local or session.options.dry_run):  # the stand-in's windows start at any moment
            check_moment(found, step.script, session.options.catch_up)
        return found
    except Fenced:
        raise
    except (DynamodtError, KeyboardInterrupt, SystemExit) as error:
        run_recorder.end(_status(error), Counts(), Units(), _text(error))
        session.keep(run_recorder.report())
        raise


def _export_phase(main: list[Job]) -> Job:
    return next(job for job in main if job.export is not None)


def _uncovered(session: Session, found: SourceExport | None) -> str:
    if found is None or found.until is None or session.options.catch_up != NONE:
        return ""
    return found.until.isoformat(timespec="seconds")


def _finish(
    session: Session,
    run_recorder: RunRecorder,
    phases: list[Job],
    totals: Totals,
    error: BaseException | None,
    uncovered: str = "",
) -> None:
    where = session.storage.place(dead_letters_name(phases[0]))
    run = phases[0].base_run
    whole_pages = error is None
    dead_letters, error = _gathered(session, phases, totals, error)
    if error is None:
        units = sum(job.splits for job in phases)
        error = completion_error(
            totals, units, f"run {run}", where, count_doubtful(dead_letters), run, count_unreadable(dead_letters)
        )
    kept_at = where if totals.counts.dead else ""
    run_recorder.end(_status(error), totals.counts, totals.units, _text(error), kept_at, whole_pages)
    report = run_recorder.report(_samples(session, phases))
    report = replace(report, first_dead_letter=first_of(dead_letters, phases[0].script.path), uncovered=uncovered)
    report = foreseen(report, session.state, phases, totals, session.options.export in ("", NEW))
    session.observer.run_ended(report)
    session.keep(report)
    if error is not None:
        raise error


def _gathered(
    session: Session, phases: list[Job], totals: Totals, error: BaseException | None
) -> tuple[bytes, BaseException | None]:
    """The dead letters, and what ended the run: storage that fails here ends it, too, and is recorded like the rest."""
    if not totals.counts.dead:
        return b"", error
    try:
        return gather_dead_letters(session, phases), error
    except ServiceError as failed:
        return b"", error or failed


def _samples(session: Session, phases: list[Job]) -> tuple[tuple[Item, Item | None], ...]:
    """What a report shows; it is no part of what the run has come to."""
    try:
        return samples_under(session.storage, map(samples_prefix, phases))
    except ServiceError as error:
        session.observer.note(f"no sample can be shown: {error}")
        return ()


def _status(error: BaseException | None) -> str:
    if error is None:
        return after("running", "succeed")
    failed = isinstance(error, DynamodtError) and not isinstance(error, Aborted)
    return after("running", "fail" if failed else "stop")


def _text(error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {signal_name(error)}"
    return "" if error is None else str(error) or type(error).__name__


# ---------------------------------------------------------------- what a run leaves in storage


def gather_dead_letters(session: Session, phases: list[Job]) -> bytes:
    """Join the dead letters that are left into one JSON-lines file; returns its content."""
    parts = [part for job in phases for part in outstanding_of(session, main_of(job), job)]
    lines = b"".join(session.storage.read(part) or b"" for part in parts)
    session.storage.write(dead_letters_name(phases[0]), lines)
    return lines


def retries(session: Session, main: list[Job]) -> list[tuple[int, Job]]:
    """The passes over dead letters: those of earlier attempts, done or not, and one more for what is left now.

    Letters of doubtful writes are taken up only when a person has said what is to become of them; lines of an export
    that are no items never are.
    """
    found: list[tuple[int, Job]] = []
    for job in main:
        done = [(_number(name), _retry(session, job, name)) for name in session.storage.names(retries_prefix(job))]
        left = [part for source in (job, *(j for _, j in done)) for part in outstanding_of(session, job, source)]
        found += done
        for confirmed, parts in _taken_up(left, session.options.doubtful):
            number = max((number for number, _ in done), default=0) + 1
            name = retry_name(job, number)
            session.storage.write(name, json.dumps({"letters": parts, "confirmed": confirmed}).encode())
            done.append((number, _retry(session, job, name)))
            found.append(done[-1])
    return found


def _each_after_the_others(again: list[tuple[int, Job]]) -> list[tuple[int, Job]]:
    """Each knows what those before it have written: an item may have died in several passes."""
    runs = [job.run for _, job in again]
    return [(number, replace(job, retried=tuple(runs[:place]))) for place, (number, job) in enumerate(again)]


def _taken_up(left: list[str], doubtful: str) -> list[tuple[bool, list[str]]]:
    """The parts that are to be replayed, and apart from them those whose items a person has found written."""
    left = [part for part in left if not part.endswith("-unreadable.jsonl")]
    doubts = [part for part in left if _is_doubtful(part)]
    sound = [part for part in left if doubtful == "again" or not _is_doubtful(part)]
    groups = [(False, sound), (True, doubts if doubtful == "done" else [])]
    return [(confirmed, parts) for confirmed, parts in groups if parts]


def _is_doubtful(part: str) -> bool:
    return part.endswith("-doubt.jsonl")


def count_doubtful(dead_letters: bytes) -> int:
    """How many of the letters are of doubtful writes."""
    return sum(json.loads(line)["stage"] == "doubt" for line in dead_letters.splitlines())


def count_unreadable(dead_letters: bytes) -> int:
    """How many of the letters are of lines of an export that are no items."""
    return sum(json.loads(line)["stage"] == "read" for line in dead_letters.splitlines())


def _check_left(session: Session, main: list[Job], again: list[Job]) -> None:
    """Raises Refused when there is nothing that a retry could go on with."""
    for job in (*main, *again):
        if session.state.splits(job.run).totals(job.splits).done < job.splits:
            return
    dead_letters = gather_dead_letters(session, [*again, *main])
    hint = doubts_hint(count_doubtful(dead_letters), main[0].base_run) if dead_letters else "dynamodt history"
    raise Refused("no dead letter is left that could be replayed", where=f"run {main[0].base_run}", hint=hint)


def outstanding_of(session: Session, main: Job, source: Job) -> list[str]:
    """The parts of one pass (`main` itself, or a retry of it) that no retry of `main` has taken up."""
    taken = {part for name in session.storage.names(retries_prefix(main)) for part in _listed(session.storage, name)}
    parts = committed_dead_letters(session.storage, session.state, source, dead_prefix(source))
    return [part for part in parts if part not in taken]


def main_of(job: Job) -> Job:
    """The pass that a retry belongs to; a main pass itself."""
    return replace(job, run=job.run.partition("/retry")[0])


def _listed(storage: Storage, name: str) -> tuple[str, ...]:
    return tuple(json.loads(storage.read(name) or b"{}").get("letters", ()))


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].partition(".")[0])


def _retry(session: Session, job: Job, name: str) -> Job:
    listed = json.loads(session.storage.read(name) or b"{}")
    return retry_job(job, _number(name), tuple(listed["letters"]), listed["confirmed"])


def committed_dead_letters(storage: Storage, state: State, job: Job, prefix: str) -> list[str]:
    """The dead letters (or what an undo leaves) of one pass that count, by the parts that they are kept in."""
    claims = {claim.split: claim for claim in state.splits(job.run).all(job.splits)}
    return counted_notes(storage.names(prefix), claims, recovers=not job.script.idempotent)
