"""The contents of `show`: one run's phases, and its dead letters grouped by error.

The dead letters are read one part at a time. For each group only its count, its first example and its first keys are
kept, so that memory does not grow with the number of dead letters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.errors import Refused
from dynamodt.model.pages import Counts, Totals, Units
from dynamodt.model.runs import Lease, RunRecord
from dynamodt.runs.control import find_run, run_states
from dynamodt.runs.dead_letters import has_lost_dead_letters, lost_dead_letters
from dynamodt.runs.history import goal
from dynamodt.runs.resume import find_reopened
from dynamodt.runs.stored_dead_letters import Accepted, StoredDeadLetter, StoredDeadLetters, key_typed
from dynamodt.state.runs import Phase, phases, undo_phases, unfinished
from dynamodt.state.split_rows import sum_of
from dynamodt.state.state import State

if TYPE_CHECKING:
    from dynamodt.runs.context import Project


MOST_KEYS, MOST_GROUPS = 100, 50
_OTHERS = "other errors"
_FRAME = re.compile(r'^  File "(?P<path>[^"\n]*)", line (?P<line>\d+)(?:, in (?P<name>.*))?$', re.MULTILINE)
_OF_AN_AUTHOR = re.compile(r"(?:^|/)transforms/(?!.*site-packages)")
_NAMES_ATTRIBUTES = ("KeyError", "AttributeError", "NameError", "ImportError", "ModuleNotFoundError")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_UUID = r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
_DIGITS = re.compile(
    rf"\b0x[0-9a-fA-F]+\b|{_UUID}|(?P<name>\b[A-Za-z]+\d{{1,3}}\b)|\d+(?:\.\d+)?"  # of names such as S3, utf8, sha256
)
_LEAST_OF_A_KEY, _LEAST_UNQUOTED = 2, 3  # shorter values occur in prose, too
_ANY = "…"


class PhaseShown(NamedTuple):
    """A phase that has begun: its name, its number of splits, and its totals."""

    name: str
    splits: int
    totals: Totals


class Frame(NamedTuple):
    """A line of the author's code in the traceback of an error."""

    path: str
    line: int
    function: str


class Example(NamedTuple):
    """One dead letter: its key as it is typed, and its error with the author's part of the traceback."""

    key: str
    error: str
    frames: tuple[Frame, ...]
    traceback: str


@dataclass(slots=True)
class ErrorGroup:
    """Dead letters of one step and one error, regardless of values in its message. `keys` are the first ones."""

    step: str
    error: str
    first: Example
    items: int = 0
    accepted: int = 0
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One run. `counts` and `status` are the present ones; `groups` has the most frequent error first; `stored` is the
    number of dead letters that are still in the storage."""

    record: RunRecord
    status: str
    counts: Counts
    phases: tuple[PhaseShown, ...]
    groups: tuple[ErrorGroup, ...]
    stored: int
    holder: Lease | None = None
    budget: Units = Units()
    final: str = ""  # why its dead letters cannot be replayed any more

    @property
    def totals(self) -> Totals:
        """The totals of all phases except those of an undo."""
        return sum_of(phase.totals for phase in self.phases if "undo" not in phase.name)


def details(project: Project, tables: Sequence[str], run: str) -> RunDetails:
    """The details of a run of these tables. Raises UsageError for a run that does not exist, ServiceError."""
    state = project.state
    record = find_run(project, tables, run)
    seen = next((one for one in run_states(state, record.table) if one.record.run == record.run), None)
    record = seen.record if seen is not None else record
    status, counts = (seen.status, seen.counts) if seen is not None else (record.status, record.counts)
    holder = seen.holder if seen is not None else None
    budget = Units(rcu=holder.rcu, wcu=holder.wcu) if holder is not None else record.budget
    groups, final = _dead_letters(project, record) if counts.dead else ((), "")
    stored = sum(group.items for group in groups)
    return RunDetails(record, status, counts, tuple(_begun(state, record)), groups, stored, holder, budget, final)


def _dead_letters(project: Project, record: RunRecord) -> tuple[tuple[ErrorGroup, ...], str]:
    """The groups of a run's dead letters, and why they cannot be replayed. If a list of accepted ones is lost, none is
    shown as accepted."""
    try:
        found = StoredDeadLetters(project, record)
    except Refused as lost:
        return grouped(StoredDeadLetters(project, record, Accepted({}))), lost.what
    return grouped(found), _final(project, record)


def _final(project: Project, record: RunRecord) -> str:
    state = project.state
    try:
        find_reopened(state, record.table, record.run, state.applied(record.table))
    except Refused as refused:
        return refused.what
    replayed = unfinished(record.status) or record.tolerated
    lost = replayed and has_lost_dead_letters(project, record)
    return lost_dead_letters(record, project.storage, goal(record)).what if lost else ""


def keys_of(project: Project, tables: Sequence[str], run: str) -> Iterator[str]:
    """The keys of all dead letters that are neither replayed nor accepted, in the form of `retry --accept`."""
    dead_letters = StoredDeadLetters(project, find_run(project, tables, run))
    return (key_typed(dead_letter.key) for dead_letter in dead_letters if not dead_letter.accepted)


# ---------------------------------------------------------------- phases


def _begun(state: State, record: RunRecord) -> Iterator[PhaseShown]:
    yield from _shown(state, record, phases(record))
    for number in count(1):
        found = list(_shown(state, record, undo_phases(record, number)))
        if not found:
            return
        yield from found


def _shown(state: State, record: RunRecord, found: Iterable[Phase]) -> Iterator[PhaseShown]:
    for phase in found:
        claims = list(state.splits(phase.run).all(phase.splits))
        if claims:
            name = phase.run.removeprefix(record.run).strip("/").replace("/", " ")
            yield PhaseShown(name or "main", phase.splits, sum_of(claim.totals for claim in claims))


# ---------------------------------------------------------------- dead letters


def grouped(dead_letters: Iterable[StoredDeadLetter]) -> tuple[ErrorGroup, ...]:
    """Dead letters by step, error and the author's line, the most frequent first. From the 51st different error on, all
    others are one group."""
    groups: dict[tuple[str, ...], ErrorGroup] = {}
    for dead_letter in dead_letters:
        line = dead_letter.line
        error, frames = normalised(line), frames_of(line["traceback"])
        place: tuple[str, ...] = (line["step"], error, str(frames[-1:]))
        if place not in groups and len(groups) >= MOST_GROUPS:
            place, error = (_OTHERS,), _OTHERS
        if place not in groups:
            first = Example(key_typed(dead_letter.key), line["error"], frames, line["traceback"])
            groups[place] = ErrorGroup(line["step"] if len(place) > 1 else "", error, first)
        _count(groups[place], dead_letter)
    return tuple(sorted(groups.values(), key=lambda group: -group.items))


def _count(group: ErrorGroup, dead_letter: StoredDeadLetter) -> None:
    group.items += 1
    group.accepted += dead_letter.accepted
    if not dead_letter.accepted and len(group.keys) < MOST_KEYS:
        group.keys.append(key_typed(dead_letter.key))


def frames_of(traceback: str) -> tuple[Frame, ...]:
    """The frames of files under `transforms/`."""
    found = (match for match in _FRAME.finditer(traceback) if _OF_AN_AUTHOR.search(match["path"]))
    return tuple(Frame(match["path"], int(match["line"]), match["name"] or "") for match in found)


def normalised(line: Mapping[str, Any]) -> str:
    """A dead letter's error without the parts that vary between items: the item's values, numbers that are not part of
    a name such as S3, and quoted texts, except those that name an attribute (`KeyError: 'price'`)."""
    error: str = line["error"]
    key, image = (set(_values(line[name])) for name in ("key", "image"))
    values, names = key | image, error.startswith(_NAMES_ATTRIBUTES)

    def quoted(found: re.Match[str]) -> str:
        mark = found[0][0]
        return found[0] if names and found[0][1:-1] not in values else f"{mark}{_ANY}{mark}"

    error = _QUOTED.sub(quoted, error)
    unquoted = {one for one in values if len(one) >= (_LEAST_OF_A_KEY if one in key else _LEAST_UNQUOTED)}
    for value in sorted((one for one in unquoted if one in error), key=len, reverse=True):
        error = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _ANY, error)
    return _DIGITS.sub(lambda found: found["name"] or "N", error)


def _values(image: Any) -> Iterator[str]:
    """The texts and numbers in an image, including those within maps and lists."""
    if isinstance(image, str):
        yield image
    elif isinstance(image, dict):
        for value in image.values():
            yield from _values(value)
    elif isinstance(image, list):
        for value in image:
            yield from _values(value)
