"""An edit of an applied version that a person accepts: its record gets the present checksum, and nothing is run.

Both texts stay in the storage: the one that was applied, which its run has stored, and the accepted one. The version's
run, time and counts stay, too, since `down` and `undo` depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.reports import TakeOver, VersionOutcome
from dynamodt.model.runs import AppliedVersion, RunRecord, Script
from dynamodt.model.tables import Stage, TableSpec
from dynamodt.runs.baseline import recorded
from dynamodt.runs.history import goal
from dynamodt.runs.jobs import new_run
from dynamodt.runs.lock import check_not_leased, held
from dynamodt.runs.options import Observer, RunOptions
from dynamodt.runs.plan import runs_on_gone_tables, usable_table, younger, younger_reported
from dynamodt.runs.provenance import Provenance, provenance
from dynamodt.runs.resume import check_not_undoing
from dynamodt.script.read import read_versions
from dynamodt.script.versions import Applied, another_script, is_unedited
from dynamodt.state.object_keys import keep_text
from dynamodt.state.runs import unfinished
from dynamodt.state.state import Entry, State
from dynamodt.state.storage import open_storage

_Edit = tuple[Script, AppliedVersion]


def repair(stage: Stage, folder: Path, name: str, to: int | None, observer: Observer, options: RunOptions) -> TakeOver:
    """Accept the edits of the applied versions of a table, up to `to` (None: of all), for the reason of the options.

    Raises UsageError without a reason and for a version that is not applied, Refused for a file that is another script,
    while a run holds the table, and while one is unfinished.
    """
    of = provenance(replace(options, reason=options.reason.strip()))
    if not of.reason:
        raise UsageError("the reason is empty", hint='write why the edit is accepted: --reason "a corrected type"')
    scripts = read_versions(folder / "transforms", name, stage.names)
    spec = usable_table(stage, name)
    state = State(stage.connection, stage.state_table)
    edits = _edits(scripts, state.applied(name), name, to)
    _check_ended(stage, state, spec)
    check_not_leased(state.leases, name)
    run, entries = new_run(), [_entry(edit, of) for edit in edits]
    if entries and not options.dry_run:
        with held(state.leases, name, run, observer.notify) as lease:
            _check_ended(stage, state, spec)
            edits = _edits(scripts, state.applied(name), name, to)
            storage = open_storage(stage.connection, stage.storage)
            texts = [keep_text(storage, script) for script, _ in edits]
            entries = [_entry(edit, of).with_text(text) for edit, text in zip(edits, texts, strict=True)]
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


def _check_ended(stage: Stage, state: State, spec: TableSpec) -> None:
    """Raises Refused while a run of the table is unfinished, and for a table that was created again since its last."""
    runs = state.runs(spec.name)
    last = younger(spec, runs)
    if last is not None:
        hint = "record which versions are applied: " + suggest("stamp", table=spec.name, to="N")
        raise Refused(younger_reported(spec, last), where=f"table {spec.name}", hint=hint)
    gone = runs_on_gone_tables(stage, spec, runs)
    here = [run for run in runs if run.run not in gone]
    check_not_undoing(here)
    for run in here:
        if unfinished(run.status):
            raise _is_unfinished(run)


def _is_unfinished(run: RunRecord) -> Refused:
    return Refused(
        f"run {run.run} ({run.direction} of version {run.version}, {run.name}) is unfinished: {run.status}",
        where=f"table {run.table}",
        hint="undo it: "
        + suggest("undo", run.run)
        + "; or revert the edits, and finish it: "
        + suggest(run.direction, table=run.table, to=goal(run)),
        run=run.run,
    )


def _entry(edit: _Edit, of: Provenance) -> Entry:
    script, applied = edit
    record = replace(recorded(script, "up", "repair", new_run(), of), text_before=applied.text)
    present = replace(applied, checksum=script.checksum, files=script.file_checksums, text="")
    return Entry(record, applied=present, instead_of=applied.checksum)
