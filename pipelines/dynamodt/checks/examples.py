"""Converts faults to findings (faults or warnings), each with the smallest item that shows it, with replaced values;
and reads and writes a table's saved sample, `transforms/TABLE/sample.jsonl`.

A finding about an item of the sample is a fault, since it would occur in a run. A finding about variants only is a
warning, unless the version never returns.

Replaced values have the same shapes, types and lengths, and contain no real data. Equal words stay equal and different
ones different, over all items of one `Replacer`, so that keys stay unique and references between items stay valid, also
a reference to a part of a text. Letters become letters, digits become digits, dates become dates; other characters
stay. Values that scripts compare with stay: the values of an attribute that has only a few (a type, a status, a
country), the first word of an attribute's texts if at least half of them share it (`USER#17`), numbers of one digit,
booleans and NULL.

A sample has items for tests, one a line in DynamoDB's JSON. `dynamodt check --save` writes it; `check --items` and
`pytest --dynamodt` read it. Lines of an export in S3, `{"Item": {...}}`, are read, too, and files compressed with gzip.
A line that DynamoDB could not have returned is refused with its number, since a test with a mistyped item proves
nothing. The first line may give the items' version, `{"dynamodt_sample": {"version": 3}}`: the versions up to this one
have been applied to them.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import secrets
import zlib
from base64 import b64decode, b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, Final

from dynamodt.errors import ItemError, UsageError
from dynamodt.model.reports import Fault, Finding, Level, Shown
from dynamodt.model.tables import AttributeValue, Image, TableSpec
from dynamodt.script.codec import decode, encode, same_image
from dynamodt.script.diff import key_of
from dynamodt.script.names import SAMPLE_FILE, is_run_id

_MOST_SHRUNK = 8  # findings whose items are made smaller
_MOST_WARNINGS = 8  # of variants
_RAISING: Final = ("raises", "values", "key", "index keys", "size")

FaultsOf = Callable[[Image], list[Fault]]  # of one item


@dataclass
class SeenFault:
    """A kind of fault, the first item that shows it, and the number of items of the sample that show it. For a variant,
    `why` is its difference from the item `base`. `invented`: the fault's images have replaced values."""

    fault: Fault
    image: Image
    items: int = 0
    why: str = ""
    invented: bool = False
    base: Image = field(default_factory=dict)


@dataclass(frozen=True)
class Judge:
    """Converts faults to findings. `faults_of` applies the version to one item again; `doubtful`: the version was tried
    without its prepared data, or on derived items, so that its errors are warnings."""

    table: TableSpec
    faults_of: FaultsOf
    doubtful: bool

    def findings(self, met: Iterable[SeenFault], sample: Iterable[Image]) -> Iterator[Finding]:
        """The findings, the gravest first, at most eight of them about variants only."""
        replacer = Replacer(sample)
        order = ("fault", "warning", "note")
        ranked = sorted(met, key=lambda one: (order.index(self._level(one)), -one.items))
        of_variants = 0
        for number, one in enumerate(ranked):
            of_variants += not one.items
            if of_variants > _MOST_WARNINGS:
                return
            fault, shown = self._smallest(one, replacer) if number < _MOST_SHRUNK else self._as_it_is(one)
            where = f", where {one.why}" if one.why and fault.name in (*_RAISING, "hangs") else ""
            yield Finding(self._level(one), fault.name, fault.what + where, fault.hint, fault.where, one.items, shown)

    def _level(self, met: SeenFault) -> Level:
        name = met.fault.name
        seen = met.items or name == "hangs"
        doubtful = self.doubtful and name in (*_RAISING, "reversible", "idempotent")
        return "fault" if met.fault.grave and seen and not doubtful else "warning"

    def _as_it_is(self, met: SeenFault) -> tuple[Fault, Shown | None]:
        images = met.fault.images or ((("item", met.image),) if met.image else ())
        return met.fault, self._shown(met, images, met.invented) if images else None

    def _shown(self, met: SeenFault, images: tuple[tuple[str, Image], ...], invented: bool) -> Shown:
        of = met.base or (met.image if met.items else {})
        return Shown(images, self.table.key_names, invented, key_of(self.table, of) if of else {}, not met.items)

    def _smallest(self, met: SeenFault, replacer: Replacer) -> tuple[Fault, Shown | None]:
        """The fault of the smallest item that shows it, and this item; its values are replaced if it still shows the
        fault."""
        kind, keys = met.fault.kind, self.table.key_names
        if met.fault.name == "hangs" or not self._shows(met.image, kind):
            return self._as_it_is(met)
        small = smallest_item(met.image, keys, lambda image: self._shows(image, kind))
        other = replacer.image(small)
        invented = self._shows(other, kind)
        shown = other if invented else small
        fault = next((fault for fault in self.faults_of(shown) if fault.kind == kind), None)
        if fault is None:  # the version keeps state between items
            return self._as_it_is(met)
        return fault, self._shown(met, fault.images or (("item", shown),), invented)

    def _shows(self, image: Image, kind: str) -> bool:
        has_key = all(attribute.type in image.get(attribute.name, {}) for attribute in self.table.key)
        return has_key and any(fault.kind == kind for fault in self.faults_of(image))


# ---------------------------------------------------------------- the smallest item


_MOST_TRIES = 300


def smallest_item(image: Image, keeps: tuple[str, ...], shows: Callable[[Image], bool]) -> Image:
    """The smallest item that still `shows` the fault, found by removing parts; the attributes in `keeps` stay
    unchanged. Greedy, with at most 300 tries."""
    tries = 0
    changed = True
    while changed:
        changed = False
        for candidate in _smaller(image, keeps):
            tries += 1
            if tries > _MOST_TRIES:
                return image
            if shows(candidate):
                image, changed = candidate, True
                break
    return image


def _smaller(image: Image, keeps: tuple[str, ...]) -> Iterator[Image]:
    """Items that are one step smaller, the largest steps first."""
    free = [name for name in image if name not in keeps]
    if len(free) > 2:
        half = len(free) // 2
        for part in (free[:half], free[half:]):
            yield {name: value for name, value in image.items() if name not in part}
    for name in free:
        yield {other: value for other, value in image.items() if other != name}
    for name in free:
        for value in _smaller_values(image[name]):
            yield {**image, name: value}


def _smaller_values(value: AttributeValue) -> Iterator[AttributeValue]:
    ((kind, raw),) = value.items()
    if kind == "M":
        yield from ({kind: {k: v for k, v in raw.items() if k != name}} for name in raw)
        yield from ({kind: {**raw, name: inner}} for name in raw for inner in _smaller_values(raw[name]))
    elif kind == "L":
        yield from ({kind: part} for part in _parts(raw))
        yield from (
            {kind: [*raw[:n], inner, *raw[n + 1 :]]} for n in range(len(raw)) for inner in _smaller_values(raw[n])
        )
    elif kind in ("SS", "NS", "BS") and len(raw) > 1:
        yield from ({kind: part} for part in _parts(raw) if part)
    elif kind == "S" and len(raw) > 1:
        yield from ({kind: text} for text in (raw[: len(raw) // 2], raw[len(raw) // 2 :], raw[1:], raw[:-1]))


def _parts(raw: list[Any]) -> Iterator[list[Any]]:
    if len(raw) > 3:
        yield raw[: len(raw) // 2]
        yield raw[len(raw) // 2 :]
    yield from (raw[:n] + raw[n + 1 :] for n in range(len(raw)))


# ---------------------------------------------------------------- replaced values


_MOST_WORDS = 20  # of an attribute that has only a few
_ITEMS_PER_WORD = 5
_LONGEST_WORD = 24
_PIECE = re.compile(r"[^\W_]+|[\W_]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_TRIES = 1000


class Replacer:
    """Replaces the values of items; the words that stay are determined from these items first. `salt` determines the
    replacements; it is random, so that values cannot be found by trying."""

    def __init__(self, images: Iterable[Image], salt: str = "") -> None:
        texts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for image in images:
            for path, text in _texts("", {"M": image}):
                texts[path][text] += 1
        self._words = {text for found in texts.values() if _are_words(found) for text in found}
        self._first = {word for found in texts.values() for word in _shared_beginning(found)}
        self._salt = salt or secrets.token_hex(16)
        self._made: dict[tuple[str, str], str] = {}
        self._taken: set[tuple[str, str]] = set()

    def image(self, image: Image) -> Image:
        """The item with its values replaced."""
        return {name: self.value(value) for name, value in image.items()}

    def value(self, value: AttributeValue) -> AttributeValue:
        """One attribute value, replaced in depth; the names in a map stay."""
        ((kind, raw),) = value.items()
        if kind == "M":
            return {kind: self.image(raw)}
        if kind == "L":
            return {kind: [self.value(inner) for inner in raw]}
        if kind in ("SS", "NS", "BS"):
            return {kind: sorted(self._scalar(kind[0], one) for one in raw)}
        return {kind: self._scalar(kind, raw)} if kind in ("S", "N", "B") else value

    def _scalar(self, kind: str, raw: str) -> str:
        if kind != "S" or _DATE.fullmatch(raw):
            return self._replaced("date" if kind == "S" else kind, raw)
        if raw in self._words or is_run_id(raw):  # the STAMP of a version, which must stay one
            return raw
        pieces: list[str] = _PIECE.findall(raw)
        keeps = len(pieces) > 1 and pieces[0] in self._first
        return "".join(
            piece if (keeps and not number) or not piece[0].isalnum() else self._replaced(kind, piece)
            for number, piece in enumerate(pieces)
        )

    def _replaced(self, kind: str, raw: str) -> str:
        """The replacement of a word, a date, a number or a binary: equal for equal values, different for different
        ones."""
        if (kind, raw) not in self._made:
            found = next(text for text in self._candidates(kind, raw) if (kind, text) not in self._taken)
            self._made[kind, raw] = found
            self._taken.add((kind, found))
        return self._made[kind, raw]

    def _candidates(self, kind: str, raw: str) -> Iterator[str]:
        make = {"S": _letters, "date": _date, "N": _number, "B": _binary}[kind]
        for number in count():
            seed = hashlib.sha256(f"{self._salt} {kind} {number} {raw}".encode("utf-8", "surrogatepass")).digest()
            made = make(raw, random.Random(seed))
            # only a few values have this length: further ones are longer
            yield made if number < _TRIES else _longer(kind, made, number)


def _longer(kind: str, made: str, number: int) -> str:
    if kind == "B":
        return b64encode(b64decode(made) + number.to_bytes(4, "big")).decode()
    if kind == "date":
        return made if number % 2 else f"{made[:2]}{number % 100:02}{made[4:]}"
    return f"{made}{number}" if kind == "S" or "E" not in made.upper() else f"{number}"


def _texts(path: str, value: AttributeValue) -> Iterator[tuple[str, str]]:
    """The texts in a value, with their paths."""
    ((kind, raw),) = value.items()
    if kind == "M":
        for name, inner in raw.items():
            yield from _texts(f"{path}.{name}", inner)
    elif kind == "L":
        for inner in raw:
            yield from _texts(f"{path}[]", inner)
    elif kind in ("S", "SS"):
        yield from ((path, text) for text in ([raw] if kind == "S" else raw))


def _are_words(found: Counter[str]) -> bool:
    """Whether an attribute has only a few values, each in many items."""
    short = all(len(text) <= _LONGEST_WORD and not _DATE.fullmatch(text) for text in found)
    return short and len(found) <= min(_MOST_WORDS, found.total() // _ITEMS_PER_WORD)


def _shared_beginning(found: Counter[str]) -> list[str]:
    """The first word of an attribute's texts, if at least half of them begin with it."""
    first: Counter[str] = Counter()
    for text, number in found.items():
        pieces = _PIECE.findall(text)
        if len(pieces) > 1 and pieces[0].isalpha():
            first[pieces[0]] += number
    return [word for word, number in first.items() if number > 1 and 2 * number >= found.total()]


def _letters(text: str, dice: random.Random) -> str:
    """A text of the same length, of the same kinds of characters and of the same number of bytes."""
    return "".join(_character(c, dice) for c in text)


def _character(c: str, dice: random.Random) -> str:
    if "0" <= c <= "9":
        return dice.choice("0123456789")
    if not c.isascii():
        return _other(c, dice)
    return dice.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c.isupper() else "abcdefghijklmnopqrstuvwxyz")


def _other(c: str, dice: random.Random) -> str:
    """Another letter with the same number of bytes in UTF-8; other characters stay."""
    first, last = {2: (0xE0, 0xF6), 3: (0x4E00, 0x9FA5), 4: (0x20000, 0x2A6D6)}[len(c.encode("utf-8", "replace"))]
    return chr(dice.randint(first, last)) if c.isalpha() else c


def _date(text: str, dice: random.Random) -> str:
    """Another valid date of the same form: the last digits of the year, the month, the day and the time are drawn
    anew."""
    day = f"{text[:2]}{dice.randint(0, 29):02}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
    return day + re.sub(r"\d", lambda digit: str(dice.randint(0, min(int(digit[0]), 9))), text[10:16]) + text[16:]


def _number(raw: str, dice: random.Random) -> str:
    """A number with the same number of digits, and its sign and point unchanged. A single digit stays."""
    plain = raw.lstrip("-")
    if len(plain) == 1 or "E" in raw.upper() or not Decimal(raw):
        return raw
    return "".join(str(dice.randint(1, 9)) if c.isdigit() and c != "0" else c for c in raw)


def _binary(raw: str, dice: random.Random) -> str:
    return b64encode(dice.randbytes(len(b64decode(raw)))).decode()


# ---------------------------------------------------------------- a saved sample

_HEAD = "dynamodt_sample"
_GZIP = b"\x1f\x8b"
_FORM = '{"id": {"S": "u1"}, "amount": {"N": "7"}}'


def sample_path(transforms: Path, table: str) -> Path:
    """The path of a table's saved sample; `table` is the name of its folder."""
    return transforms / table / SAMPLE_FILE


def read_images(path: Path) -> Iterator[Image]:
    """The items of a file, one at a time. Raises UsageError for a file that cannot be read, and for a line that is not
    an item."""
    for number, line in _lines(path):
        if _version(line) is None:
            yield _image(line, f"{path}:{number}")


def version_of(path: Path) -> int | None:
    """The version of the items of a file; None if the file does not give it. Raises UsageError for a file that cannot
    be read."""
    return next((_version(line) for _, line in _lines(path)), None)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers."""
    try:
        with path.open("rb") as file:
            is_compressed = file.read(2) == _GZIP
            file.seek(0)
            lines: Iterable[bytes] = gzip.GzipFile(fileobj=file) if is_compressed else file
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        hint = "Name a file of items, one a line in DynamoDB's JSON."
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot be read: {reason}", where=str(path), hint=hint) from error


def _version(line: bytes) -> int | None:
    """The version in a first line; None for any other line."""
    try:
        version = json.loads(line)[_HEAD]["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if type(version) is int and version >= 0 else None


def _image(line: bytes, where: str) -> Image:
    try:
        value = json.loads(line)
        image: Any = value["Item"] if list(value) == ["Item"] and _is_untyped(value["Item"]) else value
        if image and same_image(image, encode(decode(image))):
            return dict(image)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, ItemError):
        pass
    raise UsageError("is not an item in DynamoDB's JSON", where=where, hint=f"Write one item per line: {_FORM}")


def _is_untyped(value: dict[str, Any]) -> bool:
    """Whether a value is an item rather than an attribute's value, `{"S": ...}`."""
    return all(isinstance(inner, dict) for inner in value.values()) and not ("M" in value and len(value) == 1)


def sample_text(images: Iterable[Image], version: int | None = None) -> str:
    """The text of a file with these items and their version; equal items give an equal text."""
    head = [] if version is None else [f"{json.dumps({_HEAD: {'version': version}})}\n"]
    lines = (json.dumps(image, ensure_ascii=False, sort_keys=True) for image in images)
    return "".join([*head, *(f"{line}\n" for line in lines)])
