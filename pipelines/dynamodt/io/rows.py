"""Items as rows of a schema (a NamedTuple type, or names with types), and rows as items."""

from __future__ import annotations

import struct
import types
from collections.abc import Callable, Mapping, Sequence, Set
from decimal import Context, Decimal
from functools import partial
from numbers import Integral, Real
from typing import Any, Union, get_args, get_origin, get_type_hints

import apache_beam as beam
from apache_beam import coders
from apache_beam.typehints.row_type import RowTypeConstraint

from dynamodt.errors import ItemError, UsageError
from dynamodt.model.tables import Item

_FORMS = 'a NamedTuple type, or [("id", str), ("age", Optional[int])]'


class Schema:
    """The fields of rows. Raises UsageError for anything but a NamedTuple type, or pairs of a name and a type."""

    def __init__(self, given: Any) -> None:
        self._type = given if isinstance(given, type) and issubclass(given, tuple) else None
        fields = _fields(given)
        if not fields:
            raise UsageError(f"schema is {given!r}", where="dynamodt.io", hint=f"give {_FORMS}")
        self.fields: tuple[tuple[str, Any], ...] = fields

    @property
    def element_type(self) -> Any:
        """The element type of the rows' PCollection; a NamedTuple gets Beam's row coder."""
        if self._type is None:
            return RowTypeConstraint.from_fields(list(self.fields))
        coders.registry.register_coder(self._type, coders.RowCoder)
        return self._type

    def reader(self) -> Callable[[Item], Any]:
        """The function that makes a row from an item. It raises ItemError for an attribute that is missing, or of
        another type."""
        return _reader(self._type or beam.Row, self.fields)


def _reader(made: Callable[..., Any], given: Sequence[tuple[str, Any]]) -> Callable[[Item], Any]:
    fields = [(name, *_of(kind)) for name, kind in given]

    def row(item: Item) -> Any:
        found: dict[str, Any] = {}
        for name, optional, convert in fields:
            value = item.get(name)
            if value is None:
                if not optional:
                    raise ItemError("is missing, and not optional", where=name, hint=f"{name}: Optional[...]")
                found[name] = None
            else:
                found[name] = _convert(convert, name, value)
        return made(**found)

    return row


def _fields(given: Any) -> tuple[tuple[str, Any], ...]:
    if isinstance(given, RowTypeConstraint):
        return tuple((name, kind) for name, kind in given._fields)
    if isinstance(given, type) and issubclass(given, tuple) and hasattr(given, "_fields"):
        hints = get_type_hints(given)
        return tuple((name, hints.get(name, Any)) for name in given._fields)
    if isinstance(given, Sequence) and not isinstance(given, str):
        pairs = [tuple(pair) if isinstance(pair, Sequence) else () for pair in given]
        if all(len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
            return tuple(pairs)
    return ()


def _of(kind: Any) -> tuple[bool, Callable[[Any], Any]]:
    """Whether a field may be None, and the function that makes its value."""
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [one for one in get_args(kind) if one is not type(None)]
        return len(kinds) < len(get_args(kind)), _converter(kinds[0]) if len(kinds) == 1 else _unchanged
    return kind is Any, _converter(kind)


def _converter(kind: Any) -> Callable[[Any], Any]:
    origin = get_origin(kind) or kind
    if fields := _fields(kind):  # of a map
        row = _reader(origin if isinstance(origin, type) else beam.Row, fields)
        return lambda value: row(_same_type(dict, value))
    if origin is Any or not isinstance(origin, type):
        return _unchanged
    if issubclass(origin, str | bytes | Real | Decimal):
        return _converter_of_scalar(origin)
    inner = [_member(*_of(argument)) for argument in get_args(kind)]
    if issubclass(origin, Mapping):
        convert = inner[1] if len(inner) == 2 else _unchanged
        return lambda value: {name: convert(one) for name, one in _same_type(Mapping, value).items()}
    if issubclass(origin, Sequence | Set):
        convert = inner[0] if inner else _unchanged
        made = set if issubclass(origin, Set) else list
        return lambda value: made(map(convert, _same_type((list, set), value)))
    return partial(_same_type, origin)


def _converter_of_scalar(kind: type) -> Callable[[Any], Any]:
    if issubclass(kind, bool | str | bytes):
        return partial(_same_type, kind)
    if issubclass(kind, Decimal):
        return _decimal
    if issubclass(kind, Integral):
        return partial(_made, _of_python(kind, int), partial(_integer, *_range_of(kind)))
    return partial(_made, _of_python(kind, float), _single if kind.__name__ == "float32" else _number)


def _member(optional: bool, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function for a member of a list or a map, which may be None if it is `optional`."""
    return (lambda value: None if value is None else convert(value)) if optional else convert


def _of_python(kind: Any, own: type) -> Any:
    """The Python type for a type of numpy, which stands for a width only: the values of Beam's rows are Python's, as in
    JSON."""
    return kind if issubclass(kind, own) else own


def _unchanged(value: Any) -> Any:
    return value


def _made(kind: Callable[[Any], Any], read: Callable[[Any], Any], value: Any) -> Any:
    return kind(read(value))


def _same_type(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


# Beam's row coder checks no range: it wraps a larger INT32, makes a larger FLOAT infinite, and rounds a decimal to
# Python's default precision. A larger INT64, and a BYTE that is negative, fail without a name.
_DIGITS = 28
_EXACT = Context(prec=_DIGITS)


def _range_of(kind: type) -> tuple[int, int]:
    """The least and the greatest value of a field of this type of integers."""
    if kind.__module__ != "numpy":
        return -(2**63), 2**63 - 1
    from numpy import iinfo

    found = iinfo(kind)
    return 0 if kind.__name__ == "int8" else int(found.min), int(found.max)


def _integer(least: int, most: int, value: Any) -> int:
    if _same_type(Decimal, value) != value.to_integral_value():
        raise TypeError
    if not least <= value <= most:
        raise OverflowError(f"its type holds {least:,} to {most:,}")
    return int(value)


def _number(value: Any) -> Any:
    return _same_type(Decimal, value)


def _single(value: Any) -> Any:
    try:
        struct.pack(">f", _number(value))
    except OverflowError as error:
        raise OverflowError("its type holds numbers up to 3.4E+38") from error
    return value


def _decimal(value: Any) -> Any:
    if _EXACT.plus(_number(value)) != value:
        raise OverflowError(f"Beam's coder keeps {_DIGITS} digits of a Decimal")
    return value


def _convert(convert: Callable[[Any], Any], name: str, value: Any) -> Any:
    try:
        return convert(value)
    except OverflowError as error:
        what = f"has a number that the field cannot hold: {error}"
        raise ItemError(what, where=name, hint=f"{name}: Any keeps the number as it is; or leave it out") from error
    except TypeError as error:
        what = f"is a {type(value).__name__} which the schema's type does not allow"
        raise ItemError(what, where=name, hint="correct the type of the field, or leave it out") from error


_PLAIN = frozenset({str, int, bool, bytes, Decimal, set, frozenset, type(None)})


def as_item(row: Any) -> Item | None:
    """A row as an item, without the fields that are None; None if it is not a row. Nested rows are maps, while the
    codec treats a NamedTuple as a list. A row has no exact decimals: a float becomes the shortest decimal that reads as
    the same float."""
    fields = getattr(row, "_asdict", None) or getattr(row, "as_dict", None)
    if fields is None:
        return None
    return {name: as_value(value) for name, value in fields().items() if value is not None}


def as_value(value: Any) -> Any:
    """A value of a row as a value of an item."""
    if type(value) in _PLAIN:
        return value
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if isinstance(value, float):
        return Decimal(repr(value))
    if (item := as_item(value)) is not None:
        return item
    if isinstance(value, Mapping):
        return {name: as_value(one) for name, one in value.items()}
    return list(map(as_value, value)) if isinstance(value, list | tuple) else value
