"""Values that every item of a worker shares: what one of them changed in place, the next one would find changed.

A frozen dict is a dict and a frozen list a list: they compare, unpack, nest in an item and are stored as plain ones. A
copy (`copy.deepcopy`, `.copy()`, `{**value}`, `[*value]`) is a plain one, and may be changed.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NoReturn

_HINT = "prepared data is read-only, since all items share it: change a copy of it (copy.deepcopy, or {**value, ...})"


def frozen(value: Any) -> Any:
    """The value, with all dicts, lists and sets in it read-only."""
    if isinstance(value, dict):
        return FrozenDict((name, frozen(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    return frozenset(value) if isinstance(value, set) else value


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise TypeError(_HINT)


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed."""

    __setitem__ = __delitem__ = __ior__ = update = setdefault = _refuse
    pop = popitem = clear = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return {name: deepcopy(value, memo) for name, value in self.items()}

    def __copy__(self) -> dict[str, Any]:
        return dict(self)

    copy = __copy__

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __setitem__ = __delitem__ = __iadd__ = __imul__ = append = extend = _refuse
    insert = pop = remove = clear = sort = reverse = _refuse

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [deepcopy(value, memo) for value in self]

    def __copy__(self) -> list[Any]:
        return list(self)

    copy = __copy__

    def __reduce__(self) -> tuple[Any, ...]:
        return frozen, (list(self),)
