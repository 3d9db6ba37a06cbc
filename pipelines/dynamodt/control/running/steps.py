"""One version's run, followed from its plan to its report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

from dynamodt.aws.state import State
from dynamodt.aws.storage import Storage
from dynamodt.control.planner import Step, TablePlan, jobs, moves_items, retry_job
from dynamodt.control.running.catching_up import NONE, CatchingUp, begun_later, check_export, check_moment
from dynamodt.control.running.costs import foreseen
from dynamodt.control.running.dead_letters import first_of
from dynamodt.control.running.exporting import EXPORT, NEW, Found, sourced
from dynamodt.control.running.history import Chronicle, doubts_hint, verdict
from dynamodt.control.running.session import Follower, Session, is_governed, run_passes
from dynamodt.control.terminal.interrupts import signal_name
from dynamodt.core.codec import decode
from dynamodt.core.counted import counted_notes
from dynamodt.core.lifecycle import after
from dynamodt.core.places import dead_letters_name, dead_prefix, retries_prefix, retry_name, samples_prefix
from dynamodt.core.started_with import as_it_began
from dynamodt.errors import Aborted, DynamodtError, Fenced, Refused, ServiceError
from dynamodt.model import Counts, Item, Job, RunRecord, Totals, Units

_SAMPLES = 3


def run_step(session: Session, planned: TablePlan, step: Step, record: RunRecord) -> None:
    """Run one version (or go on with it) and keep its report, whichever way it ends; then raise what ended it, if
    anything. Raises Fenced, with nothing recorded, when another process has taken the run over."""
    step = replace(step, script=as_it_began(step.script, record.began))
    chronicle = Chronicle(session.state, planned.table, record, session.token, session.options.dry_run, session.fences)
    found = _sourced(session, planned, step, chronicle)
    source = found.source if found else None
    options = session.options
    main = [
        replace(job, governed=is_governed(session, job), fences=session.fences)
        for job in jobs(session.stage, planned, step, options, chronicle.record, session.token, source)
    ]
    again = retries(session, [*main, *begun_later(chronicle.record, main)]) if record.attempts > 1 else []
    again = _each_after_the_others(again)
    if options.only:
        _check_left(session, main, [job for _, job in again])
    passes = [*(job for _, job in again), *main]
    retried = max([record.retries, *(number for number, _ in again)])
    later = sum(chronicle.record.windows) + chronicle.record.rest
    planned_units = sum(job.units for job in passes) + later
    chronicle.record = replace(chronicle.record, retries=retried, planned=planned_units)
    chronicle.begin()
    session.observer.run_started(
        planned.table.name, step.script.sequence, step.script.name, planned.direction, planned.table.item_count
    )
    follower = Follower(session.state, passes, session.observer, begins=chronicle.phase_begins)
    error = run_passes(session, passes, follower)
    if error is None and found is not None and all(map(follower.complete, passes)):
        error = CatchingUp(session, chronicle, found, _export_pass(main), passes, follower).run()
    _finish(session, chronicle, passes, follower.totals, error, _uncovered(session, found))


def _sourced(session: Session, planned: TablePlan, step: Step, chronicle: Chronicle) -> Found | None:
    """The export that the step reads, if it does. What stands in the way is recorded, and raised."""
    if chronicle.record.source != EXPORT or not moves_items(step.script, planned.direction):
        return None
    check_export(step.script, session.options.catch_up)
    chronicle.begin()
    try:
        found = sourced(session, planned.table, chronicle)
        if not (session.stage.local or session.options.dry_run):  # the stand-in's windows start at any moment
            check_moment(found, step.script, session.options.catch_up)
        return found
    except Fenced:
        raise
    except (DynamodtError, KeyboardInterrupt, SystemExit) as error:
        chronicle.end(_status(error), Counts(), Units(), _text(error))
        session.keep(chronicle.report())
        raise


def _export_pass(main: list[Job]) -> Job:
    return next(job for job in main if job.export is not None)


def _uncovered(session: Session, found: Found | None) -> str:
    if found is None or found.until is None or session.options.catch_up != NONE:
        return ""
    return found.until.isoformat(timespec="seconds")


def _finish(
    session: Session,
    chronicle: Chronicle,
    passes: list[Job],
    totals: Totals,
    error: BaseException | None,
    uncovered: str = "",
) -> None:
    where = session.storage.place(dead_letters_name(passes[0]))
    run = passes[0].base_run
    whole_pages = error is None
    letters, error = _gathered(session, passes, totals, error)
    if error is None:
        units = sum(job.units for job in passes)
        error = verdict(totals, units, f"run {run}", where, count_doubtful(letters), run, count_unreadable(letters))
    dead_letters = where if totals.counts.dead else ""
    chronicle.end(_status(error), totals.counts, totals.units, _text(error), dead_letters, whole_pages)
    report = chronicle.report(_samples(session, passes))
    report = replace(report, first_dead_letter=first_of(letters, passes[0].script.path), uncovered=uncovered)
    report = foreseen(report, session.state, passes, totals, session.options.export in ("", NEW))
    session.observer.run_ended(report)
    session.keep(report)
    if error is not None:
        raise error


def _gathered(
    session: Session, passes: list[Job], totals: Totals, error: BaseException | None
) -> tuple[bytes, BaseException | None]:
    """The dead letters, and what ended the run: storage that fails here ends it, too, and is recorded like the rest."""
    if not totals.counts.dead:
        return b"", error
    try:
        return gather_dead_letters(session, passes), error
    except ServiceError as failed:
        return b"", error or failed


def _samples(session: Session, passes: list[Job]) -> tuple[tuple[Item, Item | None], ...]:
    """What a report shows; it is no part of what the run has come to."""
    try:
        return read_samples(session.storage, passes)
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


def gather_dead_letters(session: Session, passes: list[Job]) -> bytes:
    """Join the dead letters that are left into one JSON-lines file; returns its content."""
    parts = [part for job in passes for part in outstanding_of(session, main_of(job), job)]
    lines = b"".join(session.storage.read(part) or b"" for part in parts)
    session.storage.write(dead_letters_name(passes[0]), lines)
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


def count_doubtful(letters: bytes) -> int:
    """How many of the letters are of doubtful writes."""
    return sum(json.loads(line)["stage"] == "doubt" for line in letters.splitlines())


def count_unreadable(letters: bytes) -> int:
    """How many of the letters are of lines of an export that are no items."""
    return sum(json.loads(line)["stage"] == "read" for line in letters.splitlines())


def _check_left(session: Session, main: list[Job], again: list[Job]) -> None:
    """Raises Refused when there is nothing that a retry could go on with."""
    for job in (*main, *again):
        if session.state.units(job.run).totals(job.units).done < job.units:
            return
    letters = gather_dead_letters(session, [*again, *main])
    hint = doubts_hint(count_doubtful(letters), main[0].base_run) if letters else "dynamodt history"
    raise Refused("no dead letter is left that could be replayed", where=f"run {main[0].base_run}", hint=hint)


def outstanding_of(session: Session, main: Job, source: Job) -> list[str]:
    """The parts of one pass (`main` itself, or a retry of it) that no retry of `main` has taken up."""
    taken = {part for name in session.storage.names(retries_prefix(main)) for part in _listed(session.storage, name)}
    parts = counted_parts(session.storage, session.state, source, dead_prefix(source))
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


def counted_parts(storage: Storage, state: State, job: Job, prefix: str) -> list[str]:
    """The dead letters (or what an undo leaves) of one pass that count, by the parts that they are kept in."""
    claims = {claim.unit: claim for claim in state.units(job.run).all(job.units)}
    return counted_notes(storage.names(prefix), claims, recovers=not job.script.idempotent)


def read_samples(storage: Storage, passes: list[Job]) -> tuple[tuple[Item, Item | None], ...]:
    """The first few items that the run changed, before and after."""
    return samples_under(storage, map(samples_prefix, passes))


def samples_under(storage: Storage, prefixes: Iterable[str]) -> tuple[tuple[Item, Item | None], ...]:
    """The same, by where the passes keep them."""
    found: list[tuple[Item, Item | None]] = []
    for prefix in prefixes:
        for name in storage.names(prefix):
            for old, new in json.loads(storage.read(name) or b"[]"):
                found.append((decode(old), None if new is None else decode(new)))
            if len(found) >= _SAMPLES:
                return tuple(found[:_SAMPLES])
    return tuple(found)
