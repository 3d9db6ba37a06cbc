"""Conversion of attribute values between DynamoDB's JSON and Python, without loss of digits.

==========  ======================  =====================================================
Image       Item                    also taken from an author
==========  ======================  =====================================================
S           str
N           Decimal                 int
B (base64)  bytes                   bytearray, boto3's Binary
BOOL, NULL  bool, None
L, M        list, dict              tuple
SS, NS, BS  set                     frozenset
==========  ======================  =====================================================

Facts (AWS, "Supported data types" and "Service quotas"): numbers have 38 significant digits between 1E-130 and
9.99...E+125, and are returned in full ("1000" for 1E+3); a set is not empty, and its members have one type; the nesting
depth is at most 32, with the item itself as the first level; an item has at most 400 KB.

Also equality and sizes as DynamoDB defines them, and texts of keys and images.
"""

from __future__ import annotations

import marshal
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal, Inexact, Overflow, Subnormal
from hashlib import blake2b
from math import isfinite
from typing import Any

from dynamodt.errors import ItemError
from dynamodt.model.tables import AttributeValue, Image, Index, Item

MAX_NESTING = 32
MAX_ITEM_BYTES = 400 * 1024
# Trailing zeros may be dropped (no Rounded): the service returns 1E+125 with 126 digits.
_EXACT = Context(prec=38, Emin=-130, Emax=125, traps=[Inexact, Overflow, Subnormal])


# ---------------------------------------------------------------- decode


def decode(image: Image) -> Item:
    """The Item of an Image. The image must be well-formed, as those of the service are."""
    return {name: value["S"] if "S" in value else decode_value(value) for name, value in image.items()}


def decode_value(value: AttributeValue) -> Any:
    """The Python value of one attribute value."""
    for kind in value:  # the only one; cheaper than a pair of `items`
        return _DECODERS[kind](value[kind])
    raise ItemError("an attribute value without a type")


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "S": lambda raw: raw,
    "N": Decimal,
    "B": b64decode,
    "BOOL": lambda raw: raw,
    "NULL": lambda raw: None,
    "M": decode,
    "L": lambda raw: [decode_value(value) for value in raw],
    "SS": set,
    "NS": lambda raw: {Decimal(number) for number in raw},
    "BS": lambda raw: {b64decode(binary) for binary in raw},
}


# ---------------------------------------------------------------- encode


def encode(item: Item) -> Image:
    """The Image of an Item. Raises ItemError, whose `where` is the path of the attribute that cannot be stored."""
    return {attribute_name(name, str(name)): encode_value(value, name) for name, value in item.items()}


def encode_value(value: Any, path: str, depth: int = 1) -> AttributeValue:
    """The attribute value of a Python value. `path` ("address.lines[2]") is its place in an error, `depth` its nesting
    level."""
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _subclass_encoder(value, path)
    return encoder(value, path, depth)


def _subclass_encoder(value: Any, path: str) -> Callable[[Any, str, int], AttributeValue]:
    """The encoder of a type that derives from a known one (IntEnum, OrderedDict, a str subclass, boto3's Binary)."""
    if isinstance(getattr(value, "value", None), (bytes, bytearray)):
        return lambda wrapped, at, depth: _binary(wrapped.value, at, depth)
    for kind, encoder in _ENCODERS.items():
        if isinstance(value, kind):
            return encoder
    raise ItemError(
        f"a value of type {type(value).__name__} cannot be stored in DynamoDB",
        where=path,
        hint="use str, int, Decimal, bytes, bool, None, list, dict or set",
    )


def _string(value: str, path: str, depth: int) -> AttributeValue:
    if not value.isascii():
        _check_unicode(value, path)
    return {"S": value if type(value) is str else str.__str__(value)}  # not the author's subclass


def _check_unicode(value: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        hint = "decode the bytes that it came from with their own encoding, or store them as bytes"
        raise ItemError("the text holds half a surrogate pair: not valid Unicode", where=path, hint=hint) from error


def _boolean(value: bool, path: str, depth: int) -> AttributeValue:
    return {"BOOL": value}


def _null(value: None, path: str, depth: int) -> AttributeValue:
    return {"NULL": True}


def _binary(value: bytes, path: str, depth: int) -> AttributeValue:
    return {"B": b64encode(value).decode("ascii")}


def _number(value: int | Decimal, path: str, depth: int) -> AttributeValue:
    return {"N": number_text(value, path)}


def number_text(value: int | Decimal, path: str) -> str:
    """A number in DynamoDB's form. Raises ItemError for NaN, Infinity, and a number that would lose digits."""
    try:
        exact = _EXACT.create_decimal(value)
    except (Inexact, Overflow, Subnormal) as error:
        hint = "DynamoDB keeps 38 digits, from 1E-130 to 9.99E+125; round it in the script, or store a string"
        raise ItemError(f"the number {Decimal(value)!s:.60} would lose precision", where=path, hint=hint) from error
    if not exact.is_finite():
        raise _not_finite(value, path)
    return str(exact) if exact else "0"  # DynamoDB has neither -0 nor 0E-200


def _not_finite(value: Decimal | float | int, path: str) -> ItemError:
    return ItemError(f"{value} is not a number that DynamoDB can store", where=path, hint="use None, or a string")


def _float(value: float, path: str, depth: int) -> AttributeValue:
    if not isfinite(value):
        raise _not_finite(value, path)
    raise ItemError(
        f"the float {value!r} has no exact decimal value",
        where=path,
        hint=f'write Decimal("{value!r}"), or Decimal(str(x)) for a computed x',
    )


def _map(value: dict[str, Any], path: str, depth: int) -> AttributeValue:
    _check_depth(path, depth)
    pairs = ((name, inner, f"{path}.{name}") for name, inner in value.items())
    return {"M": {attribute_name(name, at): encode_value(inner, at, depth + 1) for name, inner, at in pairs}}


def _list(value: Iterable[Any], path: str, depth: int) -> AttributeValue:
    _check_depth(path, depth)
    return {"L": [encode_value(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]}


def _set(value: Iterable[Any], path: str, depth: int) -> AttributeValue:
    members = [encode_value(member, f"{path}{{}}", depth + 1) for member in value]
    if not members:
        raise ItemError("an empty set cannot be stored", where=path, hint="leave the attribute out, or use a list")
    kinds = {kind for member in members for kind in member}
    if len(kinds) > 1 or not kinds <= {"S", "N", "B"}:
        raise ItemError(
            f"a set must hold strings, numbers or binaries of one type, not {', '.join(sorted(kinds))} together",
            where=path,
            hint="use a list",
        )
    kind = kinds.pop()
    return {kind + "S": sorted(member[kind] for member in members)}


def _check_depth(path: str, depth: int) -> None:
    if depth >= MAX_NESTING:
        raise ItemError(f"nested deeper than {MAX_NESTING} levels", where=path[:120], hint="flatten it")


_LONGEST_NAME = 65_535  # bytes


def attribute_name(name: object, path: str) -> str:
    """The name, if DynamoDB accepts it. Raises ItemError at `path`."""
    if type(name) is not str:
        raise ItemError(f"an attribute name must be a string, not {type(name).__name__}", where=path)
    if not name:
        raise ItemError("an attribute name must not be empty", where=path)
    if not name.isascii():
        _check_unicode(name, repr(path))
    if len(name) > _LONGEST_NAME // 4 and (size := len(name.encode())) > _LONGEST_NAME:
        what = f"an attribute name has {size:,} bytes; DynamoDB takes at most {_LONGEST_NAME:,}"
        raise ItemError(what, where=path[:120], hint="put it into a value")
    return name


_ENCODERS: dict[type, Callable[[Any, str, int], AttributeValue]] = {
    str: _string,
    bool: _boolean,
    Decimal: _number,
    int: _number,
    type(None): _null,
    dict: _map,
    list: _list,
    tuple: _list,
    set: _set,
    frozenset: _set,
    bytes: _binary,
    bytearray: _binary,
    float: _float,
}


# ---------------------------------------------------------------- equality and size


def holds(stored: AttributeValue, value: Any) -> bool:
    """Whether an attribute value certainly equals the Python value: a cheaper `same(stored, encode_value(value))`.

    May be False for equal values (a number written differently), and is never True for different ones.
    """
    for kind, raw in stored.items():
        if kind == "S":
            return type(value) is str and bool(value == raw)
        if type(value) is not _PYTHON[kind]:
            return False
        if kind == "M":
            return _holds_map(raw, value)
        if kind == "L":
            return len(raw) == len(value) and all(map(holds, raw, value))
        if kind in _SETS and set(map(type, value)) != _SETS[kind]:  # {True} and {1} are equal in Python
            return False
        return bool(_DECODERS[kind](raw) == value)
    return False


def _holds_map(raw: Image, value: dict[str, Any]) -> bool:
    if len(raw) != len(value):
        return False
    # not a generator: this runs for every map of every item
    for name, stored in raw.items():  # noqa: SIM110
        if name not in value or not holds(stored, value[name]):
            return False
    return True


_SETS = {"SS": {str}, "NS": {Decimal}, "BS": {bytes}}
_PYTHON: dict[str, Any] = {
    "S": str, "N": Decimal, "B": bytes, "BOOL": bool, "NULL": type(None), "M": dict, "L": list, "SS": set, "NS": set,
    "BS": set,
}  # fmt: skip


def same(one: AttributeValue, other: AttributeValue) -> bool:
    """Equality as in DynamoDB's `=`: numbers by value, sets without order, values of different types never equal."""
    if one == other:
        return True
    (kind, a), (other_kind, b) = *one.items(), *other.items()
    if kind != other_kind or kind not in _LOOSE:
        return False
    return _LOOSE[kind](a, b)


def same_image(one: Image, other: Image) -> bool:
    """Equality of all attributes, by `same`."""
    return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())


def _same_list(a: list[AttributeValue], b: list[AttributeValue]) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


_LOOSE: dict[str, Callable[[Any, Any], bool]] = {
    "N": lambda a, b: Decimal(a) == Decimal(b),
    "M": same_image,
    "L": _same_list,
    "SS": lambda a, b: set(a) == set(b),
    "NS": lambda a, b: {Decimal(n) for n in a} == {Decimal(n) for n in b},
    "BS": lambda a, b: set(a) == set(b),
}


def surely_fit(*images: Image, indexes: Sequence[Index] = ()) -> bool:
    """Whether images, with their entries in the local ones of `indexes`, are certainly below the limit of 400 KB
    together. Cheaper than `image_bytes`: `marshal` writes every text in full and at least two bytes for each value, so
    that its output is never shorter than the billed size (version 2 writes no references)."""
    copies = 1 + sum([index.local for index in indexes]) if indexes else 1
    return copies * len(marshal.dumps(images, 2)) <= MAX_ITEM_BYTES


def image_bytes(image: Image) -> int:
    """The size in bytes that DynamoDB bills and limits, approximately (AWS, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + value_bytes(value) for name, value in image.items())


def value_bytes(value: AttributeValue) -> int:
    """The billed size of one attribute value, in bytes."""
    for kind, raw in value.items():
        return _SIZES[kind](raw)
    return 0


def normal_number(raw: str) -> Decimal:
    """A number without trailing zeros, with all its 38 digits (Python's default context rounds at 28). 0 and -0 are
    equal."""
    return Decimal(raw).normalize(_EXACT) or Decimal(0)


def as_stored(value: AttributeValue) -> AttributeValue:
    """A key's value in the form that the service returns: `101` for `101.00`. An emulator stores this form, and finds
    no item by any other form."""
    return {"N": format(normal_number(value["N"]), "f")} if "N" in value else value


def _number_bytes(raw: str) -> int:
    """The billed size of a number: one byte for each two significant digits, counted separately before and after the
    point, one more byte, and one for a minus (measured on the service by the public suite
    paritysuite/dynamodb-conformance; AWS's page is less exact)."""
    plain = format(Decimal(raw), "f") if "E" in raw else raw
    whole, _, fraction = plain.lstrip("-").partition(".")
    whole, fraction = whole.lstrip("0"), fraction.rstrip("0")
    if not (whole and fraction):
        whole, fraction = whole.rstrip("0"), fraction.lstrip("0")
    if not (whole or fraction):
        return 1
    return 1 + raw.startswith("-") + (len(whole) + 1) // 2 + (len(fraction) + 1) // 2


def _binary_bytes(raw: str) -> int:
    return len(raw) * 3 // 4 - raw[-2:].count("=")


_SIZES: dict[str, Callable[[Any], int]] = {
    "S": lambda raw: len(raw) if raw.isascii() else len(raw.encode()),
    "N": _number_bytes,
    "B": _binary_bytes,
    "BOOL": lambda raw: 1,
    "NULL": lambda raw: 1,
    "M": lambda raw: 3 + image_bytes(raw) + len(raw),
    "L": lambda raw: 3 + sum(value_bytes(value) + 1 for value in raw),
    "SS": lambda raw: sum(len(s.encode()) for s in raw),
    "NS": lambda raw: sum(map(_number_bytes, raw)),
    "BS": lambda raw: sum(map(_binary_bytes, raw)),
}


_DIGEST_BYTES = 16


def key_text(key: Image) -> str:
    """A key's text for lookups, equal for equal keys such as `{"id": {"N": "1.0"}}` and `{"id": {"N": "1"}}`."""
    parts = ((name, kind, raw) for name in sorted(key) for kind, raw in key[name].items())
    return repr([(name, kind, str(normal_number(raw)) if kind == "N" else raw) for name, kind, raw in parts])


def digest(text: str) -> str:
    """A text of any length as 32 hexadecimal digits."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def image_digest(image: Image) -> str:
    """A digest that is equal for two images exactly when DynamoDB treats them as equal (`same_image`)."""
    return digest(_canonical({"M": image}))


def _canonical(value: AttributeValue) -> str:
    """The text of a value. Only names and scalars are quoted, since repeated quoting would double the text with each
    level of nesting."""
    ((kind, raw),) = value.items()
    shown: Callable[[Any], str] = _CANONICAL.get(kind, repr)
    return f"{kind}:{shown(raw)}"


def _map_text(raw: dict[str, Any]) -> str:
    return f"{{{','.join(f'{name!r}={_canonical(raw[name])}' for name in sorted(raw))}}}"


def _list_text(raw: list[Any]) -> str:
    return f"[{','.join(map(_canonical, raw))}]"


_CANONICAL: dict[str, Callable[[Any], str]] = {
    "M": _map_text,
    "L": _list_text,
    "N": lambda raw: str(normal_number(raw)),
    "NS": lambda raw: repr(sorted(str(normal_number(number)) for number in raw)),
    "SS": lambda raw: repr(sorted(raw)),
    "BS": lambda raw: repr(sorted(raw)),
}
