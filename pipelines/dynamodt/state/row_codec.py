"""The codec of all rows of the state table, and writes that are numbered.

The codec turns a NamedTuple or dataclass into the attributes of a row, and back. Text, whole numbers and booleans are
attributes of their own; other numbers are text, so that no digit is lost; a value with parts is JSON, in which a
NamedTuple is the list of its fields. A field whose attribute is missing takes its default, and an attribute without a
field is ignored: a release that adds a field with a default reads older rows, and an older release reads newer ones.
Any other change raises `SCHEMA`, and an older release then refuses the row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from dynamodt.errors import Refused
from dynamodt.model import tables
from dynamodt.model.tables import Item

if TYPE_CHECKING:
    from dynamodt.state.state import Rows


RowKey = tuple[str, str]  # pk, sk


class ConditionFailed(Exception):
    """A row did not meet its writer's condition."""


def write_once(rows: Rows, key: RowKey, row: Item, condition: str, **values: Any) -> Item:
    """`Rows.update` for a row whose writes are numbered: `row` holds this write's number, and `condition` is true only
    until the write is applied. Returns the row after the write.

    A request may be executed twice, or long after it was sent, by the endpoint or by a client that retries after a lost
    response. A late request finds a higher number and is refused. A retry whose first request was executed is refused,
    too; the row then has its number and content, and the write has succeeded. Raises ConditionFailed for any other
    refusal.
    """
    try:
        return rows.update(key, row, condition, **values)
    except ConditionFailed:
        found = rows.get(key) or {}
        if any(name not in found or found[name] != value for name, value in row.items()):
            raise
        return found


SCHEMA: Final = 1  # of every row that `to_row` makes
_SCALARS: Final = (str, int, bool, float)
_ATTRIBUTES: Final = {"token": "lease_token", "number": "granted"}  # where DynamoDB reserves the field's name
Stored = TypeVar("Stored")


class _Field(NamedTuple):
    """A field of a stored type: its attribute, and how a value becomes that attribute and comes back."""

    attribute: str
    store: Callable[[Any], Any]
    build: Callable[[Any], Any]


_known: dict[Any, dict[str, _Field]] = {}  # the fields of each stored type, in their order


def to_row(value: Any) -> dict[str, Any]:
    """All fields of a NamedTuple or dataclass as attributes, with the version of the schema."""
    kind = type(value)
    return {"schema": SCHEMA, **attributes(kind, **{name: getattr(value, name) for name in _fields(kind)})}


def attributes(kind: type, **values: Any) -> dict[str, Any]:
    """Some fields of a `kind`, as attributes of its row: `attributes(Claim, page=3, counts=Counts(read=9))` is
    `{"page": 3, "counts": "[9, 0, 0, 0, 0, 0]"}`."""
    fields = _fields(kind)
    return {fields[name].attribute: fields[name].store(value) for name, value in values.items()}


def from_row(kind: type[Stored], row: Mapping[str, Any], where: str) -> Stored:
    """The `kind` whose attributes a row has. Raises Refused, at `where`, if a newer release has written the row."""
    check_schema(row, where)
    return kind(**{name: build(row[stored]) for name, (stored, _, build) in _fields(kind).items() if stored in row})


def value_in(kind: type, name: str, row: Mapping[str, Any]) -> Any:
    """A field of a `kind`, whose other attributes a row may lack; None if it lacks this one, too."""
    stored, _, build = _fields(kind)[name]
    return build(row[stored]) if stored in row else None


def check_schema(row: Mapping[str, Any], where: str) -> None:
    """Raises Refused if a row's schema is newer than this release reads. A row without a version has schema 1."""
    version = int(row.get("schema", 1))
    if version > SCHEMA:
        named = f" (row {row['pk']}, {row['sk']})" if "pk" in row else ""
        raise Refused(
            f"was written by a newer dynamodt: its schema has version {version}, and this one reads up to {SCHEMA}",
            where=f"{where}{named}",
            hint="install the release that wrote it, or a newer one: pip install --upgrade dynamodt",
        )


def _fields(kind: Any) -> dict[str, _Field]:
    if kind not in _known:
        _known[kind] = {name: _field(name, hint) for name, hint in _hints(kind).items()}
    return _known[kind]


def _hints(kind: Any) -> dict[str, Any]:
    """The type of each field. Names that `kind`'s module imports only for annotations are resolved in
    `model.tables`."""
    return get_type_hints(kind, localns=vars(tables))


def _field(name: str, hint: Any) -> _Field:
    """Storage of a field, by its type: a float as its shortest exact text, since DynamoDB's numbers are decimal; text,
    int and bool as they are; anything with parts as JSON."""
    attribute, build = _ATTRIBUTES.get(name, name), _builder(hint)
    if hint is float:
        return _Field(attribute, lambda value: repr(float(value)), build)
    if hint in _SCALARS or get_origin(hint) is Literal:
        return _Field(attribute, _unchanged, build)
    return _Field(attribute, json.dumps, lambda text: build(json.loads(text)))


def _builder(hint: Any) -> Callable[[Any], Any]:
    """The function that converts a JSON value to its type. A value of a union of several types is left as it is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        kinds = [kind for kind in arguments if kind is not NoneType]
        inner = _builder(kinds[0]) if len(kinds) == 1 else _unchanged
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        member = _builder(arguments[0]) if arguments[-1] is Ellipsis else _unchanged
        return lambda value: tuple(map(member, value))
    if hasattr(hint, "_fields"):  # a NamedTuple: fields that are missing at its end take their defaults
        builders = [_builder(inner) for inner in _hints(hint).values()]
        return lambda value: hint(*[build(one) for build, one in zip(builders, value, strict=False)])
    return hint if hint in _SCALARS else _unchanged


def _unchanged(value: Any) -> Any:
    return value
