"""The record of a version's run, from its begin to its end, and what follows from a table's records."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, Any

from dynamodt.errors import Hint, Refused, ServiceError, suggest
from dynamodt.model.pages import Claim, Counts, Units
from dynamodt.model.reports import RunReport, pick
from dynamodt.model.runs import AppliedVersion, Fence, Job, RunRecord, Script
from dynamodt.model.tables import Direction, TableSpec
from dynamodt.runs.provenance import Provenance, author
from dynamodt.script.versions import file_of, is_unedited
from dynamodt.state.runs import (
    PARTLY_UNDONE,
    REPLACED,
    UNDOING,
    next_status,
    or_undo,
    order_with_phase,
    phases,
    texts_of,
    texts_reported,
    unfinished,
    written_order,
)

if TYPE_CHECKING:
    from dynamodt.runs.resume import Reopened
    from dynamodt.state.state import State


def now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def first_record(
    script: Script,
    direction: Direction,
    run: str,
    splits: int,
    journal: bool = False,
    source: str = "",
    began: Mapping[str, str] | None = None,
    of: Provenance | None = None,
) -> RunRecord:
    """The record of a run that begins now. `journal`: keep a journal even if the script is IDEMPOTENT; `source`
    overrides the script's; `began`: the facts of its start; `of`: its caller."""
    of = of or Provenance(author())
    return RunRecord(
        table=script.table,
        run=run,
        version=script.sequence,
        name=script.name,
        direction=direction,
        checksum=script.checksum,
        status=next_status("", "begin"),
        started=now(),
        by=of.by,
        reason=of.reason,
        commit=of.commit,
        splits=splits,
        journal=journal or not script.idempotent,
        source=source or script.source,
        target=script.target_table or "",
        began=dict(began or {}),
        files=script.file_checksums,
    )


def next_record(
    before: RunRecord,
    script: Script,
    transformed: int = 0,
    began: Mapping[str, str] | None = None,
    of: Provenance | None = None,
) -> RunRecord:
    """The record of a run that continues with the present script; earlier texts have transformed `transformed` items.
    Without a new reason it keeps the earlier one. Raises Refused if it cannot continue."""
    of = of or Provenance(author())
    reopens = before.status == "succeeded" and before.tolerated > 0
    status = next_status(before.status, "reopen" if reopens else "continue")
    edited = script.content != before.content
    return replace(
        before,
        status=status,
        name=script.name,
        checksum=script.checksum,
        by=of.by,
        reason=of.reason or before.reason,
        commit=of.commit,
        attempts=before.attempts + 1,
        error="",
        texts=texts_of(before, transformed) if edited else before.texts,
        began=dict(began or before.began),
        files=script.file_checksums,
        whole_pages=False,
    )


def version_applied_by(record: RunRecord) -> AppliedVersion:
    """The version that a successful run has applied."""
    same = pick(record, "table version name checksum run by counts consumed seconds files text")
    return AppliedVersion(when=record.ended, **same)


class RunRecorder:
    """Records one version's run, under the lease of `token`. A dry run is not recorded."""

    def __init__(
        self, state: State, table: TableSpec, record: RunRecord, token: int, dry_run: bool, fences: Sequence[Fence] = ()
    ) -> None:
        self._state = state
        self._key_names = table.key_names
        self._token = token
        self._fences = fences
        self._dry_run = dry_run
        self._began = time.monotonic()
        self._seconds_before = record.seconds
        self._reopens: Reopened | None = None
        self.begun = False
        self.record = record

    def reopen(self, reopened: Reopened | None) -> None:
        """Let the next record also restore the status of the version from before the run."""
        self._reopens = reopened

    def begin(self) -> None:
        """Record that the run begins or continues. Raises Fenced."""
        if not self._dry_run:
            before, self._reopens = self._reopens, None
            self.record = self._recorded() if before is None else self._recorded(before.applied, before.applied is None)
        self.begun = True

    def keep(self, **changes: Any) -> None:
        """Change fields of the record, and record it. Raises Fenced."""
        self.record = replace(self.record, **changes)
        self.begin()

    def phase_begins(self, job: Job) -> None:
        """Record the order of the phases, which an undo reverses, before the phase writes. Raises Fenced."""
        order = order_with_phase(self.record, job.run, job.attempt)
        if order != self.record.order:
            self.keep(order=order)

    def end(
        self,
        status: str,
        counts: Counts,
        consumed: Units,
        error: str = "",
        dead_letters: str = "",
        whole_pages: bool = False,
        budget: Units = Units(),
    ) -> None:
        """Record the end; with success, also that the version is applied (or no longer, for `down`).

        Raises Fenced, with nothing recorded, when another process has taken the run over."""
        self.record = replace(
            self.record,
            status="dry-run" if self._dry_run and status == "succeeded" else status,
            ended=now(),
            counts=counts,
            consumed=consumed,
            seconds=round(self._seconds_before + time.monotonic() - self._began, 3),
            error=error,
            dead_letters=dead_letters,
            whole_pages=whole_pages,
            budget=budget,
            tolerated=counts.dead - self.record.accepted_items if status == "succeeded" else self.record.tolerated,
        )
        if self._dry_run:
            return
        succeeded = self.record.status == "succeeded"
        applied = version_applied_by(self.record) if succeeded and self.record.direction == "up" else None
        reverted = succeeded and self.record.direction == "down"
        self.record = self._recorded(applied, reverted)

    def _recorded(self, applied: AppliedVersion | None = None, reverted: bool = False) -> RunRecord:
        more: dict[str, Any] = {"fences": self._fences} if self._fences else {}
        return self._state.record(self.record, self._token, applied=applied, reverted=reverted, **more)

    def report(self, samples: tuple[tuple[dict[str, object], dict[str, object] | None], ...] = ()) -> RunReport:
        """The run's report."""
        return replace(
            report_of(self.record),
            samples=samples,
            key_names=self._key_names,
            journal=self.record.journal,
            rehearsal=self._dry_run,
        )


def report_of(record: RunRecord) -> RunReport:
    """The report of a run, from its record alone."""
    same = pick(record, "table direction version name run status counts consumed seconds error dead_letters")
    return RunReport(texts=texts_reported(record), accepted=record.accepted_items, **same)


def unrecorded_notice(what: str, failed: ServiceError) -> str:
    """The notice that the state table has not confirmed the end of a run or undo."""
    return f"the end of {what} could not be recorded; it counts as unfinished until it is continued: {failed}"


def doubts_hint(doubtful: int, run: str) -> Hint:
    """The hint to resolve dead letters in doubt."""
    items = "1 is" if doubtful == 1 else f"{doubtful:,} are"
    what = f'{items} in doubt (step "doubt"): nothing shows whether they are transformed; look at the items, then '
    again = suggest("retry", run, in_doubt="again")
    return what + again + " (transform them) or --in-doubt done (they stay as they are)"


def title_of(record: RunRecord) -> str:
    """A run with its version, in messages."""
    return f"run {record.run} ({record.direction} of version {record.version}, {record.name})"


def refusal_for(record: RunRecord, what: str, hint: str | Hint) -> Refused:
    """The refusal of a command on a run's table because of that run."""
    return Refused(what, where=f"table {record.table}", hint=hint, run=record.run)


def finish_it(record: RunRecord, scripts: Sequence[Script]) -> Hint:
    """The hint to finish a run, or to undo it. `scripts` are the versions that have a file: the run's own file must be
    among them."""
    has_file = any(one.sequence == record.version and not is_another_script(record, one) for one in scripts)
    back = "" if has_file else f"bring {file_of(record)} back, and "
    return back + "finish it first: " + continued_by(record) + or_undo(record)


def continued_by(record: RunRecord) -> Hint:
    """The command that continues an unfinished run, or its undo, and no later version; after a run reached its limit
    of the cost, with a higher one."""
    if record.status in (UNDOING, PARTLY_UNDONE):
        return suggest("undo", record.run)
    limit = {"max_usd": record.higher_usd} if record.higher_usd else {}
    return suggest(record.direction, table=record.table, to=goal(record), **limit)


def applied_again_by(record: RunRecord) -> Hint:
    """The commands that apply the version of a run to all items again, after what it has written is restored or may be
    overwritten."""
    before = record.version - 1 if record.direction == "up" else record.version
    is_recorded = not record.journal and not unfinished(record.status)
    return (suggest("stamp", table=record.table, to=before) + ", then " if is_recorded else "") + continued_by(record)


def undo_in_its_storage(record: RunRecord) -> Hint:
    """The command that undoes a run whose journal is in another storage than the stage's."""
    return f"DYNAMODT_STORAGE={quote(record.began['storage'])} " + suggest("undo", record.run)


def restore_or_repair(record: RunRecord) -> Hint:
    """The next step after an undo that lacked a part of the journal."""
    repair = "; or repair the items by hand, and record which versions are applied: "
    stamp = suggest("stamp", table=record.table, to="N")
    return "restore them, then: " + suggest("undo", record.run) + repair + stamp


def is_another_script(record: RunRecord, script: Script) -> bool:
    """Whether a file with the number of a run's version is not the run's: it has another name and another text. A file
    that was only renamed, or only edited, is the same script."""
    return script.name != record.name and not is_unedited(script, record)


def goal(record: RunRecord | RunReport) -> int:
    """The table's version after the run has succeeded."""
    return record.version if record.direction == "up" else record.version - 1


def has_written(state: State, record: RunRecord) -> bool:
    """Whether a run may have changed an item. A dead letter of a phase that has sent a change counts: it may be in
    doubt. Without a journal, pages have no intent: a page that was begun may have been written, unless the attempt has
    ended with whole pages."""
    silent = not record.journal and not record.whole_pages
    return any(_may_have_written(claim, silent) for claim in claims_of_run(state, record))


def _may_have_written(claim: Claim, silent: bool) -> bool:
    intended = claim.intent is not None or any(period.parts for period in claim.periods)
    doubtful = claim.journal.parts > 0 and claim.counts.dead > 0
    return bool(claim.counts.changed) or intended or doubtful or (silent and not claim.done)


def claims_of_run(state: State, record: RunRecord) -> Iterator[Claim]:
    """The rows of all splits of a run, over its phases."""
    return (claim for each in phases(record) for claim in state.splits(each.run).all(each.splits))


def is_continued(state: State, record: RunRecord, last: RunRecord) -> bool:
    """Whether a command continues an unfinished run; `last` is the table's last run. A run that has written nothing
    does not exclude others. If another one followed it, it is not continued: its checkpoints count items as unchanged
    that may have changed since."""
    return record.run == last.run or has_written(state, record)


DECIDING = ("succeeded", "stamped", "adopted")  # statuses that decide whether a version is applied


def version_reverted_by(state: State, record: RunRecord) -> AppliedVersion:
    """The record of the version that a `down` has reverted: that of the run that last applied it, with the edits that
    were accepted since; that of the `down` itself, if no run is known to have applied it."""
    ups = [one for one in state.runs(record.table) if (one.version, one.direction) == (record.version, "up")]
    counting = (one for one in ups if one.status in (*DECIDING, "repaired"))
    applied = version_applied_by(record)
    for one in counting:
        if one.status in DECIDING:
            applied = version_applied_by(one)
        else:
            applied = replace(applied, checksum=one.checksum, files=one.files, text=one.text)
    return applied


def has_changed(state: State, record: RunRecord) -> bool:
    """Whether a run has changed its table and was not undone."""
    if record.status in ("succeeded", UNDOING, PARTLY_UNDONE):
        return True
    return record.status not in ("undone", *REPLACED) and has_written(state, record)


def last_change(state: State, record: RunRecord) -> RunRecord:
    """The run that last changed the record's table. No other run follows an unfinished one that has written."""
    others = [other for other in state.runs(record.table) if other.run != record.run and has_changed(state, other)]
    return max([record, *others], key=_order)


def last_change_of_target(state: State, record: RunRecord) -> RunRecord:
    """The run of the record's target that has changed that table after it; the record itself if there is none."""
    others = [other for other in state.runs(record.target) if other.token > record.target_token > 0]
    others = [other for other in others if not other.target and has_changed(state, other)]
    return max(others, key=_order, default=record)


def changed_since(state: State, record: RunRecord, moment: datetime) -> RunRecord | None:
    """A run that has changed the record's table, or was undone, after a moment; None if there is none."""
    for other in state.runs(record.table):
        when = other.undone.partition(" ")[0] or (other.ended if has_changed(state, other) else "")
        if other.run != record.run and when and datetime.fromisoformat(when) > moment:
            return other
    return None


def _order(record: RunRecord) -> tuple[bool, int, bool, int, str, str]:
    """The sort key of runs by their ends, since a failed run may continue after others."""
    return unfinished(record.status), *written_order(record)
