"""What an author's function returned -> a list of results, or an error that says what to return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import GeneratorType
from typing import Any, Final, TypeAlias

from dynamodt.errors import ItemError
from dynamodt.model import Delete, Put

Result: TypeAlias = dict[str, Any] | Put | Delete
_SEQUENCES: Final = frozenset({list, tuple, GeneratorType})  # the usual ones: asking the ABC is slow
_SINGLE: Final = (dict, Put, Delete)
_NO_SEQUENCE: Final = (str, bytes, bytearray, Mapping)
_HINT: Final = "Return the item (changed or not), Put(item), Delete(), or a list of them."


def results_of(value: object, name: str) -> list[Result]:
    """Normalise what the function `name` returned; a dict is the item's new shape. Raises ItemError.

    An iterator is run to its end here, so the author's own errors may come through.
    """
    if type(value) in _SEQUENCES:
        return _several(list(value), value, name)  # type: ignore[call-overload]
    if isinstance(value, _SINGLE):
        return [_checked(value, f"{name} returned")]
    if value is None:
        raise ItemError(f"{name} returned None (forgot to return?)", hint=_HINT)
    if isinstance(value, Iterable) and not isinstance(value, _NO_SEQUENCE):
        return _several(list(value), value, name)
    raise ItemError(f"{name} returned {_described(value)}", hint=_HINT)


def _several(found: list[Any], value: object, name: str) -> list[Result]:
    if len(found) == 1 and type(found[0]) is dict:  # what nearly every DoFn gives
        return found
    results = [_checked(one, f"{name} returned {_a(value)} that holds") for one in found]
    _check_together(results, name)
    return results


def _checked(one: object, said: str) -> Result:
    if type(one) is dict or isinstance(one, Delete):
        return one
    if isinstance(one, dict):  # an OrderedDict and the like: the engine meets plain dicts only
        return dict(one)
    if isinstance(one, Put):
        if not isinstance(one.item, dict):
            raise ItemError(f"{said} Put({_described(one.item)})", hint="Write Put(item), with a dict.")
        return one
    raise ItemError(f"{said} {_described(one)}", hint=_HINT)


def _check_together(results: list[Result], name: str) -> None:
    shapes = sum(isinstance(one, dict) for one in results)
    deletes = sum(isinstance(one, Delete) for one in results)
    if not results:
        raise ItemError(f"{name} gave nothing", hint="Say Delete() to delete the item, or return it unchanged.")
    if shapes > 1:
        raise ItemError(f"{name} gave {shapes} dicts", hint="One dict is the item's new shape; others are Put(item).")
    if deletes > 1 or (shapes and deletes):
        raise ItemError(
            f"{name} gave Delete() beside another fate of the same item",
            hint="One dict keeps the item in its new shape, one Delete() deletes it: choose one.",
        )


def _described(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__} (forgot the parentheses?)"
    return _a(value)


def _a(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"
