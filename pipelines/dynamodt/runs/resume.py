"""Decides which run continues: the one that an earlier process left unfinished, or a new one (guarantee G3).

A table has at most one unfinished run that has written. The decision by the run that is found::

    none, or one that has written nothing and would begin otherwise now    a new run begins
    one of the same version and direction, with the facts it began with    it continues from its checkpoints
    the same, with other facts (ADR 027)                                   refused; an idempotent one may begin anew
    one of another version or direction                                    refused: it must be finished or undone
    an undo that has not ended                                             refused: it must be finished

`retry` may also continue a run that has succeeded with dead letters: it is reopened.

This is decided before the lease is taken, and again under it, since another command may have been faster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.dynamodb.reads import segments
from dynamodt.errors import Refused, suggest
from dynamodt.model.reports import counted
from dynamodt.model.runs import INSERTED_ROWS, AppliedVersion, RunRecord, Script
from dynamodt.runs.dead_letters import has_lost_dead_letters, lost_dead_letters
from dynamodt.runs.history import (
    applied_again_by,
    finish_it,
    first_record,
    goal,
    has_written,
    is_another_script,
    is_continued,
    last_change,
    refusal_for,
    restore_or_repair,
    title_of,
    undo_in_its_storage,
    version_reverted_by,
)
from dynamodt.runs.jobs import NEW, SCAN, new_run
from dynamodt.runs.liveness import observed_life
from dynamodt.runs.lock import busy_refusal, check_not_leased
from dynamodt.runs.options import RunOptions
from dynamodt.runs.provenance import provenance
from dynamodt.script.versions import bring_back, changed_files, file_of
from dynamodt.state.object_keys import NOT_RESTORED_FILE, object_key
from dynamodt.state.runs import (
    ITEMS,
    PARTLY_UNDONE,
    UNDOING,
    Difference,
    differences,
    initial_settings,
    may_be_repeated,
    next_status,
    or_undo,
    unfinished,
)

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.runs.plan import Step, TablePlan
    from dynamodt.state.state import State


def check_free(project: Project, planned: TablePlan) -> None:
    """Raises the refusal that a run of the plan would meet now, without taking a lease; for a run that starts later, in
    a deployed job. A dry run is never refused."""
    if project.options.dry_run:
        return
    for table in (planned.table.name, *planned.targets):
        check_not_leased(project.state.leases, table)
    check_unfinished(project, planned)


def check_unfinished(project: Project, planned: TablePlan) -> None:
    """Raises Refused if an unfinished run prevents the plan's first step, or does not continue with these options."""
    check_options(unfinished_run(project, planned), project.options)


def check_options(left: RunRecord | None, options: RunOptions) -> None:
    """Raises Refused if the command is limited to another run than `left`, or if `left` does not continue with these
    options."""
    check_only(options.only, left)
    if left is not None:
        check_continued(left, options)


def unfinished_run(project: Project, planned: TablePlan) -> RunRecord | None:
    """The run that the plan's first step continues; None: a new run begins. Raises Refused if neither is allowed."""
    left = unfinished_run_of_step(project.state, planned, project.options.only)
    return None if left is None else _continuable(project, left, planned.steps[0])


def _begun_otherwise(left: RunRecord, found: tuple[Difference, ...], path: str, repeatable: bool) -> Refused:
    """The refusal to continue a run whose facts have changed since its start; it lists the differences. `repeatable`:
    a new run would overwrite all that this one has written."""
    back = "revert what was changed, and run the same command again: the run continues"
    moved = any(one.name == "storage" for one in found)
    undo = "undo it (" + (undo_in_its_storage(left) if moved else suggest("undo", left.run)) + ")"
    way_out = undo if left.journal else "restore the table from before the run (it keeps no journal)"
    again = "apply the version to all items again" if repeatable else way_out + ", and begin a new run"
    return Refused(
        f"{title_of(left)}, {left.status}, began with other inputs: "
        + "; ".join(one.sentence for one in found if not one.effect),
        where=f"table {left.table}, {path}",
        hint=f"{back}; or " + again + ": " + applied_again_by(left),
        run=left.run,
    )


def _another_script(left: RunRecord, script: Script) -> Refused:
    """The refusal of a file that has the number of an unfinished run's version, as after a merge of two branches: the
    run would write a part of the items by each script, and the first one would be applied again under its new
    number."""
    back = bring_back(left) + "; then run the same command again"
    what = f"{title_of(left)}, {left.status}, has written items by {file_of(left)}, which is another script"
    return Refused(what, where=script.path, hint=back + or_undo(left), run=left.run)


def check_continued(left: RunRecord, options: RunOptions) -> None:
    """Raises Refused if the options for journal or source differ from those at the run's start."""
    if options.journal not in (None, left.journal):
        what = f"run {left.run} began {'with' if left.journal else 'without'} a journal, and continues as it began"
        raise refusal_for(left, what, f"leave out --{'no-' if left.journal else ''}journal")
    check_source(left, options.source, options.export)


def _continuable(project: Project, left: RunRecord, step: Step) -> RunRecord | None:
    """The unfinished run, or None if a new one begins: the unfinished run has written nothing, and its facts have
    changed, another source or export is requested, or its dead letters are lost; or an idempotent script is applied
    again to all items.

    Raises Refused if the run has written, and its facts have changed, its number belongs to another script now, or its
    dead letters are lost. A command that is limited to this run begins no other one, also if it has written nothing.
    """
    found = changed_facts(project.state, left, step)
    only = project.options.only
    if not (only or has_written(project.state, left)):
        new = found or _reads_another_source(left, project.options, step) or has_lost_dead_letters(project, left)
        return None if new else left
    if is_another_script(left, step.script):
        raise _another_script(left, step.script)
    if not all(one.effect for one in found):
        repeatable = not left.journal and step.script.idempotent and may_be_repeated(found)
        if only or not repeatable:
            raise _begun_otherwise(left, found, step.script.path, repeatable)
        return None
    if has_lost_dead_letters(project, left):
        if left.journal or only:
            raise lost_dead_letters(left, project.storage, goal(left))
        return None
    return left


def _reads_another_source(left: RunRecord, options: RunOptions, step: Step) -> bool:
    if left.source != _source_of(step, options):
        return True
    begun = left.status == "failed" and left.splits and left.exports
    return bool(begun) and options.export not in ("", left.exports[0])


def changed_facts(state: State, left: RunRecord, step: Step) -> tuple[Difference, ...]:
    """The facts that have changed since the run's start. The rows of `items()` may change until they are written."""
    found = differences(left.began, step.began)
    if any(state.splits(left.run + INSERTED_ROWS).all(1)):
        return found
    return tuple(one for one in found if one.name != ITEMS)


def _source_of(step: Step, options: RunOptions) -> str:
    return options.source or step.script.source


def fresh_record(planned: TablePlan, step: Step, options: RunOptions, run: str = "") -> RunRecord:
    """The record of a new run; an empty `run` makes an id."""
    source = _source_of(step, options)
    splits = segments(planned.table, options.workers) if source == SCAN else 0  # an export sets them later
    run, journal = run or new_run(), bool(options.journal)
    return first_record(step.script, planned.direction, run, splits, journal, source, step.began, provenance(options))


def unfinished_run_of_step(state: State, planned: TablePlan, only: str = "") -> RunRecord | None:
    """The unfinished run of the plan's first step, or the run `only`, which may have succeeded with dead letters.
    Raises Refused if an unfinished run of another version or direction has written."""
    wanted = (planned.steps[0].script.sequence, planned.direction)
    found = None
    records = [record for record in state.runs(planned.table.name) if record.run not in planned.former_runs]
    check_not_undoing(records)
    for record in (record for record in records if unfinished(record.status) or record.run == only):
        if (record.version, record.direction) == wanted:
            reopened = not unfinished(record.status)
            found = record if reopened or is_continued(state, record, records[-1]) else None
        elif has_written(state, record):
            raise _unfinished_refusal(state, record, planned.scripts)
    return found


def as_continued(project: Project, planned: TablePlan, record: RunRecord) -> RunRecord:
    """The record of a dry run with the accepted dead letters, and the STAMP and IDEMPOTENT, of the run that the command
    would continue. Notify that the dry run also transforms the items that an unfinished run has written."""
    for one in project.state.runs(planned.table.name):
        if one.run not in planned.former_runs and unfinished(one.status) and has_written(project.state, one):
            project.observer.notify(
                f"run {one.run} is unfinished: the dry run also transforms the items that it has written"
            )
    with suppress(Refused):  # reported beside the result
        left = unfinished_run(project, planned)
        if left is not None:
            return replace(record, accepted=left.accepted, began={**record.began, **initial_settings(left.began)})
    return record


def check_none_unfinished(state: State, table: str, scripts: Sequence[Script], gone: Collection[str] = ()) -> None:
    """Raises Refused if a run has written and is unfinished, active or not. The runs in `gone`, whose table was
    deleted, are ignored. `scripts` are the versions that have a file."""
    records = [record for record in state.runs(table) if record.run not in gone]
    check_not_undoing(records)
    for record in records:
        if unfinished(record.status) and has_written(state, record):
            raise _unfinished_refusal(state, record, scripts)


def check_not_undoing(records: Iterable[RunRecord]) -> None:
    """Raises Refused while an undo of the table is unfinished: its items belong to two versions."""
    for record in records:
        why = {
            UNDOING: ("is being undone, and the undo is unfinished", "finish it first: " + suggest("undo", record.run)),
            PARTLY_UNDONE: ("is undone in part: parts of its journal are missing", restore_or_repair(record)),
        }.get(record.status)
        if why is not None:
            raise refusal_for(record, f"{title_of(record)} {why[0]}", why[1])


def not_restored(records: Iterable[RunRecord], scripts: Sequence[Script], options: RunOptions) -> tuple[str, ...]:
    """The undone runs with items that are not restored in full, which new runs of the scripts would transform again
    (ADR 103). Raises Refused for them unless `accept_partly_restored` is set, or a later run has accepted them."""
    records = list(records)
    before = {run for record in records for run in record.accepts}
    undone = [one for one in records if one.status == "undone" and one.run not in before]
    again = not all(script.idempotent for script in scripts)
    left = [one for one in undone if scripts and (one.partly_restored or (one.not_restored and again))]
    if left and not options.accept_partly_restored:
        raise _not_restored(left[-1])
    return tuple(record.run for record in left)


def _not_restored(undone: RunRecord) -> Refused:
    partly, others = undone.partly_restored, undone.not_restored
    in_part = "in part: some attributes are as before the run, others as written since"
    left = "as written since, or as the run has transformed them"
    said = [f"has restored {counted(partly, 'item')} of version {undone.version} {in_part}"] if partly else []
    said += [f"has left {counted(others, 'item')} of version {undone.version} {left}"] if others else []
    return Refused(
        f"the undo of run {undone.run} " + "; it ".join(said) + "; another run may transform these twice",
        where="/".join(
            filter(None, [undone.began.get("storage"), object_key(undone.table, undone.run, NOT_RESTORED_FILE)])
        ),
        hint="the file lists them: repair them, then run the same command with --accept-partly-restored; no repair is "
        "needed if the script leaves transformed items unchanged",
        run=undone.run,
    )


def check_only(run: str, left: RunRecord | None) -> None:
    """Raises Refused if the command is limited to a run, and `left` is not this run."""
    if run and (left is None or left.run != run):
        raise cannot_continue(run)


def cannot_continue(run: str) -> Refused:
    """The refusal to continue a run that has ended or was replaced by a later one."""
    return Refused(f"run {run} is not the unfinished one of its table", hint=suggest("history") + " shows which is")


def _unfinished_refusal(state: State, left: RunRecord, scripts: Sequence[Script]) -> Refused:
    lease = state.leases.read(left.table)
    if lease.run == left.run:
        lease, life = observed_life(state.leases, left.table)
        if lease.run == left.run and not life.is_over:
            return busy_refusal(lease)
    what = f"{left.direction} of version {left.version} ({left.name}) is unfinished: run {left.run}, {left.status}"
    return refusal_for(left, what, finish_it(left, scripts))


def check_source(record: RunRecord, options_source: str, options_export: str) -> None:
    """Raises Refused if the source differs from that at the run's start. A copy of the run's export is recognized when
    it is read (`exports.source_export`)."""
    began = record.exports[0] if record.exports else ""
    known = options_export in ("", NEW, began) or (record.splits and options_export.startswith("s3://"))
    other = options_source not in ("", record.source) or (not known and began)
    if other:
        said = f"the export {began}" if began else f"a {record.source}"
        hint = "leave out --source, --export and --catch-up" + or_undo(record)
        raise refusal_for(record, f"run {record.run} began with {said}, and continues with it", hint)


def edited_sentence(left: RunRecord, script: Script, done: int) -> str:
    """The sentence that the script of a continued run, or a file that it uses, was edited, with the affected items."""
    files = [f"transforms/{name}" for name in changed_files(left.files, script.file_checksums)]
    which = ", ".join([script.path] * (script.checksum != left.checksum) + files)
    items = counted(done, "item") + (" was" if done == 1 else " were")
    again = "" if left.journal or not script.idempotent else _APPLIED_AGAIN
    return (
        f"{which} {'were' if ',' in which else 'was'} edited since: {items} transformed by an earlier text and will "
        f"not be transformed again; the others will be, by this text ({script.content[:12]}, before "
        f"{left.content[:12]}); dynamodt history keeps all texts{again}"
    )


_APPLIED_AGAIN = (
    ". The page at which each worker died is applied again: items that the earlier text inserted there under other "
    "keys stay"
)


# ---------------------------------------------------------------- a run that has succeeded with dead letters


class Reopened(NamedTuple):
    """A succeeded run that is continued: its version is no longer applied; for a `down`, it is `applied` again."""

    record: RunRecord
    applied: AppliedVersion | None


def find_reopened(state: State, table: str, run: str, applied: Mapping[int, AppliedVersion]) -> Reopened | None:
    """The run that has succeeded with dead letters, to be continued by their replay; None for any other run.

    Raises Refused if its dead letters cannot be replayed any more, since a later run has changed the table, or its
    version was recorded otherwise: items that a later version has transformed would be transformed by this one.
    """
    record = state.run(table, run) if run else None
    if record is None or record.status != "succeeded" or not record.tolerated:
        return None
    last, at = last_change(state, record), max(applied, default=0)
    version = applied.get(record.version)
    recorded = version is not None and version.run == run if record.direction == "up" else version is None
    why = ""
    if last.run != run:
        why = f"{title_of(last)} has changed the table later"
    elif at != goal(record) or not recorded:
        why = f"since then version {at} was recorded, without a run"
    if why:
        hint = "they stay as they are; to transform them, undo what came later, or repair them in a later version"
        raise Refused(f"the dead letters of run {run} cannot be replayed: {why}", where=f"table {table}", hint=hint)
    return Reopened(record, None if record.direction == "up" else version_reverted_by(state, record))


def reopened_record(reopens: Reopened) -> RunRecord:
    """The record of a run after it is reopened: the script of a `down` may then be corrected."""
    return replace(reopens.record, status=next_status(reopens.record.status, "reopen"))


def versions_before(applied: Mapping[int, AppliedVersion], reopens: Reopened | None) -> Mapping[int, AppliedVersion]:
    """The applied versions without the effect of a run that is reopened."""
    if reopens is None:
        return applied
    rest = {number: version for number, version in applied.items() if number != reopens.record.version}
    return rest if reopens.applied is None else {**rest, reopens.record.version: reopens.applied}
