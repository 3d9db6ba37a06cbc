"""The dead letters of a run in the storage, and those that a person accepts.

A dead letter is *outstanding* until a retry has replayed it. An accepted one stays outstanding: no retry replays it,
and the run counts as complete without it. An object in the storage lists the accepted dead letters, as whole parts or
as single keys of a part. It is valid only if the run's record names it.

The text form of a key, in output and on the command line, has the values of its attributes, the partition key first,
separated by commas: `u1`, `u1,7`. Their types are those of the table's key: `7` is a string or a number, and binary
values are in base64. A string with characters that a shell or this form would interpret is a JSON string: `"a, b"`. A
key may also be typed as a JSON object, with plain values or in DynamoDB's JSON: `{"id": "u1", "at": 7}`, `{"id": {"S":
"u1"}, "at": {"N": "7"}}`.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamodt.errors import Refused, UsageError, suggest
from dynamodt.model.runs import Job, RunRecord
from dynamodt.model.tables import Image
from dynamodt.script.codec import key_text, normal_number
from dynamodt.state.object_keys import DEAD, RETRIES, committed_notes, number_of_retry, object_key, stored_lines
from dynamodt.state.runs import Phase, phases, retry_run, unfinished

if TYPE_CHECKING:
    from dynamodt.runs.context import Project
    from dynamodt.state.storage import Storage


Pairs = tuple[tuple[str, str], ...]  # parts and keys (`key_text`)
_NAMED = 3
LOST = "deleted, expired, truncated, or of another run"


class SelectedPart(NamedTuple):
    """A stored part of dead letters, restricted to the keys in `only`; None: all of its keys."""

    name: str
    only: frozenset[str] | None = None


class StoredDeadLetter(NamedTuple):
    """An outstanding dead letter, with its parsed line in the storage."""

    part: SelectedPart
    line: dict[str, Any]
    accepted: bool = False

    @property
    def key(self) -> Image:
        key: Image = self.line["key"]
        return key


class Accepted:
    """The dead letters that a run's record accepts: parts, each as a whole or by some of its keys."""

    def __init__(self, parts: Mapping[str, frozenset[str] | None], items: int = 0) -> None:
        self._parts = parts
        self.items = items

    def all_of(self, part: str) -> bool:
        return part in self._parts and self._parts[part] is None

    def some_of(self, part: str) -> frozenset[str]:
        return self._parts.get(part) or frozenset()

    def has(self, part: str, text: str) -> bool:
        """Whether the dead letter with this key (`key_text`) is accepted."""
        return self.all_of(part) or text in self.some_of(part)

    def keys(self, storage: Storage) -> frozenset[str]:
        """The keys of all of them (`key_text`)."""
        whole = (part for part, keys in self._parts.items() if keys is None)
        read = (key_text(line["key"]) for part in whole for line in stored_lines(storage, part))
        return frozenset(read).union(*(keys for keys in self._parts.values() if keys))

    def pairs(self, parts: Sequence[str]) -> Pairs:
        """The accepted keys in those of these parts that are not accepted as a whole."""
        return tuple((part, text) for part in parts for text in sorted(self.some_of(part)))


def read_list(storage: Storage, name: str) -> dict[str, Any] | None:
    """A list of dead letters that are accepted or replayed; None if it is missing, truncated or of another run."""
    try:
        listed: dict[str, Any] = json.loads(storage.read(name) or b"")
        parts = listed["parts"] if "parts" in listed else listed["dead_letters"]
    except (ValueError, KeyError):
        return None
    of_run = name.split("/")[:3]
    return listed if all(part.split("/")[:3] == of_run for part in parts) else None


def accepted_of(storage: Storage, record: RunRecord) -> Accepted:
    """The dead letters that the record accepts. Raises Refused if a list of them is lost."""
    parts: dict[str, frozenset[str] | None] = {}
    for one in record.accepted:
        listed = read_list(storage, one.file)
        if listed is None:
            what = f"the list of dead letters accepted by {one.by} is gone ({LOST})"
            hint = "undo the run (" + suggest("undo", record.run) + "), and run the command again"
            raise Refused(what, where=storage.place(one.file), hint=hint, run=record.run)
        for part, keys in listed["parts"].items():
            whole = keys is None or (part in parts and parts[part] is None)
            parts[part] = None if whole else frozenset(map(key_text, keys)) | (parts.get(part) or frozenset())
    return Accepted(parts, record.accepted_items)


class Replayed:
    """The parts that the retries of one phase replay, begun or not, with the dead letters that each leaves out; and
    their lists, by name."""

    def __init__(self, storage: Storage, table: str, main: str) -> None:
        self.lists = {name: read_list(storage, name) or {} for name in storage.names(object_key(table, main, RETRIES))}
        self.left_out: dict[str, frozenset[str]] = {}
        for listed in self.lists.values():
            left: dict[str, set[str]] = {part: set() for part in listed.get("dead_letters", ())}
            for part, text in listed.get("left_out", ()):
                left[part].add(text)
            for part, texts in left.items():  # a part may be replayed in turn, some keys by each retry
                self.left_out[part] = frozenset(texts) & self.left_out.get(part, frozenset(texts))

    def outstanding(self, parts: Iterable[str]) -> Iterator[SelectedPart]:
        """The dead letters of these parts that no retry replays."""
        for part in parts:
            if part not in self.left_out:
                yield SelectedPart(part)
            elif self.left_out[part]:
                yield SelectedPart(part, self.left_out[part])


class StoredDeadLetters:
    """The outstanding dead letters of a run; one part at a time is in memory."""

    def __init__(self, project: Project, record: RunRecord, accepted: Accepted | None = None) -> None:
        self._project = project
        self._storage = project.storage
        self._record = record
        self.accepted = accepted_of(self._storage, record) if accepted is None else accepted

    def __iter__(self) -> Iterator[StoredDeadLetter]:
        for part in self.parts():
            yield from dead_letters_of(self._storage, part, self.accepted)

    def parts(self) -> Iterator[SelectedPart]:
        """All outstanding parts, including accepted ones."""
        found = phases(self._record)
        for main in (one for one in found if "/retry" not in one.run):
            replayed = Replayed(self._storage, self._record.table, main.run)
            for phase in (one for one in found if one.run.partition("/retry")[0] == main.run):
                prefix = object_key(self._record.table, phase.run, DEAD)
                yield from replayed.outstanding(committed_parts(self._project, phase, prefix))

    @property
    def replaying(self) -> bool:
        """Whether a retry was stopped before its end. The dead letters that it replays do not count as outstanding."""
        return any(True for _ in self._stopped_retries())

    def replayed_by_stopped_retries(self) -> Iterator[StoredDeadLetter]:
        """The dead letters that a stopped retry transforms again when it continues."""
        for listed in self._stopped_retries():
            left_out = {(part, text) for part, text in listed.get("left_out", ())}
            for part in () if listed.get("confirmed") else listed.get("dead_letters", ()):
                for one in dead_letters_of(self._storage, SelectedPart(part), self.accepted):
                    if (part, key_text(one.key)) not in left_out:
                        yield one

    def _stopped_retries(self) -> Iterator[dict[str, Any]]:
        """The lists of the retries that have not ended."""
        for main in (one for one in phases(self._record) if "/retry" not in one.run):
            replayed = Replayed(self._storage, self._record.table, main.run)
            for name, listed in replayed.lists.items():
                if self._project.state.splits(retry_run(main.run, number_of_retry(name))).is_open(1):
                    yield listed


def committed_parts(project: Project, phase: Phase | Job, prefix: str) -> list[str]:
    """The stored parts below `prefix` of a phase's dead letters (or of the items that an undo has not restored) whose
    pages are committed."""
    claims = project.state.splits(phase.run).by_split(phase.splits)
    return committed_notes(project.storage.names(prefix), claims) if claims else []


def committed_lines(project: Project, phase: Phase | Job, prefix: str) -> Iterator[dict[str, Any]]:
    """The lines of `committed_parts`, without those that are lost."""
    return (line for part in committed_parts(project, phase, prefix) for line in stored_lines(project.storage, part))


def dead_letters_of(storage: Storage, part: SelectedPart, accepted: Accepted) -> Iterator[StoredDeadLetter]:
    """The dead letters of a part, in their order."""
    for line in stored_lines(storage, part.name):
        text = key_text(line["key"])
        if part.only is None or text in part.only:
            yield StoredDeadLetter(part, line, accepted.has(part.name, text))


def keys_to_leave(storage: Storage, part: SelectedPart, accepted: Accepted, wanted: Wanted | None) -> Pairs | None:
    """The part with each of its keys that a retry leaves out: those that are accepted, or that an earlier retry has
    replayed, and all but the `wanted` ones (None: all are wanted). None if it would replay none of them."""
    if accepted.all_of(part.name):
        return None
    if part.only is None and wanted is None and not accepted.some_of(part.name):
        return ()
    taken = {
        key_text(one.key)
        for one in dead_letters_of(storage, part, accepted)
        if not one.accepted and (wanted is None or wanted.typed(one.key))
    }
    texts = dict.fromkeys(key_text(line["key"]) for line in stored_lines(storage, part.name))
    return tuple((part.name, text) for text in texts if text not in taken) if taken else None


def check_known(wanted: Wanted, run: str, table: str) -> None:
    """Raises UsageError for a wanted key that has no dead letter in doubt."""
    if wanted.unknown:
        raise _unknown(run, table, wanted.unknown, (), replaying=False, which="dead letter in doubt")


# ---------------------------------------------------------------- accepting some


class Chosen(NamedTuple):
    """The dead letters that a command accepts, by part (None: all of a part), and their number."""

    parts: dict[str, list[Image] | None]
    items: int

    @property
    def content(self) -> bytes:
        """Their list, as it is stored."""
        return json.dumps({"parts": self.parts}).encode()


def chosen_dead_letters(
    dead_letters: Iterable[StoredDeadLetter], keys: Sequence[str], record: RunRecord, replaying: bool = False
) -> Chosen:
    """The dead letters of these keys or, without keys, all that are outstanding and not accepted yet. They may be none
    if the command that accepted them has died, or if a retry was stopped before its end (`replaying`): the same command
    then continues the run.

    Raises UsageError for a key without a dead letter, Refused if there is none to accept.
    """
    wanted = Wanted(keys)
    parts: dict[str, list[Image]] = {}
    divided: set[str] = set()  # parts with other dead letters
    others: list[str] = []
    for dead_letter in dead_letters:
        part, typed = dead_letter.part, wanted.typed(dead_letter.key)
        takes = not dead_letter.accepted and (bool(typed) or not keys)
        if takes:
            parts.setdefault(part.name, []).append(dead_letter.key)
        if not takes or part.only is not None:
            divided.add(part.name)
        if not typed and not dead_letter.accepted and len(others) < _NAMED:
            others.append(key_typed(dead_letter.key))
    if wanted.unknown:
        raise _unknown(record.run, record.table, wanted.unknown, others, replaying)
    if not parts and not replaying and not (record.accepted and unfinished(record.status)):
        which = ", ".join(keys) + (" is" if len(keys) == 1 else " are") if keys else "its dead letters are"
        what = f"{which} accepted already" if record.accepted else "no dead letter is left to accept"
        hint = suggest("history", table=record.table) + " shows by whom, and why" if record.accepted else ""
        raise Refused(what, where=f"run {record.run}", hint=hint, run=record.run)
    listed = {part: found if part in divided else None for part, found in parts.items()}
    return Chosen(listed, sum(map(len, parts.values())))


class Wanted:
    """The typed keys, parsed for the key attributes of each kind of item that they are compared with."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys
        self._found: set[str] = set()
        self._meant: dict[Shape, dict[str, set[str]]] = {}

    @property
    def unknown(self) -> list[str]:
        return [key for key in self._keys if key not in self._found]

    def typed(self, key: Image) -> frozenset[str]:
        """The typed keys that are equal to this one."""
        shape = shape_of(key)
        if shape not in self._meant:
            meant: dict[str, set[str]] = {}
            self._meant[shape] = meant
            for typed in self._keys:
                if (image := key_meant(typed, shape)) is not None:
                    meant.setdefault(key_text(image), set()).add(typed)
        found = frozenset(self._meant[shape].get(key_text(key), ()))
        self._found |= found
        return found


def _unknown(
    run: str, table: str, unknown: Sequence[str], known: Sequence[str], replaying: bool, which: str = "dead letter"
) -> UsageError:
    number = "1 key has" if len(unknown) == 1 else f"{len(unknown)} keys have"
    named = ", ".join(unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
    first = "a retry was stopped before its end, and replays its dead letters first: "
    onward = first + suggest("retry", run) + "; " if replaying else ""
    some = f"some that have one: {', '.join(known)}; all of them: " if known else "those that have one: "
    return UsageError(
        f"{number} no {which} in run {run}: {named}",
        where=f"table {table}",
        hint=onward + (some + suggest("show", run, keys=True)),
    )


# ---------------------------------------------------------------- the text form of a key


Shape = tuple[tuple[str, str], ...]  # the attributes of a key, with their types
_PLAIN = re.compile(r"\w[\w.:/@#+=%~-]*")


def shape_of(key: Image) -> Shape:
    """The attributes of a key, with their types."""
    return tuple((name, kind) for name, value in key.items() for kind in value)


def key_typed(key: Image) -> str:
    """The key in the form that `key_meant` reads; an empty key, as of a malformed line of an export, is `{}`."""
    return ",".join(_value_typed(kind, raw) for value in key.values() for kind, raw in value.items()) or "{}"


def key_meant(text: str, shape: Shape) -> Image | None:
    """The key with these attributes that a text stands for; None if the text is not such a key."""
    try:
        if text.startswith("{"):
            return _of_object(json.loads(text, parse_float=Decimal, parse_int=Decimal), shape)
        values = list(_values(text)) if len(shape) > 1 or text.startswith('"') else [text]
        if len(values) != len(shape):
            return None
        return {name: {kind: _check_value(kind, raw)} for (name, kind), raw in zip(shape, values, strict=True)}
    except (ValueError, InvalidOperation, binascii.Error):
        return None


def _value_typed(kind: str, raw: Any) -> str:
    if kind != "S" or _PLAIN.fullmatch(raw):
        return str(raw)
    return json.dumps(raw, ensure_ascii=not raw.isprintable()).replace("##", "#\\u0023")


def _values(text: str) -> Iterator[str]:
    """The values in a text; a quoted value may contain commas. Raises ValueError."""
    position = 0
    while True:
        if text.startswith('"', position):
            value, position = json.JSONDecoder().raw_decode(text, position)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            value, position = text[position:end], end
        yield value
        if position == len(text):
            return
        if text[position] != ",":
            raise ValueError(text)
        position += 1


def _of_object(found: dict[str, Any], shape: Shape) -> Image | None:
    if found.keys() != {name for name, _ in shape}:
        return None
    return {name: {kind: _check_value(kind, _raw(kind, found[name]))} for name, kind in shape}


def _raw(kind: str, value: Any) -> str:
    """A value of a JSON object in DynamoDB's JSON. Raises ValueError for a value of another type."""
    if isinstance(value, dict) and value.keys() == {kind} and isinstance(value[kind], str):
        return str(value[kind])
    if isinstance(value, Decimal if kind == "N" else str):
        return str(value)
    raise ValueError(value)


def _check_value(kind: str, raw: str) -> str:
    if kind == "N":
        normal_number(raw)
    if kind == "B":
        b64decode(raw, validate=True)
    return raw
