"""Keys and items as texts by which they are looked up and compared."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from dynamodt.core.codec import normal
from dynamodt.model import AttributeValue, Image

_DIGEST_BYTES = 16


def key_text(key: Image) -> str:
    """A key as a string that can index a dict: `{"id": {"N": "1.0"}}` and `{"id": {"N": "1"}}` are one key."""
    parts = ((name, kind, raw) for name in sorted(key) for kind, raw in key[name].items())
    return repr([(name, kind, str(normal(raw)) if kind == "N" else raw) for name, kind, raw in parts])


def digest(text: str) -> str:
    """A text of any length as 32 hexadecimal digits."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def image_digest(image: Image) -> str:
    """The same for two images exactly where DynamoDB calls them equal (`core.codec.same_image`)."""
    return digest(_canonical({"M": image}))


def _canonical(value: AttributeValue) -> str:
    ((kind, raw),) = value.items()
    shown: Callable[[Any], str] = _CANONICAL.get(kind, repr)
    return f"{kind}:{shown(raw)}"


def _map(raw: dict[str, Any]) -> str:
    return repr([(name, _canonical(raw[name])) for name in sorted(raw)])


def _list(raw: list[Any]) -> str:
    return repr([_canonical(one) for one in raw])


def _number(raw: str) -> str:
    return str(normal(raw) or 0)  # 0 and -0 are equal


_CANONICAL: dict[str, Callable[[Any], str]] = {
    "M": _map,
    "L": _list,
    "N": _number,
    "NS": lambda raw: repr(sorted(map(_number, raw))),
    "SS": lambda raw: repr(sorted(raw)),
    "BS": lambda raw: repr(sorted(raw)),
}
