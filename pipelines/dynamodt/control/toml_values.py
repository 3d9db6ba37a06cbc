"""The values of `dynamodt.toml`, each of the type that its key wants, and every error named by its place."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from dynamodt.errors import UsageError

FILE_NAME = "dynamodt.toml"


def place(*keys: str) -> str:
    """Where a setting stands, as errors name it: `dynamodt.toml: stages.prod.region`."""
    return f"{FILE_NAME}: {'.'.join(keys)}"


def check_keys(table: dict[str, Any], allowed: Iterable[str], path: str) -> None:
    """Raises UsageError for a key that is none of these."""
    names = list(allowed)
    for key in table:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys here are: {', '.join(names)}"
            raise UsageError("is not a known key", where=place(*filter(None, (path, key))), hint=hint)


def as_table(value: object, path: str, hint: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        told = hint or f"write it as a table: [{path}]"
        raise UsageError(f"must be a table, not {value!r}", where=place(path), hint=told)
    return value


def as_text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip():
        hint = "write a text in quotes, or remove the key"
        raise UsageError(f"must be a text that is not empty, not {value!r}", where=place(path), hint=hint)
    return value.strip()


def as_choice(value: object, path: str, choices: Collection[str]) -> str:
    text = as_text(value, path)
    if text not in choices:
        raise UsageError(f"cannot be {text!r}", where=place(path), hint=f"one of: {', '.join(choices)}")
    return text


def as_texts(value: object, path: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        hint = 'write a list of texts: ["one", "two"]'
        raise UsageError(f"must be a list, not {value!r}", where=place(path), hint=hint)
    return tuple(as_text(one, path) for one in value)


def as_flag(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"must be true or false, not {value!r}", where=place(path), hint="write it without quotes")
    return value


def as_number(value: object, path: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"must be a whole number, not {value!r}", where=place(path), hint="write it without quotes")
    if not least <= value <= most:
        raise UsageError(f"cannot be {value}", where=place(path), hint=f"from {least:,} to {most:,}")
    return value
