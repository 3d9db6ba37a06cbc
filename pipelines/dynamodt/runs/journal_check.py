"""Checks that a run's journal is complete, before an undo writes anything.

Each part that the splits' rows count must be stored with a valid seal and belong to this run, and the numbers must be
equal. Every counted object is read once; a phase's rows and a few objects are in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dynamodt.errors import Hint, Refused, RunFailed, suggest
from dynamodt.model.pages import Claim, JournalCount
from dynamodt.model.runs import RunRecord
from dynamodt.state.journal import Unsealed, check
from dynamodt.state.object_keys import (
    JOURNAL,
    Claims,
    expected_journal,
    folder_of,
    is_committed,
    is_note,
    missing_parts,
    object_key,
    part_of,
    split_prefix,
)
from dynamodt.state.runs import phases
from dynamodt.state.storage import Storage

if TYPE_CHECKING:
    from dynamodt.runs.context import Project

_READERS = 10  # as many as a client has connections
_AHEAD = 4 * _READERS
_SHOWN = 3
_NOTIFY_SECONDS = 10.0  # seconds


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
    progress = _Progress(found.expected.parts + found.expected.notes, project.observer.notify, clock)
    for run, claims in by_phase.items():
        if any(expected_journal(claim).parts for claim in claims.values()):
            _Phase(project.storage, object_key(record.table, run, JOURNAL), claims, found).check(progress.step)
    return found


def journal_refusal(found: JournalCheck, storage: Storage, record: RunRecord) -> Refused | None:
    """The refusal to undo by an incomplete journal; None if it is complete."""
    if found.is_whole:
        return None
    parts = found.expected.parts + found.expected.notes
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
    parts = found.expected.parts + found.expected.notes
    return RunFailed(
        f"run {record.run} is undone in part: {found.broken:,} of the {parts:,} parts of its journal could not be used",
        where=storage.place(_root(record)),
        hint=restore_or_repair(record),
    )


def restore_or_repair(record: RunRecord) -> Hint:
    """The next step after an undo that lacked a part of the journal."""
    repair = "; or repair the items by hand, and record which versions are applied: "
    stamp = suggest("stamp", table=record.table, to="N")
    return "restore them, then: " + suggest("undo", record.run) + repair + stamp


def _root(record: RunRecord) -> str:
    return f"runs/{folder_of(record.table)}/"


class _Phase:
    """The journal of one phase."""

    def __init__(self, objects: Storage, prefix: str, claims: Claims, found: JournalCheck) -> None:
        self._objects = objects
        self._prefix = prefix
        self._claims = claims
        self._found = found
        self._there: dict[int, JournalCount] = {}  # by split
        self._whole: dict[int, JournalCount] = {}

    def check(self, step: Callable[[], None]) -> None:
        counted = (name for name in self._objects.names(self._prefix) if _counts(name, self._claims))
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


def _counts(name: str, claims: Claims) -> bool:
    claim: Claim | None = claims.get(part_of(name).split)
    return claim is not None and is_committed(name, claim)


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
