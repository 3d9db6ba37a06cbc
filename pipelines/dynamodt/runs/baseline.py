"""Records of versions without a run: `stamp` and `import_history` record versions that ran elsewhere as applied, and
`repair` accepts the edit of an applied version.

None of them writes to the table itself. A transaction records up to 49 versions. If there are more, the highest are
recorded first: an interrupted command leaves a gap below them, which `up` refuses and which the same command fills.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.dynamodb import table as tables
from dynamodt.dynamodb.dynamo_data_transform import HISTORY, STATE, TOOL, Past, PastRun, read_record, record_key
from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.pages import Counts
from dynamodt.model.reports import LEFT_EARLY, TakeOver, VersionOutcome
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import Direction, Stage, TableSpec
from dynamodt.runs.dead_letters import has_lost_dead_letters
from dynamodt.runs.history import continued_by, now, refusal_for, title_of, version_applied_by
from dynamodt.runs.jobs import new_run
from dynamodt.runs.lock import check_not_leased, hold_lease
from dynamodt.runs.plan import last_run_before_recreation, recreated_sentence, runs_on_gone_tables, usable_table
from dynamodt.runs.provenance import Provenance, provenance
from dynamodt.runs.restored_tables import lacks_rows, note_begun, unknown_run
from dynamodt.runs.resume import check_none_unfinished, check_not_undoing
from dynamodt.script.versions import Applied, another_script, is_unedited
from dynamodt.state.object_keys import keep_text
from dynamodt.state.runs import PARTLY_UNDONE, TABLE, TAKEN_OVER, next_status, or_undo, unfinished
from dynamodt.state.state import Entry

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.state.storage import Storage


class _Baseline(NamedTuple):
    """The input from which the entries are derived."""

    scripts: tuple[Script, ...]
    applied: Applied
    runs: Sequence[RunRecord]
    table: TableSpec
    of: Provenance  # of the command
    behind: bool = False  # the state table is older than the storage


# ---------------------------------------------------------------- the two operations


def stamp(project: Project, name: str, to: int) -> TakeOver:
    """Record that versions 1 to `to` of a table are applied, and none above. With `to` 0, none is applied.

    Raises UsageError for a version that has no file, ServiceError for a table that does not exist, Refused while a run
    of the table is active or unfinished.
    """
    scripts = project.versions(name)
    if not 0 <= to <= len(scripts):
        hint = "write its file first: " + suggest("create", "NAME", table=name)
        raise UsageError(f"there is no version {to} of {name}", hint=hint)
    spec = usable_table(project.stage, name)
    return _take_over(project, spec, scripts, lambda known, run: _stamp_entries(known, run, to))


def import_history(project: Project, name: str) -> TakeOver:
    """Import the table's record of dynamo-data-transform: the applied versions, and the runs that applied them. It may
    be repeated after dynamo-data-transform has run again.

    Raises as `stamp`, and Refused if there is no such record, or if it contradicts the history.
    """
    scripts, stage = project.versions(name), project.stage
    spec = usable_table(stage, name)
    past = _read_past(stage, spec)
    _check_files(name, stage.names.logical(name), past.versions, scripts)
    return _take_over(project, spec, scripts, lambda known, run: _import_entries(name, known, run, past))


def _take_over(
    project: Project, spec: TableSpec, scripts: tuple[Script, ...], entries_of: Callable[[_Baseline, str], list[Entry]]
) -> TakeOver:
    """Record the entries under the table's lease. They are computed before the lease is taken, and again while it is
    held. A dry run is refused as the command would be."""
    stage, state, storage, options = project.stage, project.state, project.storage, project.options
    name, run, behind = spec.name, new_run(), _is_state_outdated(project, spec)

    def planned() -> tuple[list[Entry], int, Applied]:
        known = _Baseline(scripts, state.applied(name), state.runs(name), spec, provenance(options), behind)
        began = {TABLE: spec.identity}  # so that no entry applies to a later table of the same name
        entries = [one._replace(record=replace(one.record, began=began)) for one in entries_of(known, run)]
        return entries, _version_after(known.applied, entries), known.applied

    entries, at, before = planned()
    if entries and options.dry_run:
        check_not_leased(state.leases, name)
        _ended_runs(project, spec, scripts, behind)
    elif entries:
        with hold_lease(state.leases, name, run, project.observer.notify) as lease:
            ended = _ended_runs(project, spec, scripts, behind)
            entries, at, before = planned()
            entries = _with_texts(storage, scripts, entries)
            for record in state.record_all([*entries, *ended], lease.token)[-1:]:
                note_begun(storage, spec, record)
    if not options.dry_run:
        state.record_name(stage, stage.names.logical(name), name)
    records = sorted((entry.record for entry in entries), key=lambda record: record.run)
    return TakeOver(name, tuple(records), at, len(scripts), options.dry_run, _outcomes(scripts, before, entries))


def _ended_runs(project: Project, spec: TableSpec, scripts: Sequence[Script], behind: bool) -> list[Entry]:
    """The unfinished runs with the ends that the command gives them: none of them is continued after it. Raises Refused
    for one that must be finished or undone."""
    runs = project.state.runs(spec.name)
    gone = runs_on_gone_tables(project.stage, spec, runs) | _runs_with_lost_data(project, runs, behind)
    partly = [run for run in runs if run.status == PARTLY_UNDONE and run.run not in gone]
    check_none_unfinished(project.state, spec.name, scripts, {*gone, *(run.run for run in partly)})
    replaced = [run for run in runs if unfinished(run.status) and run not in partly]
    ended = [Entry(replace(run, status=next_status(run.status, "replace"))) for run in replaced]
    return ended + [Entry(replace(run, status=next_status(run.status, "stamp"))) for run in partly]


def _with_texts(storage: Storage, scripts: Sequence[Script], entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with the location of each applied version's text."""
    numbered = {script.sequence: script for script in scripts}

    def kept(entry: Entry) -> Entry:
        if entry.applied is None:
            return entry
        return entry.with_text(keep_text(storage, numbered[entry.record.version]))

    return list(map(kept, entries))


def _outcomes(scripts: Sequence[Script], before: Applied, entries: Sequence[Entry]) -> tuple[VersionOutcome, ...]:
    """The outcome for each version that was applied before or is applied now."""
    found = {}
    for script in scripts:
        if script.sequence in before:
            same = is_unedited(script, before[script.sequence])
            found[script.sequence] = (script.name, "unchanged" if same else "edited")
    found |= {number: (record.name, "unchanged") for number, record in before.items() if number not in found}
    for entry in entries:
        if entry.applied is not None or entry.reverted:
            found[entry.record.version] = (entry.record.name, "removed" if entry.reverted else "recorded")
    return tuple(VersionOutcome(number, *found[number]) for number in sorted(found))


def _runs_with_lost_data(project: Project, runs: Sequence[RunRecord], behind: bool) -> frozenset[str]:
    """Unfinished runs that cannot continue, since their dead letters or rows of the state table are lost."""
    left = (run for run in runs if unfinished(run.status))
    lost = (run for run in left if behind or (run.status in LEFT_EARLY and has_lost_dead_letters(project, run)))
    return frozenset(run.run for run in lost)


def _is_state_outdated(project: Project, spec: TableSpec) -> bool:
    """Whether the state table is older than the objects that its runs have stored."""
    state = project.state
    left = [run for run in state.runs(spec.name) if unfinished(run.status)]
    return bool(unknown_run(state, project.storage, spec)) or any(lacks_rows(project, run) for run in left)


def _version_after(applied: Applied, entries: Sequence[Entry]) -> int:
    gone = {entry.record.version for entry in entries if entry.reverted}
    come = {entry.record.version for entry in entries if entry.applied is not None}
    return max((applied.keys() - gone) | come, default=0)


# ---------------------------------------------------------------- stamp


def _stamp_entries(known: _Baseline, run: str, to: int) -> list[Entry]:
    """The entries to record, from the highest version down."""
    missing = [script for script in known.scripts if script.sequence <= to and script.sequence not in known.applied]
    entries = [_applied_entry(recorded(script, "up", "stamp", run, known.of), script) for script in missing]
    surplus = [version for number, version in known.applied.items() if number > to]
    entries += [Entry(recorded(version, "down", "stamp", run, known.of), reverted=True) for version in surplus]
    confirmed = last_run_before_recreation(known.table, known.runs) or any(
        run.status == PARTLY_UNDONE for run in known.runs
    )
    if not entries and known.scripts and (confirmed or known.behind):  # of a recreated table, or repaired by hand
        script = known.scripts[max(to, 1) - 1]
        entries = [Entry(recorded(script, "up" if to else "down", "stamp", run, known.of))]
    return sorted(entries, key=lambda entry: -entry.record.version)


def recorded(version: Script | AppliedVersion, direction: Direction, event: str, run: str, of: Provenance) -> RunRecord:
    """The record of a version that this command does not run: it ran elsewhere, or its run is unknown."""
    number = version.sequence if isinstance(version, Script) else version.version
    moment = now()
    return RunRecord(
        table=version.table,
        run=f"{run}-v{number:06d}",
        version=number,
        name=version.name,
        direction=direction,
        checksum=version.checksum,
        status=next_status("", event),
        started=moment,
        ended=moment,
        by=of.by,
        reason=of.reason,
        commit=of.commit,
        files=version.file_checksums if isinstance(version, Script) else version.files,
    )


def _applied_entry(record: RunRecord, script: Script) -> Entry:
    """The entry by which the version becomes applied, with its file's present text."""
    applied = replace(
        version_applied_by(record), name=script.name, checksum=script.checksum, files=script.file_checksums
    )
    return Entry(record, applied=applied)


# ---------------------------------------------------------------- adopt


def _read_past(stage: Stage, spec: TableSpec) -> Past:
    key = record_key(spec)
    stamp_it = "if its versions ran elsewhere, record them: " + suggest("stamp", table=spec.name, to="N")
    if key is None:
        kinds = ", ".join(f"{attribute.name} {attribute.type}" for attribute in spec.key)
        what = f"the table cannot hold a record of {TOOL}: its key is not of strings ({kinds})"
        raise Refused(what, where=f"table {spec.name}", hint=stamp_it)
    image = tables.get_attributes(stage.connection, spec.name, key, (STATE, HISTORY))
    if image is None:
        raise Refused(f"the table holds no record of {TOOL}", where=f"table {spec.name}", hint=stamp_it)
    return read_record(image, spec.name)


def _check_files(name: str, logical: str, versions: Sequence[int], scripts: Sequence[Script]) -> None:
    gap = next((number for number in range(1, len(versions) + 1) if number not in versions), 0)
    if gap:
        raise Refused(
            f"by the record of {TOOL}, version {versions[-1]} has run, but version {gap} has not",
            where=f"table {name}",
            hint="number the files from 1 on without a gap, and record how many of them have run: "
            + suggest("stamp", table=name, to="N"),
        )
    if len(versions) > len(scripts):
        number = len(scripts) + 1
        raise UsageError(
            f"by the record of {TOOL}, version {number} has run, but it has no file",
            where=f"transforms/{logical}/v{number}_<name>.py",
            hint="write it (it is not run), and import the history again: " + suggest("create", "NAME", table=name),
        )


def _import_entries(name: str, known: _Baseline, run: str, past: Past) -> list[Entry]:
    """The entries that are not imported yet: first the runs, then the applied versions, from the highest down."""
    _check_followed(name, known, past)
    files = {script.sequence: script for script in known.scripts}
    imported = {record.run for record in known.runs}
    made = {one.version: one for one in past.runs if one.direction == "up"}  # the latest of each version
    made = {number: one for number, one in made.items() if _past_run_id(one) not in imported}
    pending = [number for number in reversed(past.versions) if number not in known.applied]
    written = imported | {_past_run_id(made[number]) for number in pending if number in made}
    entries = [Entry(_past_record(name, one, files, known.of)) for one in past.runs if _past_run_id(one) not in written]
    for number in pending:
        script = files[number]
        unknown = recorded(script, "up", "adopt", run, known.of)
        ran = _past_record(name, made[number], files, known.of) if number in made else unknown
        entries.append(_applied_entry(ran, script))
    return entries


def _check_followed(name: str, known: _Baseline, past: Past) -> None:
    """Raises Refused if the table has a history of its own, or an applied version that the record lacks."""
    if any(record.status not in TAKEN_OVER for record in known.runs):
        raise Refused(
            "the table has a history of its own here already",
            where=f"table {name}",
            hint="look at it: "
            + suggest("history", table=name)
            + "; to change which versions are applied: "
            + suggest("stamp", table=name, to="N"),
        )
    surplus = known.applied.keys() - set(past.versions)
    if surplus:
        raise Refused(
            f"version {max(surplus)} was adopted before, and {TOOL} has rolled it back since",
            where=f"table {name}",
            hint=suggest("stamp", table=name, to=max(past.versions, default=0)),
        )


def _past_record(name: str, one: PastRun, files: Mapping[int, Script], of: Provenance) -> RunRecord:
    """The record of a run of dynamo-data-transform, which counted only the items that it wrote. Its script is
    unknown."""
    ended = one.ended.isoformat(timespec="seconds")
    return RunRecord(
        table=name,
        run=_past_run_id(one),
        version=one.version,
        name=files[one.version].name if one.version in files else "unknown",
        direction=one.direction,
        checksum="",
        status=next_status("", "adopt"),
        started=ended,
        ended=ended,
        by=f"{TOOL}, adopted by {of.by}",
        reason=of.reason,
        counts=Counts(read=one.transformed, changed=one.transformed),
    )


def _past_run_id(one: PastRun) -> str:
    """The run's id. It is the same at each import, and sorts with the ids of `new_run`."""
    return f"{one.ended:%Y%m%dT%H%M%S.%fZ}-adopted-v{one.version:06d}"


# ---------------------------------------------------------------- repair

_Edit = tuple[Script, AppliedVersion]


def repair(project: Project, name: str, to: int | None) -> TakeOver:
    """Accept the edits of the applied versions of a table, up to `to` (None: of all), for the reason of the options:
    their records get the present checksums, and nothing is run.

    The storage keeps both texts: the applied one, which its run has stored, and the accepted one. The version's record
    keeps its run, time and counts, on which `down` and `undo` depend.

    Raises UsageError without a reason and for a version that is not applied, Refused for a file that is another script,
    and while a run of the table is active or unfinished.
    """
    state, options = project.state, project.options
    of = provenance(replace(options, reason=options.reason.strip()))
    if not of.reason:
        raise UsageError("the reason is empty", hint='write why the edit is accepted: --reason "a corrected type"')
    scripts, spec = project.versions(name), usable_table(project.stage, name)
    edits = _edits(scripts, state.applied(name), name, to)
    _check_ended(project, spec)
    check_not_leased(state.leases, name)
    run, entries = new_run(), [_repair_entry(edit, of) for edit in edits]
    if entries and not options.dry_run:
        with hold_lease(state.leases, name, run, project.observer.notify) as lease:
            _check_ended(project, spec)
            edits = _edits(scripts, state.applied(name), name, to)
            texts = [keep_text(project.storage, script) for script, _ in edits]
            entries = [_repair_entry(edit, of).with_text(text) for edit, text in zip(edits, texts, strict=True)]
            state.record_all(entries, lease.token)
    applied, accepted = state.applied(name), {entry.record.version for entry in entries}
    outcomes = tuple(
        VersionOutcome(number, applied[number].name, "accepted" if number in accepted else "unchanged")
        for number in sorted(applied)
        if to is None or number <= to
    )
    records = tuple(entry.record for entry in entries)
    return TakeOver(name, records, max(applied, default=0), len(scripts), options.dry_run, outcomes)


def _edits(scripts: Sequence[Script], applied: Applied, table: str, to: int | None) -> list[_Edit]:
    """The applied versions whose files were edited, in order."""
    if to is not None and to not in applied:
        raise UsageError(f"version {to} of {table} is not applied", hint=suggest("status", table=table))
    here = [script for script in scripts if script.sequence in applied and (to is None or script.sequence <= to)]
    edits = [(script, applied[script.sequence]) for script in here]
    edits = [(script, record) for script, record in edits if not is_unedited(script, record)]
    for script, record in edits:
        if script.name != record.name:
            raise another_script(script, record)
    return edits


def _check_ended(project: Project, spec: TableSpec) -> None:
    """Raises Refused while a run of the table is unfinished, and if the table was created again since its last run."""
    runs = project.state.runs(spec.name)
    last = last_run_before_recreation(spec, runs)
    if last is not None:
        hint = "record which versions are applied: " + suggest("stamp", table=spec.name, to="N")
        raise Refused(recreated_sentence(spec, last), where=f"table {spec.name}", hint=hint)
    gone = runs_on_gone_tables(project.stage, spec, runs)
    here = [run for run in runs if run.run not in gone]
    check_not_undoing(here)
    for run in here:
        if unfinished(run.status):
            finish = "revert the edits, and finish it: " + continued_by(run)
            hint = finish + or_undo(run)
            raise refusal_for(run, f"{title_of(run)} is unfinished: {run.status}", hint)


def _repair_entry(edit: _Edit, of: Provenance) -> Entry:
    script, applied = edit
    record = replace(recorded(script, "up", "repair", new_run(), of), text_before=applied.text)
    present = replace(applied, checksum=script.checksum, files=script.file_checksums, text="")
    return Entry(record, applied=present, instead_of=applied.checksum)
