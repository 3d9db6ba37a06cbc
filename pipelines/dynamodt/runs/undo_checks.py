"""The checks of an undo before it writes anything: that the run can be undone now, and that its journal is complete.

Each part of the journal that the splits' rows count must be stored with a valid seal and belong to this run, and the
numbers must be equal. Every counted object is read once; a phase's rows and a few objects are in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from dynamodt.dynamodb.table import describe
from dynamodt.errors import Busy, Hint, Refused, RunFailed, suggest
from dynamodt.model.pages import Counts, JournalCount, Units
from dynamodt.model.reports import NotRestored, UndoReport
from dynamodt.model.runs import RunRecord
from dynamodt.model.tables import Stage
from dynamodt.runs.control import find_run
from dynamodt.runs.history import (
    continued_by,
    last_change,
    last_change_of_target,
    refusal_for,
    report_of,
    restore_or_repair,
    title_of,
    undo_in_its_storage,
)
from dynamodt.runs.lock import attempt_in_turn, check_not_leased
from dynamodt.runs.plan import check_not_recreated, usable_table
from dynamodt.runs.preflight import check_alarms, check_tables
from dynamodt.runs.restored_tables import check_begun, check_rows
from dynamodt.state.journal import Unsealed, check
from dynamodt.state.object_keys import (
    JOURNAL,
    NOT_RESTORED_FILE,
    Claims,
    committed_objects,
    expected_journal,
    folder_of,
    is_note,
    missing_parts,
    object_key,
    part_of,
    split_prefix,
)
from dynamodt.state.runs import UNDOING, phases, unfinished
from dynamodt.state.split_rows import RunTotals
from dynamodt.state.state import State
from dynamodt.state.storage import Storage

if TYPE_CHECKING:
    from dynamodt.runs.context import Project

_READERS = 10  # as many as a client has connections
_AHEAD = 4 * _READERS
_SHOWN = 3
_NOTIFY_SECONDS = 10.0  # seconds


def undoable(project: Project, tables: Sequence[str], run: str) -> RunRecord:
    """The run with this id, or beginning of one, if it can be undone now, or within `wait_lock`. Raises UsageError, or
    Refused."""
    record = find_run(project, tables, run)
    return attempt_in_turn(project, record.table, partial(checked, project, record))


def checked(project: Project, record: RunRecord) -> RunRecord:
    """The run's present record. Raises Refused if it cannot be undone."""
    stage, record = project.stage, find_run(project, [record.table], record.run)
    check_undoable(project.state, record)
    check_not_recreated(stage, record)
    check_same_storage(stage, record)
    _check_written(project, record)
    return record


def _check_written(project: Project, record: RunRecord) -> None:
    """Raises Refused if the table to which the undo writes does not allow it, UsageError for a missing alarm."""
    written = usable_table(project.stage, record.target or record.table)
    check_alarms(project)
    check_tables(project.stage, [written], project.options)


def refusal_of(project: Project, record: RunRecord) -> Refused | None:
    """The refusal that the undo would meet now if it were not a dry run: of a table that another run holds, unless it
    would wait for it, or of the table to which it writes."""
    real = replace(project, options=replace(project.options, dry_run=False))
    held = () if project.options.wait_lock else filter(None, (record.table, record.target))
    try:
        for name in held:
            check_not_leased(project.state.leases, name)
        _check_written(real, record)
    except Refused as error:
        return error
    return None


def check_undo_before_job(project: Project, record: RunRecord) -> None:
    """Raises the refusals that the undo, or the undo of a dry run, would meet in a deployed job, before one is started.
    A dry run of tables that another run holds is not refused."""
    if project.options.dry_run:
        refusal = refusal_of(project, record)
        if refusal is not None and not isinstance(refusal, Busy):
            raise refusal
    else:
        for table in filter(None, (record.table, record.target)):
            check_not_leased(project.state.leases, table)
    check_rows(project, record)
    check_begun(project, describe(project.stage.connection, record.table))


def check_same_storage(stage: Stage, record: RunRecord) -> None:
    """Raises Refused if the run's journal is in another storage than the stage's."""
    was, now_at = record.began.get("storage"), stage.storage.url.rstrip("/")
    if was not in (None, now_at):
        what = f"the journal of run {record.run} is in {was}, and the storage of stage {stage.name} is now {now_at}"
        hint = "give the stage that storage for the undo: " + undo_in_its_storage(record)
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
    return "finish it (" + continued_by(record) + "), then: " + way


def refused_report(project: Project, record: RunRecord, error: Refused) -> UndoReport:
    """The report of an undo that is refused for an incomplete journal."""
    run = replace(report_of(record), status="refused", counts=Counts(), consumed=Units(), seconds=0.0, error=str(error))
    run = replace(run, dead_letters="", rehearsal=project.options.dry_run)
    return UndoReport(run, max(project.state.applied(record.table), default=0), error=error)


def undone_by_record(project: Project, record: RunRecord) -> UndoReport | None:
    """The report of a whole undo by the state table and the storage, if its result is lost; None if it has not ended.
    Items that waited for a key count as they were read first."""
    state, done = project.state, project.state.run(record.table, record.run)
    if done is None or done.status != "undone":
        return None
    totals = RunTotals(state).poll(replace(done, status=UNDOING))
    name = object_key(record.table, record.run, NOT_RESTORED_FILE)
    left = project.storage.read(name) if totals.journal.records else b""
    lines = [orjson.loads(line) for line in (left or b"").splitlines()]
    report = replace(report_of(done), counts=totals.counts, consumed=totals.units, dead_letters="")
    at, place = max(state.applied(record.table), default=0), project.storage.place(name) if lines else ""
    return UndoReport(report, at, len(lines), place, first_not_restored(lines), partly=done.partly_restored)


def first_not_restored(lines: Sequence[Mapping[str, Any]]) -> tuple[NotRestored, ...]:
    """The first few of the items that an undo has not restored, from their stored lines."""
    return tuple(
        NotRestored(one["key"], tuple(one["attributes"]), one["why"], tuple(one["restored"])) for one in lines[:_SHOWN]
    )


# ---------------------------------------------------------------- the journal


class Checked(NamedTuple):
    """One object of the journal: its number of records, or the reason why it cannot be used."""

    name: str
    records: int = 0
    why: str = ""


@dataclass
class JournalCheck:
    """The required contents of a run's journal, and those that are stored and complete. `faults` describes the first
    few faults."""

    expected: JournalCount = JournalCount()
    whole: JournalCount = JournalCount()
    broken: int = 0  # parts and notes that are missing, truncated, damaged or foreign
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str, number: int = 1) -> None:
        """Count a fault, and keep the first few."""
        self.broken += number
        if len(self.faults) < _SHOWN:
            self.faults.append(what)

    @property
    def is_whole(self) -> bool:
        return not self.broken and self.whole == self.expected


def check_journal(project: Project, record: RunRecord, clock: Callable[[], float] = time.monotonic) -> JournalCheck:
    """Read the journal of all phases of a run, and compare it with the splits' rows. Notifies of the progress."""
    found = JournalCheck()
    by_phase = {each.run: project.state.splits(each.run).by_split(each.splits) for each in phases(record)}
    for claims in by_phase.values():
        for claim in claims.values():
            found.expected = found.expected.plus(expected_journal(claim))
    progress = _Progress(found.expected.objects, project.observer.notify, clock)
    for run, claims in by_phase.items():
        if any(expected_journal(claim).parts for claim in claims.values()):
            _PhaseJournal(project.storage, object_key(record.table, run, JOURNAL), claims, found).check(progress.step)
    return found


def journal_refusal(found: JournalCheck, storage: Storage, record: RunRecord) -> Refused | None:
    """The refusal to undo by an incomplete journal; None if it is complete."""
    if found.is_whole:
        return None
    parts = found.expected.objects
    more = "; ..." if found.broken > len(found.faults) else ""
    return Refused(
        f"the journal of run {record.run} is incomplete: {found.broken:,} of its {parts:,} parts cannot be used "
        f"({'; '.join(found.faults)}{more})",
        where=storage.place(_root(record)),
        hint="nothing was written; restore the objects (older versions of them, where the bucket keeps those, or a "
        "copy) and run the same command again; or "
        + suggest("undo", record.run, partial=True)
        + " restores what the journal still has, and the run is then partly undone",
        run=record.run,
    )


def incomplete_error(found: JournalCheck, storage: Storage, record: RunRecord) -> RunFailed:
    """The error of an undo that was done without some parts of the journal."""
    parts = found.expected.objects
    return RunFailed(
        f"run {record.run} is undone in part: {found.broken:,} of the {parts:,} parts of its journal could not be used",
        where=storage.place(_root(record)),
        hint=restore_or_repair(record),
    )


def _root(record: RunRecord) -> str:
    return f"runs/{folder_of(record.table)}/"


class _PhaseJournal:
    """The journal of one phase."""

    def __init__(self, objects: Storage, prefix: str, claims: Claims, found: JournalCheck) -> None:
        self._objects = objects
        self._prefix = prefix
        self._claims = claims
        self._found = found
        self._there: dict[int, JournalCount] = {}  # by split
        self._whole: dict[int, JournalCount] = {}

    def check(self, step: Callable[[], None]) -> None:
        counted = committed_objects(self._objects.names(self._prefix), self._claims)
        for one in _read_ahead(partial(_checked, self._objects), counted):
            self._add(one)
            step()
        for split in sorted(self._claims):
            self._compare(split, expected_journal(self._claims[split]))

    def _add(self, one: Checked) -> None:
        split = part_of(one.name).split
        single = JournalCount(notes=1) if is_note(one.name) else JournalCount(1, one.records)
        self._there[split] = self._there.get(split, JournalCount()).plus(single)
        if one.why:
            self._found.fault(f"{_shown(one.name)}: {one.why}")
        else:
            self._whole[split] = self._whole.get(split, JournalCount()).plus(single)

    def _compare(self, split: int, wanted: JournalCount) -> None:
        """Compare the counts of a split's row with the stored objects; damaged objects are counted already."""
        there, whole = self._there.get(split, JournalCount()), self._whole.get(split, JournalCount())
        found, names = self._found, f"{_shown(split_prefix(self._prefix, split))}*"
        found.whole = found.whole.plus(whole)
        for kind, many, have in (("parts", wanted.parts, there.parts), ("notes", wanted.notes, there.notes)):
            if have < many:
                which = self._missing(split, many - have) if kind == "parts" else ""
                found.fault(f"{names}: {many - have:,} of {many:,} {kind} missing{which}", many - have)
            elif have > many:
                found.fault(f"{names}: {have:,} {kind} instead of {many:,}", have - many)
        if whole.parts == wanted.parts and whole.records != wanted.records:
            found.fault(f"{names}: {whole.records:,} records instead of {wanted.records:,}")

    def _missing(self, split: int, many: int) -> str:
        """The names of a split's missing parts, or candidates. Only the first few splits are listed again for them."""
        if len(self._found.faults) >= _SHOWN:
            return ""
        names = self._objects.names(split_prefix(self._prefix, split))
        parts = [_shown(name) for name in missing_parts(self._prefix, names, self._claims[split])]
        names_shown = ", ".join(parts[:_SHOWN]) + (", ..." if len(parts) > _SHOWN else "")
        return f" ({'' if len(parts) == many else 'of '}{names_shown})" if names_shown else ""


def _shown(name: str) -> str:
    """A name below the folder of its table's runs."""
    return name.split("/", 2)[2]


def _checked(storage: Storage, name: str) -> Checked:
    try:
        return Checked(name, check(storage, name).records)
    except Unsealed as error:
        return Checked(name, why=str(error))


def _read_ahead(read: Callable[[str], Checked], names: Iterable[str]) -> Iterator[Checked]:
    """The objects in order, several requests in flight."""
    flying: deque[Future[Checked]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="journal") as pool:
        for name in names:
            flying.append(pool.submit(read, name))
            if len(flying) > _AHEAD:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()


class _Progress:
    """Reports the number of objects read every few seconds: a large journal takes minutes."""

    def __init__(self, planned: int, notify: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._planned = planned
        self._notify = notify
        self._clock = clock
        self._notified_at = clock()
        self._read = 0

    def step(self) -> None:
        """Count one object."""
        self._read += 1
        if self._clock() - self._notified_at >= _NOTIFY_SECONDS:
            self._notified_at = self._clock()
            self._notify(f"checking the journal: {self._read:,} of {self._planned:,} parts")
